//! Transcripts of Claude Code: a line for each message to the model and for each block of an answer.

use serde_json::Value as Json;

use super::{Line, Part, Says};
use crate::llm::anthropic::tokens;
use crate::llm::json::{elements, filled, present, text};

/// The model of what the agent itself put in the model's mouth, such as a notice that a request failed.
const NOBODY: &str = "<synthetic>";

pub(super) fn line(mut json: Json) -> Line {
    let is_beside = json.get("isSidechain").and_then(Json::as_bool).unwrap_or(false);
    let branch = is_beside.then(|| filled(&json, "agentId").unwrap_or("sidechain").to_owned());
    let is_answer = match text(&json, "type") {
        Some("user") => false,
        Some("assistant") => true,
        _ => return Line::default(),
    };
    let Some(message) = json.get_mut("message").map(Json::take).filter(Json::is_object) else {
        return Line::default();
    };
    let model = filled(&message, "model");
    if !is_answer || model == Some(NOBODY) {
        return Line { branch, says: Says::Input(message) };
    }
    // Each block of an answer is a line, and each line has all but the other blocks.
    let content = message.get("content").unwrap_or(&Json::Null);
    let part = Part {
        id: filled(&message, "id").map(str::to_owned),
        model: model.map(str::to_owned),
        finish: filled(&message, "stop_reason").map(str::to_owned),
        items: match content.as_str() {
            Some(text) => vec![serde_json::json!({"type": "text", "text": text})],
            None => elements(content).to_vec(),
        },
        tokens: present(&message, "usage").map(tokens),
    };
    Line { branch, says: Says::Part(Box::new(part)) }
}
