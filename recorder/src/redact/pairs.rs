//! Names with values in text: assignments, JSON and YAML fields, headers, flags, `.netrc` entries.

use super::Found;
use super::names::{
    self, Strength, is_digest_or_uuid, is_placeholder, is_word, looks_random, strength,
};

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

/// The secret that stands under the name at `start..end`, if there is one.
pub(super) fn pair_at(text: &[u8], start: usize, end: usize) -> Option<Found> {
    let name = &text[start..end];
    let bare = name.trim_ascii_start();
    let bare = bare.strip_prefix(b"--").unwrap_or(bare);
    if is_header(bare, b"cookie") || is_header(bare, b"set-cookie") {
        return cookie_at(text, end);
    }
    if is_header(bare, b"authorization") || is_header(bare, b"proxy-authorization") {
        return authorization_at(text, end);
    }
    let query = start > 0 && matches!(text[start - 1], b'?' | b'&');
    let strength = strength(bare)?;
    let (style, at) = separator(text, start, end, query)?;
    let (from, to, style) = value(text, at, style)?;
    let value = &text[from..to];
    let context = Context { text, start, from, to };
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

struct Context<'t> {
    text: &'t [u8],
    /// Where the name starts.
    start: usize,
    from: usize,
    to: usize,
}

fn is_strong_value(value: &[u8], style: Style, context: &Context<'_>) -> bool {
    if is_placeholder(value) {
        return false;
    }
    let letters = value.iter().all(|b| b.is_ascii_alphabetic() || *b == b'_');
    let next = context.text.get(context.to).copied();
    match style {
        Style::Quoted | Style::Env | Style::Query | Style::Netrc => true,
        Style::Flag => value[0] != b'-' && !value.starts_with(b"/"),
        // `password=password)` and `password = self.ask()` are programs.
        Style::Equals => {
            let call = value.contains(&b'(') || value.contains(&b'[') || next == Some(b'(');
            let argument = letters && matches!(next, Some(b')' | b',' | b'(' | b'['));
            let attribute = value.contains(&b'.')
                && value.split(|b| *b == b'.').all(|part| {
                    part.first().is_some_and(u8::is_ascii_alphabetic)
                        && part.iter().all(|b| b.is_ascii_lowercase() || *b == b'_')
                });
            !(call || argument || attribute || (letters && value.contains(&b'_')))
        }
        // `password: str` is a program and `Password: required` prose, unless a line of YAML is all there is.
        Style::Colon => {
            let line_start = context.text[..context.start]
                .iter()
                .rev()
                .take_while(|b| **b != b'\n')
                .all(|b| matches!(b, b' ' | b'\t' | b'-'));
            let line_end = matches!(next, None | Some(b'\n' | b'\r'));
            let code = value.contains(&b'(') || value.contains(&b'[');
            !code
                && (!letters || (line_start && line_end && value.len() > 3))
                && context.from > context.start
        }
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
        let len = rest.iter().take(MAX_VALUE).position(|b| *b == b'<')?;
        return (len > 0).then_some((at, at + len, style));
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

/// The end of a header's value that starts at `from`: the line's end or the closing quote.
fn header_value_end(text: &[u8], from: usize, quote: Option<u8>) -> usize {
    let ends = |i: usize, b: u8| match b {
        b'\r' | b'\n' | 0 => true,
        b'\\' => matches!(text.get(from + i + 1), Some(b'"' | b'n' | b'r' | b'\'')),
        b'"' => quote != Some(b'\''),
        b'\'' => quote != Some(b'"'),
        _ => false,
    };
    from + text[from..].iter().enumerate().take_while(|&(i, &b)| !ends(i, b)).count()
}

/// Where the value of the header whose name ends at `end` starts, and the quote that it is in.
fn header_value(text: &[u8], end: usize) -> Option<(usize, Option<u8>)> {
    let skip = |at: usize, set: &[u8]| {
        at + text[at..].iter().take(5).take_while(|b| set.contains(b)).count()
    };
    let at = skip(end, b"\"'\\] ");
    if !matches!(text.get(at), Some(b':' | b'=' | b',')) {
        return None;
    }
    let open = skip(at + 1, b" \t");
    let from = skip(open, b"\\\"'");
    // `-H "Cookie: a=b"`: the quote that opened stands before the name.
    let quote = (from > open).then(|| text[from - 1]);
    Some((from, quote))
}

fn cookie_at(text: &[u8], end: usize) -> Option<Found> {
    let (from, quote) = header_value(text, end)?;
    let to = header_value_end(text, from, quote);
    let value = &text[from..to];
    let name = value.iter().take_while(|b| is_word(**b) || b"-.%$!*+^|~".contains(b)).count();
    (name > 0 && value.get(name) == Some(&b'=') && value.len() > name + 1).then_some(Found {
        start: from,
        end: to,
        kind: "cookie",
    })
}

/// The credentials of an authorization header; the scheme stays.
fn authorization_at(text: &[u8], end: usize) -> Option<Found> {
    let (from, quote) = header_value(text, end)?;
    let to = header_value_end(text, from, quote);
    let value = &text[from..to];
    let scheme = value.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'-').count();
    let credentials = match value.get(scheme) {
        Some(b' ') if scheme > 0 => scheme + 1,
        _ => 0,
    };
    let secret = &value[credentials..];
    let known = credentials > 0 && is_scheme(&value[..scheme]);
    ((known && secret.len() >= 4 && !is_placeholder(secret))
        || (credentials == 0 && names::looks_random(secret)))
    .then_some(Found { start: from + credentials, end: to, kind: "authorization" })
}

fn is_scheme(word: &[u8]) -> bool {
    const SCHEMES: &[&str] = &[
        "basic",
        "bearer",
        "digest",
        "negotiate",
        "token",
        "bot",
        "apikey",
        "api-key",
        "key",
        "oauth",
        "hmac",
        "hawk",
        "ntlm",
        "aws4-hmac-sha256",
        "sharedkey",
        "splunk",
        "jwt",
        "gogs",
    ];
    SCHEMES.iter().any(|s| word.eq_ignore_ascii_case(s.as_bytes()))
}

/// The credentials after `Bearer ` or `Basic `, whose word starts at `start` and ends, with its blank, at `end`.
pub(super) fn scheme_at(text: &[u8], start: usize, end: usize) -> Option<Found> {
    if start > 0 && is_word(text[start - 1]) && !super::shapes::starts_word(text, start) {
        return None;
    }
    let len = text[end..]
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(b))
        .count();
    let value = &text[end..end + len];
    let value = value.strip_suffix(b".").unwrap_or(value);
    let basic = text[start..end].eq_ignore_ascii_case(b"basic ");
    let secret = if basic {
        value.len() >= 8 && value.len() % 4 == 0 && (looks_random(value) || value.ends_with(b"="))
    } else {
        value.len() >= 12
            && (looks_random(value) || is_digest_or_uuid(value))
            && value.iter().any(u8::is_ascii_digit)
    };
    secret.then_some(Found { start: end, end: end + value.len(), kind: "authorization" })
}

/// The password of `-u user:password`, `end` being the end of the flag and its blank.
pub(super) fn user_flag_at(text: &[u8], end: usize) -> Option<Found> {
    let quote = text.get(end).copied().filter(|b| matches!(b, b'"' | b'\''));
    let from = end + usize::from(quote.is_some());
    let len = text[from..]
        .iter()
        .take(256)
        .take_while(|b| match quote {
            Some(quote) => **b != quote && **b != b'\n',
            None => !b.is_ascii_whitespace() && !b"\"'`;|&<>\\".contains(b),
        })
        .count();
    let (at, to) = user_password(&text[from..from + len])?;
    Some(Found { start: from + at, end: from + to, kind: "password" })
}

/// Where the password of `user:password` stands; `None` for a pair of numeric ids, a URL or a path.
pub(super) fn user_password(pair: &[u8]) -> Option<(usize, usize)> {
    let colon = pair.iter().position(|b| *b == b':')?;
    let (user, password) = (&pair[..colon], &pair[colon + 1..]);
    let ids = password.iter().all(u8::is_ascii_digit) && user.iter().all(u8::is_ascii_digit);
    let other = password.starts_with(b"//") || user.is_empty() || user.contains(&b'/');
    (!ids && !other && !is_placeholder(password)).then_some((colon + 1, pair.len()))
}
