//! What exchanges with models say: messages, tool calls and their results, tokens; and the snapshot at each request.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use agentrec_trace::event::{
    Certainty, Content, HistoryDropped, HttpRequest, HttpResponse, Link, ModelRequest,
    ModelResponse, Payload,
};
use agentrec_trace::{Data, Event, ProcId, Seq, Source, Value};
use agentrec_wire::ExchangeId;
use agentrec_wire::llm::{Answered, AskId, Asked, Prices, Told, Tracker};

use super::By;
use super::said::{Said, id_key, message_key};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::session::mcp::Half;
use crate::session::snapshot::Wanted;
use crate::socket::State;
use crate::source::StreamId;

/// What is known of all conversations.
pub(in crate::session) struct Talk {
    tracker: Tracker,
    /// Requests that wait for their responses.
    asked: HashMap<(StreamId, ExchangeId), (AskId, Option<Seq>)>,
    /// The same of WebSockets.
    asked_by_message: BTreeMap<AskId, Option<Seq>>,
    /// What was told last of each conversation: system prompt and tools.
    standing: HashMap<String, (Value, Value)>,
    pace: Pace,
    pub(in crate::session) said: Said,
    /// Names that APIs gave to answers which were read.
    answers: HashSet<String>,
    /// Who asked a model, and was understood.
    askers: HashSet<ProcId>,
}

impl Talk {
    /// With the user's own prices, where there is such a file.
    ///
    /// # Errors
    /// Where they can't be used.
    pub(in crate::session) fn new(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unusable(path, &error)),
        };
        let own = Prices::parse(&text).map_err(|error| unusable(path, &error))?;
        Ok(Self::with(Prices::default().overridden_by(own)))
    }

    fn with(prices: Prices) -> Self {
        Self {
            tracker: Tracker::new(prices),
            asked: HashMap::new(),
            asked_by_message: BTreeMap::new(),
            standing: HashMap::new(),
            pace: Pace::default(),
            said: Said::default(),
            answers: HashSet::new(),
            askers: HashSet::new(),
        }
    }

    /// Whether answers are still to come to what was asked.
    pub(in crate::session) fn waits(&self) -> bool {
        !self.asked.is_empty() || !self.asked_by_message.is_empty()
    }

    /// Whether the answer of this name was read.
    pub(in crate::session) fn has_answer(&self, name: &str) -> bool {
        self.answers.contains(name)
    }

    /// Whether requests of this process to a model were read.
    pub(in crate::session) fn has_asked(&self, proc: ProcId) -> bool {
        self.askers.contains(&proc)
    }

    /// A conversation that is known by another way begins.
    pub(in crate::session) fn next_name(&mut self) -> String {
        self.tracker.next_name()
    }

    /// What tokens cost.
    pub(in crate::session) fn prices(&self) -> &Prices {
        self.tracker.prices()
    }
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> Error {
    let message = format!("cannot use the prices in {}: {error}", path.display());
    Error::Recorder { message, hint: Some("correct them, or remove the file".to_owned()) }
}

/// Snapshots that nobody asked for, and that take long, take a quarter of the time at most.
#[derive(Default)]
struct Pace {
    /// When the last was wanted.
    last: Option<Instant>,
}

/// Conversations whose system prompt and tools are remembered.
const MAX_STANDING: usize = 1024;

/// Names of answers that are remembered.
const MAX_ANSWERS: usize = 16 * 1024;

impl Session {
    /// A client's request is complete: what it says, before its event is written, which takes the body.
    pub(super) fn ask(&mut self, request: &HttpRequest<'static>) -> Option<Asked> {
        let Content::Inline(body) = &request.body else { return None };
        self.talk.tracker.request(&request.method, &request.url, body)
    }

    /// Its event is written.
    pub(super) fn asked(
        &mut self,
        place: (StreamId, ExchangeId),
        asked: Asked,
        by: By,
        (http, stored): (Option<Seq>, Option<Payload>),
        at: u64,
    ) {
        let id = asked.id;
        let seq = self.tell_request(asked, by, (http, stored), at);
        self.talk.asked.insert(place, (id, seq));
    }

    /// `http`: the event that it came with, and where in its body the messages are stored.
    fn tell_request(
        &mut self,
        asked: Asked,
        by: By,
        (http, stored): (Option<Seq>, Option<Payload>),
        at: u64,
    ) -> Option<Seq> {
        let Asked { conversation, branch_of, side, dialect, model, system_prompt, tools, .. } =
            asked;
        let (mut new_prompt, mut new_tools) = (Value::Nil, Value::Nil);
        if side.is_none() {
            let standing = &mut self.talk.standing;
            if standing.len() >= MAX_STANDING {
                standing.clear();
            }
            let (prompt, known) =
                standing.entry(conversation.clone()).or_insert((Value::Nil, Value::Nil));
            if *prompt != system_prompt {
                new_prompt = system_prompt.clone();
                *prompt = system_prompt.clone();
            }
            if *known != tools {
                new_tools = tools.clone();
                *known = tools.clone();
            }
        }
        let data = ModelRequest {
            request: http,
            conversation: Some(conversation.into()),
            branch_of: branch_of.map(Into::into),
            side: side.map(|side| side.as_str().into()),
            dialect: dialect.map_or("", |dialect| dialect.as_str()).into(),
            model: model.clone().unwrap_or_default().into(),
            repeats: asked.repeats,
            system_prompt: Payload::Inline(new_prompt),
            tools: Payload::Inline(new_tools),
        };
        let mut event = by.event(at, data);
        event.cause = http;
        let event = self.redacted(event);
        let seq = self.write(event);
        self.tell(asked.told, by, seq, at);
        if side.is_none() {
            self.servers.asked_again();
            self.kepts.begin_epoch();
            self.talk.askers.extend(by.proc);
        }
        if side.is_none() && self.takes_snapshots() && !asked.repeats {
            let messages = asked.messages;
            let told = State { messages, system_prompt, tools, model, stored, ..State::default() };
            let state = self.conversation.update(told);
            self.snapshot_at_request(state, by.proc, seq);
        }
        seq
    }

    /// The state that the model is asked in. Where a snapshot takes long, not each request has one.
    fn snapshot_at_request(&mut self, state: State, proc: Option<ProcId>, cause: Option<Seq>) {
        const SHARE: u32 = 4;
        const QUICK: Duration = Duration::from_millis(250);
        let took = self.snapshots.last_took();
        let now = Instant::now();
        if took > QUICK && self.talk.pace.last.is_some_and(|last| now - last < SHARE * took) {
            return;
        }
        self.talk.pace.last = Some(now);
        let (description, trigger) = ("request".to_owned(), "request");
        let asked = crate::session::boottime();
        let wanted = Wanted { description, trigger, state, proc, cause, reply: None, asked };
        self.snapshots.want(wanted);
    }

    /// A client has its response: what it says, before its event is written, which takes the body.
    pub(super) fn answer(
        &mut self,
        place: (StreamId, ExchangeId),
        response: &HttpResponse<'static>,
    ) -> Option<(Answered, Option<Seq>)> {
        let (id, request) = self.talk.asked.remove(&place)?;
        let Content::Inline(body) = &response.body else { return None };
        let kind =
            response.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
        let is_stream = kind.is_some_and(|(_, kind)| kind.starts_with(b"text/event-stream"));
        let whole = response.incomplete.is_none();
        let status = Some(response.status).filter(|status| *status != 0);
        Some((self.talk.tracker.response(id, status, body, is_stream, whole), request))
    }

    /// There is no response.
    pub(super) fn unanswered(&mut self, place: (StreamId, ExchangeId), by: By, at: u64) {
        let Some((id, request)) = self.talk.asked.remove(&place) else { return };
        let answered = self.talk.tracker.response(id, None, b"", false, false);
        self.tell_answer((answered, request), by, None, at);
    }

    pub(super) fn tell_answer(
        &mut self,
        (answered, request): (Answered, Option<Seq>),
        by: By,
        http: Option<Seq>,
        at: u64,
    ) {
        let Answered { name, model, finish, failure, incomplete, told, .. } = answered;
        if self.talk.answers.len() >= MAX_ANSWERS {
            self.talk.answers.clear();
        }
        self.talk.answers.extend(name);
        let error = failure.map(|failure| match (failure.status, &*failure.kind) {
            (Some(status), kind) => format!("{status} {kind}: {}", failure.message),
            (None, kind) => format!("{kind}: {}", failure.message),
        });
        let data = ModelResponse {
            request,
            response: http,
            model: model.unwrap_or_default().into(),
            finish: finish.map(Into::into),
            error: error.map(Into::into),
            incomplete: incomplete.map(Into::into),
        };
        let mut event = by.event(at, data);
        event.cause = http;
        let event = self.redacted(event);
        let seq = self.write(event);
        self.tell(told, by, seq, at);
    }

    /// A text message of a WebSocket.
    pub(super) fn socket_message(
        &mut self,
        (id, exchange): (StreamId, ExchangeId),
        url: &str,
        (from_client, message): (bool, &[u8]),
        (by, at, seq): (By, u64, Option<Seq>),
    ) {
        let told = self.talk.tracker.socket_message(
            socket_number(id, exchange),
            url,
            from_client,
            message,
        );
        if let Some(asked) = told.asked {
            let ask = asked.id;
            let request = self.tell_request(asked, by, (seq, None), at);
            self.talk.asked_by_message.insert(ask, request);
        }
        if let Some(answered) = told.answered {
            let request = self.talk.asked_by_message.remove(&answered.id).flatten();
            self.tell_answer((answered, request), by, seq, at);
        }
    }

    /// A WebSocket is closed.
    pub(super) fn socket_closed(&mut self, id: StreamId, exchange: ExchangeId, by: By, at: u64) {
        for answered in self.talk.tracker.socket_closed(socket_number(id, exchange)) {
            let request = self.talk.asked_by_message.remove(&answered.id).flatten();
            self.tell_answer((answered, request), by, None, at);
        }
    }

    /// Writes what was said for the first time. What the agent itself told before is not told again, but tied to what it answers.
    fn tell(&mut self, told: Vec<Told>, by: By, cause: Option<Seq>, at: u64) {
        for told in told {
            let data: Data<'static> = match told {
                Told::Message(message) => message.into(),
                Told::Call(call) => call.into(),
                Told::Result(result) => result.into(),
                Told::Usage(usage) => usage.into(),
                Told::Dropped(dropped) => HistoryDropped {
                    conversation: Some(dropped.conversation.into()),
                    messages: dropped.messages,
                    index: dropped.index,
                    how: dropped.how.as_str().into(),
                }
                .into(),
            };
            let mut event = by.event(at, data);
            event.cause = cause;
            if let (Telling::Before(known, kind), Some(from)) = (self.tell_once(event), cause)
                && let Some(kind) = kind
            {
                let certainty = Certainty::Recorded;
                self.note(Link { from, to: known, kind: kind.into(), certainty });
            }
        }
    }

    /// Writes a message, a call or a result, unless another side told it.
    pub(in crate::session) fn tell_once(&mut self, mut event: Event<'static>) -> Telling {
        let (key, kind) = match &event.data {
            Data::Message(message) => {
                let is_answer = message.role == "assistant";
                (message_key(message), is_answer.then_some("response-message"))
            }
            Data::ToolCall(call) => (id_key(false, &call.id), Some("response-call")),
            Data::ToolResult(result) => (id_key(true, &result.id), None),
            _ => (None, None),
        };
        let source = event.source.clone();
        if let Some(known) = self.talk.said.before(key, &source) {
            return Telling::Before(known, kind);
        }
        let mut called = None;
        match &mut event.data {
            Data::ToolCall(call) => {
                let id = call.id.clone().into_owned();
                called = Some((id, call.arguments.clone(), Half::of(call)));
            }
            Data::ToolResult(result) => {
                result.call = self.calls.remove(&*result.id);
                if let Some(call) = result.call {
                    self.tools.ended(call);
                    self.servers.ended(call);
                }
            }
            _ => {}
        }
        let proc = event.proc;
        let event = self.redacted(event);
        let Some(seq) = self.write(event) else { return Telling::NotWritten };
        self.talk.said.told(key, &source, seq);
        if let Some((id, arguments, half)) = called {
            // What a transcript tells is over, mostly: what was started since may be for another call.
            if source != Source::Transcript {
                self.tools.began(seq, proc, &arguments);
            }
            self.calls.insert(id, seq);
            if let Some(link) = self.servers.called(seq, half) {
                self.note(link);
            }
        }
        Telling::Now(seq)
    }
}

/// What became of something that was told.
pub(in crate::session) enum Telling {
    /// It is this event.
    Now(Seq),
    /// It was told by another side, as this event; and how that is tied to its cause.
    Before(Seq, Option<&'static str>),
    /// The trace can't be written.
    NotWritten,
}

fn socket_number(id: StreamId, exchange: ExchangeId) -> u64 {
    let stream = match id {
        StreamId::Socket(open) => u64::from(open.0) << 2,
        StreamId::Tls(number) => u64::from(number) << 2 | 1,
        StreamId::Proxy(number) => u64::from(number) << 2 | 2,
        StreamId::Pipe(number) => u64::from(number) << 2 | 3,
    };
    stream << 24 | exchange.0 & 0xff_ffff
}
