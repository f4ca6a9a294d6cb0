//! A body on its way out: what is counted, decoded and looked into, whatever framed it.

use std::borrow::Cow;

use crate::coding::Decoder;
use crate::fields::{self, Fields};
use crate::item::{End, ExchangeId, Incomplete, Item, Part, Sink};
use crate::limits::MAX_PIECE;
use crate::sse::EventParser;

/// One body.
pub(crate) struct Body {
    pub(crate) exchange: ExchangeId,
    pub(crate) part: Part,
    wire_len: u64,
    len: u64,
    decoder: Option<Decoder>,
    events: Option<Box<EventParser>>,
    missing: u64,
    /// The first thing that went wrong in it.
    incomplete: Option<Incomplete>,
}

impl Body {
    /// The body of a message with this head. Transfer codings other than chunked are undone like content codings.
    pub(crate) fn new(exchange: ExchangeId, part: Part, head: &Fields) -> Self {
        let transfer = fields::tokens(head, "transfer-encoding")
            .filter(|coding| !coding.eq_ignore_ascii_case(b"chunked"));
        let events = part == Part::Response && fields::is_event_stream(head);
        Self {
            exchange,
            part,
            wire_len: 0,
            len: 0,
            decoder: Decoder::new(fields::tokens(head, "content-encoding").chain(transfer)),
            events: events.then(Box::default),
            missing: 0,
            incomplete: None,
        }
    }

    /// Bytes of the body came, with transfer framing taken off.
    pub(crate) fn push(&mut self, at: u64, bytes: &[u8], out: &mut Sink<'_>) {
        self.wire_len += bytes.len() as u64;
        let Self { exchange, part, len, events, .. } = self;
        let mut deliver = |bytes: &[u8]| {
            for piece in bytes.chunks(MAX_PIECE) {
                *len += piece.len() as u64;
                let bytes = Cow::Borrowed(piece);
                out(Item::Data { exchange: *exchange, part: *part, at, bytes });
                if let Some(parser) = events {
                    let exchange = *exchange;
                    parser.push(at, piece, &mut |event| out(Item::Event { exchange, event }));
                }
            }
        };
        match &mut self.decoder {
            Some(decoder) => decoder.push(bytes, &mut deliver),
            None => deliver(bytes),
        }
    }

    /// So many bytes of the body were not captured.
    pub(crate) fn missing(&mut self, count: u64) {
        self.wire_len += count;
        self.missing += count;
        self.incomplete = Some(Incomplete::Missing(self.missing));
        if let Some(decoder) = &mut self.decoder {
            decoder.missing();
        }
        // A line that lacks its middle is none.
        if let Some(events) = &mut self.events {
            **events = EventParser::default();
        }
    }

    /// The parser lost its place in the connection; the body goes on, but something of it may be missing.
    pub(crate) fn lost(&mut self) {
        self.missing(0);
        self.incomplete = Some(Incomplete::Lost);
    }

    /// The body is over.
    pub(crate) fn end(
        self,
        at: u64,
        trailers: Fields,
        unknown_trailers: u32,
        incomplete: Option<Incomplete>,
        out: &mut Sink<'_>,
    ) {
        let incomplete = self.incomplete.or(incomplete);
        let coding = self.decoder.and_then(|decoder| decoder.finish(incomplete.is_none()));
        let (wire_len, len) = (self.wire_len, self.len);
        let end = End { at, wire_len, len, trailers, unknown_trailers, incomplete, coding };
        out(Item::End { exchange: self.exchange, part: self.part, end });
    }

    /// The end of a message that is over where it stands.
    pub(crate) fn stop(self, at: u64, incomplete: Option<Incomplete>, out: &mut Sink<'_>) {
        self.end(at, Fields::new(), 0, incomplete, out);
    }
}
