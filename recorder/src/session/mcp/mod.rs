//! Calls of tools that servers carry out, by the Model Context Protocol: over HTTP, or a server's standard input and output.
//!
//! A model's call stays the call. What the server is asked then is an event of its own, since it has other times and another
//! process, tied to the call by a `link`.

mod carried;
mod http;
mod stdio;

pub(super) use carried::Half;

use std::collections::HashMap;

use agentrec_trace::event::{Link, ToolResult};
use agentrec_trace::{ProcId, Seq};
use agentrec_wire::llm::{Mcp, Told};

use self::carried::Carried;
use self::http::Web;
use self::stdio::Lines;
use super::Session;
use super::http::By;
use crate::source::StreamId;

/// All servers of the recording.
#[derive(Default)]
pub(super) struct Servers {
    mcp: Mcp,
    last_channel: u64,
    /// Servers that talk through their standard input and output.
    processes: HashMap<ProcId, u64>,
    lines: HashMap<StreamId, Lines>,
    web: Web,
    /// Calls without a result, by id.
    open: HashMap<String, Open>,
    carried: Carried,
}

/// A call that has no result yet.
struct Open {
    call: Seq,
    /// When it was made.
    at: u64,
    /// What is known again of the HTTP request, where it is sent by one: until its server is seen to receive it.
    body: Option<u64>,
}

/// Calls without a result that are remembered, beyond what `wire` does: of servers that never answered.
const MAX_OPEN: usize = 16 * 1024;

impl Servers {
    /// Another channel: a server's process, a session over HTTP, or one exchange.
    fn channel(&mut self) -> u64 {
        self.last_channel += 1;
        self.last_channel
    }

    /// A model, or the agent, has called a tool: the call to a server that carries it out, where that came before.
    pub(super) fn called(&mut self, call: Seq, half: Half) -> Option<Link<'static>> {
        self.carried.asked(call, half)
    }

    /// That call has its result.
    pub(super) fn ended(&mut self, call: Seq) {
        self.carried.ended(call);
    }

    /// A model is asked again: what servers were called for before is not for its answer.
    pub(super) fn asked_again(&mut self) {
        self.carried.forget_early();
    }

    /// Another trace begins, which has none of these events.
    pub(super) fn forget_events(&mut self) {
        self.open.clear();
        self.carried = Carried::default();
    }
}

impl Session {
    /// Writes what a server was asked, or answered. `served` says that `by` is the server's process; `body` what its request is
    /// known again by.
    fn tell_of_server(
        &mut self,
        told: Vec<Told>,
        by: By,
        (cause, at): (Option<Seq>, u64),
        (served, body): (bool, Option<u64>),
    ) {
        for told in told {
            match told {
                Told::Call(call) => {
                    let (id, half) = (call.id.clone().into_owned(), Half::of(&call));
                    let arguments = call.arguments.clone();
                    let mut event = by.event(at, call);
                    event.cause = cause;
                    let event = self.redacted(event);
                    let Some(seq) = self.write(event) else { continue };
                    if self.servers.open.len() >= MAX_OPEN {
                        self.servers.open.clear();
                    }
                    self.servers.open.insert(id, Open { call: seq, at, body });
                    if served {
                        self.tools.began(seq, by.proc, &arguments);
                    }
                    if let Some(link) = self.servers.carried.carried_out(seq, half) {
                        self.note(link);
                    }
                }
                Told::Result(result) => self.tell_of_result(result, by, cause, at),
                _ => {}
            }
        }
        let skipped = self.servers.mcp.take_skipped();
        if skipped > 0 {
            let reason = "messages of an MCP server or its client are longer than 16 MiB, or bytes in them were not captured";
            self.lost("mcp", reason.to_owned(), Some(skipped));
        }
    }

    fn tell_of_result(
        &mut self,
        mut result: ToolResult<'static>,
        by: By,
        cause: Option<Seq>,
        at: u64,
    ) {
        let Some(open) = self.servers.open.remove(&*result.id) else { return };
        result.call = Some(open.call);
        result.duration = Some(at.saturating_sub(open.at));
        let mut event = by.event(at, result);
        event.cause = cause;
        let event = self.redacted(event);
        self.write(event);
        self.tools.ended(open.call);
    }

    /// Tells of calls that nobody will answer, where they have no result.
    fn tell_of_no_answer(
        &mut self,
        calls: Vec<String>,
        error: &str,
        by: By,
        (cause, at): (Option<Seq>, u64),
    ) {
        for id in calls {
            let error = Some(error.to_owned().into());
            let result = ToolResult { id: id.into(), error, ..ToolResult::default() };
            self.tell_of_result(result, by, cause, at);
        }
    }
}
