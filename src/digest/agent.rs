//! What the agent told: tool calls with their results, messages, snapshots.

use std::collections::HashMap;

use agentrec_trace::event::{Payload, SnapshotCreated};
use agentrec_trace::{Data, Event, ProcId, Seq, Source};

use super::owned;

/// A tool call, with its result where one came.
#[derive(Clone, Debug)]
pub struct Call {
    /// The `tool.call`.
    pub seq: Seq,
    /// CLOCK_BOOTTIME of the call, nanoseconds.
    pub ts: u64,
    /// The process that told of it.
    pub proc: Option<ProcId>,
    /// Who says so.
    pub source: Source,
    /// Id that the result repeats.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Arguments.
    pub arguments: Payload,
    /// Conversation it belongs to.
    pub conversation: Option<String>,
    /// The `tool.result`.
    pub result_seq: Option<Seq>,
    /// CLOCK_BOOTTIME of the result, nanoseconds; none while the call is open.
    pub ended: Option<u64>,
    /// What it returned.
    pub result: Option<Payload>,
    /// What it raised.
    pub error: Option<String>,
    /// The MCP server that carries it out: of the call to that server, and of the one that led to it.
    pub server: Option<String>,
    /// The call that led to this one, which is what became of it.
    pub carries_out: Option<Seq>,
    /// The server's process, where it is known.
    pub served_by: Option<ProcId>,
}

impl Call {
    /// The call that it belongs to: itself, or the one that it carries out.
    pub fn whole(&self) -> Seq {
        self.carries_out.unwrap_or(self.seq)
    }

    /// Whether a process works on it: the one that told of it, or its server's.
    pub fn is_of(&self, proc: ProcId) -> bool {
        self.proc == Some(proc) || self.served_by == Some(proc)
    }

    /// Whether it was begun and not yet ended at `ts`.
    pub fn is_open_at(&self, ts: u64) -> bool {
        self.ts <= ts && self.ended.is_none_or(|ended| ts <= ended)
    }
}

/// A message of the conversation.
#[derive(Clone, Debug)]
pub struct Message {
    /// The event.
    pub seq: Seq,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub ts: u64,
    /// Conversation it belongs to.
    pub conversation: Option<String>,
    /// `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// Text or content blocks.
    pub content: Payload,
    /// Who says so.
    pub source: Source,
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The event.
    pub seq: Seq,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub ts: u64,
    /// The `model.request` at which it was taken, where it was one.
    pub cause: Option<Seq>,
    /// All that it holds.
    pub created: SnapshotCreated<'static>,
}

impl std::ops::Deref for Snapshot {
    type Target = SnapshotCreated<'static>;

    fn deref(&self) -> &Self::Target {
        &self.created
    }
}

/// The lists that events of the agent go to.
pub struct Agent<'d> {
    pub calls: &'d mut Vec<Call>,
    pub messages: &'d mut Vec<Message>,
    pub snapshots: &'d mut Vec<Snapshot>,
    /// Requests that a process received, by event.
    pub received: &'d mut HashMap<Seq, Option<ProcId>>,
}

impl Agent<'_> {
    /// Takes the next event.
    pub fn add(self, event: &Event<'_>) {
        match &event.data {
            Data::ToolCall(call) => self.calls.push(Call {
                seq: event.seq,
                ts: event.ts,
                proc: event.proc,
                source: event.source.clone(),
                id: call.id.clone().into_owned(),
                name: call.name.clone().into_owned(),
                arguments: call.arguments.clone(),
                conversation: call.conversation.as_ref().map(|name| name.clone().into_owned()),
                result_seq: None,
                ended: None,
                result: None,
                error: None,
                server: call.server.as_ref().map(|server| server.clone().into_owned()),
                carries_out: None,
                // Over HTTP, it is the client who tells of it.
                served_by: event.proc.filter(|_| call.server.is_some() && event.cause.is_none()),
            }),
            Data::HttpRequest(request) if request.received => {
                self.received.insert(event.seq, event.proc);
            }
            Data::Link(link) if link.kind == "call-execution" => {
                let position = |seq| self.calls.iter().rposition(|call: &Call| call.seq == seq);
                if let (Some(from), Some(to)) = (position(link.from), position(link.to))
                    && self.calls[from].carries_out.is_none()
                    && from != to
                {
                    let server = self.calls[to].server.clone();
                    self.calls[from].server = server;
                    self.calls[to].carries_out = Some(link.from);
                }
            }
            Data::Link(link) if link.kind == "call-served" => {
                let by = self.received.get(&link.to).copied().flatten();
                let call = self.calls.iter_mut().rfind(|call| call.seq == link.from);
                if let Some(call) = call {
                    call.served_by = by;
                }
            }
            Data::ToolResult(result) => {
                let by_seq = |call: &Call| result.call == Some(call.seq);
                let by_id = |call: &Call| call.ended.is_none() && call.id == result.id;
                let open = match self.calls.iter().rposition(by_seq) {
                    Some(found) => Some(found),
                    None => self.calls.iter().rposition(by_id),
                };
                if let Some(call) = open.and_then(|found| self.calls.get_mut(found)) {
                    call.ended = Some(event.ts);
                    call.result_seq = Some(event.seq);
                    call.result = Some(result.result.clone());
                    call.error = result.error.as_ref().map(|error| error.clone().into_owned());
                }
            }
            Data::Message(message) => self.messages.push(Message {
                seq: event.seq,
                ts: event.ts,
                conversation: message.conversation.as_ref().map(|name| name.clone().into_owned()),
                role: message.role.clone().into_owned(),
                content: message.content.clone(),
                source: event.source.clone(),
            }),
            Data::SnapshotCreated(created) => self.snapshots.push(Snapshot {
                seq: event.seq,
                ts: event.ts,
                cause: event.cause,
                created: owned(created),
            }),
            _ => {}
        }
    }
}
