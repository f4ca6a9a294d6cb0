//! The pattern in structured values: in strings, bytes, keys and numbers, however deep.

use agentrec_trace::{ObjectId, Value};

use super::pattern::Pattern;

/// Takes it out. What names an object names its new place. Returns whether anything changed.
pub(super) fn scrub(
    pattern: &Pattern,
    value: &mut Value,
    moved: &dyn Fn(&ObjectId) -> ObjectId,
) -> bool {
    let bytes = |bytes: &[u8]| pattern.replace(bytes).map(|replaced| replaced.bytes);
    match value {
        Value::String(text) => match bytes(text.as_bytes()) {
            Some(new) => {
                *value = text_or_bytes(new);
                true
            }
            None => false,
        },
        Value::Binary(old) => {
            if let Ok(id) = <[u8; 32]>::try_from(old.as_slice()) {
                let new = moved(&ObjectId(id));
                if new.0 != id {
                    *old = new.0.to_vec();
                    return true;
                }
            }
            match bytes(old) {
                Some(new) => {
                    *old = new;
                    true
                }
                None => false,
            }
        }
        Value::Ext(_, old) => match bytes(old) {
            Some(new) => {
                *old = new;
                true
            }
            None => false,
        },
        Value::Integer(number) => digits(pattern, number.to_string(), value),
        Value::F32(number) => digits(pattern, number.to_string(), value),
        Value::F64(number) => digits(pattern, number.to_string(), value),
        Value::Array(items) => {
            items.iter_mut().fold(false, |any, item| scrub(pattern, item, moved) | any)
        }
        Value::Map(entries) => entries.iter_mut().fold(false, |any, (key, value)| {
            scrub(pattern, key, moved) | scrub(pattern, value, moved) | any
        }),
        Value::Nil | Value::Boolean(_) => false,
    }
}

/// Whether it stands anywhere in there.
pub(super) fn holds(pattern: &Pattern, value: &Value) -> bool {
    match value {
        Value::String(text) => pattern.is_in(text.as_bytes()),
        Value::Binary(bytes) | Value::Ext(_, bytes) => pattern.is_in(bytes),
        Value::Integer(number) => pattern.is_plainly_in(number.to_string().as_bytes()),
        Value::F32(number) => pattern.is_plainly_in(number.to_string().as_bytes()),
        Value::F64(number) => pattern.is_plainly_in(number.to_string().as_bytes()),
        Value::Array(items) => items.iter().any(|item| holds(pattern, item)),
        Value::Map(entries) => {
            entries.iter().any(|(key, value)| holds(pattern, key) || holds(pattern, value))
        }
        Value::Nil | Value::Boolean(_) => false,
    }
}

/// A number becomes a text.
fn digits(pattern: &Pattern, digits: String, value: &mut Value) -> bool {
    match pattern.replace(digits.as_bytes()) {
        Some(replaced) => {
            *value = text_or_bytes(replaced.bytes);
            true
        }
        None => false,
    }
}

fn text_or_bytes(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(error) => Value::Binary(error.into_bytes()),
    }
}
