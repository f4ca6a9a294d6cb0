//! What the kernel says of a tracee's socket: asked of a copy of its descriptor, which the tracer may take
//! (pidfd_getfd(2) needs no more than the right to trace).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_long};

use crate::model::SocketFacts;
use crate::observation::Tid;

/// Since Linux 6.9: the descriptor is for a thread, not its process (pidfd_open(2)).
const PIDFD_THREAD: c_int = libc::O_EXCL;

/// A copy of a stopped thread's descriptor; None where the kernel or a sandbox refuses.
pub(crate) fn copy(tid: Tid, fd: RawFd) -> Option<OwnedFd> {
    let pidfd = [(tid, 0), (tid, PIDFD_THREAD)]
        .into_iter()
        .find_map(|(id, flags)| call(libc::SYS_pidfd_open, [id, flags, 0]))
        // Threads nearly always share their descriptors.
        .or_else(|| call(libc::SYS_pidfd_open, [super::family(tid)?.0, 0, 0]))?;
    call(libc::SYS_pidfd_getfd, [pidfd.as_raw_fd(), fd, 0])
}

/// A descriptor for a process, which is ready to be read once its parent can wait for it.
pub(crate) fn pidfd(pid: Tid) -> Option<OwnedFd> {
    call(libc::SYS_pidfd_open, [pid, 0, 0])
}

/// A call whose result is a new descriptor.
fn call(number: c_long, args: [c_int; 3]) -> Option<OwnedFd> {
    // SAFETY: the calls above take numbers alone.
    let fd = unsafe { libc::syscall(number, args[0], args[1], args[2]) };
    // SAFETY: the descriptor is new, and nobody else's.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// What is known of the socket behind a stopped thread's descriptor.
pub(crate) fn facts(tid: Tid, fd: RawFd) -> Option<SocketFacts> {
    let socket = copy(tid, fd)?;
    let family = option::<c_int>(&socket, libc::SO_DOMAIN)?;
    let peer = option::<libc::ucred>(&socket, libc::SO_PEERCRED);
    Some(SocketFacts {
        family,
        kind: option(&socket, libc::SO_TYPE)?,
        listens: option::<c_int>(&socket, libc::SO_ACCEPTCONN) == Some(1),
        local: address(&socket, libc::getsockname),
        peer: address(&socket, libc::getpeername),
        // 0 is a process that this namespace has no name for, or none at all.
        peer_pid: peer.map(|peer| peer.pid).filter(|&pid| pid > 0 && family == libc::AF_UNIX),
    })
}

/// The local port of a socket of TCP, from the kernel's lists (proc_pid_net(5)): slower, and permitted to everybody.
pub(crate) fn listed_port(tid: Tid, fd: RawFd) -> Option<u16> {
    let link = std::fs::read_link(format!("/proc/{tid}/fd/{fd}")).ok()?;
    let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    ["tcp", "tcp6"].into_iter().find_map(|list| {
        let list = std::fs::read_to_string(format!("/proc/{tid}/net/{list}")).ok()?;
        list.lines().find_map(|line| {
            // Number, local and remote address, state, queues, timers, retransmissions, user, timeout, inode.
            let mut fields = line.split_ascii_whitespace();
            let (_, port) = fields.nth(1)?.rsplit_once(':')?;
            (fields.nth(7)? == inode).then(|| u16::from_str_radix(port, 16).ok())?
        })
    })
}

fn option<T: Copy>(socket: &OwnedFd, name: c_int) -> Option<T> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`.
    let done = unsafe {
        let value = value.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, &mut len)
    };
    // SAFETY: `T` is made of numbers here, for which zero and whatever the kernel wrote are values.
    (done == 0 && len as usize == size_of::<T>()).then(|| unsafe { value.assume_init() })
}

type Ask = unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int;

/// The bytes of a `struct sockaddr`; empty where there is none.
fn address(socket: &OwnedFd, ask: Ask) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<libc::sockaddr_storage>()];
    let mut len = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which `bytes` has.
    let done = unsafe { ask(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), &mut len) };
    bytes.truncate(if done == 0 { len as usize } else { 0 });
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn both_ways_tell_the_same_port() {
        let own = std::process::id() as Tid;
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has IPv6.
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            assert_eq!(listed_port(own, listener.as_raw_fd()), Some(port));
        }
        assert_eq!(listed_port(own, 0), None);
    }
}
