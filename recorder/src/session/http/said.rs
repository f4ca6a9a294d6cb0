//! Messages, tool calls and results that several sides tell (the wire, the agent itself, its transcript): each is written once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use agentrec_trace::event::{Message, Payload};
use agentrec_trace::{Seq, Source, Value};

/// What was said by one side, and not yet by all others.
#[derive(Debug, Default)]
pub(in crate::session) struct Said {
    events: HashMap<u64, Vec<Known>>,
    count: usize,
}

#[derive(Debug)]
struct Known {
    event: Seq,
    /// By whom it was told, as [`bit`]s.
    by: u8,
}

/// What waits for the other sides. They mostly never say it.
const MAX_WAITING: usize = 16 * 1024;

/// All sides.
const ALL: u8 = 0b111;

/// One side.
fn bit(source: &Source) -> u8 {
    match source {
        Source::Wire => 1,
        Source::Sdk => 2,
        Source::Transcript => 4,
        _ => 0,
    }
}

impl Said {
    /// The event of the same, where another side has told it and this one has not.
    pub(in crate::session) fn before(&mut self, key: Option<u64>, by: &Source) -> Option<Seq> {
        let key = key?;
        let known = self.events.get_mut(&key)?;
        let found = known.iter().position(|one| one.by & bit(by) == 0)?;
        known[found].by |= bit(by);
        let event = known[found].event;
        if known[found].by == ALL {
            known.remove(found);
            self.count -= 1;
            if known.is_empty() {
                self.events.remove(&key);
            }
        }
        Some(event)
    }

    /// Whether a side has told it, as far as that is remembered.
    pub(in crate::session) fn is_told_by(&self, key: Option<u64>, by: &Source) -> bool {
        let known = key.and_then(|key| self.events.get(&key));
        known.is_some_and(|known| known.iter().any(|told| told.by & bit(by) != 0))
    }

    /// It was written as this event.
    pub(in crate::session) fn told(&mut self, key: Option<u64>, by: &Source, event: Seq) {
        let Some(key) = key else { return };
        if self.count >= MAX_WAITING {
            self.events.clear();
            self.count = 0;
        }
        self.count += 1;
        self.events.entry(key).or_default().push(Known { event, by: bit(by) });
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
            let field = |wanted| fields.iter().find(|(name, _)| name.as_str() == Some(wanted));
            // Of a list of items those that are messages have contents of their own.
            let content = || field("role").and_then(|_| field("content"));
            let part = field("text").or_else(content);
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
    fn each_of_three_sides_tells_the_same_and_it_is_known_to_each_once() {
        let mut said = Said::default();
        let key = id_key(false, "c");
        said.told(key, &Source::Transcript, Seq(7));
        assert!(said.is_told_by(key, &Source::Transcript) && !said.is_told_by(key, &Source::Wire));
        assert_eq!(said.before(key, &Source::Wire), Some(Seq(7)));
        assert_eq!(said.before(key, &Source::Wire), None);
        assert_eq!(said.before(key, &Source::Sdk), Some(Seq(7)));
        assert_eq!(said.before(key, &Source::Sdk), None);
        let item = |text: &str| {
            let part = Value::Map(vec![("text".into(), text.into())]);
            let fields = [("role", "assistant".into()), ("content", Value::Array(vec![part]))];
            Value::Map(fields.map(|(name, value)| (name.into(), value)).into())
        };
        let reasoning = Value::Map(vec![("content".into(), Value::Array(vec!["hm".into()]))]);
        let items = message("assistant", Value::Array(vec![reasoning, item("hi")]));
        assert_eq!(message_key(&items), message_key(&message("assistant", "hi".into())));
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
