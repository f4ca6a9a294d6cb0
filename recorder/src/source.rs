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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use agentrec_trace::event::{Address, Content, TermOutput};
use agentrec_trace::{Bytes, Data, Event, ProcId};
use agentrec_wire::Role;
use serde::{Deserialize, Serialize};

use crate::keep::Kept;
use crate::mailbox::Weigh;
use crate::observation::{Direction, Tid};
use crate::proxy::Tunnel;

/// What a source tells the session.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are events, and a box would be an allocation for each"
)]
pub enum Report {
    /// Something happened in the tree.
    Event(Captured),
    /// Bytes went over a connection, or something became of it.
    Stream(Streamed),
    /// What stood outside of the roots before the next event changes it.
    Kept(Box<Kept>),
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

impl Weigh for Report {
    fn weight(&self) -> usize {
        let content = match self {
            Self::Event(Captured { event, .. }) => match &event.data {
                Data::TermOutput(TermOutput { data: Content::Inline(data), .. }) => data.len(),
                Data::ProcessExec(exec) => {
                    let variable = |(name, value): &(Bytes<'_>, Option<Bytes<'_>>)| {
                        name.len() + value.as_ref().map_or(0, |value| value.len())
                    };
                    let words: usize = exec.argv.iter().map(|word| word.len()).sum();
                    words + exec.env.iter().map(variable).sum::<usize>()
                }
                _ => 0,
            },
            Self::Stream(Streamed { what: Stream::Bytes { data, .. }, .. }) => data.len(),
            _ => 0,
        };
        size_of::<Self>() + content
    }
}

/// An event as the model made it. `seq` is not yet known, so events that name an earlier one
/// (`file.close.open`, `net.close.open`) hold that one's [`OpenId`] in place of its `seq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// The event; `seq` is 0.
    pub event: Event<'static>,
    /// The number under which later events name this one.
    pub opens: Option<OpenId>,
    /// Of a close: other processes have the description still.
    pub held: bool,
}

/// The model's number of an open file description. Numbers are small and are used again once nothing can name
/// the old description any more, so a `Vec` from number to `seq`, overwritten at each [`Captured::opens`],
/// is all that a session needs, and stays as small as the most descriptions that were ever open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenId(pub u32);

/// A connection whose bytes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// A socket, by its open file description. The number is used again after [`Stream::Over`].
    Socket(OpenId),
    /// A stream of a TLS library.
    Tls(u32),
    /// A connection that goes through the proxy.
    Proxy(u32),
    /// A descriptor of a pipe in one process, through which messages of an MCP server go.
    Pipe(u32),
}

/// Something that happened on a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Streamed {
    /// Which one.
    pub id: StreamId,
    /// CLOCK_BOOTTIME in nanoseconds.
    pub ts: u64,
    /// Whose call it was, where it was one.
    pub proc: Option<ProcId>,
    /// The thread, where it is not the process's first.
    pub tid: Option<u32>,
    /// What.
    pub what: Stream,
}

/// What can happen on a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Stream {
    /// The first bytes come next.
    Began(Box<Began>),
    /// These went over it.
    Bytes {
        /// Which way.
        direction: Direction,
        /// After those before.
        data: Vec<u8>,
    },
    /// So many went over it, and could not be read.
    Missing {
        /// Which way.
        direction: Direction,
        /// Bytes.
        count: u64,
    },
    /// No more comes this way.
    End {
        /// Which way.
        direction: Direction,
    },
    /// What follows was encrypted on its way: the proxy reads it.
    Decrypted,
    /// What follows is encrypted, and the proxy can't read it.
    Opaque(Opaque),
    /// So much went over it in all, of which not all was told.
    Sum {
        /// Out of the process.
        sent: u64,
        /// Into it.
        received: u64,
    },
    /// It is gone.
    Over {
        /// By its peer, in the middle.
        reset: bool,
    },
}

/// Why the proxy does not read a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opaque {
    /// The server is not who it says, as far as the system's certificates go.
    Unverified,
    /// The server wants a certificate of the client's.
    ClientCertificate,
    /// The client trusts certificates of its own.
    Distrusted,
    /// The proxy can't talk with one of them.
    Handshake,
    /// The proxy can't reach the server, and the client was connected to it already.
    Unreached,
}

impl Opaque {
    /// Why, for `net.opaque`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unverified => "server-not-verified",
            Self::ClientCertificate => "client-certificate",
            Self::Distrusted => "proxy-not-trusted",
            Self::Handshake => "tls-handshake",
            Self::Unreached => "not-reached",
        }
    }

    /// What would help.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Unverified => "add the server's authority to the file that SSL_CERT_FILE names",
            Self::Distrusted => {
                "have the program trust the certificates in SSL_CERT_FILE, or leave --tls proxy out"
            }
            Self::ClientCertificate | Self::Handshake | Self::Unreached => "",
        }
    }
}

/// Whether the bytes of a connection tell nothing, and are not copied any more. Both sides hold it.
#[derive(Clone, Debug, Default)]
pub struct Unwanted(Arc<AtomicBool>);

impl Unwanted {
    /// They tell nothing.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether they don't.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for Unwanted {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What is known of a connection when its first bytes come.
#[derive(Clone, Debug, PartialEq)]
pub struct Began {
    /// What the process is on it; None where nobody saw how it came to be.
    pub role: Option<Role>,
    /// Who is at the other end; of no family where that is not known.
    pub peer: Address<'static>,
    /// The socket that it goes through, where that is another stream's.
    pub through: Option<OpenId>,
    /// It is older than the recording.
    pub joined: bool,
    /// To be set where its bytes tell nothing: they are not copied any more then.
    pub unwanted: Unwanted,
}

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
    /// A way through the proxy for a thread that stands before its connect(2); None where there is none.
    Tunnel {
        tid: Tid,
        /// Which of its calls it is for.
        ticket: u64,
        tunnel: Option<Tunnel>,
    },
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

    /// The proxy's answer for a thread that waits.
    pub(crate) fn give_tunnel(&self, tid: Tid, ticket: u64, tunnel: Option<Tunnel>) {
        self.request(Request::Tunnel { tid, ticket, tunnel });
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
