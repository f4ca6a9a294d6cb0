//! HTTP/1.0 and 1.1: requests one way, responses the other, paired by their order (RFC 9112).

pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod pairing;
pub(crate) mod search;

use crate::body::Body;
use crate::fields::{self, Fields};
use crate::held::{Held, Input};
use crate::item::{
    Context, End, ExchangeId, Incomplete, Item, Lost, Part, RequestHead, ResponseHead, Role,
    Scheme, Why,
};
use crate::limits::{MAX_HELD, MAX_PIECE};
use crate::url::absolute_url;
use framing::{Framing, Step};
use head::{HeadBuffer, Taken};
use pairing::{Pairing, Pending};
use search::Search;

/// A connection that speaks HTTP/1.
pub(crate) struct Http1 {
    role: Role,
    scheme: Scheme,
    /// The host where a request names none.
    authority: Option<Vec<u8>>,
    requests: Phase,
    responses: Phase,
    pairing: Pairing,
    /// The server went on with HTTP after a request that waits.
    refused: bool,
}

/// Where a direction is.
enum Phase {
    /// In a head, or before one.
    Head(HeadBuffer),
    /// In a body. Nothing of HTTP may follow before the answer if the request `waits`.
    Body { framing: Framing, body: Box<Body>, waits: bool },
    /// Before what can't be understood yet. Requests: what follows CONNECT or a request for an upgrade, until it
    /// is answered. Responses: those that were seen before their request, as happens where one thread of a process
    /// writes and another reads.
    Held(Held),
    /// Anywhere.
    Searching(Box<Search>),
    /// Nothing follows.
    Ended,
}

impl Phase {
    fn head() -> Self {
        Self::Head(HeadBuffer::default())
    }
}

/// What the connection carries instead of HTTP/1 from here on.
pub(crate) struct Switch {
    pub(crate) to: Next,
    /// What came of it already, by [`Part`].
    pub(crate) held: [Held; 2],
}

/// A protocol after HTTP/1.
pub(crate) enum Next {
    /// Whatever it is.
    Tunnel,
    /// WebSocket, with the fields of the response that agreed to it.
    WebSocket(ExchangeId, Fields),
    /// HTTP/2, whose stream 1 answers this request (RFC 7540, 3.2).
    Http2(ExchangeId),
}

/// What came of a step.
enum Outcome {
    /// It is used up.
    Done,
    /// These bytes, from that offset on, are to be looked at again.
    Again(Vec<u8>, u64),
    Switch(Box<Switch>),
}

impl Http1 {
    pub(crate) fn new(role: Role, scheme: Scheme, authority: Option<Vec<u8>>) -> Self {
        Self {
            role,
            scheme,
            authority,
            requests: Phase::head(),
            responses: Phase::head(),
            pairing: Pairing::default(),
            refused: false,
        }
    }

    /// One of which the beginning was not seen.
    pub(crate) fn joined(role: Role, scheme: Scheme, authority: Option<Vec<u8>>) -> Self {
        Self {
            requests: Phase::Searching(Box::new(Search::new(Part::Request))),
            responses: Phase::Searching(Box::new(Search::new(Part::Response))),
            pairing: Pairing::joined(),
            ..Self::new(role, scheme, authority)
        }
    }

    fn phase(&mut self, part: Part) -> &mut Phase {
        match part {
            Part::Request => &mut self.requests,
            Part::Response => &mut self.responses,
        }
    }

    /// Bytes came.
    pub(crate) fn feed(
        &mut self,
        part: Part,
        input: Input<'_>,
        cx: &mut Context<'_, '_>,
    ) -> Option<Switch> {
        self.run(part, input, cx).or_else(|| self.settle(cx))
    }

    /// Goes on with what was held, as long as something of it can be understood now.
    fn settle(&mut self, cx: &mut Context<'_, '_>) -> Option<Switch> {
        loop {
            let part = if self.refused && matches!(self.requests, Phase::Held(_)) {
                self.refused = false;
                Part::Request
            } else if matches!(self.responses, Phase::Held(_)) && !self.must_hold() {
                Part::Response
            } else {
                return None;
            };
            let Phase::Held(held) = std::mem::replace(self.phase(part), Phase::head()) else {
                continue;
            };
            let mut pieces = held.pieces();
            while let Some(piece) = pieces.next() {
                if let Some(mut switch) = self.run(part, piece, cx) {
                    pieces.for_each(|piece| switch.held[part.index()].push(piece));
                    return Some(switch);
                }
            }
        }
    }

    /// Whether a response that begins now has its request still to come.
    fn must_hold(&self) -> bool {
        let may_come = !matches!(self.requests, Phase::Ended | Phase::Searching(_));
        self.pairing.is_empty() && !self.pairing.is_doubtful() && may_come
    }

    /// Takes bytes in steps, so that what has to be looked at again after a loss is little.
    fn run(
        &mut self,
        part: Part,
        mut input: Input<'_>,
        cx: &mut Context<'_, '_>,
    ) -> Option<Switch> {
        while !input.is_empty() {
            let (at, offset) = (input.at, input.offset);
            let step = Input { at, offset, bytes: input.take(MAX_PIECE) };
            let mut outcome = self.pass(part, step, cx);
            loop {
                match outcome {
                    Outcome::Done => break,
                    Outcome::Switch(mut switch) => {
                        switch.held[part.index()].push(input);
                        return Some(*switch);
                    }
                    Outcome::Again(bytes, offset) => {
                        outcome = self.pass(part, Input { at, offset, bytes: &bytes }, cx);
                    }
                }
            }
        }
        None
    }

    fn pass(&mut self, part: Part, mut input: Input<'_>, cx: &mut Context<'_, '_>) -> Outcome {
        loop {
            let must_hold = part == Part::Response && self.must_hold();
            match self.phase(part) {
                Phase::Head(buffer) if must_hold && buffer.is_empty() => {
                    if input.is_empty() {
                        return Outcome::Done;
                    }
                    self.responses = Phase::Held(Held::default());
                }
                Phase::Head(buffer) => match buffer.take(part, &mut input) {
                    Taken::More => return Outcome::Done,
                    Taken::Bad { why, start, bytes } => {
                        return self.lose_head(part, start, (&bytes, 1), input, why, cx);
                    }
                    Taken::Head { bytes, first_byte, start } => {
                        let times = (first_byte, input.at);
                        let next = match part {
                            Part::Request => self.request(&bytes, times, cx),
                            Part::Response => self.response(&bytes, times, cx),
                        };
                        match next {
                            Ok(None) => {}
                            Ok(Some(to)) => return Outcome::Switch(self.switch(to, input, cx)),
                            Err(why) => {
                                // So that what is wrong is not found again.
                                let line = memchr::memchr(b'\n', &bytes).unwrap_or_default();
                                let head = (&bytes[..], line.max(1));
                                return self.lose_head(part, start, head, input, why, cx);
                            }
                        }
                    }
                },
                Phase::Body { framing, body, waits } => match framing.step(&mut input) {
                    Step::More => return Outcome::Done,
                    Step::Data(data) => body.push(input.at, data, cx.out),
                    Step::End(trailers) => {
                        let next =
                            if *waits { Phase::Held(Held::default()) } else { Phase::head() };
                        let body = std::mem::replace(self.phase(part), next);
                        if let Phase::Body { body, .. } = body {
                            body.end(input.at, trailers, 0, None, cx.out);
                        }
                    }
                    Step::Bad(why) => self.lose(part, input.offset, input.at, why, cx),
                },
                Phase::Held(held) => {
                    held.push(input);
                    if held.len() > MAX_HELD && part == Part::Request {
                        let end = input.offset + input.bytes.len() as u64;
                        self.lose(part, end, input.at, Why::Held, cx);
                    } else if held.len() > MAX_HELD {
                        // No request will come any more: nobody asked for these responses.
                        self.pairing.doubt();
                    }
                    return Outcome::Done;
                }
                Phase::Searching(search) => {
                    let Some(found) = search.push(input) else { return Outcome::Done };
                    *self.phase(part) = Phase::head();
                    // Its first byte has a time of its own.
                    let (first, rest) = found.bytes.split_at(1);
                    let first = Input { at: found.first_byte, offset: found.offset, bytes: first };
                    let _ = self.pass(part, first, cx);
                    return Outcome::Again(rest.to_vec(), found.offset + 1);
                }
                Phase::Ended => return Outcome::Done,
            }
        }
    }

    /// A head is none. What came since its first byte is searched again, without its first bytes.
    fn lose_head(
        &mut self,
        part: Part,
        start: u64,
        (head, skipped): (&[u8], usize),
        input: Input<'_>,
        why: Why,
        cx: &mut Context<'_, '_>,
    ) -> Outcome {
        self.lose(part, start, input.at, why, cx);
        let bytes = [head.get(skipped..).unwrap_or_default(), input.bytes].concat();
        Outcome::Again(bytes, start + skipped as u64)
    }

    /// From here on the next message is searched for.
    fn lose(&mut self, part: Part, offset: u64, at: u64, why: Why, cx: &mut Context<'_, '_>) {
        let next = Phase::Searching(Box::new(Search::new(part)));
        if let Phase::Body { body, .. } = std::mem::replace(self.phase(part), next) {
            body.stop(at, Some(Incomplete::Lost), cx.out);
        }
        self.pairing.doubt();
        let direction = self.role.direction(part);
        (cx.out)(Item::Lost(Lost { direction, offset, at, why }));
    }

    fn request(
        &mut self,
        head: &[u8],
        (first_byte, at): (u64, u64),
        cx: &mut Context<'_, '_>,
    ) -> Result<Option<Next>, Why> {
        let head = head::request(head)?;
        let framing = Framing::of_request(&head.fields)?;
        let exchange = cx.numbers.next();
        let is_connect = head.method == b"CONNECT";
        let waits = is_connect || fields::has_token(&head.fields, "connection", "upgrade");
        let is_head = head.method == b"HEAD";
        if !self.pairing.asked(Pending { exchange, is_head, is_connect, waits }) {
            return Err(Why::Pipelined);
        }
        let host = fields::find(&head.fields, "host").or(self.authority.as_deref());
        let url = absolute_url(self.scheme, &head.method, &head.target, host);
        let body = Box::new(Body::new(exchange, Part::Request, &head.fields));
        (cx.out)(Item::Request(RequestHead {
            exchange,
            first_byte,
            at,
            version: head.version,
            stream: None,
            method: Some(head.method),
            target: head.target,
            url,
            fields: head.fields,
            unknown_fields: 0,
            pushed: false,
        }));
        self.requests = Phase::Body { framing, body, waits };
        Ok(None)
    }

    fn response(
        &mut self,
        head: &[u8],
        (first_byte, at): (u64, u64),
        cx: &mut Context<'_, '_>,
    ) -> Result<Option<Next>, Why> {
        let head = head::response(head)?;
        let status = head.status;
        let is_interim = (100..200).contains(&status) && status != 101;
        let pending = if is_interim { self.pairing.current() } else { self.pairing.answered() };
        let to_head = pending.is_some_and(|pending| pending.is_head);
        let framing = Framing::of_response(&head.fields, status, to_head)?;
        let exchange = pending.map_or_else(|| cx.numbers.next(), |pending| pending.exchange);
        let body = Box::new(Body::new(exchange, Part::Response, &head.fields));
        let is_connected = pending.is_some_and(|p| p.is_connect) && (200..300).contains(&status);
        let next = if is_connected {
            Some(Next::Tunnel)
        } else if status == 101 {
            let to = |protocol| fields::has_token(&head.fields, "upgrade", protocol);
            Some(if to("websocket") {
                Next::WebSocket(exchange, head.fields.clone())
            } else if to("h2c") {
                Next::Http2(exchange)
            } else {
                Next::Tunnel
            })
        } else {
            None
        };
        let head = ResponseHead {
            exchange,
            first_byte,
            at,
            version: head.version,
            stream: None,
            status: Some(status),
            reason: head.reason,
            fields: head.fields,
            unknown_fields: 0,
        };
        // The response to a request that went over to HTTP/2 is yet to come.
        if is_interim || matches!(next, Some(Next::Http2(_))) {
            (cx.out)(Item::Interim(head));
            self.responses = Phase::head();
            return Ok(next);
        }
        (cx.out)(Item::Response(head));
        if next.is_some() {
            body.stop(at, None, cx.out);
        } else {
            self.refused |= pending.is_some_and(|pending| pending.waits);
            self.responses = Phase::Body { framing, body, waits: false };
        }
        Ok(next)
    }

    /// Leaves HTTP/1, with what came already of what follows.
    fn switch(&mut self, to: Next, input: Input<'_>, cx: &mut Context<'_, '_>) -> Box<Switch> {
        let mut requests = Held::default();
        match std::mem::replace(&mut self.requests, Phase::Ended) {
            Phase::Held(held) => requests = held,
            Phase::Body { body, .. } => body.stop(input.at, Some(Incomplete::Lost), cx.out),
            _ => {}
        }
        let mut responses = Held::default();
        responses.push(input);
        Box::new(Switch { to, held: [requests, responses] })
    }

    /// Bytes were not captured.
    pub(crate) fn missing(
        &mut self,
        part: Part,
        (at, offset): (u64, u64),
        count: u64,
        cx: &mut Context<'_, '_>,
    ) {
        match self.phase(part) {
            Phase::Body { framing, body, .. } => {
                if framing.skip(count) {
                    return body.missing(count);
                }
            }
            Phase::Searching(search) => return search.forget(),
            Phase::Ended => return,
            Phase::Head(_) | Phase::Held(_) => {}
        }
        self.lose(part, offset, at, Why::Missing(count), cx);
    }

    /// A direction ended, in order or (`cut`) otherwise.
    pub(crate) fn end(
        &mut self,
        part: Part,
        (at, offset): (u64, u64),
        cut: Option<Incomplete>,
        cx: &mut Context<'_, '_>,
    ) -> Option<Switch> {
        if part == Part::Response && matches!(self.responses, Phase::Held(_)) {
            self.pairing.doubt();
            let switch = self.settle(cx);
            if switch.is_some() {
                return switch;
            }
        }
        match std::mem::replace(self.phase(part), Phase::Ended) {
            Phase::Body { framing, body, .. } => {
                let is_whole = matches!(framing, Framing::UntilClose | Framing::Length(0));
                let incomplete = if is_whole { cut } else { cut.or(Some(Incomplete::Closed)) };
                body.stop(at, incomplete, cx.out);
            }
            Phase::Head(buffer) if !buffer.is_empty() => {
                let direction = self.role.direction(part);
                let why = Why::CutHead;
                (cx.out)(Item::Lost(Lost { direction, offset: buffer.start(), at, why }));
            }
            // What was held for an answer can still be understood when that comes.
            held @ Phase::Held(_) if cut.is_none() => *self.phase(part) = held,
            Phase::Held(held) if held.len() > 0 => {
                let direction = self.role.direction(part);
                let (why, offset) = (Why::Held, offset - held.len() as u64);
                (cx.out)(Item::Lost(Lost { direction, offset, at, why }));
            }
            _ => {}
        }
        if part == Part::Request {
            return self.settle(cx);
        }
        while let Some(Pending { exchange, .. }) = self.pairing.answered() {
            let end = End { at, incomplete: cut.or(Some(Incomplete::Closed)), ..End::default() };
            (cx.out)(Item::End { exchange, part, end });
        }
        None
    }
}
