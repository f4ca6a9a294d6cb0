//! Any bytes as a trace: reading and checking them gives data or errors, in bounded memory, and never panics.
//!
//! `cargo +nightly fuzz run reader fuzz/corpus/reader tests/golden/v1`
#![no_main]

use agentrec_trace::{Reader, Seq, verify_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(reader) = Reader::from_bytes(bytes) {
        let read = reader.iter().filter(Result::is_ok).count() as u64;
        // A complete trace may claim more in its seal than its frames hold, never less.
        let _ = reader.tail(3);
        let _ = reader.event(Seq(read / 2 + 1));
        for id in reader.objects().unwrap_or_default() {
            let _ = reader.object(&id);
        }
    }
    let _ = verify_bytes(bytes);
});
