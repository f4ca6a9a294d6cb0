//! Any bytes as an event stream; cut anywhere it gives the same events.
//!
//! `cargo +nightly fuzz run sse`
#![no_main]

use agentrec_wire::EventParser;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, stream)) = bytes.split_first() else { return };
    let parse = |pieces: &[&[u8]]| {
        let mut parser = EventParser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(0, piece, &mut |event| events.push(event.into_owned()));
        }
        events
    };
    let (a, b) = stream.split_at(usize::from(cut).min(stream.len()));
    assert_eq!(parse(&[stream]), parse(&[a, b]));
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(parse(&[stream]), parse(&single));
});
