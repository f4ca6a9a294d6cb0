//! HTTP/1: framings and codings, what has no body, pipelines, tunnels, and how the place is found again.

mod support;

use std::io::Write;

use agentrec_wire::{
    Assembler, CodingError, CodingFailure, Connection, Direction, Ending, Incomplete, Item,
    Options, Part, Protocol, Why,
};
use support::{Piece, assemble, bodies, check_splits, chop, client, exchange, sides};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn text() -> Vec<u8> {
    b"The quick brown fox jumps over the lazy dog. ".repeat(40)
}

fn encode(coding: &str, body: &[u8]) -> Vec<u8> {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "raw" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        // Made by the reference encoder from `text`.
        "br" => BROTLI.to_vec(),
        _ => body.to_vec(),
    }
}

const BROTLI: [u8; 59] = [
    27, 7, 7, 136, 44, 14, 120, 211, 208, 149, 93, 151, 16, 187, 23, 43, 169, 202, 208, 146, 204,
    140, 173, 65, 92, 230, 242, 54, 200, 25, 158, 158, 10, 123, 131, 13, 56, 112, 72, 32, 111, 36,
    191, 65, 167, 21, 206, 28, 30, 39, 170, 41, 56, 194, 169, 116, 159, 6, 3,
];

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut framed = Vec::new();
    for chunk in body.chunks(size) {
        framed.extend(format!("{:x};a=b\r\n", chunk.len()).bytes());
        framed.extend_from_slice(chunk);
        framed.extend(b"\r\n");
    }
    framed.extend(b"0\r\nX-Sum: 1\r\n\r\n");
    framed
}

#[test]
fn every_framing_with_every_coding() {
    let body = text();
    for (name, coding) in [
        ("identity", "identity"),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate", "raw"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, zstd", "gzip zstd"),
        ("br, gzip, deflate", "br gzip deflate"),
    ] {
        let encoded = coding.split(' ').fold(body.clone(), |bytes, coding| encode(coding, &bytes));
        for framing in ["length", "chunked", "until close"] {
            let (head, framed) = match framing {
                "length" => (format!("content-length: {}\r\n", encoded.len()), encoded.clone()),
                "chunked" => ("transfer-encoding: chunked\r\n".to_owned(), chunked(&encoded, 19)),
                _ => (String::new(), encoded.clone()),
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {name}\r\n{head}\r\n");
            let response = [head.as_bytes(), &framed].concat();
            let what = format!("{coding} {framing}");
            let found = check_splits(&client(), &sides(GET, response), &what);
            let response = &exchange(&found, 1).response;
            assert!(response.body == body, "{what}");
            let end = response.end.as_ref().unwrap();
            assert_eq!((end.wire_len, end.len), (encoded.len() as u64, body.len() as u64));
            assert_eq!((&end.incomplete, &end.coding), (&None, &None), "{what}");
            assert_eq!(end.trailers.len(), usize::from(framing == "chunked"), "{what}");
        }
    }
}

#[test]
fn what_cannot_be_decoded_is_counted() {
    let body = text();
    let gzip = encode("gzip", &body);
    let end_of = |coding: &str, bytes: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        let pieces = sides(GET, [head.as_bytes(), bytes].concat());
        let found = check_splits(&client(), &pieces, coding);
        let response = exchange(&found, 1).response.clone();
        (response.body, response.end.unwrap())
    };
    let (found, end) = end_of("gzip", &gzip[..gzip.len() - 9]);
    assert!(body.starts_with(&found) && !found.is_empty());
    assert_eq!(end.coding, Some(CodingFailure { error: CodingError::Cut("gzip"), undecoded: 0 }));
    assert_eq!(end.incomplete, None);

    let (found, end) = end_of("gzip", &[&gzip[..], b"tail"].concat());
    assert_eq!(found, body);
    let error = CodingError::Trailing("gzip");
    assert_eq!(end.coding, Some(CodingFailure { error, undecoded: 4 }));
    // Two members are one body.
    let (found, end) = end_of("gzip", &[&gzip[..], &gzip].concat());
    assert_eq!((found.len(), end.coding), (2 * body.len(), None));

    let (found, end) = end_of("compress", b"raw");
    assert_eq!(found, b"raw");
    let error = CodingError::Unknown("compress".into());
    assert_eq!(end.coding, Some(CodingFailure { error, undecoded: 0 }));

    for (coding, name) in [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd")] {
        let (found, end) = end_of(coding, b"\xff\xff this is something else");
        assert_eq!(found, b"", "{coding}");
        let failure = end.coding.unwrap();
        assert_eq!(failure.error, CodingError::Malformed(name));
        assert!((1..=25).contains(&failure.undecoded), "{failure:?}");
    }
}

#[test]
fn a_body_that_unpacks_to_much_comes_in_small_pieces() {
    let zeros = vec![0; 64 << 20];
    for coding in ["gzip", "zstd"] {
        let body = encode(coding, &zeros);
        assert!(body.len() < 100 << 10);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\n\r\n");
        let mut connection = Connection::new(client());
        let (mut total, mut largest) = (0, 0);
        let mut out = |item: Item<'_>| {
            if let Item::Data { bytes, .. } = item {
                total += bytes.len();
                largest = largest.max(bytes.len());
            }
        };
        connection.feed(Direction::Sent, 0, GET.as_bytes(), &mut out);
        connection.feed(Direction::Received, 1, &[head.as_bytes(), &body].concat(), &mut out);
        connection.eof(Direction::Received, 2, &mut out);
        assert_eq!(total, zeros.len());
        assert!(largest <= agentrec_wire::limits::MAX_PIECE, "{largest}");
    }
}

#[test]
fn responses_without_a_body() {
    let requests = ["HEAD", "GET", "GET", "GET", "POST", "GET"]
        .map(|method| format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n"))
        .concat();
    let responses = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\r\n\
        HTTP/1.1 204 No Content\r\n\r\n\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\
        HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 417 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
        \r\n\r\nHTTP/1.0 200 OK\n\nto the end";
    let found = check_splits(&client(), &sides(&requests, responses), "no bodies");
    assert_eq!(found.lost, []);
    assert_eq!(bodies(&found, Part::Response), ["", "", "", "hi", "", "to the end"]);
    assert_eq!(exchange(&found, 4).interim[0].status, Some(103));
    assert_eq!(exchange(&found, 5).interim[0].status, Some(100));
    for exchange in found.exchanges.values() {
        let end = exchange.response.end.as_ref().unwrap();
        assert_eq!((&end.incomplete, &end.coding), (&None, &None));
    }
}

#[test]
fn fifty_requests_in_one_write_and_a_body_in_five_hundred_reads() {
    let requests: String = (0..50)
        .map(|n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{n:02}"))
        .collect();
    let responses: String = (0..50)
        .map(|n| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", n * 3, "abc".repeat(n)))
        .collect();
    let found = check_splits(&client(), &sides(requests, responses), "pipeline");
    assert_eq!((found.lost.len(), found.exchanges.len()), (0, 50));
    for (n, exchange) in found.exchanges.values().enumerate() {
        assert_eq!(exchange.request.body, format!("{n:02}").as_bytes());
        assert_eq!(exchange.response.body, "abc".repeat(n).as_bytes());
    }

    let body = vec![b'x'; 50_000];
    let response = [&b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n"[..], &body].concat();
    let pieces = chop(&sides(GET, response), 100);
    assert!(pieces.len() >= 500);
    let found = assemble(&client(), &pieces);
    let response = &exchange(&found, 1).response;
    assert!(response.body == body);
    let (head, end) = (response.head.as_ref().unwrap(), response.end.as_ref().unwrap());
    assert_eq!((head.first_byte, end.at), (1, pieces.len() as u64 - 1));
}

#[test]
fn a_response_that_is_seen_before_its_request_waits_for_it() {
    let mut pieces = sides(GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    pieces.swap(0, 1);
    let found = check_splits(&client(), &pieces, "late");
    assert_eq!(bodies(&found, Part::Response), ["hi"]);
    assert!(exchange(&found, 1).request.head.is_some());
    // One that nobody asked for is told at the end.
    let pieces =
        [&sides(GET, "")[..1], &sides("", "HTTP/1.1 204 x\r\n\r\nHTTP/1.1 408 y\r\n\r\n")].concat();
    let found = check_splits(&client(), &pieces, "unasked");
    let second = exchange(&found, 2);
    assert!(second.request.head.is_none());
    assert_eq!(second.response.head.as_ref().unwrap().status, Some(408));
}

#[test]
fn tunnels_are_looked_into() {
    let connect = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n";
    let ok = "HTTP/1.1 200 Connection established\r\nContent-Length: 3\r\n\r\n";
    let inner = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    // The client need not wait for the answer.
    let early = sides(format!("{connect}{GET}"), format!("{ok}{inner}"));
    let found = check_splits(&client(), &early, "early");
    assert_eq!(found.protocols, [Protocol::Http1, Protocol::Http1]);
    assert_eq!(exchange(&found, 1).request.head.as_ref().unwrap().url, b"api.test:443");
    assert_eq!(exchange(&found, 2).request.head.as_ref().unwrap().url, b"http://a/");
    assert_eq!(bodies(&found, Part::Response), ["", "hi"]);
    let refused = "HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\nno!";
    let found = check_splits(
        &client(),
        &sides(format!("{connect}{GET}"), format!("{refused}{inner}")),
        "refused",
    );
    assert_eq!(bodies(&found, Part::Response), ["no!", "hi"]);

    let hello: [Piece; 2] = [
        (Direction::Received, ok.into()),
        (Direction::Sent, vec![22, 3, 1, 0, 1, 1, 23, 3, 3, 0, 1, 0]),
    ];
    let pieces = [&sides(connect, "")[..1], &hello].concat();
    assert_eq!(assemble(&client(), &pieces).protocols, [Protocol::Http1, Protocol::Tls(None)]);
}

#[test]
fn an_upgrade_that_is_refused_goes_on_as_http() {
    let ask = "GET /s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let no = "HTTP/1.1 426 x\r\nContent-Length: 1\r\n\r\nn";
    let yes = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny";
    let pieces = sides(format!("{ask}{GET}{ask}{GET}"), format!("{no}{yes}{no}{yes}"));
    let found = check_splits(&client(), &pieces, "refused upgrade");
    assert_eq!(bodies(&found, Part::Response), ["n", "y", "n", "y"]);
    assert!(found.exchanges.values().all(|exchange| exchange.request.head.is_some()));
}

/// What came of it, and that the last exchange was found again.
fn found_again(pieces: &[Piece], direction: Direction, why: &Why, offset: u64) -> Assembler {
    let found = check_splits(&client(), pieces, &format!("{why}"));
    let lost: Vec<_> = found.lost.iter().map(|l| (l.direction, l.offset, &l.why)).collect();
    assert_eq!(lost, [(direction, offset, why)]);
    let last = found.exchanges.values().last().unwrap();
    assert_eq!(last.request.head.as_ref().map(|head| &head.url[..]), Some(&b"http://z/last"[..]));
    assert_eq!(last.response.body, b"bye", "{why}");
    found
}

const LAST: &str = "GET /last HTTP/1.1\r\nHost: z\r\n\r\n";
const BYE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbye";

/// An exchange, then what goes wrong, then one more.
fn around(sent: &str, received: &str) -> Vec<Piece> {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    [sides(GET, ok), sides(sent, received), sides(LAST, BYE)].concat()
}

#[test]
fn requests_are_found_again() {
    let start = GET.len() as u64;
    for (garbage, why, offset) in [
        ("{\"not\": \"a request\"}", Why::NotARequest, 0),
        ("GET /x HTTP/1.1\r\nno colon here\r\n\r\n", Why::Head(httparse::Error::HeaderName), 0),
        ("POST /x HTTP/1.1\r\nContent-Length: ten\r\n\r\n0123456789", Why::Length, 0),
        ("POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nxx", Why::TransferCoding, 0),
        ("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz", Why::Chunk, 48),
    ] {
        let pieces = around(garbage, "");
        let found = found_again(&pieces, Direction::Sent, &why, start + offset);
        if why == Why::Chunk {
            let end = exchange(&found, 2).request.end.as_ref().unwrap();
            assert_eq!(end.incomplete, Some(Incomplete::Lost));
        }
    }
}

#[test]
fn responses_are_found_again() {
    let start = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".len() as u64;
    let head = "HTTP/1.1 200 OK\r\n";
    for (garbage, why, offset) in [
        ("<html>".to_owned(), Why::NotAResponse, 0),
        (format!("{head}bad\0name: x\r\n\r\n"), Why::Head(httparse::Error::HeaderName), 0),
        (format!("{head}Content-Length: 1, 2\r\n\r\nxx"), Why::Length, 0),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef"), Why::Chunk, 53),
        (
            format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n~bad\x01\r\n\r\n"),
            Why::Trailers,
            59,
        ),
    ] {
        found_again(&around(GET, &garbage), Direction::Received, &why, start + offset);
    }
}

#[test]
fn missing_bytes_are_said_and_a_body_goes_on_where_its_length_tells() {
    let mut connection = Connection::new(client());
    let mut found = Assembler::default();
    let mut out = |item: Item<'_>| found.push(item);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    connection.feed(Direction::Sent, 1, GET.as_bytes(), &mut out);
    connection.feed(Direction::Received, 2, format!("{head}abc").as_bytes(), &mut out);
    connection.missing(Direction::Received, 3, 4, &mut out);
    connection.feed(Direction::Received, 4, b"hij", &mut out);
    connection.feed(Direction::Sent, 5, GET.as_bytes(), &mut out);
    // A whole response is missing.
    connection.missing(Direction::Received, 6, 100, &mut out);
    connection.feed(Direction::Sent, 7, LAST.as_bytes(), &mut out);
    connection.feed(Direction::Received, 8, BYE.as_bytes(), &mut out);
    connection.close(9, Ending::Closed, &mut out);
    assert_eq!(found.lost.len(), 1);
    let offset = (head.len() + 10) as u64;
    assert_eq!((&found.lost[0].why, found.lost[0].offset), (&Why::Missing(100), offset));
    let first = &exchange(&found, 1).response;
    assert_eq!(first.body, b"abchij");
    let end = first.end.as_ref().unwrap();
    assert_eq!((end.wire_len, end.incomplete), (10, Some(Incomplete::Missing(4))));
    assert!(exchange(&found, 2).response.head.is_none());
    assert_eq!(exchange(&found, 3).response.body, b"bye");
}

#[test]
fn ends_of_connections_are_told() {
    let endings = |response: &str, ending: Option<Ending>| {
        let mut connection = Connection::new(client());
        let mut found = Assembler::default();
        let mut out = |item: Item<'_>| found.push(item);
        connection.feed(Direction::Sent, 1, GET.as_bytes(), &mut out);
        connection.feed(Direction::Received, 2, response.as_bytes(), &mut out);
        match ending {
            Some(ending) => connection.close(3, ending, &mut out),
            None => connection.eof(Direction::Received, 3, &mut out),
        }
        let end = exchange(&found, 1).response.end.clone();
        (end.unwrap().incomplete, found.lost.len())
    };
    let (length, open) =
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "HTTP/1.1 200 OK\r\n\r\nabc");
    assert_eq!(endings(length, None), (Some(Incomplete::Closed), 0));
    assert_eq!(endings(length, Some(Ending::Reset)), (Some(Incomplete::Reset), 0));
    assert_eq!(endings(length, Some(Ending::Unwatched)), (Some(Incomplete::Unwatched), 0));
    assert_eq!(endings(open, None), (None, 0));
    assert_eq!(endings(open, Some(Ending::Closed)), (Some(Incomplete::Closed), 0));
    assert_eq!(endings("", None), (Some(Incomplete::Closed), 0));
    assert_eq!(endings("HTTP/1.1 200", None), (Some(Incomplete::Closed), 1));
    assert_eq!(Incomplete::Closed.to_string(), "connection closed");
}

#[test]
fn a_joined_connection_begins_with_the_next_message() {
    let options = Options { joined: true, ..Options::default() };
    let rest = "5\r\nhello\r\n0\r\n\r\n";
    let pieces = [
        sides("half a body\"}", rest),
        sides(GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        sides(LAST, BYE),
    ]
    .concat();
    let found = check_splits(&options, &pieces, "joined");
    assert_eq!((&found.lost[..], found.exchanges.len()), (&[][..], 2));
    assert_eq!(bodies(&found, Part::Response), ["hi", "bye"]);
    // A response whose request was sent before.
    let found = check_splits(&options, &[sides("", BYE), sides(GET, BYE)].concat()[1..], "answer");
    assert_eq!(found.exchanges.len(), 2);
    assert!(exchange(&found, 1).request.head.is_none());
    assert!(exchange(&found, 2).request.head.is_some());
}

#[test]
fn events_have_times_and_survive_compression() {
    let stream = "data: one\n\nevent: x\ndata: two\n\ndata: cut";
    for coding in ["identity", "gzip", "br"] {
        let stream = if coding == "br" { text() } else { stream.as_bytes().to_vec() };
        let body = chunked(&encode(coding, &stream), 7);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: {coding}\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        let found = check_splits(&client(), &sides(GET, [head.as_bytes(), &body].concat()), coding);
        let events = &exchange(&found, 1).events;
        assert_eq!(events.len(), if coding == "br" { 0 } else { 2 });
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let pieces = [sides(GET, head), sides("", "data: a\n"), sides("", "\ndata: b\n\n")].concat();
    let found = assemble(&client(), &pieces);
    let events: Vec<_> = exchange(&found, 1).events.iter().map(|e| (e.at, &e.data[..])).collect();
    assert_eq!(events, [(5, &b"a"[..]), (5, b"b")]);
}
