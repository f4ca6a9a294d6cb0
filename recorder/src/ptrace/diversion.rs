//! Connections that go through the proxy: a thread that goes into connect(2) waits until there is a tunnel to its destination, and
//! finds the tunnel's address where its own was, until the call is over.
//!
//! It waits as it would for the destination itself, and where that does not answer in some seconds, or refuses, the call is made
//! as it is. Who is in another network namespace reaches other hosts than we do: it is left alone.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;
use std::sync::Arc;

use super::threads::Undo;
use super::tracee::{Stopped, Vanished};
use super::{Tracer, now};
use crate::calls::decode::Entry;
use crate::calls::shape::Shape;
use crate::observation::Tid;
use crate::proc;
use crate::proxy::{Proxy, Tunnel};
use crate::source::Report;

/// Who waits, and who is on the way.
pub(super) struct Diversion {
    proxy: Arc<Proxy>,
    /// Threads that stand before their connect(2), and the number of that call.
    waiting: HashMap<Tid, (Stopped, u64)>,
    /// Threads in a connect(2) to a tunnel.
    diverted: HashMap<Tid, Tunnel>,
    tickets: u64,
    /// Our network namespace.
    network: Option<Vec<u8>>,
}

impl Diversion {
    /// A thread does something else: it was killed, or it has been let go.
    pub(super) fn forget(&mut self, tid: Tid) {
        self.waiting.remove(&tid);
        self.diverted.remove(&tid);
    }
}

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// All connections of the tree go through the proxy from now on. What goes over them it tells; nothing else looks into TLS.
    pub(crate) fn divert_to(&mut self, proxy: Arc<Proxy>) {
        self.ignore_tls();
        self.diversion = Some(Diversion {
            proxy,
            waiting: HashMap::new(),
            diverted: HashMap::new(),
            tickets: 0,
            network: proc::network(None),
        });
    }

    /// Where a call goes that is to be made by way of the proxy.
    pub(super) fn destination(&self, tid: Tid, entry: &Entry) -> Option<SocketAddr> {
        let diversion = self.diversion.as_ref()?;
        let (row, args) = entry.row().filter(|(row, _)| matches!(row.shape, Shape::Connect))?;
        debug_assert!(row.shape.needs_result());
        let to = decode(entry.block().ok()?).filter(|to| to.port() != 0)?;
        let ours = self.model.connects_outside(tid, args[0] as RawFd, to)
            && proc::network(Some(tid)) == diversion.network;
        ours.then_some(to)
    }

    /// Has a thread wait for a tunnel, at the entry of its call.
    pub(super) fn divert(&mut self, stopped: Stopped, to: SocketAddr) -> Result<(), Vanished> {
        let tid = stopped.tid();
        let process = self.threads.get(tid).map_or(tid, |thread| thread.process);
        let Some(diversion) = &mut self.diversion else { return stopped.resume_to_exit(0) };
        diversion.tickets += 1;
        let (ticket, control) = (diversion.tickets, self.control.clone());
        diversion.waiting.insert(tid, (stopped, ticket));
        diversion.proxy.open(to, process, move |tunnel| control.give_tunnel(tid, ticket, tunnel));
        Ok(())
    }

    /// The proxy's answer: the call is made, to the tunnel where there is one.
    pub(super) fn tunnel_given(&mut self, tid: Tid, ticket: u64, tunnel: Option<Tunnel>) {
        let Some(diversion) = &mut self.diversion else { return };
        if diversion.waiting.get(&tid).is_none_or(|(_, waits_for)| *waits_for != ticket) {
            return;
        }
        let Some((stopped, _)) = diversion.waiting.remove(&tid) else { return };
        if let Some(tunnel) = tunnel
            && let Some(thread) = self.threads.get_mut(tid)
            && let Some(entry) = &thread.entry
            && let Ok(Some(undo)) = replace(&stopped, entry, tunnel.address)
        {
            thread.undo = Some(undo);
            diversion.diverted.insert(tid, tunnel);
        }
        // Who was killed meanwhile is told of by the kernel.
        let _ = stopped.resume_to_exit(0);
    }

    /// A thread's connect(2) is over, and was told: what goes over the connection the proxy tells from here on.
    pub(super) fn connected(&mut self, tid: Tid, fd: RawFd, result: Result<u64, i32>) {
        let tunnel = self.diversion.as_mut().and_then(|it| it.diverted.remove(&tid));
        let Some(tunnel) = tunnel else { return };
        if !matches!(result, Ok(_) | Err(libc::EINPROGRESS)) {
            return;
        }
        // Containers may forbid a look at the socket itself.
        let local = proc::sockets::facts(tid, fd).and_then(|facts| decode(&facts.local));
        let port = local.map(|local| local.port()).or_else(|| proc::sockets::listed_port(tid, fd));
        let Some(port) = port else { return };
        if let Some(began) = self.model.proxied(tid, fd, now(), (tunnel.number, &tunnel.unwanted))
            && !self.silent
            && self.reports.defer(began).is_err()
        {
            self.deserted();
        }
        tunnel.connected(port);
    }
}

/// The address in a `struct sockaddr`, where it is one of the internet.
fn decode(raw: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(raw.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(raw.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET => {
            let host: [u8; 4] = raw.get(4..8)?.try_into().ok()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(host), port).into())
        }
        libc::AF_INET6 => {
            let host: [u8; 16] = raw.get(8..24)?.try_into().ok()?;
            let scope = raw.get(24..28).and_then(|scope| scope.try_into().ok());
            let scope = u32::from_ne_bytes(scope.unwrap_or_default());
            Some(SocketAddrV6::new(Ipv6Addr::from(host), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Writes another address over the one that a call points to; None where that can't be.
fn replace(stopped: &Stopped, entry: &Entry, to: SocketAddr) -> Result<Option<Undo>, Vanished> {
    let (Some((_, args)), Ok(before)) = (entry.row(), entry.block()) else { return Ok(None) };
    let mut after = before.to_vec();
    after[2..4].copy_from_slice(&to.port().to_be_bytes());
    let is_v6 = decode(before).is_some_and(|before| before.is_ipv6());
    match to.ip() {
        IpAddr::V4(ip) if is_v6 => after[8..24].copy_from_slice(&ip.to_ipv6_mapped().octets()),
        IpAddr::V4(ip) => after[4..8].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) if is_v6 => after[8..24].copy_from_slice(&ip.octets()),
        IpAddr::V6(_) => return Ok(None),
    }
    let words = if is_v6 { 3 } else { 1 };
    let undo = Undo::Address { address: args[1], words, before: first_words(before) };
    Undo::Address { address: args[1], words, before: first_words(&after) }.apply(stopped)?;
    Ok(Some(undo))
}

fn first_words(bytes: &[u8]) -> [u64; 3] {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_internet() {
        let inet = [&(libc::AF_INET as u16).to_ne_bytes()[..], &[1, 187, 10, 0, 0, 1, 0, 0]];
        assert_eq!(decode(&inet.concat()), Some("10.0.0.1:443".parse().unwrap()));
        let unix = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], b"/run/x"];
        assert_eq!(decode(&unix.concat()), None);
        let mut inet6 = vec![0; 28];
        inet6[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        inet6[2..4].copy_from_slice(&443u16.to_be_bytes());
        inet6[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        assert_eq!(decode(&inet6), Some("[::1]:443".parse().unwrap()));
        for len in 0..inet6.len() {
            decode(&inet6[..len]);
        }
    }
}
