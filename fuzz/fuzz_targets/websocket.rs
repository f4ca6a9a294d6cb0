//! Any bytes as WebSocket frames, either way, with and without compression; cut in two they give the same.
//!
//! `cargo +nightly fuzz run websocket`
#![no_main]

use agentrec_wire::{Assembler, Connection, Direction, Ending, Item, Options, Role};
use libfuzzer_sys::fuzz_target;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const EXTENSIONS: [&str; 3] = [
    "",
    "permessage-deflate",
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
];

fn run(extensions: &str, direction: Direction, pieces: &[&[u8]]) -> Assembler {
    let options = Options { role: Some(Role::Client), ..Options::default() };
    let mut connection = Connection::new(options);
    let mut found = Assembler::default();
    let mut out = |item: Item<'_>| found.push(item);
    connection.feed(Direction::Sent, 0, ASK, &mut out);
    let agreed = format!(
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: {extensions}\r\n\r\n"
    );
    connection.feed(Direction::Received, 0, agreed.as_bytes(), &mut out);
    for piece in pieces {
        connection.feed(direction, 0, piece, &mut out);
    }
    connection.close(0, Ending::Closed, &mut out);
    found
}

fuzz_target!(|bytes: &[u8]| {
    let [mode, cut, frames @ ..] = bytes else { return };
    let extensions = EXTENSIONS[usize::from(mode % 3)];
    let direction = if mode & 0x80 == 0 { Direction::Sent } else { Direction::Received };
    let whole = run(extensions, direction, &[frames]);
    let (a, b) = frames.split_at(usize::from(*cut).min(frames.len()));
    let halves = run(extensions, direction, &[a, b]);
    // Where the place was lost, a piece's beginning is where it may be found again.
    if whole.lost.is_empty() {
        assert_eq!(whole, halves);
    }
});
