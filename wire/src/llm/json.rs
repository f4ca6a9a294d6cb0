//! Small helpers over JSON: what a field says, values for events, and a form in which formatting makes no difference.

use agentrec_trace::Value;
use serde_json::{Map, Value as Json};

/// What stands for something that is not there.
pub(super) static NULL: Json = Json::Null;

/// The text of a field, where it is one.
pub(super) fn text<'a>(json: &'a Json, name: &str) -> Option<&'a str> {
    json.get(name).and_then(Json::as_str)
}

/// The text of a field, where it is one and not empty.
pub(super) fn filled<'a>(json: &'a Json, name: &str) -> Option<&'a str> {
    text(json, name).filter(|text| !text.is_empty())
}

/// A field, where it is there and not null.
pub(super) fn present<'a>(json: &'a Json, name: &str) -> Option<&'a Json> {
    json.get(name).filter(|value| !value.is_null())
}

/// The elements of a field; none where it is no array.
pub(super) fn list<'a>(json: &'a Json, name: &str) -> &'a [Json] {
    elements(json.get(name).unwrap_or(&NULL))
}

/// The elements of an array; none where it is something else.
pub(super) fn elements(json: &Json) -> &[Json] {
    json.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A number of tokens; what is no such number counts as none.
pub(super) fn count(json: &Json, path: &[&str]) -> u64 {
    let found = path.iter().try_fold(json, |json, name| json.get(name));
    found.and_then(Json::as_u64).unwrap_or(0)
}

/// Adds text to a field, which becomes a text if it was none.
pub(super) fn append(map: &mut Map<String, Json>, name: &str, more: &str) {
    match map.get_mut(name) {
        Some(Json::String(text)) => text.push_str(more),
        Some(other) => *other = more.into(),
        None => {
            map.insert(name.to_owned(), more.into());
        }
    }
}

/// The field as an object, which it becomes if it was none.
pub(super) fn object<'a>(map: &'a mut Map<String, Json>, name: &str) -> &'a mut Map<String, Json> {
    as_object(map.entry(name).or_insert(Json::Null))
}

/// The value as an object, which it becomes if it was none.
pub(super) fn as_object(json: &mut Json) -> &mut Map<String, Json> {
    if !json.is_object() {
        *json = Json::Object(Map::new());
    }
    json.as_object_mut().expect("an object was put there")
}

/// The value as an array, which it becomes if it was none.
pub(super) fn as_array(json: &mut Json) -> &mut Vec<Json> {
    if !json.is_array() {
        *json = Json::Array(Vec::new());
    }
    json.as_array_mut().expect("an array was put there")
}

/// Arguments, which some APIs write as a text that holds JSON.
pub(super) fn arguments(json: &Json) -> Json {
    match json {
        Json::String(text) => serde_json::from_str(text).unwrap_or_else(|_| json.clone()),
        other => other.clone(),
    }
}

/// The same for an event.
pub(super) fn value(json: Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Boolean(value),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::F64(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text),
        Json::Array(elements) => Value::Array(elements.into_iter().map(value).collect()),
        Json::Object(map) => {
            Value::Map(map.into_iter().map(|(name, inner)| (name.into(), value(inner))).collect())
        }
    }
}

/// A mark that clients move from block to block.
const NOISE: &str = "cache_control";

/// Fields of a block that clients add or leave out while it means the same.
const BLOCK_NOISE: [&str; 3] = ["id", "status", "annotations"];

/// Writes what a block means.
pub(super) fn canonical_block(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Object(map) => canonical_object(map, &BLOCK_NOISE, out),
        other => canonical(other, out),
    }
}

/// Writes what a value means: no noise, no nulls, fields in order, texts without white space.
pub(super) fn canonical(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Null => out.push(b'n'),
        Json::Bool(value) => out.push(if *value { b't' } else { b'f' }),
        Json::Number(number) => {
            // 1 and 1.0 are the same to most programs that write numbers anew.
            let number = number.as_f64().unwrap_or(f64::NAN);
            out.push(b'#');
            out.extend_from_slice(&number.to_bits().to_be_bytes());
        }
        Json::String(text) => bare(text, out),
        Json::Array(elements) => {
            out.push(b'[');
            elements.iter().for_each(|element| canonical(element, out));
            out.push(b']');
        }
        Json::Object(map) => canonical_object(map, &[], out),
    }
}

fn canonical_object(map: &Map<String, Json>, without: &[&str], out: &mut Vec<u8>) {
    let means = |name: &str| name != NOISE && !without.contains(&name);
    let mut fields: Vec<_> =
        map.iter().filter(|(name, value)| !value.is_null() && means(name)).collect();
    fields.sort_unstable_by_key(|(name, _)| name.as_str());
    out.push(b'{');
    for (name, value) in fields {
        bare(name, out);
        canonical(value, out);
    }
    out.push(b'}');
}

/// Writes a text without white space: clients trim, and join what came in pieces with or without a line between.
pub(super) fn bare(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formatting_and_noise_make_no_difference() {
        let of = |json: Json| {
            let mut out = Vec::new();
            canonical(&json, &mut out);
            out
        };
        let plain = of(json!({"type": "image", "source": {"data": "ab", "n": 1}}));
        let noisy = json!({
            "source": {"n": 1.0, "data": "a b\n", "x": null}, "type": "image", "cache_control": {"type": "ephemeral"},
        });
        assert_eq!(of(noisy), plain);
        assert_ne!(of(json!({"type": "image", "source": {"data": "ac", "n": 1}})), plain);
        assert_ne!(of(json!(["ab", "c"])), of(json!(["a", "bc"])));
    }

    #[test]
    fn values_are_what_the_json_says_even_where_it_looks_like_ours() {
        let json = json!({"$bytes": 3, "a": [null, true, -1, 1.5, "x"]});
        let Value::Map(fields) = value(json) else { panic!("no map") };
        assert_eq!(fields[0], ("$bytes".into(), 3.into()));
        let expected = vec![Value::Nil, true.into(), (-1).into(), 1.5.into(), "x".into()];
        assert_eq!(fields[1].1, Value::Array(expected));
    }
}
