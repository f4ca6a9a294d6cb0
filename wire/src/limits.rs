//! What a connection may make us hold at most. Its bytes are hostile input; what goes over a limit is said.

/// Bytes of one head, of the trailers, or of one HPACK block; of the fields decoded from it too.
pub const MAX_HEAD: usize = 1 << 20;

/// Fields of one head.
pub const MAX_FIELDS: usize = 10_000;

/// Bytes of a request line: what is kept of garbage in which the next request is looked for.
pub const MAX_START_LINE: usize = 64 << 10;

/// Bytes that wait for something of the other direction: for the answer to CONNECT or to an upgrade.
pub const MAX_HELD: usize = 1 << 20;

/// Requests of one connection that wait for their responses.
pub const MAX_PIPELINED: usize = 4096;

/// Streams of one HTTP/2 connection that are open at once. Servers allow 100 to 1000.
pub const MAX_STREAMS: usize = 2048;

/// Bytes of a body, or of a WebSocket message, that one item holds.
pub const MAX_PIECE: usize = 64 << 10;

/// Bytes of one server-sent event.
pub const MAX_EVENT: usize = 64 << 20;

/// Bytes of an HPACK table. Peers agree on 4 to 64 KiB.
pub const MAX_TABLE: usize = 1 << 20;

/// Bytes of a ClientHello. With post-quantum keys it has some 2 KiB.
pub const MAX_HELLO: usize = 64 << 10;

/// Content codings of one body, inside each other.
pub const MAX_CODINGS: usize = 4;

/// Binary logarithm of the largest window that a zstd body may ask for: 8 MiB (RFC 9659).
pub const MAX_ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes of a connection that was joined in the middle, in which the first message is looked for.
pub const MAX_JOIN: u64 = 4 << 20;
