//! Machine output: bytes stay bytes.

use agentrec_trace::{Bytes, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// `{"text": …}` where the bytes are UTF-8, else `{"bytes": base64}`: nothing is lost.
pub fn bytes(bytes: &[u8]) -> serde_json::Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "bytes": STANDARD.encode(bytes) }),
    }
}

/// A list of byte strings.
pub fn list<'a, 'b: 'a>(list: impl IntoIterator<Item = &'a Bytes<'b>>) -> serde_json::Value {
    list.into_iter().map(|item| bytes(item)).collect()
}

/// A structured value of the agent.
pub fn value(value: &Value) -> serde_json::Value {
    agentrec_trace::json::from_value(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_only_where_that_loses_nothing() {
        assert_eq!(bytes("ä".as_bytes()), json!({ "text": "ä" }));
        assert_eq!(bytes(b"\xff"), json!({ "bytes": "/w==" }));
    }
}
