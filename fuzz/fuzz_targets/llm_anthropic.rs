//! Any bytes as requests and responses of Anthropic messages.
//!
//! `cargo +nightly fuzz run llm_anthropic`
#![no_main]

#[path = "support/dialect.rs"]
mod dialect;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dialect::run(
        "http://m/v1/messages",
        |said| format!(r#"{{"model": "m", "max_tokens": 9, "messages": [{said}]}}"#),
        bytes,
    );
});
