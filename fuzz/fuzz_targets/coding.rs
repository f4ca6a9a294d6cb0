//! Any bytes in any content coding: what is decoded comes in small pieces, and is the same wherever they are cut.
//!
//! `cargo +nightly fuzz run coding -- -max_len=4096`
#![no_main]

use agentrec_wire::{Decoder, limits};
use libfuzzer_sys::fuzz_target;

const CODINGS: [&[&[u8]]; 6] =
    [&[b"gzip"], &[b"deflate"], &[b"br"], &[b"zstd"], &[b"gzip", b"br"], &[b"zstd", b"deflate"]];

fuzz_target!(|bytes: &[u8]| {
    let [mode, cut, body @ ..] = bytes else { return };
    let decode = |pieces: &[&[u8]]| {
        let codings = CODINGS[usize::from(*mode) % CODINGS.len()];
        let mut decoder = Decoder::new(codings.iter().copied()).expect("none is identity");
        let mut len = 0;
        for piece in pieces {
            decoder.push(piece, &mut |bytes| {
                assert!(bytes.len() <= limits::MAX_PIECE);
                len += bytes.len();
            });
        }
        (len, decoder.finish(true).map(|failure| failure.error))
    };
    let (a, b) = body.split_at(usize::from(*cut).min(body.len()));
    let (whole, halves) = (decode(&[body]), decode(&[a, b]));
    // Before it notices damage, a decoder may have given more or less of what it had.
    assert_eq!(whole.1, halves.1);
    if whole.1.is_none() {
        assert_eq!(whole.0, halves.0);
    }
});
