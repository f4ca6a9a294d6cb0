//! Messages, tool calls and results that the wire tells and the agent itself tells, too: each is written once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use agentrec_trace::event::{Message, Payload};
use agentrec_trace::{Seq, Source, Value};

/// What was said by one side, and not yet by the other.
#[derive(Debug, Default)]
pub(in crate::session) struct Said(HashMap<u64, Waiting>);

#[derive(Debug)]
struct Waiting {
    by: Source,
    events: Vec<Seq>,
}

/// What waits for the other side. It mostly never says it.
const MAX_WAITING: usize = 16 * 1024;

impl Said {
    /// The event of the same, where the other side has told it.
    pub(in crate::session) fn before(&mut self, key: Option<u64>, by: &Source) -> Option<Seq> {
        let key = key?;
        let waiting = self.0.get_mut(&key).filter(|waiting| waiting.by != *by)?;
        let seq = waiting.events.pop();
        if waiting.events.is_empty() {
            self.0.remove(&key);
        }
        seq
    }

    /// It was written as this event.
    pub(in crate::session) fn told(&mut self, key: Option<u64>, by: &Source, seq: Seq) {
        let Some(key) = key else { return };
        if self.0.len() >= MAX_WAITING {
            self.0.clear();
        }
        let new = || Waiting { by: by.clone(), events: Vec::new() };
        let waiting = self.0.entry(key).or_insert_with(new);
        if waiting.by == *by {
            waiting.events.insert(0, seq);
        }
    }
}

/// What a call is known again by, or its result.
pub(in crate::session) fn id_key(is_result: bool, id: &str) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    (is_result, id).hash(&mut hasher);
    Some(hasher.finish())
}

/// What a message is known again by: its role and its text. None for what has no text.
pub(in crate::session) fn message_key(message: &Message<'_>) -> Option<u64> {
    let Payload::Inline(content) = &message.content else { return None };
    let mut hasher = DefaultHasher::new();
    message.role.hash(&mut hasher);
    text(content, &mut hasher, 0).then(|| hasher.finish())
}

/// Whether there is any text.
fn text(value: &Value, hasher: &mut DefaultHasher, depth: u32) -> bool {
    match value {
        Value::String(text) => {
            hasher.write(text.as_bytes());
            !text.as_bytes().is_empty()
        }
        Value::Array(parts) if depth < 8 => {
            let mut any = false;
            for part in parts {
                any |= text(part, hasher, depth + 1);
            }
            any
        }
        Value::Map(fields) if depth < 8 => {
            let part = fields.iter().find(|(name, _)| name.as_str() == Some("text"));
            part.is_some_and(|(_, part)| text(part, hasher, depth + 1))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &'static str, content: Value) -> Message<'static> {
        let content = Payload::Inline(content);
        Message { role: role.into(), content, ..Message::default() }
    }

    #[test]
    fn a_message_that_both_tell_is_known_again_once_whatever_its_form() {
        let mut said = Said::default();
        let plain = message("user", "hi".into());
        let part = Value::Map(vec![("type".into(), "text".into()), ("text".into(), "hi".into())]);
        let parts = message("user", Value::Array(vec![part]));
        assert_eq!(said.before(message_key(&plain), &Source::Wire), None);
        said.told(message_key(&plain), &Source::Wire, Seq(3));
        assert_eq!(said.before(message_key(&plain), &Source::Wire), None, "said twice by the same");
        assert_eq!(
            said.before(message_key(&message("assistant", "hi".into())), &Source::Sdk),
            None
        );
        assert_eq!(said.before(message_key(&parts), &Source::Sdk), Some(Seq(3)));
        assert_eq!(said.before(message_key(&parts), &Source::Sdk), None);
    }

    #[test]
    fn calls_and_results_are_known_again_by_their_id_whoever_was_first() {
        let mut said = Said::default();
        said.told(id_key(false, "c"), &Source::Sdk, Seq(5));
        assert_eq!(said.before(id_key(true, "c"), &Source::Wire), None, "that is its result");
        assert_eq!(said.before(id_key(false, "c"), &Source::Wire), Some(Seq(5)));
        // The id is used again.
        assert_eq!(said.before(id_key(false, "c"), &Source::Wire), None);
    }
}
