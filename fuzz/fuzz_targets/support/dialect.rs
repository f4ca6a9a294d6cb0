//! What the targets of all dialects do: requests and responses made of the input, to one tracker.

use agentrec_wire::llm::Tracker;

/// The input is a mode and documents apart by NUL: requests (where `request` makes a body of them) and responses in turn.
pub fn run(url: &str, request: fn(&str) -> String, bytes: &[u8]) {
    let Some((&mode, rest)) = bytes.split_first() else { return };
    let mut tracker = Tracker::default();
    let mut pieces = rest.split(|byte| *byte == 0);
    while let Some(asked) = pieces.next() {
        let plain = tracker.request("POST", url, asked);
        // Most input is no sound body: what it says goes into one.
        let body = request(&String::from_utf8_lossy(asked));
        let made = tracker.request("POST", url, body.as_bytes());
        let answer = pieces.next().unwrap_or_default();
        let status = if mode & 4 == 0 { Some(200) } else { Some(529) };
        for asked in [plain, made].into_iter().flatten() {
            let told = tracker.response(asked.id, status, answer, mode & 1 != 0, mode & 2 != 0);
            assert_eq!(told.conversation, asked.conversation);
        }
    }
}
