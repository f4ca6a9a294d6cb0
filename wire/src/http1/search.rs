//! The next message in bytes of which the parser doesn't know what they are.
//!
//! A candidate is what looks like a start line, wherever it stands: a body that was shorter than it said has no line end
//! before the message behind it. It counts once its whole head is sound. A body that quotes a whole head can still
//! be taken for a message, so nothing that depends on the order of messages is concluded from one that was found.

use crate::held::Input;
use crate::http1::head;
use crate::item::Part;
use crate::limits::{MAX_HEAD, MAX_START_LINE};

const MARK: &[u8] = b"HTTP/1.";

/// Methods that are recognised right behind other bytes, longest first where one ends as another.
const METHODS: [&[u8]; 14] = [
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"HEAD",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"REPORT",
    b"SEARCH",
];

/// A search in one direction.
pub(crate) struct Search {
    part: Part,
    /// What may hold the beginning of a message.
    bytes: Vec<u8>,
    /// Where that stands in its direction.
    offset: u64,
    /// Marks before this place are ruled out.
    from: usize,
    /// Bytes of the present candidate in which no end was found.
    scanned: usize,
    /// Its length when it was last checked.
    checked: usize,
    /// When the present candidate was first seen.
    seen: Option<u64>,
    /// Bytes that may still be looked at in vain.
    budget: usize,
}

/// How often a byte may be looked at on average before candidates are passed over unseen. Without a bound, bytes that
/// are all start lines would cost their length squared.
const MAX_LOOKS: usize = 64;

/// A sound head and what follows it.
pub(crate) struct Found {
    pub(crate) bytes: Vec<u8>,
    pub(crate) offset: u64,
    /// When it was first seen.
    pub(crate) first_byte: u64,
}

/// What stands at a mark.
enum Candidate {
    /// A head may begin here.
    At(usize),
    /// Too little is there to tell; what is from here on must be kept.
    Unclear(usize),
    /// None.
    None,
}

impl Search {
    pub(crate) fn new(part: Part) -> Self {
        Self {
            part,
            bytes: Vec::new(),
            offset: 0,
            from: 0,
            scanned: 0,
            checked: 0,
            seen: None,
            budget: MAX_HEAD,
        }
    }

    /// Forgets what is held: the bytes that follow don't join it.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.part);
    }

    /// Looks for a head in what came so far.
    pub(crate) fn push(&mut self, input: Input<'_>) -> Option<Found> {
        if self.bytes.is_empty() {
            self.offset = input.offset;
        }
        self.bytes.extend_from_slice(input.bytes);
        self.budget = (self.budget + MAX_LOOKS * input.bytes.len()).min(MAX_LOOKS * MAX_HEAD);
        while let Some(mark) = memchr::memmem::find(&self.bytes[self.from..], MARK) {
            let mark = self.from + mark;
            let start = match self.candidate(mark) {
                Candidate::At(start) => start,
                Candidate::Unclear(keep) => {
                    self.drop_until(keep);
                    return None;
                }
                Candidate::None => {
                    self.rule_out(mark, 0);
                    continue;
                }
            };
            let first_byte = *self.seen.get_or_insert(input.at);
            let begin = &self.bytes[start..];
            let scanned = std::mem::replace(&mut self.scanned, begin.len());
            self.from = mark;
            match head::find_end(begin, scanned) {
                Some(end) if self.is_head(&begin[..end]) => {
                    let offset = self.offset + start as u64;
                    let bytes = self.bytes.split_off(start);
                    return Some(Found { bytes, offset, first_byte });
                }
                None if begin.len() <= MAX_HEAD && self.may_be_head(start) => {
                    self.drop_until(start);
                    return None;
                }
                end => {
                    let looked_at = end.unwrap_or(self.bytes.len() - start);
                    self.rule_out(mark, looked_at);
                }
            }
        }
        let kept = match self.part {
            Part::Request => MAX_START_LINE,
            Part::Response => MARK.len(),
        };
        self.from = self.bytes.len().saturating_sub(MARK.len() - 1).max(self.from);
        if self.bytes.len() > 2 * kept {
            self.drop_until(self.bytes.len() - kept);
        }
        None
    }

    /// No message begins at this mark, as so many bytes showed.
    fn rule_out(&mut self, mark: usize, looked_at: usize) {
        let step = if self.budget >= looked_at { 1 } else { (looked_at / 2).max(1) };
        self.budget = self.budget.saturating_sub(looked_at);
        let from = (mark + step).min(self.bytes.len());
        (self.from, self.scanned, self.checked, self.seen) = (from, 0, 0, None);
    }

    fn drop_until(&mut self, keep: usize) {
        // Moving what is kept for every byte would cost more than keeping some more.
        if keep > self.bytes.len() / 2 {
            self.bytes.drain(..keep);
            self.offset += keep as u64;
            self.from = self.from.saturating_sub(keep);
        }
    }

    fn candidate(&self, mark: usize) -> Candidate {
        let after = &self.bytes[mark + MARK.len()..];
        match self.part {
            Part::Response => match after {
                [b'0' | b'1', b' ', b'1'..=b'9', b, c, b' ' | b'\r' | b'\n', ..]
                    if b.is_ascii_digit() && c.is_ascii_digit() =>
                {
                    Candidate::At(mark)
                }
                short if short.len() < 6 => Candidate::Unclear(mark),
                _ => Candidate::None,
            },
            Part::Request => {
                let Some(start) = self.request_start(mark) else { return Candidate::None };
                match after {
                    [b'0' | b'1', b'\r' | b'\n', ..] => Candidate::At(start),
                    [] | [_] => Candidate::Unclear(start),
                    _ => Candidate::None,
                }
            }
        }
    }

    /// Where the method begins in the line with this mark.
    fn request_start(&self, mark: usize) -> Option<usize> {
        let before = self.bytes[..mark].strip_suffix(b" ")?;
        let floor = before.len().saturating_sub(MAX_START_LINE);
        let target = before[floor..].iter().rposition(|byte| *byte <= b' ' || *byte == 0x7f)?;
        let space = floor + target;
        if before[space] != b' ' || space + 1 == before.len() {
            return None;
        }
        let word = before[..space]
            .iter()
            .rev()
            .take(33)
            .take_while(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
            .count();
        let begins_line = word == space || before[space - word - 1] == b'\n';
        if begins_line && (1..=32).contains(&word) {
            return Some(space - word);
        }
        let word = &before[space - word..space];
        METHODS.iter().filter(|known| word.ends_with(known)).map(|known| space - known.len()).min()
    }

    /// A start line alone is not enough: texts quote those.
    fn is_head(&self, bytes: &[u8]) -> bool {
        let fields = match self.part {
            Part::Request => head::request(bytes).map(|head| head.fields),
            Part::Response => head::response(bytes).map(|head| head.fields),
        };
        fields.is_ok_and(|fields| !fields.is_empty())
    }

    /// Whether an unfinished head is sound so far. Asked when it has doubled, which makes all checks together linear.
    fn may_be_head(&mut self, start: usize) -> bool {
        let begin = &self.bytes[start..];
        if begin.len() < 2 * self.checked {
            return true;
        }
        self.checked = begin.len();
        head::is_plausible(self.part, begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head and what follows, in pieces of `size` bytes.
    fn find(part: Part, stream: &[u8], size: usize) -> Option<(u64, Vec<u8>)> {
        let mut search = Search::new(part);
        let mut offset = 0;
        for bytes in stream.chunks(size) {
            if let Some(found) = search.push(Input { at: 1, offset, bytes }) {
                return Some((found.offset, found.bytes));
            }
            offset += bytes.len() as u64;
        }
        None
    }

    #[test]
    fn messages_are_found_behind_anything() {
        let request = b"POST /v1/x?y HTTP/1.1\r\nHost: a\r\n\r\n";
        let response = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        for garbage in [
            &b""[..],
            b"}",
            b"\0\xff\r\n",
            b"see HTTP/1.1 and HTTP/1.1 200 OK of it\n\nGET x\n",
            b"GET / HTTP/1.1\r\n{\"a\": 1}\r\n\r\nHTTP/1.1 404 \r\n{}\n\n",
            &[b'x'; 300_000],
        ] {
            for (part, head) in [(Part::Request, &request[..]), (Part::Response, response)] {
                let stream = [garbage, head].concat();
                for size in [1, 7, 1 << 20] {
                    if garbage.len() > 1000 && size == 1 {
                        continue;
                    }
                    let found = find(part, &stream, size);
                    let expected = Some((garbage.len() as u64, head.to_vec()));
                    let what = String::from_utf8_lossy(&garbage[..garbage.len().min(50)]);
                    assert!(found == expected, "{part:?} {size} {what:?}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for part in [Part::Request, Part::Response] {
            for garbage in [&b"x"[..], b"HTTP/1.", b"GET / HTTP/1.1\r\na: b", b"HTTP/1.1 200 "] {
                let garbage = garbage.repeat(1000);
                let mut search = Search::new(part);
                for round in 0..400 {
                    let offset = (round * garbage.len()) as u64;
                    assert!(search.push(Input { at: 0, offset, bytes: &garbage }).is_none());
                    assert!(search.bytes.len() <= 2 * MAX_HEAD + garbage.len());
                }
            }
        }
    }
}
