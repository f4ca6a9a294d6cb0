//! Gemini's generateContent and streamGenerateContent, which give the same documents.

use serde_json::{Map, Value as Json, json};

use super::dialect::{Fold, Reply, Request, Tokens, failure_in, numbered, tools};
use super::json::{NULL, as_array, as_object, count, filled, list, present, text};
use super::parts::{Call, Entry, Kind, Outcome, Part};

pub(super) fn request(body: &Json) -> Request<'_> {
    // Code Assist wraps the request, and names the model beside it.
    let inner = present(body, "request").unwrap_or(body);
    let system =
        present(inner, "systemInstruction").or_else(|| present(inner, "system_instruction"));
    let config = present(inner, "generationConfig").unwrap_or(&NULL);
    Request {
        model: text(body, "model").map(|model| model.strip_prefix("models/").unwrap_or(model)),
        system,
        rules: system.map(|system| Entry { role: "system", ..entry(system) }).into_iter().collect(),
        tools: tools(inner),
        messages: inner.get("contents"),
        entries: numbered(list(inner, "contents"), entry),
        previous: None,
        is_probe: config
            .get("maxOutputTokens")
            .and_then(Json::as_u64)
            .is_some_and(|limit| limit <= 1),
    }
}

/// A content, of a request or of an answer.
pub(super) fn entry(content: &Json) -> Entry<'_> {
    let role = match text(content, "role") {
        Some("model") => "assistant",
        Some("function") => "tool",
        Some(role) => role,
        None => "user",
    };
    let mut parts = Vec::new();
    if let Json::String(words) = content {
        parts.push(Part::new(Kind::Text(words), None));
    }
    let list = present(content, "parts").unwrap_or(&NULL);
    let single = (!list.is_array() && !list.is_null()).then_some(list);
    for block in list.as_array().into_iter().flatten().chain(single) {
        parts.push(Part::new(kind(block), Some(block)));
    }
    Entry {
        role,
        index: None,
        content: if content.is_string() { content } else { list },
        is_item: false,
        fields: None,
        parts,
    }
}

/// A field has two names: the API takes both.
fn either<'a>(block: &'a Json, camel: &str, snake: &str) -> Option<&'a Json> {
    present(block, camel).or_else(|| present(block, snake))
}

fn kind(block: &Json) -> Kind<'_> {
    if block.get("thought").and_then(Json::as_bool) == Some(true) {
        return Kind::Reasoning;
    }
    if let Some(words) = block.as_str().or_else(|| text(block, "text")) {
        return Kind::Text(words);
    }
    if let Some(call) = either(block, "functionCall", "function_call") {
        return Kind::Call(Call {
            id: text(call, "id").unwrap_or_default(),
            name: text(call, "name").unwrap_or_default().to_owned(),
            arguments: call.get("args").unwrap_or(&NULL),
            whole: true,
        });
    }
    if let Some(result) = either(block, "functionResponse", "function_response") {
        let content = result.get("response").unwrap_or(&NULL);
        let error = present(content, "error");
        return Kind::Result(Outcome {
            id: text(result, "id").unwrap_or_default(),
            name: text(result, "name").unwrap_or_default(),
            content,
            error: error
                .map(|error| error.as_str().map_or_else(|| error.to_string(), str::to_owned)),
        });
    }
    // A signature alone belongs to the reasoning.
    let fields = block.as_object().map(Map::len);
    if fields == Some(1) && either(block, "thoughtSignature", "thought_signature").is_some() {
        return Kind::Reasoning;
    }
    Kind::Block(block)
}

/// An answer in the making; each document adds parts to its candidates.
#[derive(Default)]
pub(super) struct Folded {
    reply: Reply,
    candidates: Vec<Json>,
}

/// Candidates of one answer. The API allows eight.
const MAX_CANDIDATES: usize = 128;

impl Fold for Folded {
    fn push(&mut self, document: Json) {
        let document = present(&document, "response").unwrap_or(&document);
        let reply = &mut self.reply;
        for (name, field) in [("responseId", &mut reply.id), ("modelVersion", &mut reply.model)] {
            if let Some(said) = filled(document, name) {
                *field = Some(said.to_owned());
            }
        }
        if let Some(usage) = present(document, "usageMetadata") {
            reply.tokens = Some(tokens(usage));
        }
        if let Some(failure) = failure_in(document) {
            reply.failure.get_or_insert(failure);
        }
        let blocked = present(document, "promptFeedback").and_then(|it| filled(it, "blockReason"));
        if let Some(reason) = blocked {
            (reply.finish, reply.complete) = (Some(reason.to_owned()), true);
        }
        for candidate in list(document, "candidates") {
            let number = candidate.get("index").and_then(Json::as_u64).unwrap_or(0);
            let Ok(number @ 0..MAX_CANDIDATES) = usize::try_from(number) else { continue };
            while self.candidates.len() <= number {
                self.candidates.push(json!({"role": "model", "parts": []}));
            }
            let content = as_object(&mut self.candidates[number]);
            let parts = as_array(content.entry("parts").or_insert(Json::Null));
            for part in
                candidate.get("content").map(|content| list(content, "parts")).unwrap_or_default()
            {
                add(parts, part);
            }
            if let Some(reason) = filled(candidate, "finishReason") {
                (reply.finish, reply.complete) = (Some(reason.to_owned()), true);
            }
        }
    }

    fn finish(&mut self) -> Reply {
        let mut reply = std::mem::take(&mut self.reply);
        reply.choices = std::mem::take(&mut self.candidates);
        reply.choices.retain(|content| !list(content, "parts").is_empty());
        reply
    }
}

/// Adds a part, to the text before it where both are pieces of one.
fn add(parts: &mut Vec<Json>, part: &Json) {
    let is_text = |part: &Json| {
        let fields = part.as_object().into_iter().flatten();
        text(part, "text").is_some()
            && fields.into_iter().all(|(name, _)| matches!(name.as_str(), "text" | "thought"))
    };
    let thought = |part: &Json| part.get("thought").and_then(Json::as_bool).unwrap_or(false);
    match parts.last_mut() {
        Some(last) if is_text(last) && is_text(part) && thought(last) == thought(part) => {
            let more = text(part, "text").unwrap_or_default();
            super::json::append(as_object(last), "text", more);
        }
        _ => parts.push(part.clone()),
    }
}

/// Cached tokens are part of the prompt's; thoughts are not part of the candidates'.
fn tokens(usage: &Json) -> Tokens {
    let input = count(usage, &["promptTokenCount"]);
    let output = count(usage, &["candidatesTokenCount"]);
    Tokens {
        input: input.saturating_add(count(usage, &["toolUsePromptTokenCount"])),
        cache_read: count(usage, &["cachedContentTokenCount"]),
        output: output.saturating_add(count(usage, &["thoughtsTokenCount"])),
        ..Tokens::default()
    }
}
