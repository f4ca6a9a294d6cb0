//! The Model Context Protocol: JSON-RPC between an agent and the servers of its tools, over pipes or HTTP.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use agentrec_trace::event::{Payload, ToolCall, ToolResult};
use serde_json::Value as Json;

use super::Told;
use super::documents::documents;
use super::json::{elements, present, text, value};

/// Calls that wait for their results.
const MAX_OPEN: usize = 4096;

/// Bytes of one line.
const MAX_LINE: usize = 16 << 20;

/// Directions of channels whose lines are unfinished, and servers whose names are known.
const MAX_CHANNELS: usize = 4096;

/// Bytes from the beginning of a pipe that decide whether it carries messages.
const MAX_BEGIN: usize = 4096;

/// Where a server says in each result who it is, in versions that have no handshake.
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Speaker {
    /// The agent.
    Client,
    /// The server of tools.
    Server,
}

/// All calls of one recording that go to servers of tools. A channel is one session with one server: its two pipes, or
/// all HTTP exchanges with it.
#[derive(Debug, Default)]
pub struct Mcp {
    /// What a call is known by: its channel and the id that the client gave it.
    open: BTreeMap<(u64, String), String>,
    in_order: VecDeque<(u64, String)>,
    calls: u64,
    lines: BTreeMap<(u64, Speaker), Line>,
    /// What servers call themselves.
    names: BTreeMap<u64, String>,
    /// Lines that were skipped, of which nobody was told.
    skipped: u64,
}

#[derive(Debug, Default)]
struct Line {
    begin: Vec<u8>,
    /// It is too long, or not all of it was seen, and skipped.
    skipped: bool,
}

impl Mcp {
    /// Whether bytes look like a message, or a batch of them.
    pub fn is_message(bytes: &[u8]) -> bool {
        let begin = bytes.trim_ascii_start();
        let is_object = begin.starts_with(b"{") || begin.starts_with(b"[");
        is_object && memchr::memmem::find(begin, b"\"jsonrpc\"").is_some()
    }

    /// Whether a pipe that begins like this carries messages, a line each; None where that is still to be seen.
    pub fn begins(bytes: &[u8]) -> Option<bool> {
        match bytes.first() {
            None => return None,
            Some(b'{') => {}
            Some(_) => return Some(false),
        }
        let begin = &bytes[..bytes.len().min(MAX_BEGIN)];
        let line = memchr::memchr(b'\n', begin);
        let is_message = Self::is_message(&begin[..line.unwrap_or(begin.len())]);
        let is_whole = line.is_some() || bytes.len() >= MAX_BEGIN;
        (is_message || is_whole).then_some(is_message)
    }

    /// Who sends such a message, where only one of both does.
    pub fn sender(message: &[u8]) -> Option<Speaker> {
        let message = serde_json::from_slice::<Json>(message).ok()?;
        let Some(method) = text(&message, "method") else {
            // Only an answer has no method. A client answers, too, but never first.
            return text(&message, "jsonrpc").map(|_| Speaker::Server);
        };
        let (area, what) = method.split_once('/').unwrap_or((method, ""));
        match (area, what) {
            ("ping", _) | ("notifications", "cancelled" | "progress") => None,
            ("notifications", "initialized" | "roots/list_changed") => Some(Speaker::Client),
            ("sampling" | "roots" | "elicitation" | "notifications", _) => Some(Speaker::Server),
            _ => Some(Speaker::Client),
        }
    }

    /// A piece of a pipe, of any size.
    pub fn lines(&mut self, channel: u64, from: Speaker, piece: &[u8]) -> Vec<Told> {
        let mut told = Vec::new();
        if self.lines.len() >= MAX_CHANNELS && !self.lines.contains_key(&(channel, from)) {
            return told;
        }
        let mut line = self.lines.remove(&(channel, from)).unwrap_or_default();
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (whole, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if !std::mem::take(&mut line.skipped) {
                if line.begin.is_empty() {
                    told.extend(self.message(channel, from, whole));
                } else {
                    line.begin.extend_from_slice(whole);
                    told.extend(self.message(channel, from, &line.begin));
                }
            }
            line.begin = Vec::new();
        }
        if line.skipped || line.begin.len() + rest.len() > MAX_LINE {
            self.skipped += u64::from(!line.skipped);
            line = Line { begin: Vec::new(), skipped: true };
        } else {
            line.begin.extend_from_slice(rest);
        }
        if line.skipped || !line.begin.is_empty() {
            self.lines.insert((channel, from), line);
        }
        told
    }

    /// Bytes of a pipe are missing here: the line that they were in is skipped.
    pub fn missing(&mut self, channel: u64, from: Speaker) {
        let line = Line { begin: Vec::new(), skipped: true };
        let before = self.lines.insert((channel, from), line);
        self.skipped += u64::from(before.is_none_or(|line| !line.skipped));
    }

    /// How many messages were skipped since the last question: too long, or with missing bytes.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// What the server of a channel calls itself, where it said so.
    pub fn server(&self, channel: u64) -> Option<&str> {
        self.names.get(&channel).map(String::as_str)
    }

    /// Says what it calls itself.
    pub fn name_server(&mut self, channel: u64, name: &str) {
        if self.names.len() < MAX_CHANNELS || self.names.contains_key(&channel) {
            self.names.insert(channel, name.to_owned());
        }
    }

    /// A whole message, or a batch of them: a line, or the body of a POST request.
    pub fn message(&mut self, channel: u64, from: Speaker, bytes: &[u8]) -> Vec<Told> {
        if !Self::is_message(bytes) {
            return Vec::new();
        }
        let Ok(message) = serde_json::from_slice::<Json>(bytes) else { return Vec::new() };
        self.any(channel, from, &message)
    }

    /// The body of a response over HTTP: a message, or events that hold some.
    pub fn response(&mut self, channel: u64, body: &[u8], is_event_stream: bool) -> Vec<Told> {
        let documents = documents(body, is_event_stream);
        documents
            .found
            .iter()
            .flat_map(|message| self.any(channel, Speaker::Server, message))
            .collect()
    }

    /// A channel ended: its calls that have no result, in the order in which they were made.
    pub fn closed(&mut self, channel: u64) -> Vec<String> {
        let (gone, left) =
            std::mem::take(&mut self.in_order).into_iter().partition(|(of, _)| *of == channel);
        self.in_order = left;
        self.lines.retain(|(of, _), _| *of != channel);
        self.names.remove(&channel);
        let gone: VecDeque<_> = gone;
        gone.iter().filter_map(|key| self.open.remove(key)).collect()
    }

    fn any(&mut self, channel: u64, from: Speaker, message: &Json) -> Vec<Told> {
        let batch = match message {
            Json::Array(_) => elements(message),
            single => std::slice::from_ref(single),
        };
        batch.iter().filter_map(|message| self.one(channel, from, message)).collect()
    }

    fn one(&mut self, channel: u64, from: Speaker, message: &Json) -> Option<Told> {
        text(message, "jsonrpc")?;
        let params = message.get("params");
        match (from, text(message, "method")) {
            (Speaker::Client, Some("tools/call")) => {
                let params = params?;
                let call = self.call((channel, number(message.get("id")?)?));
                Some(Told::Call(ToolCall {
                    id: call.into(),
                    name: Cow::Owned(text(params, "name").unwrap_or_default().to_owned()),
                    arguments: Payload::Inline(value(
                        params.get("arguments").cloned().unwrap_or(Json::Null),
                    )),
                    conversation: None,
                    server: Some(Cow::Owned(self.server(channel).unwrap_or_default().to_owned())),
                }))
            }
            (Speaker::Client, Some("notifications/cancelled")) => {
                let call = self.end((channel, number(params?.get("requestId")?)?))?;
                let why = text(params?, "reason")
                    .map_or_else(|| "cancelled".to_owned(), |why| format!("cancelled: {why}"));
                Some(Told::Result(ToolResult {
                    id: call.into(),
                    error: Some(why.into()),
                    ..ToolResult::default()
                }))
            }
            (Speaker::Server, None) => {
                if let Some(name) = message.get("result").and_then(server_name) {
                    self.name_server(channel, name);
                }
                let call = self.end((channel, number(message.get("id")?)?))?;
                let (result, error) = match present(message, "error") {
                    Some(error) => {
                        let said =
                            text(error, "message").map_or_else(|| error.to_string(), str::to_owned);
                        (error.get("data").cloned().unwrap_or(Json::Null), Some(said))
                    }
                    None => {
                        let result = message.get("result").cloned().unwrap_or(Json::Null);
                        let failed = result.get("isError").and_then(Json::as_bool).unwrap_or(false);
                        let said = failed.then(|| said(&result));
                        (result, said)
                    }
                };
                Some(Told::Result(ToolResult {
                    id: call.into(),
                    result: Payload::Inline(value(result)),
                    error: error.map(Cow::Owned),
                    ..ToolResult::default()
                }))
            }
            _ => None,
        }
    }

    /// A name for the call that no other has: ids of messages begin anew on every channel.
    fn call(&mut self, key: (u64, String)) -> String {
        self.calls += 1;
        let call = format!("mcp-{}", self.calls);
        if self.open.insert(key.clone(), call.clone()).is_none() {
            self.in_order.push_back(key);
        }
        if self.in_order.len() > MAX_OPEN
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.open.remove(&oldest);
        }
        call
    }

    fn end(&mut self, key: (u64, String)) -> Option<String> {
        let call = self.open.remove(&key)?;
        self.in_order.retain(|open| *open != key);
        Some(call)
    }
}

/// What a server calls itself in a result, if it does.
fn server_name(result: &Json) -> Option<&str> {
    let info = result.get("serverInfo").or_else(|| result.get("_meta")?.get(SERVER_INFO));
    text(info?, "name")
}

/// An id, which is a number or a text.
fn number(id: &Json) -> Option<String> {
    (id.is_number() || id.is_string()).then(|| id.to_string())
}

/// The text of a result.
fn said(result: &Json) -> String {
    let content = result.get("content").map(elements).unwrap_or_default();
    let texts: Vec<_> = content.iter().filter_map(|block| text(block, "text")).collect();
    if texts.is_empty() { "failed".to_owned() } else { texts.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"add","arguments":{"a":1}}}"#;
    const RESULT: &str = r#"{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"1"}],"isError":false}}"#;

    fn line(told: &[Told]) -> Vec<String> {
        let line = |told: &Told| match told {
            Told::Call(call) => format!("{} {} {:?}", call.id, call.name, call.arguments),
            Told::Result(result) => format!("{} {:?}", result.id, result.error),
            other => format!("{other:?}"),
        };
        told.iter().map(line).collect()
    }

    #[test]
    fn calls_and_results_are_joined_whatever_the_pieces() {
        let client =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\"}}\n{CALL}\n");
        let server = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{{\"serverInfo\":{{\"name\":\"sums\"}}}}}}\nnoise\n{RESULT}\n"
        );
        for size in 1..=client.len().max(server.len()) {
            let mut mcp = Mcp::default();
            let mut told = Vec::new();
            let (asks, calls) = client.split_once('\n').unwrap();
            let (greets, answers) = server.split_once('\n').unwrap();
            for (from, line, end) in [
                (Speaker::Client, asks, "\n"),
                (Speaker::Server, greets, "\n"),
                (Speaker::Client, calls, ""),
                (Speaker::Server, answers, ""),
            ] {
                for piece in [line, end].concat().as_bytes().chunks(size) {
                    told.extend(mcp.lines(7, from, piece));
                }
            }
            let [Told::Call(call), Told::Result(result)] = &told[..] else { panic!("{told:?}") };
            assert_eq!((&*call.id, &*call.name, &*result.id), ("mcp-1", "add", "mcp-1"));
            assert_eq!((call.server.as_deref(), &result.error), (Some("sums"), &None));
            assert!(mcp.open.is_empty() && mcp.lines.is_empty());
        }
    }

    #[test]
    fn errors_and_cancellations_end_a_call() {
        let mut mcp = Mcp::default();
        let mut run = |answer: &str, from| {
            let mut told = mcp.message(1, Speaker::Client, CALL.as_bytes());
            told.extend(mcp.message(1, from, answer.as_bytes()));
            line(&told)[1].clone()
        };
        let error = r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"no such tool"}}"#;
        assert_eq!(run(error, Speaker::Server), r#"mcp-1 Some("no such tool")"#);
        let failed = RESULT.replace("false", "true");
        assert_eq!(run(&failed, Speaker::Server), r#"mcp-2 Some("1")"#);
        let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3,"reason":"late"}}"#;
        assert_eq!(run(cancelled, Speaker::Client), r#"mcp-3 Some("cancelled: late")"#);
    }

    #[test]
    fn over_http_an_answer_may_be_a_stream() {
        let mut mcp = Mcp::default();
        mcp.message(1, Speaker::Client, CALL.as_bytes());
        let stream = format!(
            "event: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}}\n\ndata: {RESULT}\n\n"
        );
        assert_eq!(line(&mcp.response(1, stream.as_bytes(), true)), ["mcp-1 None"]);
        // Ids are the channel's own, and a result is told once.
        mcp.message(2, Speaker::Client, CALL.as_bytes());
        assert!(mcp.response(1, RESULT.as_bytes(), false).is_empty());
        let batch = format!("[{RESULT}]");
        assert_eq!(line(&mcp.response(2, batch.as_bytes(), false)), ["mcp-2 None"]);
    }

    #[test]
    fn endless_lines_and_calls_are_bounded() {
        let mut mcp = Mcp::default();
        for _ in 0..20 {
            mcp.lines(1, Speaker::Server, &vec![b'x'; 1 << 20]);
        }
        assert!(mcp.lines[&(1, Speaker::Server)].begin.is_empty());
        for id in 0..5000 {
            mcp.message(1, Speaker::Client, CALL.replace('3', &id.to_string()).as_bytes());
        }
        assert_eq!((mcp.open.len(), mcp.in_order.len()), (MAX_OPEN, MAX_OPEN));
        assert_eq!(mcp.take_skipped(), 1);
        assert_eq!(mcp.closed(1).len(), MAX_OPEN);
        assert!(mcp.open.is_empty() && mcp.in_order.is_empty() && mcp.lines.is_empty());
    }

    #[test]
    fn a_line_with_a_hole_is_skipped_and_counted() {
        let mut mcp = Mcp::default();
        mcp.lines(1, Speaker::Client, &CALL.as_bytes()[..40]);
        mcp.missing(1, Speaker::Client);
        mcp.missing(1, Speaker::Client);
        assert!(mcp.lines(1, Speaker::Client, &CALL.as_bytes()[60..]).is_empty());
        assert_eq!((mcp.take_skipped(), mcp.take_skipped()), (1, 0));
        let told = mcp.lines(1, Speaker::Client, format!("\n{CALL}\n").as_bytes());
        assert_eq!(
            line(&told),
            ["mcp-1 add Inline(Map([(String(Utf8String { s: Ok(\"a\") }), Integer(PosInt(1)))]))"]
        );
    }

    #[test]
    fn a_pipe_of_messages_is_known_by_its_first_line_and_its_side_by_who_says_it() {
        let whole = format!("{CALL}\n");
        for end in 1..=whole.len() {
            let begins = Mcp::begins(&whole.as_bytes()[..end]);
            assert_eq!(begins, (end >= 10).then_some(true), "{end}");
        }
        assert_eq!(Mcp::begins(b"# a comment"), Some(false));
        assert_eq!(Mcp::begins(b"{\"level\":\"info\"}\n"), Some(false));
        assert_eq!(Mcp::begins(&[b"{".as_slice(), &[b' '; 5000]].concat()), Some(false));
        let behind = r#"{"method":"initialize","params":{},"jsonrpc":"2.0","id":0}"#;
        assert_eq!(Mcp::begins(behind.as_bytes()), Some(true));
        assert_eq!(Mcp::sender(behind.as_bytes()), Some(Speaker::Client));
        assert_eq!(Mcp::sender(CALL.as_bytes()), Some(Speaker::Client));
        assert_eq!(Mcp::sender(RESULT.as_bytes()), Some(Speaker::Server));
        let note = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
        assert_eq!(Mcp::sender(note.as_bytes()), Some(Speaker::Server));
        assert_eq!(Mcp::sender(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), None);
    }

    #[test]
    fn of_a_message_with_long_arguments_the_version_may_stand_behind_them() {
        let long = "x".repeat(10_000);
        let call = format!(
            r#"{{"method":"tools/call","params":{{"name":"n","arguments":{{"a":"{long}"}}}},"jsonrpc":"2.0","id":1}}"#
        );
        assert_eq!(Mcp::default().message(1, Speaker::Client, call.as_bytes()).len(), 1);
    }
}
