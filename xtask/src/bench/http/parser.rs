//! How fast the parser is, on one core: bytes of whole exchanges in, items out.

use agentrec_wire::{Connection, Direction, Item, Options, Part, Role};
use anyhow::{Result, ensure};

use super::super::{Bar, Section, median, time_on_core};

/// Megabytes a second, at least.
const BAR: f64 = 300.0;
/// Bytes of a round.
const ROUND: usize = 256 << 20;
/// Most bytes of one read(2), as clients do it.
const PIECE: usize = 16 << 10;

/// What goes over a connection for one exchange.
struct Exchange {
    request: Vec<u8>,
    response: Vec<u8>,
}

/// Makes the exchange of a stream of HTTP/2, or the next one of a connection.
type Make = fn(u32) -> Exchange;

/// Measures each kind of traffic.
pub fn measure(section: &mut Section, rounds: usize) -> Result<()> {
    let kinds = [
        ("requests of 2 KB, replies of 8 KB", Vec::new(), plain as Make),
        ("replies of 200 events, chunked", Vec::new(), events),
        ("HTTP/2, requests of 2 KB, replies of 8 KB", preface(), http2),
    ];
    for (name, first, make) in kinds {
        let speed = median(rounds, || megabytes_a_second(&first, make))?;
        section.figure(format!("parser, {name}"), speed, "MB/s", Bar::AtLeast(BAR));
    }
    Ok(())
}

fn megabytes_a_second(first: &[u8], make: Make) -> Result<f64> {
    let options = Options { role: Some(Role::Client), ..Options::default() };
    let mut connection = Connection::new(options);
    let mut over = 0;
    let mut take = |item: Item<'_>| {
        over += u64::from(matches!(item, Item::End { part: Part::Response, .. }));
    };
    connection.feed(Direction::Sent, 0, first, &mut take);
    let exchange = |stream: u32| {
        let Exchange { request, response } = make(stream);
        [(Direction::Sent, request), (Direction::Received, response)]
    };
    // Made before the clock runs; numbers of streams are odd, and grow.
    let size: usize = exchange(1).iter().map(|(_, bytes)| bytes.len()).sum();
    let count = (ROUND / size) as u32;
    let made: Vec<_> = (0..count).map(|number| exchange(2 * number + 1)).collect();
    let ((), took) = time_on_core(|| {
        for (at, (direction, bytes)) in (1..).zip(made.iter().flatten()) {
            for piece in bytes.chunks(PIECE) {
                connection.feed(*direction, at, piece, &mut take);
            }
        }
        Ok(())
    })?;
    ensure!(over == u64::from(count), "{over} of {count} responses were complete");
    Ok(size as f64 * f64::from(count) / 1e6 / took.as_secs_f64())
}

fn plain(_: u32) -> Exchange {
    let head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2048\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\nContent-Length: 8192\r\n\r\n";
    Exchange {
        request: [head.as_bytes(), &[b'2'; 2048]].concat(),
        response: [answer.as_bytes(), &[b'8'; 8192]].concat(),
    }
}

fn events(_: u32) -> Exchange {
    let head = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut response = answer.as_bytes().to_vec();
    for number in 0..200 {
        let event =
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"word {number}\"}}}}]}}\n\n");
        response.extend(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes());
    }
    response.extend(b"0\r\n\r\n");
    Exchange { request: head.as_bytes().to_vec(), response }
}

/// What a client of HTTP/2 says first (RFC 9113, 3.4).
fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat()
}

fn http2(stream: u32) -> Exchange {
    const HEADERS: u8 = 1;
    const DATA: u8 = 0;
    const END_HEADERS: u8 = 4;
    const END_STREAM: u8 = 1;
    // The static table (RFC 7541, appendix A): POST, https, /, 200; and a field that is not indexed.
    let authority = [&[0x01, 9], b"localhost".as_slice()].concat();
    let asked = [&[0x83, 0x87, 0x84], authority.as_slice()].concat();
    let half = [0_u8; 4096].map(|_| b'8');
    Exchange {
        request: [
            frame(HEADERS, END_HEADERS, stream, &asked),
            frame(DATA, END_STREAM, stream, &[b'2'; 2048]),
        ]
        .concat(),
        response: [
            frame(HEADERS, END_HEADERS, stream, &[0x88]),
            frame(DATA, 0, stream, &half),
            frame(DATA, END_STREAM, stream, &half),
        ]
        .concat(),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
