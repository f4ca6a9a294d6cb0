//! What the kernel knows of a socket: asked later, it may be gone.

use agentrec_recorder_ebpf::{ADDRESS_WORDS, Endpoint, Head, MAX_ADDRESS, Socket, kind};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::kernel::{self, offset};
use crate::maps::DIVERTED;
use crate::record::Record;

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// include/net/tcp_states.h; unix sockets have the same.
const TCP_LISTEN: u8 = 10;

/// Whether the file of a socket is one end of a connection of hosts, or of a unix one.
#[inline(always)]
pub fn is_stream(file: u64) -> bool {
    const SOCK_STREAM: u16 = 1;
    let socket: u64 = kernel::read(file, offset!(file_private));
    if kernel::read::<u16>(socket, offset!(socket_type)) != SOCK_STREAM {
        return false;
    }
    let sk: u64 = kernel::read(socket, offset!(socket_sk));
    matches!(kernel::read::<u16>(sk, offset!(sk_family)), AF_UNIX | AF_INET | AF_INET6)
}

/// Tells of the socket at a descriptor.
#[inline(always)]
pub fn tell(head: &Head, fd: i32) {
    let file = kernel::file(kernel::current(), fd);
    if file == 0 {
        return;
    }
    let socket: u64 = kernel::read(file, offset!(file_private));
    let sk: u64 = kernel::read(socket, offset!(socket_sk));
    if sk == 0 {
        return;
    }
    let family: u16 = kernel::read(sk, offset!(sk_family));
    let Some(mut record) = Record::new::<Socket>() else { return };
    let told: &mut Socket = record.fixed();
    told.head = Head { kind: kind::SOCKET, ..*head };
    told.fd = fd;
    told.family = u32::from(family);
    told.kind = u32::from(kernel::read::<u16>(socket, offset!(socket_type)));
    told.listens = u32::from(kernel::read::<u8>(sk, offset!(sk_state)) == TCP_LISTEN);
    (told.peer_pid, told.local_len, told.peer_len, told.reserved) = (0, 0, 0, 0);
    told.diverted = 0;
    let port: u16 = kernel::read(sk, offset!(sk_num));
    let dport: u16 = kernel::read(sk, offset!(sk_dport));
    match family {
        AF_UNIX => {
            let pid: u64 = kernel::read(sk, offset!(sk_peer_pid));
            if pid != 0 {
                told.peer_pid = kernel::number(pid).unwrap_or(0);
            }
            if offset!(unix_addr) != 0 {
                told.local_len = unix(sk, &mut told.local);
                let peer: u64 = kernel::read(sk, offset!(unix_peer));
                if peer != 0 {
                    told.peer_len = unix(peer, &mut told.peer);
                }
            }
        }
        AF_INET => {
            told.local_len = inet(sk, port.to_be(), offset!(sk_saddr), &mut told.local);
            if dport != 0 {
                told.peer_len = inet(sk, dport, offset!(sk_daddr), &mut told.peer);
            }
        }
        AF_INET6 if offset!(sk_v6_saddr) != 0 => {
            told.local_len = inet6(sk, port.to_be(), offset!(sk_v6_saddr), &mut told.local);
            if dport != 0 {
                told.peer_len = inet6(sk, dport, offset!(sk_v6_daddr), &mut told.peer);
            }
        }
        _ => {}
    }
    if told.peer_len != 0
        && matches!(family, AF_INET | AF_INET6)
        && let Some((cookie, to)) = diverted(sk)
    {
        told.diverted = cookie;
        let [a, b, c, d] = to.address.map(u64::from);
        if family == AF_INET {
            told.peer[0] = u64::from(AF_INET) | u64::from(to.port) << 16 | d << 32;
        } else {
            told.peer[0] = u64::from(AF_INET6) | u64::from(to.port) << 16;
            (told.peer[1], told.peer[2]) = (a | b << 32, c | d << 32);
        }
    }
    // Of a connection through the proxy it waits to hear.
    let wakes = told.diverted != 0;
    record.emit(wakes);
}

/// Where a connection that was led to the proxy was meant to go.
#[inline(always)]
fn diverted(sk: u64) -> Option<(u64, Endpoint)> {
    let cookie: u64 = kernel::read(sk, offset!(sk_cookie));
    // SAFETY: the entry is copied at once; nobody changes one.
    Some((cookie, unsafe { DIVERTED.get(cookie) }?.to))
}

/// A `struct sockaddr_in` (ip(7)).
#[inline(always)]
fn inet(sk: u64, port: u16, at: u32, address: &mut [u64; ADDRESS_WORDS]) -> u32 {
    let host: u32 = kernel::read(sk, at);
    address[0] = u64::from(AF_INET) | u64::from(port) << 16 | u64::from(host) << 32;
    address[1] = 0;
    16
}

/// A `struct sockaddr_in6` (ipv6(7)).
#[inline(always)]
fn inet6(sk: u64, port: u16, at: u32, address: &mut [u64; ADDRESS_WORDS]) -> u32 {
    address[0] = u64::from(AF_INET6) | u64::from(port) << 16;
    address[1] = kernel::read(sk, at);
    address[2] = kernel::read(sk, at + 8);
    address[3] = 0;
    28
}

/// A `struct sockaddr_un` (unix(7)): without a name where it has none.
#[inline(always)]
fn unix(sk: u64, address: &mut [u64; ADDRESS_WORDS]) -> u32 {
    address[0] = u64::from(AF_UNIX);
    let named: u64 = kernel::read(sk, offset!(unix_addr));
    if named == 0 {
        return 2;
    }
    let len: u32 = kernel::read(named, offset!(unix_address_len));
    let len = if len > MAX_ADDRESS { MAX_ADDRESS } else { len };
    let from = named + u64::from(offset!(unix_address_name));
    // SAFETY: no more than the address has room for.
    let done = unsafe { bpf_probe_read_kernel(address.as_mut_ptr().cast(), len, from as *const _) };
    if done == 0 { len } else { 2 }
}
