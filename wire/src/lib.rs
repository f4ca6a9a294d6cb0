//! The HTTP layer: bytes of a connection become requests, responses, server-sent events and WebSocket messages; and the
//! conversation ([`llm`]): those become what a program and a model said. No I/O.
//!
//! A [`Connection`] takes what went either way over one TCP or unix socket, or through one TLS stream, in pieces of any
//! size, and gives [`Item`]s in order. It holds no more than what is unfinished of heads, frames and small messages;
//! bodies pass through in pieces. What it can't know it says to be unknown, and where it loses its place it says so
//! ([`Item::Lost`]) and finds the next message. [`Assembler`] collects whole exchanges in memory.

mod body;
mod classify;
mod coding;
mod connection;
mod exchange;
mod fields;
mod held;
mod http1;
mod http2;
mod item;
pub mod limits;
pub mod llm;
mod sse;
mod tls_hello;
mod url;
mod websocket;

pub use classify::Protocol;
pub use coding::{CodingError, CodingFailure, Decoder};
pub use connection::{Connection, Ending, Options};
pub use exchange::{Assembler, Exchange, Message, Side};
pub use fields::{Fields, find, tokens};
pub use http2::HpackError;
pub use item::{
    Direction, End, ExchangeId, Incomplete, Item, Lost, Part, RequestHead, ResponseHead, Role,
    Scheme, Version, Why,
};
pub use sse::{Event, EventParser};
pub use tls_hello::ClientHello;
pub use url::absolute_url;
pub use websocket::{MessageKind, MessagePiece};
