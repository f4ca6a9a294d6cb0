//! The JSON documents of a body: one, one per event of a stream, one per line, or the elements of an array that a
//! stream never closed.

use serde_json::Value as Json;

use super::aws_stream;
use crate::sse::EventParser;

/// What a body held.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Documents {
    /// The documents, in order.
    pub found: Vec<Json>,
    /// All of it was understood.
    pub sound: bool,
}

/// Takes a body apart. What is no JSON is left out, and said.
pub(super) fn documents(body: &[u8], is_event_stream: bool) -> Documents {
    if aws_stream::is_stream(body) {
        let (found, sound) = aws_stream::events(body);
        return Documents { found, sound };
    }
    let begin = body.trim_ascii_start();
    // A server may forget to name the type of its stream.
    let looks_like_events =
        [&b"data:"[..], b"event:", b": ", b":\n"].iter().any(|b| begin.starts_with(b));
    if is_event_stream || looks_like_events { events(body) } else { plain(body) }
}

/// The data of each event. An event that was cut off by the end is none, as the standard wants it.
fn events(body: &[u8]) -> Documents {
    let mut documents = Documents { found: Vec::new(), sound: true };
    EventParser::default().push(0, body, &mut |event| {
        if event.data.trim_ascii() == b"[DONE]" {
            return;
        }
        match serde_json::from_slice(&event.data) {
            Ok(json) => documents.found.push(json),
            Err(_) => documents.sound = false,
        }
    });
    if documents.found.is_empty() && !body.trim_ascii().is_empty() {
        // An error comes as JSON where a stream was announced.
        let whole = plain(body);
        if whole.sound {
            return whole;
        }
    }
    documents
}

/// One document, lines of them, or an array of them, which may have been cut off.
fn plain(body: &[u8]) -> Documents {
    if let Ok(json) = serde_json::from_slice(body) {
        let found = match json {
            Json::Array(elements) => elements,
            json => vec![json],
        };
        return Documents { found, sound: true };
    }
    let mut found = Vec::new();
    let mut rest = body.trim_ascii_start();
    let is_array = rest.starts_with(b"[");
    rest = rest.strip_prefix(b"[").unwrap_or(rest);
    loop {
        rest = rest.trim_ascii_start();
        if is_array {
            rest = rest.strip_prefix(b",").unwrap_or(rest);
        }
        let mut stream = serde_json::Deserializer::from_slice(rest).into_iter::<Json>();
        match stream.next() {
            Some(Ok(json)) => {
                found.push(json);
                rest = &rest[stream.byte_offset()..];
            }
            Some(Err(_)) => return Documents { found, sound: false },
            None => return Documents { found, sound: !is_array },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_gives_its_documents() {
        let two = vec![json!({"a": 1}), json!({"a": 2})];
        for (body, sound) in [
            ("{\"a\":1}\n{\"a\":2}\n", true),
            ("[{\"a\":1},\r\n{\"a\":2}]", true),
            ("[{\"a\":1},\n{\"a\":2}", false),
            ("[{\"a\":1},\n{\"a\":2},{\"a\":", false),
            ("{\"a\":1}\n{\"a\":2}\n{\"a", false),
            ("data: {\"a\":1}\n\nevent: x\ndata: {\"a\":2}\n\ndata: [DONE]\n\n", true),
            ("data: {\"a\":1}\n\ndata: {\"a\":2}\n\ndata: {\"a\":3}", true),
            ("data: {\"a\":1}\n\ndata: {\n\ndata: {\"a\":2}\n\n", false),
        ] {
            let expected = Documents { found: two.clone(), sound };
            assert_eq!(documents(body.as_bytes(), false), expected, "{body:?}");
        }
        let error = documents(b"{\"error\": \"overloaded\"}", true);
        assert_eq!(error.found, [json!({"error": "overloaded"})]);
        assert_eq!(documents(b"", true).found, [Json::Null; 0]);
        assert!(!documents(b"<html>", false).sound);
    }
}
