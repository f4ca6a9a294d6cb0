//! Connections: who talked to whom, and how much.

use std::fmt;

use agentrec_trace::event::Address;
use agentrec_trace::{Data, Event, ProcId, Seq};

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Numeric address and port.
    Internet(String, u16),
    /// Path of a unix socket; an abstract name starts with a NUL byte.
    Unix(Vec<u8>),
    /// Another address family.
    Other(String),
}

/// A connection that the tree tried to make or made. (What it accepted stands in the timeline alone: its peers are
/// ports that mean nothing, or who is recorded as having connected.)
#[derive(Clone, Debug)]
pub struct Connection {
    /// The event.
    pub seq: Seq,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub ts: u64,
    /// Who.
    pub proc: ProcId,
    /// With whom.
    pub peer: Peer,
    /// Error number where it failed.
    pub errno: Option<i32>,
    /// Bytes sent; told at the close.
    pub sent: u64,
    /// Bytes received; told at the close.
    pub received: u64,
}

impl Connection {
    /// Whether it was made, as far as the trace tells: one that was still under way counts.
    pub fn made(&self) -> bool {
        self.errno.is_none_or(|errno| errno == libc::EINPROGRESS)
    }

    /// Whether it can have carried data to another machine or service. Name lookups connect datagram sockets to
    /// port 0 only to learn which source address the kernel would take.
    pub fn carries_data(&self) -> bool {
        match &self.peer {
            Peer::Internet(_, port) => *port != 0,
            Peer::Unix(_) => true,
            Peer::Other(_) => false,
        }
    }
}

impl From<&Address<'_>> for Peer {
    fn from(address: &Address<'_>) -> Self {
        match &*address.family {
            "inet" | "inet6" => Self::Internet(address.host.clone().into_owned(), address.port),
            "unix" => Self::Unix(address.path.to_vec()),
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Internet(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => match path.strip_prefix(b"\0") {
                Some(name) => write!(f, "@{}", name.escape_ascii()),
                None => write!(f, "{}", path.escape_ascii()),
            },
            Self::Other(family) => f.write_str(family),
        }
    }
}

/// Takes the next event.
pub fn add(connections: &mut Vec<Connection>, event: &Event<'_>) {
    let connection = |peer: &Address<'_>, errno| Connection {
        seq: event.seq,
        ts: event.ts,
        proc: event.proc.unwrap_or_default(),
        peer: Peer::from(peer),
        errno,
        sent: 0,
        received: 0,
    };
    match &event.data {
        Data::NetConnect(e) => connections.push(connection(&e.peer, e.errno)),
        Data::NetClose(e) => {
            let Some(open) = e.open else { return };
            // Pushed in the order of their events, so sorted.
            if let Ok(found) = connections.binary_search_by_key(&open, |c| c.seq) {
                let connection = &mut connections[found];
                connection.sent = connection.sent.saturating_add(e.sent);
                connection.received = connection.received.saturating_add(e.received);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;

    #[test]
    fn a_connection_under_way_counts_as_made() {
        let mut script = Script::new("/w");
        script.connect(1, "::1", 443, Some(libc::EINPROGRESS));
        script.connect(1, "10.0.0.1", 0, None);
        script.connect(1, "10.0.0.1", 80, Some(libc::ECONNREFUSED));
        let connections = script.digest().connections;
        let facts: Vec<_> =
            connections.iter().map(|c| (c.peer.to_string(), c.made(), c.carries_data())).collect();
        assert_eq!(
            facts,
            [
                ("[::1]:443".to_owned(), true, true),
                ("10.0.0.1:0".to_owned(), true, false),
                ("10.0.0.1:80".to_owned(), false, true)
            ]
        );
    }
}
