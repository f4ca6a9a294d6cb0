//! Connections whose bytes are looked at: stream sockets, and the streams of TLS libraries.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use agentrec_trace::event::Address;
use agentrec_wire::Role;

use super::files::{DescriptionId, Kind};
use super::sockets::Socket;
use super::{Model, Process, Scribe, Task, address};
use crate::observation::{Direction, Flow, Tid};
use crate::source::{Began, OpenId, Report, Stream, StreamId, Streamed, Unwanted};

/// What is remembered of a connection whose bytes were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What it is to whoever holds it; None for one that was there before.
    role: Option<Role>,
    /// It was connected before anybody looked.
    joined: bool,
    /// Set by who takes the bytes, where they tell nothing; None as long as none were told.
    unwanted: Option<Unwanted>,
    /// What goes over it is told by the proxy.
    pub(super) proxied: bool,
}

impl Told {
    pub(super) fn with_role(role: Role) -> Self {
        Self { role: Some(role), ..Self::default() }
    }

    pub(super) fn joined() -> Self {
        Self { joined: true, ..Self::default() }
    }

    fn is_unwanted(&self) -> bool {
        self.unwanted.as_ref().is_some_and(Unwanted::is_set)
    }
}

/// A stream of a TLS library in a process.
#[derive(Debug)]
pub(super) struct TlsStream {
    id: StreamId,
    unwanted: Unwanted,
}

impl Socket {
    fn has_stream(&self) -> bool {
        let family = matches!(self.family, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX);
        let told = self.ours || self.listens || self.told.proxied;
        family && self.kind == libc::SOCK_STREAM && !told
    }
}

impl Model {
    /// Whether the bytes that go through a descriptor of a thread are wanted: those of a connection, or of a pipe with messages.
    pub fn stream(&self, tid: Tid, fd: RawFd) -> bool {
        let Some(&task) = self.tasks.get(&tid) else { return false };
        let Some(id) = self.files.get(task.files).get(fd) else {
            return self.carries_lines(task, fd);
        };
        match &self.descriptions.get(id).kind {
            Kind::Socket(socket) => socket.has_stream() && !socket.told.is_unwanted(),
            _ => false,
        }
    }

    pub(super) fn flowed(
        &mut self,
        task: Task,
        fd: RawFd,
        direction: Direction,
        flow: Flow<'_>,
        scribe: &mut Scribe<'_>,
    ) {
        let proc = self.proc(task);
        let Some(id) = self.files.get(task.files).get(fd) else {
            return self.piped(task, fd, direction, flow, scribe);
        };
        let Kind::Socket(socket) = &mut self.descriptions.get_mut(id).kind else { return };
        if !socket.has_stream() || socket.told.is_unwanted() {
            return;
        }
        let stream = StreamId::Socket(OpenId(id));
        if socket.told.unwanted.is_none() {
            let unwanted = Unwanted::default();
            socket.told.unwanted = Some(unwanted.clone());
            let began = Began {
                role: socket.told.role,
                peer: socket.known_peer(),
                through: None,
                joined: socket.told.joined,
                unwanted,
            };
            scribe.stream(task.process, proc, stream, Stream::Began(Box::new(began)));
        }
        scribe.flow(task.process, proc, stream, direction, flow);
    }

    /// Whether a thread's descriptor is a socket that TCP can connect from, to somebody who does not listen in the tree.
    pub fn connects_outside(&self, tid: Tid, fd: RawFd, to: SocketAddr) -> bool {
        let Some(task) = self.tasks.get(&tid) else { return false };
        let Some(id) = self.files.get(task.files).get(fd) else { return false };
        let Kind::Socket(socket) = &self.descriptions.get(id).kind else { return false };
        let fits = matches!(
            (socket.family, to),
            (libc::AF_INET, SocketAddr::V4(_)) | (libc::AF_INET6, SocketAddr::V6(_))
        );
        fits && socket.is_unconnected_tcp()
            && !self.descriptions.iter().any(|it| match &it.kind {
                Kind::Socket(other) => other.listens_on(to.port()),
                _ => false,
            })
    }

    /// A thread's socket was connected by way of the proxy, which tells what goes over it: what is to be reported before that.
    pub(crate) fn proxied(
        &mut self,
        tid: Tid,
        fd: RawFd,
        ts: u64,
        (number, unwanted): (u32, &Unwanted),
    ) -> Option<Report> {
        let task = *self.tasks.get(&tid)?;
        let proc = self.proc(task);
        let id = self.files.get(task.files).get(fd)?;
        let Kind::Socket(socket) = &mut self.descriptions.get_mut(id).kind else { return None };
        socket.told.proxied = true;
        let began = Began {
            role: socket.told.role,
            peer: socket.known_peer(),
            through: Some(OpenId(id)),
            joined: false,
            unwanted: unwanted.clone(),
        };
        Some(Report::Stream(Streamed {
            id: StreamId::Proxy(number),
            ts,
            proc: Some(proc),
            tid: (tid != task.process).then_some(tid as u32),
            what: Stream::Began(Box::new(began)),
        }))
    }

    /// Whether that is so of a thread's descriptor.
    pub(crate) fn is_proxied(&self, tid: Tid, fd: RawFd) -> bool {
        let Some(task) = self.tasks.get(&tid) else { return false };
        let id = self.files.get(task.files).get(fd);
        let kind = id.map(|id| &self.descriptions.get(id).kind);
        matches!(kind, Some(Kind::Socket(socket)) if socket.told.proxied)
    }

    /// A shutdown(2) for writing ends what goes out.
    pub(super) fn half_closed(&mut self, task: Task, id: DescriptionId, scribe: &mut Scribe<'_>) {
        let proc = self.proc(task);
        if self.has_told(id) {
            let stream = StreamId::Socket(OpenId(id));
            scribe.flow(task.process, proc, stream, Direction::Write, Flow::End);
        }
    }

    /// A connection is over: its last descriptor is gone, or it was reset.
    pub(super) fn stream_over(&mut self, id: DescriptionId, reset: bool, scribe: &mut Scribe<'_>) {
        if self.has_told(id) {
            let stream = StreamId::Socket(OpenId(id));
            let (ts, what) = (scribe.ts, Stream::Over { reset });
            scribe.out.push(Report::Stream(Streamed {
                id: stream,
                ts,
                proc: None,
                tid: None,
                what,
            }));
        }
    }

    fn has_told(&self, id: DescriptionId) -> bool {
        match &self.descriptions.get(id).kind {
            Kind::Socket(socket) => socket.told.unwanted.is_some(),
            _ => false,
        }
    }

    /// Streams of TLS libraries may have begun before anybody looked.
    pub fn join_tls(&mut self) {
        self.tls_is_joined = true;
    }

    /// Whether the bytes of a stream of a TLS library are wanted.
    pub fn wants_plaintext(&self, tid: Tid, address: u64) -> bool {
        let Some(task) = self.tasks.get(&tid) else { return false };
        let process = self.processes.get(&task.process);
        let stream = process.and_then(|process| process.tls.get(&address));
        stream.is_none_or(|stream| !stream.unwanted.is_set())
    }

    /// Plaintext went through a stream of a TLS library, which `address` names in its process.
    pub(super) fn plaintext(
        &mut self,
        task: Task,
        address: u64,
        direction: Direction,
        flow: Flow<'_>,
        scribe: &mut Scribe<'_>,
    ) {
        let proc = self.proc(task);
        let Some(process) = self.processes.get_mut(&task.process) else { return };
        let (last, joined) = (&mut self.last_tls, self.tls_is_joined);
        let stream = process.tls.entry(address).or_insert_with(|| {
            *last += 1;
            let (id, unwanted) = (StreamId::Tls(*last), Unwanted::default());
            let began = Began {
                role: None,
                peer: Address::default(),
                through: None,
                joined,
                unwanted: unwanted.clone(),
            };
            scribe.stream(task.process, proc, id, Stream::Began(Box::new(began)));
            TlsStream { id, unwanted }
        });
        if !stream.unwanted.is_set() {
            scribe.flow(task.process, proc, stream.id, direction, flow);
        }
    }

    /// A stream of a TLS library is gone: its address may be another's next.
    pub(super) fn plaintext_over(&mut self, task: Task, address: u64, scribe: &mut Scribe<'_>) {
        let proc = self.proc(task);
        let Some(process) = self.processes.get_mut(&task.process) else { return };
        if let Some(stream) = process.tls.remove(&address) {
            scribe.stream(task.process, proc, stream.id, Stream::Over { reset: false });
        }
    }

    /// With a process, or with the program that it ran, its streams are gone.
    pub(super) fn end_tls(process: &mut Process, pid: Tid, scribe: &mut Scribe<'_>) {
        for (_, stream) in std::mem::take(&mut process.tls) {
            scribe.stream(pid, process.id, stream.id, Stream::Over { reset: false });
        }
    }
}

impl Scribe<'_> {
    pub(super) fn stream(
        &mut self,
        process: Tid,
        proc: agentrec_trace::ProcId,
        id: StreamId,
        what: Stream,
    ) {
        let tid = (self.tid != process).then_some(self.tid as u32);
        self.out.push(Report::Stream(Streamed { id, ts: self.ts, proc: Some(proc), tid, what }));
    }

    pub(super) fn flow(
        &mut self,
        process: Tid,
        proc: agentrec_trace::ProcId,
        id: StreamId,
        direction: Direction,
        flow: Flow<'_>,
    ) {
        let what = match flow {
            Flow::Bytes(data) => Stream::Bytes { direction, data: data.to_vec() },
            Flow::Missing(count) => Stream::Missing { direction, count },
            Flow::End => Stream::End { direction },
        };
        self.stream(process, proc, id, what);
    }
}

impl Socket {
    /// Who is at the other end, as far as that was told.
    fn known_peer(&self) -> Address<'static> {
        match (&self.connected, &self.peer) {
            (Some(peer), _) | (None, Some(peer)) => peer.clone(),
            (None, None) => address::nameless(self.family),
        }
    }
}
