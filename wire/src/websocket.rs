//! WebSocket: frames to messages, with permessage-deflate (RFC 6455, RFC 7692).

use std::borrow::Cow;

use flate2::Decompress;

use crate::coding::{Inflated, inflate_all};
use crate::fields::{self, Fields};
use crate::held::Input;
use crate::item::{Direction, ExchangeId, Incomplete, Item, Lost, Part, Role, Sink, Why};
use crate::limits::MAX_PIECE;

/// What a message is (RFC 6455, 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Text, in UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// The end: a code of two bytes and a reason, or nothing.
    Close,
    /// A ping.
    Ping,
    /// Its answer.
    Pong,
}

/// A piece of a message. Close, ping and pong come whole, perhaps between the pieces of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePiece<'a> {
    /// When the first byte of the message came, in the caller's nanoseconds.
    pub first_byte: u64,
    /// When the last byte of this piece came.
    pub at: u64,
    /// What the message is.
    pub kind: MessageKind,
    /// Its bytes, unmasked and decompressed; at most [`MAX_PIECE`].
    pub bytes: Cow<'a, [u8]>,
    /// This piece, which may be empty, is the last: bytes of the message on the wire, without frame headers.
    pub last: Option<u64>,
    /// In the last piece: why the message is not whole, where it isn't.
    pub incomplete: Option<Incomplete>,
}

impl MessagePiece<'_> {
    /// The same with bytes of its own.
    pub fn into_owned(self) -> MessagePiece<'static> {
        MessagePiece { bytes: Cow::Owned(self.bytes.into_owned()), ..self }
    }
}

/// A connection, or an HTTP/2 stream, that speaks WebSocket.
pub(crate) struct WebSocket {
    exchange: ExchangeId,
    readers: [Reader; 2],
}

impl WebSocket {
    /// By the fields of the response that agreed to it.
    pub(crate) fn new(exchange: ExchangeId, response: &Fields) -> Self {
        let reader = |part| Reader::new(part, Deflate::agreed(response, part));
        Self { exchange, readers: [reader(Part::Request), reader(Part::Response)] }
    }

    pub(crate) fn feed(&mut self, role: Role, part: Part, input: Input<'_>, out: &mut Sink<'_>) {
        let exchange = self.exchange;
        let direction = role.direction(part);
        self.readers[part.index()].feed(
            input,
            &mut |piece| out(Item::Message { exchange, part, piece }),
            direction,
        );
        if let Some(lost) = self.readers[part.index()].told.take() {
            out(Item::Lost(lost));
        }
    }

    /// Bytes were not captured.
    pub(crate) fn missing(
        &mut self,
        role: Role,
        part: Part,
        (at, offset): (u64, u64),
        count: u64,
        out: &mut Sink<'_>,
    ) {
        let exchange = self.exchange;
        let reader = &mut self.readers[part.index()];
        if reader.skip(count) {
            return;
        }
        let emit = &mut |piece: MessagePiece<'_>| out(Item::Message { exchange, part, piece });
        reader.lose(offset, at, Why::Missing(count), role.direction(part), emit);
        if let Some(lost) = reader.told.take() {
            out(Item::Lost(lost));
        }
    }

    /// Something was missed, as was said already.
    pub(crate) fn lost(&mut self, part: Part, at: u64, out: &mut Sink<'_>) {
        let exchange = self.exchange;
        self.readers[part.index()]
            .lost(at, &mut |piece| out(Item::Message { exchange, part, piece }));
    }

    /// A direction ended.
    pub(crate) fn end(&mut self, part: Part, at: u64, cut: Option<Incomplete>, out: &mut Sink<'_>) {
        let exchange = self.exchange;
        let cut = cut.unwrap_or(Incomplete::Closed);
        self.readers[part.index()]
            .stop(at, cut, &mut |piece| out(Item::Message { exchange, part, piece }));
    }
}

type Emit<'e> = dyn FnMut(MessagePiece<'_>) + 'e;

/// One direction.
struct Reader {
    is_masked: bool,
    /// An unfinished frame header.
    header: Vec<u8>,
    header_at: u64,
    frame: Option<Frame>,
    message: Option<Message>,
    control: Vec<u8>,
    deflate: Option<Deflate>,
    is_lost: bool,
    told: Option<Lost>,
}

/// A frame of which the header is there.
#[derive(Clone, Copy, Debug)]
struct Frame {
    is_final: bool,
    is_compressed: bool,
    opcode: u8,
    left: u64,
    mask: [u8; 4],
    /// Bytes of the mask's period that are used.
    phase: usize,
    first_byte: u64,
}

/// A message of which a frame is there.
struct Message {
    kind: MessageKind,
    is_compressed: bool,
    first_byte: u64,
    wire_len: u64,
    missing: u64,
    incomplete: Option<Incomplete>,
}

impl Frame {
    /// The header at the front and its length, `None` if it is unfinished.
    fn parse(bytes: &[u8], is_masked: bool) -> Result<Option<(Self, usize)>, &'static str> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x30 != 0 {
            return Err("reserved bits");
        }
        let opcode = first & 0x0f;
        let (is_final, is_compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        if !matches!(opcode, 0..=2 | 8..=10) {
            return Err("unknown opcode");
        }
        if is_compressed && !matches!(opcode, 1 | 2) {
            return Err("compressed in the middle");
        }
        if (second & 0x80 != 0) != is_masked {
            return Err("masked by the wrong side");
        }
        let len_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if opcode >= 8 && (len_bytes > 0 || !is_final) {
            return Err("long or fragmented control frame");
        }
        let header = 2 + len_bytes + if is_masked { 4 } else { 0 };
        if bytes.len() < header {
            return Ok(None);
        }
        let extended = rest[..len_bytes].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let left = match len_bytes {
            0 => u64::from(second & 0x7f),
            2 if extended < 126 => return Err("length longer than needed"),
            8 if !(1 << 16..1 << 63).contains(&extended) => return Err("impossible length"),
            _ => extended,
        };
        let mask = rest[len_bytes..].first_chunk().copied().filter(|_| is_masked);
        let mask = mask.unwrap_or_default();
        let frame = Self { is_final, is_compressed, opcode, left, mask, phase: 0, first_byte: 0 };
        Ok(Some((frame, header)))
    }

    /// Whether these bytes are whole frames, the first of which begins a message.
    fn are_frames(mut bytes: &[u8], is_masked: bool) -> bool {
        if bytes.first().is_none_or(|first| first & 0x0f == 0) {
            return false;
        }
        while !bytes.is_empty() {
            let Ok(Some((frame, header))) = Self::parse(bytes, is_masked) else { return false };
            let len = usize::try_from(frame.left).unwrap_or(usize::MAX).saturating_add(header);
            let Some(rest) = bytes.get(len..) else { return false };
            bytes = rest;
        }
        true
    }

    fn unmask(&mut self, bytes: &[u8], into: &mut Vec<u8>) {
        into.clear();
        let mut mask = self.mask;
        mask.rotate_left(self.phase);
        into.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.phase = (self.phase + bytes.len()) % 4;
    }
}

impl Reader {
    fn new(part: Part, deflate: Option<Deflate>) -> Self {
        Self {
            is_masked: part == Part::Request,
            header: Vec::new(),
            header_at: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            deflate,
            is_lost: false,
            told: None,
        }
    }

    fn feed(&mut self, mut input: Input<'_>, emit: &mut Emit<'_>, direction: Direction) {
        if self.is_lost && !input.is_empty() {
            // Nothing marks a frame's beginning. A piece that holds whole frames and nothing else begins with one.
            if !Frame::are_frames(input.bytes, self.is_masked) {
                return;
            }
            self.is_lost = false;
        }
        let mut scratch = Vec::new();
        while !input.is_empty() {
            let Some(frame) = &mut self.frame else {
                let start = input.offset - self.header.len() as u64;
                if self.header.is_empty() {
                    self.header_at = input.at;
                }
                self.header.extend_from_slice(input.take(1));
                let begun = match Frame::parse(&self.header, self.is_masked) {
                    Ok(None) => continue,
                    Ok(Some((frame, _))) => {
                        self.header.clear();
                        self.begin(Frame { first_byte: self.header_at, ..frame }, input.at, emit)
                    }
                    Err(why) => Err(why),
                };
                if let Err(why) = begun {
                    return self.lose(start, input.at, Why::WebSocket(why), direction, emit);
                }
                continue;
            };
            let len = usize::try_from(frame.left).unwrap_or(usize::MAX).min(MAX_PIECE);
            let mut bytes = input.take(len);
            frame.left -= bytes.len() as u64;
            if self.is_masked {
                frame.unmask(bytes, &mut scratch);
                bytes = &scratch;
            }
            let frame = *frame;
            if frame.opcode >= 8 {
                self.control.extend_from_slice(bytes);
            } else {
                self.payload(bytes, input.at, emit);
            }
            if frame.left == 0 {
                self.frame_end(frame, input.at, emit);
            }
        }
    }

    fn begin(&mut self, frame: Frame, at: u64, emit: &mut Emit<'_>) -> Result<(), &'static str> {
        if frame.opcode < 8 {
            match (&self.message, frame.opcode) {
                (None, 0) => return Err("continues no message"),
                (Some(_), 1..) => return Err("message within a message"),
                _ => {}
            }
            if frame.is_compressed && self.deflate.is_none() {
                return Err("compressed though that was not agreed");
            }
            if self.message.is_none() {
                let kind = if frame.opcode == 1 { MessageKind::Text } else { MessageKind::Binary };
                let is_broken = self.deflate.as_ref().is_some_and(|deflate| deflate.is_broken);
                let incomplete = Incomplete::Undecodable;
                self.message = Some(Message {
                    kind,
                    is_compressed: frame.is_compressed,
                    first_byte: frame.first_byte,
                    wire_len: 0,
                    missing: 0,
                    incomplete: (frame.is_compressed && is_broken).then_some(incomplete),
                });
            }
        }
        if frame.left == 0 {
            self.frame_end(frame, at, emit);
        } else {
            self.frame = Some(frame);
        }
        Ok(())
    }

    fn payload(&mut self, bytes: &[u8], at: u64, emit: &mut Emit<'_>) {
        let Some(message) = &mut self.message else { return };
        message.wire_len += bytes.len() as u64;
        inflate_into(message, self.deflate.as_mut(), bytes, at, emit);
    }

    fn frame_end(&mut self, frame: Frame, at: u64, emit: &mut Emit<'_>) {
        self.frame = None;
        let first_byte = frame.first_byte;
        if frame.opcode >= 8 {
            let kind = match frame.opcode {
                8 => MessageKind::Close,
                9 => MessageKind::Ping,
                _ => MessageKind::Pong,
            };
            let last = Some(self.control.len() as u64);
            let bytes = Cow::Borrowed(&self.control[..]);
            emit(MessagePiece { first_byte, at, kind, bytes, last, incomplete: None });
            self.control.clear();
        } else if frame.is_final {
            if let Some(message) = self.message.as_mut().filter(|message| message.is_compressed) {
                // What the sender took away (RFC 7692, 7.2.2).
                inflate_into(message, self.deflate.as_mut(), &[0, 0, 0xff, 0xff], at, emit);
            }
            if let Some(deflate) = &mut self.deflate {
                deflate.message_end();
            }
            self.finish(at, None, emit);
        }
    }

    /// Gives the last piece of the open message.
    fn finish(&mut self, at: u64, incomplete: Option<Incomplete>, emit: &mut Emit<'_>) {
        if let Some(message) = self.message.take() {
            let Message { kind, first_byte, wire_len, .. } = message;
            let incomplete = message.incomplete.or(incomplete);
            let bytes = Cow::Borrowed(&b""[..]);
            let last = Some(wire_len);
            emit(MessagePiece { first_byte, at, kind, bytes, last, incomplete });
        }
    }

    /// Nothing follows.
    fn stop(&mut self, at: u64, why: Incomplete, emit: &mut Emit<'_>) {
        self.finish(at, Some(why), emit);
        self.header.clear();
        self.control.clear();
        self.frame = None;
    }

    fn lose(&mut self, offset: u64, at: u64, why: Why, direction: Direction, emit: &mut Emit<'_>) {
        if !self.is_lost {
            self.lost(at, emit);
            self.told = Some(Lost { direction, offset, at, why });
        }
    }

    /// The next frame is to be found, and what later messages may refer to is not known.
    fn lost(&mut self, at: u64, emit: &mut Emit<'_>) {
        self.stop(at, Incomplete::Lost, emit);
        self.is_lost = true;
        if let Some(deflate) = &mut self.deflate {
            deflate.is_broken = true;
            deflate.message_end();
        }
    }

    /// Goes on over bytes of a message that were not captured; whether their place is known.
    fn skip(&mut self, count: u64) -> bool {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else {
            return self.is_lost;
        };
        if frame.left <= count || frame.opcode >= 8 {
            return false;
        }
        frame.left -= count;
        frame.phase = ((frame.phase as u64 + count) % 4) as usize;
        message.wire_len += count;
        message.missing += count;
        message.incomplete = Some(Incomplete::Missing(message.missing));
        if let Some(deflate) = self.deflate.as_mut().filter(|_| message.is_compressed) {
            deflate.is_broken = true;
        }
        true
    }
}

/// Gives bytes of a message, decompressed if they are compressed and can be.
fn inflate_into(
    message: &mut Message,
    deflate: Option<&mut Deflate>,
    bytes: &[u8],
    at: u64,
    emit: &mut Emit<'_>,
) {
    let Message { kind, first_byte, .. } = *message;
    let mut give = |bytes: &[u8]| {
        if !bytes.is_empty() {
            let bytes = Cow::Borrowed(bytes);
            let piece = MessagePiece { first_byte, at, kind, bytes, last: None, incomplete: None };
            emit(piece);
        }
    };
    match deflate {
        Some(deflate) if message.is_compressed => {
            if deflate.is_broken {
                return;
            }
            if !deflate.push(bytes, &mut give) {
                message.incomplete.get_or_insert(Incomplete::Undecodable);
            }
        }
        _ => give(bytes),
    }
}

/// One direction of permessage-deflate.
struct Deflate {
    inflate: Box<Decompress>,
    output: Vec<u8>,
    /// Each message begins anew (RFC 7692, 7.1.1).
    no_context_takeover: bool,
    /// What messages refer to is not known.
    is_broken: bool,
}

impl Deflate {
    /// What the server agreed to for what this side sends.
    fn agreed(response: &Fields, part: Part) -> Option<Self> {
        let agreed =
            fields::tokens(response, "sec-websocket-extensions").find_map(|extension| {
                let mut parts = extension.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                let is_deflate = parts.next()?.eq_ignore_ascii_case(b"permessage-deflate");
                is_deflate.then(|| parts.collect::<Vec<_>>())
            })?;
        let name: &[u8] = match part {
            Part::Request => b"client_no_context_takeover",
            Part::Response => b"server_no_context_takeover",
        };
        Some(Self {
            inflate: Box::new(Decompress::new(false)),
            output: vec![0; 16 << 10],
            no_context_takeover: agreed
                .iter()
                .any(|parameter| parameter.eq_ignore_ascii_case(name)),
            is_broken: false,
        })
    }

    /// Decompresses; false where that is not possible.
    fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) -> bool {
        let mut at = 0;
        loop {
            match inflate_all(&mut self.inflate, bytes, &mut at, &mut self.output, out) {
                Inflated::More => return true,
                // A sender may end a block for good and begin another (RFC 7692, 7.2.3.5).
                Inflated::End => {
                    self.inflate.reset(false);
                    if at == bytes.len() {
                        return true;
                    }
                }
                Inflated::Malformed => {
                    self.is_broken = true;
                    return false;
                }
            }
        }
    }

    fn message_end(&mut self) {
        if self.no_context_takeover {
            self.inflate.reset(false);
            self.is_broken = false;
        }
    }
}
