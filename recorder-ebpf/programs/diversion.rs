//! Connections that are led to the proxy: the address that a socket is connected to is replaced in the kernel's copy of it, so
//! that the process keeps its own, and is told when somebody asks for it.
//!
//! Where the port is known from which a connection comes, before its first packet is sent, it is noted for the proxy, which
//! so knows each of its guests.

use agentrec_recorder_ebpf::{Detour, Diverted, Endpoint};
use aya_ebpf::bindings::{bpf_sock_addr, bpf_sock_ops, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sk_lookup_tcp, bpf_sk_release,
    bpf_sock_ops_cb_flags_set,
};

use crate::kernel;
use crate::maps::{self, COMING, DETOUR, DIVERTED, LISTENING, UNREACHED};
use crate::record::now;

const IPPROTO_TCP: u32 = 6;
const AF_INET: u32 = 2;
const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();
/// The last word of ::1.
const LOOPBACK6: u32 = 1_u32.to_be();
/// The third word of IPv4 addresses that are mapped to IPv6.
const MAPPED: u32 = 0xffff_u32.to_be();

/// A field of a context: each by a load of its own, which is all that the verifier lets through.
macro_rules! load {
    ($context:ident.$($field:tt)+) => {
        // SAFETY: the kernel gives the context, and the verifier checks what is read of it.
        unsafe { (&raw const (*$context).$($field)+).read_volatile() }
    };
}

/// The same the other way.
macro_rules! store {
    ($value:expr => $context:ident.$($field:tt)+) => {
        // SAFETY: as above.
        unsafe { (&raw mut (*$context).$($field)+).write_volatile($value) }
    };
}

/// What a socket is known by.
#[inline(always)]
fn cookie<T>(context: *mut T) -> u64 {
    // SAFETY: gives a number.
    unsafe { bpf_get_socket_cookie(context.cast()) }
}

/// The process, where it is followed.
#[inline(always)]
fn follower() -> Option<u32> {
    let (pid, _) = kernel::current_ids()?;
    maps::process(pid).map(|_| pid)
}

#[inline(always)]
fn mapped(host: u32) -> [u32; 4] {
    [0, 0, MAPPED, host]
}

/// By IPv4.
#[inline(always)]
pub fn connect4(context: *mut bpf_sock_addr) -> Option<()> {
    let pid = follower()?;
    let detour = DETOUR.get(0)?;
    let host = some4(load!(context.user_ip4));
    let to = Endpoint { address: mapped(host), port: load!(context.user_port) };
    if leads4(context, detour, host, to.port) && lead(context, detour, pid, to) {
        store!(LOOPBACK4 => context.user_ip4);
        store!(detour.port4 => context.user_port);
    }
    Some(())
}

/// By IPv6, or by IPv4 through a socket for both.
#[inline(always)]
pub fn connect6(context: *mut bpf_sock_addr) -> Option<()> {
    let pid = follower()?;
    let detour = DETOUR.get(0)?;
    let [a, b, c, mut d] = address6(context);
    let is_mapped = a == 0 && b == 0 && c == MAPPED;
    if is_mapped {
        d = some4(d);
    } else if a == 0 && b == 0 && c == 0 && d == 0 {
        d = LOOPBACK6;
    }
    let to = Endpoint { address: [a, b, c, d], port: load!(context.user_port) };
    if is_mapped {
        if leads4(context, detour, d, to.port) && lead(context, detour, pid, to) {
            store!(LOOPBACK4 => context.user_ip6[3]);
            store!(detour.port4 => context.user_port);
        }
        return Some(());
    }
    let is_here = a == 0 && b == 0 && c == 0 && d == LOOPBACK6;
    let first = u32::from_be(a);
    // fe80::/10 means another host on each link, and nobody says here which one; 2000::/3 are all hosts of the internet.
    let is_elsewhere = first >> 22 == 0x3fa || (first >> 29 == 1 && detour.no_route6 != 0);
    let leads = detour.port6 != 0
        && !is_elsewhere
        && is_listened6(context, &[0, 0, 0, LOOPBACK6], detour.port6)
        && (!is_here || is_listened6(context, &to.address, to.port));
    if leads && lead(context, detour, pid, to) {
        store!(0 => context.user_ip6[0]);
        store!(0 => context.user_ip6[1]);
        store!(0 => context.user_ip6[2]);
        store!(LOOPBACK6 => context.user_ip6[3]);
        store!(detour.port6 => context.user_port);
    }
    Some(())
}

/// Whether the proxy would take a connection to there. It may be gone already: these programs are what goes last of a recorder.
#[inline(always)]
fn leads4(context: *mut bpf_sock_addr, detour: &Detour, host: u32, port: u32) -> bool {
    detour.port4 != 0
        && is_listened4(context, LOOPBACK4, detour.port4)
        && (!is_here4(host) || is_listened4(context, host, port))
}

#[inline(always)]
fn address6(context: *mut bpf_sock_addr) -> [u32; 4] {
    [
        load!(context.user_ip6[0]),
        load!(context.user_ip6[1]),
        load!(context.user_ip6[2]),
        load!(context.user_ip6[3]),
    ]
}

/// Whether the proxy is to have a connection; remembers it then.
#[inline(always)]
fn lead(context: *mut bpf_sock_addr, detour: &Detour, pid: u32, to: Endpoint) -> bool {
    if load!(context.protocol) != IPPROTO_TCP || to.port == 0 {
        return false;
    }
    // SAFETY: gives a number.
    if unsafe { bpf_get_netns_cookie(context.cast()) } != detour.network {
        return false;
    }
    // A socket that is bound to a device reaches nobody but by that (socket(7), SO_BINDTODEVICE).
    let sk = load!(context.__bindgen_anon_1.sk);
    if !sk.is_null() && load!(sk.bound_dev_if) != 0 {
        return false;
    }
    // SAFETY: numbers, which are copied at once.
    let (listening, until) =
        unsafe { (LISTENING.get(to.port).copied(), UNREACHED.get(to).copied()) };
    if listening.is_some() || until.is_some_and(|until| now() < until) {
        return false;
    }
    DIVERTED.insert(cookie(context), Diverted { to, pid }, 0).is_ok()
}

/// Who connects to no address in particular means this machine.
#[inline(always)]
fn some4(host: u32) -> u32 {
    if host == 0 { LOOPBACK4 } else { host }
}

/// Whether an address is one of this machine as every machine has them.
#[inline(always)]
fn is_here4(host: u32) -> bool {
    u32::from_be(host) >> 24 == 127
}

/// Whether somebody listens on this machine: where nobody does, the client is to be refused as without us.
#[inline(always)]
fn is_listened4(context: *mut bpf_sock_addr, host: u32, port: u32) -> bool {
    // The addresses from and to, and both ports.
    let tuple = [LOOPBACK4, host, port << 16];
    is_listened(context, &tuple)
}

/// The same by IPv6.
#[inline(always)]
fn is_listened6(context: *mut bpf_sock_addr, host: &[u32; 4], port: u32) -> bool {
    let tuple = [0, 0, 0, LOOPBACK6, host[0], host[1], host[2], host[3], port << 16];
    is_listened(context, &tuple)
}

#[inline(always)]
fn is_listened<const N: usize>(context: *mut bpf_sock_addr, tuple: &[u32; N]) -> bool {
    const CURRENT_NAMESPACE: u64 = u64::MAX;
    let tuple: *mut bpf_sock_tuple = core::ptr::from_ref(tuple).cast_mut().cast();
    // SAFETY: a tuple of so many bytes, all set; the socket that is found is let go at once.
    unsafe {
        let size = size_of::<[u32; N]>() as u32;
        let found = bpf_sk_lookup_tcp(context.cast(), tuple, size, CURRENT_NAMESPACE, 0);
        if found.is_null() {
            return false;
        }
        bpf_sk_release(found.cast());
    }
    true
}

/// Who asks which host a socket is connected to is told the one that was meant.
#[inline(always)]
pub fn peer4(context: *mut bpf_sock_addr) -> Option<()> {
    // SAFETY: the entry is copied at once; nobody changes one.
    let to = unsafe { DIVERTED.get(cookie(context)) }?.to;
    store!(to.address[3] => context.user_ip4);
    store!(to.port => context.user_port);
    Some(())
}

/// The same by IPv6.
#[inline(always)]
pub fn peer6(context: *mut bpf_sock_addr) -> Option<()> {
    // SAFETY: as above.
    let to = unsafe { DIVERTED.get(cookie(context)) }?.to;
    store!(to.address[0] => context.user_ip6[0]);
    store!(to.address[1] => context.user_ip6[1]);
    store!(to.address[2] => context.user_ip6[2]);
    store!(to.address[3] => context.user_ip6[3]);
    store!(to.port => context.user_port);
    Some(())
}

/// What can happen to a socket, and when the kernel tells (include/uapi/linux/bpf.h).
mod op {
    /// It connects: its port is known, and nothing was sent yet.
    pub const CONNECT: u32 = 3;
    /// Its state changes; told of those alone that [`WANTS_STATES`] is set for.
    pub const STATE: u32 = 10;
    /// It listens.
    pub const LISTEN: u32 = 11;
    pub const WANTS_STATES: i32 = 4;
}

/// include/net/tcp_states.h
const TCP_LISTEN: u32 = 10;

/// Something happens to a socket.
#[inline(always)]
pub fn event(context: *mut bpf_sock_ops) -> Option<()> {
    match load!(context.op) {
        op::CONNECT => coming(context),
        op::LISTEN => {
            follower()?;
            if is_elsewhere(context)? {
                return None;
            }
            // SAFETY: gives a number.
            unsafe { bpf_sock_ops_cb_flags_set(context, op::WANTS_STATES) };
            count(context, 1)
        }
        // The connections that it takes inherit that their states are told.
        op::STATE if load!(context.__bindgen_anon_1.args[0]) == TCP_LISTEN => {
            if is_elsewhere(context)? { None } else { count(context, -1) }
        }
        _ => None,
    }
}

#[inline(always)]
fn is_elsewhere(context: *mut bpf_sock_ops) -> Option<bool> {
    let detour = DETOUR.get(0)?;
    // SAFETY: gives a number.
    Some(unsafe { bpf_get_netns_cookie(context.cast()) } != detour.network)
}

/// One listener more or less.
#[inline(always)]
fn count(context: *mut bpf_sock_ops, change: i32) -> Option<()> {
    let port = u32::from((load!(context.local_port) as u16).to_be());
    // SAFETY: a number, which is copied at once.
    let before = unsafe { LISTENING.get(port) }.copied().unwrap_or(0) as i32;
    if before + change > 0 {
        LISTENING.insert(port, (before + change) as u32, 0).ok()
    } else {
        LISTENING.remove(port).ok()
    }
}

/// A connection goes to the proxy: notes where it comes from.
#[inline(always)]
fn coming(context: *mut bpf_sock_ops) -> Option<()> {
    let cookie = cookie(context);
    // SAFETY: nothing is read of it.
    unsafe { DIVERTED.get(cookie) }?;
    // Of both families before it is known which: else the compiler makes one load of several.
    let by4 = mapped(load!(context.local_ip4));
    let by6 = [
        load!(context.local_ip6[0]),
        load!(context.local_ip6[1]),
        load!(context.local_ip6[2]),
        load!(context.local_ip6[3]),
    ];
    let address = if load!(context.family) == AF_INET { by4 } else { by6 };
    let port = u32::from((load!(context.local_port) as u16).to_be());
    COMING.insert(Endpoint { address, port }, cookie, 0).ok()
}
