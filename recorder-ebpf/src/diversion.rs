//! What the programs and the recorder say to each other of connections that are led through the proxy.

/// Connections through the proxy at a time whose destination is remembered; of more, those that nobody asked about for longest
/// are forgotten.
pub const DIVERTED: u32 = 1 << 14;
/// Ports at a time on which the tree listens.
pub const LISTENING: u32 = 1 << 12;
/// Destinations at a time that the proxy did not reach.
pub const UNREACHED: u32 = 1 << 10;

abi! {
    /// Where connections are led to; without ports nowhere.
    pub struct Detour {
        /// The network namespace of the proxy (SO_NETNS_COOKIE): whoever is in another one reaches other hosts.
        pub network: u64,
        /// The proxy's port at 127.0.0.1, in network order; 0: there is none.
        pub port4: u32,
        /// The same at ::1.
        pub port6: u32,
        /// Not 0: hosts of the internet can't be reached by IPv6, which their clients are to see.
        pub no_route6: u32,
        /// 0.
        pub reserved: u32,
    }
}

abi! {
    /// One end of a TCP connection.
    pub struct Endpoint {
        /// As it stands in memory; of IPv4 the mapped one (RFC 4291, 2.5.5.2).
        pub address: [u32; 4],
        /// In network order.
        pub port: u32,
    }
}

abi! {
    /// A connection that was led to the proxy.
    pub struct Diverted {
        /// Where it was meant to go.
        pub to: Endpoint,
        /// Whose it is.
        pub pid: u32,
    }
}
