//! Servers that are asked over HTTP: a POST request for each message, answered by a message or a stream of events that holds
//! some; and, in the older form, one stream of events for all answers.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use agentrec_trace::Seq;
use agentrec_trace::event::{Certainty, Content, HttpRequest, HttpResponse, Link, Payload};
use agentrec_wire::ExchangeId;
use agentrec_wire::llm::{Mcp, Speaker, Told};

use crate::session::Session;
use crate::session::http::By;
use crate::source::StreamId;

/// What is known of servers that are asked over HTTP.
#[derive(Default)]
pub(super) struct Web {
    /// Requests that wait for their responses.
    asked: HashMap<(StreamId, ExchangeId), Asked>,
    /// Streams of answers.
    listening: HashMap<(StreamId, ExchangeId), u64>,
    /// Sessions, by the id that a server gives them, or by the address where it takes messages.
    sessions: HashMap<String, u64>,
    /// What servers call themselves, by their addresses.
    names: HashMap<String, String>,
}

struct Asked {
    channel: u64,
    /// The channel is this exchange alone.
    own: bool,
    url: String,
    calls: Vec<String>,
}

/// What a request says, until its event is written.
pub(in crate::session) struct Message {
    told: Vec<Told>,
    body: u64,
    asked: Option<Asked>,
}

/// An answer, until its event is written.
pub(in crate::session) struct Reply {
    told: Vec<Told>,
    /// Calls that it should have answered, and why it didn't.
    unanswered: Vec<String>,
    error: String,
}

/// Sessions and names that are remembered.
const MAX_KNOWN: usize = 4096;

/// From a call to the request as its server received it.
const SERVED: &str = "call-served";

impl Session {
    /// A request is complete: what it says, before its event is written, which takes the body.
    pub(in crate::session) fn message_to_server(
        &mut self,
        place: (StreamId, ExchangeId),
        request: &HttpRequest<'static>,
    ) -> Option<Message> {
        let servers = &mut self.servers;
        let session = header(&request.headers, b"mcp-session-id");
        let key = session.as_deref().unwrap_or(&*request.url);
        let known = servers.web.sessions.get(key).copied();
        if request.method == "GET" {
            if let Some(channel) = known.filter(|_| session.is_some() && !request.received) {
                servers.web.listening.insert(place, channel);
            }
            return None;
        }
        let Content::Inline(body) = &request.body else { return None };
        if request.method != "POST" || !Mcp::is_message(body) {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (body.as_slice(), &session).hash(&mut hasher);
        let hash = hasher.finish();
        if request.received {
            return Some(Message { told: Vec::new(), body: hash, asked: None });
        }
        let (channel, own) =
            known.map_or_else(|| (servers.channel(), true), |known| (known, false));
        let url = without_query(&request.url);
        if servers.mcp.server(channel).is_none()
            && let Some(name) = servers.web.names.get(&url)
        {
            servers.mcp.name_server(channel, name);
        }
        let told = servers.mcp.message(channel, Speaker::Client, body);
        let calls = told.iter().filter_map(|told| match told {
            Told::Call(call) => Some(call.id.clone().into_owned()),
            _ => None,
        });
        let asked = Asked { channel, own, url, calls: calls.collect() };
        Some(Message { told, body: hash, asked: Some(asked) })
    }

    /// Its event is written.
    pub(in crate::session) fn server_asked(
        &mut self,
        place: (StreamId, ExchangeId),
        message: Message,
        by: By,
        (seq, at): (Option<Seq>, u64),
    ) {
        match message.asked {
            Some(asked) => {
                self.servers.web.asked.insert(place, asked);
                self.tell_of_server(message.told, by, (seq, at), (false, Some(message.body)));
            }
            None => self.server_received(message.body, by, seq),
        }
    }

    /// The server is in the tree: its process works on the call from now on.
    fn server_received(&mut self, body: u64, by: By, seq: Option<Seq>) {
        let mut open = self.servers.open.values_mut();
        let Some(open) = open.find(|open| open.body == Some(body)) else { return };
        open.body = None;
        let (from, certainty) = (open.call, Certainty::Recorded);
        let Some(to) = seq else { return };
        self.tools.began(from, by.proc, &Payload::default());
        self.note(Link { from, to, kind: SERVED.into(), certainty });
    }

    /// A client has its response: what it says, before its event is written, which takes the body.
    pub(in crate::session) fn reply_of_server(
        &mut self,
        place: (StreamId, ExchangeId),
        response: &HttpResponse<'static>,
    ) -> Option<Reply> {
        let servers = &mut self.servers;
        servers.web.listening.remove(&place);
        let Asked { channel, own, url, calls } = servers.web.asked.remove(&place)?;
        let is_stream = header(&response.headers, b"content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        let told = match &response.body {
            Content::Inline(body) => servers.mcp.response(channel, body, is_stream),
            Content::Object { .. } => Vec::new(),
        };
        let name = servers.mcp.server(channel).map(str::to_owned);
        if let Some(name) = &name
            && (servers.web.names.len() < MAX_KNOWN || servers.web.names.contains_key(&url))
        {
            servers.web.names.insert(url, name.clone());
        }
        if let Some(session) = header(&response.headers, b"mcp-session-id")
            && !servers.web.sessions.contains_key(&session)
        {
            let channel = servers.session(session);
            if let Some(name) = name {
                servers.mcp.name_server(channel, &name);
            }
        }
        let failed = response.status >= 400 || response.incomplete.is_some();
        let unanswered = if own || failed { calls } else { Vec::new() };
        if own {
            servers.mcp.closed(channel);
        }
        let error = match &response.incomplete {
            Some(why) => format!("no answer: {why}"),
            None => format!("no answer: HTTP status {}", response.status),
        };
        Some(Reply { told, unanswered, error })
    }

    /// Its event is written.
    pub(in crate::session) fn server_replied(
        &mut self,
        reply: Reply,
        by: By,
        when: (Option<Seq>, u64),
    ) {
        self.tell_of_server(reply.told, by, when, (false, None));
        self.tell_of_no_answer(reply.unanswered, &reply.error, by, when);
    }

    /// There is no response.
    pub(in crate::session) fn no_reply_of_server(
        &mut self,
        place: (StreamId, ExchangeId),
        by: By,
        at: u64,
    ) {
        self.servers.web.listening.remove(&place);
        let Some(asked) = self.servers.web.asked.remove(&place) else { return };
        if asked.own {
            self.servers.mcp.closed(asked.channel);
        }
        self.tell_of_no_answer(asked.calls, "no answer: there is no response", by, (None, at));
    }

    /// An event of a stream that is not over: a message, or where the server takes messages.
    pub(in crate::session) fn event_of_server(
        &mut self,
        place: (StreamId, ExchangeId),
        (url, event, data): (&str, &[u8], &[u8]),
        by: By,
        when: (Option<Seq>, u64),
    ) {
        let servers = &mut self.servers;
        if event == b"endpoint" {
            let endpoint = resolved(url, &String::from_utf8_lossy(data));
            let channel = servers.session(endpoint);
            servers.web.listening.insert(place, channel);
            return;
        }
        let asked = servers.web.asked.get(&place).map(|asked| asked.channel);
        let Some(channel) = asked.or_else(|| servers.web.listening.get(&place).copied()) else {
            return;
        };
        let told = servers.mcp.message(channel, Speaker::Server, data);
        self.tell_of_server(told, by, when, (false, None));
    }
}

impl super::Servers {
    /// The channel of a new session.
    fn session(&mut self, key: String) -> u64 {
        if self.web.sessions.len() >= MAX_KNOWN {
            self.web.sessions.clear();
        }
        let channel = self.channel();
        self.web.sessions.insert(key, channel);
        channel
    }
}

fn header(
    headers: &[(agentrec_trace::Bytes<'_>, agentrec_trace::Bytes<'_>)],
    wanted: &[u8],
) -> Option<String> {
    let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

/// An address that a server named, as seen from where it did.
fn resolved(base: &str, named: &str) -> String {
    let named = named.trim();
    if named.contains("://") {
        return named.to_owned();
    }
    let host = base.find("://").map_or(0, |scheme| scheme + 3);
    let path = base[host..].find('/').map_or(base.len(), |path| host + path);
    match named.strip_prefix('/') {
        Some(rest) => format!("{}/{rest}", &base[..path]),
        None => {
            let directory = without_query(base);
            let directory = directory.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{directory}/{named}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_seen_from_where_it_was_named() {
        let base = "http://127.0.0.1:8000/api/sse?x=1";
        for (named, expected) in [
            ("/messages/?session_id=7", "http://127.0.0.1:8000/messages/?session_id=7"),
            ("messages", "http://127.0.0.1:8000/api/messages"),
            ("https://other/m", "https://other/m"),
        ] {
            assert_eq!(resolved(base, named), expected);
        }
        assert_eq!(resolved("http://host", "/m"), "http://host/m");
    }
}
