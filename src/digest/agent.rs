//! What the agent told: tool calls with their results, messages, snapshots.

use agentrec_trace::event::{Payload, SnapshotCreated};
use agentrec_trace::{Data, Event, ProcId, Seq};

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
    /// Id that the result repeats.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Arguments.
    pub arguments: Payload,
    /// CLOCK_BOOTTIME of the result, nanoseconds; none while the call is open.
    pub ended: Option<u64>,
    /// What it returned.
    pub result: Option<Payload>,
    /// What it raised.
    pub error: Option<String>,
}

impl Call {
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
    /// `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// Text or content blocks.
    pub content: Payload,
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The event.
    pub seq: Seq,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub ts: u64,
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
}

impl Agent<'_> {
    /// Takes the next event.
    pub fn add(self, event: &Event<'_>) {
        match &event.data {
            Data::ToolCall(call) => self.calls.push(Call {
                seq: event.seq,
                ts: event.ts,
                proc: event.proc,
                id: call.id.clone().into_owned(),
                name: call.name.clone().into_owned(),
                arguments: call.arguments.clone(),
                ended: None,
                result: None,
                error: None,
            }),
            Data::ToolResult(result) => {
                let by_seq = |call: &Call| result.call == Some(call.seq);
                let by_id = |call: &Call| call.ended.is_none() && call.id == result.id;
                let open = match self.calls.iter().rposition(by_seq) {
                    Some(found) => Some(found),
                    None => self.calls.iter().rposition(by_id),
                };
                if let Some(call) = open.and_then(|found| self.calls.get_mut(found)) {
                    call.ended = Some(event.ts);
                    call.result = Some(result.result.clone());
                    call.error = result.error.as_ref().map(|error| error.clone().into_owned());
                }
            }
            Data::Message(message) => self.messages.push(Message {
                seq: event.seq,
                ts: event.ts,
                role: message.role.clone().into_owned(),
                content: message.content.clone(),
            }),
            Data::SnapshotCreated(created) => self.snapshots.push(Snapshot {
                seq: event.seq,
                ts: event.ts,
                created: owned(created),
            }),
            _ => {}
        }
    }
}
