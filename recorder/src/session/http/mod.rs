//! Connections whose bytes are looked at: what `wire` finds in them becomes `http.…` events, and what it can't read is named.

mod exchange;
mod said;
mod stored;
mod talk;
mod ties;

pub(super) use said::{id_key, message_key};
pub(super) use talk::{Talk, Telling};

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use agentrec_trace::event::{
    Address, Content, HttpRequest, HttpResponse, Lost as LostEvent, NetClose, NetOpaque, Payload,
};
use agentrec_trace::{Data, Event, ObjectHint, ObjectId, ProcId, Seq, Source};
use agentrec_wire::{ClientHello, Connection, Ending, ExchangeId, Options, Protocol, Role, Scheme};

use self::exchange::{Done, Exchanges};
use self::ties::{Tie, Unclear};
use super::{Session, boottime};
use crate::observation::Direction;
use crate::options::Tls;
use crate::source::{self, Began, OpenId, Stream, StreamId, Streamed, Unwanted};
use crate::tls::Own;

/// All connections that are looked at.
#[derive(Default)]
pub(super) struct Http {
    streams: HashMap<StreamId, Live>,
    /// The last body of each series: of what a process sends to an address, and of what it is answered.
    bodies: HashMap<(ProcId, String, bool), ObjectId>,
    /// Streams of TLS libraries that belong to one of several sockets.
    unclear: Unclear,
}

/// A connection.
struct Live {
    connection: Connection,
    exchanges: Exchanges,
    unwanted: Unwanted,
    peer: Address<'static>,
    /// Who used it first.
    proc: Option<ProcId>,
    /// The event that it began with, where another stream's socket is below it.
    through: Option<Seq>,
    /// Why it can't be read, where that is so.
    opaque: Option<Opaque>,
    /// The same, as the proxy says it.
    why: Option<source::Opaque>,
    /// What is known of the socket below the TLS, or the TLS above the socket.
    tie: Tie,
    /// Exchanges that became WebSockets.
    sockets: BTreeSet<ExchangeId>,
    /// By [`Direction`]: as far as they were looked at, or as its closes say.
    bytes: [u64; 2],
}

/// What can't be read.
struct Opaque {
    reason: &'static str,
    hello: Option<ClientHello>,
}

/// Series that are remembered: of more, bodies are stored by themselves.
const MAX_SERIES: usize = 4096;

impl Live {
    fn new(id: StreamId, proc: Option<ProcId>, began: Began, through: Option<Seq>) -> Self {
        let Began { role, peer, through: _, joined, unwanted } = began;
        let scheme = match id {
            StreamId::Tls(_) => Scheme::Https,
            StreamId::Socket(_) | StreamId::Proxy(_) | StreamId::Pipe(_) => Scheme::Http,
        };
        let authority = (role == Some(Role::Client)).then(|| authority(&peer)).flatten();
        let connection = Connection::new(Options { role, scheme, authority, joined });
        Self {
            connection,
            exchanges: Exchanges::default(),
            unwanted,
            peer,
            proc,
            through,
            opaque: None,
            why: None,
            tie: Tie::None,
            sockets: BTreeSet::new(),
            bytes: [0; 2],
        }
    }
}

/// Host and port as they stand in a URL.
fn authority(peer: &Address<'_>) -> Option<String> {
    match (&*peer.family, &*peer.host) {
        ("inet", host) => Some(format!("{host}:{}", peer.port)),
        ("inet6", host) => Some(format!("[{host}]:{}", peer.port)),
        _ => None,
    }
}

fn wire_direction(direction: Direction) -> agentrec_wire::Direction {
    match direction {
        Direction::Write => agentrec_wire::Direction::Sent,
        Direction::Read => agentrec_wire::Direction::Received,
    }
}

fn index(direction: Direction) -> usize {
    match direction {
        Direction::Write => 0,
        Direction::Read => 1,
    }
}

impl Http {
    /// Somebody else reads a unix connection of which nothing was looked at yet: the flag that says it is not wanted.
    pub(super) fn give_up_unread(&mut self, id: StreamId) -> Option<Unwanted> {
        let live = self.streams.get(&id)?;
        let is_fresh = live.bytes == [0; 2] && live.peer.family == "unix";
        is_fresh.then(|| self.streams.remove(&id).map(|live| live.unwanted)).flatten()
    }
}

impl Session {
    /// Something happened on a connection.
    pub(super) fn streamed(&mut self, streamed: Streamed) {
        let Some(streamed) = self.lines_streamed(streamed) else { return };
        let Streamed { id, ts, proc, tid, what } = streamed;
        let what = match what {
            Stream::Began(began) => {
                let through = began.through.and_then(|open| self.seq_of(open));
                self.http.streams.insert(id, Live::new(id, proc, *began, through));
                return;
            }
            what => what,
        };
        let Some(live) = self.http.streams.get_mut(&id) else { return };
        let proc = proc.or(live.proc.filter(|_| matches!(id, StreamId::Proxy(_))));
        let Live { connection, exchanges, .. } = live;
        let mut done = Vec::new();
        exchanges.by(proc, tid);
        let mut out = |item: agentrec_wire::Item<'_>| exchanges.take(item, &mut done);
        let mut over = false;
        match what {
            Stream::Began(_) => unreachable!("handled above"),
            Stream::Bytes { direction, data } => {
                live.bytes[index(direction)] += data.len() as u64;
                connection.feed(wire_direction(direction), ts, &data, &mut out);
            }
            Stream::Missing { direction, count } => {
                live.bytes[index(direction)] += count;
                connection.missing(wire_direction(direction), ts, count, &mut out);
            }
            Stream::Decrypted => {
                let authority = authority(&live.peer);
                let (role, scheme) = (connection.role(), Scheme::Https);
                *connection = Connection::new(Options { role, scheme, authority, joined: false });
            }
            Stream::Opaque(why) => live.why = Some(why),
            Stream::Sum { sent, received } => {
                live.bytes = [live.bytes[0].max(sent), live.bytes[1].max(received)];
            }
            Stream::End { direction } => connection.eof(wire_direction(direction), ts, &mut out),
            Stream::Over { reset } => {
                let ending = if reset { Ending::Reset } else { Ending::Closed };
                connection.close(ts, ending, &mut out);
                over = true;
            }
        }
        if !connection.wants_bytes() {
            live.unwanted.set();
        }
        for done in done {
            self.exchanged(id, done);
        }
        if over {
            self.end_stream(id, ts);
        }
    }

    /// Nobody looks any more: what is not whole is told as far as it came.
    pub(super) fn end_streams(&mut self) {
        let ts = boottime();
        let mut ids: Vec<StreamId> = self.http.streams.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(live) = self.http.streams.get_mut(&id) else { continue };
            let Live { connection, exchanges, .. } = live;
            let mut done = Vec::new();
            let mut out = |item: agentrec_wire::Item<'_>| exchanges.take(item, &mut done);
            connection.close(ts, Ending::Unwatched, &mut out);
            for done in done {
                self.exchanged(id, done);
            }
            self.end_stream(id, ts);
        }
    }

    /// A process closed a connection: how much went over it is known now.
    pub(super) fn stream_closed(&mut self, close: &NetClose<'_>) {
        let open = close.open.and_then(|open| u32::try_from(open.0).ok()).map(OpenId);
        let seq = open.filter(|_| self.proxy.is_some()).and_then(|open| self.seq_of(open));
        let streams = &mut self.http.streams;
        let Some(live) = (match seq {
            Some(_) => streams.values_mut().find(|live| live.through == seq),
            None => open.and_then(|id| streams.get_mut(&StreamId::Socket(id))),
        }) else {
            return;
        };
        if live.opaque.is_some() {
            live.bytes = [live.bytes[0].max(close.sent), live.bytes[1].max(close.received)];
        }
    }

    /// Names what could not be read.
    fn end_stream(&mut self, id: StreamId, ts: u64) {
        let Some(live) = self.http.streams.remove(&id) else { return };
        let by = By { proc: live.proc, tid: None };
        for &exchange in &live.sockets {
            self.socket_closed(id, exchange, by, ts);
        }
        let is_read = self.http.is_read(&live);
        let unreached = live.why == Some(source::Opaque::Unreached);
        let unreached = unreached.then_some(Opaque { reason: "", hello: None });
        let opaque = live.opaque.filter(|_| !is_read).or(unreached);
        let Some(Opaque { reason, hello }) = opaque else { return };
        // What programs of one machine say to each other in a language of their own is nothing that hides.
        if !matches!(&*live.peer.family, "inet" | "inet6") {
            return;
        }
        let (reason, hint) = match live.why {
            Some(why) => (why.reason(), why.hint()),
            None if reason == "tls" && self.setup.options.tls == Tls::Probe => {
                let own = live.proc.and_then(|id| self.processes.own_tls(id));
                (own.map_or(reason, Own::reason), "record with --tls proxy")
            }
            None => (reason, ""),
        };
        let server_name = hello.and_then(|hello| hello.server_name).unwrap_or_default();
        let [sent, received] = live.bytes;
        let data = NetOpaque {
            open: live.through.or_else(|| self.open_of(id)),
            peer: live.peer,
            reason: reason.into(),
            hint: hint.into(),
            sent,
            received,
            server_name: String::from_utf8_lossy(&server_name).into_owned().into(),
        };
        let mut event = Event::new(ts, Source::Wire, data);
        event.proc = live.proc;
        self.write(event);
    }

    /// The event that a connection began with.
    fn open_of(&self, id: StreamId) -> Option<Seq> {
        match id {
            StreamId::Socket(open) => self.seq_of(open),
            StreamId::Tls(_) => match self.http.streams.get(&id)?.tie {
                Tie::Below(open) => self.seq_of(open),
                _ => None,
            },
            StreamId::Proxy(_) => self.http.streams.get(&id)?.through,
            StreamId::Pipe(_) => None,
        }
    }

    fn seq_of(&self, open: OpenId) -> Option<Seq> {
        self.output.resolve(Seq(u64::from(open.0)))
    }

    /// Something on a connection is complete.
    fn exchanged(&mut self, id: StreamId, done: Done) {
        match done {
            Done::Protocol(protocol) => {
                let opaque = match protocol {
                    Protocol::Tls(hello) => Some(Opaque { reason: "tls", hello }),
                    Protocol::Other => Some(Opaque { reason: "unknown-protocol", hello: None }),
                    _ => None,
                };
                if let Some(live) = self.http.streams.get_mut(&id) {
                    live.opaque = opaque;
                }
            }
            Done::Lost(lost) => {
                let way = match lost.direction {
                    agentrec_wire::Direction::Sent => "sent",
                    agentrec_wire::Direction::Received => "received",
                };
                let peer = self.http.streams.get(&id).and_then(|live| authority(&live.peer));
                let peer =
                    peer.map_or_else(String::new, |peer| format!(" of the connection with {peer}"));
                let reason = format!(
                    "in the HTTP that was {way}, at byte {}{peer}, the place was lost: {}; the next message is looked for",
                    lost.offset, lost.why
                );
                self.output.count_lost(None);
                let data = LostEvent {
                    place: "http".into(),
                    reason: reason.into(),
                    ..LostEvent::default()
                };
                let mut event = Event::new(lost.at, Source::Wire, data);
                event.proc = self.http.streams.get(&id).and_then(|live| live.proc);
                let event = self.redacted(event);
                self.write(event);
            }
            Done::Request { exchange, by, event, at } => {
                let (seq, url) = self.requested((id, exchange), by, event, at);
                if let Some(live) = self.http.streams.get_mut(&id) {
                    live.exchanges.requested(exchange, seq, url);
                }
            }
            Done::Response { exchange, by, mut event, at } => {
                let url;
                (event.request, url) = self.written(id, exchange);
                let answer = self.answer((id, exchange), &event);
                let reply = self.reply_of_server((id, exchange), &event);
                let seq = self.answered(by, event, url, at);
                if let Some(reply) = reply {
                    self.server_replied(reply, by, (seq, at));
                }
                if let Some(answer) = answer {
                    self.tell_answer(answer, by, seq, at);
                }
            }
            Done::Unanswered { exchange, by, at } => {
                self.unanswered((id, exchange), by, at);
                self.no_reply_of_server((id, exchange), by, at);
            }
            Done::Event { exchange, by, kind, data, at } => {
                let live = self.http.streams.get(&id);
                let client = live.filter(|live| live.connection.role() == Some(Role::Client));
                let Some(live) = client else { return };
                let (seq, url) = live.exchanges.request_of(exchange);
                self.event_of_server((id, exchange), (&url, &kind, &data), by, (seq, at));
            }
            Done::Message { exchange, by, mut event, at } => {
                if let Some(live) = self.http.streams.get_mut(&id) {
                    live.sockets.insert(exchange);
                }
                let url;
                (event.request, url) = self.written(id, exchange);
                // Only text is talk.
                let text = match &event.data {
                    Content::Inline(bytes) if event.kind == "text" => Some(bytes.to_vec()),
                    _ => None,
                };
                let from_client = event.client;
                let event = self.redacted(by.event(at, event));
                let seq = self.write(event);
                let role = self.http.streams.get(&id).and_then(|live| live.connection.role());
                if let (Some(text), Some(Role::Client)) = (text, role) {
                    let message = (from_client, &text[..]);
                    self.socket_message((id, exchange), &url, message, (by, at, seq));
                }
            }
        }
    }

    fn written(&mut self, id: StreamId, exchange: ExchangeId) -> (Option<Seq>, String) {
        let live = self.http.streams.get_mut(&id);
        live.map(|live| live.exchanges.written(exchange)).unwrap_or_default()
    }

    fn requested(
        &mut self,
        (id, exchange): (StreamId, ExchangeId),
        by: By,
        mut request: HttpRequest<'static>,
        at: u64,
    ) -> (Option<Seq>, String) {
        self.http.tie(id, &request.url);
        request.open = self.open_of(id);
        let role = self.http.streams.get(&id).and_then(|live| live.connection.role());
        request.received = role == Some(Role::Server);
        let asked = if request.received { None } else { self.ask(&request) };
        let message = self.message_to_server((id, exchange), &request);
        let mut event = self.redacted(by.event(at, request));
        let (mut url, mut stored) = (String::new(), None);
        if let Data::HttpRequest(request) = &mut event.data {
            // Without what may differ each time.
            url = request.url.split('?').next().unwrap_or_default().to_owned();
            let series = (by.proc.unwrap_or_default(), url.clone(), true);
            let messages = asked.as_ref().and_then(|asked| self.place_of(asked, &request.body));
            self.store_body(&mut request.body, series);
            if let (Some(text), Content::Object { id, .. }) = (messages, &request.body) {
                let (at, len) = (text.start as u64, text.len() as u64);
                stored = Some(Payload::Json { id: *id, at, len });
            }
        }
        let seq = self.write(event);
        if let Some(asked) = asked {
            self.asked((id, exchange), asked, by, (seq, stored), at);
        }
        if let Some(message) = message {
            if let Some(live) = self.http.streams.get_mut(&id) {
                live.exchanges.speaks_mcp(exchange);
            }
            self.server_asked((id, exchange), message, by, (seq, at));
        }
        (seq, url)
    }

    fn answered(
        &mut self,
        by: By,
        response: HttpResponse<'static>,
        url: String,
        at: u64,
    ) -> Option<Seq> {
        let mut event = self.redacted(by.event(at, response));
        if let Data::HttpResponse(response) = &mut event.data {
            self.store_body(&mut response.body, (by.proc.unwrap_or_default(), url, false));
        }
        self.write(event)
    }

    /// Puts a long body into an object, beside the one before of its series, which it mostly repeats.
    fn store_body(&mut self, body: &mut Content<'static>, series: (ProcId, String, bool)) {
        let Content::Inline(bytes) = body else { return };
        if bytes.len() <= Payload::MAX_INLINE || self.output.failure.is_some() {
            return;
        }
        let hint = ObjectHint::Series { after: self.http.bodies.get(&series).copied() };
        let bytes = std::mem::take(bytes);
        match self.output.any_writer().content(&bytes, hint) {
            Ok(Content::Object { id, len }) => {
                if self.http.bodies.len() < MAX_SERIES || self.http.bodies.contains_key(&series) {
                    self.http.bodies.insert(series, id);
                }
                *body = Content::Object { id, len };
            }
            Ok(Content::Inline(_)) => *body = Content::Inline(bytes),
            Err(error) => {
                *body = Content::default();
                self.check(Err(error));
            }
        }
    }
}

/// Whose call it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct By {
    pub(super) proc: Option<ProcId>,
    pub(super) tid: Option<u32>,
}

impl By {
    pub(super) fn event(self, at: u64, data: impl Into<Data<'static>>) -> Event<'static> {
        let mut event = Event::new(at, Source::Wire, data);
        (event.proc, event.tid) = (self.proc, self.tid);
        event
    }
}

/// Text of the wire, which should be ASCII.
fn text(bytes: &[u8]) -> Cow<'static, str> {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// A WebSocket message as an event, without its bytes.
fn message_kind(kind: agentrec_wire::MessageKind) -> &'static str {
    use agentrec_wire::MessageKind::{Binary, Close, Ping, Pong, Text};
    match kind {
        Text => "text",
        Binary => "binary",
        Close => "close",
        Ping => "ping",
        Pong => "pong",
    }
}
