//! The messages of a request stand in the trace already, in its body: a snapshot says where.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use agentrec_trace::Value;
use agentrec_trace::event::{Content, Payload};
use agentrec_wire::llm::Asked;
use serde_json::value::RawValue;

use crate::session::Session;

impl Session {
    /// Where in a body that will be an object, and is redacted, the messages stand that a snapshot is going to hold.
    pub(super) fn place_of(&self, asked: &Asked, body: &Content<'_>) -> Option<Range<usize>> {
        let Content::Inline(body) = body else { return None };
        let is_state = asked.side.is_none() && !asked.repeats && self.setup.watch.is_none();
        if !is_state || body.len() <= Payload::MAX_INLINE {
            return None;
        }
        let mut messages = asked.messages.clone();
        self.redactor.value(&mut messages);
        place_in(body, &messages)
    }
}

/// Where a member of the JSON object `body` stands that is this very value, and longer than all others.
fn place_in(body: &[u8], value: &Value) -> Option<Range<usize>> {
    let body = str::from_utf8(body).ok()?;
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(body).ok()?;
    let longest = members.values().map(|member| member.get()).max_by_key(|text| text.len())?;
    let found: Value = serde_json::from_str(longest).ok()?;
    let at = longest.as_ptr() as usize - body.as_ptr() as usize;
    (found == *value).then(|| at..at + longest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_found_as_they_stand() {
        let text = r#"[ {"role": "user", "content": "a\nb", "n": [1, -2, 0.5, null]} ]"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let body = format!(r#"{{"model": "m\"[", "messages":  {text} , "stream": true}}"#);
        let place = place_in(body.as_bytes(), &value).unwrap();
        assert_eq!(&body[place], text);
        // What went before is with the server.
        let all = Value::Array(vec![Value::from("before"), value.clone()]);
        assert_eq!(place_in(body.as_bytes(), &all), None);
        for other in ["", "[]", "{}", r#"{"messages": 1"#, "\u{1}"] {
            assert_eq!(place_in(other.as_bytes(), &value), None, "{other}");
        }
        assert_eq!(place_in(b"\xff", &value), None);
    }
}
