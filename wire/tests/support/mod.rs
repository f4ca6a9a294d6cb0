//! Recorded connections, ways to cut them, and what came of them in a form that can be compared.
#![allow(dead_code)] // Each test program uses a part of it.

use std::path::PathBuf;

use agentrec_wire::{
    Assembler, Connection, Direction, Ending, Exchange, ExchangeId, Item, Options, Part, Role,
};

/// Bytes that went one way.
pub type Piece = (Direction, Vec<u8>);

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/exchanges")
}

/// The names of all recordings.
pub fn recordings() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter_map(|name| Some(name.strip_suffix(".exchange")?.to_owned())).collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    names
}

/// The pieces of a recording, as a client's process saw them.
pub fn recording(name: &str) -> Vec<Piece> {
    let bytes = std::fs::read(folder().join(format!("{name}.exchange"))).unwrap();
    let mut rest = bytes.as_slice();
    let mut pieces = Vec::new();
    while let [mark, a, b, c, d, content @ ..] = rest {
        let direction = if *mark == b'>' { Direction::Sent } else { Direction::Received };
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        pieces.push((direction, content[..len].to_vec()));
        rest = &content[len..];
    }
    pieces
}

/// What the programs said of it.
pub fn said(name: &str) -> serde_json::Value {
    let text = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A client's connection.
pub fn client() -> Options {
    Options { role: Some(Role::Client), ..Options::default() }
}

/// All that came of these pieces, in order.
pub fn items(options: &Options, pieces: &[Piece]) -> Vec<Item<'static>> {
    let mut connection = Connection::new(options.clone());
    let mut items = Vec::new();
    for (at, (direction, bytes)) in pieces.iter().enumerate() {
        connection.feed(*direction, at as u64, bytes, &mut |item| items.push(item.into_owned()));
    }
    let at = pieces.len() as u64;
    for direction in [Direction::Sent, Direction::Received] {
        connection.eof(direction, at, &mut |item| items.push(item.into_owned()));
    }
    connection.close(at, Ending::Closed, &mut |item| items.push(item.into_owned()));
    items
}

/// The same, put together.
pub fn assemble(options: &Options, pieces: &[Piece]) -> Assembler {
    let mut assembler = Assembler::default();
    items(options, pieces).into_iter().for_each(|item| assembler.push(item));
    assembler
}

/// The same without times, which depend on how it was cut.
pub fn timeless(mut assembler: Assembler) -> Assembler {
    for exchange in assembler.exchanges.values_mut() {
        if let Some(head) = &mut exchange.request.head {
            (head.first_byte, head.at) = (0, 0);
        }
        for head in exchange.interim.iter_mut().chain(&mut exchange.response.head) {
            (head.first_byte, head.at) = (0, 0);
        }
        for end in exchange.request.end.iter_mut().chain(&mut exchange.response.end) {
            end.at = 0;
        }
        exchange.events.iter_mut().for_each(|event| event.at = 0);
        for message in &mut exchange.messages {
            (message.first_byte, message.at) = (0, 0);
        }
        // A pong of one side may come before or after a message of the other.
        exchange.messages.sort_by_key(|message| message.part);
    }
    assembler.lost.iter_mut().for_each(|lost| lost.at = 0);
    assembler
}

/// The pieces with the one at `index` cut in two.
pub fn split(pieces: &[Piece], index: usize, at: usize) -> Vec<Piece> {
    let mut cut = pieces.to_vec();
    let (direction, bytes) = &mut cut[index];
    let direction = *direction;
    let rest = bytes.split_off(at);
    cut.insert(index + 1, (direction, rest));
    cut
}

/// The pieces in pieces of so many bytes.
pub fn chop(pieces: &[Piece], size: usize) -> Vec<Piece> {
    let chop = |(direction, bytes): &Piece| {
        let direction = *direction;
        bytes.chunks(size).map(|bytes| (direction, bytes.to_vec())).collect::<Vec<_>>()
    };
    pieces.iter().flat_map(chop).collect()
}

/// Everything that one side sent before all that the other sent.
pub fn sides(sent: impl AsRef<[u8]>, received: impl AsRef<[u8]>) -> Vec<Piece> {
    vec![
        (Direction::Sent, sent.as_ref().to_vec()),
        (Direction::Received, received.as_ref().to_vec()),
    ]
}

/// Checks that every way to cut these pieces gives the same.
pub fn check_splits(options: &Options, pieces: &[Piece], what: &str) -> Assembler {
    let whole = timeless(assemble(options, pieces));
    let bytes: usize = pieces.iter().map(|piece| piece.1.len()).sum();
    // Long bodies are cut at fewer places, since each cut takes their whole length.
    let step = (bytes / 4000).max(1);
    for (index, (_, content)) in pieces.iter().enumerate() {
        let near_ends = content.len().saturating_sub(300);
        for at in (1..content.len()).filter(|at| at % step == 0 || *at < 300 || *at > near_ends) {
            let cut = timeless(assemble(options, &split(pieces, index, at)));
            assert!(cut == whole, "{what}: piece {index} cut at {at}: {cut:#?}\n{whole:#?}");
        }
    }
    for size in [1, 2, 3, 7, 1000] {
        let chopped = timeless(assemble(options, &chop(pieces, size)));
        assert!(chopped == whole, "{what}: in pieces of {size}: {chopped:#?}\n{whole:#?}");
    }
    whole
}

/// An exchange by its number.
pub fn exchange(assembler: &Assembler, number: u64) -> &Exchange {
    &assembler.exchanges[&ExchangeId(number)]
}

/// The bodies of all requests or responses, as text.
pub fn bodies(assembler: &Assembler, part: Part) -> Vec<String> {
    let exchanges = assembler.exchanges.values();
    let bodies = exchanges.map(|exchange| match part {
        Part::Request => &exchange.request.body,
        Part::Response => &exchange.response.body,
    });
    bodies.map(|body| String::from_utf8_lossy(body).into_owned()).collect()
}
