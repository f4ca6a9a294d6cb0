//! The session loop: takes everything that happens from one channel, redacts it, and writes the trace.
//!
//! It is the only writer, so the order of the channel is the order of the trace. Nothing downstream calls back.

mod begin;
mod changes;
mod close;
mod conversation;
mod descriptors;
mod doubts;
mod holding;
mod host;
mod http;
mod kept;
mod mcp;
mod outside;
mod processes;
mod redaction;
mod renames;
mod requests;
mod roots;
mod rotation;
mod snapshot;
mod terminal;
mod tools;
mod transcripts;
mod writing;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use agentrec_store::{Later, Store};
use agentrec_trace::{Bytes, Event, Seq};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use self::conversation::Conversation;
use self::holding::Held;
use self::http::{Http, Talk};
use self::kept::Kepts;
use self::mcp::Servers;
use self::outside::Outside;
use self::processes::Processes;
use self::requests::EarlyLines;
use self::rotation::Parts;
use self::snapshot::{Captured, Snapshots, Wanted};
use self::terminal::Terminal;
use self::tools::Tools;
use self::transcripts::Transcripts;
use self::writing::Output;
use crate::mailbox::{Inbox, Weigh};
use crate::options::ChangedRun;
use crate::proxy::Proxy;
use crate::redact::Redactor;
use crate::setup::Setup;
use crate::socket::{Connection, Incoming};
use crate::source::{Control, ExitStatus, Report};

/// How long a recorder that is left alone waits for a killed tree.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How often open frames and held-back output are looked at while there are any.
const TICK: Duration = Duration::from_millis(30);

/// Everything that can reach a session.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are events")]
pub(crate) enum Input {
    /// From the source.
    Source(Report),
    /// The source has the command's process. It has not run yet, or it was attached to: that is told once the first
    /// snapshot stands.
    Traced { pid: Pid, control: Control, attached: Option<Announcement> },
    /// There is no command: it could not be prepared, or not be traced (and why).
    NotStarted(Option<String>),
    /// The source gave up, and the tree is gone with it.
    SourceFailed(String),
    /// A line came through the local socket.
    Client(Incoming),
    /// The local socket is closed: no more lines come.
    SocketDone,
    /// Nobody wants to wait for descendants any longer.
    CloseNow,
    /// The front is gone.
    FrontGone,
}

/// Tells the front something, when it is true.
pub(crate) type Announcement = Box<dyn FnOnce() + Send>;

impl From<Report> for Input {
    fn from(report: Report) -> Self {
        Self::Source(report)
    }
}

impl Weigh for Input {
    fn weight(&self) -> usize {
        match self {
            Self::Source(report) => report.weight(),
            _ => size_of::<Self>(),
        }
    }
}

/// Why a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The command ended, or with `wait_tree` its last descendant did.
    Exited,
    /// Somebody asked for it; they wait for the seal.
    Stopped(Option<Reply>),
    /// The command never ran; if the recorder is why, the reason.
    NotStarted(Option<String>),
    /// The front was killed.
    FrontGone,
    /// The source gave up.
    Failed(String),
    /// This file is full, and the next one begins.
    Rotated,
}

/// Where an answer goes.
#[derive(Debug)]
pub(crate) struct Reply {
    connection: Arc<Connection>,
    req: serde_json::Value,
}

/// A session that is being recorded.
pub(crate) struct Session {
    setup: Setup,
    command: Command,
    trace_path: PathBuf,
    redactor: Redactor,
    store: Arc<Store>,
    /// The store, for objects that go there when the disk has time.
    later: Arc<Later>,
    output: Output,
    processes: Processes,
    terminal: Terminal,
    outside: Outside,
    conversation: Conversation,
    http: Http,
    talk: Talk,
    tools: Tools,
    servers: Servers,
    transcripts: Transcripts,
    /// Tool calls without a result, by id.
    calls: HashMap<String, Seq>,
    snapshots: Snapshots,
    kepts: Kepts,
    held: Held,
    /// The first one, until it is in the trace.
    first: Option<(Wanted, Vec<Captured>)>,
    parts: Parts,
    /// Programs that run otherwise because of us, each once.
    changed: Vec<ChangedRun>,
    control: Option<Control>,
    /// Through which the tree's connections go.
    pub(crate) proxy: Option<Arc<Proxy>>,
    attached: Option<Announcement>,
    started: Started,
    /// How the command ended.
    status: Option<ExitStatus>,
    tree_ended: bool,
    /// Lines of the socket that wait for the source.
    early: EarlyLines,
    /// No more lines come through the socket.
    socket_done: bool,
    /// Set by what is handled; the loop ends then.
    end: Option<End>,
    next_fence: u64,
    /// The one that was answered last.
    fence: u64,
}

/// The command as the trace tells it: redacted.
struct Command {
    argv: Vec<Bytes<'static>>,
    env: Vec<(Bytes<'static>, Bytes<'static>)>,
    cwd: Bytes<'static>,
    cwd_path: PathBuf,
}

/// When the session began, and whether the command did.
struct Started {
    boottime: u64,
    wall: i64,
    /// The command has executed a program.
    command: bool,
}

/// CLOCK_BOOTTIME in nanoseconds, as events have it.
pub(crate) fn boottime() -> u64 {
    clock(ClockId::CLOCK_BOOTTIME) as u64
}

/// Nanoseconds since 1970.
fn wall_clock() -> i64 {
    clock(ClockId::CLOCK_REALTIME)
}

fn clock(id: ClockId) -> i64 {
    let time = clock_gettime(id).expect("the kernel has this clock since Linux 2.6.39");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

impl Session {
    /// Records until the session ends.
    pub(crate) fn run(&mut self, inputs: &Inbox<Input>) -> End {
        self.write_first_snapshot();
        loop {
            self.step(inputs, None);
            if self.end.is_none() {
                self.take_wanted(inputs);
                if let Some(tell) = self.attached.take() {
                    tell();
                }
            }
            // The end may have come while a snapshot was taken, and nothing may come after it.
            if let Some(end) = self.end.take() {
                return end;
            }
        }
    }

    /// Handles the next input; does what is due meanwhile. Returns at `deadline` where nothing comes.
    fn step(&mut self, inputs: &Inbox<Input>, deadline: Option<Instant>) {
        let now = Instant::now();
        let due = self.has_open_work().then_some(TICK);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        let look = self.transcripts.due().map(|due| due.max(TICK));
        let wait = [due, left, look].into_iter().flatten().min();
        let input = match wait {
            None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => inputs.recv_timeout(wait),
        };
        match input {
            Ok(input) => self.handle(input),
            Err(RecvTimeoutError::Timeout) => {}
            // The tracer and the socket are gone without a word.
            Err(RecvTimeoutError::Disconnected) => {
                self.end = Some(End::Failed("the tracer is gone".into()));
            }
        }
        if now >= self.output.next_tick {
            self.output.next_tick = now + TICK;
            self.tick();
        }
    }

    /// Whether something waits to be written.
    fn has_open_work(&self) -> bool {
        self.output.is_open() || self.terminal.holds()
    }

    /// Writes what has waited long enough.
    fn tick(&mut self) {
        for event in self.terminal.release(&self.redactor, Instant::now()) {
            self.write(event);
        }
        let result = self.output.tick(boottime());
        self.check(result);
        self.look_at_transcripts();
        if self.output.is_flushed() {
            self.held.release_if_named();
        }
        self.rotate_when_full();
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Source(Report::Event(captured)) => self.captured(captured),
            Input::Source(Report::Stream(streamed)) => self.streamed(streamed),
            Input::Source(Report::Kept(kept)) => self.kept(*kept),
            Input::Source(Report::CommandExited(status)) => {
                self.status = Some(status);
                if !self.started.command {
                    self.end = Some(End::NotStarted(None));
                } else if !self.setup.options.wait_tree {
                    self.end.get_or_insert(End::Exited);
                }
            }
            Input::Source(Report::CommandContinued) => self.wake_front(),
            Input::Source(Report::TreeEnded) => {
                self.tree_ended = true;
                self.source_caught_up();
                self.end.get_or_insert(End::Exited);
            }
            Input::Source(Report::Again) => self.rotate(),
            Input::Source(Report::Told) => self.next_part_begun(),
            Input::Source(Report::Fence(token)) => {
                self.fence = token;
                self.source_caught_up();
            }
            Input::Traced { pid, control, attached } => {
                if self.output.failure.is_some() {
                    // As early as that: there is no recording.
                    control.silence();
                }
                self.control = Some(control);
                // A watch has no command, and takes no snapshots.
                if self.setup.watch.is_none() {
                    self.processes.command(pid.as_raw() as u32);
                    if attached.is_some() && self.takes_snapshots() {
                        self.want_first_snapshot();
                    }
                }
                self.attached = attached;
            }
            Input::NotStarted(reason) => self.end = Some(End::NotStarted(reason)),
            Input::SourceFailed(message) => self.end = Some(End::Failed(message)),
            Input::Client(incoming) => self.client(incoming),
            Input::SocketDone => self.socket_done = true,
            Input::CloseNow if self.status.is_some() => {
                self.end.get_or_insert(End::Exited);
            }
            Input::CloseNow if self.setup.is_attached() => {
                self.end.get_or_insert(End::Stopped(None));
            }
            Input::CloseNow => {}
            Input::FrontGone => {
                self.end.get_or_insert(End::FrontGone);
            }
        }
    }

    /// How the command ended, where it did.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Ends the tree and waits, for a while, until it is gone.
    pub(crate) fn kill(&mut self, inputs: &Inbox<Input>) {
        if let Some(control) = &self.control {
            control.kill();
        }
        let deadline = Instant::now() + KILL_TIMEOUT;
        while !self.tree_ended && Instant::now() < deadline {
            self.step(inputs, Some(deadline));
        }
    }

    /// Asks the source for all that happened until now, and handles what comes.
    fn fence(&mut self, inputs: &Inbox<Input>) {
        let Some(control) = self.control.clone() else { return };
        self.next_fence += 1;
        control.fence(self.next_fence);
        // A source that has ended answers no fence, but has said that it ended.
        while self.fence < self.next_fence && !self.tree_ended {
            self.step(inputs, None);
            if matches!(self.end, Some(End::Failed(_) | End::NotStarted(_))) {
                return;
            }
        }
    }

    /// Writes an event of the session's own.
    fn note(&mut self, data: impl Into<agentrec_trace::Data<'static>>) {
        self.write(Event::new(boottime(), agentrec_trace::Source::Recorder, data));
    }
}
