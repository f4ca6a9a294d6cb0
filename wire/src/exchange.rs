//! Whole exchanges in memory, for those who want messages rather than pieces.

use std::collections::BTreeMap;

use crate::classify::Protocol;
use crate::item::{End, ExchangeId, Incomplete, Item, Lost, Part, RequestHead, ResponseHead};
use crate::sse::Event;
use crate::websocket::{MessageKind, MessagePiece};

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side<H> {
    /// Its head, if one was seen.
    pub head: Option<H>,
    /// Its body so far, after content decoding.
    pub body: Vec<u8>,
    /// How it ended, if it has.
    pub end: Option<End>,
}

impl<H> Default for Side<H> {
    fn default() -> Self {
        Self { head: None, body: Vec::new(), end: None }
    }
}

/// A WebSocket message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub part: Part,
    /// What it is.
    pub kind: MessageKind,
    /// When its first byte came.
    pub first_byte: u64,
    /// When its last byte came.
    pub at: u64,
    /// Its bytes, decompressed.
    pub bytes: Vec<u8>,
    /// Its bytes on the wire; none while it goes on.
    pub wire_len: Option<u64>,
    /// Why it is not whole, where it isn't.
    pub incomplete: Option<Incomplete>,
}

/// A request with its response and all that belongs to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// The request.
    pub request: Side<RequestHead>,
    /// Interim responses.
    pub interim: Vec<ResponseHead>,
    /// The response.
    pub response: Side<ResponseHead>,
    /// Events of the response's body.
    pub events: Vec<Event<'static>>,
    /// Messages, where it made a WebSocket.
    pub messages: Vec<Message>,
}

impl Exchange {
    /// Whether request and response have ended.
    pub fn is_over(&self) -> bool {
        self.request.end.is_some() && self.response.end.is_some()
    }
}

/// Collects the items of one connection. It holds whatever it is given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Assembler {
    /// The exchanges.
    pub exchanges: BTreeMap<ExchangeId, Exchange>,
    /// What the connection carried, in order.
    pub protocols: Vec<Protocol>,
    /// Where the parser lost its place.
    pub lost: Vec<Lost>,
}

impl Assembler {
    /// Takes the next item.
    pub fn push(&mut self, item: Item<'_>) {
        match item {
            Item::Protocol { protocol, .. } => self.protocols.push(protocol),
            Item::Request(head) => {
                let exchange = self.of(head.exchange);
                exchange.request.head = Some(head);
            }
            Item::Interim(head) => {
                let exchange = self.of(head.exchange);
                exchange.interim.push(head);
            }
            Item::Response(head) => {
                let exchange = self.of(head.exchange);
                exchange.response.head = Some(head);
            }
            Item::Data { exchange, part, bytes, .. } => {
                let exchange = self.of(exchange);
                let body = match part {
                    Part::Request => &mut exchange.request.body,
                    Part::Response => &mut exchange.response.body,
                };
                body.extend_from_slice(&bytes);
            }
            Item::Event { exchange, event } => self.of(exchange).events.push(event.into_owned()),
            Item::End { exchange, part, end } => {
                let exchange = self.of(exchange);
                match part {
                    Part::Request => exchange.request.end = Some(end),
                    Part::Response => exchange.response.end = Some(end),
                }
            }
            Item::Message { exchange, part, piece } => self.of(exchange).message(part, piece),
            Item::Lost(lost) => self.lost.push(lost),
        }
    }

    fn of(&mut self, exchange: ExchangeId) -> &mut Exchange {
        self.exchanges.entry(exchange).or_default()
    }
}

impl Exchange {
    fn message(&mut self, part: Part, piece: MessagePiece<'_>) {
        let open = |message: &&mut Message| {
            message.part == part && message.kind == piece.kind && message.wire_len.is_none()
        };
        if self.messages.iter_mut().rev().find(open).is_none() {
            self.messages.push(Message {
                part,
                kind: piece.kind,
                first_byte: piece.first_byte,
                at: piece.at,
                bytes: Vec::new(),
                wire_len: None,
                incomplete: None,
            });
        }
        let Some(message) = self.messages.iter_mut().rev().find(open) else { return };
        message.bytes.extend_from_slice(&piece.bytes);
        message.at = piece.at;
        message.wire_len = piece.last;
        message.incomplete = piece.incomplete;
    }
}
