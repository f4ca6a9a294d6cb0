//! What the session knows of the agent's conversation: the state that a snapshot saves when nobody brings one along.

use agentrec_trace::Value;
use agentrec_trace::event::Message;

use crate::socket::State;

/// Messages and what goes with them, as they were last told; not redacted.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    state: State,
}

impl Conversation {
    /// Begins with the state of the run that this one continues.
    pub(super) fn resumed(resume: &serde_json::Value) -> Self {
        let state = serde_json::from_value(resume.clone()).unwrap_or_default();
        Self { state }
    }

    /// Takes a message that the agent told of.
    pub(super) fn message(&mut self, message: Value) {
        self.state.stored = None;
        match &mut self.state.messages {
            Value::Array(messages) => messages.push(message),
            messages => *messages = Value::Array(vec![message]),
        }
    }

    /// Takes what a snapshot brought along, and gives what it shall hold.
    pub(super) fn update(&mut self, told: State) -> State {
        let State { messages, system_prompt, tools, model, last_query, last_result, stored } = told;
        let state = &mut self.state;
        if messages != Value::Nil {
            state.stored = stored;
        }
        for (known, told) in [
            (&mut state.messages, messages),
            (&mut state.system_prompt, system_prompt),
            (&mut state.tools, tools),
            (&mut state.last_query, last_query),
            (&mut state.last_result, last_result),
        ] {
            if told != Value::Nil {
                *known = told;
            }
        }
        if model.is_some() {
            state.model = model;
        }
        state.clone()
    }
}

/// A message of an event as it stands in a list of messages: the fields that the agent gave.
pub(super) fn plain_message(message: &Message<'_>) -> Value {
    let text = |name: &str, value: &str| (Value::from(name), Value::from(value));
    let mut fields = vec![text("role", &message.role)];
    if let agentrec_trace::event::Payload::Inline(content) = &message.content {
        fields.push((Value::from("content"), content.clone()));
    }
    if let agentrec_trace::event::Payload::Inline(Value::Map(extra)) = &message.extra {
        fields.extend(extra.iter().cloned());
    }
    Value::Map(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_since_the_last_snapshot_are_added_to_what_it_said() {
        let mut conversation = Conversation::default();
        conversation.message("a".into());
        assert_eq!(conversation.update(State::default()).messages, Value::Array(vec!["a".into()]));
        let told = Value::Array(vec!["x".into(), "y".into()]);
        let model = Some("m".to_owned());
        conversation.update(State { messages: told, model, ..State::default() });
        conversation.message("z".into());
        let state = conversation.update(State::default());
        assert_eq!(state.messages, Value::Array(vec!["x".into(), "y".into(), "z".into()]));
        assert_eq!(state.model.as_deref(), Some("m"));
    }

    #[test]
    fn a_resumed_run_begins_with_the_messages_it_was_given() {
        let resume =
            serde_json::json!({"messages": [{"role": "user"}], "prompt": "p", "model": null});
        let mut conversation = Conversation::resumed(&resume);
        let messages = conversation.update(State::default()).messages;
        assert_eq!(messages, Value::Array(vec![Value::Map(vec![("role".into(), "user".into())])]));
    }
}
