//! Secrets that are written in pieces: the end of a stream that may be the start of a secret waits for what follows.

use super::{Redactor, scan};

/// Most bytes that wait; beyond it, what there is is redacted and let go.
const MAX_HELD: usize = 16 * 1024;
/// How far back from the end a name or a scheme may announce a value.
const MAX_LINE: usize = 4096;

/// One direction of a connection or one descriptor of a terminal.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    held: Vec<u8>,
}

impl Stream {
    /// Takes the next piece; returns what can be written, redacted, which may be nothing.
    pub fn push(&mut self, redactor: &Redactor, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let ready = self.held.len() - hold_back(&self.held);
        let out = redactor.text(&self.held[..ready]).into_owned();
        self.held.drain(..ready);
        out
    }

    /// What still waits, redacted; the stream is then as new.
    pub fn finish(&mut self, redactor: &Redactor) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        redactor.text(&held).into_owned()
    }

    /// Bytes that wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// How many bytes at the end of `text` may belong to a secret whose rest has not come yet.
pub(super) fn hold_back(text: &[u8]) -> usize {
    let from = text.len().saturating_sub(MAX_HELD);
    let tail = &text[from..];
    let held = open_key_block(tail).unwrap_or(0).max(open_line(tail));
    // Never cut a secret that is already whole.
    let cut = text.len() - held;
    match scan::find(text).iter().find(|f| f.start < cut && cut < f.end) {
        Some(found) if text.len() - found.start <= MAX_HELD => text.len() - found.start,
        Some(_) => 0,
        None => held,
    }
}

/// Bytes from the start of a private key block that has not ended.
fn open_key_block(tail: &[u8]) -> Option<usize> {
    let begin = tail.windows(11).rposition(|w| w == b"-----BEGIN ")?;
    let block = &tail[begin..];
    let key = block.windows(11).take(50).any(|w| w == b"PRIVATE KEY") || block.len() < 60;
    let ended = block
        .windows(9)
        .position(|w| w == b"-----END ")
        .is_some_and(|end| block[end + 9..].windows(5).any(|w| w == b"-----"));
    (key && !ended).then_some(block.len())
}

/// Bytes of the last word, or of the last line where something on it may announce a value.
fn open_line(tail: &[u8]) -> usize {
    let line_start = tail.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let line = &tail[line_start.max(tail.len().saturating_sub(MAX_LINE))..];
    if line.is_empty() {
        return 0;
    }
    if scan::announces(line) {
        return line.len();
    }
    let word = line.iter().rev().take_while(|b| !b.is_ascii_whitespace()).count();
    // A flag or a scheme stands before the word it announces.
    let before = line.len() - word;
    let blank = line[..before].iter().rev().take_while(|b| b.is_ascii_whitespace()).count();
    let previous = line[..before - blank]
        .iter()
        .rev()
        .take(16)
        .take_while(|b| !b.is_ascii_whitespace())
        .count();
    word + blank + previous
}
