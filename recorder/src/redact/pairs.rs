//! Names with values in text: assignments, JSON and YAML fields, headers, flags, `.netrc` entries.

use super::names::{Strength, is_digest_or_uuid, is_placeholder, is_word, looks_random, strength};
use super::{Found, headers};

/// Longest name that is considered, in bytes to each side of the word that was seen.
const MAX_NAME: usize = 64;
/// Longest quoted value.
const MAX_VALUE: usize = 8192;

/// How a value follows its name, which decides how much it must look like a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// In quotes, or the text of an XML element.
    Quoted,
    /// `NAME=value` as shells and `.env` files have it.
    Env,
    /// `?name=value` of a URL.
    Query,
    /// `--name value`.
    Flag,
    /// `name=value` and `name = value`.
    Equals,
    /// `name: value`.
    Colon,
    /// `password value` of a `.netrc`.
    Netrc,
}

/// The extent of the name around the word at `start..end`.
pub(super) fn name_around(text: &[u8], start: usize, end: usize) -> (usize, usize) {
    let part = |b: &&u8| is_word(**b) || matches!(**b, b'.' | b'-');
    let before = text[..start].iter().rev().take(MAX_NAME).take_while(part).count();
    let after = text[end..].iter().take(MAX_NAME).take_while(part).count();
    let mut start = start - before;
    // `\npassword=`: the letter belongs to the escape.
    if start > 0 && text[start - 1] == b'\\' && matches!(text[start], b'n' | b'r' | b't') {
        start += 1;
    }
    (start, end + after)
}

/// Where a pair stands.
struct Context<'t> {
    text: &'t [u8],
    /// Where the name starts.
    start: usize,
    /// Where the value stands.
    from: usize,
    to: usize,
}

impl Context<'_> {
    /// The byte after the value.
    fn next(&self) -> Option<u8> {
        self.text.get(self.to).copied()
    }
}

/// The secret that stands under the name at `start..end`, if there is one.
pub(super) fn pair_at(text: &[u8], start: usize, end: usize) -> Option<Found> {
    let name = &text[start..end];
    let bare = name.trim_ascii_start();
    let bare = bare.strip_prefix(b"--").unwrap_or(bare);
    if is_header(bare, b"cookie") || is_header(bare, b"set-cookie") {
        return headers::cookie_at(text, end);
    }
    if is_header(bare, b"authorization") || is_header(bare, b"proxy-authorization") {
        return headers::authorization_at(text, end);
    }
    let query = start > 0 && matches!(text[start - 1], b'?' | b'&');
    let strength = strength(bare)?;
    let (style, at) = separator(text, start, end, query)?;
    let (from, to, style) = value(text, at, style)?;
    let value = &text[from..to];
    let context = Context { text, start, from, to };
    if matches!(style, Style::Equals | Style::Colon) && is_expression(bare, value, context.next()) {
        return None;
    }
    let secret = match strength {
        Strength::Strong => is_strong_value(value, style, &context),
        Strength::Weak => is_weak_value(bare, value),
    };
    secret.then_some(Found { start: from, end: to, kind: kind(bare) })
}

fn is_header(name: &[u8], header: &[u8]) -> bool {
    name.eq_ignore_ascii_case(header)
}

/// What the mark calls a secret under this name.
pub(super) fn kind(name: &[u8]) -> &'static str {
    let lower = name.to_ascii_lowercase();
    let holds = |word: &[u8]| lower.windows(word.len()).any(|w| w == word);
    if holds(b"pass") || holds(b"pwd") {
        "password"
    } else if holds(b"cookie") {
        "cookie"
    } else if holds(b"token") {
        "token"
    } else if holds(b"key") {
        "key"
    } else {
        "secret"
    }
}

/// Whether `value`, which stands under a weak `name`, is a secret.
pub(super) fn is_weak_value(name: &[u8], value: &[u8]) -> bool {
    let digest = is_digest_or_uuid(value);
    looks_random(value) && !(digest && name.to_ascii_lowercase().ends_with(b"key"))
        || digest && !name.to_ascii_lowercase().ends_with(b"key")
}

/// Whether an unquoted value is an expression of a program: `getpass()`, `self.password`, `token::Kind`, `_TOKEN`.
fn is_expression(name: &[u8], value: &[u8], next: Option<u8>) -> bool {
    let part = |b: &u8| is_word(*b) || matches!(b, b'.' | b':' | b'$' | b'!');
    let path = value.iter().take_while(|b| part(b)).count();
    let named = value.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
    let after = value.get(path).copied().or(next.filter(|_| path == value.len()));
    let digits = value.iter().any(u8::is_ascii_digit);
    let plain = named && path == value.len();
    let dotted = value.windows(2).any(|w| matches!(w[0], b'.' | b':') && is_word(w[1]));
    let same =
        name.len() >= value.len() && name[name.len() - value.len()..].eq_ignore_ascii_case(value);
    (named && matches!(after, Some(b'(' | b'[')))
        || (plain && !digits && (dotted || value.contains(&b'_')))
        || (plain && value.starts_with(b"_"))
        || (plain && !digits && matches!(next, Some(b')' | b',')))
        || matches!(value[0], b'*' | b'\\' | b'_' | b':' | b'.' | b'/' | b'?' | b'^')
        || same
}

fn is_strong_value(value: &[u8], style: Style, context: &Context<'_>) -> bool {
    let letters = value.iter().all(|b| b.is_ascii_alphabetic());
    let digits = value.iter().all(u8::is_ascii_digit);
    let line = || {
        let before = context.text[..context.start].iter().rev().take_while(|b| **b != b'\n');
        let starts = before.clone().all(|b| matches!(b, b' ' | b'\t' | b'-'));
        starts && matches!(context.next(), None | Some(b'\n' | b'\r'))
    };
    match style {
        _ if is_placeholder(value) => false,
        Style::Quoted | Style::Env | Style::Query | Style::Netrc => true,
        Style::Flag => value[0] != b'-' && value[0] != b'/',
        // `LOGIN_PASSWORD = 3,` numbers the cases of a program.
        Style::Equals => !digits || context.text[context.from - 1] == b'=',
        // `password: str` is a program and `Password: required` prose, unless a line of YAML is all there is.
        Style::Colon if letters => line() && value.len() > 3,
        Style::Colon if digits => line(),
        Style::Colon => true,
    }
}

/// How the name at `start..end` is joined to a value, and where the value may start.
fn separator(text: &[u8], start: usize, end: usize, query: bool) -> Option<(Style, usize)> {
    let rest = &text[end..];
    if start > 0 && text[start - 1] == b'<' && rest.first() == Some(&b'>') {
        return Some((Style::Quoted, end + 1));
    }
    let closed = rest.iter().take(5).take_while(|b| b"\"'`\\]".contains(b)).count();
    let blank = |at: usize| {
        text[at.min(text.len())..].iter().take(8).take_while(|b| matches!(b, b' ' | b'\t')).count()
    };
    let gap = blank(end + closed);
    let at = end + closed + gap;
    let sep = text.get(at..)?;
    let len = match sep {
        [b':', b':', ..] => return None,
        [b'=', b'=', b'=', ..] => 3,
        [b'=', b'=' | b'>', ..] | [b':', b'=', ..] | [b'!', b'=', ..] => 2,
        [b'=' | b':', ..] => 1,
        _ => 0,
    };
    let flag = text[start..end].starts_with(b"--");
    if len == 0 {
        let word = &text[start..end];
        let preceding = &text[start.saturating_sub(200)..start];
        let netrc = word == b"password" && preceding.windows(6).any(|w| w == b"login ");
        return match () {
            () if closed == 0 && gap > 0 && flag => Some((Style::Flag, at)),
            () if closed == 0 && gap > 0 && netrc => Some((Style::Netrc, at)),
            () => None,
        };
    }
    let after = at + len;
    let style = match sep[0] {
        b'=' if query => Style::Query,
        b'=' if len == 1 && gap == 0 && closed == 0 => {
            let upper = text[start..end].iter().all(|b| !b.is_ascii_lowercase());
            let tight = blank(after) == 0;
            if tight && (upper || flag) { Style::Env } else { Style::Equals }
        }
        b':' if len == 1 => Style::Colon,
        _ => Style::Equals,
    };
    let value_at = after + if style == Style::Env { 0 } else { blank(after) };
    // `password: str = "…"`: the value stands after the annotation.
    if style == Style::Colon {
        let rest = &text[value_at..];
        let annotation = rest.iter().take(40).take_while(|b| is_word(**b)).count();
        if annotation > 0 && rest[annotation..].starts_with(b" = ") {
            return Some((Style::Equals, value_at + annotation + 3));
        }
    }
    Some((style, value_at))
}

/// The extent of the value at `at`, without its quotes.
fn value(text: &[u8], at: usize, style: Style) -> Option<(usize, usize, Style)> {
    let rest = text.get(at..)?;
    let letter = usize::from(matches!(rest, [b'b' | b'r' | b'f' | b'u', b'"' | b'\'', ..]));
    let slashes = rest[letter..].iter().take(4).take_while(|b| **b == b'\\').count();
    let open = at + letter + slashes;
    if let Some(&quote @ (b'"' | b'\'' | b'`')) = text.get(open) {
        let from = open + 1;
        if let Some(to) = closing_quote(text, from, quote, slashes) {
            return (to > from).then_some((from, to, Style::Quoted));
        }
        // Cut before its end, or no value at all.
        let to = from + text[from..].iter().take_while(|b| !matches!(b, b'\n' | b'\r')).count();
        let begins = text.get(from).is_some_and(u8::is_ascii_alphanumeric);
        return (begins && to - from >= 4).then_some((from, to, Style::Quoted));
    }
    if text[..at].ends_with(b">") && style == Style::Quoted {
        let len = rest.iter().take(MAX_VALUE).position(|b| matches!(b, b'<' | b'\n'))?;
        return (len > 0 && rest[len..].starts_with(b"</")).then_some((at, at + len, style));
    }
    let len = rest
        .iter()
        .enumerate()
        .take_while(|&(i, &b)| {
            let ends = match b {
                b'"' | b'\'' | b'`' | b'<' | b'>' => true,
                b'\\' => matches!(rest.get(i + 1), Some(b'n' | b'r' | b't' | b'"' | b'\'' | b'\\')),
                b'&' | b';' | b'|' => true,
                b'#' => style == Style::Query,
                b',' => style != Style::Env && style != Style::Netrc,
                b')' | b'}' | b']' => style != Style::Env,
                // The escape is inside where a terminal's colours are.
                0x1b => false,
                _ => b.is_ascii_whitespace() || b.is_ascii_control(),
            };
            !ends
        })
        .count();
    (len > 0).then_some((at, at + len, style))
}

/// Where the value that was opened by `quote` after `slashes` backslashes ends.
fn closing_quote(text: &[u8], from: usize, quote: u8, slashes: usize) -> Option<usize> {
    let end = text.len().min(from + MAX_VALUE);
    let mut run = 0;
    for (i, &b) in text[from..end].iter().enumerate() {
        match b {
            b'\\' => run += 1,
            b'\n' if quote != b'`' => return None,
            _ if b == quote && (run == slashes || (slashes == 0 && run % 2 == 0)) => {
                return Some(from + i - slashes);
            }
            _ if b == quote && run < slashes => return Some(from + i - run),
            _ => run = 0,
        }
    }
    None
}
