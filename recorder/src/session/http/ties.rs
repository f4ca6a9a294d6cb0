//! Which socket carries which stream of a TLS library.
//!
//! Nobody says so: the library works in memory, and who moves its bytes is another. But both name the host, the one when it asks
//! for a certificate and the other in its first request. Where only one socket of the process fits, it is the one. Of several
//! nobody knows which is which, but all of them are read as soon as there are as many streams.

use std::collections::HashMap;
use std::net::IpAddr;

use agentrec_trace::ProcId;

use super::{Http, Live};
use crate::source::{OpenId, StreamId};

/// What is known of a connection in the other layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    None,
    /// A stream of a library, and the socket below it.
    Below(OpenId),
    /// A stream of a library whose socket is one of several.
    OneOfSeveral,
    /// A socket whose stream is known.
    Above,
}

/// How many streams there are whose sockets are not known, by process and host.
pub(super) type Unclear = HashMap<(ProcId, String), u64>;

impl Http {
    /// The first request of a stream tells the host.
    pub(super) fn tie(&mut self, id: StreamId, url: &str) {
        let StreamId::Tls(_) = id else { return };
        let Some(live) = self.streams.get(&id).filter(|live| live.tie == Tie::None) else { return };
        let Some(proc) = live.proc else { return };
        let host = host_of(url);
        let fits = |live: &Live| {
            live.proc == Some(proc)
                && live.tie == Tie::None
                && live.secure_host().is_some_and(|it| it == host)
        };
        let mut fitting = self.streams.iter().filter_map(|(id, live)| match id {
            StreamId::Socket(open) if fits(live) => Some(*open),
            _ => None,
        });
        let only = match (fitting.next(), fitting.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        };
        let tie = match only {
            Some(open) => {
                self.streams.entry(StreamId::Socket(open)).and_modify(|live| live.tie = Tie::Above);
                Tie::Below(open)
            }
            None => {
                *self.unclear.entry((proc, host)).or_default() += 1;
                Tie::OneOfSeveral
            }
        };
        self.streams.entry(id).and_modify(|live| live.tie = tie);
    }

    /// Whether what went over a socket that is gone was read above it.
    pub(super) fn is_read(&mut self, live: &Live) -> bool {
        if live.tie == Tie::Above {
            return true;
        }
        let (Some(proc), Some(host)) = (live.proc, live.secure_host()) else { return false };
        match self.unclear.get_mut(&(proc, host)) {
            Some(count @ 1..) => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

impl Live {
    /// The host that a socket with TLS on it is connected to; empty where it was named by its address.
    fn secure_host(&self) -> Option<String> {
        let opaque = self.opaque.as_ref().filter(|opaque| opaque.reason == "tls")?;
        let name = opaque.hello.as_ref().and_then(|hello| hello.server_name.as_deref());
        Some(
            name.map_or_else(String::new, |name| {
                String::from_utf8_lossy(name).to_ascii_lowercase()
            }),
        )
    }
}

/// The host of a URL; empty where it is an address, which a client names to nobody before it encrypts (RFC 6066, 3).
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, _)) => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    if host.parse::<IpAddr>().is_ok() { String::new() } else { host.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls_are_as_a_client_names_them_before_it_encrypts() {
        for (url, host) in [
            ("https://API.example.com/v1?x=http://other", "api.example.com"),
            ("https://user:pw@example.com:8443/x", "example.com"),
            ("https://127.0.0.1:8443/x", ""),
            ("https://[::1]:8443/x", ""),
            ("example.com:443", "example.com"),
            ("", ""),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
