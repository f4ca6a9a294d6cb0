//! What every dialect's messages come down to: entries of a list, each with parts that can be compared.

use agentrec_trace::event::{Message, Payload};
use serde_json::{Map, Value as Json};

use super::json::{self, bare, canonical, canonical_block};

/// One element of a request's list of messages, or of an answer.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'a str,
    /// Where it stands in the request's list.
    pub index: Option<u32>,
    /// Text or blocks, as they came.
    pub content: &'a Json,
    /// It is itself the content: an item that has none.
    pub is_item: bool,
    /// The object whose other fields go with the content, where they mean something.
    pub fields: Option<&'a Map<String, Json>>,
    /// What it says.
    pub parts: Vec<Part<'a>>,
}

/// Something that a message says.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// What it is.
    pub kind: Kind<'a>,
    /// The block of the content that it stands in.
    pub block: Option<&'a Json>,
}

#[derive(Debug)]
pub(super) enum Kind<'a> {
    Text(&'a str),
    /// Never compared: clients leave it out of what they repeat.
    Reasoning,
    Call(Call<'a>),
    Result(Outcome<'a>),
    /// An image, a document, whatever this version does not know.
    Block(&'a Json),
}

/// A tool is to be called.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// Empty where the API has none.
    pub id: &'a str,
    pub name: String,
    pub arguments: &'a Json,
    /// Nothing of it is missing.
    pub whole: bool,
}

/// What a tool returned.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    /// Empty where the API has none.
    pub id: &'a str,
    pub name: &'a str,
    pub content: &'a Json,
    pub error: Option<String>,
}

impl<'a> Part<'a> {
    pub(super) fn new(kind: Kind<'a>, block: Option<&'a Json>) -> Self {
        Self { kind, block }
    }
}

/// Names a part, so that it is known again in another form.
pub(super) type Key = [u8; 16];

/// A part that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub key: Key,
    /// Which message it belongs to, by its position.
    pub entry: u32,
    /// It came in a response.
    pub heard: bool,
    /// The model wrote it.
    pub by_model: bool,
}

/// A part of a request's list that can be compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed {
    pub key: Key,
    /// Which entry, and which of its parts.
    pub entry: usize,
    pub part: usize,
    pub by_model: bool,
}

/// The key of bytes.
pub(super) fn key_of(bytes: &[u8]) -> Key {
    let hash = blake3::hash(bytes);
    let mut key = Key::default();
    key.copy_from_slice(&hash.as_bytes()[..16]);
    key
}

/// The key under which the result of a call is known, whatever it says.
pub(super) fn id_key(id: &str) -> Key {
    key_of(&[b"id\0", id.as_bytes()].concat())
}

/// The keys of all that can be compared. Neighbouring texts of the model count as one: a stream cuts them anywhere.
pub(super) fn keys(entries: &[Entry<'_>]) -> Vec<Keyed> {
    let mut found: Vec<Keyed> = Vec::new();
    let mut buffer = Vec::new();
    // The text of the model that the last of `found` stands for.
    let mut running: Option<Vec<u8>> = None;
    for (number, entry) in entries.iter().enumerate() {
        let by_model = entry.role == "assistant";
        for (part_number, part) in entry.parts.iter().enumerate() {
            buffer.clear();
            match &part.kind {
                Kind::Reasoning => continue,
                Kind::Text(text) if text.trim_ascii().is_empty() => continue,
                Kind::Text(text) => {
                    let text_of = |running: Option<&Vec<u8>>, buffer: &mut Vec<u8>| {
                        buffer.extend_from_slice(running.map_or(&[][..], |text| text));
                        buffer.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
                    };
                    if by_model {
                        let mut whole = Vec::new();
                        text_of(running.as_ref(), &mut whole);
                        buffer.extend_from_slice(b"said\0");
                        buffer.extend_from_slice(&whole);
                        let key = key_of(&buffer);
                        if running.replace(whole).is_some()
                            && let Some(last) = found.last_mut()
                        {
                            last.key = key;
                            continue;
                        }
                        found.push(Keyed { key, entry: number, part: part_number, by_model });
                        continue;
                    }
                    buffer.extend_from_slice(if entry.role == "system" {
                        b"rule\0"
                    } else {
                        b"text\0"
                    });
                    text_of(None, &mut buffer);
                }
                Kind::Call(call) if !call.id.is_empty() => {
                    buffer.extend_from_slice(b"call\0");
                    buffer.extend_from_slice(call.id.as_bytes());
                }
                Kind::Call(call) => {
                    buffer.extend_from_slice(b"call of\0");
                    bare(&call.name, &mut buffer);
                    canonical(&json::arguments(call.arguments), &mut buffer);
                }
                Kind::Result(result) => {
                    buffer.extend_from_slice(b"result\0");
                    bare(result.id, &mut buffer);
                    bare(result.name, &mut buffer);
                    outcome(result.content, &mut buffer);
                }
                Kind::Block(block) => {
                    buffer.extend_from_slice(b"block\0");
                    canonical_block(block, &mut buffer);
                }
            }
            running = None;
            found.push(Keyed { key: key_of(&buffer), entry: number, part: part_number, by_model });
        }
        if !by_model && !entry.parts.is_empty() {
            running = None;
        }
    }
    found
}

/// A result, whose text may stand in blocks or not.
fn outcome(content: &Json, out: &mut Vec<u8>) {
    let text_of = |block: &'_ Json| block.get("text").and_then(Json::as_str).map(str::to_owned);
    match content {
        Json::Array(blocks) if blocks.iter().all(|block| text_of(block).is_some()) => {
            let texts: Vec<_> = blocks.iter().filter_map(text_of).collect();
            bare(&texts.concat(), out);
        }
        other => canonical(other, out),
    }
}

impl Entry<'_> {
    /// The message for an event: whole, or the blocks alone that `chosen` picks by their parts.
    pub(super) fn message(&self, chosen: impl Fn(usize) -> bool) -> Message<'static> {
        let all = (0..self.parts.len()).all(&chosen);
        let blocks: Option<Vec<&Json>> = (0..self.parts.len())
            .filter(|part| chosen(*part))
            .map(|part| self.parts[part].block)
            .collect();
        let content = match blocks {
            Some(blocks) if !all && self.content.is_array() => {
                let mut kept: Vec<Json> = Vec::new();
                let mut last: Option<*const Json> = None;
                for block in blocks {
                    // A block may have two parts: a call that the provider ran, and its result.
                    if last.replace(std::ptr::from_ref(block)) != Some(std::ptr::from_ref(block)) {
                        kept.push(block.clone());
                    }
                }
                Json::Array(kept)
            }
            _ if self.is_item => Json::Array(vec![self.content.clone()]),
            _ => self.content.clone(),
        };
        let extra: Vec<_> = self
            .fields
            .into_iter()
            .flatten()
            .filter(|(name, value)| {
                !matches!(name.as_str(), "role" | "content") && !value.is_null()
            })
            .map(|(name, field)| (name.as_str().into(), json::value(field.clone())))
            .collect();
        Message {
            role: self.role.to_owned().into(),
            content: Payload::Inline(json::value(content)),
            index: self.index,
            extra: if extra.is_empty() {
                Payload::default()
            } else {
                Payload::Inline(agentrec_trace::Value::Map(extra))
            },
            ..Message::default()
        }
    }
}

/// The parts of content as most APIs have it: a text, or blocks with a `type`.
pub(super) fn content_parts<'a>(content: &'a Json, parts: &mut Vec<Part<'a>>) {
    match content {
        Json::Null => {}
        Json::String(text) => parts.push(Part::new(Kind::Text(text), None)),
        Json::Array(blocks) => {
            parts.extend(blocks.iter().map(|block| Part::new(block_kind(block), Some(block))));
        }
        other => parts.push(Part::new(Kind::Block(other), None)),
    }
}

/// What a block of content is, where that needs no knowledge of the API.
pub(super) fn block_kind(block: &Json) -> Kind<'_> {
    match (json::text(block, "type"), json::text(block, "text"), block) {
        (_, _, Json::String(text)) => Kind::Text(text),
        (Some("text" | "input_text" | "output_text"), Some(text), _) => Kind::Text(text),
        (Some("refusal"), _, _) => Kind::Text(json::text(block, "refusal").unwrap_or_default()),
        (Some("thinking" | "redacted_thinking" | "reasoning" | "reasoning_text"), _, _) => {
            Kind::Reasoning
        }
        _ => Kind::Block(block),
    }
}
