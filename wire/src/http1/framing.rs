//! Where a body of HTTP/1 ends: by its length, by chunks, or with the connection (RFC 9112, 6 and 7).

use crate::fields::{self, Fields};
use crate::held::Input;
use crate::http1::head;
use crate::item::Why;
use crate::limits::{MAX_HEAD, MAX_START_LINE};

/// How a body is framed.
pub(crate) enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All that comes.
    UntilClose,
}

/// What came of taking bytes for a body.
pub(crate) enum Step<'i> {
    /// More is needed.
    More,
    /// Bytes of the body.
    Data(&'i [u8]),
    /// The body is over.
    End(Fields),
    /// This is no body.
    Bad(Why),
}

impl Framing {
    /// Of a request with this head.
    pub(crate) fn of_request(head: &Fields) -> Result<Self, Why> {
        match Self::said(head)? {
            Some(Self::UntilClose) => Err(Why::TransferCoding),
            Some(framing) => Ok(framing),
            None => Ok(Self::Length(0)),
        }
    }

    /// Of a response with this head, to a request with or without HEAD.
    pub(crate) fn of_response(head: &Fields, status: u16, to_head: bool) -> Result<Self, Why> {
        if to_head || (100..200).contains(&status) || status == 204 || status == 304 {
            return Ok(Self::Length(0));
        }
        Ok(Self::said(head)?.unwrap_or(Self::UntilClose))
    }

    /// What the head says. A transfer coding overrides a length (RFC 9112, 6.3).
    fn said(head: &Fields) -> Result<Option<Self>, Why> {
        if let Some(last) = fields::tokens(head, "transfer-encoding").last() {
            return Ok(Some(if last.eq_ignore_ascii_case(b"chunked") {
                Self::Chunked(Chunks::default())
            } else {
                Self::UntilClose
            }));
        }
        let mut length = None;
        // The same length several times is one (RFC 9110, 8.6).
        for value in fields::tokens(head, "content-length") {
            let digits = value.iter().all(u8::is_ascii_digit).then_some(value);
            let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
            let value: u64 = text.and_then(|text| text.parse().ok()).ok_or(Why::Length)?;
            if length.is_some_and(|length| length != value) {
                return Err(Why::Length);
            }
            length = Some(value);
        }
        Ok(length.map(Self::Length))
    }

    /// Takes bytes of the body from the front of `input`.
    pub(crate) fn step<'i>(&mut self, input: &mut Input<'i>) -> Step<'i> {
        match self {
            Self::Length(0) => Step::End(Fields::new()),
            Self::Length(left) => data(left, input),
            Self::UntilClose if input.is_empty() => Step::More,
            Self::UntilClose => Step::Data(input.take(usize::MAX)),
            Self::Chunked(chunks) => chunks.step(input),
        }
    }

    /// Goes on over bytes that were not captured; whether their place in the body is known.
    pub(crate) fn skip(&mut self, count: u64) -> bool {
        match self {
            Self::UntilClose => true,
            Self::Length(left) | Self::Chunked(Chunks { state: ChunkState::Data(left), .. })
                if *left >= count =>
            {
                *left -= count;
                true
            }
            _ => false,
        }
    }
}

fn data<'i>(left: &mut u64, input: &mut Input<'i>) -> Step<'i> {
    if input.is_empty() {
        return Step::More;
    }
    let taken = input.take(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= taken.len() as u64;
    Step::Data(taken)
}

/// A chunked body.
#[derive(Default)]
pub(crate) struct Chunks {
    state: ChunkState,
    /// Bytes of the line with the size so far.
    line: usize,
    size: u64,
}

#[derive(Default)]
enum ChunkState {
    /// Digits, of which there were some or none.
    #[default]
    Size,
    /// What follows the digits in their line: extensions, and spaces that some servers put there.
    Extension,
    /// So many bytes of the chunk are left.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    Trailers {
        lines: Vec<u8>,
        scanned: usize,
    },
    /// Nothing follows.
    End,
}

impl Chunks {
    fn step<'i>(&mut self, input: &mut Input<'i>) -> Step<'i> {
        loop {
            match &mut self.state {
                ChunkState::Size => {
                    let Some(&byte) = input.bytes.first() else { return Step::More };
                    if let Some(digit) = (byte as char).to_digit(16) {
                        if self.size >> 60 != 0 {
                            return Step::Bad(Why::Chunk);
                        }
                        self.size = self.size << 4 | u64::from(digit);
                        self.line += 1;
                        input.take(1);
                        if self.line > 64 {
                            return Step::Bad(Why::Chunk);
                        }
                    } else if self.line > 0 && matches!(byte, b'\r' | b'\n' | b';' | b' ' | b'\t') {
                        self.state = ChunkState::Extension;
                    } else {
                        return Step::Bad(Why::Chunk);
                    }
                }
                ChunkState::Extension => {
                    let end = memchr::memchr(b'\n', input.bytes);
                    self.line += input.take(end.map_or(usize::MAX, |end| end + 1)).len();
                    if self.line > MAX_START_LINE {
                        return Step::Bad(Why::Chunk);
                    }
                    if end.is_none() {
                        return Step::More;
                    }
                    self.state = match std::mem::take(&mut self.size) {
                        0 => ChunkState::Trailers { lines: Vec::new(), scanned: 0 },
                        size => ChunkState::Data(size),
                    };
                    self.line = 0;
                }
                ChunkState::Data(0) => self.state = ChunkState::DataEnd,
                ChunkState::Data(left) => return data(left, input),
                ChunkState::DataEnd => match input.bytes.first() {
                    None => return Step::More,
                    Some(b'\n') => {
                        input.take(1);
                        self.state = ChunkState::Size;
                        self.line = 0;
                    }
                    Some(b'\r') if self.line == 0 => {
                        input.take(1);
                        self.line = 1;
                    }
                    Some(_) => return Step::Bad(Why::Chunk),
                },
                ChunkState::Trailers { lines, scanned } => {
                    // One line at a time, so that nothing of what follows is taken.
                    let end = memchr::memchr(b'\n', input.bytes);
                    lines.extend_from_slice(input.take(end.map_or(usize::MAX, |end| end + 1)));
                    if lines.len() > MAX_HEAD {
                        return Step::Bad(Why::HeadTooLarge);
                    }
                    if end.is_none() {
                        return Step::More;
                    }
                    let is_end = *lines == b"\n" || *lines == b"\r\n";
                    if is_end || head::find_end(lines, *scanned).is_some() {
                        let trailers = head::trailers(lines);
                        self.state = ChunkState::End;
                        return trailers.map_or_else(Step::Bad, Step::End);
                    }
                    *scanned = lines.len();
                }
                ChunkState::End => return Step::More,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn lengths_must_agree() {
        let length = |list: &[(&str, &str)]| match Framing::of_request(&fields(list)) {
            Ok(Framing::Length(length)) => Ok(length),
            Ok(_) => panic!("not a length"),
            Err(why) => Err(why),
        };
        assert_eq!(length(&[]), Ok(0));
        assert_eq!(length(&[("Content-Length", "7, 7"), ("content-length", "07")]), Ok(7));
        assert_eq!(length(&[("content-length", "7"), ("content-length", "8")]), Err(Why::Length));
        assert_eq!(length(&[("content-length", "-1")]), Err(Why::Length));
        assert_eq!(length(&[("content-length", "18446744073709551616")]), Err(Why::Length));
        assert_eq!(length(&[("transfer-encoding", "gzip")]), Err(Why::TransferCoding));
    }

    /// The body and trailers of a chunked stream in pieces, or where it went wrong.
    fn chunked(pieces: &[&[u8]]) -> (Vec<u8>, Result<Option<Fields>, Why>, Vec<u8>) {
        let mut framing = Framing::Chunked(Chunks::default());
        let (mut body, mut end, mut rest) = (Vec::new(), None, Vec::new());
        for bytes in pieces {
            let mut input = Input { at: 0, offset: 0, bytes };
            while end.is_none() {
                match framing.step(&mut input) {
                    Step::More => break,
                    Step::Data(data) => body.extend_from_slice(data),
                    Step::End(trailers) => end = Some(trailers),
                    Step::Bad(why) => return (body, Err(why), input.bytes.to_vec()),
                }
            }
            rest.extend_from_slice(input.bytes);
        }
        (body, Ok(end), rest)
    }

    #[test]
    fn chunks_with_all_that_is_allowed_wherever_they_are_split() {
        let stream: &[u8] =
            b"3;name=\"a b\"\r\nabc\r\n00A \r\n0123456789\r\n1\nx\n0\r\nA: b\r\nC: d\r\n\r\nnext";
        let trailers = fields(&[("A", "b"), ("C", "d")]);
        let expected = (b"abc0123456789x".to_vec(), Ok(Some(trailers)), b"next".to_vec());
        for at in 0..=stream.len() {
            let (a, b) = stream.split_at(at);
            assert_eq!(chunked(&[a, b]), expected, "split at {at}");
        }
        assert_eq!(chunked(&stream.chunks(1).collect::<Vec<_>>()), expected);
        assert_eq!(chunked(&[b"0\r\n\r\nnext"]).1, Ok(Some(Fields::new())));
    }

    #[test]
    fn what_is_no_chunk_is_told() {
        for (stream, why) in [
            (&b"x\r\n"[..], Why::Chunk),
            (b"\r\n", Why::Chunk),
            (b"1\r\nab", Why::Chunk),
            (b"10000000000000000\r\n", Why::Chunk),
            (b"0\r\nno colon\r\n\r\n", Why::Trailers),
        ] {
            assert_eq!(chunked(&[stream]).1, Err(why));
        }
    }
}
