//! The languages that models are spoken to in, and how a request shows which one it is: by its path and the shape of
//! its body, never by its host.

use serde_json::Value as Json;

use super::json::{elements, list, present, text};
use super::parts::Entry;
use super::{Failure, SideKind, anthropic, chat, gemini, ollama, responses};

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions, which most others imitate.
    Chat,
    /// OpenAI's responses, over HTTP or a WebSocket.
    Responses,
    /// Anthropic's messages, also by way of Bedrock and Vertex.
    Anthropic,
    /// Gemini's generateContent and streamGenerateContent.
    Gemini,
    /// Ollama's own: /api/chat and /api/generate.
    Ollama,
}

/// A request as its dialect reads it.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    pub model: Option<&'a str>,
    /// What the model is told beside the messages, as it came; null where it stands among the messages.
    pub system: Option<&'a Json>,
    /// Its blocks.
    pub rules: Vec<Entry<'a>>,
    /// The tools, as they came.
    pub tools: Vec<&'a Json>,
    /// The list of messages, as it came.
    pub messages: Option<&'a Json>,
    pub entries: Vec<Entry<'a>>,
    /// The response or conversation that it goes on from: messages before that are with the server.
    pub previous: Option<&'a str>,
    /// It asks for so few tokens that it can't want an answer.
    pub is_probe: bool,
}

/// Tokens, as they are charged for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tokens {
    /// All that went in, cached ones included.
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    /// Those of `cache_write` that are kept for an hour.
    pub cache_write_long: u64,
    pub output: u64,
    /// What the server itself says that it cost.
    pub cost: Option<f64>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// Under which a later request may refer to it.
    pub id: Option<String>,
    pub model: Option<String>,
    /// What the model said, once for each choice, in a form that `Dialect::said` reads.
    pub choices: Vec<Json>,
    pub tokens: Option<Tokens>,
    pub finish: Option<String>,
    pub failure: Option<Failure>,
    /// It came to its end.
    pub complete: bool,
}

/// Puts an answer together from the documents of its body, whether it was streamed or not.
pub(super) trait Fold {
    /// Takes the next document.
    fn push(&mut self, document: Json);
    /// What there is, whole or not.
    fn finish(&mut self) -> Reply;
}

/// What a request is.
#[derive(Debug, PartialEq)]
pub(super) enum Recognised {
    /// Part of a conversation.
    Talk(Dialect),
    /// Something beside it.
    Side(SideKind),
}

/// The path of a URL, without what follows.
fn path_of(url: &str) -> &str {
    let rest =
        url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    path.trim_end_matches('/')
}

/// The model that some APIs name in the path: `models/NAME:method`, `model/NAME/invoke`.
fn model_in(path: &str) -> Option<&str> {
    let (_, rest) = path.rsplit_once("/models/").or_else(|| path.rsplit_once("/model/"))?;
    let name = rest.split_once('/').map_or(rest, |(name, _)| name);
    // A Bedrock model's own name may hold a colon (`…-v1:0`).
    let name = match name.rsplit_once(':') {
        Some((before, method)) if method.starts_with(|c: char| c.is_ascii_lowercase()) => before,
        _ => name,
    };
    (!name.is_empty()).then_some(name)
}

/// Whether a request may be one to a model, by its path alone: of others the body need not be kept.
pub fn may_be_for_a_model(method: &str, url: &str) -> bool {
    const LAST: [&str; 18] = [
        "completions",
        "compact",
        "input_tokens",
        "responses",
        "count_tokens",
        "messages",
        "invoke",
        "invoke-with-response-stream",
        "chat",
        "generate",
        "show",
        "embed",
        "embeddings",
        "moderations",
        "tags",
        "ps",
        "version",
        "models",
    ];
    let Some((rest, last)) = path_of(url).rsplit_once('/') else { return false };
    let is_get = method.eq_ignore_ascii_case("GET");
    let verb = last.rsplit_once(':').is_some_and(|(_, verb)| {
        [
            "generateContent",
            "streamGenerateContent",
            "countTokens",
            "embedContent",
            "batchEmbedContents",
            "rawPredict",
            "streamRawPredict",
        ]
        .contains(&verb)
    });
    verb || LAST.contains(&last) || (is_get && rest.ends_with("/models"))
}

/// What the request is, if it has to do with a model.
pub(super) fn recognise(method: &str, url: &str, body: &Json) -> Option<Recognised> {
    use Recognised::{Side, Talk};
    let path = path_of(url);
    let (rest, last) = path.rsplit_once('/')?;
    let verb = last.rsplit_once(':').map(|(_, verb)| verb);
    if method.eq_ignore_ascii_case("GET") {
        let is_version = |folder: &str| {
            let folder = folder.rsplit('/').next().unwrap_or_default();
            folder.strip_prefix('v').is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
                || folder == "openai"
        };
        let one_model = rest.strip_suffix("/models").is_some_and(is_version);
        let models = (last == "models" && is_version(rest)) || one_model;
        let ollama = rest.ends_with("/api") && matches!(last, "tags" | "ps" | "version");
        return (models || ollama).then_some(Side(SideKind::Models));
    }
    let contents = present(body, "contents").or_else(|| present(body.get("request")?, "contents"));
    let messages = body.get("messages").is_some_and(Json::is_array);
    let by_path = match (last, verb) {
        ("completions", _) if rest.ends_with("/chat") && messages => Talk(Dialect::Chat),
        ("compact", _) if rest.ends_with("/responses") && body.get("input").is_some() => {
            Talk(Dialect::Responses)
        }
        ("input_tokens", _) if rest.ends_with("/responses") => Side(SideKind::Count),
        ("responses", _) if responses::is_request(body) => Talk(Dialect::Responses),
        ("count_tokens", _) if rest.ends_with("/messages") && messages => Side(SideKind::Count),
        ("messages", _)
            if messages && (body.get("max_tokens").is_some() || body.get("model").is_some()) =>
        {
            Talk(Dialect::Anthropic)
        }
        ("invoke" | "invoke-with-response-stream", _)
            if messages && body.get("anthropic_version").is_some() =>
        {
            Talk(Dialect::Anthropic)
        }
        (_, Some("rawPredict" | "streamRawPredict")) if messages => {
            if last.starts_with("count-tokens") {
                Side(SideKind::Count)
            } else {
                Talk(Dialect::Anthropic)
            }
        }
        (_, Some("generateContent" | "streamGenerateContent")) if contents.is_some() => {
            Talk(Dialect::Gemini)
        }
        (_, Some("countTokens")) => Side(SideKind::Count),
        (_, Some("embedContent" | "batchEmbedContents")) => Side(SideKind::Embeddings),
        ("chat", _) if rest.ends_with("/api") && messages && text(body, "model").is_some() => {
            Talk(Dialect::Ollama)
        }
        ("generate", _) if rest.ends_with("/api") && text(body, "model").is_some() => {
            Talk(Dialect::Ollama)
        }
        ("show", _) if rest.ends_with("/api") && text(body, "model").is_some() => {
            Side(SideKind::Models)
        }
        ("embed" | "embeddings", _)
            if body.get("input").is_some() || body.get("prompt").is_some() =>
        {
            Side(SideKind::Embeddings)
        }
        ("moderations", _) if body.get("input").is_some() => Side(SideKind::Moderation),
        _ => return None,
    };
    Some(by_path)
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Chat, Self::Responses, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// As shown to users.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "openai-chat",
            Self::Responses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    pub(super) fn request<'a>(self, url: &'a str, body: &'a Json) -> Request<'a> {
        let mut request = match self {
            Self::Chat => chat::request(body),
            Self::Responses => responses::request(body),
            Self::Anthropic => anthropic::request(body),
            Self::Gemini => gemini::request(body),
            Self::Ollama => ollama::request(body),
        };
        // Azure's deployments are named in the path as well, but by the customer.
        request.model = request.model.or_else(|| model_in(path_of(url)));
        request
    }

    /// Reads a choice of a reply.
    pub(super) fn said(self, choice: &Json) -> Vec<Entry<'_>> {
        match self {
            Self::Chat => vec![chat::entry(choice)],
            Self::Responses => elements(choice).iter().map(responses::entry).collect(),
            Self::Anthropic => vec![anthropic::entry(choice)],
            Self::Gemini => vec![gemini::entry(choice)],
            Self::Ollama => vec![ollama::entry(choice)],
        }
    }

    pub(super) fn fold(self) -> Box<dyn Fold + Send> {
        match self {
            Self::Chat => Box::<chat::Folded>::default(),
            Self::Responses => Box::<responses::Folded>::default(),
            Self::Anthropic => Box::<anthropic::Folded>::default(),
            Self::Gemini => Box::<gemini::Folded>::default(),
            Self::Ollama => Box::<ollama::Folded>::default(),
        }
    }
}

/// Numbers the entries by their place in the list.
pub(super) fn numbered<'a>(
    list: &'a [Json],
    entry: impl Fn(&'a Json) -> Entry<'a>,
) -> Vec<Entry<'a>> {
    let numbered = |(index, json)| Entry { index: u32::try_from(index).ok(), ..entry(json) };
    list.iter().enumerate().map(numbered).collect()
}

/// Moves the system's messages at the head of a list to the rules.
pub(super) fn split_rules<'a>(mut entries: Vec<Entry<'a>>) -> (Vec<Entry<'a>>, Vec<Entry<'a>>) {
    let rules = entries.iter().take_while(|entry| entry.role == "system").count();
    let rest = entries.split_off(rules);
    (entries, rest)
}

/// The tools of a body, where they are a list.
pub(super) fn tools(body: &Json) -> Vec<&Json> {
    list(body, "tools").iter().collect()
}

/// What the body of an error says, in any of these APIs.
pub(super) fn failure_in(document: &Json) -> Option<Failure> {
    let error = present(document, "error")?;
    let said = |name: &str| error.get(name).filter(|value| value.is_string() || value.is_number());
    let plain = |json: &Json| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    let kind = said("type").or_else(|| said("status")).or_else(|| said("code")).map(plain);
    let message = said("message").map(plain).or_else(|| error.as_str().map(str::to_owned));
    let status = error.get("code").or_else(|| document.get("status")).and_then(Json::as_u64);
    Some(Failure {
        status: status.and_then(|status| u16::try_from(status).ok()),
        kind: kind.unwrap_or_else(|| "error".to_owned()),
        message: message.unwrap_or_else(|| error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Recognised::{Side, Talk};
    use super::*;

    #[test]
    fn requests_are_recognised_by_path_and_body_not_by_host() {
        let chat =
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9});
        let vertex = json!({"anthropic_version": "v", "messages": [], "max_tokens": 9});
        let gemini = json!({"contents": [{"parts": [{"text": "x"}]}]});
        let inside = json!({"model": "m", "request": gemini});
        let input = json!({"model": "m", "input": "x"});
        let none = Json::Null;
        for (method, url, body, expected) in [
            ("POST", "https://a/v1/chat/completions", &chat, Some(Talk(Dialect::Chat))),
            (
                "POST",
                "http://a:1/openai/deployments/X/chat/completions?api-version=1",
                &chat,
                Some(Talk(Dialect::Chat)),
            ),
            ("POST", "http://a/api/v1/chat/completions", &chat, Some(Talk(Dialect::Chat))),
            ("POST", "http://a/v1/chat/completions", &none, None),
            (
                "POST",
                "http://a/backend-api/codex/responses",
                &input,
                Some(Talk(Dialect::Responses)),
            ),
            ("POST", "http://a/survey/responses", &json!({"answers": []}), None),
            ("POST", "http://a/v1/responses/compact", &input, Some(Talk(Dialect::Responses))),
            ("POST", "http://a/v1/responses/input_tokens", &input, Some(Side(SideKind::Count))),
            ("POST", "http://a/v1/messages?beta=true", &chat, Some(Talk(Dialect::Anthropic))),
            ("POST", "http://a/channels/7/messages", &json!({"content": "hi"}), None),
            ("POST", "http://a/v1/messages/count_tokens", &chat, Some(Side(SideKind::Count))),
            (
                "POST",
                "http://a/v1/projects/p/locations/l/publishers/anthropic/models/m@1:streamRawPredict",
                &vertex,
                Some(Talk(Dialect::Anthropic)),
            ),
            (
                "POST",
                "http://a/v1/projects/p/models/count-tokens:rawPredict",
                &vertex,
                Some(Side(SideKind::Count)),
            ),
            (
                "POST",
                "http://a/model/us.anthropic.m-v1:0/invoke",
                &vertex,
                Some(Talk(Dialect::Anthropic)),
            ),
            (
                "POST",
                "http://a/v1beta/models/m:generateContent",
                &gemini,
                Some(Talk(Dialect::Gemini)),
            ),
            (
                "POST",
                "http://a/v1beta/models/m:streamGenerateContent?alt=sse",
                &gemini,
                Some(Talk(Dialect::Gemini)),
            ),
            (
                "POST",
                "http://a/v1internal:streamGenerateContent?alt=sse",
                &inside,
                Some(Talk(Dialect::Gemini)),
            ),
            ("POST", "http://a/v1beta/models/m:countTokens", &gemini, Some(Side(SideKind::Count))),
            (
                "POST",
                "http://a/v1beta/models/m:batchEmbedContents",
                &none,
                Some(Side(SideKind::Embeddings)),
            ),
            ("POST", "http://a/api/chat", &chat, Some(Talk(Dialect::Ollama))),
            (
                "POST",
                "http://a/api/generate",
                &json!({"model": "m", "prompt": "x"}),
                Some(Talk(Dialect::Ollama)),
            ),
            ("POST", "http://a/api/generate", &json!({"length": 3}), None),
            ("POST", "http://a/v1/embeddings", &input, Some(Side(SideKind::Embeddings))),
            ("GET", "http://a/v1/models?limit=9", &none, Some(Side(SideKind::Models))),
            ("GET", "http://a/v1/models/gpt-5", &none, Some(Side(SideKind::Models))),
            ("GET", "http://a/api/tags", &none, Some(Side(SideKind::Models))),
            ("GET", "http://a/cars/models", &none, None),
            ("GET", "http://a/v1/chat/completions", &none, None),
            ("POST", "", &chat, None),
        ] {
            assert_eq!(recognise(method, url, body), expected, "{method} {url}");
            assert!(expected.is_none() || may_be_for_a_model(method, url), "{method} {url}");
        }
    }

    #[test]
    fn most_requests_are_for_no_model() {
        for url in [
            "http://a/",
            "http://a/upload",
            "http://a/simple/openai/",
            "http://a",
            "",
            "http://a/v1/files",
        ] {
            assert!(!may_be_for_a_model("POST", url), "{url}");
        }
    }

    #[test]
    fn models_are_found_in_paths() {
        for (path, model) in [
            ("/v1beta/models/gemini-x:generateContent", Some("gemini-x")),
            ("/v1/projects/p/publishers/anthropic/models/m@1:rawPredict", Some("m@1")),
            ("/model/us.anthropic.m-v1:0/invoke", Some("us.anthropic.m-v1:0")),
            ("/v1/chat/completions", None),
        ] {
            assert_eq!(model_in(path), model, "{path}");
        }
    }

    #[test]
    fn errors_are_read_in_every_form() {
        for (body, kind, message) in [
            (
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                "overloaded_error",
                "Overloaded",
            ),
            (json!({"error": {"message": "m", "type": "t", "code": "c"}}), "t", "m"),
            (
                json!({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}),
                "RESOURCE_EXHAUSTED",
                "m",
            ),
            (json!({"error": "model not found"}), "error", "model not found"),
        ] {
            let failure = failure_in(&body).unwrap();
            assert_eq!((&*failure.kind, &*failure.message), (kind, message));
        }
        assert_eq!(failure_in(&json!({"error": null})), None);
    }
}
