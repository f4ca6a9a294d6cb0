//! Transcripts of Codex: a line for each item of the conversation, and lines on what a turn runs with and used.

use serde_json::Value as Json;

use super::{Line, Part, Says};
use crate::llm::dialect::Tokens;
use crate::llm::json::{count, filled, present, text};

/// What earlier lines of the file say.
#[derive(Debug, Default)]
pub(super) struct Codex {
    pub model: Option<String>,
    /// What the model is told beside the messages, until it was told.
    prompt: Option<String>,
    /// What the whole conversation had used when a count of tokens came last.
    total: Option<Json>,
    /// There are lines on each answer's use: the counts beside them say it again.
    has_records: bool,
}

impl Codex {
    pub(super) fn line(&mut self, mut json: Json) -> Line {
        let kind = text(&json, "type").unwrap_or_default().to_owned();
        // The first versions had the items bare.
        let payload = match json.get_mut("payload").map(Json::take) {
            Some(payload) => payload,
            None => json,
        };
        let says = match &*kind {
            // Of the first versions this line has no type.
            "session_meta" | "" => {
                let prompt = payload.get("base_instructions").and_then(|it| filled(it, "text"));
                let prompt = prompt.or_else(|| filled(&payload, "instructions"));
                self.prompt = prompt.map(str::to_owned).or(self.prompt.take());
                Says::Nothing
            }
            "turn_context" => {
                self.model = filled(&payload, "model").map(str::to_owned).or(self.model.take());
                Says::Nothing
            }
            "token_usage_record" => {
                self.has_records = true;
                let id = filled(&payload, "response_id").map(str::to_owned);
                present(&payload, "usage")
                    .map_or(Says::Nothing, |usage| Says::Usage { id, tokens: tokens(usage) })
            }
            "event_msg" if text(&payload, "type") == Some("token_count") => self.counted(&payload),
            "event_msg" => Says::Nothing,
            _ => item(payload),
        };
        Line { branch: None, says }
    }

    /// The prompt, once.
    pub(super) fn take_prompt(&mut self) -> Option<String> {
        self.prompt.take()
    }

    /// A count comes after every answer, and again whenever limits change.
    fn counted(&mut self, payload: &Json) -> Says {
        let Some(info) = present(payload, "info").filter(|_| !self.has_records) else {
            return Says::Nothing;
        };
        let total = present(info, "total_token_usage").cloned();
        let Some(last) = present(info, "last_token_usage") else { return Says::Nothing };
        if total.is_some() && total == self.total {
            return Says::Nothing;
        }
        self.total = total;
        Says::Usage { id: None, tokens: tokens(last) }
    }
}

/// An item, in the words of the API; what is none says nothing.
fn item(mut item: Json) -> Says {
    let kind = text(&item, "type").unwrap_or_default();
    let is_answer = match kind {
        "message" => text(&item, "role") == Some("assistant"),
        "reasoning" => true,
        _ if kind.ends_with("_call") => true,
        _ if kind.ends_with("_output") => false,
        _ => return Says::Nothing,
    };
    if let Some(fields) = item.as_object_mut() {
        fields.retain(|name, _| !name.starts_with("internal_"));
    }
    match is_answer {
        true => Says::Part(Box::new(Part { items: vec![item], ..Part::default() })),
        false => Says::Input(item),
    }
}

/// Cached tokens are part of the input's here.
fn tokens(usage: &Json) -> Tokens {
    Tokens {
        input: count(usage, &["input_tokens"]),
        cache_read: count(usage, &["cached_input_tokens"]),
        cache_write: count(usage, &["cache_write_input_tokens"]),
        output: count(usage, &["output_tokens"]),
        ..Tokens::default()
    }
}
