//! Anthropic messages.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::dialect::{Fold, Reply, Request, Tokens, failure_in, numbered, tools};
use super::json::{NULL, append, as_array, as_object, count, filled, list, present, text};
use super::parts::{Call, Entry, Kind, Outcome, Part, block_kind, content_parts};

/// A block with which one client begins its system prompt. It differs from request to request.
const BILLING: &str = "x-anthropic-billing-header";

pub(super) fn request(body: &Json) -> Request<'_> {
    let system = present(body, "system");
    let mut parts = Vec::new();
    content_parts(system.unwrap_or(&NULL), &mut parts);
    parts.retain(|part| !matches!(part.kind, Kind::Text(text) if text.starts_with(BILLING)));
    let rules = system.map(|content| Entry {
        role: "system",
        index: None,
        content,
        is_item: false,
        fields: None,
        parts,
    });
    Request {
        model: text(body, "model"),
        system,
        rules: rules.into_iter().collect(),
        tools: tools(body),
        messages: body.get("messages"),
        entries: numbered(list(body, "messages"), entry),
        previous: None,
        is_probe: body.get("max_tokens").and_then(Json::as_u64).is_some_and(|limit| limit <= 1),
    }
}

/// A message, of a request or of an answer.
pub(super) fn entry(message: &Json) -> Entry<'_> {
    let content = message.get("content").unwrap_or(&NULL);
    let mut parts = Vec::new();
    match content {
        Json::Array(blocks) => blocks.iter().for_each(|block| block_parts(block, &mut parts)),
        other => content_parts(other, &mut parts),
    }
    let role = text(message, "role").unwrap_or("assistant");
    Entry { role, index: None, content, is_item: false, fields: None, parts }
}

fn block_parts<'a>(block: &'a Json, parts: &mut Vec<Part<'a>>) {
    let kind = text(block, "type").unwrap_or_default();
    let id = text(block, "id").unwrap_or_default();
    match kind {
        // Those of servers are run by the provider, and their results come in the same answer.
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            let arguments = block.get("input").unwrap_or(&NULL);
            let call = Call {
                id,
                name: text(block, "name").unwrap_or_default().to_owned(),
                arguments,
                // A text is what was cut off: see `Folded::finish`.
                whole: !arguments.is_string(),
            };
            parts.push(Part::new(Kind::Call(call), Some(block)));
        }
        _ if kind.ends_with("tool_result") && text(block, "tool_use_id").is_some() => {
            let content = block.get("content").unwrap_or(&NULL);
            let failed = block.get("is_error").and_then(Json::as_bool).unwrap_or(false);
            let result = Outcome {
                id: text(block, "tool_use_id").unwrap_or_default(),
                name: "",
                content,
                error: failed.then(|| said(content)),
            };
            parts.push(Part::new(Kind::Result(result), Some(block)));
        }
        _ => parts.push(Part::new(block_kind(block), Some(block))),
    }
}

/// The text of a failed tool's result.
fn said(content: &Json) -> String {
    match content {
        Json::String(text) => text.clone(),
        Json::Array(blocks) => {
            blocks.iter().filter_map(|block| text(block, "text")).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// An answer in the making: a whole message, or the events of one.
#[derive(Default)]
pub(super) struct Folded {
    reply: Reply,
    message: Option<Map<String, Json>>,
    blocks: BTreeMap<u64, Block>,
    usage: Map<String, Json>,
}

#[derive(Default)]
struct Block {
    block: Map<String, Json>,
    /// The pieces of a call's arguments.
    input: String,
    stopped: bool,
}

/// Blocks of one message.
const MAX_BLOCKS: usize = 1 << 16;

impl Folded {
    fn use_up(&mut self, usage: &Json) {
        // Numbers of later events stand for the whole message; what is null in them is unchanged.
        let said = usage.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        self.usage.extend(said.map(|(name, value)| (name.clone(), value.clone())));
    }

    fn begin(&mut self, message: &Json) {
        self.reply.id = filled(message, "id").map(str::to_owned);
        self.reply.model = filled(message, "model").map(str::to_owned);
        if let Some(usage) = present(message, "usage") {
            self.use_up(usage);
        }
        self.stop(message);
        self.message = message.as_object().cloned();
    }

    fn stop(&mut self, with: &Json) {
        if let Some(reason) = filled(with, "stop_reason") {
            self.reply.finish = Some(reason.to_owned());
        }
    }

    fn block(&mut self, event: &Json) -> Option<&mut Block> {
        let number = event.get("index").and_then(Json::as_u64)?;
        let is_new = !self.blocks.contains_key(&number);
        if is_new && self.blocks.len() >= MAX_BLOCKS {
            return None;
        }
        Some(self.blocks.entry(number).or_default())
    }

    fn delta(&mut self, event: &Json) -> Option<()> {
        let delta = event.get("delta")?;
        let block = self.block(event)?;
        for (kind, field) in [
            ("text_delta", "text"),
            ("thinking_delta", "thinking"),
            ("signature_delta", "signature"),
        ] {
            if text(delta, "type") == Some(kind) {
                append(&mut block.block, field, text(delta, field)?);
            }
        }
        match text(delta, "type")? {
            "input_json_delta" => {
                block.input.push_str(text(delta, "partial_json")?);
            }
            "citations_delta" => {
                let citations = block.block.entry("citations").or_insert(Json::Null);
                as_array(citations).push(delta.get("citation")?.clone());
            }
            _ => {}
        }
        Some(())
    }
}

impl Fold for Folded {
    fn push(&mut self, document: Json) {
        match text(&document, "type").unwrap_or_default() {
            "message" => {
                self.begin(&document);
                self.reply.complete = true;
            }
            "message_start" => self.begin(document.get("message").unwrap_or(&NULL)),
            "content_block_start" => {
                let start = document.get("content_block").and_then(Json::as_object).cloned();
                if let (Some(start), Some(block)) = (start, self.block(&document)) {
                    block.block = start;
                }
            }
            "content_block_delta" => _ = self.delta(&document),
            "content_block_stop" => {
                if let Some(block) = self.block(&document) {
                    block.stopped = true;
                }
            }
            "message_delta" => {
                self.stop(document.get("delta").unwrap_or(&NULL));
                if let Some(usage) = present(&document, "usage") {
                    self.use_up(usage);
                }
            }
            "message_stop" => self.reply.complete = true,
            _ => {}
        }
        if let Some(failure) = failure_in(&document) {
            self.reply.failure.get_or_insert(failure);
        }
    }

    fn finish(&mut self) -> Reply {
        let mut reply = std::mem::take(&mut self.reply);
        if !self.usage.is_empty() {
            reply.tokens = Some(tokens(&Json::Object(std::mem::take(&mut self.usage))));
        }
        let blocks: Vec<Json> =
            std::mem::take(&mut self.blocks).into_values().map(Block::whole).collect();
        if let Some(message) = self.message.take() {
            let mut message = Json::Object(message);
            if !blocks.is_empty() {
                as_object(&mut message).insert("content".to_owned(), Json::Array(blocks));
            }
            if message.get("content").is_some_and(|content| content != &Json::Array(Vec::new())) {
                reply.choices.push(message);
            }
        }
        reply
    }
}

impl Block {
    /// With its arguments as JSON, or, where they were cut off, as the text that came.
    fn whole(self) -> Json {
        let Self { mut block, input, stopped } = self;
        if !input.is_empty() || (!stopped && block.contains_key("input")) {
            let parsed = if stopped { serde_json::from_str(&input).ok() } else { None };
            block.insert("input".to_owned(), parsed.unwrap_or(Json::String(input)));
        }
        Json::Object(block)
    }
}

/// Tokens that were read from or written to the cache are not part of `input_tokens` here.
pub(super) fn tokens(usage: &Json) -> Tokens {
    let cache_read = count(usage, &["cache_read_input_tokens"]);
    let cache_write = count(usage, &["cache_creation_input_tokens"]);
    let input = count(usage, &["input_tokens"]);
    Tokens {
        input: input.saturating_add(cache_read).saturating_add(cache_write),
        cache_read,
        cache_write,
        cache_write_long: count(usage, &["cache_creation", "ephemeral_1h_input_tokens"]),
        output: count(usage, &["output_tokens"]),
        cost: usage.get("cost").and_then(Json::as_f64),
    }
}
