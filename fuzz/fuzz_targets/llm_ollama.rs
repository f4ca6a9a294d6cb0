//! Any bytes as requests and responses of Ollama.
//!
//! `cargo +nightly fuzz run llm_ollama`
#![no_main]

#[path = "support/dialect.rs"]
mod dialect;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dialect::run(
        "http://m/api/chat",
        |said| format!(r#"{{"model": "m", "messages": [{said}]}}"#),
        bytes,
    );
});
