//! What clients of the local socket say and want.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use agentrec_trace::{Data, Event, ProcId, Seq, Source};
use serde_json::json;

use super::http::Telling;
use super::snapshot::Wanted;
use super::{End, Reply, Session, boottime, conversation};
use crate::socket::{Incoming, Message, Request, Trigger};

/// Lines whose senders are not known yet: the socket may be quicker than the source.
#[derive(Debug, Default)]
pub(super) struct EarlyLines {
    /// The source was asked to catch up by this fence.
    fence: u64,
    /// These wait for that.
    asked: Vec<Incoming>,
    /// These came since.
    next: Vec<Incoming>,
}

impl EarlyLines {
    fn has_some_of(&self, sender: u32) -> bool {
        self.asked.iter().chain(&self.next).any(|line| line.sender == sender)
    }
}

impl Reply {
    /// Answers with `fields`, which must be an object.
    pub(super) fn ok(self, mut fields: serde_json::Value) {
        fields["req"] = self.req;
        fields["ok"] = true.into();
        self.connection.reply(&fields);
    }

    /// Answers that it could not be done, and why.
    pub(super) fn error(self, error: impl Into<String>) {
        let error: String = error.into();
        self.connection.reply(&json!({"req": self.req, "ok": false, "error": error}));
    }
}

impl Session {
    /// Handles one line of a client, or lets it wait until the source has told all that happened before: whether its
    /// sender was started may be on its way.
    pub(super) fn client(&mut self, incoming: Incoming) {
        let sender = incoming.sender;
        let waits =
            self.early.has_some_of(sender) || self.processes.find(sender, boottime()).is_none();
        if waits && self.control.is_some() && !self.tree_ended {
            self.early.next.push(incoming);
            self.ask_for_early();
        } else {
            self.line(incoming);
        }
    }

    /// Asks the source to catch up, unless it was asked already.
    fn ask_for_early(&mut self) {
        let early = &mut self.early;
        if let Some(control) = &self.control
            && early.asked.is_empty()
            && !early.next.is_empty()
        {
            self.next_fence += 1;
            early.fence = self.next_fence;
            early.asked = std::mem::take(&mut early.next);
            control.fence(early.fence);
        }
    }

    /// Handles the lines that waited for the source, where it has told by now what happened before them.
    pub(super) fn source_caught_up(&mut self) {
        if self.fence >= self.early.fence || self.tree_ended {
            for incoming in std::mem::take(&mut self.early.asked) {
                self.line(incoming);
            }
        }
        if self.tree_ended {
            for incoming in std::mem::take(&mut self.early.next) {
                self.line(incoming);
            }
        }
        self.ask_for_early();
    }

    /// Whether every line that was sent before the socket was closed has been handled.
    pub(super) fn all_lines_read(&self) -> bool {
        self.socket_done && self.early.asked.is_empty() && self.early.next.is_empty()
    }

    fn line(&mut self, incoming: Incoming) {
        let Incoming { sender, number, line, connection } = incoming;
        let now = boottime();
        // What the sender says of the time counts: it may be gone long since where we are slow.
        let told = line.as_ref().ok().and_then(|line| line.message.told_at());
        let told = told.filter(|told| (self.started.boottime..=now).contains(told)).unwrap_or(now);
        let proc = self.processes.find(sender, told);
        let reply_to = |req| Reply { connection: connection.clone(), req };
        let (reply, result) = match line {
            Err(refusal) => (refusal.req.map(reply_to), Err(refusal.reason)),
            Ok(line) => {
                let reply = line.req.map(reply_to);
                match line.message {
                    Message::Request(request) => return self.request(request, reply, proc),
                    Message::Event { data, tid, .. } => {
                        let envelope = |proc| Event {
                            proc: Some(proc),
                            tid,
                            ..Event::new(told, Source::Sdk, *data)
                        };
                        let outsider = format!("process {sender} is not in the recorded tree");
                        (reply, proc.ok_or(outsider).map(envelope).and_then(|e| self.checked(e)))
                    }
                }
            }
        };
        match result {
            Ok(event) => {
                let seq = self.told(event);
                match (reply, seq) {
                    (Some(reply), Some(Seq(seq))) => reply.ok(json!({"seq": seq})),
                    (Some(reply), None) => reply.error("the trace can't be written"),
                    (None, _) => {}
                }
            }
            Err(error) => {
                self.lost("socket", format!("line {number} of process {sender}: {error}"), Some(1));
                match reply {
                    Some(reply) => reply.error(error),
                    None => {
                        connection.reply(&json!({"ok": false, "line": number, "error": error}));
                    }
                }
            }
        }
    }

    /// Refuses what names events that are not there.
    fn checked(&self, event: Event<'static>) -> Result<Event<'static>, String> {
        if let Data::Link(link) = &event.data {
            let known = Seq(1)..=Seq(self.output.events());
            for (name, seq) in [("from", link.from), ("to", link.to)] {
                if !known.contains(&seq) {
                    return Err(format!("`{name}`: there is no event {seq}"));
                }
            }
        }
        Ok(event)
    }

    /// Writes what the agent said.
    fn told(&mut self, event: Event<'static>) -> Option<Seq> {
        if let Data::Lost(lost) = &event.data {
            self.output.count_lost(lost.count);
        }
        let message = match &event.data {
            Data::Message(message) => Some(conversation::plain_message(message)),
            _ => None,
        };
        match self.tell_once(event) {
            Telling::Now(seq) => {
                if let Some(message) = message {
                    self.conversation.message(message);
                }
                Some(seq)
            }
            Telling::Before(known, _) => Some(known),
            Telling::NotWritten => None,
        }
    }

    fn request(&mut self, request: Request, reply: Option<Reply>, proc: Option<ProcId>) {
        match request {
            Request::Stop => {
                self.end.get_or_insert(End::Stopped(reply));
            }
            Request::Snapshot { .. } if !self.takes_snapshots() => {
                if let Some(reply) = reply {
                    let watches = self.setup.watch.is_some();
                    let who = if watches { "a watch" } else { "a recording with --no-snapshots" };
                    reply.error(format!("{who} takes no snapshots"));
                }
            }
            Request::Snapshot { description, trigger, state } => {
                let state = self.conversation.update(*state);
                let trigger = match trigger {
                    Some(Trigger::Sdk) => "sdk",
                    Some(Trigger::Command) => "command",
                    None if proc.is_some() => "sdk",
                    None => "command",
                };
                self.snapshots.want(Wanted {
                    description,
                    trigger,
                    state,
                    proc,
                    cause: None,
                    reply,
                    asked: boottime(),
                });
            }
            Request::Status => {
                if let Some(reply) = reply {
                    reply.ok(self.describe(proc));
                }
            }
            Request::Export { path } => {
                if let Some(reply) = reply {
                    self.export(path, reply);
                }
            }
        }
    }

    fn describe(&self, asking: Option<ProcId>) -> serde_json::Value {
        json!({
            "session": self.setup.session,
            "name": self.setup.options.name,
            "trace": self.trace_path.to_string_lossy(),
            "pid": self.processes.command_pid(),
            "recording": self.output.failure.is_none(),
            "duration": boottime() - self.started.boottime,
            "events": self.output.events(),
            "processes": self.processes.alive(),
            "snapshots": self.snapshots.count(),
            "lost": self.output.lost,
            "inside": asking.is_some(),
        })
    }

    /// Copies the trace as it stands in the file, on a thread of its own: a large one takes its time.
    fn export(&mut self, to: PathBuf, reply: Reply) {
        let flushed = self.output.writer().map_or(Ok(()), agentrec_trace::Writer::flush);
        self.check(flushed);
        let (from, events) = (self.trace_path.clone(), self.output.events());
        let len = self.output.any_writer().bytes_written();
        let copy = move || match copy_start(&from, len, &to) {
            Ok(()) => {
                let path = to.to_string_lossy().into_owned();
                reply.ok(json!({"path": path, "bytes": len, "events": events}));
            }
            Err(error) => reply.error(format!("cannot write {}: {error}", to.display())),
        };
        // Without a thread the copy is dropped, and with it the reply: the client sees its connection end.
        thread::Builder::new().name("export".into()).spawn(copy).ok();
    }
}

/// Copies the first `len` bytes of `from` to the new file `to`, of mode 0600.
fn copy_start(from: &Path, len: u64, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?.take(len);
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let copied = io::copy(&mut source, &mut target).and_then(|_| target.sync_all());
    if copied.is_err() {
        std::fs::remove_file(to).ok();
    }
    copied
}
