//! Frames of HTTP/2 (RFC 9113, 4 and 6), with header blocks put together and padding taken off.

use crate::held::Input;
use crate::item::Why;
use crate::limits::{MAX_HEAD, MAX_PIECE};

pub(crate) const HEADER: usize = 9;
/// Bytes of a frame's payload until a peer allows more (RFC 9113, 6.5.2).
pub(crate) const DEFAULT_MAX_FRAME: usize = 16 << 10;
/// The most that a peer can allow.
pub(crate) const LARGEST_FRAME: usize = (1 << 24) - 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

/// What came of taking bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'i> {
    /// More is needed.
    More,
    /// A whole header block.
    Head(HeaderBlock),
    /// Bytes of a DATA frame.
    Data { stream: u32, bytes: &'i [u8] },
    /// A DATA frame that ends its stream is over.
    DataEnd { stream: u32 },
    /// RST_STREAM.
    Reset { stream: u32, code: u32 },
    /// GOAWAY.
    GoAway { last: u32, code: u32 },
    /// What the sender of SETTINGS allows as the size of frames.
    MaxFrame(usize),
    /// Something that means nothing here.
    Other,
    /// No frame.
    Bad(Why),
}

/// The block of HEADERS or PUSH_PROMISE with all its continuations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderBlock {
    pub(crate) stream: u32,
    /// The stream that a PUSH_PROMISE announces.
    pub(crate) promised: Option<u32>,
    pub(crate) ends_stream: bool,
    pub(crate) bytes: Vec<u8>,
    /// When the first byte of the first frame came.
    pub(crate) first_byte: u64,
}

/// A frame's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, s, t, u, v] = *bytes;
        Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s & 0x7f, t, u, v]),
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What is wrong with it.
    fn check(&self, max_len: usize) -> Result<(), &'static str> {
        if self.len > max_len {
            return Err("longer than agreed");
        }
        let of_connection = self.stream == 0;
        let (fits, len_fits) = match self.kind {
            DATA | HEADERS | CONTINUATION => (!of_connection, true),
            PRIORITY => (!of_connection, self.len == 5),
            RST_STREAM => (!of_connection, self.len == 4),
            SETTINGS => {
                (of_connection, self.len.is_multiple_of(6) && !(self.has(ACK) && self.len > 0))
            }
            PUSH_PROMISE => (!of_connection, self.len >= 4),
            PING => (of_connection, self.len == 8),
            GOAWAY => (of_connection, self.len >= 8),
            WINDOW_UPDATE => (true, self.len == 4),
            _ => (true, true),
        };
        match (fits, len_fits) {
            (true, true) => Ok(()),
            (false, _) => Err("on the wrong stream"),
            (_, false) => Err("of the wrong length"),
        }
    }

    /// Whether these bytes are the header of a frame that real programs send, with which a search can begin.
    fn is_likely(bytes: &[u8; HEADER]) -> bool {
        let header = Self::parse(bytes);
        let flags = match header.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY,
            PUSH_PROMISE => END_HEADERS | PADDED,
            SETTINGS | PING => ACK,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE => 0,
            _ => return false,
        };
        header.flags & !flags == 0
            && bytes[5] < 0x80
            && header.check(DEFAULT_MAX_FRAME).is_ok()
            && header.stream < 1 << 24
    }
}

/// Where the first of two frames in a row begins: at `Ok`, or at `Err` or later when more has come.
pub(crate) fn find_frames(bytes: &[u8]) -> Result<usize, usize> {
    for start in 0..bytes.len() {
        let Some(first) = bytes[start..].first_chunk() else { return Err(start) };
        if !Header::is_likely(first) {
            continue;
        }
        let next = start + HEADER + Header::parse(first).len;
        match bytes.get(next..).and_then(|rest| rest.first_chunk()) {
            None => return Err(start),
            Some(second) if Header::is_likely(second) => return Ok(start),
            Some(_) => {}
        }
    }
    Err(bytes.len())
}

/// Whether a piece from the middle of a connection is whole frames, and the first header block that begins in it.
pub(crate) fn as_frames(mut bytes: &[u8]) -> Option<Option<HeaderBlock>> {
    let mut reader = FrameReader::new(LARGEST_FRAME);
    let mut head = None;
    while !bytes.is_empty() {
        let first = bytes.first_chunk()?;
        let len = HEADER + Header::parse(first).len;
        if !Header::is_likely(first) || bytes.len() < len {
            return None;
        }
        let mut input = Input { at: 0, offset: 0, bytes: &bytes[..len] };
        while head.is_none() {
            match reader.next(&mut input) {
                Piece::Head(block) => head = Some(block),
                Piece::More => break,
                Piece::Bad(_) => return None,
                _ => {}
            }
        }
        bytes = &bytes[len..];
    }
    Some(head)
}

/// Takes the frames of one direction apart.
pub(crate) struct FrameReader {
    /// An unfinished header.
    header: Vec<u8>,
    header_at: u64,
    state: State,
    /// A header block that goes on.
    block: Option<HeaderBlock>,
    /// Bytes that the peer allows in a frame.
    pub(crate) max_frame: usize,
}

enum State {
    Header,
    /// The byte that tells how much padding a DATA frame has.
    PadLength(Header),
    /// Bytes of a DATA frame are left, then padding.
    Data {
        header: Header,
        left: usize,
        padding: usize,
    },
    /// The payload of a frame that is looked at whole.
    Payload {
        header: Header,
        bytes: Vec<u8>,
    },
    /// Bytes that mean nothing here.
    Skip {
        left: usize,
    },
}

impl FrameReader {
    pub(crate) fn new(max_frame: usize) -> Self {
        Self { header: Vec::new(), header_at: 0, state: State::Header, block: None, max_frame }
    }

    /// Begins anew at a frame's header.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.max_frame.max(DEFAULT_MAX_FRAME));
    }

    /// Goes on over bytes that were not captured: the stream they belong to, if their place is known.
    pub(crate) fn skip(&mut self, count: u64) -> Option<u32> {
        match &mut self.state {
            State::Data { header, left, .. } if *left as u64 > count => {
                *left -= count as usize;
                Some(header.stream)
            }
            _ => None,
        }
    }

    /// Takes bytes from the front of `input`.
    pub(crate) fn next<'i>(&mut self, input: &mut Input<'i>) -> Piece<'i> {
        loop {
            match &mut self.state {
                State::Header => {
                    if input.is_empty() {
                        return Piece::More;
                    }
                    if self.header.is_empty() {
                        self.header_at = input.at;
                    }
                    let wanted = HEADER - self.header.len();
                    self.header.extend_from_slice(input.take(wanted));
                    let Some(bytes) = self.header.first_chunk() else { return Piece::More };
                    let header = Header::parse(bytes);
                    self.header.clear();
                    if let Err(why) = self.begin(header) {
                        return Piece::Bad(why);
                    }
                }
                State::PadLength(header) => {
                    let header = *header;
                    let Some(&padding) = input.take(1).first() else { return Piece::More };
                    let padding = usize::from(padding);
                    let Some(left) = (header.len - 1).checked_sub(padding) else {
                        return Piece::Bad(Why::Frame("more padding than payload"));
                    };
                    self.state = State::Data { header, left, padding };
                }
                State::Data { header, left: 0, padding } => {
                    let (header, left) = (*header, *padding);
                    self.state = State::Skip { left };
                    if header.has(END_STREAM) {
                        return Piece::DataEnd { stream: header.stream };
                    }
                }
                State::Data { header, left, .. } => {
                    if input.is_empty() {
                        return Piece::More;
                    }
                    let bytes = input.take((*left).min(MAX_PIECE));
                    *left -= bytes.len();
                    return Piece::Data { stream: header.stream, bytes };
                }
                State::Payload { header, bytes } => {
                    bytes.extend_from_slice(input.take(header.len - bytes.len()));
                    if bytes.len() < header.len {
                        return Piece::More;
                    }
                    let (header, payload) = (*header, std::mem::take(bytes));
                    self.state = State::Header;
                    return self.payload(header, &payload).unwrap_or_else(Piece::Bad);
                }
                State::Skip { left } => {
                    *left -= input.take(*left).len();
                    if *left > 0 {
                        return Piece::More;
                    }
                    self.state = State::Header;
                }
            }
        }
    }

    fn begin(&mut self, header: Header) -> Result<(), Why> {
        header.check(self.max_frame).map_err(Why::Frame)?;
        match &self.block {
            // Nothing may come between the frames of a block (RFC 9113, 4.3).
            Some(block) if header.kind != CONTINUATION || header.stream != block.stream => {
                return Err(Why::Frame("within a header block"));
            }
            None if header.kind == CONTINUATION => {
                return Err(Why::Frame("continues no header block"));
            }
            _ => {}
        }
        self.state = match header.kind {
            DATA if header.has(PADDED) && header.len == 0 => {
                return Err(Why::Frame("of the wrong length"));
            }
            DATA if header.has(PADDED) => State::PadLength(header),
            DATA => State::Data { header, left: header.len, padding: 0 },
            HEADERS | PUSH_PROMISE | CONTINUATION | RST_STREAM | SETTINGS | GOAWAY => {
                let held = self.block.as_ref().map_or(0, |block| block.bytes.len());
                if held + header.len > MAX_HEAD {
                    return Err(Why::HeadTooLarge);
                }
                State::Payload { header, bytes: Vec::with_capacity(header.len.min(4096)) }
            }
            _ => State::Skip { left: header.len },
        };
        Ok(())
    }

    fn payload<'i>(&mut self, header: Header, payload: &[u8]) -> Result<Piece<'i>, Why> {
        let u32_at = |at: usize| {
            let bytes = payload.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        match header.kind {
            RST_STREAM => return Ok(Piece::Reset { stream: header.stream, code: u32_at(0) }),
            GOAWAY => return Ok(Piece::GoAway { last: u32_at(0) & 0x7fff_ffff, code: u32_at(4) }),
            SETTINGS => {
                const MAX_FRAME_SIZE: [u8; 2] = [0, 5];
                let mut sizes =
                    payload.chunks_exact(6).filter(|entry| entry[..2] == MAX_FRAME_SIZE);
                let size = sizes.next_back().and_then(|entry| entry[2..].first_chunk());
                return Ok(size.map_or(Piece::Other, |size| {
                    Piece::MaxFrame((u32::from_be_bytes(*size) as usize).min(LARGEST_FRAME))
                }));
            }
            CONTINUATION => {
                if let Some(block) = &mut self.block {
                    block.bytes.extend_from_slice(payload);
                }
            }
            _ => {
                let short = Why::Frame("of the wrong length");
                let mut content = payload;
                if header.has(PADDED) {
                    let (&padding, rest) = content.split_first().ok_or(short.clone())?;
                    let left = rest.len().checked_sub(usize::from(padding));
                    content = &rest[..left.ok_or(Why::Frame("more padding than payload"))?];
                }
                let mut block = HeaderBlock {
                    stream: header.stream,
                    first_byte: self.header_at,
                    ..HeaderBlock::default()
                };
                let extra = if header.kind == PUSH_PROMISE {
                    4
                } else if header.has(WITH_PRIORITY) {
                    5
                } else {
                    0
                };
                let (extra, bytes) = content.split_at_checked(extra).ok_or(short)?;
                if let Some(&promised) = extra.first_chunk().filter(|_| extra.len() == 4) {
                    block.promised = Some(u32::from_be_bytes(promised) & 0x7fff_ffff);
                } else {
                    block.ends_stream = header.has(END_STREAM);
                }
                block.bytes = bytes.to_vec();
                self.block = Some(block);
            }
        }
        match &mut self.block {
            Some(_) if !header.has(END_HEADERS) => Ok(Piece::Other),
            block => Ok(block.take().map_or(Piece::Other, Piece::Head)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = FrameReader::new(DEFAULT_MAX_FRAME);
        let mut found = Vec::new();
        let mut data = Vec::new();
        for bytes in pieces {
            let mut input = Input { at: 0, offset: 0, bytes };
            loop {
                match reader.next(&mut input) {
                    Piece::More => break,
                    Piece::Data { bytes, .. } => data.extend_from_slice(bytes),
                    Piece::Bad(why) => {
                        found.push(format!("{why}"));
                        return found;
                    }
                    Piece::DataEnd { stream } => {
                        found.push(format!("{stream}: {}", String::from_utf8_lossy(&data)));
                    }
                    other => found.push(format!("{other:?}")),
                }
            }
        }
        found
    }

    #[test]
    fn frames_are_the_same_wherever_they_are_split() {
        let padded = [&[2][..], b"ab", &[0, 0]].concat();
        let stream = [
            frame(SETTINGS, 0, 0, &[0, 5, 0, 1, 0, 0, 0, 3, 0, 0, 0, 9]),
            frame(SETTINGS, ACK, 0, &[]),
            frame(HEADERS, PADDED | WITH_PRIORITY, 1, &[1, 0, 0, 0, 0, 9, 0x82, 0]),
            frame(CONTINUATION, 0, 1, &[]),
            frame(CONTINUATION, END_HEADERS, 1, &[0x84]),
            frame(DATA, PADDED, 1, &padded),
            frame(0xb, 0xff, 0, b"unknown"),
            frame(PING, 0, 0, &[0; 8]),
            frame(DATA, END_STREAM, 1, b"cd"),
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]),
            frame(RST_STREAM, 0, 2, &[0, 0, 0, 8]),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 2, b'x']),
        ]
        .concat();
        let whole = read(&[&stream]);
        let has = |part: &str| whole.iter().any(|piece| piece.contains(part));
        assert!(has("MaxFrame(65536)") && has("bytes: [130, 132]") && has("1: abcd"), "{whole:?}");
        assert!(has("promised: Some(2)") && has("code: 8") && has("GoAway { last: 1, code: 2 }"));
        for at in 0..=stream.len() {
            let (a, b) = stream.split_at(at);
            assert_eq!(read(&[a, b]), whole, "split at {at}");
        }
        assert_eq!(read(&stream.chunks(1).collect::<Vec<_>>()), whole);
        assert!(matches!(as_frames(&stream[..30]), Some(None)));
        assert_eq!(find_frames(&[b"garb\0age", &stream[..]].concat()), Ok(8));
    }

    #[test]
    fn what_is_no_frame_is_told() {
        for (frame, why) in [
            (frame(DATA, 0, 0, b""), "on the wrong stream"),
            (frame(PING, 0, 0, b"1"), "of the wrong length"),
            (frame(DATA, PADDED, 1, &[2, 0]), "more padding than payload"),
            (frame(HEADERS, PADDED, 1, &[2, 0]), "more padding than payload"),
            (frame(HEADERS, WITH_PRIORITY, 1, &[2, 0]), "of the wrong length"),
            (frame(CONTINUATION, 0, 1, &[]), "continues no header block"),
            (b"HTTP/1.1 ".to_vec(), "longer than agreed"),
            ([frame(HEADERS, 0, 1, &[]), frame(DATA, 0, 1, b"")].concat(), "within a header block"),
        ] {
            let told = read(&[&frame]).pop().unwrap();
            assert_eq!(told, format!("malformed HTTP/2 frame: {why}"));
        }
    }
}
