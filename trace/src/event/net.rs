//! Sockets: connections, listeners, and traffic that could not be read.

use std::borrow::Cow;

use super::define::events;
use super::values::Address;
use crate::Seq;

events! {
    /// A socket was connected, or not.
    Sys "net.connect" NetConnect<'a> {
        /// Descriptor.
        fd: i32,
        /// `tcp`, `udp`, `unix`, or another protocol's name.
        #[serde(borrow)] protocol: Cow<'a, str>,
        /// Peer.
        #[serde(borrow)] peer: Address<'a>,
        /// Error number of a failed call; EINPROGRESS where the result comes later.
        errno: Option<i32>,
        /// Process that listens at the other end of a unix connection, where that is known.
        peer_pid: Option<u32>,
    }
    /// A socket was bound and listens, or could not be bound.
    Sys "net.listen" NetListen<'a> {
        /// Descriptor.
        fd: i32,
        /// Address.
        #[serde(borrow)] local: Address<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
        /// As in `net.connect`.
        #[serde(borrow)] protocol: Cow<'a, str>,
    }
    /// A connection was accepted.
    Sys "net.accept" NetAccept<'a> {
        /// The new descriptor.
        fd: i32,
        /// The `net.listen` that it came through.
        listen: Option<Seq>,
        /// Peer.
        #[serde(borrow)] peer: Address<'a>,
        /// As in `net.connect`.
        #[serde(borrow)] protocol: Cow<'a, str>,
        /// Process that connected, where that is known.
        peer_pid: Option<u32>,
    }
    /// A connection was shut down in one direction or both; its descriptors stay.
    Sys "net.shutdown" NetShutdown<'a> {
        /// The `net.connect` or `net.accept` that it began with.
        open: Option<Seq>,
        /// `read`, `write` or `both`.
        #[serde(borrow)] how: Cow<'a, str>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// The last descriptor of this process for a socket was closed.
    Sys "net.close" NetClose<'a> {
        /// The `net.connect`, `net.accept` or `net.listen` that it began with.
        open: Option<Seq>,
        /// Bytes sent by this process.
        sent: u64,
        /// Bytes received by this process.
        received: u64,
        /// Peer, only where there is no `open`: a socket of a pair, or one that was connected before.
        #[serde(borrow)] peer: Option<Address<'a>>,
    }
    /// Traffic was seen that can't be read.
    Sys "net.opaque" NetOpaque<'a> {
        /// The connection's first event.
        open: Option<Seq>,
        /// Peer.
        #[serde(borrow)] peer: Address<'a>,
        /// Why: such as `tls`, `go-tls`, `rustls`, `unknown-protocol`, `server-not-verified`, `proxy-not-trusted`, `not-reached`.
        #[serde(borrow)] reason: Cow<'a, str>,
        /// What would make it readable.
        #[serde(borrow)] hint: Cow<'a, str>,
        /// Bytes sent.
        sent: u64,
        /// Bytes received.
        received: u64,
        /// Name of the host that was asked for, where it was said before the encryption began.
        #[serde(borrow)] server_name: Cow<'a, str>,
    }
}
