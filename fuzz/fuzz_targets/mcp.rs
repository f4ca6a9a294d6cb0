//! Any bytes as the pipes and responses of servers of tools; cut anywhere, lines tell the same.
//!
//! `cargo +nightly fuzz run mcp`
#![no_main]

use agentrec_wire::llm::{Mcp, Speaker, Told};
use libfuzzer_sys::fuzz_target;

fn lines(pieces: &[&[u8]]) -> Vec<Told> {
    let mut mcp = Mcp::default();
    let mut told = Vec::new();
    for from in [Speaker::Client, Speaker::Server] {
        told.extend(pieces.iter().flat_map(|piece| mcp.lines(1, from, piece)).collect::<Vec<_>>());
    }
    told
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, stream)) = bytes.split_first() else { return };
    let (a, b) = stream.split_at(usize::from(cut).min(stream.len()));
    assert_eq!(lines(&[stream]), lines(&[a, b]));
    let mut mcp = Mcp::default();
    mcp.message(1, Speaker::Client, a);
    mcp.response(1, b, cut & 1 == 0);
});
