//! HTTP/2: streams of frames become exchanges (RFC 9113). Flow control and priorities are of no interest here.

mod frame;
mod hpack;
mod static_table;
mod stream;

use std::collections::BTreeMap;

use crate::body::Body;
use crate::held::Input;
use crate::item::{
    Context, ExchangeId, Incomplete, Item, Lost, Part, RequestHead, Role, Scheme, Version, Why,
};
use crate::limits::{MAX_START_LINE, MAX_STREAMS};
use crate::url::absolute_url;
use frame::{DEFAULT_MAX_FRAME, FrameReader, LARGEST_FRAME, Piece, find_frames};
pub(crate) use frame::{HeaderBlock, as_frames};
pub(crate) use hpack::Decoder;
pub use hpack::HpackError;
use stream::{Heads, Side, Stream};

/// What a client begins with (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The name of an error code (RFC 9113, 7).
pub(crate) fn error_name(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("unknown code")
}

/// A connection that speaks HTTP/2.
pub(crate) struct Http2 {
    role: Role,
    scheme: Scheme,
    /// The host where a request names none.
    authority: Option<Vec<u8>>,
    /// By [`Part`].
    flows: [Flow; 2],
    streams: BTreeMap<u32, Stream>,
    /// The highest stream of a client, and of a server.
    highest: [u32; 2],
    /// Streams below these were opened before the connection was joined.
    joined_at: Option<u32>,
}

/// One direction.
struct Flow {
    /// Bytes of the client's preface that are yet to come.
    preface: usize,
    frames: FrameReader,
    table: Decoder,
    /// What may hold the beginning of a frame, after a loss.
    search: Option<Vec<u8>>,
}

impl Flow {
    fn new(preface: usize) -> Self {
        let frames = FrameReader::new(DEFAULT_MAX_FRAME);
        Self { preface, frames, table: Decoder::new(), search: None }
    }

    /// One of which the beginning was not seen.
    fn joined() -> Self {
        let mut flow = Self { frames: FrameReader::new(LARGEST_FRAME), ..Self::new(0) };
        flow.table.forget();
        flow.search = Some(Vec::new());
        flow
    }
}

impl Http2 {
    pub(crate) fn new(role: Role, scheme: Scheme, authority: Option<Vec<u8>>) -> Self {
        Self {
            role,
            scheme,
            authority,
            flows: [Flow::new(PREFACE.len()), Flow::new(0)],
            streams: BTreeMap::new(),
            highest: [0; 2],
            joined_at: None,
        }
    }

    /// One of which the beginning was not seen. The first bytes of `part` are whole frames.
    pub(crate) fn joined(
        role: Role,
        scheme: Scheme,
        authority: Option<Vec<u8>>,
        part: Part,
    ) -> Self {
        let mut joined = Self {
            flows: [Flow::joined(), Flow::joined()],
            joined_at: Some(u32::MAX),
            ..Self::new(role, scheme, authority)
        };
        joined.flows[part.index()].search = None;
        joined
    }

    /// One that began as HTTP/1, where stream 1 answers a request that was sent there (RFC 7540, 3.2).
    pub(crate) fn upgraded(mut self, exchange: ExchangeId) -> Self {
        let mut stream = Stream::new(exchange);
        stream.sides[Part::Request.index()] = Side::Ended;
        self.streams.insert(1, stream);
        self.highest[0] = 1;
        self
    }

    pub(crate) fn feed(&mut self, part: Part, mut input: Input<'_>, cx: &mut Context<'_, '_>) {
        let flow = &mut self.flows[part.index()];
        if flow.preface > 0 {
            let expected = &PREFACE[PREFACE.len() - flow.preface..];
            let offset = input.offset;
            let came = input.take(flow.preface);
            flow.preface -= came.len();
            if !expected.starts_with(came) {
                self.lose(part, offset, input.at, Why::Frame("not the preface"), cx);
            }
        }
        while !input.is_empty() {
            let at = input.at;
            let mut found = Vec::new();
            if let Some(window) = &mut self.flows[part.index()].search {
                let step = input.take(MAX_START_LINE);
                window.extend_from_slice(step);
                match find_frames(window) {
                    Err(keep) => {
                        window.drain(..keep);
                        continue;
                    }
                    Ok(start) => {
                        found = window.split_off(start);
                        self.flows[part.index()].search = None;
                    }
                }
            }
            if found.is_empty() {
                self.frames(part, &mut input, cx);
            } else {
                let offset = input.offset - found.len() as u64;
                let mut rest = Input { at, offset, bytes: &found };
                self.frames(part, &mut rest, cx);
                // Place lost again: what is left is searched with what follows.
                if let Some(window) = &mut self.flows[part.index()].search {
                    window.extend_from_slice(rest.bytes);
                }
            }
        }
    }

    /// Takes frames until there are none or the place is lost.
    fn frames(&mut self, part: Part, input: &mut Input<'_>, cx: &mut Context<'_, '_>) {
        loop {
            let piece = self.flows[part.index()].frames.next(input);
            let (at, offset) = (input.at, input.offset);
            match piece {
                Piece::More => return,
                Piece::Other => {}
                Piece::Head(block) => self.head(part, block, (at, offset), cx),
                Piece::Data { stream, bytes } => {
                    let input = Input { at, offset: offset - bytes.len() as u64, bytes };
                    if let Some(stream) = self.streams.get_mut(&stream) {
                        stream.data(self.role, part, input, cx);
                    }
                }
                Piece::DataEnd { stream } => {
                    self.with_stream(stream, |stream| stream.ends(part, at, None, cx));
                }
                Piece::Reset { stream, code } => self.with_stream(stream, |stream| {
                    stream.abort(at, Incomplete::StreamReset(code), cx);
                }),
                Piece::GoAway { last, code } => {
                    // Of the streams that its receiver opened, those after `last` come to nothing (RFC 9113, 6.8).
                    let own = if part == Part::Response { 1 } else { 0 };
                    let after: Vec<_> = self.streams.range(last.saturating_add(1)..).collect();
                    let after: Vec<_> =
                        after.iter().map(|(id, _)| **id).filter(|id| id % 2 == own).collect();
                    for stream in after {
                        self.with_stream(stream, |stream| {
                            stream.abort(at, Incomplete::GoAway(code), cx);
                        });
                    }
                }
                Piece::MaxFrame(size) => {
                    let frames = &mut self.flows[part.other().index()].frames;
                    frames.max_frame = frames.max_frame.max(size);
                }
                Piece::Bad(why) => return self.lose(part, offset, at, why, cx),
            }
        }
    }

    /// Changes a stream, and drops it once both its sides have ended.
    fn with_stream(&mut self, id: u32, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.get_mut(&id) {
            change(stream);
            if stream.is_over() {
                self.streams.remove(&id);
            }
        }
    }

    fn head(
        &mut self,
        part: Part,
        block: HeaderBlock,
        (at, offset): (u64, u64),
        cx: &mut Context<'_, '_>,
    ) {
        let direction = self.role.direction(part);
        let fields = match self.flows[part.index()].table.decode(&block.bytes) {
            Ok(fields) => fields,
            Err(error) => {
                // Frames are still told apart, but what the table holds is unknown from here on.
                self.flows[part.index()].table.forget();
                let why = Why::Hpack(error);
                (cx.out)(Item::Lost(Lost { direction, offset, at, why }));
                if block.ends_stream {
                    self.with_stream(block.stream, |stream| stream.headless(part, at, cx));
                }
                return;
            }
        };
        let mut heads = Heads::new(fields, (block.first_byte, at));
        if let Some(promised) = block.promised {
            if self.open(promised, part, cx, at) {
                let request = self.request(promised, &mut heads, true, cx);
                let body = Body::new(request.exchange, Part::Request, &request.fields);
                (cx.out)(Item::Request(request));
                body.stop(at, None, cx.out);
                self.with_stream(promised, |stream| {
                    stream.sides[Part::Request.index()] = Side::Ended;
                });
            }
            return;
        }
        let id = block.stream;
        let is_known = self.streams.contains_key(&id);
        // Trailers of what is not known, or the rest of a stream that was reset.
        if !is_known && (heads.is_trailers() || !self.open(id, part, cx, at)) {
            return;
        }
        let is_first = matches!(
            self.streams.get(&id).map(|stream| &stream.sides[part.index()]),
            Some(Side::Waiting)
        );
        if is_first && part == Part::Request {
            let request = self.request(id, &mut heads, false, cx);
            self.with_stream(id, |stream| stream.asked(request, &heads, block.ends_stream, cx));
        } else if is_first {
            self.with_stream(id, |stream| stream.answered(id, heads, block.ends_stream, cx));
        } else {
            self.with_stream(id, |stream| stream.ends(part, at, Some(heads), cx));
        }
    }

    /// Makes a stream, if there was none of that number before.
    fn open(&mut self, id: u32, part: Part, cx: &mut Context<'_, '_>, at: u64) -> bool {
        if let Some(joined_at) = self.joined_at.as_mut().filter(|_| part == Part::Request) {
            *joined_at = id.min(*joined_at);
        }
        let highest = &mut self.highest[1 - (id % 2) as usize];
        let is_older = self.joined_at.is_some_and(|joined_at| id < joined_at);
        if id <= *highest && !is_older {
            return false;
        }
        *highest = id.max(*highest);
        if self.streams.len() >= MAX_STREAMS
            && let Some((_, mut oldest)) = self.streams.pop_first()
        {
            oldest.abort(at, Incomplete::TooManyStreams, cx);
        }
        let mut stream = Stream::new(cx.numbers.next());
        if is_older && part == Part::Response {
            stream.sides[Part::Request.index()] = Side::Ended;
        }
        self.streams.insert(id, stream);
        true
    }

    fn request(
        &self,
        id: u32,
        heads: &mut Heads,
        pushed: bool,
        cx: &mut Context<'_, '_>,
    ) -> RequestHead {
        let exchange = self.streams.get(&id).map(|stream| stream.exchange);
        let method = heads.pseudo(":method").map(<[u8]>::to_vec);
        let target = heads.pseudo(":path").unwrap_or_default().to_vec();
        let scheme = match heads.pseudo(":scheme") {
            Some(b"https") => Scheme::Https,
            Some(b"http") => Scheme::Http,
            _ => self.scheme,
        };
        let host = heads.pseudo(":authority").or(heads.field("host"));
        // A host that is in the request but unknown is not the one that we connected to.
        let host = host.or(self.authority.as_deref().filter(|_| heads.unknown == 0));
        let named = method.as_deref().unwrap_or_default();
        // A CONNECT with a protocol has a path (RFC 8441, 4).
        let named = if target.is_empty() { named } else { b"" };
        RequestHead {
            exchange: exchange.unwrap_or_else(|| cx.numbers.next()),
            first_byte: heads.first_byte,
            at: heads.at,
            version: Version::Http2,
            stream: Some(id),
            url: absolute_url(scheme, named, &target, host),
            method,
            target,
            fields: std::mem::take(&mut heads.fields),
            unknown_fields: heads.unknown,
            pushed,
        }
    }

    /// From here on the next frames are searched for.
    fn lose(&mut self, part: Part, offset: u64, at: u64, why: Why, cx: &mut Context<'_, '_>) {
        let flow = &mut self.flows[part.index()];
        flow.preface = 0;
        flow.frames.restart();
        flow.table.forget();
        let was_lost = flow.search.replace(Vec::new()).is_some();
        for stream in self.streams.values_mut() {
            stream.lost(part, at, cx);
        }
        if !was_lost {
            let direction = self.role.direction(part);
            (cx.out)(Item::Lost(Lost { direction, offset, at, why }));
        }
    }

    /// Bytes were not captured.
    pub(crate) fn missing(
        &mut self,
        part: Part,
        (at, offset): (u64, u64),
        count: u64,
        cx: &mut Context<'_, '_>,
    ) {
        let role = self.role;
        let flow = &mut self.flows[part.index()];
        if flow.search.is_none()
            && flow.preface == 0
            && let Some(stream) = flow.frames.skip(count)
        {
            return self.with_stream(stream, |stream| {
                stream.missing(role, part, (at, offset), count, cx);
            });
        }
        self.lose(part, offset, at, Why::Missing(count), cx);
    }

    /// A direction ended.
    pub(crate) fn end(
        &mut self,
        part: Part,
        at: u64,
        cut: Option<Incomplete>,
        cx: &mut Context<'_, '_>,
    ) {
        let cut = cut.unwrap_or(Incomplete::Closed);
        for stream in self.streams.values_mut() {
            stream.cut(part, at, cut, cx);
        }
        self.streams.retain(|_, stream| !stream.is_over());
    }
}

/// Whether a block from the middle of a connection is a client's or a server's, if it tells.
pub(crate) fn part_of(block: &HeaderBlock) -> Option<Part> {
    if block.promised.is_some() {
        return Some(Part::Response);
    }
    let mut table = Decoder::new();
    table.forget();
    let fields = table.decode(&block.bytes).ok()?;
    Heads::new(fields, (0, 0)).part()
}
