//! Connections that go through the proxy: programs on the control groups (cgroups(7)) lead them to a [`Door`] of it, and tell here
//! where each was meant to go.
//!
//! Nobody is held meanwhile, so the client is connected before its destination is. What can be known before, the programs ask:
//! whether somebody listens on this machine, and whether the proxy was there in vain a moment ago.

use std::fs::File;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentrec_recorder_ebpf::{Detour, Diverted, Endpoint};
use aya::maps::{HashMap as BpfMap, MapData};
use aya::programs::{CgroupAttachMode, Program};
use procfs::process::Process;

use super::attach::{Abi, Loaded, refused};
use super::{Error, Watcher};
use crate::observation::Tid;
use crate::privileges;
use crate::proxy::{Door, Guest, Guide, Proxy, lock};
use crate::session::boottime;
use crate::source::Report;

/// Those that lead, and those that tell who came.
const PROGRAMS: [&str; 5] =
    ["connect4", "connect6", "getpeername4", "getpeername6", "socket_event"];

/// How long a destination that was not reached is left to its clients, which see why then.
const LEFT_ALONE: Duration = Duration::from_secs(2);

/// Loads the programs and lets them go: whether [`Watcher::new`] would find that connections can be led, and
/// the control groups that the programs would hang on.
///
/// # Errors
/// Where the kernel refuses, or has no such groups here.
pub fn try_to_divert() -> Result<PathBuf, Error> {
    privileges::with_rights(|| {
        let group = control_groups()?;
        let mut loaded = super::attach::load(0, None, 0)?;
        PROGRAMS.into_iter().try_for_each(|name| load(name, loaded.any(name)))?;
        Ok(group)
    })
}

fn load(name: &str, program: &mut Program) -> Result<(), Error> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => unreachable!("the object has no other with that name"),
    }
    .map_err(|error| refused(name, error))
}

/// The root of the control groups of version 2, as far as this process sees them, where it is in one of them.
///
/// # Errors
/// Where there are none.
pub(crate) fn control_groups() -> Result<PathBuf, Error> {
    let failed = |error| Error::Io("tell the control groups", io::Error::other(error));
    let this = Process::myself().map_err(failed)?;
    let own = this.cgroups().map_err(failed)?;
    let own = own.into_iter().find(|group| group.hierarchy == 0);
    let mounts = this.mountinfo().map_err(failed)?;
    let has_us =
        |root: &str| own.as_ref().is_some_and(|own| Path::new(&own.pathname).starts_with(root));
    let mount = mounts.into_iter().find(|mount| mount.fs_type == "cgroup2" && has_us(&mount.root));
    mount.map(|mount| mount.mount_point).ok_or(Error::NoControlGroups)
}

impl Loaded {
    /// Attaches the programs that lead connections to these [`control_groups`], beside those of others.
    pub(super) fn divert(&mut self, groups: &Path) -> Result<(), Error> {
        let groups = File::open(groups).map_err(|e| Error::Io("open the control groups", e))?;
        for name in PROGRAMS {
            let program = self.any(name);
            load(name, program)?;
            // A link is always for one program of several.
            let mode = CgroupAttachMode::Single;
            match program {
                Program::CgroupSockAddr(program) => program.attach(&groups, mode).map(drop),
                Program::SockOps(program) => program.attach(&groups, mode).map(drop),
                _ => unreachable!("loaded above"),
            }
            .map_err(|error| refused(name, error))?;
        }
        Ok(())
    }
}

impl<I: From<Report> + Send + 'static> Watcher<I> {
    /// All connections of the tree go through the proxy from now on, where the programs for that are attached. What goes over them
    /// it tells; nothing else looks into TLS.
    ///
    /// # Errors
    /// Where the proxy can't listen.
    pub(crate) fn divert_to(&mut self, proxy: Arc<Proxy>) -> Result<(), Error> {
        self.ignore_tls();
        let Some(attached) = &mut self.attached else { return Ok(()) };
        let door = Door::open().map_err(|e| Error::Io("listen for connections", e))?;
        let [port4, port6] = door.ports().map(|port| u32::from(port.to_be()));
        let network = network(&door).map_err(|e| Error::Io("tell the network namespace", e))?;
        let no_route6 = u32::from(!reaches_internet6());
        let guests = Guests {
            diverted: Mutex::new(attached.map("DIVERTED")?),
            coming: Mutex::new(attached.map("COMING")?),
            unreached: Mutex::new(attached.map("UNREACHED")?),
        };
        let detour = Abi(Detour { network, port4, port6, no_route6, reserved: 0 });
        proxy.receive(door, guests).map_err(|e| Error::Io("start the proxy", e))?;
        attached.array("DETOUR")?.set(0, detour, 0).map_err(|e| Error::Map("DETOUR", e))?;
        self.proxy = Some(proxy);
        Ok(())
    }

    /// A thread's connect(2) is over, and was told: what goes over the connection the proxy tells, where it was led there.
    pub(super) fn connected(&mut self, tid: Tid, ts: u64, fd: RawFd) {
        let (Some(cookie), Some(proxy)) = (self.kernel.diverted(tid, fd), &self.proxy) else {
            return;
        };
        // It asks once more whether its connection is made.
        if self.model.is_proxied(tid, fd) {
            return;
        }
        let expected = proxy.expect(cookie);
        let began = self.model.proxied(tid, fd, ts, (expected.number, &expected.unwanted));
        if let Some(began) = began.filter(|_| !self.silent && !expected.is_late) {
            let _ = self.reports.defer(began);
        }
        proxy.told(cookie);
    }
}

/// Who comes, as the programs know it.
struct Guests {
    diverted: Mutex<BpfMap<MapData, u64, Abi<Diverted>>>,
    coming: Mutex<BpfMap<MapData, Abi<Endpoint>, u64>>,
    unreached: Mutex<BpfMap<MapData, Abi<Endpoint>, u64>>,
}

impl Guide for Guests {
    fn guest(&self, from: SocketAddr) -> Option<Guest> {
        let mut coming = lock(&self.coming);
        let from = Abi(endpoint(from));
        let cookie = coming.get(&from, 0).ok()?;
        // Whoever has the same port later was not led here.
        coming.remove(&from).ok()?;
        let Abi(Diverted { to, pid }) = lock(&self.diverted).get(&cookie, 0).ok()?;
        Some(Guest { cookie, destination: address(to), process: pid as Tid })
    }

    fn unreached(&self, destination: SocketAddr) {
        let until = boottime() + LEFT_ALONE.as_nanos() as u64;
        // Else the next one comes here again.
        lock(&self.unreached).insert(Abi(endpoint(destination)), until, 0).unwrap_or_default();
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let host = match address {
        SocketAddr::V4(address) => address.ip().to_ipv6_mapped(),
        SocketAddr::V6(address) => *address.ip(),
    };
    let octets = host.octets();
    let words = octets.as_chunks::<4>().0;
    let host = std::array::from_fn(|index| u32::from_ne_bytes(words[index]));
    Endpoint { address: host, port: u32::from(address.port().to_be()) }
}

fn address(endpoint: Endpoint) -> SocketAddr {
    let bytes = endpoint.address.map(u32::to_ne_bytes);
    let octets = std::array::from_fn(|index| bytes[index / 4][index % 4]);
    let port = u16::from_be(endpoint.port as u16);
    SocketAddr::new(Ipv6Addr::from_octets(octets).to_canonical(), port)
}

/// What the kernel knows our network namespace by.
fn network(socket: &impl AsRawFd) -> io::Result<u64> {
    /// include/uapi/asm-generic/socket.h
    const SO_NETNS_COOKIE: i32 = 71;
    let (mut cookie, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the option is a `u64`, and the kernel writes no more than `len` bytes.
    let done = unsafe {
        let cookie = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, cookie, &mut len)
    };
    if done == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Whether this machine has a way to hosts of the internet by IPv6. Nothing is sent.
fn reaches_internet6() -> bool {
    /// Of those that are for documentation (RFC 3849).
    const SOMEBODY: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 443);
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok_and(|socket| socket.connect(SOMEBODY).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_connections_are_those_of_the_programs() {
        for text in ["10.1.2.3:443", "[2001:db8::7]:8080", "[::1]:1"] {
            let parsed: SocketAddr = text.parse().unwrap();
            assert_eq!(address(endpoint(parsed)), parsed);
        }
        let mapped = "[::ffff:10.1.2.3]:443".parse().unwrap();
        assert_eq!(endpoint(mapped), endpoint("10.1.2.3:443".parse().unwrap()));
        assert_eq!(endpoint(mapped).port, u32::from(443_u16.to_be()));
    }
}
