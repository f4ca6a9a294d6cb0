//! The local socket, the recorder's side: `docs/socket-protocol.md`.
//!
//! One thread reads all connections and hands their lines to the session, in order, with the sender that the kernel
//! names. When the session's channel is full it stops reading: the clients' buffers fill, and they drop and count.

mod connection;
mod line;

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

pub(crate) use self::connection::Connection;
use self::connection::Reader;
pub(crate) use self::line::{Line, Message, Refusal, Request, State, Trigger};
use crate::error::{Error, Result};
use crate::mailbox::Outbox;
use crate::session::Input;

/// Connections at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 256;

/// A line that arrived, or what is wrong with it.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Process id of the sender, in the recorder's pid namespace.
    pub(crate) sender: u32,
    /// Counts the connection's lines from 1.
    pub(crate) number: u64,
    pub(crate) line: std::result::Result<Line, Refusal>,
    pub(crate) connection: Arc<Connection>,
}

/// A socket that is bound, and that nobody listens on yet.
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

/// The thread that serves the socket. Dropping it removes the socket.
pub(crate) struct Server {
    path: PathBuf,
    /// The thread ends when this closes.
    alive: Option<UnixStream>,
}

impl Listener {
    /// Binds the socket with mode 0600. Its directory is private already, so there is no moment in between.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        let failed = |e| Error::io(format!("listen on {}", path.display()), e);
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Starts to listen, on a thread of its own.
    pub(crate) fn serve(self, inputs: Outbox<Input>) -> Result<Server> {
        let failed = |e| Error::io("serve the local socket", e);
        let (alive, watched) = UnixStream::pair().map_err(failed)?;
        let Self { listener, path } = self;
        thread::Builder::new()
            .name("socket".into())
            .spawn(move || serve(&listener, &watched, &inputs))
            .map_err(failed)?;
        Ok(Server { path, alive: Some(alive) })
    }
}

impl Server {
    /// Ends the service: what has arrived is handed on, then [`Input::SocketDone`] follows.
    pub(crate) fn finish(mut self) -> Self {
        self.alive = None;
        self
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

fn serve(listener: &UnixListener, alive: &UnixStream, inputs: &Outbox<Input>) {
    let mut readers: Vec<Reader> = Vec::new();
    loop {
        let Some(Ready { ended, accept, readable }) = wait(listener, alive, &readers) else {
            continue;
        };
        if accept {
            accept_all(listener, &mut readers, ended);
        }
        let mut readable = readable.into_iter();
        readers.retain_mut(|reader| {
            // A new connection has not been polled; its bytes may be there.
            let ready = readable.next().unwrap_or(true);
            !ready || reader.read(|incoming| inputs.send(Input::Client(incoming)).is_ok())
        });
        if ended {
            // A closed channel means that nobody waits for it.
            inputs.send(Input::SocketDone).unwrap_or_default();
            return;
        }
    }
}

/// Takes the connections that wait, at the end all of them.
fn accept_all(listener: &UnixListener, readers: &mut Vec<Reader>, ended: bool) {
    while ended || readers.len() < MAX_CONNECTIONS {
        match listener.accept() {
            Ok((stream, _)) => readers.extend(admit(stream)),
            Err(_) => return,
        }
    }
}

fn watch(fd: &impl AsFd) -> PollFd<'_> {
    PollFd::new(fd.as_fd(), PollFlags::POLLIN)
}

struct Ready {
    ended: bool,
    accept: bool,
    readable: Vec<bool>,
}

fn wait(listener: &UnixListener, alive: &UnixStream, readers: &[Reader]) -> Option<Ready> {
    let mut fds: Vec<_> = readers.iter().map(|reader| watch(reader)).collect();
    fds.push(watch(alive));
    if readers.len() < MAX_CONNECTIONS {
        fds.push(watch(listener));
    }
    poll(&mut fds, PollTimeout::NONE).ok()?;
    let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
    let readable = ready.by_ref().take(readers.len()).collect();
    let ended = ready.next().unwrap_or(false);
    Some(Ready { ended, accept: ended || ready.next().unwrap_or(false), readable })
}

/// Takes a connection of the recorder's own user; others are closed.
fn admit(stream: UnixStream) -> Option<Reader> {
    let peer = getsockopt(&stream, sockopt::PeerCredentials).ok()?;
    (peer.uid() == geteuid().as_raw()).then(|| Reader::new(stream, peer.pid() as u32))?.ok()
}
