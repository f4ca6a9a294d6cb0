//! Any bytes as an HTTP/1 connection, either way, in pieces and with gaps.
//!
//! `cargo +nightly fuzz run http1`
#![no_main]

use agentrec_wire::{Connection, Direction, Ending, Item, Options, Role, limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, mut rest)) = bytes.split_first() else { return };
    let role = [None, Some(Role::Client), Some(Role::Server)][usize::from(mode % 3)];
    let options = Options { role, joined: mode & 0x80 != 0, ..Options::default() };
    let mut connection = Connection::new(options);
    let mut out = |item: Item<'_>| {
        if let Item::Data { bytes, .. } = item {
            assert!(bytes.len() <= limits::MAX_PIECE);
        }
    };
    let begin = b"GET / HTTP/1.1\r\nHost: a\r\n";
    if mode & 0x40 != 0 {
        connection.feed(Direction::Sent, 0, begin, &mut out);
    }
    // A piece is a byte with its direction and length, and the bytes.
    while let Some((&head, after)) = rest.split_first() {
        let direction = if head & 1 == 0 { Direction::Sent } else { Direction::Received };
        let (piece, next) = after.split_at(usize::from(head >> 2).min(after.len()));
        if head & 2 != 0 && head >> 2 == 7 {
            connection.missing(direction, 1, piece.len() as u64, &mut out);
        } else {
            connection.feed(direction, 1, piece, &mut out);
        }
        rest = next;
    }
    connection.eof(Direction::Received, 2, &mut out);
    connection.close(3, Ending::Closed, &mut out);
});
