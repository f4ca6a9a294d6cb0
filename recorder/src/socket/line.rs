//! One line of the protocol as a value.

use std::borrow::Cow;
use std::path::PathBuf;

use agentrec_trace::event::{self, Certainty, EVENT_TYPES, Payload};
use agentrec_trace::{Data, Layer, Seq, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Map;

/// A line that can be used.
#[derive(Debug)]
pub(crate) struct Line {
    /// What the reply has to repeat; absent: no reply is wanted.
    pub(crate) req: Option<serde_json::Value>,
    pub(crate) message: Message,
}

/// A line that can't be used.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// What the reply has to repeat, where the line was read that far.
    pub(crate) req: Option<serde_json::Value>,
    /// Why, in a sentence.
    pub(crate) reason: String,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { req: None, reason }
    }
}

/// What a line says.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something happened.
    Event {
        data: Box<Data<'static>>,
        /// CLOCK_BOOTTIME in nanoseconds.
        ts: Option<u64>,
        tid: Option<u32>,
    },
    /// The sender wants something.
    Request(Request),
}

impl Message {
    /// When it happened, as the sender says: CLOCK_BOOTTIME in nanoseconds.
    pub(crate) fn told_at(&self) -> Option<u64> {
        match self {
            Self::Event { ts, .. } => *ts,
            Self::Request(_) => None,
        }
    }
}

/// What a sender can want.
#[derive(Debug)]
pub(crate) enum Request {
    /// Save the state.
    Snapshot { description: String, trigger: Option<Trigger>, state: Box<State> },
    /// How it goes.
    Status,
    /// Copy the trace so far.
    Export { path: PathBuf },
    /// End the recording.
    Stop,
}

/// Who asks for a snapshot.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trigger {
    /// The agent's own program.
    Sdk,
    /// A person or a tool, by `agentrec snapshot`.
    Command,
}

/// The agent's own state, as a snapshot saves it. `Nil` and `None`: not told.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) messages: Value,
    pub(crate) system_prompt: Value,
    pub(crate) tools: Value,
    pub(crate) model: Option<String>,
    pub(crate) last_query: Value,
    pub(crate) last_result: Value,
    /// Where the trace has the messages already, redacted: in the body of the request that they came with.
    #[serde(skip)]
    pub(crate) stored: Option<Payload>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            messages: Value::Nil,
            system_prompt: Value::Nil,
            tools: Value::Nil,
            model: None,
            last_query: Value::Nil,
            last_result: Value::Nil,
            stored: None,
        }
    }
}

type Fields = Map<String, serde_json::Value>;

/// Why a line can't be used, in a sentence.
type Result<T> = std::result::Result<T, String>;

impl Line {
    /// Reads a line without its end.
    pub(crate) fn parse(line: &[u8]) -> std::result::Result<Self, Refusal> {
        let mut fields: Fields = serde_json::from_slice(line)
            .map_err(|error| format!("it is not a JSON object: {error}"))?;
        let req = fields.remove("req").filter(|req| !req.is_null());
        if req.as_ref().is_some_and(|req| !req.is_number() && !req.is_string()) {
            return Err("`req` is neither a number nor a string".to_owned().into());
        }
        match message(fields, req.is_some()) {
            Ok(message) => Ok(Self { req, message }),
            Err(reason) => Err(Refusal { req, reason }),
        }
    }
}

fn message(mut fields: Fields, wants_reply: bool) -> Result<Message> {
    let kind: String = required(&mut fields, "type")?;
    let request = match kind.as_str() {
        "snapshot" => {
            let description = optional(&mut fields, "description")?.unwrap_or_default();
            let trigger = optional(&mut fields, "trigger")?;
            let state = from_fields(fields)?;
            Request::Snapshot { description, trigger, state: Box::new(state) }
        }
        "status" => Request::Status,
        "export" => {
            let path: PathBuf = required(&mut fields, "path")?;
            if !path.is_absolute() {
                return Err("`path` is not absolute".into());
            }
            Request::Export { path }
        }
        "stop" => Request::Stop,
        _ => {
            let ts = optional(&mut fields, "ts")?;
            let tid = optional(&mut fields, "tid")?;
            return Ok(Message::Event { data: Box::new(event(kind, fields)?), ts, tid });
        }
    };
    match request {
        Request::Stop => Ok(Message::Request(request)),
        request if wants_reply => Ok(Message::Request(request)),
        _ => Err("a request needs a `req`".into()),
    }
}

fn event(kind: String, mut fields: Fields) -> Result<Data<'static>> {
    let data = match kind.as_str() {
        "tool.call" => Data::ToolCall(event::ToolCall {
            id: required(&mut fields, "id")?,
            name: required(&mut fields, "name")?,
            arguments: payload(fields.remove("arguments")),
            conversation: optional(&mut fields, "conversation")?,
            server: None,
        }),
        "tool.result" => Data::ToolResult(event::ToolResult {
            id: required(&mut fields, "id")?,
            call: None,
            result: payload(fields.remove("result")),
            error: optional(&mut fields, "error")?,
            duration: optional(&mut fields, "duration")?,
        }),
        "message" => Data::Message(event::Message {
            role: required(&mut fields, "role")?,
            content: payload(Some(fields.remove("content").ok_or("`content` is missing")?)),
            model: optional(&mut fields, "model")?,
            conversation: optional(&mut fields, "conversation")?,
            index: optional(&mut fields, "index")?,
            extra: if fields.is_empty() {
                Payload::default()
            } else {
                payload(Some(fields.into()))
            },
        }),
        "usage" => Data::Usage(event::Usage {
            model: optional(&mut fields, "model")?.unwrap_or_default(),
            input: optional(&mut fields, "input")?.unwrap_or_default(),
            cache_read: optional(&mut fields, "cache_read")?.unwrap_or_default(),
            cache_write: optional(&mut fields, "cache_write")?.unwrap_or_default(),
            output: optional(&mut fields, "output")?.unwrap_or_default(),
            cost: optional(&mut fields, "cost")?,
            conversation: optional(&mut fields, "conversation")?,
        }),
        "link" => Data::Link(event::Link {
            from: Seq(required(&mut fields, "from")?),
            to: Seq(required(&mut fields, "to")?),
            kind: required(&mut fields, "kind")?,
            certainty: optional(&mut fields, "certainty")?.unwrap_or(Certainty::Recorded),
        }),
        "lost" => Data::Lost(event::Lost {
            count: Some(required(&mut fields, "count")?),
            place: "socket".into(),
            reason: optional(&mut fields, "reason")?
                .unwrap_or(Cow::Borrowed("the recorder was slower than the agent")),
            peer_pid: None,
        }),
        known if EVENT_TYPES.iter().any(|known_type| known_type.name == known) => {
            return Err(format!("`{known}` is for the recorder to say"));
        }
        custom if custom.contains('.') => {
            let layer = optional::<String>(&mut fields, "layer")?;
            let layer = match layer.as_deref() {
                None | Some("agent") => Layer::Agent,
                Some("tool") => Layer::Tool,
                Some(_) => return Err("`layer` is neither `agent` nor `tool`".into()),
            };
            Data::Other { layer, name: Cow::Owned(kind), fields: to_value(fields.into()) }
        }
        unknown => {
            return Err(format!("there is no type `{unknown}`; events of your own have a dot"));
        }
    };
    Ok(data)
}

fn required<T: DeserializeOwned>(fields: &mut Fields, name: &str) -> Result<T> {
    optional(fields, name)?.ok_or_else(|| format!("`{name}` is missing"))
}

fn optional<T: DeserializeOwned>(fields: &mut Fields, name: &str) -> Result<Option<T>> {
    let value = fields.remove(name).unwrap_or(serde_json::Value::Null);
    serde_json::from_value(value).map_err(|error| format!("`{name}`: {error}"))
}

fn from_fields<T: DeserializeOwned>(fields: Fields) -> Result<T> {
    serde_json::from_value(fields.into()).map_err(|error| error.to_string())
}

fn payload(value: Option<serde_json::Value>) -> Payload {
    Payload::Inline(value.map_or(Value::Nil, to_value))
}

/// JSON as MessagePack has it. The parser bounds the depth (128), so this may recurse.
fn to_value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Boolean(value),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::from(number),
            (_, Some(number)) => Value::from(number),
            _ => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(items) => items.into_iter().map(to_value).collect(),
        serde_json::Value::Object(fields) => Value::Map(
            fields.into_iter().map(|(name, value)| (name.into(), to_value(value))).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> String {
        Line::parse(line.as_bytes()).unwrap_err().reason
    }

    fn data(line: &str) -> Data<'static> {
        match Line::parse(line.as_bytes()).unwrap().message {
            Message::Event { data, .. } => *data,
            Message::Request(request) => panic!("{request:?}"),
        }
    }

    #[test]
    fn events_have_their_fields() {
        let call =
            data(r#"{"type":"tool.call","id":"c","name":"n","arguments":{"a":[1,-2,0.5,null]}}"#);
        let Data::ToolCall(call) = call else { panic!("{call:?}") };
        let numbers = Value::Array(vec![1.into(), (-2).into(), 0.5.into(), Value::Nil]);
        let arguments = Payload::Inline(Value::Map(vec![("a".into(), numbers)]));
        assert_eq!((&*call.id, &*call.name, call.arguments), ("c", "n", arguments));

        let message = data(r#"{"type":"message","role":"user","content":"hi","index":3,"x":true}"#);
        let Data::Message(message) = message else { panic!("{message:?}") };
        assert_eq!(message.index, Some(3));
        assert_eq!(message.extra, Payload::Inline(Value::Map(vec![("x".into(), true.into())])));

        let custom = data(r#"{"type":"my.step","layer":"tool","n":3}"#);
        let Data::Other { layer: Layer::Tool, name, fields } = custom else { panic!("{custom:?}") };
        assert_eq!((&*name, fields), ("my.step", Value::Map(vec![("n".into(), 3.into())])));
    }

    #[test]
    fn requests_carry_what_the_reply_repeats() {
        let line =
            Line::parse(br#"{"type":"snapshot","req":"a","messages":[1],"model":"m"}"#).unwrap();
        assert_eq!(line.req, Some("a".into()));
        let Message::Request(Request::Snapshot { state, .. }) = line.message else { panic!() };
        assert_eq!((state.messages, state.model), (Value::Array(vec![1.into()]), Some("m".into())));
        let line = Line::parse(br#"{"type":"my.step","req":7,"ts":12,"tid":9}"#).unwrap();
        assert_eq!(line.req, Some(7.into()));
        assert!(matches!(line.message, Message::Event { ts: Some(12), tid: Some(9), .. }));
    }

    #[test]
    fn what_can_not_be_used_says_why() {
        assert!(error("nonsense").starts_with("it is not a JSON object: expected"));
        assert_eq!(error("{}"), "`type` is missing");
        assert_eq!(error(r#"{"type":"status"}"#), "a request needs a `req`");
        assert_eq!(error(r#"{"type":"tool.call","id":"x"}"#), "`name` is missing");
        assert!(
            error(r#"{"type":"tool.call","id":5,"name":"n"}"#).starts_with("`id`: invalid type")
        );
        assert_eq!(error(r#"{"type":"file.open"}"#), "`file.open` is for the recorder to say");
        let refusal = Line::parse(br#"{"type":"tool.call","req":"r"}"#).unwrap_err();
        assert_eq!(refusal.req, Some("r".into()));
        assert!(error(r#"{"type":"step"}"#).contains("have a dot"));
        assert_eq!(error(r#"{"type":"export","req":1,"path":"x"}"#), "`path` is not absolute");
        assert!(error(&"[".repeat(100_000)).starts_with("it is not a JSON object"));
    }
}
