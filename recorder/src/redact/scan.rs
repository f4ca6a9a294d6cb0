//! One pass over a text for the words that secrets start with or stand under; what they lead to is judged on the spot.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use memchr::memmem::Finder;

use super::shapes::{self, SHAPES};
use super::{Found, MARK_START, headers, mark_len, pairs, url};

/// What was seen, and so which rule looks at the place.
#[derive(Clone, Copy)]
enum Needle {
    /// The prefix of `SHAPES[n]`.
    Shape(usize),
    PrivateKey,
    Jwt,
    Telegram,
    Url,
    /// `Bearer ` and its like.
    Scheme,
    /// `-u `.
    UserFlag,
    /// Part of a name that a secret may stand under.
    Name,
}

const FIXED: &[(&str, Needle)] = &[
    ("-----BEGIN ", Needle::PrivateKey),
    ("eyJ", Needle::Jwt),
    (":AA", Needle::Telegram),
    ("://", Needle::Url),
    ("bearer ", Needle::Scheme),
    ("basic ", Needle::Scheme),
    (" -u ", Needle::UserFlag),
    (" --user ", Needle::UserFlag),
    (" --user=", Needle::UserFlag),
    ("sshpass -p ", Needle::UserFlag),
    ("pass", Needle::Name),
    ("pwd", Needle::Name),
    ("secret", Needle::Name),
    ("token", Needle::Name),
    ("key", Needle::Name),
    ("credential", Needle::Name),
    ("auth", Needle::Name),
    ("cookie", Needle::Name),
    ("session", Needle::Name),
    ("signature", Needle::Name),
    ("sig=", Needle::Name),
    ("jwt", Needle::Name),
    ("mnemonic", Needle::Name),
    ("csrf", Needle::Name),
    ("webhook", Needle::Name),
    ("dsn", Needle::Name),
];

struct Scanner {
    automaton: AhoCorasick,
    needles: Vec<Needle>,
}

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK_START));

static SCANNER: LazyLock<Scanner> = LazyLock::new(|| {
    let shapes = SHAPES.iter().enumerate().map(|(i, s)| (s.prefix, Needle::Shape(i)));
    let (patterns, needles): (Vec<&str>, Vec<Needle>) = shapes.chain(FIXED.iter().copied()).unzip();
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .kind(Some(AhoCorasickKind::DFA))
        .build(patterns)
        .expect("the needles are a fixed table that fits the automaton");
    Scanner { automaton, needles }
});

/// The secrets of `text`, in order, none overlapping another, none inside a mark.
pub(super) fn find(text: &[u8]) -> Vec<Found> {
    match without_marks(text) {
        None => look(text),
        // A secret that holds a mark is cut around it, and what is left of it counts if it is more than punctuation.
        Some((blank, marks)) => {
            let mut found = look(&blank);
            for mark in marks {
                found = found.into_iter().flat_map(|f| around(f, &mark)).collect();
            }
            found.retain(|f| text[f.start..f.end].iter().any(u8::is_ascii_alphanumeric));
            found
        }
    }
}

/// The text with stars for the marks of an earlier redaction, and where they stand; `None` if there are none.
fn without_marks(text: &[u8]) -> Option<(Vec<u8>, Vec<Range<usize>>)> {
    let mut blank = Vec::new();
    let mut marks = Vec::new();
    for start in FINDER.find_iter(text) {
        if let Some(len) = mark_len(&text[start..]) {
            if marks.is_empty() {
                blank = text.to_vec();
            }
            blank[start..start + len].fill(b'*');
            marks.push(start..start + len);
        }
    }
    (!marks.is_empty()).then_some((blank, marks))
}

/// What of `found` lies before and after a mark.
fn around(found: Found, mark: &Range<usize>) -> impl Iterator<Item = Found> + use<> {
    let before = Found { end: found.end.min(mark.start), ..found };
    let after = Found { start: found.start.max(mark.end), ..found };
    [before, after].into_iter().filter(|f| f.start < f.end)
}

fn look(text: &[u8]) -> Vec<Found> {
    let scanner = &*SCANNER;
    let mut found: Vec<Found> = Vec::new();
    let mut name_end = 0;
    // Nothing is looked for inside a key block: base64 holds many chance prefixes.
    let mut block_end = 0;
    for hit in scanner.automaton.find_overlapping_iter(text) {
        let (start, end) = (hit.start(), hit.end());
        if start < block_end {
            continue;
        }
        match scanner.needles[hit.pattern().as_usize()] {
            Needle::Shape(shape) => {
                let shape = &SHAPES[shape];
                if let Some(key) = shape.at(text, start) {
                    // `sk-ant-` is seen after `sk-`, and tells more.
                    found.pop_if(|last| (last.start, last.end) == (key.start, key.end));
                    found.push(key);
                    if shape.kind == "aws" {
                        found.extend(shapes::aws_secret_after(text, key.end));
                    }
                }
            }
            Needle::PrivateKey => {
                if let Some(block) = shapes::private_key_at(text, start) {
                    found.push(block);
                    block_end = block.end;
                }
            }
            Needle::Jwt => found.extend(shapes::jwt_at(text, start)),
            Needle::Telegram => found.extend(shapes::telegram_at(text, start)),
            Needle::Url => url::find(text, start, &mut found),
            Needle::Scheme => found.extend(headers::scheme_at(text, start, end)),
            Needle::UserFlag if text[start..end].ends_with(b"-p ") => {
                let len = text[end..].iter().take_while(|b| !b.is_ascii_whitespace()).count();
                found.push(Found { start: end, end: end + len, kind: "password" });
            }
            Needle::UserFlag => found.extend(headers::user_flag_at(text, end)),
            Needle::Name => {
                if start >= name_end {
                    let (from, to) = pairs::name_around(text, start, end.min(text.len()));
                    name_end = to;
                    found.extend(pairs::pair_at(text, from, to.max(from)));
                }
            }
        }
    }
    if found.is_empty() { found } else { settle(found) }
}

/// Whether a line that is not whole yet holds anything that a rule might look at once it is.
pub(super) fn announces(line: &[u8]) -> bool {
    SCANNER.automaton.is_match(line)
}

/// Merges what overlaps, the first kind staying.
fn settle(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|f| (f.start, std::cmp::Reverse(f.end)));
    let mut merged: Vec<Found> = Vec::with_capacity(found.len());
    for next in found {
        match merged.last_mut() {
            Some(last) if next.start < last.end => {
                // The same stretch under a more telling name: the shape's instead of the context's.
                if next.start == last.start && next.end == last.end && is_context(last.kind) {
                    last.kind = next.kind;
                }
                last.end = last.end.max(next.end);
            }
            _ => merged.push(next),
        }
    }
    merged
}

/// Whether a kind says where a secret stood rather than what it is.
fn is_context(kind: &str) -> bool {
    matches!(kind, "password" | "token" | "key" | "secret" | "authorization" | "url-user")
}
