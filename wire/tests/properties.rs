//! Any bytes, cut in any way, give items and nothing worse: no panic, small pieces, the same for every cut.

mod support;

use agentrec_wire::{
    CodingError, Connection, Decoder, Direction, Ending, EventParser, Item, Options, Role, Scheme,
    limits,
};
use proptest::prelude::*;
use support::{Piece, assemble, chop, recording, recordings, timeless};

fn options() -> impl Strategy<Value = Options> {
    let role = prop_oneof![Just(None), Just(Some(Role::Client)), Just(Some(Role::Server))];
    (role, any::<bool>()).prop_map(|(role, joined)| Options {
        role,
        joined,
        scheme: Scheme::Http,
        authority: None,
    })
}

/// Bytes that parsers look at more closely than at any.
const LIKELY: [&[u8]; 21] = [
    b"GET / HTTP/1.1\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Type: text/event-stream\r\n",
    b"Content-Encoding: gzip, br, zstd, deflate\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"data: x\n\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x87",
    b"\0\0\x01\x01\x04\0\0\0\x01\x88",
    b"\0\0\x05\0\0\0\0\0\x01hello",
    b"\x81\x02hi",
    b"\xc1\x82\x01\x02\x03\x04hi",
    b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
];

fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let any = proptest::collection::vec(any::<u8>(), 0..20);
    let likely = proptest::sample::select(&LIKELY[..]).prop_map(<[u8]>::to_vec);
    prop_oneof![4 => likely, 1 => any]
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let direction = prop_oneof![Just(Direction::Sent), Just(Direction::Received)];
    proptest::collection::vec((direction, likely_bytes()), 0..40)
}

/// Feeds all, with gaps where a piece's length says so, and checks each item.
fn run(options: &Options, pieces: &[Piece], gaps: bool) {
    let mut connection = Connection::new(options.clone());
    let mut given = 0;
    let mut out = |item: Item<'_>| {
        if let Item::Data { bytes, .. } = &item {
            given += bytes.len();
            assert!(bytes.len() <= limits::MAX_PIECE);
        }
    };
    for (at, (direction, bytes)) in pieces.iter().enumerate() {
        if gaps && bytes.len() % 7 == 3 {
            connection.missing(*direction, at as u64, bytes.len() as u64, &mut out);
        } else {
            connection.feed(*direction, at as u64, bytes, &mut out);
        }
    }
    connection.eof(Direction::Received, 99, &mut out);
    connection.close(100, Ending::Reset, &mut out);
}

/// What comes of bytes in these codings, and why no more does.
fn decode(codings: &str, pieces: &[&[u8]]) -> (Vec<u8>, Option<CodingError>) {
    let mut decoder = Decoder::new(codings.split(", ").map(str::as_bytes)).unwrap();
    let mut decoded = Vec::new();
    for piece in pieces {
        decoder.push(piece, &mut |bytes| decoded.extend_from_slice(bytes));
    }
    (decoded, decoder.finish(true).map(|failure| failure.error))
}

#[test]
fn of_two_damaged_codings_the_same_is_named_wherever_they_are_cut() {
    // Found by the test below: the first byte of what `br` decodes before it fails is no gzip.
    let mut bytes = [0; 40];
    for (at, byte) in [(0, 137), (1, 2), (2, 128), (9, 28), (12, 16)] {
        bytes[at] = byte;
    }
    let whole = decode("gzip, br", &[&bytes]);
    assert!(whole.1.is_some());
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(decode("gzip, br", &[a, b]), whole, "{at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
    ))]

    #[test]
    fn any_bytes_give_items(options in options(), pieces in pieces(), gaps in any::<bool>()) {
        run(&options, &pieces, gaps);
    }

    #[test]
    fn damaged_recordings_give_items(
        options in options(),
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        size in 1..3000usize,
        gaps in any::<bool>(),
    ) {
        let names = recordings();
        let mut pieces = recording(&names[which.index(names.len())]);
        for (place, byte) in changes {
            let at = place.index(pieces.len());
            let bytes = &mut pieces[at].1;
            let at = usize::from(byte).pow(2) % bytes.len();
            bytes[at] ^= byte;
        }
        run(&options, &chop(&pieces, size), gaps);
    }

    #[test]
    fn any_bytes_can_be_decoded_or_not(
        coding in prop_oneof![Just("gzip"), Just("deflate"), Just("br"), Just("zstd"), Just("gzip, br")],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
    ) {
        let (a, b) = bytes.split_at(at.index(bytes.len() + 1));
        prop_assert_eq!(decode(coding, &[a, b]).1, decode(coding, &[&bytes]).1);
    }

    #[test]
    fn any_event_stream_is_the_same_wherever_it_is_cut(
        stream in "(\u{feff}|data|: ?x|\n|\r|\r\n|id|event|retry: 1|é){0,30}",
        at in any::<prop::sample::Index>(),
    ) {
        let parse = |pieces: &[&[u8]]| {
            let mut parser = EventParser::default();
            let mut events = Vec::new();
            for piece in pieces {
                parser.push(0, piece, &mut |event| events.push(event.into_owned()));
            }
            events
        };
        let bytes = stream.as_bytes();
        let (a, b) = bytes.split_at(at.index(bytes.len() + 1));
        prop_assert_eq!(parse(&[a, b]), parse(&[bytes]));
    }

    #[test]
    fn any_http1_is_the_same_wherever_it_is_cut(
        sent in proptest::collection::vec(likely_bytes(), 0..12),
        received in proptest::collection::vec(likely_bytes(), 0..12),
        size in 1..40usize,
    ) {
        let begin = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        let sent = [begin, sent.concat()].concat();
        let pieces = support::sides(sent, received.concat());
        let options = support::client();
        let whole = timeless(assemble(&options, &pieces));
        // Frames are found again where a piece begins, so that the cut shows.
        let is_framed = whole.protocols.len() > 1;
        if whole.lost.is_empty() && !is_framed {
            prop_assert_eq!(timeless(assemble(&options, &chop(&pieces, size))), whole);
        }
    }
}

#[test]
fn endless_unfinished_heads_are_bounded() {
    for begin in [
        "GET / HTTP/1.1\r\na: ",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
    ] {
        let mut connection = Connection::new(support::client());
        let mut lost = 0;
        let mut out = |item: Item<'_>| lost += usize::from(matches!(item, Item::Lost(_)));
        connection.feed(Direction::Sent, 0, begin.as_bytes(), &mut out);
        let piece = vec![b'x'; 1 << 16];
        for at in 0..64 {
            connection.feed(Direction::Sent, at, &piece, &mut out);
        }
        assert_eq!(lost, 1, "{begin:?}");
    }
}
