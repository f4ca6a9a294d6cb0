//! OpenAI chat completions, and what imitates them.

use serde_json::{Map, Value as Json, json};

use super::dialect::{Fold, Reply, Request, Tokens, failure_in, numbered, split_rules, tools};
use super::json::{
    NULL, append, as_array, as_object, count, elements, filled, list, object, present, text,
};
use super::parts::{Call, Entry, Kind, Outcome, Part, content_parts};

pub(super) fn request(body: &Json) -> Request<'_> {
    let (rules, entries) = split_rules(numbered(list(body, "messages"), entry));
    let mut tools = tools(body);
    tools.extend(list(body, "functions"));
    let limit = ["max_completion_tokens", "max_tokens"]
        .iter()
        .find_map(|name| present(body, name)?.as_u64());
    Request {
        model: text(body, "model"),
        rules,
        tools,
        messages: body.get("messages"),
        entries,
        is_probe: limit.is_some_and(|limit| limit <= 1),
        ..Request::default()
    }
}

/// A message, of a request or of an answer.
pub(super) fn entry(message: &Json) -> Entry<'_> {
    let role = text(message, "role").unwrap_or("assistant");
    let content = message.get("content").unwrap_or(&NULL);
    let mut parts = Vec::new();
    if matches!(role, "tool" | "function") {
        let result = Outcome {
            id: text(message, "tool_call_id").unwrap_or_default(),
            name: text(message, "name").unwrap_or_default(),
            content,
            error: None,
        };
        // The name is given beside the id by some, and not by others.
        let result = if result.id.is_empty() { result } else { Outcome { name: "", ..result } };
        parts.push(Part::new(Kind::Result(result), None));
    } else {
        content_parts(content, &mut parts);
        if let Some(refusal) = filled(message, "refusal") {
            parts.push(Part::new(Kind::Text(refusal), None));
        }
        if let Some(audio) = present(message, "audio") {
            parts.push(Part::new(Kind::Block(audio), None));
        }
        let old = present(message, "function_call");
        for call in list(message, "tool_calls") {
            let id = text(call, "id").unwrap_or_default();
            let of = call.get("function").or_else(|| call.get("custom")).unwrap_or(&NULL);
            parts.push(Part::new(Kind::Call(function(id, of)), None));
        }
        parts.extend(old.map(|call| Part::new(Kind::Call(function("", call)), None)));
    }
    let role = match role {
        "developer" => "system",
        "function" => "tool",
        role => role,
    };
    Entry { role, index: None, content, is_item: false, fields: message.as_object(), parts }
}

fn function<'a>(id: &'a str, of: &'a Json) -> Call<'a> {
    let arguments = of.get("arguments").or_else(|| of.get("input")).unwrap_or(&NULL);
    // What was cut off in a stream is no JSON yet; the input of custom tools is any text.
    let is_json = |text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let whole = of.get("input").is_some() || arguments.as_str().is_none_or(is_json);
    Call { id, name: text(of, "name").unwrap_or_default().to_owned(), arguments, whole }
}

/// An answer in the making. Chunks bring deltas of the choices; a whole answer brings messages.
#[derive(Default)]
pub(super) struct Folded {
    reply: Reply,
    choices: Vec<Json>,
}

/// Choices of one answer that are kept. Their number is the client's wish, but the server's bytes.
const MAX_CHOICES: usize = 128;

/// Parallel calls of one answer.
const MAX_CALLS: usize = 4096;

impl Fold for Folded {
    fn push(&mut self, document: Json) {
        let reply = &mut self.reply;
        if let Some(failure) = failure_in(&document) {
            reply.failure.get_or_insert(failure);
        }
        for (name, field) in [("id", &mut reply.id), ("model", &mut reply.model)] {
            if let Some(said) = filled(&document, name) {
                field.get_or_insert_with(|| said.to_owned());
            }
        }
        if let Some(usage) = present(&document, "usage") {
            reply.tokens = Some(tokens(usage));
        }
        for choice in list(&document, "choices") {
            let number = choice.get("index").and_then(Json::as_u64).unwrap_or(0);
            let Ok(number @ 0..MAX_CHOICES) = usize::try_from(number) else { continue };
            while self.choices.len() <= number {
                self.choices.push(json!({"role": "assistant"}));
            }
            let message = as_object(&mut self.choices[number]);
            if let Some(whole) = choice.get("message").and_then(Json::as_object) {
                message.extend(whole.iter().map(|(name, field)| (name.clone(), field.clone())));
            }
            if let Some(delta) = choice.get("delta").and_then(Json::as_object) {
                add(message, delta);
            }
            if let Some(reason) = filled(choice, "finish_reason") {
                reply.finish.get_or_insert_with(|| reason.to_owned());
                reply.complete = true;
            }
        }
    }

    fn finish(&mut self) -> Reply {
        let mut reply = std::mem::take(&mut self.reply);
        reply.choices = std::mem::take(&mut self.choices);
        let says = |message: &Json| message.as_object().is_some_and(|fields| fields.len() > 1);
        reply.choices.retain(says);
        reply
    }
}

/// Adds a chunk's delta to a message.
fn add(message: &mut Map<String, Json>, delta: &Map<String, Json>) {
    for (name, field) in delta {
        match (name.as_str(), field) {
            (_, Json::Null) | ("role", _) => {}
            ("tool_calls", calls) => {
                let whole = as_array(message.entry("tool_calls").or_insert(Json::Null));
                for call in elements(calls) {
                    let number = call.get("index").and_then(Json::as_u64);
                    let number =
                        number.map_or(whole.len(), |n| usize::try_from(n).unwrap_or(MAX_CALLS));
                    if number >= MAX_CALLS {
                        continue;
                    }
                    while whole.len() <= number {
                        whole.push(json!({}));
                    }
                    add_call(as_object(&mut whole[number]), call);
                }
            }
            ("function_call", call) => add_named(object(message, "function_call"), call),
            // `reasoning_content` and its kin come in pieces as the content does.
            (name, Json::String(more)) => append(message, name, more),
            (name, Json::Array(more)) => {
                as_array(message.entry(name).or_insert(Json::Null)).extend(more.iter().cloned());
            }
            (name, other) => {
                message.insert(name.to_owned(), other.clone());
            }
        }
    }
}

fn add_call(call: &mut Map<String, Json>, delta: &Json) {
    for name in ["id", "type"] {
        if let Some(said) = filled(delta, name) {
            call.insert(name.to_owned(), said.into());
        }
    }
    for name in ["function", "custom"] {
        if let Some(delta) = present(delta, name) {
            add_named(object(call, name), delta);
        }
    }
}

fn add_named(of: &mut Map<String, Json>, delta: &Json) {
    for name in ["name", "arguments", "input"] {
        match delta.get(name) {
            // A name comes whole; some servers repeat it in every chunk.
            Some(Json::String(said)) if name == "name" && !said.is_empty() => {
                of.insert(name.to_owned(), said.as_str().into());
            }
            Some(Json::String(more)) if name != "name" => append(of, name, more),
            Some(Json::Object(whole)) => {
                of.insert(name.to_owned(), Json::Object(whole.clone()));
            }
            _ => {}
        }
    }
}

/// Cached tokens are part of the prompt's here.
pub(super) fn tokens(usage: &Json) -> Tokens {
    let cached = count(usage, &["prompt_tokens_details", "cached_tokens"]);
    Tokens {
        input: count(usage, &["prompt_tokens"]),
        // DeepSeek's name for it.
        cache_read: cached.max(count(usage, &["prompt_cache_hit_tokens"])),
        cache_write: count(usage, &["prompt_tokens_details", "cache_write_tokens"]),
        cache_write_long: 0,
        output: count(usage, &["completion_tokens"]),
        cost: usage.get("cost").and_then(Json::as_f64),
    }
}
