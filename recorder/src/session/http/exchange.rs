//! Requests and responses of one connection, put together from the pieces that `wire` finds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use agentrec_trace::event::{Content, HttpMessage, HttpRequest, HttpResponse};
use agentrec_trace::{Bytes, ProcId, Seq};
use agentrec_wire::llm::Mcp;
use agentrec_wire::{
    End, ExchangeId, Fields, Incomplete, Item, Lost, MessageKind, MessagePiece, Part, Protocol,
    RequestHead, ResponseHead,
};

use super::{By, message_kind, text};

/// What is complete, in the order in which it became so.
pub(super) enum Done {
    Protocol(Protocol),
    Request {
        exchange: ExchangeId,
        by: By,
        event: HttpRequest<'static>,
        at: u64,
    },
    Response {
        exchange: ExchangeId,
        by: By,
        event: HttpResponse<'static>,
        at: u64,
    },
    /// Its response does not come.
    Unanswered {
        exchange: ExchangeId,
        by: By,
        at: u64,
    },
    Message {
        exchange: ExchangeId,
        by: By,
        event: HttpMessage<'static>,
        at: u64,
    },
    /// A server-sent event that may be of an MCP server, in a response that is not over.
    Event {
        exchange: ExchangeId,
        by: By,
        kind: Vec<u8>,
        data: Vec<u8>,
        at: u64,
    },
    Lost(Lost),
}

/// Bytes of a body or message that are kept: it is held in memory until it is whole. What is longer is a download.
const MAX_BODY: usize = 64 << 20;

/// RFC 9110, 15.2.2.
const SWITCHING_PROTOCOLS: u16 = 101;

/// Those that are not over.
#[derive(Default)]
pub(super) struct Exchanges {
    open: BTreeMap<ExchangeId, Exchange>,
    /// Whose call the present one is.
    by: By,
    /// Requests that were written, until their responses are.
    written: BTreeMap<ExchangeId, (Option<Seq>, String)>,
}

#[derive(Default)]
struct Exchange {
    request: Side<RequestHead>,
    response: Side<ResponseHead>,
    /// When the request ended; none where it was not seen, or is not over.
    asked: Option<u64>,
    /// When each server-sent event was complete.
    events: Vec<u64>,
    /// The response, where it was over before its request.
    early: Option<Done>,
    /// WebSocket messages that are not whole yet.
    messages: Vec<(Part, MessageKind, Body)>,
    /// The connection is another's from here on, who may refer to it.
    switched: bool,
    /// Its request is one to an MCP server.
    speaks_mcp: bool,
}

struct Side<H> {
    by: By,
    head: Option<H>,
    body: Body,
    ended: bool,
}

impl<H> Default for Side<H> {
    fn default() -> Self {
        Self { by: By::default(), head: None, body: Body::default(), ended: false }
    }
}

/// A body, or as much of it as is kept.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    /// How many more there were.
    cut: u64,
}

impl Body {
    fn push(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(MAX_BODY - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.cut += (bytes.len() - kept) as u64;
    }

    /// What is kept, and why it is not whole, where it isn't.
    fn take(&mut self, why: Option<Incomplete>) -> (Content<'static>, Option<Cow<'static, str>>) {
        let Self { bytes, cut } = std::mem::take(self);
        let why = why.map(|why| why.to_string());
        let too_long =
            (cut > 0).then(|| format!("{cut} bytes over {} MiB are not kept", MAX_BODY >> 20));
        let why = match (why, too_long) {
            (Some(why), Some(too_long)) => Some(format!("{why}; {too_long}")),
            (why, too_long) => why.or(too_long),
        };
        (Content::Inline(bytes.into()), why.map(Cow::Owned))
    }
}

impl Exchanges {
    /// Whose call brings what comes next.
    pub(super) fn by(&mut self, proc: Option<ProcId>, tid: Option<u32>) {
        // A close by the last of several holders is nobody's call.
        if proc.is_some() {
            self.by = By { proc, tid };
        }
    }

    /// A request was written.
    pub(super) fn requested(&mut self, exchange: ExchangeId, seq: Option<Seq>, url: String) {
        self.written.insert(exchange, (seq, url));
    }

    /// Messages in the events of its response are wanted one by one.
    pub(super) fn speaks_mcp(&mut self, exchange: ExchangeId) {
        if let Some(exchange) = self.open.get_mut(&exchange) {
            exchange.speaks_mcp = true;
        }
    }

    /// The request of an exchange that is not over, as it was written.
    pub(super) fn request_of(&self, exchange: ExchangeId) -> (Option<Seq>, String) {
        self.written.get(&exchange).cloned().unwrap_or_default()
    }

    /// Takes what was found; `done` gets what is complete.
    pub(super) fn take(&mut self, item: Item<'_>, done: &mut Vec<Done>) {
        let by = self.by;
        match item {
            Item::Protocol { protocol, .. } => done.push(Done::Protocol(protocol)),
            Item::Request(head) => {
                let side = &mut self.of(head.exchange).request;
                (side.by, side.head) = (by, Some(head));
            }
            Item::Interim(_) => {}
            Item::Response(head) => {
                let side = &mut self.of(head.exchange).response;
                (side.by, side.head) = (by, Some(head));
            }
            Item::Data { exchange, part, bytes, .. } => {
                let exchange = self.of(exchange);
                match part {
                    Part::Request => exchange.request.body.push(&bytes),
                    Part::Response => exchange.response.body.push(&bytes),
                }
            }
            Item::Event { exchange: id, event } => {
                let exchange = self.of(id);
                exchange.events.push(event.at);
                let head = exchange.request.head.as_ref();
                let listens =
                    head.is_some_and(|head| head.method.as_deref() == Some(b"GET".as_slice()));
                // Streams of models, which have many events, are answers to POST.
                let is_endpoint = listens && *event.event == *b"endpoint";
                let may_be_message = listens || exchange.speaks_mcp;
                let wanted = is_endpoint || (may_be_message && Mcp::is_message(&event.data));
                if wanted {
                    let (kind, data) = (event.event.into_owned(), event.data.into_owned());
                    done.push(Done::Event { exchange: id, by, kind, data, at: event.at });
                }
            }
            Item::End { exchange, part: Part::Request, end } => {
                self.request_over(exchange, &end, done);
            }
            Item::End { exchange, part: Part::Response, end } => {
                self.response_over(exchange, &end, done);
            }
            Item::Message { exchange, part, piece } => self.message(exchange, part, piece, done),
            Item::Lost(lost) => done.push(Done::Lost(lost)),
            _ => {}
        }
    }

    fn of(&mut self, exchange: ExchangeId) -> &mut Exchange {
        self.open.entry(exchange).or_default()
    }

    fn request_over(&mut self, id: ExchangeId, end: &End, done: &mut Vec<Done>) {
        let exchange = self.of(id);
        (exchange.asked, exchange.request.ended) = (Some(end.at), true);
        let side = &mut exchange.request;
        let Some(head) = &side.head else { return };
        let (body, incomplete) = side.body.take(end.incomplete);
        let event = HttpRequest {
            open: None,
            method: text(head.method.as_deref().unwrap_or_default()),
            url: text(&head.url),
            version: head.version.as_str().into(),
            headers: headers(&head.fields),
            body,
            wire_len: end.wire_len,
            received: false,
            incomplete,
        };
        done.push(Done::Request { exchange: id, by: side.by, event, at: end.at });
        done.extend(exchange.early.take());
        self.forget_if_over(id);
    }

    fn response_over(&mut self, id: ExchangeId, end: &End, done: &mut Vec<Done>) {
        let exchange = self.of(id);
        exchange.response.ended = true;
        let side = &mut exchange.response;
        if let Some(head) = &side.head {
            let first = head.first_byte;
            let since_asked = |at: u64| exchange.asked.map_or(0, |asked| at.saturating_sub(asked));
            let (body, incomplete) = side.body.take(end.incomplete);
            let event = HttpResponse {
                request: None,
                status: head.status.unwrap_or(0),
                headers: headers(&head.fields),
                body,
                wire_len: end.wire_len,
                first_byte: since_asked(first),
                duration: since_asked(end.at),
                sse: exchange.events.iter().map(|at| at.saturating_sub(first)).collect(),
                incomplete,
            };
            exchange.switched = head.status == Some(SWITCHING_PROTOCOLS);
            let response = Done::Response { exchange: id, by: side.by, event, at: end.at };
            // A server that answers early: its request's event comes first all the same.
            if exchange.request.head.is_some() && !exchange.request.ended {
                exchange.early = Some(response);
            } else {
                done.push(response);
            }
        } else if exchange.request.ended {
            done.push(Done::Unanswered { exchange: id, by: exchange.request.by, at: end.at });
            self.written.remove(&id);
        }
        self.forget_if_over(id);
    }

    /// A piece of a WebSocket message.
    fn message(
        &mut self,
        id: ExchangeId,
        part: Part,
        piece: MessagePiece<'_>,
        done: &mut Vec<Done>,
    ) {
        let by = self.by;
        let open = &mut self.of(id).messages;
        let same = |(of, kind, _): &(Part, MessageKind, Body)| *of == part && *kind == piece.kind;
        let index = open.iter().position(same).unwrap_or_else(|| {
            open.push((part, piece.kind, Body::default()));
            open.len() - 1
        });
        open[index].2.push(&piece.bytes);
        let Some(wire_len) = piece.last else { return };
        let (_, kind, mut body) = open.swap_remove(index);
        let (data, incomplete) = body.take(piece.incomplete);
        let event = HttpMessage {
            request: None,
            client: part == Part::Request,
            kind: message_kind(kind).into(),
            data,
            wire_len,
            incomplete,
        };
        done.push(Done::Message { exchange: id, by, event, at: piece.at });
    }

    /// The request of an exchange as it was written: its event, and its address. Asked for once more only where the
    /// connection was switched.
    pub(super) fn written(&mut self, id: ExchangeId) -> (Option<Seq>, String) {
        match self.open.get(&id) {
            Some(exchange) if exchange.switched => self.written.get(&id).cloned(),
            _ => self.written.remove(&id),
        }
        .unwrap_or_default()
    }

    fn forget_if_over(&mut self, id: ExchangeId) {
        let over = |exchange: &Exchange| exchange.request.ended && exchange.response.ended;
        if self.open.get(&id).is_some_and(|exchange| over(exchange) && !exchange.switched) {
            self.open.remove(&id);
        }
    }
}

fn headers(fields: &Fields) -> Vec<(Bytes<'static>, Bytes<'static>)> {
    fields.iter().map(|(name, value)| (name.clone().into(), value.clone().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_whose_request_was_not_seen_has_no_times_since_it() {
        let (mut exchanges, mut done) = (Exchanges::default(), Vec::new());
        let options = agentrec_wire::Options {
            role: Some(agentrec_wire::Role::Client),
            joined: true,
            ..agentrec_wire::Options::default()
        };
        let mut connection = agentrec_wire::Connection::new(options);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let received = agentrec_wire::Direction::Received;
        connection.feed(received, 5_000, answer, &mut |item| exchanges.take(item, &mut done));
        let response = done.into_iter().find_map(|done| match done {
            Done::Response { event, .. } => Some(event),
            _ => None,
        });
        let response = response.expect("it is whole");
        assert_eq!((response.status, response.first_byte, response.duration), (200, 0, 0));
    }

    #[test]
    fn of_a_download_the_beginning_is_kept_and_the_rest_counted() {
        let mut body = Body::default();
        let piece = vec![7; 48 << 20];
        body.push(&piece);
        body.push(&piece);
        let (content, why) = body.take(Some(Incomplete::Closed));
        let Content::Inline(bytes) = content else { panic!() };
        assert_eq!(bytes.len(), MAX_BODY);
        let expected = format!("connection closed; {} bytes over 64 MiB are not kept", 32 << 20);
        assert_eq!(why.as_deref(), Some(&*expected));
        assert_eq!(Body::default().take(None).1, None);
    }
}
