//! The event stream of AWS, in which Bedrock wraps the events of the model's own API: frames of a head and a payload.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::json::text;

/// Total length, length of the headers, and a checksum of both.
const PRELUDE: usize = 12;

/// The checksum at the end of a frame.
const CHECKSUM: usize = 4;

/// Takes the first frame off, as long as that is whole: its payload, and what follows.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = |at: usize| -> Option<usize> {
        let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    let (total, headers) = (length(0)?, length(4)?);
    let begin = PRELUDE.checked_add(headers)?;
    let payload = bytes.get(begin..total.checked_sub(CHECKSUM)?)?;
    Some((payload, bytes.get(total..)?))
}

/// Whether a body is such a stream: no text begins with a zero, and lengths of frames are below 16 MiB.
pub(super) fn is_stream(body: &[u8]) -> bool {
    body.len() > PRELUDE && body[0] == 0 && body[4] == 0 && frame(body).is_some()
}

/// The events that the frames hold, and whether all was understood.
pub(super) fn events(mut body: &[u8]) -> (Vec<Json>, bool) {
    let mut found = Vec::new();
    while let Some((payload, rest)) = frame(body) {
        body = rest;
        let Ok(outer) = serde_json::from_slice::<Json>(payload) else { continue };
        let inner = text(&outer, "bytes").and_then(|bytes| STANDARD.decode(bytes).ok());
        // What goes wrong is told in frames of their own, as plain JSON.
        let event = inner.map_or(Some(outer), |inner| serde_json::from_slice(&inner).ok());
        found.extend(event);
    }
    (found, body.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn framed(event: &Json) -> Vec<u8> {
        let payload = json!({"bytes": STANDARD.encode(event.to_string()), "p": "abc"}).to_string();
        let headers = b"\x0b:event-type\x07\x00\x05chunk";
        let total = PRELUDE + headers.len() + payload.len() + CHECKSUM;
        let mut frame = Vec::new();
        frame.extend((total as u32).to_be_bytes());
        frame.extend((headers.len() as u32).to_be_bytes());
        frame.extend([1, 2, 3, 4]);
        frame.extend(headers);
        frame.extend(payload.bytes());
        frame.extend([5, 6, 7, 8]);
        frame
    }

    #[test]
    fn frames_give_their_events_as_far_as_they_came() {
        let all = [json!({"type": "message_start"}), json!({"type": "message_stop"})];
        let stream: Vec<u8> = all.iter().flat_map(framed).collect();
        assert!(is_stream(&stream));
        assert_eq!(events(&stream), (all.to_vec(), true));
        let first = framed(&all[0]).len();
        for end in first..stream.len() {
            assert_eq!(events(&stream[..end]), (all[..1].to_vec(), end == first), "{end}");
        }
        for text in [&b"data: x\n\n"[..], b"{\"type\": \"message\"}", b"", &[0; 64]] {
            assert!(!is_stream(text), "{text:?}");
        }
    }
}
