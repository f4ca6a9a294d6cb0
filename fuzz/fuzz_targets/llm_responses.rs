//! Any bytes as requests and responses of OpenAI responses over HTTP.
//!
//! `cargo +nightly fuzz run llm_responses`
#![no_main]

#[path = "support/dialect.rs"]
mod dialect;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dialect::run(
        "http://m/v1/responses",
        |said| format!(r#"{{"model": "m", "input": [{said}]}}"#),
        bytes,
    );
});
