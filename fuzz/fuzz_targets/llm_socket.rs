//! Any bytes as messages of a WebSocket that speaks OpenAI responses.
//!
//! `cargo +nightly fuzz run llm_socket`
#![no_main]

use agentrec_wire::llm::Tracker;
use libfuzzer_sys::fuzz_target;

const URL: &str = "http://m/v1/responses";

fuzz_target!(|bytes: &[u8]| {
    let mut tracker = Tracker::default();
    for (number, piece) in bytes.split(|byte| *byte == 0).enumerate() {
        let from_client = piece.first().is_some_and(|byte| byte & 1 == 0);
        let words = String::from_utf8_lossy(piece.get(1..).unwrap_or_default());
        let begin = r#"{"type": "response.create", "model": "m", "input": ["#;
        let message = if from_client { format!("{begin}{words}]}}") } else { words.into_owned() };
        tracker.socket_message(number as u64 / 8, URL, from_client, message.as_bytes());
    }
    for socket in 0..4 {
        tracker.socket_closed(socket);
    }
});
