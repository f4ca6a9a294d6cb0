//! Secrets in structured data and in headers, where the name of each value is known for certain.

use std::borrow::Cow;

use agentrec_trace::Value;

use super::names::{Strength, is_placeholder, strength};
use super::{Redactor, pairs};

/// Values nested deeper than this are replaced as a whole: the stack is finite and the input the agent's.
const MAX_DEPTH: usize = 128;

impl Redactor {
    /// Tool arguments, messages, custom events: in place, by the names of fields and the shapes of texts.
    pub fn value(&self, value: &mut Value) {
        self.walk(value, None, 0);
    }

    fn walk(&self, value: &mut Value, name: Option<&[u8]>, depth: usize) {
        if depth > MAX_DEPTH {
            *value = Value::from("[agentrec: nested too deep]");
            return;
        }
        match value {
            Value::Map(entries) => {
                let environment = name.is_some_and(is_environment);
                for (key, value) in entries {
                    let name = match key {
                        Value::String(text) => text.as_bytes().to_vec(),
                        Value::Binary(bytes) => bytes.clone(),
                        _ => Vec::new(),
                    };
                    self.walk(key, None, depth + 1);
                    match value {
                        Value::String(text) if environment => {
                            let kept = self.env(&name, text.as_bytes()).into_owned();
                            *value = string(kept);
                        }
                        _ => self.walk(value, Some(&name), depth + 1),
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.walk(item, name, depth + 1);
                }
            }
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.named(name, text.as_bytes()) {
                    *value = string(redacted);
                }
            }
            Value::Binary(bytes) => {
                if let Cow::Owned(redacted) = self.named(name, bytes) {
                    *bytes = redacted;
                }
            }
            Value::Integer(number) if name.map(strength) == Some(Some(Strength::Strong)) => {
                let digits = number.to_string().into_bytes();
                *value =
                    string(self.whole(&digits, name.map_or("secret", pairs::kind)).into_owned());
            }
            _ => {}
        }
    }

    /// A text that stands under `name`.
    fn named<'t>(&self, name: Option<&[u8]>, text: &'t [u8]) -> Cow<'t, [u8]> {
        let secret = name.is_some_and(|name| match strength(name) {
            Some(Strength::Strong) => !is_placeholder(text),
            Some(Strength::Weak) => pairs::is_weak_value(name, text),
            None => false,
        });
        match name {
            Some(name) if is_header(name) => self.header(name, text),
            Some(name) if secret => self.whole(text, pairs::kind(name)),
            _ => self.text(text),
        }
    }

    /// The value of a header: the scheme of an authorization stays, its credentials go; cookies go.
    pub fn header<'t>(&self, name: &[u8], value: &'t [u8]) -> Cow<'t, [u8]> {
        let is = |header: &[u8]| name.eq_ignore_ascii_case(header);
        if is(b"authorization") || is(b"proxy-authorization") {
            let space = value.iter().position(|b| *b == b' ').map_or(0, |at| at + 1);
            return if value.len() == space || super::is_mark(&value[space..]) {
                Cow::Borrowed(value)
            } else {
                let secret = self.whole(&value[space..], "authorization");
                Cow::Owned([&value[..space], &secret].concat())
            };
        }
        if (is(b"cookie") || is(b"set-cookie")) && !value.is_empty() {
            return self.whole(value, "cookie");
        }
        match strength(name) {
            Some(Strength::Strong) if !value.is_empty() => self.whole(value, pairs::kind(name)),
            Some(Strength::Weak) if value.len() >= 16 && !value.contains(&b' ') => {
                self.whole(value, pairs::kind(name))
            }
            _ => self.text(value),
        }
    }

    /// A header as one text: `Name: value`.
    pub(super) fn header_line<'t>(&self, line: &'t [u8]) -> Cow<'t, [u8]> {
        let Some(colon) = line.iter().position(|b| *b == b':') else { return self.text(line) };
        let value = line[colon + 1..].trim_ascii_start();
        let from = line.len() - value.len();
        match self.header(line[..colon].trim_ascii(), value) {
            Cow::Borrowed(_) => Cow::Borrowed(line),
            Cow::Owned(value) => Cow::Owned([&line[..from], &value].concat()),
        }
    }
}

fn is_header(name: &[u8]) -> bool {
    [&b"authorization"[..], b"proxy-authorization", b"cookie", b"set-cookie"]
        .iter()
        .any(|header| name.eq_ignore_ascii_case(header))
}

fn is_environment(name: &[u8]) -> bool {
    [&b"env"[..], b"environ", b"environment"].iter().any(|n| name.eq_ignore_ascii_case(n))
}

/// Text where it is UTF-8, bytes otherwise.
fn string(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(error) => Value::Binary(error.into_bytes()),
    }
}
