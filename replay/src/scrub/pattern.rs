//! What is to go, where it stands in a text, and what stands there afterwards.

use std::borrow::Cow;
use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use super::views::{View, each_base64};
use crate::error::{Error, Result};

/// Texts inside of texts inside of texts are looked into so deep.
const MAX_VIEWS: usize = 3;
/// After so many rounds that still find something, all of a text goes.
const MAX_ROUNDS: usize = 4;
/// In base64 a match is this long at least, bytes: what is shorter stands in any run of letters by chance.
const MIN_IN_BASE64: usize = 4;

/// Makes what stands in the place of a secret.
type Mark = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// What is to go, and what comes in its place.
pub struct Pattern {
    regex: Regex,
    mark: Mark,
}

/// A text without the pattern.
pub(super) struct Replaced {
    pub(super) bytes: Vec<u8>,
    /// What was replaced in each round, and by how much, in order.
    rounds: Vec<Vec<(Range<usize>, usize)>>,
}

impl Replaced {
    /// Where the place `at` of the old text is now; none inside of what was replaced.
    pub(super) fn place(&self, at: usize) -> Option<usize> {
        self.rounds.iter().try_fold(at, |at, round| {
            let (mut old, mut new) = (0, 0);
            for (range, len) in round {
                if at <= range.start {
                    break;
                }
                if at < range.end {
                    return None;
                }
                new += range.start - old + len;
                old = range.end;
            }
            Some(new + at - old)
        })
    }
}

impl Pattern {
    /// These very bytes. `mark` makes what stands in their place.
    pub fn literal(bytes: &[u8], mark: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Result<Self> {
        let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02X}")).collect();
        Self::new(&escaped, false, Box::new(mark))
    }

    /// A regular expression, on bytes where it turns Unicode off.
    pub fn regex(text: &str, mark: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Result<Self> {
        Self::new(text, true, Box::new(mark))
    }

    fn new(text: &str, unicode: bool, mark: Mark) -> Result<Self> {
        let refuse = |reason: String| Error::ScrubPattern { reason };
        let regex = RegexBuilder::new(text)
            .unicode(unicode)
            .build()
            .map_err(|error| refuse(error.to_string()))?;
        if regex.is_match(b"") {
            return Err(refuse("it matches where nothing is".into()));
        }
        let pattern = Self { regex, mark };
        // Of two marks: what of them is not the same can be chosen otherwise.
        if [&b"x"[..], b"y"].iter().all(|secret| pattern.regex.is_match(&(pattern.mark)(secret))) {
            return Err(refuse("the mark that stands in place of a match has it in itself".into()));
        }
        Ok(pattern)
    }

    /// `text` without it; none where it is not there.
    pub fn scrubbed(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.replace(text).map(|replaced| replaced.bytes)
    }

    /// Whether it stands in `text`, plainly or encoded.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        !self.find(text, 0).is_empty()
    }

    /// Whether it stands there plainly.
    pub(super) fn is_plainly_in(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// The same, with where everything is afterwards.
    pub(super) fn replace(&self, text: &[u8]) -> Option<Replaced> {
        let mut bytes = Cow::Borrowed(text);
        let mut rounds = Vec::new();
        loop {
            let found = self.find(&bytes, 0);
            if found.is_empty() {
                break;
            }
            let (mut out, mut round, mut done) = (Vec::with_capacity(bytes.len()), Vec::new(), 0);
            // What is left after many rounds is made by the marks themselves.
            let all = || vec![(0..bytes.len(), text.to_vec())];
            let found = if rounds.len() >= MAX_ROUNDS { all() } else { found };
            for (range, secret) in found {
                out.extend_from_slice(&bytes[done..range.start]);
                let mark = self.mark(&secret);
                out.extend_from_slice(&mark);
                done = range.end;
                round.push((range, mark.len()));
            }
            out.extend_from_slice(&bytes[done..]);
            bytes = Cow::Owned(out);
            let last = rounds.len() >= MAX_ROUNDS;
            rounds.push(round);
            if last {
                break;
            }
        }
        (!rounds.is_empty()).then(|| Replaced { bytes: bytes.into_owned(), rounds })
    }

    /// The same for equal secrets, and never one that holds the pattern by chance.
    fn mark(&self, secret: &[u8]) -> Vec<u8> {
        let salted = |n: u8| match n {
            0 => (self.mark)(secret),
            n => (self.mark)(&[secret, &[0, n]].concat()),
        };
        (0..=u8::MAX).map(salted).find(|mark| !self.is_plainly_in(mark)).unwrap_or_default()
    }

    /// Where it stands, in order and apart from each other, with the text that is meant.
    fn find(&self, text: &[u8], depth: usize) -> Vec<(Range<usize>, Vec<u8>)> {
        let mut found: Vec<(Range<usize>, Vec<u8>)> = self
            .regex
            .find_iter(text)
            .map(|found| (found.range(), found.as_bytes().to_vec()))
            .collect();
        if depth < MAX_VIEWS {
            for view in [View::of_json(text), View::of_percent(text)].into_iter().flatten() {
                let inside = self.find(&view.bytes, depth + 1);
                found.extend(inside.into_iter().map(|(range, text)| (view.source(&range), text)));
            }
            each_base64(text, |range, decoded| {
                let inside = self.regex.find(decoded);
                if let Some(inside) = inside.filter(|inside| inside.len() >= MIN_IN_BASE64) {
                    found.push((range, inside.as_bytes().to_vec()));
                }
            });
        }
        found.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut apart: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
        for (range, text) in found {
            match apart.last_mut() {
                Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
                _ => apart.push((range, text)),
            }
        }
        apart
    }
}

/// A name without it.
pub(super) fn shown(pattern: &Pattern, name: &str) -> String {
    match pattern.replace(name.as_bytes()) {
        Some(replaced) => String::from_utf8_lossy(&replaced.bytes).into_owned(),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(secret: &[u8]) -> Vec<u8> {
        let hash = agentrec_trace::ObjectId::of(secret).to_string();
        format!("[redacted:scrubbed:{}]", &hash[..8]).into_bytes()
    }

    fn literal(text: &str) -> Pattern {
        Pattern::literal(text.as_bytes(), mark).unwrap()
    }

    fn scrubbed(pattern: &Pattern, text: &str) -> String {
        let replaced = pattern.replace(text.as_bytes());
        replaced.map_or(text.to_owned(), |it| String::from_utf8(it.bytes).unwrap())
    }

    #[test]
    fn it_goes_plainly_and_in_every_form() {
        let secret = "pa\"ss/wörd";
        let pattern = literal(secret);
        let m = String::from_utf8(mark(secret.as_bytes())).unwrap();
        for (text, expected) in [
            (format!("a {secret} b"), format!("a {m} b")),
            (r#"{"k":"pa\"ss/wörd"}"#.to_owned(), format!(r#"{{"k":"{m}"}}"#)),
            (r#"{"k":"pa\"ss\/w\u00f6rd"}"#.to_owned(), format!(r#"{{"k":"{m}"}}"#)),
            (r#""{\"k\":\"pa\\\"ss/w\\u00F6rd\"}""#.to_owned(), format!(r#""{{\"k\":\"{m}\"}}""#)),
            ("?q=pa%22ss%2Fw%c3%b6rd&x".to_owned(), format!("?q={m}&x")),
            // `user:pa"ss/wörd`
            ("Basic dXNlcjpwYSJzcy93w7ZyZA== x".to_owned(), format!("Basic {m}== x")),
        ] {
            assert_eq!(scrubbed(&pattern, &text), expected);
        }
        assert_eq!(scrubbed(&pattern, "pa ss"), "pa ss");
    }

    #[test]
    fn equal_secrets_have_equal_marks_and_others_have_not() {
        let pattern = Pattern::regex(r"tok_[a-z]{4}", mark).unwrap();
        let text = scrubbed(&pattern, "tok_aaaa tok_bbbb tok_aaaa");
        let marks: Vec<_> = text.split(' ').collect();
        assert!(marks[0] == marks[2] && marks[0] != marks[1], "{text}");
    }

    #[test]
    fn places_behind_a_match_move_with_it() {
        let replaced = literal("secret").replace(b"ab secret cd secret ef").unwrap();
        let text = String::from_utf8(replaced.bytes.clone()).unwrap();
        assert_eq!(replaced.place(0), Some(0));
        assert_eq!(replaced.place(3), Some(3));
        assert_eq!(replaced.place(5), None);
        assert_eq!(&text[replaced.place(10).unwrap()..][..2], "cd");
        assert_eq!(&text[replaced.place(20).unwrap()..], "ef");
        assert_eq!(replaced.place(22), Some(text.len()));
    }

    #[test]
    fn patterns_that_never_end_are_refused() {
        for text in ["", "redacted", ":", "[a-z]"] {
            let pattern = match text {
                "[a-z]" => Pattern::regex(text, mark),
                _ => Pattern::literal(text.as_bytes(), mark),
            };
            assert!(pattern.is_err(), "{text:?}");
        }
        assert!(Pattern::regex("x*", mark).is_err() && Pattern::regex("(", mark).is_err());
        // Only some marks have it, and those are not taken.
        let pattern = literal("00");
        let text = scrubbed(&pattern, "7001 00 x00");
        assert!(!text.contains("00"), "{text}");
        assert!(Pattern::literal(b"\xff\xfe", mark).unwrap().is_in(b"a\xff\xfeb"));
    }
}
