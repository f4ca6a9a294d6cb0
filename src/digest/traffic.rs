//! What of the connections could be read: the ledger.

use std::collections::{BTreeMap, BTreeSet};

use agentrec_trace::{Data, Event, Seq};

/// Connections of streams to hosts, and what became of their bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections that were made or accepted, by their first event.
    connections: BTreeSet<Seq>,
    /// Those in which HTTP was read.
    read: BTreeSet<Seq>,
    /// Those that could not be read, by reason.
    pub opaque: BTreeMap<String, u64>,
    /// HTTP requests.
    pub requests: u64,
    /// The connections of HTTP requests, by request.
    by_request: BTreeMap<Seq, Seq>,
    /// Connections over which a model was asked.
    asking: BTreeSet<Seq>,
    /// Those of which nobody knows by which connection they went.
    pub loose: u64,
}

impl Traffic {
    /// Takes the next event.
    pub fn add(&mut self, event: &Event<'_>) {
        let to_host = |family: &str| matches!(family, "inet" | "inet6");
        match &event.data {
            Data::NetConnect(connect) => {
                let made = connect.errno.is_none_or(|errno| errno == libc::EINPROGRESS);
                if made && connect.protocol == "tcp" && to_host(&connect.peer.family) {
                    self.connections.insert(event.seq);
                }
            }
            Data::NetAccept(accept) if to_host(&accept.peer.family) => {
                self.connections.insert(event.seq);
            }
            Data::HttpRequest(request) => {
                self.requests += 1;
                match request.open {
                    Some(open) => {
                        self.read.insert(open);
                        self.by_request.insert(event.seq, open);
                    }
                    None => self.loose += 1,
                }
            }
            Data::ModelRequest(request) => {
                let open = request.request.and_then(|request| self.by_request.get(&request));
                self.asking.extend(open);
            }
            Data::NetOpaque(opaque) => {
                *self.opaque.entry(opaque.reason.clone().into_owned()).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Connections to and from hosts.
    pub fn connections(&self) -> u64 {
        self.connections.len() as u64
    }

    /// Whether a model was asked over a connection.
    pub fn asks_model(&self, connection: Seq) -> bool {
        self.asking.contains(&connection)
    }

    /// Those in which HTTP was read.
    pub fn read(&self) -> u64 {
        self.read.len() as u64
    }
}
