//! Any bytes as lines of an agent's transcript; whoever looks after each line is told as many answers as who looks at the end.
//!
//! `cargo +nightly fuzz run transcript`
#![no_main]

use agentrec_wire::llm::{Keeper, Prices, Transcript};
use libfuzzer_sys::fuzz_target;

fn answers(keeper: Keeper, bytes: &[u8], pauses: bool) -> Option<u64> {
    let mut transcript = Transcript::new(keeper, Prices::default(), false);
    let mut rounds = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        rounds.extend(transcript.line(line, 0).unwrap_or_default());
        if pauses {
            rounds.extend(transcript.pause());
        }
    }
    rounds.extend(transcript.finish());
    rounds.iter().filter_map(|round| Some(round.answer.as_ref()?.number)).max()
}

fuzz_target!(|bytes: &[u8]| {
    for keeper in [Keeper::Codex, Keeper::Claude] {
        assert_eq!(answers(keeper, bytes, false), answers(keeper, bytes, true));
    }
});
