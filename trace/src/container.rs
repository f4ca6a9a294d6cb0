//! The file around the records: header, zstd frames, seal and seek table.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use zstd::zstd_safe;

use crate::error::{Error, Result};
use crate::limits::{MAX_FRAME, MAX_FRAMES};
use crate::msgpack::Cursor;

/// The version that this crate writes.
pub const FORMAT_VERSION: u32 = 1;

/// Magic number of the skippable frames that are ours: header and seal.
const SKIPPABLE: u32 = 0x184D_2A5A;
/// Magic number of the skippable frame that holds the seek table, as the seekable format fixes it.
const SEEK_TABLE: u32 = 0x184D_2A5E;
const SEEK_TABLE_FOOTER: u32 = 0x8F92_EAB1;
const ZSTD: u32 = 0xFD2F_B528;

const HEADER_TAG: &[u8; 8] = b"agentrec";
const SEAL_TAG: &[u8; 8] = b"agrcseal";
/// Bytes of the header frame.
pub(crate) const HEADER_LEN: u64 = 20;
/// Bytes of a seal frame at most.
pub(crate) const MAX_SEAL: u32 = 1024;

/// The last word on a trace: what it holds, and the hash of all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seal {
    /// BLAKE3 of all bytes before the seal.
    pub hash: [u8; 32],
    /// How many bytes those are.
    pub bytes: u64,
    /// Zstd frames, those of the index included.
    pub frames: u64,
    /// Position of the first frame of the index among them; equals `frames` where there is none.
    pub index: u64,
    /// Events.
    pub events: u64,
    /// Objects.
    pub objects: u64,
    /// Chunks.
    pub chunks: u64,
}

impl Seal {
    /// The hash in hexadecimal, as it is printed.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.hash).to_hex().to_string()
    }
}

fn skippable(magic: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.extend_from_slice(&magic.to_le_bytes());
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The header frame.
pub(crate) fn encode_header() -> Vec<u8> {
    let mut payload = HEADER_TAG.to_vec();
    payload.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    skippable(SKIPPABLE, &payload)
}

/// Reads the header; `None` where the bytes end inside it.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<Option<u32>> {
    let expected = encode_header();
    let fixed = expected.len() - 4;
    let known = bytes.len().min(fixed);
    if bytes[..known] != expected[..known] {
        return Err(Error::NotATrace("it does not begin with the header of one".to_owned()));
    }
    let Some(version) = bytes.get(fixed..).and_then(|rest| rest.first_chunk::<4>()) else {
        return Ok(None);
    };
    match u32::from_le_bytes(*version) {
        FORMAT_VERSION => Ok(Some(FORMAT_VERSION)),
        other => Err(Error::Version(other)),
    }
}

/// The seal frame.
pub(crate) fn encode_seal(seal: &Seal) -> Result<Vec<u8>> {
    let mut payload = SEAL_TAG.to_vec();
    let mut fields = || -> Result<(), rmp::encode::ValueWriteError<io::Error>> {
        rmp::encode::write_map_len(&mut payload, 7)?;
        rmp::encode::write_str(&mut payload, "hash")?;
        rmp::encode::write_bin(&mut payload, &seal.hash)?;
        for (name, value) in [
            ("bytes", seal.bytes),
            ("frames", seal.frames),
            ("index", seal.index),
            ("events", seal.events),
            ("objects", seal.objects),
            ("chunks", seal.chunks),
        ] {
            rmp::encode::write_str(&mut payload, name)?;
            rmp::encode::write_uint(&mut payload, value)?;
        }
        Ok(())
    };
    fields().map_err(|e| Error::encode("seal", e))?;
    Ok(skippable(SKIPPABLE, &payload))
}

/// Reads a whole skippable frame as a seal; `None` where it is something else.
pub(crate) fn decode_seal(frame: &[u8]) -> Result<Option<Seal>> {
    let tagged = frame.len() >= 16
        && frame[..4] == SKIPPABLE.to_le_bytes()
        && &frame[8..16] == SEAL_TAG.as_slice();
    if !tagged {
        return Ok(None);
    }
    let mut cursor = Cursor::new(&frame[16..]);
    let mut seal = Seal::default();
    for _ in 0..cursor.map_len()? {
        match cursor.str()? {
            "hash" => seal.hash = cursor.hash()?,
            "bytes" => seal.bytes = cursor.uint()?,
            "frames" => seal.frames = cursor.uint()?,
            "index" => seal.index = cursor.uint()?,
            "events" => seal.events = cursor.uint()?,
            "objects" => seal.objects = cursor.uint()?,
            "chunks" => seal.chunks = cursor.uint()?,
            _ => drop(cursor.skip()?),
        }
    }
    Ok(Some(seal))
}

/// Compresses the records of one frame.
pub(crate) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    pub(crate) fn new(level: i32) -> Result<Self> {
        let make = || -> io::Result<_> {
            let mut compressor = zstd::bulk::Compressor::new(level)?;
            compressor.set_parameter(zstd_safe::CParameter::ChecksumFlag(true))?;
            compressor.set_parameter(zstd_safe::CParameter::ContentSizeFlag(true))?;
            Ok(compressor)
        };
        make().map(Self).map_err(|e| Error::encode("frame", e))
    }

    /// Appends a frame of `records` to `out` and returns its length.
    pub(crate) fn append(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        let start = out.len();
        out.resize(start + zstd_safe::compress_bound(records.len()), 0);
        let len = self
            .0
            .compress_to_buffer(records, &mut out[start..])
            .map_err(|e| Error::encode("frame", e))?;
        out.truncate(start + len);
        Ok(len)
    }
}

/// Decompresses frames, each into a buffer that its own header bounds.
pub(crate) struct Decompressor(zstd::bulk::Decompressor<'static>);

impl Decompressor {
    pub(crate) fn new() -> Result<Self> {
        zstd::bulk::Decompressor::new().map(Self).map_err(|e| Error::decode("frame", e))
    }

    /// Replaces `out` by the records of `frame`.
    pub(crate) fn records(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let size = content_size(frame)?;
        out.clear();
        out.resize(size, 0);
        let len = self
            .0
            .decompress_to_buffer(frame, &mut out[..])
            .map_err(|e| Error::decode("frame", e))?;
        if len == size { Ok(()) } else { Err(Error::decode("frame", "shorter than it says")) }
    }
}

/// Whether a zstd frame ends with a checksum of its content.
pub(crate) fn has_checksum(frame: &[u8]) -> bool {
    frame.get(4).is_some_and(|descriptor| descriptor & 0b100 != 0)
}

/// What a zstd frame says its decompressed length is, if that is within the limit.
fn content_size(frame: &[u8]) -> Result<usize> {
    let size = zstd_safe::get_frame_content_size(frame)
        .map_err(|_| Error::decode("frame", "no zstd frame"))?
        .ok_or_else(|| Error::decode("frame", "its length is not stated"))?;
    match usize::try_from(size) {
        Ok(size) if size <= MAX_FRAME => Ok(size),
        _ => Err(Error::TooLarge { what: "a frame", size, limit: MAX_FRAME as u64 }),
    }
}

/// Where the bytes of a trace come from.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    File(Arc<File>),
    Bytes(Arc<[u8]>),
}

impl Input {
    /// Its length now; a file that is being recorded grows.
    pub(crate) fn len(&self) -> Result<u64> {
        match self {
            Self::File(file) => file
                .metadata()
                .map(|metadata| metadata.len())
                .map_err(|source| Error::Io { action: "read", offset: 0, source }),
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Replaces `out` by up to `len` bytes from `offset` on; fewer at the end.
    pub(crate) fn read_up_to(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self {
            Self::File(file) => {
                out.resize(len, 0);
                let mut filled = 0;
                while filled < len {
                    match file.read_at(&mut out[filled..], offset + filled as u64) {
                        Ok(0) => break,
                        Ok(count) => filled += count,
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(source) => return Err(Error::Io { action: "read", offset, source }),
                    }
                }
                out.truncate(filled);
            }
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(&bytes[start..bytes.len().min(start.saturating_add(len))]);
            }
        }
        Ok(())
    }

    /// Replaces `out` by exactly `len` bytes from `offset` on.
    pub(crate) fn read(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        self.read_up_to(offset, len, out)?;
        if out.len() == len { Ok(()) } else { Err(Error::damaged(offset, "the file ends here")) }
    }
}

/// A frame of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Byte offset in the file.
    pub(crate) offset: u64,
    /// Its bytes in the file.
    pub(crate) len: u32,
    /// Its decompressed bytes; 0 for a skippable frame.
    pub(crate) content: u32,
}

impl Frame {
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }
}

/// What stands at an offset.
pub(crate) enum Found {
    /// A zstd frame with records.
    Records(Frame),
    /// A skippable frame that is neither seal nor seek table.
    Skippable(Frame),
    /// What is tagged as a seal.
    Seal(Frame),
    SeekTable,
    /// Nothing whole: the end, or bytes that are no frame. Says why.
    Nothing(&'static str),
}

/// Steps through the frames of a file without decompressing them.
pub(crate) struct Walker {
    input: Input,
    window: Vec<u8>,
    /// Offset of the window's first byte.
    start: u64,
}

impl Walker {
    const WINDOW: usize = 1 << 20;

    pub(crate) fn new(input: Input) -> Self {
        Self { input, window: Vec::new(), start: 0 }
    }

    /// The bytes from `offset` on, at least `want` of them unless the file ends before.
    fn bytes(&mut self, offset: u64, want: usize) -> Result<&[u8]> {
        let have = self.start + self.window.len() as u64;
        if offset < self.start || offset + want as u64 > have {
            let len = want.max(Self::WINDOW);
            self.input.read_up_to(offset, len, &mut self.window)?;
            self.start = offset;
        }
        Ok(&self.window[(offset - self.start) as usize..])
    }

    /// What stands at `offset`.
    pub(crate) fn at(&mut self, offset: u64) -> Result<Found> {
        let head = self.bytes(offset, 18)?;
        if head.is_empty() {
            return Ok(Found::Nothing("the file ends"));
        }
        let Some((magic, rest)) = head.split_first_chunk::<4>() else {
            return Ok(Found::Nothing("the file ends inside a frame"));
        };
        match u32::from_le_bytes(*magic) {
            ZSTD => self.records_at(offset),
            magic if magic & 0xFFFF_FFF0 == 0x184D_2A50 => {
                let Some(len) = rest.first_chunk::<4>() else {
                    return Ok(Found::Nothing("the file ends inside a frame"));
                };
                let payload = u32::from_le_bytes(*len);
                self.skippable_at(offset, magic, payload)
            }
            _ => Ok(Found::Nothing("what follows is no frame")),
        }
    }

    fn records_at(&mut self, offset: u64) -> Result<Found> {
        let largest = zstd_safe::compress_bound(MAX_FRAME);
        let mut want = 18;
        loop {
            let bytes = self.bytes(offset, want)?;
            let Ok(content) = content_size(bytes) else {
                return Ok(Found::Nothing("what follows is no frame of a trace"));
            };
            if let Ok(len) = zstd_safe::find_frame_compressed_size(bytes) {
                let frame = Frame { offset, len: len as u32, content: content as u32 };
                return Ok(Found::Records(frame));
            }
            // The frame is damaged, longer than the window, or cut by the end of the file.
            if bytes.len() < want || want >= largest {
                return Ok(Found::Nothing("the file ends inside a frame"));
            }
            want = (bytes.len() * 2).min(largest);
        }
    }

    fn skippable_at(&mut self, offset: u64, magic: u32, payload: u32) -> Result<Found> {
        let len = u64::from(payload) + 8;
        let Ok(len) = u32::try_from(len) else {
            return Ok(Found::Nothing("what follows is no frame of a trace"));
        };
        if offset + u64::from(len) > self.input.len()? {
            return Ok(Found::Nothing("the file ends inside a frame"));
        }
        let frame = Frame { offset, len, content: 0 };
        if magic == SEEK_TABLE {
            return Ok(Found::SeekTable);
        }
        if magic == SKIPPABLE && len <= MAX_SEAL {
            let bytes = self.bytes(offset, len as usize)?;
            if bytes.get(8..16) == Some(SEAL_TAG.as_slice()) {
                return Ok(Found::Seal(frame));
            }
        }
        Ok(Found::Skippable(frame))
    }
}

/// Builds the seek table over the frames of a file.
pub(crate) struct SeekTable(zeekstd::SeekTable);

impl SeekTable {
    pub(crate) fn new() -> Self {
        Self(zeekstd::SeekTable::new())
    }

    /// Lists a frame; skippable ones have entries of their own, or readers would lose their offsets.
    pub(crate) fn push(&mut self, len: u32, content: u32) -> Result<()> {
        self.0.log_frame(len, content).map_err(|e| Error::encode("seek table", e))
    }

    /// The skippable frame that holds the table.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut serializer = self.0.into_serializer();
        let mut out = vec![0; serializer.encoded_len()];
        let mut filled = 0;
        while filled < out.len() {
            filled += serializer.write_into(&mut out[filled..]);
        }
        out
    }

    /// Reads the table at the end of `input`; `None` where there is none that fits the file.
    pub(crate) fn read(input: &Input) -> Result<Option<(Vec<Frame>, u64)>> {
        const FOOTER: u64 = 9;
        let total = input.len()?;
        let mut bytes = Vec::new();
        if total < HEADER_LEN + 8 + FOOTER {
            return Ok(None);
        }
        input.read(total - FOOTER, FOOTER as usize, &mut bytes)?;
        let count = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // The crate allocates by this count, so it is held against the file's length first.
        let len = 8 + 8 * u64::from(count) + FOOTER;
        if bytes[4] != 0
            || bytes[5..] != SEEK_TABLE_FOOTER.to_le_bytes()
            || count > MAX_FRAMES
            || len > total - HEADER_LEN
        {
            return Ok(None);
        }
        let start = total - len;
        input.read(start, len as usize, &mut bytes)?;
        let Ok(table) = zeekstd::SeekTable::from_seekable(&mut zeekstd::BytesWrapper::new(&bytes))
        else {
            return Ok(None);
        };
        let frames: Result<Vec<Frame>, zeekstd::Error> = (0..table.num_frames())
            .map(|index| {
                Ok(Frame {
                    offset: table.frame_start_comp(index)?,
                    len: table.frame_size_comp(index)? as u32,
                    content: table.frame_size_decomp(index)? as u32,
                })
            })
            .collect();
        match frames {
            Ok(frames) if table.size_comp() == start => Ok(Some((frames, start))),
            _ => Ok(None),
        }
    }
}
