//! Secrets are removed here, before anything reaches the disk.
//!
//! Each one is replaced by `[redacted:KIND:xxxxxxxx]`, whose last part is a keyed hash of the secret's bytes: equal
//! secrets can be seen to be equal, and the key is kept outside the trace. What is replaced follows from the names
//! that values stand under (`argv`, `env`, `header`, `value`) and from their shape, wherever they stand (`text`).
//! A mark is never redacted again.

mod argv;
mod headers;
mod key;
mod names;
mod pairs;
mod scan;
mod shapes;
mod stream;
mod url;
mod value;

use std::borrow::Cow;

pub use key::{KeyError, load_or_create_key};
pub use stream::Stream;

/// How every replacement begins.
pub const MARK_START: &[u8] = b"[redacted:";

/// A stretch of text that is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    start: usize,
    end: usize,
    kind: &'static str,
}

/// Replaces secrets; cheap to clone, the same for a whole session.
#[derive(Clone)]
pub struct Redactor {
    key: [u8; 32],
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// Marks are made with this key, which must not stand in any trace.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Replaces every known shape of a secret in text of any kind: outputs, bodies, shell commands, URLs.
    pub fn text<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let found = scan::find(text);
        if found.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(self.replace(text, &found)) }
    }

    /// As [`Redactor::text`], for what is known to be UTF-8.
    pub fn str<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.text(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// The value of an environment variable: kept only under a name that is known to be harmless, and then searched.
    pub fn env<'t>(&self, name: &[u8], value: &'t [u8]) -> Cow<'t, [u8]> {
        if names::is_harmless_env(name) {
            self.text(value)
        } else if value.is_empty() {
            Cow::Borrowed(value)
        } else {
            self.whole(value, "env")
        }
    }

    /// A URL: user information, secret parameters of the query, and the paths of webhooks.
    pub fn url<'t>(&self, url: &'t str) -> Cow<'t, str> {
        self.str(url)
    }

    /// Replaces all of `value`, under the kind of its shape where that is known.
    fn whole<'t>(&self, value: &'t [u8], kind: &'static str) -> Cow<'t, [u8]> {
        if is_mark(value) {
            return Cow::Borrowed(value);
        }
        let kind = match scan::find(value)[..] {
            [Found { start: 0, end, kind }] if end == value.len() => kind,
            _ => kind,
        };
        Cow::Owned(self.mark(kind, value))
    }

    /// What stands for `secret`; the kind is of small letters and dashes.
    pub fn mark(&self, kind: &str, secret: &[u8]) -> Vec<u8> {
        let hash = blake3::keyed_hash(&self.key, secret).to_hex();
        format!("[redacted:{kind}:{}]", &hash[..8]).into_bytes()
    }

    /// `found` is in order and does not overlap.
    fn replace(&self, text: &[u8], found: &[Found]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut done = 0;
        for &Found { start, end, kind } in found {
            out.extend_from_slice(&text[done..start]);
            out.extend_from_slice(&self.mark(kind, &text[start..end]));
            done = end;
        }
        out.extend_from_slice(&text[done..]);
        out
    }
}

/// Whether all of `value` is one replacement.
pub fn is_mark(value: &[u8]) -> bool {
    mark_len(value) == Some(value.len())
}

/// Length of the replacement that `text` starts with.
fn mark_len(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(MARK_START)?;
    let kind = rest.iter().take_while(|b| b.is_ascii_lowercase() || **b == b'-').count();
    let hash = rest[kind..].strip_prefix(b":")?;
    let hex = hash.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    (kind > 0 && hex >= 8 && hash.get(hex) == Some(&b']'))
        .then_some(MARK_START.len() + kind + 1 + hex + 1)
}

#[cfg(test)]
mod tests;
