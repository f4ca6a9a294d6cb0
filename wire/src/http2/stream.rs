//! One stream of HTTP/2: an exchange, or a tunnel.

use crate::body::Body;
use crate::fields::{self, Fields};
use crate::held::Input;
use crate::http2::hpack::Block;
use crate::item::{
    Context, End, ExchangeId, Incomplete, Item, Part, RequestHead, ResponseHead, Role, Version,
};
use crate::websocket::WebSocket;

/// A header block, with pseudo-headers apart.
pub(crate) struct Heads {
    pseudo: Fields,
    pub(crate) fields: Fields,
    pub(crate) unknown: u32,
    pub(crate) first_byte: u64,
    pub(crate) at: u64,
}

impl Heads {
    pub(crate) fn new(block: Block, (first_byte, at): (u64, u64)) -> Self {
        let (pseudo, fields) =
            block.fields.into_iter().partition(|(name, _)| name.first() == Some(&b':'));
        Self { pseudo, fields, unknown: block.unknown, first_byte, at }
    }

    pub(crate) fn pseudo(&self, name: &str) -> Option<&[u8]> {
        fields::find(&self.pseudo, name)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        fields::find(&self.fields, name)
    }

    /// Whether nothing in it can be a pseudo-header, which every head has.
    pub(crate) fn is_trailers(&self) -> bool {
        self.pseudo.is_empty() && self.unknown == 0
    }

    /// Whether it is a client's head or a server's, if that can be told.
    pub(crate) fn part(&self) -> Option<Part> {
        if self.pseudo(":status").is_some() {
            return Some(Part::Response);
        }
        let of_request = [":method", ":path", ":scheme", ":authority"];
        let is_request = of_request.iter().any(|name| self.pseudo(name).is_some());
        is_request.then_some(Part::Request)
    }
}

/// One direction of a stream.
pub(crate) enum Side {
    /// Its head is yet to come.
    Waiting,
    Body(Box<Body>),
    /// After CONNECT: bytes of something else.
    Tunnel,
    Ended,
}

/// A stream.
pub(crate) struct Stream {
    pub(crate) exchange: ExchangeId,
    /// By [`Part`].
    pub(crate) sides: [Side; 2],
    is_connect: bool,
    /// The CONNECT asks for WebSocket (RFC 8441).
    asks_websocket: bool,
    websocket: Option<Box<WebSocket>>,
}

impl Stream {
    pub(crate) fn new(exchange: ExchangeId) -> Self {
        Self {
            exchange,
            sides: [Side::Waiting, Side::Waiting],
            is_connect: false,
            asks_websocket: false,
            websocket: None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.sides.iter().all(|side| matches!(side, Side::Ended))
    }

    /// The request's head came.
    pub(crate) fn asked(
        &mut self,
        request: RequestHead,
        heads: &Heads,
        ends: bool,
        cx: &mut Context<'_, '_>,
    ) {
        let at = request.at;
        self.is_connect = request.method.as_deref() == Some(b"CONNECT");
        self.asks_websocket = heads.pseudo(":protocol") == Some(b"websocket");
        let body = Body::new(self.exchange, Part::Request, &request.fields);
        (cx.out)(Item::Request(request));
        let side = &mut self.sides[Part::Request.index()];
        if ends || self.is_connect {
            body.stop(at, None, cx.out);
            *side = if ends { Side::Ended } else { Side::Tunnel };
        } else {
            *side = Side::Body(Box::new(body));
        }
    }

    /// The response's head came, or an interim one.
    pub(crate) fn answered(&mut self, id: u32, heads: Heads, ends: bool, cx: &mut Context<'_, '_>) {
        let status = heads.pseudo(":status").and_then(|text| std::str::from_utf8(text).ok());
        let status = status.and_then(|text| text.parse::<u16>().ok());
        let at = heads.at;
        let head = ResponseHead {
            exchange: self.exchange,
            first_byte: heads.first_byte,
            at,
            version: Version::Http2,
            stream: Some(id),
            status,
            reason: Vec::new(),
            fields: heads.fields,
            unknown_fields: heads.unknown,
        };
        if !ends && status.is_some_and(|status| (100..200).contains(&status)) {
            return (cx.out)(Item::Interim(head));
        }
        let is_connected = self.is_connect && status.is_some_and(|s| (200..300).contains(&s));
        if is_connected && self.asks_websocket {
            self.websocket = Some(Box::new(WebSocket::new(self.exchange, &head.fields)));
        }
        let body = Body::new(self.exchange, Part::Response, &head.fields);
        (cx.out)(Item::Response(head));
        let side = &mut self.sides[Part::Response.index()];
        if ends || is_connected {
            body.stop(at, None, cx.out);
            *side = if ends { Side::Ended } else { Side::Tunnel };
        } else {
            *side = Side::Body(Box::new(body));
        }
    }

    /// Bytes of a DATA frame came. Those of a head that was not understood mean nothing.
    pub(crate) fn data(
        &mut self,
        role: Role,
        part: Part,
        input: Input<'_>,
        cx: &mut Context<'_, '_>,
    ) {
        match (&mut self.sides[part.index()], &mut self.websocket) {
            (Side::Body(body), _) => body.push(input.at, input.bytes, cx.out),
            (Side::Tunnel, Some(websocket)) => websocket.feed(role, part, input, cx.out),
            _ => {}
        }
    }

    /// A side ended in order, perhaps with trailers.
    pub(crate) fn ends(
        &mut self,
        part: Part,
        at: u64,
        trailers: Option<Heads>,
        cx: &mut Context<'_, '_>,
    ) {
        match std::mem::replace(&mut self.sides[part.index()], Side::Ended) {
            Side::Body(body) => {
                let (fields, unknown) =
                    trailers.map(|heads| (heads.fields, heads.unknown)).unwrap_or_default();
                body.end(at, fields, unknown, None, cx.out);
            }
            Side::Tunnel => self.close_websocket(part, at, None, cx),
            Side::Waiting => self.never_came(part, at, Incomplete::Lost, cx),
            Side::Ended => {}
        }
    }

    /// A side ended with a head that was not understood.
    pub(crate) fn headless(&mut self, part: Part, at: u64, cx: &mut Context<'_, '_>) {
        self.lost(part, at, cx);
        self.ends(part, at, None, cx);
    }

    /// Both sides end before their time.
    pub(crate) fn abort(&mut self, at: u64, why: Incomplete, cx: &mut Context<'_, '_>) {
        self.cut(Part::Response, at, why, cx);
        self.cut(Part::Request, at, why, cx);
    }

    /// A side ends before its time.
    pub(crate) fn cut(&mut self, part: Part, at: u64, why: Incomplete, cx: &mut Context<'_, '_>) {
        match std::mem::replace(&mut self.sides[part.index()], Side::Ended) {
            Side::Body(body) => body.stop(at, Some(why), cx.out),
            Side::Tunnel => self.close_websocket(part, at, Some(why), cx),
            Side::Waiting => self.never_came(part, at, why, cx),
            Side::Ended => {}
        }
    }

    /// The response of a request that was seen is not coming.
    fn never_came(&self, part: Part, at: u64, why: Incomplete, cx: &mut Context<'_, '_>) {
        let was_asked = !matches!(self.sides[Part::Request.index()], Side::Waiting);
        if part == Part::Response && was_asked {
            let end = End { at, incomplete: Some(why), ..End::default() };
            (cx.out)(Item::End { exchange: self.exchange, part, end });
        }
    }

    fn close_websocket(
        &mut self,
        part: Part,
        at: u64,
        why: Option<Incomplete>,
        cx: &mut Context<'_, '_>,
    ) {
        if let Some(websocket) = &mut self.websocket {
            websocket.end(part, at, why, cx.out);
        }
    }

    /// Bytes of this stream were not captured.
    pub(crate) fn missing(
        &mut self,
        role: Role,
        part: Part,
        (at, offset): (u64, u64),
        count: u64,
        cx: &mut Context<'_, '_>,
    ) {
        match (&mut self.sides[part.index()], &mut self.websocket) {
            (Side::Body(body), _) => body.missing(count),
            (Side::Tunnel, Some(websocket)) => {
                websocket.missing(role, part, (at, offset), count, cx.out);
            }
            _ => {}
        }
    }

    /// Something of the direction was missed, as was said for the connection.
    pub(crate) fn lost(&mut self, part: Part, at: u64, cx: &mut Context<'_, '_>) {
        match (&mut self.sides[part.index()], &mut self.websocket) {
            (Side::Body(body), _) => body.lost(),
            (Side::Tunnel, Some(websocket)) => websocket.lost(part, at, cx.out),
            _ => {}
        }
    }
}
