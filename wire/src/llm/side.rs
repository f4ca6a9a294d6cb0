//! Requests that agents make beside the conversation, told by what they ask for.

use super::SideKind;
use super::dialect::Request;
use super::parts::{Entry, Kind};

/// How much of a prompt is looked at.
const LOOKED_AT: usize = 4000;

/// What the request is, if it is beside the conversation.
pub(super) fn kind(request: &Request<'_>) -> Option<SideKind> {
    if request.is_probe && request.tools.is_empty() {
        return Some(SideKind::Probe);
    }
    let is_short = request.entries.len() <= 2 && request.previous.is_none();
    let answered = request.entries.iter().any(|entry| entry.role == "assistant");
    // An agent at work has tools. That the user asks for a title makes no side request: the system prompt has to.
    (is_short && !answered && request.tools.is_empty() && wants_title(&request.rules))
        .then_some(SideKind::Title)
}

fn wants_title(rules: &[Entry<'_>]) -> bool {
    let mut said = String::new();
    for part in rules.iter().flat_map(|entry| &entry.parts) {
        if let Kind::Text(text) = part.kind {
            let room = LOOKED_AT.saturating_sub(said.len());
            said.extend(text.chars().take(room).map(|c| c.to_ascii_lowercase()));
        }
    }
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    has(&["title", "conversation topic"])
        && has(&[
            "generat",
            "extract",
            "concise",
            "summar",
            "short",
            "characters",
            "words",
            "write a",
            "create a",
        ])
        && has(&["title generator", "conversation", "thread", "chat", "session", "message"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Dialect;
    use super::*;

    #[test]
    fn titles_are_asked_for_by_the_system_and_without_tools() {
        let of = |system: &str, user: &str, tools: bool| {
            let tools = if tools { json!([{"name": "t"}]) } else { json!([]) };
            let body = json!({
                "model": "m", "max_tokens": 99, "system": system, "tools": tools, "messages": [{"role": "user", "content": user}],
            });
            kind(&Dialect::Anthropic.request("/v1/messages", &body))
        };
        let titles = [
            "You are a title generator. You output only a thread title.",
            "Analyze if this message indicates a new conversation topic. If it does, extract a 2-3 word title.",
            "Summarize this coding conversation in under 50 characters. Write a short title.",
        ];
        for system in titles {
            assert_eq!(of(system, "fix the tests", false), Some(SideKind::Title), "{system}");
            assert_eq!(of(system, "fix the tests", true), None, "{system}");
        }
        assert_eq!(of("You are helpful.", "Generate a short title for this chat", false), None);
        assert_eq!(of("", "hello", false), None);
    }

    #[test]
    fn one_token_is_no_answer() {
        let body = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "quota"}]});
        assert_eq!(kind(&Dialect::Anthropic.request("", &body)), Some(SideKind::Probe));
        let body = json!({"model": "m"});
        assert_eq!(kind(&Dialect::Ollama.request("/api/generate", &body)), Some(SideKind::Probe));
    }
}
