//! Credentials in text as HTTP and its clients write them: authorization, cookies, `Bearer …`, `-u user:password`.

use super::Found;
use super::names::{is_digest_or_uuid, is_placeholder, is_word, looks_random};
use super::shapes::starts_word;

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

/// The cookies of a header whose name ends at `end`.
pub(super) fn cookie_at(text: &[u8], end: usize) -> Option<Found> {
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
pub(super) fn authorization_at(text: &[u8], end: usize) -> Option<Found> {
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
        || (credentials == 0 && looks_random(secret)))
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
    if start > 0 && is_word(text[start - 1]) && !starts_word(text, start) {
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
        value.len() >= 8
            && value.len().is_multiple_of(4)
            && (looks_random(value) || value.ends_with(b"="))
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
