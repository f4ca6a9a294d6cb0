//! Any bytes as frames behind a right preface, either way, or from the middle of a connection.
//!
//! `cargo +nightly fuzz run http2`
#![no_main]

use agentrec_wire::{Connection, Direction, Ending, Item, Options, Role, limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, mut rest)) = bytes.split_first() else { return };
    let joined = mode & 1 != 0;
    let options = Options { role: Some(Role::Client), joined, ..Options::default() };
    let mut connection = Connection::new(options);
    let mut out = |item: Item<'_>| {
        if let Item::Data { bytes, .. } = item {
            assert!(bytes.len() <= limits::MAX_PIECE);
        }
    };
    connection.feed(Direction::Sent, 0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &mut out);
    // A frame is its kind and direction, flags, stream, length, and its payload.
    while let [kind, flags, stream, len, after @ ..] = rest {
        let direction = if kind & 0x80 == 0 { Direction::Sent } else { Direction::Received };
        let (payload, next) = after.split_at(usize::from(*len).min(after.len()));
        let header = [0, 0, payload.len() as u8, kind & 0xf, *flags, 0, 0, 0, *stream];
        if kind & 0x70 == 0x70 {
            connection.missing(direction, 1, u64::from(*len), &mut out);
        } else {
            connection.feed(direction, 1, &header, &mut out);
            connection.feed(direction, 2, payload, &mut out);
        }
        rest = next;
    }
    connection.close(3, Ending::Closed, &mut out);
});
