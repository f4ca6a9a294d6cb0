//! HTTP: requests, responses, and the messages of connections that became something else.

use std::borrow::Cow;

use super::define::events;
use super::values::Content;
use crate::{Bytes, Seq};

events! {
    /// An HTTP request was sent or received.
    Sys "http.request" HttpRequest<'a> {
        /// The connection's first event.
        open: Option<Seq>,
        /// Method.
        #[serde(borrow)] method: Cow<'a, str>,
        /// Absolute URL, redacted.
        #[serde(borrow)] url: Cow<'a, str>,
        /// `1.1`, `2`.
        #[serde(borrow)] version: Cow<'a, str>,
        /// Header names and values in order, redacted.
        #[serde(borrow)] headers: Vec<(Bytes<'a>, Bytes<'a>)>,
        /// Body after content decoding, redacted.
        #[serde(borrow)] body: Content<'a>,
        /// Bytes of the body on the wire.
        wire_len: u64,
        /// The process received it: it is the server.
        received: bool,
        /// Why the body is not whole, such as `connection closed`.
        #[serde(borrow)] incomplete: Option<Cow<'a, str>>,
    }
    /// An HTTP response was received or sent.
    Sys "http.response" HttpResponse<'a> {
        /// The request it answers.
        request: Option<Seq>,
        /// Status code.
        status: u16,
        /// Header names and values in order, redacted.
        #[serde(borrow)] headers: Vec<(Bytes<'a>, Bytes<'a>)>,
        /// Body after content decoding, redacted.
        #[serde(borrow)] body: Content<'a>,
        /// Bytes of the body on the wire.
        wire_len: u64,
        /// Nanoseconds from the request's end to the first byte.
        first_byte: u64,
        /// Nanoseconds from the request's end to the last byte.
        duration: u64,
        /// Arrival of each server-sent event, nanoseconds after the first byte.
        sse: Vec<u64>,
        /// Why the body is not whole, such as `connection closed`.
        #[serde(borrow)] incomplete: Option<Cow<'a, str>>,
    }
    /// A WebSocket message was sent or received.
    Sys "http.message" HttpMessage<'a> {
        /// The request that made the connection a WebSocket.
        request: Option<Seq>,
        /// The client sent it; else the server.
        client: bool,
        /// `text`, `binary`, `close`, `ping`, `pong`.
        #[serde(borrow)] kind: Cow<'a, str>,
        /// Its bytes, decompressed, redacted.
        #[serde(borrow)] data: Content<'a>,
        /// Its bytes on the wire.
        wire_len: u64,
        /// Why it is not whole, such as `connection closed`.
        #[serde(borrow)] incomplete: Option<Cow<'a, str>>,
    }
}
