//! HTTP/2: what recordings don't show, connections that were joined in the middle, and how the place is found again.

mod support;

use agentrec_wire::{
    Assembler, Connection, Direction, Ending, Incomplete, MessageKind, Options, Part, Protocol,
    Role, Version, Why,
};
use support::{
    Piece, assemble, bodies, check_splits, client, exchange, recording, said, sides, timeless,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that are put into the table (RFC 7541, 6.2.1).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x40);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

fn headers(flags: u8, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", path)];
    headers(END_STREAM, stream, &fields)
}

fn ok(stream: u32, body: &str) -> Vec<u8> {
    let head = headers(0, stream, &[(":status", "200")]);
    [head, frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

fn from_client(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[]), &frames.concat()].concat()
}

fn incomplete(found: &Assembler, number: u64) -> Option<Incomplete> {
    exchange(found, number).response.end.as_ref().and_then(|end| end.incomplete)
}

#[test]
fn streams_that_interleave_end_with_trailers_resets_and_goodbyes() {
    let sent = from_client(&[get(1, "/one"), get(3, "/two"), get(5, "/three"), get(7, "/four")]);
    let received = [
        frame(4, 0, 0, &[]),
        headers(0, 3, &[(":status", "103"), ("link", "x")]),
        headers(0, 1, &[(":status", "200"), ("content-type", "text/event-stream")]),
        frame(DATA, 0, 1, b"data: a\n"),
        headers(0, 3, &[(":status", "404")]),
        frame(DATA, 8, 3, b"\x02no\0\0"),
        frame(DATA, END_STREAM, 3, b"ne"),
        frame(DATA, 0, 1, b"\ndata: b\n\n"),
        headers(END_STREAM, 1, &[("grpc-status", "0")]),
        headers(0, 5, &[(":status", "200")]),
        frame(DATA, 0, 5, b"half"),
        frame(3, 0, 5, &[0, 0, 0, 8]),
        frame(7, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 11]),
    ]
    .concat();
    let found = check_splits(&client(), &sides(sent, received), "interleaved");
    assert_eq!((&found.lost[..], &found.protocols[..]), (&[][..], &[Protocol::Http2][..]));
    assert_eq!(bodies(&found, Part::Response), ["data: a\n\ndata: b\n\n", "none", "half", ""]);
    let first = exchange(&found, 1);
    let request = first.request.head.as_ref().unwrap();
    assert_eq!((&request.url[..], request.version), (&b"https://a.test/one"[..], Version::Http2));
    assert_eq!((request.stream, first.events.len()), (Some(1), 2));
    let end = first.response.end.as_ref().unwrap();
    assert_eq!((end.trailers.len(), end.wire_len), (1, 18));
    assert_eq!(exchange(&found, 2).interim[0].status, Some(103));
    assert_eq!(incomplete(&found, 3), Some(Incomplete::StreamReset(8)));
    assert_eq!(incomplete(&found, 4), Some(Incomplete::GoAway(11)));
    assert_eq!(Incomplete::StreamReset(8).to_string(), "stream reset: CANCEL");
}

#[test]
fn pushes_are_exchanges() {
    let promise = [&[0, 0, 0, 2][..], &block(&[(":method", "GET"), (":path", "/pushed")])].concat();
    let received = [frame(5, END_HEADERS, 1, &promise), ok(1, "one"), ok(2, "two")].concat();
    let found = check_splits(&client(), &sides(from_client(&[get(1, "/")]), received), "push");
    let pushed = exchange(&found, 2);
    assert!(pushed.request.head.as_ref().unwrap().pushed && pushed.is_over());
    assert_eq!(bodies(&found, Part::Response), ["one", "two"]);
}

#[test]
fn websocket_over_a_stream() {
    let ask = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https")];
    let ask = [&ask[..], &[(":path", "/s"), (":authority", "a.test")]].concat();
    let sent =
        [headers(0, 1, &ask), frame(DATA, 0, 1, &[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2])];
    let received =
        [headers(0, 1, &[(":status", "200")]), frame(DATA, 0, 1, &[0x82, 1, 7])].concat();
    let pieces = [
        sides(from_client(&sent[..1]), received),
        sides(sent[1].clone(), frame(DATA, END_STREAM, 1, &[0x89, 0])),
    ]
    .concat();
    let found = check_splits(&client(), &pieces, "extended connect");
    let one = exchange(&found, 1);
    assert_eq!(one.request.head.as_ref().unwrap().url, b"https://a.test/s");
    let messages: Vec<_> = one.messages.iter().map(|m| (m.part, m.kind, &m.bytes[..])).collect();
    let expected = [
        (Part::Request, MessageKind::Text, &b"hi"[..]),
        (Part::Response, MessageKind::Binary, &[7]),
        (Part::Response, MessageKind::Ping, &[]),
    ];
    assert_eq!(messages, expected);
}

#[test]
fn the_place_is_found_again_and_fields_are_not_guessed() {
    // The first request puts its fields into the table; the third refers to its host.
    let again = frame(HEADERS, 5, 5, &[0x82, 0x87, 0x84, 0xc1]);
    let garbage = [b"\0\0\x01\0\0\0\0\0\0garbage".to_vec(), frame(6, 0, 0, &[0; 8])].concat();
    let sent =
        [from_client(&[get(1, "/one")]), garbage, frame(6, 0, 0, &[0; 8]), get(3, "/two"), again]
            .concat();
    let received = [frame(4, 0, 0, &[]), ok(1, "one"), ok(3, "two"), ok(5, "three")].concat();
    let found = check_splits(&client(), &sides(&sent, received), "lost");
    assert_eq!(found.lost.len(), 1);
    let offset = from_client(&[get(1, "/one")]).len() as u64;
    assert_eq!(found.lost[0].direction, Direction::Sent);
    assert!((offset..=offset + 9).contains(&found.lost[0].offset));
    assert!(matches!(found.lost[0].why, Why::Frame(_)));
    assert_eq!(bodies(&found, Part::Response), ["one", "two", "three"]);
    let heads: Vec<_> =
        found.exchanges.values().map(|e| e.request.head.as_ref().unwrap()).collect();
    assert_eq!(heads[1].url, b"https://a.test/two");
    // Index 65 is what was put in fourth to last: known since the place was found again.
    assert_eq!((heads[2].unknown_fields, heads[2].method.as_deref()), (0, Some(&b"GET"[..])));
}

#[test]
fn a_damaged_header_block_costs_that_head_alone() {
    let received =
        [headers(0, 1, &[(":status", "200")]), frame(DATA, END_STREAM, 1, b"one")].concat();
    let received = [received, frame(HEADERS, 5, 3, &[0xff, 0xff]), ok(5, "three")].concat();
    let sent = from_client(&[get(1, "/one"), get(3, "/two"), get(5, "/three")]);
    let found = check_splits(&client(), &sides(sent, received), "damaged block");
    assert_eq!(found.lost.len(), 1);
    assert!(matches!(found.lost[0].why, Why::Hpack(_)));
    assert_eq!(bodies(&found, Part::Response), ["one", "", "three"]);
    assert_eq!(incomplete(&found, 2), Some(Incomplete::Lost));
}

#[test]
fn missing_bytes_of_a_body_are_said() {
    let mut connection = Connection::new(client());
    let mut found = Assembler::default();
    let mut out = |item: agentrec_wire::Item<'_>| found.push(item);
    let head = headers(0, 1, &[(":status", "200")]);
    let body = frame(DATA, END_STREAM, 1, b"abcdefgh");
    connection.feed(Direction::Sent, 0, &from_client(&[get(1, "/"), get(3, "/")]), &mut out);
    connection.feed(Direction::Received, 1, &[head, body[..11].to_vec()].concat(), &mut out);
    connection.missing(Direction::Received, 2, 4, &mut out);
    connection.feed(Direction::Received, 3, &body[15..], &mut out);
    // A gap whose place is not known.
    connection.missing(Direction::Received, 4, 50, &mut out);
    connection.feed(
        Direction::Received,
        5,
        &[frame(6, 0, 0, &[0; 8]), ok(3, "yes")].concat(),
        &mut out,
    );
    connection.close(6, Ending::Closed, &mut out);
    assert_eq!(bodies(&found, Part::Response), ["abgh", "yes"]);
    assert_eq!(incomplete(&found, 1), Some(Incomplete::Missing(4)));
    assert_eq!((found.lost.len(), &found.lost[0].why), (1, &Why::Missing(50)));
}

#[test]
fn a_recording_joined_anywhere_gives_what_can_be_known() {
    let name = "httpx-http2";
    let pieces = recording(name);
    let whole = timeless(assemble(&client(), &pieces));
    let said = said(name);
    let last = said.as_array().unwrap().last().unwrap()["path"].as_str().unwrap().to_owned();
    for role in [None, Some(Role::Client)] {
        let options = Options { role, joined: true, ..Options::default() };
        let mut joined = 0;
        for start in 1..pieces.len() - 4 {
            let found = timeless(assemble(&options, &pieces[start..]));
            assert_eq!(found.lost, [], "from piece {start}");
            if found.protocols != [Protocol::Http2] {
                continue;
            }
            joined += 1;
            // Whatever is told of the last exchange is what it was; the rest is said to be unknown.
            let (found, whole) = (
                found.exchanges.values().last().unwrap(),
                whole.exchanges.values().last().unwrap(),
            );
            let (head, expected) =
                (found.request.head.as_ref().unwrap(), whole.request.head.as_ref().unwrap());
            assert!(head.fields.iter().all(|field| expected.fields.contains(field)), "{start}");
            let pseudo = |head: &agentrec_wire::RequestHead| {
                usize::from(head.method.is_some()) + usize::from(!head.target.is_empty())
            };
            let known = head.fields.len() + pseudo(head);
            assert!(known <= expected.fields.len() + pseudo(expected));
            if !head.target.is_empty() {
                assert_eq!(head.target, last.as_bytes());
            }
            assert_eq!(found.response.body, whole.response.body, "{start}");
        }
        assert!(joined > 5, "{joined}");
    }
}

#[test]
fn many_streams_and_their_requests_late() {
    // Responses that are seen before their requests belong to the same exchanges.
    let ids = (0..200).map(|n| 2 * n + 1);
    let sent = from_client(&[]);
    let received: Vec<u8> = ids.clone().flat_map(|id| ok(id, &id.to_string())).collect();
    let asked: Vec<u8> = ids.flat_map(|id| get(id, &format!("/{id}"))).collect();
    let pieces: Vec<Piece> = [sides(sent, received), sides(asked, "")].concat();
    let found = assemble(&client(), &pieces);
    assert_eq!((found.exchanges.len(), found.lost.len()), (200, 0));
    for exchange in found.exchanges.values() {
        let path = exchange.request.head.as_ref().unwrap().target.clone();
        assert_eq!(path[1..], exchange.response.body);
        assert!(exchange.is_over());
    }
}
