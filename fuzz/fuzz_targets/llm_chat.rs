//! Any bytes as requests and responses of OpenAI chat completions.
//!
//! `cargo +nightly fuzz run llm_chat`
#![no_main]

#[path = "support/dialect.rs"]
mod dialect;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dialect::run(
        "http://m/v1/chat/completions",
        |said| format!(r#"{{"model": "m", "messages": [{said}]}}"#),
        bytes,
    );
});
