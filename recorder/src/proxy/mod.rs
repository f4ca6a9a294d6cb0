//! The proxy behind `--tls proxy`: connections of the tree end here, are decrypted, told, encrypted again, and go on to where
//! they were meant to go.
//!
//! By ptrace the tracer asks for a [`Tunnel`] when a thread goes into connect(2), and lets it connect to that instead once we are connected
//! to its destination. So a destination that does not answer is left to the thread itself, and fails as it would without us. What
//! can't be decrypted in honesty (the server's certificate does not verify, it wants to see one of the client's) is passed on as
//! it is, and told as not readable.
//!
//! A thread and a listener for each connection: what can't be written is not read, and what belongs together stands together.

mod authority;
mod door;
mod ends;
mod relay;
mod telling;
mod trust;
mod tunnel;
mod verdicts;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, RootCertStore};

use self::authority::Authority;
use self::door::Meetings;
pub(crate) use self::door::{Door, Expected, Guest, Guide};
pub(crate) use self::trust::{Bundle, Trust};
use self::verdicts::Verdicts;
use crate::observation::Tid;
use crate::source::{Report, Unwanted};

/// The proxy can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No certificates can be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// Nothing can be encrypted.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The kernel refused something.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
    /// There is nothing to verify servers by.
    #[error("cannot find the system's certificates")]
    NoRoots,
    /// A file can't be read or written.
    #[error("cannot use {}", .0.display())]
    File(PathBuf, #[source] io::Error),
}

impl Error {
    /// What the user can do.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        matches!(self, Self::NoRoots)
            .then_some("install them (Debian's package is ca-certificates), or set SSL_CERT_FILE")
    }
}

/// A connection that is ready to be taken.
#[derive(Clone, Debug)]
pub(crate) struct Tunnel {
    /// Names it in reports: [`StreamId::Proxy`](crate::source::StreamId::Proxy).
    pub(crate) number: u32,
    /// Where to connect to.
    pub(crate) address: SocketAddr,
    /// Set once its bytes tell nothing.
    pub(crate) unwanted: Unwanted,
    /// Takes the port from which it was connected to; without one it is given up.
    connected: mpsc::Sender<u16>,
}

impl Tunnel {
    /// It was connected to, from this port; its beginning was told.
    pub(crate) fn connected(&self, port: u16) {
        // Whoever is gone needs no port.
        self.connected.send(port).unwrap_or_default();
    }
}

/// A tunnel that somebody asks for.
struct Ask {
    destination: SocketAddr,
    process: Tid,
    answer: Box<dyn FnOnce(Option<Tunnel>) + Send>,
}

/// The running proxy. Its connections go on until their ends do.
pub(crate) struct Proxy {
    asks: mpsc::Sender<Ask>,
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    authority: Authority,
    client: ClientConfig,
    report: Box<dyn Fn(Report) + Send + Sync>,
    /// Connections of which not all is passed on that the tree wrote.
    unsettled: AtomicU64,
    /// Servers that are not verified by what the tree trusts, or want to verify us: they are left to their clients.
    opaque: Mutex<HashSet<(SocketAddr, String)>>,
    /// Which processes trust our certificates for which names.
    verdicts: Verdicts,
    /// Connections that are led to the [`Door`].
    meetings: Meetings,
}

/// Names that are remembered.
const MAX_NAMES: usize = 4096;

impl Proxy {
    /// Makes the authority, leaves its certificate for the tree, and starts. `report` may be called by any thread, and wait.
    ///
    /// # Errors
    /// Where that can't be.
    pub(crate) fn start(
        trust: &Trust,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Result<(Self, Bundle), Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = Authority::new(Arc::clone(&provider))?;
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(trust.roots()).0 == 0 {
            return Err(Error::NoRoots);
        }
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let shared = Arc::new(Shared {
            authority,
            client,
            report: Box::new(report),
            unsettled: AtomicU64::new(0),
            opaque: Mutex::default(),
            verdicts: Verdicts::default(),
            meetings: Meetings::default(),
        });
        let bundle = trust.leave_bundle(&shared.authority.pem())?;
        let (asks, asked) = mpsc::channel();
        let proxy = Self { asks, shared: Arc::clone(&shared) };
        // Not from the tracer's thread, which may be bound to one CPU, and its children with it.
        thread::Builder::new()
            .name("proxy".into())
            .spawn(move || serve(&asked, &shared))
            .map_err(|error| Error::Io("start the proxy", error))?;
        Ok((proxy, bundle))
    }

    /// Connects to `destination`, for a process. `answer` is called on another thread, with None where that can't be, which takes
    /// some seconds at most.
    pub(crate) fn open(
        &self,
        destination: SocketAddr,
        process: Tid,
        answer: impl FnOnce(Option<Tunnel>) + Send + 'static,
    ) {
        let ask = Ask { destination, process, answer: Box::new(answer) };
        if let Err(mpsc::SendError(ask)) = self.asks.send(ask) {
            (ask.answer)(None);
        }
    }

    /// Takes connections that are led to `door`.
    pub(crate) fn receive(&self, door: Door, guide: impl Guide) -> io::Result<()> {
        let (shared, guide) = (Arc::clone(&self.shared), Arc::new(guide));
        let receive = move || receive(&door, &guide, &shared);
        thread::Builder::new().name("door".into()).spawn(receive).map(drop)
    }

    /// Somebody who is led to the door, of whom is about to be told.
    pub(crate) fn expect(&self, cookie: u64) -> Expected {
        self.shared.meetings.expect(cookie)
    }

    /// Was told of.
    pub(crate) fn told(&self, cookie: u64) {
        self.shared.meetings.told(cookie);
    }

    /// All was told that there was to tell at this time.
    pub(crate) fn looked(&self, at: Instant) {
        self.shared.meetings.looked(at);
    }

    /// Whether all that the tree wrote is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        self.shared.meetings.is_complete() && self.shared.unsettled.load(Ordering::Acquire) == 0
    }
}

/// For the stack of a connection's thread.
const STACK: usize = 256 << 10;

/// The same for those who come to the door; whoever was not led there is turned away.
fn receive<G: Guide>(door: &Door, guide: &Arc<G>, shared: &Arc<Shared>) {
    loop {
        let (client, from) = match door.next() {
            Ok(come) => come,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be taken by the proxy");
                // No descriptor is left: some connection has to end first.
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let Some(guest) = guide.guest(from) else { continue };
        let (guide, shared) = (Arc::clone(guide), Arc::clone(shared));
        let tunnel = move || tunnel::receive(guest, client, &*guide, &shared);
        let thread = thread::Builder::new().name("tunnel".into()).stack_size(STACK).spawn(tunnel);
        if let Err(error) = thread {
            tracing::warn!(%error, "a connection can't be taken by the proxy");
        }
    }
}

/// Gives each tunnel a thread of its own.
fn serve(asked: &mpsc::Receiver<Ask>, shared: &Arc<Shared>) {
    for (number, ask) in (1..).zip(asked) {
        let shared = Arc::clone(shared);
        // Where there can be no thread, the answer goes with what it should have done, and says None.
        let mut ask = Unanswered(Some(ask));
        let tunnel = move || {
            if let Some(ask) = ask.0.take() {
                tunnel::run(number, ask, &shared);
            }
        };
        let thread = thread::Builder::new().name("tunnel".into()).stack_size(STACK).spawn(tunnel);
        if let Err(error) = thread {
            tracing::warn!(%error, "a connection can't be taken by the proxy");
        }
    }
}

/// Answers, where nobody else did.
struct Unanswered(Option<Ask>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(ask) = self.0.take() {
            (ask.answer)(None);
        }
    }
}

/// A lock whose holder can have left nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
