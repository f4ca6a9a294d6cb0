//! Hosts: who connected to whom, who waits for connections, and what could not be read.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use agentrec_trace::event::{HttpRequest, NetConnect};
use agentrec_trace::{Data, Event, ProcId, Seq};

use super::Audit;
use super::hosts;
use super::people::Who;
use super::tally::Subject;
use crate::digest::Peer;

/// How far away the other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// Another machine.
    Remote,
    /// This machine, over the network.
    Loopback,
    /// This machine, through a unix socket.
    Unix,
    /// A process that waits for others.
    Listens,
}

/// Connections with one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Connections that were made, or were under way.
    pub made: u64,
    /// Connections that failed.
    pub failed: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

/// What stands in the list of hosts: the nearest last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// How far away it is.
    pub distance: Distance,
    /// Who.
    pub peer: Peer,
    /// `tcp`, `udp`, `unix`, or another protocol's name.
    pub protocol: String,
}

impl Subject for Host {
    fn weight(&self) -> usize {
        let peer = match &self.peer {
            Peer::Internet(host, _) | Peer::Other(host) => host.len(),
            Peer::Unix(path) => path.len(),
        };
        peer + self.protocol.len()
    }
}

/// Connections whose close is awaited.
const MAX_OPEN: usize = 50_000;

/// A connect(2) of a datagram socket: nothing has left the machine until something was sent.
#[derive(Debug)]
struct Intended {
    host: Host,
    address: (IpAddr, u16),
    who: Who,
    seq: Seq,
}

/// What is open.
#[derive(Debug, Default)]
pub(super) struct Net {
    open: HashMap<Seq, Host>,
    /// Datagram sockets by process and descriptor, each with the peers that it was connected to.
    intended: HashMap<(ProcId, i32), Vec<Intended>>,
    intents: usize,
    /// Which socket a close is about.
    by_seq: HashMap<Seq, (ProcId, i32)>,
    /// Connections that others made: what comes over them was asked of us.
    accepted: HashSet<Seq>,
    /// Connections that were made to hosts whose names nothing tells.
    pub(super) unnamed: u64,
}

impl Audit<'_> {
    /// Takes the next event, as far as it is about the network.
    pub(super) fn net_event(&mut self, event: &Event<'_>) {
        let who = self.people.who(event.proc);
        match &event.data {
            Data::NetConnect(e) => self.connect(event.seq, &who, e),
            Data::NetListen(e) if e.errno.is_none() => {
                // A unix socket is a file, and stands with those.
                if let Peer::Internet(..) = Peer::from(&e.local) {
                    let host = Host {
                        distance: Distance::Listens,
                        peer: Peer::from(&e.local),
                        protocol: e.protocol.to_string(),
                    };
                    self.hosts.note(host, &who, event.seq);
                }
            }
            Data::NetAccept(_) if self.net.accepted.len() < MAX_OPEN => {
                self.net.accepted.insert(event.seq);
            }
            Data::NetClose(e) => {
                let Some(open) = e.open else { return };
                self.net.accepted.remove(&open);
                if let Some(host) = self.net.open.get(&open)
                    && let Some(flow) = self.hosts.state_mut(host)
                {
                    flow.sent = flow.sent.saturating_add(e.sent);
                    flow.received = flow.received.saturating_add(e.received);
                }
                if let Some(socket) = self.net.by_seq.get(&open).copied() {
                    let intended = self.net.intended.remove(&socket).unwrap_or_default();
                    self.net.intents -= intended.len();
                    for intent in &intended {
                        self.net.by_seq.remove(&intent.seq);
                    }
                    if e.sent > 0 || e.received > 0 {
                        let (sent, received) = (e.sent, e.received);
                        let last = intended.iter().map(|intent| intent.seq).max();
                        for intent in intended {
                            let bytes =
                                if Some(intent.seq) == last { (sent, received) } else { (0, 0) };
                            self.talked(intent, bytes);
                        }
                    }
                }
                if self.net.open.len() > MAX_OPEN {
                    self.net.open.remove(&open);
                }
            }
            Data::NetOpaque(e) => {
                let what = format!("what went over a connection can't be read: {}", e.reason);
                self.unseen(what, &who, event.seq, 1);
            }
            Data::HttpRequest(e) => self.http(event.seq, &who, e),
            _ => {}
        }
    }

    fn connect(&mut self, seq: Seq, who: &Who, e: &NetConnect<'_>) {
        let peer = Peer::from(&e.peer);
        let made = e.errno.is_none_or(|errno| errno == libc::EINPROGRESS);
        let (distance, address) = match &peer {
            // Name lookups connect to port 0 to learn their own address.
            Peer::Internet(_, 0) | Peer::Other(_) => return,
            Peer::Internet(host, port) => match host.parse::<IpAddr>() {
                Ok(address) => {
                    let near = address.to_canonical().is_loopback();
                    (
                        if near { Distance::Loopback } else { Distance::Remote },
                        Some((address, *port)),
                    )
                }
                Err(_) => (Distance::Remote, None),
            },
            Peer::Unix(path) => {
                let shown = shown_path(path);
                if let Some(rule) = self.rules.denies_peer(hosts::Peer::Unix(&shown)) {
                    self.violations.note((rule, shown), who, seq);
                }
                // Nobody answered, or one of the session's own did.
                if !made
                    || e.peer_pid.is_some_and(|pid| self.people.has_pid(pid))
                    || self.is_recorder(path)
                {
                    return;
                }
                (Distance::Unix, None)
            }
        };
        let host = Host { distance, peer, protocol: e.protocol.to_string() };
        if let (Some(address), "udp", true) = (address, &*e.protocol, made) {
            let socket = (who.id, e.fd);
            let intent = Intended { host, address, who: who.clone(), seq };
            if self.net.intents >= MAX_OPEN {
                self.talked(intent, (0, 0));
                return;
            }
            self.net.intents += 1;
            self.net.by_seq.insert(seq, socket);
            self.net.intended.entry(socket).or_default().push(intent);
            return;
        }
        if let Some((address, port)) = address {
            self.judge(address, port, host.peer.to_string(), who, seq);
        }
        if let Some(flow) = self.hosts.note(host.clone(), who, seq) {
            flow.made += u64::from(made);
            flow.failed += u64::from(!made);
        }
        if made && self.net.open.len() < MAX_OPEN {
            self.net.open.insert(seq, host);
        }
    }

    /// A datagram socket said something to whom it was connected to.
    fn talked(&mut self, intent: Intended, (sent, received): (u64, u64)) {
        let Intended { host, address: (address, port), who, seq } = intent;
        self.judge(address, port, host.peer.to_string(), &who, seq);
        if let Some(flow) = self.hosts.note(host, &who, seq) {
            flow.made += 1;
            flow.sent = flow.sent.saturating_add(sent);
            flow.received = flow.received.saturating_add(received);
        }
    }

    fn judge(&mut self, address: IpAddr, port: u16, shown: String, who: &Who, seq: Seq) {
        self.net.unnamed += 1;
        if let Some(rule) = self.rules.denies_peer(hosts::Peer::Ip(address, port)) {
            self.violations.note((rule, shown.into_bytes()), who, seq);
        }
    }

    /// What was still open when the trace ended: whether anything was sent is not told.
    pub(super) fn finish_net(&mut self) {
        let mut intended: Vec<_> =
            std::mem::take(&mut self.net.intended).into_values().flatten().collect();
        intended.sort_by_key(|intent| intent.seq);
        for intent in intended {
            self.talked(intent, (0, 0));
        }
    }

    fn http(&mut self, seq: Seq, who: &Who, e: &HttpRequest<'_>) {
        if e.open.is_some_and(|open| self.net.accepted.contains(&open)) {
            return;
        }
        let Some((host, port)) = host_of(&e.url) else { return };
        self.net.unnamed = self.net.unnamed.saturating_sub(1);
        // An address was held against the rules when it was connected to.
        let is_name = host.parse::<IpAddr>().is_err();
        if let Some(rule) = self.rules.denies_peer(hosts::Peer::Name(host, port))
            && is_name
        {
            self.violations.note((rule, host.as_bytes().to_vec()), who, seq);
        }
        if !matches!(&*e.method.to_ascii_uppercase(), "GET" | "HEAD" | "OPTIONS" | "CONNECT") {
            let url = e.url.split(['?', '#']).next().unwrap_or_default();
            self.irrevocable(format!("{} {url}", e.method), "sends data over HTTP", who, seq);
        }
    }

    /// Whether it leads to the recorder's own socket, which is named by the session.
    fn is_recorder(&self, path: &[u8]) -> bool {
        path.ends_with(format!("/{}.sock", self.session).as_bytes()) && !self.session.is_empty()
    }
}

/// An abstract name as it is written in rules: `@name`.
fn shown_path(path: &[u8]) -> Vec<u8> {
    match path.split_first() {
        Some((0, name)) => [b"@", name].concat(),
        _ => path.to_vec(),
    }
}

/// Host and port of an absolute URL.
fn host_of(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let known = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let (host, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && !port.contains(']') => (name, port.parse().ok()?),
        _ => (host, known),
    };
    Some((host.trim_start_matches('[').trim_end_matches(']'), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_hosts() {
        for (url, found) in [
            ("https://a.b/x?y", Some(("a.b", 443))),
            ("http://u:p@a.b:8080/x", Some(("a.b", 8080))),
            ("http://[::1]:80/", Some(("::1", 80))),
            ("http://[::1]/", Some(("::1", 80))),
            ("/x", None),
            ("http://a:b/", None),
        ] {
            assert_eq!(host_of(url), found, "{url}");
        }
    }
}
