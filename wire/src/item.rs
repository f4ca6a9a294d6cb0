//! What a connection gives: heads, pieces of bodies, ends, events, messages, and where the parser lost its place.

use std::borrow::Cow;
use std::fmt;

use crate::classify::Protocol;
use crate::coding::CodingFailure;
use crate::fields::Fields;
use crate::http2::{HpackError, error_name};
use crate::sse::Event;
use crate::websocket::MessagePiece;

/// Which way bytes go, seen from the process whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The process wrote them.
    Sent,
    /// The process read them.
    Received,
}

impl Direction {
    /// The opposite one.
    pub fn other(self) -> Self {
        match self {
            Self::Sent => Self::Received,
            Self::Received => Self::Sent,
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// What the process is on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It sends requests.
    Client,
    /// It answers them.
    Server,
}

impl Role {
    /// What goes that way.
    pub(crate) fn part(self, direction: Direction) -> Part {
        match (self, direction) {
            (Self::Client, Direction::Sent) | (Self::Server, Direction::Received) => Part::Request,
            _ => Part::Response,
        }
    }

    /// The way that this goes.
    pub(crate) fn direction(self, part: Part) -> Direction {
        match (self, part) {
            (Self::Client, Part::Request) | (Self::Server, Part::Response) => Direction::Sent,
            _ => Direction::Received,
        }
    }
}

/// Whether the bytes were encrypted on their way, which decides the scheme of URLs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// They were not.
    #[default]
    Http,
    /// They were: they come from a TLS library.
    Https,
}

impl Scheme {
    /// As written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A request with its response, by the order in which they began on their connection. The first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// Half of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// From client to server.
    Request,
    /// From server to client.
    Response,
}

impl Part {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Request => Self::Response,
            Self::Response => Self::Request,
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The protocol's version in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// As in `HTTP/…`: `1.0`, `1.1`, `2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// A request's head, not redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Its exchange.
    pub exchange: ExchangeId,
    /// When its first byte came, in the caller's nanoseconds.
    pub first_byte: u64,
    /// When its head was complete.
    pub at: u64,
    /// Version.
    pub version: Version,
    /// The HTTP/2 stream.
    pub stream: Option<u32>,
    /// Method; none where it stood in an HPACK table that was not seen from its beginning.
    pub method: Option<Vec<u8>>,
    /// The target as in the request line, or `:path`.
    pub target: Vec<u8>,
    /// The target URI (RFC 9110, 7.1), `host:port` for CONNECT; only the target where the host is unknown.
    pub url: Vec<u8>,
    /// Fields, without HTTP/2's pseudo-headers.
    pub fields: Fields,
    /// Fields that were there and are not in the list: their names stood in an HPACK table that was not seen from its
    /// beginning, or the list was over a limit.
    pub unknown_fields: u32,
    /// The server announced it itself (PUSH_PROMISE).
    pub pushed: bool,
}

/// A response's head, not redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Its exchange. One without a request is a response whose request was not seen, or is in doubt.
    pub exchange: ExchangeId,
    /// When its first byte came, in the caller's nanoseconds.
    pub first_byte: u64,
    /// When its head was complete.
    pub at: u64,
    /// Version.
    pub version: Version,
    /// The HTTP/2 stream.
    pub stream: Option<u32>,
    /// Status; none where it stood in an HPACK table that was not seen from its beginning.
    pub status: Option<u16>,
    /// Reason phrase; HTTP/2 has none.
    pub reason: Vec<u8>,
    /// Fields, without HTTP/2's pseudo-headers.
    pub fields: Fields,
    /// As in [`RequestHead::unknown_fields`].
    pub unknown_fields: u32,
}

/// The end of a request or response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// When its last byte came, in the caller's nanoseconds.
    pub at: u64,
    /// Bytes of the body on the wire: as the content codings left it, without chunk sizes, frames and padding.
    pub wire_len: u64,
    /// Bytes of the body that were given.
    pub len: u64,
    /// Trailers.
    pub trailers: Fields,
    /// As in [`RequestHead::unknown_fields`], of the trailers.
    pub unknown_trailers: u32,
    /// Why the body is not whole, where it isn't.
    pub incomplete: Option<Incomplete>,
    /// Why not all of what came could be decoded, where it couldn't.
    pub coding: Option<CodingFailure>,
}

/// Why something is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Incomplete {
    /// The connection was closed before its end.
    Closed,
    /// The connection was reset.
    Reset,
    /// Nobody looked at the connection any more.
    Unwatched,
    /// The HTTP/2 stream was reset with this code (RFC 9113, 7).
    StreamReset(u32),
    /// The peer gave up the HTTP/2 connection with this code before it came to this stream.
    GoAway(u32),
    /// More HTTP/2 streams than [`MAX_STREAMS`](crate::limits::MAX_STREAMS) were open.
    TooManyStreams,
    /// The parser lost its place within it.
    Lost,
    /// Bytes in it were not captured: so many.
    Missing(u64),
    /// A compressed WebSocket message that could not be decoded.
    Undecodable,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("connection closed"),
            Self::Reset => f.write_str("connection reset"),
            Self::Unwatched => f.write_str("no longer watched"),
            Self::StreamReset(code) => write!(f, "stream reset: {}", error_name(*code)),
            Self::GoAway(code) => write!(f, "connection given up: {}", error_name(*code)),
            Self::TooManyStreams => f.write_str("too many streams at once"),
            Self::Lost => f.write_str("parser lost its place"),
            Self::Missing(count) => write!(f, "{count} bytes were not captured"),
            Self::Undecodable => f.write_str("cannot be decompressed"),
        }
    }
}

/// Where a parser lost its place. It looks for the next message from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// In which direction.
    pub direction: Direction,
    /// Where in the bytes of that direction.
    pub offset: u64,
    /// When, in the caller's nanoseconds.
    pub at: u64,
    /// Why.
    pub why: Why,
}

/// Why a parser lost its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// No request line where one should be.
    #[error("not a request line")]
    NotARequest,
    /// No status line where one should be.
    #[error("not a status line")]
    NotAResponse,
    /// A head that httparse does not take.
    #[error("malformed head: {0}")]
    Head(httparse::Error),
    /// A head over [`MAX_HEAD`](crate::limits::MAX_HEAD) bytes or [`MAX_FIELDS`](crate::limits::MAX_FIELDS) fields.
    #[error("head over the limit")]
    HeadTooLarge,
    /// The connection ended within a head.
    #[error("closed in a head")]
    CutHead,
    /// Lengths that contradict each other (RFC 9112, 6.3).
    #[error("contradictory or malformed content-length")]
    Length,
    /// A request with a transfer coding that does not end with chunked (RFC 9112, 6.3).
    #[error("transfer-encoding without chunked at its end")]
    TransferCoding,
    /// No size where one should be, or no line end after a chunk (RFC 9112, 7.1).
    #[error("malformed chunk")]
    Chunk,
    /// Malformed trailers.
    #[error("malformed trailers")]
    Trailers,
    /// Too much came while an answer to CONNECT or an upgrade was waited for.
    #[error("too many bytes before the answer to an upgrade")]
    Held,
    /// More than [`MAX_PIPELINED`](crate::limits::MAX_PIPELINED) requests wait for responses.
    #[error("too many requests without a response")]
    Pipelined,
    /// The caller said that bytes are missing.
    #[error("{0} bytes were not captured")]
    Missing(u64),
    /// A frame that cannot be one (RFC 9113, 4 to 6).
    #[error("malformed HTTP/2 frame: {0}")]
    Frame(&'static str),
    /// A header block that cannot be one (RFC 7541).
    #[error("malformed header block: {0}")]
    Hpack(#[from] HpackError),
    /// A WebSocket frame that cannot be one (RFC 6455, 5).
    #[error("malformed WebSocket frame: {0}")]
    WebSocket(&'static str),
}

/// What was found on a connection. Times are the caller's nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item<'a> {
    /// What the connection carries from here on. Comes first, and again inside a tunnel or after an upgrade.
    Protocol {
        /// When that was clear.
        at: u64,
        /// What it is.
        protocol: Protocol,
    },
    /// A request began.
    Request(RequestHead),
    /// An interim response (1xx) came; the response is yet to come.
    Interim(ResponseHead),
    /// A response began.
    Response(ResponseHead),
    /// A piece of a body, after content decoding.
    Data {
        /// Its exchange.
        exchange: ExchangeId,
        /// Whose body.
        part: Part,
        /// When its last byte came.
        at: u64,
        /// The bytes, at most [`MAX_PIECE`](crate::limits::MAX_PIECE).
        bytes: Cow<'a, [u8]>,
    },
    /// A server-sent event is complete. Its bytes were given as pieces of the body too.
    Event {
        /// Its exchange.
        exchange: ExchangeId,
        /// The event, with its time.
        event: Event<'a>,
    },
    /// A request or response is over. A response that never came ends too, without having begun.
    End {
        /// Its exchange.
        exchange: ExchangeId,
        /// Which of the two.
        part: Part,
        /// How it ended.
        end: End,
    },
    /// A piece of a WebSocket message.
    Message {
        /// The exchange that made the connection a WebSocket.
        exchange: ExchangeId,
        /// Who sent it: the client ([`Part::Request`]) or the server.
        part: Part,
        /// The piece.
        piece: MessagePiece<'a>,
    },
    /// The parser lost its place, once for each loss.
    Lost(Lost),
}

impl Item<'_> {
    /// The same with bytes of its own.
    pub fn into_owned(self) -> Item<'static> {
        match self {
            Self::Protocol { at, protocol } => Item::Protocol { at, protocol },
            Self::Request(head) => Item::Request(head),
            Self::Interim(head) => Item::Interim(head),
            Self::Response(head) => Item::Response(head),
            Self::Data { exchange, part, at, bytes } => {
                Item::Data { exchange, part, at, bytes: Cow::Owned(bytes.into_owned()) }
            }
            Self::Event { exchange, event } => Item::Event { exchange, event: event.into_owned() },
            Self::End { exchange, part, end } => Item::End { exchange, part, end },
            Self::Message { exchange, part, piece } => {
                Item::Message { exchange, part, piece: piece.into_owned() }
            }
            Self::Lost(lost) => Item::Lost(lost),
        }
    }
}

/// Takes the items.
pub(crate) type Sink<'s> = dyn FnMut(Item<'_>) + 's;

/// Gives out the numbers of a connection's exchanges.
#[derive(Debug, Default)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> ExchangeId {
        self.0 += 1;
        ExchangeId(self.0)
    }
}

/// Where items go, and what numbers them.
pub(crate) struct Context<'c, 's> {
    pub(crate) numbers: &'c mut Numbers,
    pub(crate) out: &'c mut Sink<'s>,
}
