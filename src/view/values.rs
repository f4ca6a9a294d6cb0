//! Structured values of the agent (messages, tool arguments) on one line.

use agentrec_trace::Value;

use crate::output::{json, printable_line};

/// The text of a message's content: a string, or the text blocks of a list; anything else as JSON.
pub fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => printable_line(text.as_bytes()),
        Value::Array(blocks) => {
            let texts: Vec<_> = blocks.iter().filter_map(block_text).collect();
            if texts.is_empty() { compact(content) } else { texts.join(" ") }
        }
        Value::Nil => String::new(),
        other => compact(other),
    }
}

fn block_text(block: &Value) -> Option<String> {
    let field = |name: &str| {
        let fields = block.as_map()?;
        fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
    };
    match (block, field("text")) {
        (Value::String(text), _) | (_, Some(Value::String(text))) => {
            Some(printable_line(text.as_bytes()))
        }
        // An item of a list that holds whole messages.
        _ => match (field("role"), field("content")?) {
            (Some(_), Value::Array(blocks)) => {
                let texts: Vec<_> = blocks.iter().filter_map(block_text).collect();
                (!texts.is_empty()).then(|| texts.join(" "))
            }
            _ => None,
        },
    }
}

/// Arguments of a tool call: the value alone where there is one, else `name=value …`.
pub fn arguments(arguments: &Value) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => printable_line(text.as_bytes()),
        other => compact(other),
    };
    match arguments {
        Value::Nil => String::new(),
        Value::Map(fields) => match fields.as_slice() {
            [(_, only)] => plain(only),
            fields => {
                let field =
                    |(name, value): &(Value, Value)| format!("{}={}", plain(name), plain(value));
                fields.iter().map(field).collect::<Vec<_>>().join(" ")
            }
        },
        other => plain(other),
    }
}

fn compact(value: &Value) -> String {
    printable_line(json::value(value).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_their_text() {
        let block = |text: &str| {
            Value::Map(vec![("type".into(), "text".into()), ("text".into(), text.into())])
        };
        assert_eq!(text_of(&"hi\n\x1b".into()), "hi\\n\\u{1b}");
        assert_eq!(text_of(&Value::Array(vec![block("a"), Value::Nil, block("b")])), "a b");
        assert_eq!(text_of(&Value::Array(vec![Value::from(1)])), "[1]");
        let content = Value::Array(vec![block("c")]);
        let item =
            Value::Map(vec![("role".into(), "assistant".into()), ("content".into(), content)]);
        assert_eq!(text_of(&Value::Array(vec![item])), "c");
    }

    #[test]
    fn a_single_argument_needs_no_name() {
        let map = |fields: &[(&str, &str)]| {
            Value::Map(fields.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
        };
        assert_eq!(arguments(&map(&[("command", "pytest -q")])), "pytest -q");
        assert_eq!(arguments(&map(&[("path", "a"), ("text", "b c")])), "path=a text=b c");
        assert_eq!(arguments(&Value::Nil), "");
    }
}
