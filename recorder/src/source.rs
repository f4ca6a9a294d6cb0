//! What a source (an engine that watches the kernel) and the session say to each other.
//!
//! A source runs on a thread of its own and sends [`Report`]s into the session's bounded channel. When the
//! channel is full the source waits, and with ptrace the tracee waits with it: slower, never lossy. The session
//! talks back through a [`Control`]; its calls return at once, so they can't deadlock with a full channel.
//!
//! A source sends into an [`Outbox<I>`](crate::mailbox::Outbox) where `I: From<Report>`, so that the session can mix its
//! reports with messages of its own in one channel. The ptrace source's life:
//!
//! 1. The session prepares `ptrace::Filter::new(&config)` and forks the command's process, which waits on a pipe
//!    (after `ptrace::permit_tracer(recorder_pid)`, where the recorder is not its ancestor).
//! 2. On the tracer's own thread: `let (tracer, control) = ptrace::Tracer::seize(pid, config, sender)?`, then
//!    `tracer.run()?`, which returns after `TreeEnded`.
//! 3. Once `seize` returned, the session releases the pipe; the child calls `filter.install()?` last thing before
//!    execve(2). From there on all is recorded; the child's own calls before are not.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use agentrec_trace::Event;
use serde::{Deserialize, Serialize};

/// What a source tells the session.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are events, and a box would be an allocation for each"
)]
pub enum Report {
    /// Something happened in the tree.
    Event(Captured),
    /// The command (the root process, `p1`) ended; its `process.exit` went before. Descendants may live on.
    CommandExited(ExitStatus),
    /// The command goes on after a stop (SIGCONT), whoever continued it.
    CommandContinued,
    /// Nothing of the tree is left. Always the last report.
    TreeEnded,
    /// The answer to [`Control::tell_again`]: what comes next is all that lives, up to [`Report::Told`].
    Again,
    /// All that lives was told again.
    Told,
    /// The answer to [`Control::fence`]: all that the source saw before it took the request was sent before.
    Fence(u64),
}

/// An event as the model made it. `seq` is not yet known, so events that name an earlier one
/// (`file.close.open`, `net.close.open`) hold that one's [`OpenId`] in place of its `seq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// The event; `seq` is 0.
    pub event: Event<'static>,
    /// The number under which later events name this one.
    pub opens: Option<OpenId>,
}

/// The model's number of an open file description. Numbers are small and are used again once nothing can name
/// the old description any more, so a `Vec` from number to `seq`, overwritten at each [`Captured::opens`],
/// is all that a session needs, and stays as small as the most descriptions that were ever open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenId(pub u32);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// exit(2) with this code, 0 to 255.
    Code(i32),
    /// Ended by this signal.
    Signal {
        /// Signal number.
        signal: i32,
        /// Whether core was dumped.
        core: bool,
    },
}

/// What every source has to know of the command before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Working directory of the command as it sees it, physical (as getcwd(2) gives it).
    pub cwd: PathBuf,
    /// Environment that the first exec is compared with: the one that `session.start` holds.
    pub env: Vec<(OsString, OsString)>,
    /// Descriptor number on which calls are not watched, for the agent's end of the session's socket.
    pub reserved_fd: Option<RawFd>,
    /// Path of that socket; anything else found at `reserved_fd` is reported as lost.
    pub socket: Option<PathBuf>,
    /// The process that hands signals on to the command; 0 for none.
    pub front: i32,
    /// Which of the command's descriptors 1 and 2 give `term.output`.
    pub outputs: Vec<RawFd>,
}

/// What the session asks of a source.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Fence(u64),
    Kill,
    Silence,
    /// Whether the command was sent this signal that the front has now.
    WasSent {
        signal: i32,
        answer: mpsc::Sender<bool>,
    },
    Again,
}

/// Requests that a source has not taken yet, and how to wake it.
#[derive(Default)]
struct Pending {
    requests: Vec<Request>,
    bell: Option<Box<dyn Fn() + Send>>,
}

/// The session's hold on a running source. Calls return at once; after the source ended they do nothing.
#[derive(Clone, Default)]
pub struct Control {
    pending: Arc<Mutex<Pending>>,
}

impl Control {
    /// Asks for [`Report::Fence`] with `token`, once everything that happened before is sent.
    pub fn fence(&self, token: u64) {
        self.request(Request::Fence(token));
    }

    /// Asks for [`Report::Again`], after everything that happened before: another trace is to begin.
    pub fn tell_again(&self) {
        self.request(Request::Again);
    }

    /// Ends every process of the tree with SIGKILL, also those that are being started.
    pub fn kill(&self) {
        self.request(Request::Kill);
    }

    /// From now on no events: the tree is only kept going (its filter outlives the trace). `CommandExited`,
    /// `TreeEnded` and fences still come.
    pub fn silence(&self) {
        self.request(Request::Silence);
    }

    /// Whether the command was sent this signal that the front has now: waits for the answer, and takes none for a no.
    pub(crate) fn was_sent(&self, signal: i32) -> bool {
        const PATIENCE: Duration = Duration::from_millis(500);
        let (answer, answered) = mpsc::channel();
        self.request(Request::WasSent { signal, answer });
        answered.recv_timeout(PATIENCE).unwrap_or(false)
    }

    fn request(&self, request: Request) {
        let mut pending = self.lock();
        if let Some(bell) = &pending.bell {
            bell();
            pending.requests.push(request);
        }
    }

    /// The source's side: `bell` must make the source call [`Control::take`] soon after; None once it ended.
    pub(crate) fn answer_with(&self, bell: Option<Box<dyn Fn() + Send>>) {
        self.lock().bell = bell;
    }

    /// The source's side: whether another trace is to begin, which is not to wait for a moment of rest.
    pub(crate) fn take_again(&self) -> bool {
        self.lock().requests.extract_if(.., |request| matches!(request, Request::Again)).count() > 0
    }

    /// The source's side: what was asked since the last call.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // A thread that panicked while holding the lock left at worst a request out.
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
