//! Where connections come to that BPF programs lead to the proxy: one listener of each family for all of them.
//!
//! Whose each is, and where it was meant to go, a [`Guide`] knows. What the engine tells of the same connection (that a process
//! made it) comes by another way: the two meet here, by what the kernel knows the socket by.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Backlog, listen};

use super::lock;
use crate::observation::Tid;
use crate::source::Unwanted;

/// How long after a connection the call that made it is over at most, so that the engine can tell of it. It may have been lost, and
/// some are made by other calls (MSG_FASTOPEN in send(2), io_uring).
const CALL: Duration = Duration::from_millis(250);

/// Listeners that nobody was told of.
pub(crate) struct Door {
    v4: TcpListener,
    /// None where this machine has no IPv6.
    v6: Option<TcpListener>,
}

impl Door {
    pub(crate) fn open() -> io::Result<Self> {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
        for listener in [Some(&v4), v6.as_ref()].into_iter().flatten() {
            // Who finds it full waits a second for the next try.
            listen(listener, Backlog::MAXCONN)?;
        }
        Ok(Self { v4, v6 })
    }

    /// Of IPv4 and of IPv6; 0 where there is none.
    pub(crate) fn ports(&self) -> [u16; 2] {
        let port = |listener: &TcpListener| listener.local_addr().map_or(0, |at| at.port());
        [port(&self.v4), self.v6.as_ref().map_or(0, port)]
    }

    /// The next who comes.
    pub(super) fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(v6) = &self.v6 else { return self.v4.accept() };
        let mut fds = [&self.v4, v6].map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN));
        while let Err(errno) = poll(&mut fds, PollTimeout::NONE) {
            if errno != nix::errno::Errno::EINTR {
                return Err(errno.into());
            }
        }
        if fds[0].any() == Some(true) { self.v4.accept() } else { v6.accept() }
    }
}

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> RawFd {
        self.v4.as_raw_fd()
    }
}

/// A connection that was led here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    /// What the kernel knows its socket by (SO_COOKIE).
    pub(crate) cookie: u64,
    /// Where it was meant to go.
    pub(crate) destination: SocketAddr,
    /// Whose it is.
    pub(crate) process: Tid,
}

/// Who knows the guests.
pub(crate) trait Guide: Send + Sync + 'static {
    /// Who comes from there; None where nobody was led here. Answers once.
    fn guest(&self, from: SocketAddr) -> Option<Guest>;

    /// The destination of one of them can't be reached: the next ones are to see for themselves.
    fn unreached(&self, destination: SocketAddr);
}

/// A connection of which the engine told, or which has come.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Names it in reports: [`StreamId::Proxy`](crate::source::StreamId::Proxy).
    pub(crate) number: u32,
    /// Set once its bytes tell nothing.
    pub(crate) unwanted: Unwanted,
    /// Nobody waits any more for what is told of it.
    pub(crate) is_late: bool,
    is_told: bool,
    has_come: bool,
}

/// Connections of which one side knows, and waits for the other.
#[derive(Default)]
pub(super) struct Meetings {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    last: u32,
    /// When the engine began to look the last time, and then told all that there was.
    looked: Option<Instant>,
    by_cookie: HashMap<u64, Expected>,
}

impl Table {
    fn entry(&mut self, cookie: u64) -> &mut Expected {
        let last = &mut self.last;
        self.by_cookie.entry(cookie).or_insert_with(|| {
            *last += 1;
            let unwanted = Unwanted::default();
            let (number, is_late, is_told, has_come) = (*last, false, false, false);
            Expected { number, unwanted, is_late, is_told, has_come }
        })
    }
}

impl Meetings {
    /// The engine knows of it, and is about to tell.
    pub(super) fn expect(&self, cookie: u64) -> Expected {
        lock(&self.table).entry(cookie).clone()
    }

    /// It did.
    pub(super) fn told(&self, cookie: u64) {
        let mut table = lock(&self.table);
        let entry = table.entry(cookie);
        entry.is_told = true;
        if entry.is_late {
            table.by_cookie.remove(&cookie);
        }
        self.changed.notify_all();
    }

    /// It is here.
    pub(super) fn come(&self, cookie: u64) -> Expected {
        let mut table = lock(&self.table);
        let entry = table.entry(cookie);
        entry.has_come = true;
        entry.clone()
    }

    /// The engine has told all that there was to tell at this time.
    pub(super) fn looked(&self, at: Instant) {
        let mut table = lock(&self.table);
        if table.by_cookie.is_empty() {
            return;
        }
        table.looked = Some(at);
        self.changed.notify_all();
    }

    /// Waits until the engine has told of it, or has nothing to tell; whether it did.
    pub(super) fn wait(&self, cookie: u64) -> bool {
        /// A recorder that does not look any more is about to end.
        const PATIENCE: Duration = Duration::from_secs(10);
        let late = Instant::now() + CALL;
        let is_awaited = |table: &mut Table| {
            !table.entry(cookie).is_told && table.looked.is_none_or(|looked| looked < late)
        };
        let waited = self.changed.wait_timeout_while(lock(&self.table), PATIENCE, is_awaited);
        let (mut table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let entry = table.entry(cookie);
        if entry.is_told {
            table.by_cookie.remove(&cookie);
            return true;
        }
        entry.is_late = true;
        false
    }

    /// Whether all came of whom the engine told.
    pub(super) fn is_complete(&self) -> bool {
        lock(&self.table).by_cookie.values().all(|one| one.has_come)
    }
}
