//! The way of one event into the trace: numbers of the model become addresses, secrets go, long contents become objects.

use std::time::{Duration, Instant};

use agentrec_trace::event::{Content, Lost, Payload};
use agentrec_trace::{
    Data, Event, ObjectHint, ProcId, Seq, TraceFile, Value, Writer, WriterOptions,
};

use super::{End, Session};
use crate::error::chain;
use crate::observation::Loss;
use crate::options::{ChangedRun, Lack, OnError};
use crate::source::{Captured, OpenId};

/// A frame closes when its first event is this old. A killed recorder may lose 250 ms: what is left of them is for
/// the session's tick, and for a machine that has more to do than to run us.
const FRAME_INTERVAL: Duration = Duration::from_millis(120);

/// The trace, and what is needed to write to it.
pub(super) struct Output {
    writer: Writer<TraceFile>,
    /// `seq` of the event that opened each description the model knows.
    opens: Vec<Seq>,
    pub(super) next_tick: Instant,
    last_append: Option<Instant>,
    /// Why nothing is written any more.
    pub(super) failure: Option<String>,
    /// As `failure`, where the end of the trace could be written after all.
    pub(super) earlier_failure: Option<String>,
    /// Events that were lost, as far as they could be counted.
    pub(super) lost: u64,
}

impl Output {
    pub(super) fn new(file: TraceFile) -> agentrec_trace::Result<Self> {
        let options = WriterOptions { frame_interval: FRAME_INTERVAL, ..WriterOptions::default() };
        Ok(Self {
            writer: Writer::new(file, options)?,
            opens: Vec::new(),
            next_tick: Instant::now(),
            last_append: None,
            failure: None,
            earlier_failure: None,
            lost: 0,
        })
    }

    /// The writer, while writing makes sense.
    pub(super) fn writer(&mut self) -> Option<&mut Writer<TraceFile>> {
        self.failure.is_none().then_some(&mut self.writer)
    }

    /// The writer, whatever happened to it.
    pub(super) fn any_writer(&mut self) -> &mut Writer<TraceFile> {
        &mut self.writer
    }

    /// Adds to what was lost; a number that is not known counts as one.
    pub(super) fn count_lost(&mut self, count: Option<u64>) {
        self.lost = self.lost.saturating_add(count.unwrap_or(1));
    }

    pub(super) fn events(&self) -> u64 {
        self.writer.events()
    }

    /// Whether a frame may be open.
    pub(super) fn is_open(&self) -> bool {
        self.last_append.is_some_and(|last| last.elapsed() < 2 * FRAME_INTERVAL)
    }

    /// Whether readers of the file find everything.
    pub(super) fn is_flushed(&self) -> bool {
        self.writer.is_flushed()
    }

    pub(super) fn tick(&mut self, now: u64) -> agentrec_trace::Result<()> {
        self.writer().map_or(Ok(()), |writer| writer.tick(now))
    }

    fn remember(&mut self, id: OpenId, seq: Seq) {
        let index = id.0 as usize;
        if index >= self.opens.len() {
            self.opens.resize(index + 1, Seq(0));
        }
        self.opens[index] = seq;
    }

    /// The address behind a number of the model's.
    pub(super) fn resolve(&self, open: Seq) -> Option<Seq> {
        self.opens.get(usize::try_from(open.0).ok()?).copied().filter(|seq| *seq != Seq(0))
    }
}

impl Session {
    /// Takes an event of the source.
    pub(super) fn captured(&mut self, captured: Captured) {
        self.snapshots.changes.observe(&captured);
        let Captured { mut event, opens, .. } = captured;
        self.processes.observe(&event);
        self.outside.observe(&event, opens);
        if let Some(agent) = self.snapshots.roots.observe(&event) {
            self.want_agent_snapshot(agent, event.proc);
        }
        let program = self.observe_transcripts(&event, opens);
        if let Data::ProcessExec(exec) = &event.data {
            self.started.command |= exec.errno.is_none();
        }
        if let Data::NetClose(close) = &event.data {
            self.stream_closed(close);
        }
        if let Data::Lost(lost) = &event.data {
            self.output.count_lost(lost.count);
            self.note_changed(event.proc, &lost.reason);
        }
        let open = match &mut event.data {
            Data::FileClose(close) => Some(&mut close.open),
            Data::FileLink(link) => Some(&mut link.open),
            Data::NetAccept(accept) => Some(&mut accept.listen),
            Data::NetShutdown(shutdown) => Some(&mut shutdown.open),
            Data::NetClose(close) => Some(&mut close.open),
            Data::NetOpaque(opaque) => Some(&mut opaque.open),
            Data::HttpRequest(request) => Some(&mut request.open),
            _ => None,
        };
        if let Some(open) = open {
            *open = open.and_then(|open| self.output.resolve(open));
        }
        let mut tie = None;
        match &event.data {
            Data::ProcessFork(fork) => self.tools.forked(event.proc, fork),
            Data::ProcessExec(exec) => tie = self.tools.executed(event.proc, exec),
            _ => {}
        }
        if matches!(event.data, Data::ProcessExit(_)) {
            for held in self.terminal.end_of(&self.redactor, event.proc) {
                self.write(held);
            }
        }
        let ended = matches!(event.data, Data::ProcessExit(_)).then_some((event.proc, event.ts));
        let event = match event.data {
            Data::TermOutput(_) | Data::TermInput(_) => {
                match self.terminal.push(&self.redactor, event) {
                    Some(event) => event,
                    None => return,
                }
            }
            _ => self.redacted(event),
        };
        let seq = self.write(event);
        if let (Some(seq), Some(opens)) = (seq, opens) {
            self.output.remember(opens, seq);
        }
        self.tie_to_call(tie, seq);
        self.executed_beside_transcript(program, seq);
        if let Some((proc, ts)) = ended {
            self.server_ended(proc, (seq, ts));
        }
    }

    /// Remembers a program that runs otherwise because of us.
    fn note_changed(&mut self, process: Option<ProcId>, reason: &str) {
        let lacks = match reason {
            reason if reason == Loss::Rights.reason() => Lack::Rights,
            reason if reason == Loss::Tracer.reason() => Lack::Tracing,
            _ => return,
        };
        let program = self.processes.program(process).map_or_else(String::new, |it| it.to_string());
        let changed = ChangedRun { program, lacks };
        if !self.changed.contains(&changed) {
            self.changed.push(changed);
        }
    }

    /// Writes an event that holds no secret any more.
    pub(super) fn write(&mut self, mut event: Event<'static>) -> Option<Seq> {
        if self.output.failure.is_some() {
            return None;
        }
        let result = self.store_contents(&mut event.data).and_then(|()| {
            let seq = self.output.writer.append(&event)?;
            self.output.last_append = Some(Instant::now());
            Ok(seq)
        });
        match result {
            // One event that the format does not hold, such as a value nested too deep, is not the end.
            Err(error @ agentrec_trace::Error::Io { .. }) => {
                self.check(Err(error));
                None
            }
            Err(error) => {
                self.lost(
                    "session",
                    format!("a {}: {}", event.data.type_name(), chain(&error)),
                    Some(1),
                );
                None
            }
            Ok(seq) => Some(seq),
        }
    }

    /// Notes that something is not in the trace.
    pub(super) fn lost(&mut self, place: &'static str, reason: String, count: Option<u64>) {
        self.output.count_lost(count);
        let reason = self.redactor.str(&reason).into_owned();
        self.note(Lost { count, place: place.into(), reason: reason.into(), peer_pid: None });
    }

    /// Moves what is long into objects.
    fn store_contents(&mut self, data: &mut Data<'static>) -> agentrec_trace::Result<()> {
        let writer = &mut self.output.writer;
        let mut payload = |payload: &mut Payload| -> agentrec_trace::Result<()> {
            if let Payload::Inline(value) = payload {
                let value = std::mem::replace(value, Value::Nil);
                *payload = writer.payload(value, ObjectHint::Single)?;
            }
            Ok(())
        };
        match data {
            Data::ToolCall(call) => payload(&mut call.arguments)?,
            Data::ModelRequest(request) => {
                payload(&mut request.system_prompt)?;
                payload(&mut request.tools)?;
            }
            Data::ToolResult(result) => payload(&mut result.result)?,
            Data::Message(message) => {
                payload(&mut message.content)?;
                payload(&mut message.extra)?;
            }
            Data::TermOutput(output) => content(writer, &mut output.data)?,
            Data::TermInput(input) => content(writer, &mut input.data)?,
            Data::HttpRequest(request) => content(writer, &mut request.body)?,
            Data::HttpResponse(response) => content(writer, &mut response.body)?,
            Data::HttpMessage(message) => content(writer, &mut message.data)?,
            _ => {}
        }
        Ok(())
    }

    /// Takes note of a failed write: from now on there is no recording.
    pub(super) fn check(&mut self, result: agentrec_trace::Result<()>) {
        let Err(error) = result else { return };
        if self.output.failure.is_some() {
            return;
        }
        let path = self.trace_path.display();
        self.output.failure = Some(format!("{path}: {}", chain(&error)));
        if let Some(control) = &self.control {
            match self.setup.options.on_error {
                OnError::Continue => control.silence(),
                OnError::Stop => control.kill(),
            }
        } else if self.setup.options.on_error == OnError::Stop {
            self.end = Some(End::NotStarted(self.output.failure.clone()));
        }
    }
}

fn content(
    writer: &mut Writer<TraceFile>,
    content: &mut Content<'static>,
) -> agentrec_trace::Result<()> {
    if let Content::Inline(bytes) = content
        && bytes.len() > Payload::MAX_INLINE
    {
        let bytes = std::mem::take(bytes);
        *content = match writer.content(&bytes, ObjectHint::Single)? {
            Content::Object { id, len } => Content::Object { id, len },
            Content::Inline(_) => Content::Inline(bytes),
        };
    }
    Ok(())
}
