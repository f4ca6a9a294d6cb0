//! OpenAI responses. The list of messages is one of items: messages, reasoning, calls and their outputs.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::Failure;
use super::dialect::{Fold, Reply, Request, Tokens, failure_in, numbered};
use super::json::{
    NULL, append, as_array, as_object, count, elements, filled, list, present, text,
};
use super::parts::{Call, Entry, Kind, Outcome, Part, content_parts};

/// Whether a body asks for a response: other APIs have such a path, too.
pub(super) fn is_request(body: &Json) -> bool {
    let has = |name| present(body, name).is_some();
    has("previous_response_id")
        || (has("model") && (has("input") || has("prompt") || has("conversation")))
}

pub(super) fn request(body: &Json) -> Request<'_> {
    let input = body.get("input").unwrap_or(&NULL);
    let mut tools: Vec<&Json> = list(body, "tools").iter().collect();
    tools.extend(elements(input).iter().flat_map(added_tools));
    let entries = match input {
        Json::String(words) => vec![Entry {
            role: "user",
            index: Some(0),
            content: input,
            is_item: false,
            fields: None,
            parts: vec![Part::new(Kind::Text(words), None)],
        }],
        items => {
            let mut entries = numbered(elements(items), entry);
            entries.retain(|entry| !is_tools(entry.content));
            entries
        }
    };
    let system = present(body, "instructions");
    let mut parts = Vec::new();
    content_parts(system.unwrap_or(&NULL), &mut parts);
    let rules = system.map(|content| Entry {
        role: "system",
        index: None,
        content,
        is_item: false,
        fields: None,
        parts,
    });
    let conversation = present(body, "conversation");
    let conversation = conversation.and_then(|it| it.as_str().or_else(|| text(it, "id")));
    Request {
        model: text(body, "model"),
        system,
        rules: rules.into_iter().collect(),
        tools,
        messages: Some(input),
        entries,
        previous: filled(body, "previous_response_id").or(conversation),
        is_probe: false,
    }
}

fn is_tools(item: &Json) -> bool {
    text(item, "type") == Some("additional_tools")
}

/// The tools that an item of the list brings.
pub(super) fn added_tools(item: &Json) -> &[Json] {
    if is_tools(item) { list(item, "tools") } else { &[] }
}

/// An item, of a request or of an answer.
pub(super) fn entry(item: &Json) -> Entry<'_> {
    let kind = text(item, "type").unwrap_or("message");
    let mut parts = Vec::new();
    if kind == "message" {
        let content = item.get("content").unwrap_or(&NULL);
        content_parts(content, &mut parts);
        let role = match text(item, "role").unwrap_or("assistant") {
            "developer" => "system",
            role => role,
        };
        return Entry {
            role,
            index: None,
            content,
            is_item: false,
            fields: item.as_object(),
            parts,
        };
    }
    let mut role = "assistant";
    let call_id = filled(item, "call_id");
    match (kind, call_id) {
        ("reasoning" | "item_reference", _) => parts.push(Part::new(Kind::Reasoning, None)),
        (_, Some(id)) if kind.ends_with("_output") => {
            role = "tool";
            let content =
                present(item, "output").or_else(|| present(item, "tools")).unwrap_or(&NULL);
            let failed = text(item, "status") == Some("failed");
            let error = failed.then(|| said(content));
            parts.push(Part::new(Kind::Result(Outcome { id, name: "", content, error }), None));
        }
        (_, Some(id)) if kind.ends_with("_call") => {
            parts.push(Part::new(Kind::Call(call(id, kind, item)), None));
        }
        // What the provider ran itself: the item holds the result, too.
        (_, None) if kind.ends_with("_call") => {
            let id = text(item, "id").unwrap_or_default();
            parts.push(Part::new(Kind::Call(call(id, kind, item)), None));
            let fields = ["output", "results", "outputs", "result", "error"];
            let content = fields.iter().find_map(|name| present(item, name));
            // Some have no result that is shown, but end.
            let ended = text(item, "status") == Some("completed");
            if let Some(content) = content.or(ended.then_some(&NULL)) {
                let error = present(item, "error").map(said);
                let result = Outcome { id, name: "", content, error };
                parts.push(Part::new(Kind::Result(result), None));
            }
        }
        _ => parts.push(Part::new(Kind::Block(item), None)),
    }
    Entry { role, index: None, content: item, is_item: true, fields: None, parts }
}

/// A text, or what stands in its place.
fn said(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

fn call<'a>(id: &'a str, kind: &str, item: &'a Json) -> Call<'a> {
    let name = filled(item, "name").unwrap_or_else(|| kind.trim_end_matches("_call"));
    // A tool's name is unique in its namespace alone.
    let name = match filled(item, "namespace").or_else(|| filled(item, "server_label")) {
        Some(namespace) => format!("{namespace}.{name}"),
        None => name.to_owned(),
    };
    let fields = ["arguments", "input", "action", "operation", "queries", "code"];
    let arguments = fields.iter().find_map(|name| present(item, name)).unwrap_or(&NULL);
    let whole = !matches!(text(item, "status"), Some("in_progress" | "incomplete"));
    Call { id, name, arguments, whole }
}

/// A response in the making: a whole one, or the events of one.
#[derive(Default)]
pub(super) struct Folded {
    reply: Reply,
    items: BTreeMap<u64, Json>,
}

/// Items of one response, and parts of one item.
const MAX_ITEMS: u64 = 1 << 16;

impl Folded {
    fn response(&mut self, response: &Json) {
        for (name, field) in [("id", &mut self.reply.id), ("model", &mut self.reply.model)] {
            if let Some(said) = filled(response, name) {
                *field = Some(said.to_owned());
            }
        }
        if let Some(usage) = present(response, "usage") {
            self.reply.tokens = Some(tokens(usage));
        }
        // Some servers end with a response that leaves out what the events brought.
        let output = list(response, "output");
        if !output.is_empty() {
            self.items = (0..MAX_ITEMS).zip(output.iter().cloned()).collect();
        }
        if let Some(failure) = failure_in(response) {
            self.reply.failure.get_or_insert(failure);
        }
        let status = text(response, "status");
        let is_compaction = text(response, "object") == Some("response.compaction");
        if is_compaction
            || matches!(status, Some("completed" | "incomplete" | "failed" | "cancelled"))
        {
            self.reply.complete = true;
            let reason =
                response.get("incomplete_details").and_then(|details| filled(details, "reason"));
            self.reply.finish = reason.or(status).map(str::to_owned);
        }
    }

    /// The item of an event, which is made if nothing announced it.
    fn item(&mut self, event: &Json, kind: &str) -> Option<&mut Map<String, Json>> {
        let number = event
            .get("output_index")
            .and_then(Json::as_u64)
            .filter(|number| *number < MAX_ITEMS)?;
        let new = || json!({"type": kind, "status": "in_progress"});
        Some(as_object(self.items.entry(number).or_insert_with(new)))
    }

    /// Adds a piece to a part of an item's list of parts.
    fn piece(&mut self, event: &Json, kind: &str, of: (&str, &str, &str, &str)) -> Option<()> {
        let (parts, number, part_kind, field) = of;
        let number = event.get(number).and_then(Json::as_u64).filter(|number| *number < 4096)?;
        let delta = text(event, "delta")?;
        let item = self.item(event, kind)?;
        let parts = as_array(item.entry(parts).or_insert(Json::Null));
        while parts.len() as u64 <= number {
            parts.push(json!({"type": part_kind, field: ""}));
        }
        let part = parts.get_mut(usize::try_from(number).ok()?)?;
        append(as_object(part), field, delta);
        Some(())
    }

    fn event(&mut self, kind: &str, event: &Json) -> Option<()> {
        match kind {
            "response.output_item.added" => {
                let item = event.get("item")?.as_object()?.clone();
                *self.item(event, "")? = item;
            }
            "response.output_item.done" => {
                let mut item = event.get("item")?.as_object()?.clone();
                item.entry("status").or_insert_with(|| "completed".into());
                *self.item(event, "")? = item;
            }
            "response.output_text.delta" => {
                self.piece(event, "message", ("content", "content_index", "output_text", "text"))?;
            }
            "response.refusal.delta" => {
                self.piece(event, "message", ("content", "content_index", "refusal", "refusal"))?;
            }
            "response.reasoning_summary_text.delta" => {
                self.piece(
                    event,
                    "reasoning",
                    ("summary", "summary_index", "summary_text", "text"),
                )?;
            }
            "response.reasoning_text.delta" => {
                self.piece(
                    event,
                    "reasoning",
                    ("content", "content_index", "reasoning_text", "text"),
                )?;
            }
            "response.function_call_arguments.delta" | "response.mcp_call_arguments.delta" => {
                let delta = text(event, "delta")?;
                append(self.item(event, "function_call")?, "arguments", delta);
            }
            "response.custom_tool_call_input.delta" => {
                let delta = text(event, "delta")?;
                append(self.item(event, "custom_tool_call")?, "input", delta);
            }
            _ => {}
        }
        Some(())
    }
}

impl Fold for Folded {
    fn push(&mut self, document: Json) {
        let kind = text(&document, "type").unwrap_or_default();
        if kind == "error" {
            // Over a WebSocket the error is an object inside, over HTTP its fields stand here.
            let flat = || Failure {
                status: document
                    .get("status")
                    .and_then(Json::as_u64)
                    .and_then(|n| u16::try_from(n).ok()),
                kind: filled(&document, "code").unwrap_or("error").to_owned(),
                message: text(&document, "message").unwrap_or_default().to_owned(),
            };
            let failure = failure_in(&document).unwrap_or_else(flat);
            self.reply.failure.get_or_insert(failure);
            self.reply.complete = true;
            return;
        }
        if let Some(response) = present(&document, "response") {
            return self.response(response);
        }
        if kind.starts_with("response.") {
            self.event(kind, &document);
        } else {
            self.response(&document);
        }
    }

    fn finish(&mut self) -> Reply {
        let mut reply = std::mem::take(&mut self.reply);
        let items: Vec<Json> = std::mem::take(&mut self.items).into_values().collect();
        if !items.is_empty() {
            reply.choices.push(Json::Array(items));
        }
        reply
    }
}

/// Cached tokens are part of the input's here.
fn tokens(usage: &Json) -> Tokens {
    Tokens {
        input: count(usage, &["input_tokens"]),
        cache_read: count(usage, &["input_tokens_details", "cached_tokens"]),
        cache_write: count(usage, &["input_tokens_details", "cache_write_tokens"]),
        cache_write_long: 0,
        output: count(usage, &["output_tokens"]),
        cost: usage.get("cost").and_then(Json::as_f64),
    }
}
