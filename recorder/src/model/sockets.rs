//! Sockets: what they are bound and connected to, and who is at the other end.

use std::collections::BTreeSet;
use std::os::fd::RawFd;

use agentrec_trace::Seq;
use agentrec_trace::event::{Address, FileMknod, NetAccept, NetConnect, NetListen, NetShutdown};
use agentrec_wire::Role;

use super::files::{Description, DescriptionId, Kind};
use super::streams::Told;
use super::{Kernel, Messages, Model, Scribe, SocketFacts, Task, address, handover};
use crate::observation::{At, Call, Observation, Tid};

/// Mode of a unix socket's file, before the umask (unix_bind_bsd in net/unix/af_unix.c).
const SOCKET_MODE: u32 = libc::S_IFSOCK | 0o777;
/// Peers of a datagram socket that are remembered: one that talks to more is told of again.
const MAX_PEERS: usize = 4096;

/// A socket of the tree.
#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) family: i32,
    pub(super) kind: i32,
    protocol: i32,
    /// The agent's end of the session's socket.
    pub(super) ours: bool,
    pub(super) listens: bool,
    /// Who is at the other end, where no event says it.
    pub(super) peer: Option<Address<'static>>,
    /// The name that it was bound to: unix ones as they stand in events.
    local: Option<Address<'static>>,
    /// Addresses that datagrams were sent to.
    peers: BTreeSet<Vec<u8>>,
    /// Who is at the other end, as an event says it.
    pub(super) connected: Option<Address<'static>>,
    pub(super) told: Told,
}

impl Socket {
    fn new(family: i32, kind: i32) -> Box<Self> {
        let kind = kind & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
        Box::new(Self { family, kind, ..Self::default() })
    }

    fn protocol(&self) -> &'static str {
        address::protocol(self.family, self.kind)
    }

    fn is_stream(&self) -> bool {
        matches!(self.kind, libc::SOCK_STREAM | libc::SOCK_SEQPACKET)
    }

    pub(super) fn is_unconnected_tcp(&self) -> bool {
        let tcp = matches!(self.protocol, 0 | libc::IPPROTO_TCP | libc::IPPROTO_MPTCP);
        self.kind == libc::SOCK_STREAM && tcp && self.connected.is_none() && !self.listens
    }

    pub(super) fn listens_on(&self, port: u16) -> bool {
        let bound = self.local.as_ref().is_some_and(|local| local.port == port);
        self.listens && self.kind == libc::SOCK_STREAM && bound
    }

    fn has_hosts(&self) -> bool {
        !matches!(self.family, libc::AF_NETLINK | libc::AF_PACKET)
    }
}

impl Model {
    /// What is of interest in the messages of a thread's descriptor.
    pub fn messages(&self, tid: Tid, fd: RawFd) -> Messages {
        let Some(task) = self.tasks.get(&tid) else { return Messages::default() };
        let Some(id) = self.files.get(task.files).get(fd) else { return Messages::default() };
        let description = self.descriptions.get(id);
        match &description.kind {
            Kind::Socket(socket) => Messages {
                // A stream goes where it is connected to, or, with MSG_FASTOPEN, to where its first message does.
                addressed: socket.has_hosts() && !(socket.is_stream() && description.has_event),
                descriptors: socket.family == libc::AF_UNIX,
            },
            // It could not be asked what it is.
            _ => {
                let socket = description.path.starts_with(b"socket:");
                Messages { addressed: false, descriptors: socket }
            }
        }
    }

    pub(super) fn sockets(
        &mut self,
        task: Task,
        seen: &Observation<'_>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let errno = seen.result.err();
        match seen.call {
            Call::Socket { family, kind, protocol } => {
                if let Ok(fd) = seen.result {
                    let cloexec = kind & libc::SOCK_CLOEXEC != 0;
                    let socket = Box::new(Socket { protocol, ..*Socket::new(family, kind) });
                    self.install_socket(task, fd as RawFd, socket, cloexec, scribe);
                }
            }
            Call::SocketPair { fds, family, kind } => {
                for fd in fds {
                    let peer = Some(address::nameless(family));
                    let socket = Box::new(Socket { peer, ..*Socket::new(family, kind) });
                    let cloexec = kind & libc::SOCK_CLOEXEC != 0;
                    self.install_socket(task, fd, socket, cloexec, scribe);
                }
            }
            Call::Connect { fd, address } => self.connect(task, fd, address, errno, kernel, scribe),
            Call::Bind { fd, address } => self.bind(task, fd, address, errno, kernel, scribe),
            Call::Listen { fd } => self.listen(task, fd, errno, kernel, scribe),
            Call::Accept { fd, address, cloexec } => {
                if let Ok(new) = seen.result {
                    self.accept(task, fd, new as RawFd, address, cloexec, kernel, scribe);
                }
            }
            Call::Shutdown { fd, how } => self.shutdown(task, fd, how, errno, scribe),
            Call::SendTo { fd, address } => self.send_to(task, fd, address, errno, kernel, scribe),
            _ => {}
        }
    }

    /// What a descriptor that was there before is: a socket as far as the kernel tells.
    pub(super) fn found_kind(
        &self,
        tid: Tid,
        fd: RawFd,
        link: &[u8],
        kernel: &mut impl Kernel,
    ) -> Kind {
        let facts = link.starts_with(b"socket:").then(|| kernel.socket(tid, fd)).flatten();
        let Some(facts) = facts else { return Kind::File };
        let SocketFacts { family, kind, listens, .. } = facts;
        let peer = match &facts.peer[..] {
            [] => address::nameless(family),
            peer => address::decode(peer),
        };
        let local = (!facts.local.is_empty()).then(|| address::decode(&facts.local));
        let new = *Socket::new(family, kind);
        let told = Told::joined();
        let socket = Socket { listens, peer: Some(peer), local, told, ..new };
        Kind::Socket(Box::new(socket))
    }

    fn install_socket(
        &mut self,
        task: Task,
        fd: RawFd,
        socket: Box<Socket>,
        cloexec: bool,
        scribe: &mut Scribe<'_>,
    ) {
        let description = Description::new(Vec::new(), Kind::Socket(socket), false);
        let id = self.descriptions.insert(description);
        self.install(task, fd, id, cloexec, true, scribe);
    }

    /// The description behind a descriptor, and the socket that it is.
    fn socket(&mut self, task: Task, fd: RawFd) -> Option<(DescriptionId, &mut Socket)> {
        let id = self.files.get(task.files).get(fd)?;
        match &mut self.descriptions.get_mut(id).kind {
            Kind::Socket(socket) => Some((id, socket)),
            _ => None,
        }
    }

    /// `raw` as the event has it, with the absolute path of a unix socket.
    fn address(
        &mut self,
        task: Task,
        raw: &[u8],
        kernel: &mut impl Kernel,
        scribe: &Scribe<'_>,
    ) -> Address<'static> {
        let mut decoded = address::decode(raw);
        if let Some(name) = address::unix_path(raw) {
            let at = At::Path { dir: None, path: name };
            decoded.path = self.path(scribe.tid, task, at, kernel).unwrap_or_default().into();
        }
        decoded
    }

    fn connect(
        &mut self,
        task: Task,
        fd: RawFd,
        raw: &[u8],
        errno: Option<i32>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let peer = self.address(task, raw, kernel, scribe);
        let ours = !peer.path.is_empty() && self.socket.as_deref() == Some(&*peer.path);
        // EINPROGRESS: the connection is being made, bytes can follow.
        let made = matches!(errno, None | Some(libc::EINPROGRESS));
        let (mut protocol, mut opens, mut stream) = ("", None, true);
        if let Some((id, socket)) = self.socket(task, fd) {
            (protocol, stream) = (socket.protocol(), socket.is_stream());
            if made {
                socket.ours = ours;
                socket.connected = Some(peer.clone());
                // Who connects once more asks whether the connection is made.
                if !socket.told.proxied {
                    socket.told = Told::with_role(Role::Client);
                }
                opens = Some(id);
                self.descriptions.get_mut(id).has_event = !ours;
            }
        } else if address::family(raw) == Some(libc::AF_UNIX) {
            protocol = "unix";
        }
        // What the agent tells us is recorded as that; how it got here is our doing, not its own.
        if ours && made {
            return;
        }
        let server = match errno {
            None if stream && protocol == "unix" => {
                kernel.socket(scribe.tid, fd).and_then(|facts| facts.peer_pid)
            }
            _ => None,
        };
        let taker = match errno {
            None if stream && protocol == "unix" => self.taker(&peer.path, server, kernel),
            _ => None,
        };
        let peer_pid = server.map(|pid| pid as u32);
        let data = NetConnect { fd, protocol: protocol.into(), peer, errno, peer_pid };
        scribe.write_opening(task.process, self.proc(task), data, opens);
        if let Some(taker) = taker {
            self.handed_over(task, taker, server, scribe);
        }
    }

    /// Who takes work at a unix socket that was connected to, where that is nobody of the tree.
    fn taker(
        &self,
        path: &[u8],
        server: Option<Tid>,
        kernel: &mut impl Kernel,
    ) -> Option<&'static str> {
        // Who listened may be gone since, and have left the socket to a child.
        let listens = |description: &Description| match &description.kind {
            Kind::Socket(socket) if socket.listens => {
                socket.local.as_ref().is_some_and(|local| *local.path == *path)
            }
            _ => false,
        };
        let inside = server.is_some_and(|server| self.processes.contains_key(&server))
            || self.descriptions.iter().any(listens);
        if inside {
            return None;
        }
        let mut program = || server.and_then(|server| kernel.program(server));
        handover::by_socket(path).or_else(|| handover::by_server(&program()?))
    }

    fn bind(
        &mut self,
        task: Task,
        fd: RawFd,
        raw: &[u8],
        errno: Option<i32>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let local = self.address(task, raw, kernel, scribe);
        let proc = self.proc(task);
        let is_file = address::unix_path(raw).is_some();
        if is_file {
            let (path, mode) = (local.path.clone(), SOCKET_MODE);
            scribe.write(task.process, proc, FileMknod { path, mode, dev: 0, errno });
        }
        let (mut protocol, mut opens) = ("", None);
        let mut datagrams = false;
        if let Some((id, socket)) = self.socket(task, fd) {
            protocol = socket.protocol();
            if errno.is_none() {
                socket.local = Some(local.clone());
                datagrams = protocol == "udp" && local.port != 0;
                socket.listens = datagrams;
                opens = Some(id).filter(|_| datagrams);
            }
        }
        if datagrams || (errno.is_some() && !is_file) {
            if let Some(id) = opens {
                self.descriptions.get_mut(id).has_event = true;
            }
            let data = NetListen { fd, local, errno, protocol: protocol.into() };
            scribe.write_opening(task.process, proc, data, opens);
        }
    }

    fn listen(
        &mut self,
        task: Task,
        fd: RawFd,
        errno: Option<i32>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let Some((id, socket)) = self.socket(task, fd) else { return };
        // Once more, for another backlog.
        if socket.listens && errno.is_none() {
            return;
        }
        let protocol = socket.protocol();
        // The kernel chose the port, or all of it where the socket was not bound.
        let bound = socket.local.clone().filter(|local| local.port != 0 || !local.path.is_empty());
        let local = bound.unwrap_or_else(|| {
            let facts = kernel.socket(scribe.tid, fd);
            facts.map(|facts| address::decode(&facts.local)).unwrap_or_default()
        });
        if errno.is_none() {
            socket.listens = true;
            socket.local = Some(local.clone());
            self.descriptions.get_mut(id).has_event = true;
        }
        let opens = Some(id).filter(|_| errno.is_none());
        let data = NetListen { fd, local, errno, protocol: protocol.into() };
        scribe.write_opening(task.process, self.proc(task), data, opens);
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one call")]
    fn accept(
        &mut self,
        task: Task,
        fd: RawFd,
        new: RawFd,
        raw: &[u8],
        cloexec: bool,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let listener = self.socket(task, fd).map(|(id, socket)| (id, socket.family, socket.kind));
        let facts = match address::is_whole(raw) {
            true => None,
            false => kernel.socket(scribe.tid, new),
        };
        let (family, kind) = match (listener, &facts) {
            (Some((_, family, kind)), _) => (family, kind),
            (None, Some(facts)) => (facts.family, facts.kind),
            (None, None) => (address::family(raw).unwrap_or(0), libc::SOCK_STREAM),
        };
        let mut peer = match &facts {
            Some(facts) if !facts.peer.is_empty() => {
                self.address(task, &facts.peer, kernel, scribe)
            }
            _ => self.address(task, raw, kernel, scribe),
        };
        if peer.family.is_empty() {
            peer = address::nameless(family);
        }
        let peer_pid = facts.and_then(|facts| facts.peer_pid).map(|pid| pid as u32);
        let listen = listener.filter(|&(id, ..)| self.descriptions.get(id).has_event);
        let listen = listen.map(|(id, ..)| Seq(u64::from(id)));
        let mut socket = Socket::new(family, kind);
        (socket.connected, socket.told) = (Some(peer.clone()), Told::with_role(Role::Server));
        let protocol = socket.protocol().into();
        let description = Description::new(Vec::new(), Kind::Socket(socket), true);
        let id = self.descriptions.insert(description);
        let data = NetAccept { fd: new, listen, peer, protocol, peer_pid };
        scribe.write_opening(task.process, self.proc(task), data, Some(id));
        self.install(task, new, id, cloexec, true, scribe);
    }

    fn shutdown(
        &mut self,
        task: Task,
        fd: RawFd,
        how: i32,
        errno: Option<i32>,
        scribe: &mut Scribe<'_>,
    ) {
        let Some((id, _)) = self.socket(task, fd) else { return };
        if matches!(how, libc::SHUT_WR | libc::SHUT_RDWR) && errno.is_none() {
            self.half_closed(task, id, scribe);
        }
        let how = match how {
            libc::SHUT_RD => "read",
            libc::SHUT_WR => "write",
            libc::SHUT_RDWR => "both",
            // EINVAL.
            _ => return,
        };
        if self.descriptions.get(id).has_event {
            let open = Some(Seq(u64::from(id)));
            let data = NetShutdown { open, how: how.into(), errno };
            scribe.write(task.process, self.proc(task), data);
        }
    }

    fn send_to(
        &mut self,
        task: Task,
        fd: RawFd,
        raw: &[u8],
        errno: Option<i32>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let Some((id, socket)) = self.socket(task, fd) else { return };
        if socket.is_stream() {
            // TCP fast open: connected by its first message. Any other is refused.
            let refused = matches!(errno, Some(libc::ENOTCONN | libc::EPIPE | libc::EINVAL));
            if !refused && socket.family != libc::AF_UNIX {
                self.connect(task, fd, raw, errno, kernel, scribe);
            }
            return;
        }
        if socket.peers.contains(raw) {
            return;
        }
        let protocol = socket.protocol().into();
        if errno.is_none() {
            if socket.peers.len() == MAX_PEERS {
                socket.peers.clear();
            }
            socket.peers.insert(raw.to_vec());
        }
        let peer = self.address(task, raw, kernel, scribe);
        let description = self.descriptions.get_mut(id);
        let first = errno.is_none() && !description.has_event;
        description.has_event |= first;
        let data = NetConnect { fd, protocol, peer, errno, peer_pid: None };
        scribe.write_opening(task.process, self.proc(task), data, Some(id).filter(|_| first));
    }
}
