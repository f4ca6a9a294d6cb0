//! Any bytes as requests and responses of Gemini.
//!
//! `cargo +nightly fuzz run llm_gemini`
#![no_main]

#[path = "support/dialect.rs"]
mod dialect;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dialect::run(
        "http://m/v1beta/models/m:streamGenerateContent",
        |said| format!(r#"{{"contents": [{said}]}}"#),
        bytes,
    );
});
