//! Real clients of every dialect (tests/llm/record.py): what a tracker tells of their sessions is what the golden files say.
//!
//! After a change that is meant, `AGENTREC_GOLDEN=write cargo test -p agentrec-wire --test dialects` writes them anew;
//! read the difference before it is committed.

use std::path::PathBuf;

use agentrec_trace::json::{from_value, to_json};
use agentrec_trace::{Data, Event, Source};
use agentrec_wire::llm::{Answered, AskId, Asked, Dialect, Mcp, Speaker, Told, Tracker};
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

/// Everything that a dialect must have shown in a recording.
const FEATURES: [Feature; 9] = [
    Feature::Plain,
    Feature::Stream,
    Feature::ParallelCalls,
    Feature::Results,
    Feature::Image,
    Feature::Reasoning,
    Feature::Error,
    Feature::Cut,
    Feature::CachedTokens,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Feature {
    /// An answer in one document.
    Plain,
    /// An answer in pieces.
    Stream,
    /// Two calls in one answer.
    ParallelCalls,
    /// What tools returned.
    Results,
    Image,
    /// Thoughts of the model.
    Reasoning,
    /// A status that is an error, and the same asked again.
    Error,
    /// An answer that is not whole.
    Cut,
    /// Tokens read from a cache, and what they cost.
    CachedTokens,
}

/// Where a feature of a dialect is shown: the recording, or why there is none.
const TABLE: [(Dialect, Feature, Result<&str, &str>); 45] = [
    (Dialect::Chat, Feature::Plain, Ok("openai-chat")),
    (Dialect::Chat, Feature::Stream, Ok("openai-chat")),
    (Dialect::Chat, Feature::ParallelCalls, Ok("openai-chat")),
    (Dialect::Chat, Feature::Results, Ok("openai-chat")),
    (Dialect::Chat, Feature::Image, Ok("openai-chat")),
    (Dialect::Chat, Feature::Reasoning, Err("this API keeps it to itself")),
    (Dialect::Chat, Feature::Error, Ok("openai-chat")),
    (Dialect::Chat, Feature::Cut, Ok("openai-chat")),
    (Dialect::Chat, Feature::CachedTokens, Ok("openai-chat")),
    (Dialect::Responses, Feature::Plain, Ok("openai-responses")),
    (Dialect::Responses, Feature::Stream, Ok("openai-websocket")),
    (Dialect::Responses, Feature::ParallelCalls, Ok("openai-agents")),
    (Dialect::Responses, Feature::Results, Ok("openai-responses")),
    (Dialect::Responses, Feature::Image, Ok("openai-responses")),
    (Dialect::Responses, Feature::Reasoning, Ok("openai-websocket")),
    (Dialect::Responses, Feature::Error, Ok("openai-responses")),
    (Dialect::Responses, Feature::Cut, Ok("openai-responses")),
    (Dialect::Responses, Feature::CachedTokens, Ok("openai-responses")),
    (Dialect::Anthropic, Feature::Plain, Ok("anthropic-messages")),
    (Dialect::Anthropic, Feature::Stream, Ok("anthropic-messages")),
    (Dialect::Anthropic, Feature::ParallelCalls, Ok("anthropic-messages")),
    (Dialect::Anthropic, Feature::Results, Ok("anthropic-messages")),
    (Dialect::Anthropic, Feature::Image, Ok("anthropic-messages")),
    (Dialect::Anthropic, Feature::Reasoning, Ok("anthropic-messages")),
    (Dialect::Anthropic, Feature::Error, Ok("anthropic-messages")),
    (Dialect::Anthropic, Feature::Cut, Ok("anthropic-messages")),
    (Dialect::Anthropic, Feature::CachedTokens, Ok("anthropic-messages")),
    (Dialect::Gemini, Feature::Plain, Ok("gemini")),
    (Dialect::Gemini, Feature::Stream, Ok("gemini")),
    (Dialect::Gemini, Feature::ParallelCalls, Ok("gemini")),
    (Dialect::Gemini, Feature::Results, Ok("gemini")),
    (Dialect::Gemini, Feature::Image, Ok("gemini")),
    (Dialect::Gemini, Feature::Reasoning, Ok("gemini")),
    (Dialect::Gemini, Feature::Error, Ok("gemini")),
    (Dialect::Gemini, Feature::Cut, Ok("gemini")),
    (Dialect::Gemini, Feature::CachedTokens, Ok("gemini")),
    (Dialect::Ollama, Feature::Plain, Ok("ollama")),
    (Dialect::Ollama, Feature::Stream, Ok("ollama")),
    (Dialect::Ollama, Feature::ParallelCalls, Ok("ollama")),
    (Dialect::Ollama, Feature::Results, Ok("ollama")),
    (Dialect::Ollama, Feature::Image, Ok("ollama")),
    (Dialect::Ollama, Feature::Reasoning, Ok("ollama")),
    (Dialect::Ollama, Feature::Error, Ok("ollama")),
    (Dialect::Ollama, Feature::Cut, Ok("ollama")),
    (Dialect::Ollama, Feature::CachedTokens, Err("it counts none, and costs nothing")),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/llm")
}

fn recordings() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned)).collect();
    names.sort();
    names
}

fn recording(name: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(folder().join(format!("{name}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(line: &'a Json, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

/// Plays a recording, and gives what came of it.
fn play(lines: &[Json]) -> Vec<Json> {
    let mut tracker = Tracker::default();
    let mut mcp = Mcp::default();
    let mut asks: Vec<(u64, AskId)> = Vec::new();
    let mut came = Vec::new();
    for line in lines {
        if let Some(number) = line["ask"].as_u64() {
            let asked = tracker.request(
                text(line, "method"),
                text(line, "url"),
                text(line, "body").as_bytes(),
            );
            let asked = asked.unwrap_or_else(|| panic!("no request to a model: {line}"));
            asks.push((number, asked.id));
            came.push(asked_json(&asked));
        } else if let Some(number) = line["answer"].as_u64() {
            let (_, id) = asks.iter().find(|(ask, _)| *ask == number).unwrap();
            let status = line["status"].as_u64().and_then(|status| u16::try_from(status).ok());
            let body = text(line, "body").as_bytes();
            let (stream, whole) = (line["stream"] == true, line["whole"] == true);
            came.push(answered_json(&tracker.response(*id, status, body, stream, whole)));
        } else if line["pipe"].is_u64() {
            let from =
                if text(line, "from") == "client" { Speaker::Client } else { Speaker::Server };
            let message = text(line, "message").as_bytes();
            came.extend(mcp.lines(1, from, message).iter().map(told_json));
        } else if line["closed"] == true {
            came.extend(tracker.socket_closed(1).iter().map(answered_json));
        } else {
            let message = text(line, "message").as_bytes();
            let from_client = text(line, "from") == "client";
            let told = tracker.socket_message(1, text(line, "url"), from_client, message);
            came.extend(told.asked.as_ref().map(asked_json));
            came.extend(told.answered.as_ref().map(answered_json));
        }
    }
    came
}

fn told_json(told: &Told) -> Json {
    let data: Data<'static> = match told.clone() {
        Told::Message(message) => message.into(),
        Told::Call(call) => call.into(),
        Told::Result(result) => result.into(),
        Told::Usage(usage) => usage.into(),
        Told::Dropped(dropped) => {
            let how = dropped.how.as_str();
            return json!({ "dropped": {"how": how, "messages": dropped.messages, "index": dropped.index} });
        }
    };
    let event = to_json(&Event::new(0, Source::Wire, data)).unwrap();
    json!({ event["type"].as_str().unwrap(): event["data"] })
}

/// The fields that hold something.
fn filled(fields: Json) -> Json {
    let Json::Object(fields) = fields else { return fields };
    let empty =
        |value: &Json| value.is_null() || value == &json!([]) || value == &Json::Bool(false);
    Json::Object(fields.into_iter().filter(|(_, value)| !empty(value)).collect::<Map<_, _>>())
}

fn asked_json(asked: &Asked) -> Json {
    let names = |tools: &Json| {
        let name = |tool: &Json| {
            tool["name"].as_str().or(tool["function"]["name"].as_str()).unwrap_or("?").to_owned()
        };
        tools.as_array().map(|tools| tools.iter().map(name).collect::<Vec<_>>())
    };
    let messages = from_value(&asked.messages);
    json!({ "asked": filled(json!({
        "id": format!("{:?}", asked.id), "conversation": asked.conversation, "is_new": asked.is_new, "branch_of": asked.branch_of,
        "side": asked.side.map(|side| side.as_str()), "dialect": asked.dialect.map(|dialect| dialect.as_str()),
        "model": asked.model, "system_prompt": from_value(&asked.system_prompt), "tools": names(&from_value(&asked.tools)),
        "messages": messages.as_array().map(Vec::len), "partial": asked.partial, "repeats": asked.repeats,
        "told": asked.told.iter().map(told_json).collect::<Vec<_>>(),
    })) })
}

fn answered_json(answered: &Answered) -> Json {
    let failure = answered.failure.as_ref().map(|failure| {
        json!({"status": failure.status, "kind": failure.kind, "message": failure.message})
    });
    json!({ "answered": filled(json!({
        "id": format!("{:?}", answered.id), "conversation": answered.conversation, "side": answered.side.map(|side| side.as_str()),
        "model": answered.model, "finish": answered.finish, "failure": failure, "incomplete": answered.incomplete,
        "told": answered.told.iter().map(told_json).collect::<Vec<_>>(),
    })) })
}

#[test]
fn sessions_are_told_as_the_golden_files_say() {
    let write = std::env::var_os("AGENTREC_GOLDEN").is_some_and(|value| value == "write");
    for name in recordings() {
        let came = play(&recording(&name));
        let came: String = came.iter().map(|line| format!("{line:#}\n")).collect();
        let path = folder().join(format!("{name}.golden"));
        if write {
            std::fs::write(&path, came).unwrap();
            continue;
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        for (number, (came, golden)) in came.lines().zip(golden.lines()).enumerate() {
            assert_eq!(came, golden, "{name}.golden:{}; see the head of this file", number + 1);
        }
        assert_eq!(came.len(), golden.len(), "{name}.golden");
    }
}

#[test]
fn every_dialect_shows_every_feature_in_a_recording() {
    for dialect in Dialect::ALL {
        for feature in FEATURES {
            let row = TABLE.iter().find(|(d, f, _)| (*d, *f) == (dialect, feature));
            let (.., shown) = row.unwrap_or_else(|| panic!("no row for {dialect:?} {feature:?}"));
            let Ok(name) = shown else { continue };
            let lines = recording(name);
            assert!(
                shows(feature, dialect, &lines),
                "{name} does not show {feature:?} of {dialect:?}"
            );
        }
    }
}

fn shows(feature: Feature, dialect: Dialect, lines: &[Json]) -> bool {
    let came = play(lines);
    let asked: Vec<_> =
        came.iter().filter(|came| came["asked"]["dialect"] == dialect.as_str()).collect();
    let is_ours = |answered: &&Json| {
        asked.iter().any(|asked| asked["asked"]["id"] == answered["answered"]["id"])
    };
    let answered: Vec<_> =
        came.iter().filter(|came| came["answered"].is_object()).filter(is_ours).collect();
    let told = |came: &Json, kind: &str| -> Vec<Json> {
        let told = came["answered"]["told"].as_array().or(came["asked"]["told"].as_array());
        told.into_iter().flatten().map(|told| told[kind].clone()).filter(Json::is_object).collect()
    };
    let says = |all: &[&Json], words: &[&str]| {
        let all: Vec<_> = all
            .iter()
            .flat_map(|came| told(came, "message"))
            .map(|told| told.to_string())
            .collect();
        all.iter().any(|told| words.iter().any(|word| told.contains(word)))
    };
    let streamed = |is: bool| {
        let streams = lines.iter().filter(|line| line["answer"].is_u64() && line["status"] == 200);
        let is_stream =
            |line: &Json| line["stream"] == true || text(line, "body").lines().count() > 1;
        streams.filter(|line| is_stream(line) == is).count() > 0
            || (is && lines[0]["socket"].is_u64())
    };
    match feature {
        Feature::Plain => {
            streamed(false) && answered.iter().any(|came| !told(came, "message").is_empty())
        }
        Feature::Stream => {
            streamed(true) && answered.iter().any(|came| !told(came, "message").is_empty())
        }
        Feature::ParallelCalls => answered.iter().any(|came| told(came, "tool.call").len() == 2),
        Feature::Results => asked.iter().any(|came| told(came, "tool.result").len() == 2),
        Feature::Image => says(&asked, &["iVBORw0KGgo"]),
        Feature::Reasoning => says(&answered, &["\"thinking\"", "\"reasoning\"", "\"thought\""]),
        Feature::Error => {
            let status = |came: &&Json| came["answered"]["failure"]["status"].is_u64();
            answered.iter().any(status)
                && answered.iter().all(|came| !status(came) || told(came, "message").is_empty())
        }
        Feature::Cut => answered.iter().any(|came| came["answered"]["incomplete"].is_string()),
        Feature::CachedTokens => {
            let usage = |came: &&&Json| {
                told(came, "usage")
                    .iter()
                    .any(|it| it["cache_read"].is_u64() && it["cost"].is_f64())
            };
            answered.iter().any(|came| usage(&came))
        }
    }
}

#[test]
fn a_response_that_is_cut_anywhere_tells_the_beginning_of_the_same() {
    let words = |came: &[Json]| -> String {
        let told = came[1]["answered"]["told"].as_array().cloned().unwrap_or_default();
        let messages = told.iter().filter(|told| told["message"].is_object());
        messages.map(|told| said(&told["message"]["content"]["inline"])).collect()
    };
    let mut seen = 0;
    for name in recordings() {
        let lines = recording(&name);
        let streams = lines.iter().filter(|line| line["stream"] == true && line["whole"] == true);
        for answer in streams {
            let ask = lines.iter().find(|line| line["ask"] == answer["answer"]).unwrap();
            let mut pair = [ask.clone(), answer.clone()];
            let whole = words(&play(&pair));
            seen += usize::from(!whole.is_empty());
            let body = text(answer, "body");
            pair[1]["whole"] = false.into();
            for end in (0..body.len()).step_by(11).filter(|end| body.is_char_boundary(*end)) {
                pair[1]["body"] = body[..end].into();
                let came = words(&play(&pair));
                assert!(whole.starts_with(&came), "{name} cut at {end}: {came:?} of {whole:?}");
            }
        }
    }
    assert!(seen >= 5, "{seen}");
}

/// The texts of a message, without its calls.
fn said(content: &Json) -> String {
    match content {
        Json::String(text) => text.clone(),
        Json::Array(blocks) => blocks.iter().map(said).collect(),
        block if block["content"].is_array() => said(&block["content"]),
        block => text(block, "text").to_owned(),
    }
}

/// What bodies of all dialects are made of.
fn documents() -> impl Strategy<Value = Json> {
    const NAMES: &[&str] = &[
        "messages",
        "role",
        "content",
        "type",
        "text",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "id",
        "index",
        "input",
        "output",
        "call_id",
        "choices",
        "delta",
        "message",
        "finish_reason",
        "usage",
        "prompt_tokens",
        "response",
        "item",
        "output_index",
        "content_index",
        "system",
        "tools",
        "contents",
        "parts",
        "functionCall",
        "functionResponse",
        "args",
        "candidates",
        "usageMetadata",
        "done",
        "prompt",
        "error",
        "model",
        "previous_response_id",
        "content_block",
        "partial_json",
        "stop_reason",
        "tool_use_id",
        "max_tokens",
        "stream_id",
        "jsonrpc",
        "params",
        "method",
    ];
    const TEXTS: &[&str] = &[
        "assistant",
        "user",
        "tool",
        "system",
        "model",
        "text",
        "tool_use",
        "tool_result",
        "message",
        "message_start",
        "message_delta",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "input_json_delta",
        "text_delta",
        "function_call",
        "function_call_output",
        "reasoning",
        "response.create",
        "response.completed",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "error",
        "",
        "x y",
        "{}",
        "response.function_call_arguments.delta",
        "web_search_call",
        "resp_1",
        "tools/call",
        "2.0",
    ];
    let leaf = prop_oneof![
        4 => proptest::sample::select(TEXTS).prop_map(Json::from),
        1 => any::<u64>().prop_map(Json::from),
        2 => (0..4u64).prop_map(Json::from),
        1 => any::<bool>().prop_map(Json::from),
        1 => Just(Json::Null),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let object = proptest::collection::vec((proptest::sample::select(NAMES), inner.clone()), 0..6);
        prop_oneof![
            2 => object.prop_map(|pairs| Json::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
            1 => proptest::collection::vec(inner, 0..4).prop_map(Json::Array),
        ]
    })
}

const URLS: [&str; 7] = [
    "http://m/v1/chat/completions",
    "http://m/v1/responses",
    "http://m/v1/messages",
    "http://m/v1beta/models/m:streamGenerateContent",
    "http://m/api/chat",
    "http://m/api/generate",
    "http://m/v1/messages/count_tokens",
];

/// The body that its URL wants, so that it is recognised.
fn body(url: &str, inner: Json) -> Json {
    let inner = if inner.is_array() { inner } else { json!([inner]) };
    let mut fields = json!({"model": "m", "max_tokens": 9, "messages": inner, "input": inner, "contents": inner});
    if url.ends_with("/generate") {
        fields["prompt"] = fields["input"][0].clone();
    }
    fields
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
    ))]

    #[test]
    fn any_documents_tell_something_or_nothing(
        url in proptest::sample::select(&URLS[..]),
        requests in proptest::collection::vec(documents(), 1..4),
        replies in proptest::collection::vec(documents(), 0..6),
        is_event_stream in any::<bool>(),
        whole in any::<bool>(),
    ) {
        let mut tracker = Tracker::default();
        let mark = if is_event_stream { "data: " } else { "" };
        let reply: String = replies.iter().map(|reply| format!("{mark}{reply}\n\n")).collect();
        for request in requests {
            let asked = tracker.request("POST", url, body(url, request).to_string().as_bytes()).unwrap();
            tracker.response(asked.id, Some(200), reply.as_bytes(), is_event_stream, whole);
        }
    }

    #[test]
    fn any_bytes_tell_nothing(
        url in proptest::sample::select(&URLS[..]),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        is_event_stream in any::<bool>(),
    ) {
        let mut tracker = Tracker::default();
        let asked = tracker.request("POST", url, &bytes);
        prop_assert!(asked.is_none() || bytes.starts_with(&[123]));
        let asked = tracker.request("POST", url, body(url, json!("x")).to_string().as_bytes()).unwrap();
        let answered = tracker.response(asked.id, None, &bytes, is_event_stream, true);
        prop_assert!(answered.told.is_empty());
    }

    #[test]
    fn any_socket_messages_tell_something_or_nothing(
        messages in proptest::collection::vec((documents(), any::<bool>()), 0..12),
    ) {
        let mut tracker = Tracker::default();
        for (mut message, from_client) in messages {
            if from_client && let Some(fields) = message.as_object_mut() {
                fields.insert("type".to_owned(), "response.create".into());
            }
            tracker.socket_message(1, URLS[1], from_client, message.to_string().as_bytes());
        }
        tracker.socket_closed(1);
    }

    #[test]
    fn damaged_recordings_tell_something_or_nothing(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let names = recordings();
        let mut lines = recording(&names[which.index(names.len())]);
        for (line, at, byte) in changes {
            let line = line.index(lines.len());
            for field in ["body", "message"] {
                let mut body = text(&lines[line], field).as_bytes().to_vec();
                if !body.is_empty() && lines[line]["ask"].is_null() {
                    let at = at.index(body.len());
                    body[at] = byte;
                    lines[line][field] = String::from_utf8_lossy(&body).into_owned().into();
                }
            }
        }
        play(&lines);
    }
}
