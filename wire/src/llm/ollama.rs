//! Ollama's own API: /api/chat and /api/generate, as one document or one per line.

use serde_json::{Map, Value as Json};

use super::dialect::{Fold, Reply, Request, Tokens, failure_in, numbered, split_rules, tools};
use super::json::{
    NULL, append, as_array, as_object, count, elements, filled, list, present, text,
};
use super::parts::{Call, Entry, Kind, Outcome, Part, content_parts};

pub(super) fn request(body: &Json) -> Request<'_> {
    let request = Request { model: text(body, "model"), tools: tools(body), ..Request::default() };
    let Some(prompt) = body.get("prompt") else {
        let (rules, entries) = split_rules(numbered(list(body, "messages"), entry));
        let messages = body.get("messages");
        // Without messages it loads or unloads the model.
        return Request { rules, is_probe: entries.is_empty(), entries, messages, ..request };
    };
    let system = present(body, "system");
    let said = |role, content| {
        let mut parts = Vec::new();
        content_parts(content, &mut parts);
        Entry { role, index: None, content, is_item: false, fields: None, parts }
    };
    let mut asked = said("user", prompt);
    asked.index = Some(0);
    asked
        .parts
        .extend(list(body, "images").iter().map(|image| Part::new(Kind::Block(image), None)));
    Request {
        system,
        rules: system.map(|system| said("system", system)).into_iter().collect(),
        messages: Some(prompt),
        is_probe: prompt.as_str().is_some_and(str::is_empty),
        entries: vec![asked],
        ..request
    }
}

/// A message, of a request or of an answer.
pub(super) fn entry(message: &Json) -> Entry<'_> {
    let role = text(message, "role").unwrap_or("assistant");
    let content = message.get("content").unwrap_or(&NULL);
    let mut parts = Vec::new();
    if role == "tool" {
        let result = Outcome {
            id: text(message, "tool_call_id").unwrap_or_default(),
            name: filled(message, "tool_name")
                .or_else(|| filled(message, "name"))
                .unwrap_or_default(),
            content,
            error: None,
        };
        parts.push(Part::new(Kind::Result(result), None));
    } else {
        content_parts(content, &mut parts);
        parts.extend(
            list(message, "images").iter().map(|image| Part::new(Kind::Block(image), None)),
        );
        for call in list(message, "tool_calls") {
            let of = call.get("function").unwrap_or(&NULL);
            let call = Call {
                id: text(call, "id").unwrap_or_default(),
                name: text(of, "name").unwrap_or_default().to_owned(),
                arguments: of.get("arguments").unwrap_or(&NULL),
                whole: true,
            };
            parts.push(Part::new(Kind::Call(call), None));
        }
    }
    Entry { role, index: None, content, is_item: false, fields: message.as_object(), parts }
}

/// An answer in the making: documents with pieces of the message, the last of them with the counts.
#[derive(Default)]
pub(super) struct Folded {
    reply: Reply,
    message: Json,
}

impl Fold for Folded {
    fn push(&mut self, document: Json) {
        let reply = &mut self.reply;
        if let Some(failure) = failure_in(&document) {
            reply.failure.get_or_insert(failure);
        }
        if let Some(model) = filled(&document, "model") {
            reply.model.get_or_insert_with(|| model.to_owned());
        }
        let message = as_object(&mut self.message);
        message.entry("role").or_insert_with(|| "assistant".into());
        if let Some(piece) = document.get("message").and_then(Json::as_object) {
            add(message, piece);
        }
        for (from, to) in [("response", "content"), ("thinking", "thinking")] {
            if let Some(piece) = filled(&document, from) {
                append(message, to, piece);
            }
        }
        if document.get("done").and_then(Json::as_bool) == Some(true) {
            reply.complete = true;
            reply.finish = filled(&document, "done_reason").map(str::to_owned);
            reply.tokens = Some(Tokens {
                input: count(&document, &["prompt_eval_count"]),
                output: count(&document, &["eval_count"]),
                ..Tokens::default()
            });
        }
    }

    fn finish(&mut self) -> Reply {
        let mut reply = std::mem::take(&mut self.reply);
        let message = std::mem::take(&mut self.message);
        if message.as_object().is_some_and(|fields| fields.len() > 1) {
            reply.choices.push(message);
        }
        reply
    }
}

fn add(message: &mut Map<String, Json>, piece: &Map<String, Json>) {
    for (name, field) in piece {
        match field {
            Json::Null => {}
            _ if name == "role" => {}
            Json::String(more) if more.is_empty() => {}
            Json::String(more) => append(message, name, more),
            Json::Array(_) => {
                let whole = as_array(message.entry(name.as_str()).or_insert(Json::Null));
                whole.extend(elements(field).iter().cloned());
            }
            other => {
                message.insert(name.clone(), other.clone());
            }
        }
    }
}
