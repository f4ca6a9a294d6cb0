//! Records as MessagePack maps: the frame's head, chunks, objects and the index; events have a file of their own.
//!
//! The first key of a record says what it is. Keys that a reader does not know are passed over.

use std::io;

use rmp::encode as rmp_encode;
use serde::Serialize;

use crate::ObjectId;
use crate::error::{Error, Result};
use crate::event::Value;
use crate::limits::{MAX_DEPTH, MAX_RECORD};
use crate::msgpack::{self, Cursor};

/// The first record of every frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Position among the zstd frames, from 0.
    pub frame: u64,
    /// Number of the frame's first event, if it has any; else of the next one to come.
    pub seq: u64,
    /// Number of the frame's first object, likewise.
    pub object: u64,
    /// Number of the frame's first chunk, likewise.
    pub chunk: u64,
    /// CLOCK_BOOTTIME in microseconds; the first event's delta counts from here.
    pub ts: u64,
    /// The wall clock when the frame was begun, microseconds since 1970.
    pub wall: i64,
    /// BLAKE3 of the bytes of the frame before this one, the skippable header included.
    pub prev: [u8; 32],
}

/// One step of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `len` bytes of a chunk, from byte `at` on.
    Chunk { chunk: u64, at: u64, len: u64 },
    /// `len` bytes of an earlier object, from byte `at` on.
    Copy { object: u64, at: u64, len: u64 },
}

/// A record that is not an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record<'a> {
    Head(Head),
    /// An event, still encoded.
    Event,
    Chunk(&'a [u8]),
    Object(ObjectRecord),
    /// Per zstd frame: its events, objects and chunks.
    FrameIndex(Vec<[u64; 3]>),
    /// Ids of the trace's objects, in their order, 32 bytes each.
    ObjectIndex(&'a [u8]),
    /// Something of a later version.
    Unknown,
}

/// An object: its address, length and recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectRecord {
    pub(crate) id: ObjectId,
    pub(crate) len: u64,
    pub(crate) parts: Vec<Part>,
}

pub(crate) type Encoded = Result<(), rmp_encode::ValueWriteError<io::Error>>;

fn finish(what: &'static str, encoded: Encoded) -> Result<()> {
    encoded.map_err(|e| Error::encode(what, e))
}

/// Appends a frame head.
pub(crate) fn encode_head(out: &mut Vec<u8>, head: &Head) -> Result<()> {
    let mut fields = || -> Encoded {
        rmp_encode::write_map_len(out, 7)?;
        for (name, value) in [
            ("frame", head.frame),
            ("seq", head.seq),
            ("object", head.object),
            ("chunk", head.chunk),
            ("ts", head.ts),
        ] {
            rmp_encode::write_str(out, name)?;
            rmp_encode::write_uint(out, value)?;
        }
        rmp_encode::write_str(out, "wall")?;
        rmp_encode::write_sint(out, head.wall)?;
        rmp_encode::write_str(out, "prev")?;
        rmp_encode::write_bin(out, &head.prev)
    };
    finish("frame head", fields())
}

/// Appends a chunk of content.
pub(crate) fn encode_chunk(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let mut fields = || -> Encoded {
        rmp_encode::write_map_len(out, 1)?;
        rmp_encode::write_str(out, "chunk")?;
        rmp_encode::write_bin(out, bytes)
    };
    finish("chunk", fields())
}

/// Appends an object.
pub(crate) fn encode_object(out: &mut Vec<u8>, object: &ObjectRecord) -> Result<()> {
    let start = out.len();
    let parts = u32::try_from(object.parts.len()).map_err(|e| Error::encode("object", e))?;
    let mut fields = || -> Encoded {
        rmp_encode::write_map_len(out, 3)?;
        rmp_encode::write_str(out, "object")?;
        rmp_encode::write_bin(out, &object.id.0)?;
        rmp_encode::write_str(out, "len")?;
        rmp_encode::write_uint(out, object.len)?;
        rmp_encode::write_str(out, "parts")?;
        rmp_encode::write_array_len(out, parts)?;
        for part in &object.parts {
            encode_part(out, part)?;
        }
        Ok(())
    };
    finish("object", fields())?;
    let size = out.len() - start;
    if size > MAX_RECORD {
        out.truncate(start);
        let (size, limit) = (size as u64, MAX_RECORD as u64);
        return Err(Error::TooLarge { what: "a recipe", size, limit });
    }
    Ok(())
}

fn encode_part(out: &mut Vec<u8>, part: &Part) -> Encoded {
    let put = |out: &mut Vec<u8>, fields: &[(&str, u64)]| -> Encoded {
        rmp_encode::write_map_len(out, fields.len() as u32)?;
        for (name, value) in fields {
            rmp_encode::write_str(out, name)?;
            rmp_encode::write_uint(out, *value)?;
        }
        Ok(())
    };
    match *part {
        Part::Chunk { chunk, at: 0, len } => put(out, &[("chunk", chunk), ("len", len)]),
        Part::Chunk { chunk, at, len } => put(out, &[("chunk", chunk), ("at", at), ("len", len)]),
        Part::Copy { object, at: 0, len } => put(out, &[("copy", object), ("len", len)]),
        Part::Copy { object, at, len } => put(out, &[("copy", object), ("at", at), ("len", len)]),
    }
}

/// Appends an index record over `frames`: events, objects and chunks of each.
pub(crate) fn encode_frame_index(out: &mut Vec<u8>, frames: &[[u64; 3]]) -> Result<()> {
    let mut fields = || -> Encoded {
        rmp_encode::write_map_len(out, 4)?;
        rmp_encode::write_str(out, "index")?;
        rmp_encode::write_str(out, "frames")?;
        for (column, name) in ["events", "objects", "chunks"].into_iter().enumerate() {
            rmp_encode::write_str(out, name)?;
            rmp_encode::write_array_len(out, frames.len() as u32)?;
            for frame in frames {
                rmp_encode::write_uint(out, frame[column])?;
            }
        }
        Ok(())
    };
    finish("index", fields())
}

/// Appends an index record over objects.
pub(crate) fn encode_object_index(out: &mut Vec<u8>, ids: &[ObjectId]) -> Result<()> {
    let mut fields = || -> Encoded {
        rmp_encode::write_map_len(out, 2)?;
        rmp_encode::write_str(out, "index")?;
        rmp_encode::write_str(out, "objects")?;
        rmp_encode::write_str(out, "ids")?;
        rmp_encode::write_bin_len(out, ids.len() as u32 * 32)?;
        for id in ids {
            out.extend_from_slice(&id.0);
        }
        Ok(())
    };
    finish("index", fields())
}

/// Takes one record off the front of `frame` and returns its bytes.
#[inline]
pub(crate) fn next_record<'a>(frame: &mut Cursor<'a>) -> Result<&'a [u8]> {
    let record = frame.skip()?;
    check_size(record.len())?;
    Ok(record)
}

pub(crate) fn check_size(record: usize) -> Result<()> {
    if record <= MAX_RECORD {
        return Ok(());
    }
    Err(Error::TooLarge { what: "a record", size: record as u64, limit: MAX_RECORD as u64 })
}

/// Whether `record`, or what begins with it, is an event: only events begin with the key `type`.
#[inline]
pub(crate) fn is_event(record: &[u8]) -> bool {
    // As the writer has it; another writer's map may have its length in more bytes.
    let plain = matches!(record, [0x81..=0x8f, 0xa4, b't', b'y', b'p', b'e', ..]);
    plain || first_key(record) == Some("type")
}

fn first_key(record: &[u8]) -> Option<&str> {
    let mut cursor = Cursor::new(record);
    (cursor.map_len().ok()? > 0).then(|| cursor.str().ok()).flatten()
}

/// Decodes a record that is not an event.
pub(crate) fn decode_record(record: &[u8]) -> Result<Record<'_>> {
    let mut cursor = Cursor::new(record);
    let fields = cursor.map_len()?;
    if fields == 0 {
        return Err(Error::decode("record", "an empty map"));
    }
    let fields = fields - 1;
    match cursor.str()? {
        "frame" => decode_head(cursor, fields).map(Record::Head),
        "type" => Ok(Record::Event),
        "chunk" => Ok(Record::Chunk(cursor.bin()?)),
        "object" => decode_object(cursor, fields).map(Record::Object),
        "index" => decode_index(cursor, fields),
        _ => Ok(Record::Unknown),
    }
}

fn decode_head(mut cursor: Cursor<'_>, fields: u64) -> Result<Head> {
    let mut head = Head { frame: cursor.uint()?, ..Head::default() };
    for _ in 0..fields {
        match cursor.str()? {
            "seq" => head.seq = cursor.uint()?,
            "object" => head.object = cursor.uint()?,
            "chunk" => head.chunk = cursor.uint()?,
            "ts" => head.ts = cursor.uint()?,
            "wall" => head.wall = cursor.int()?,
            "prev" => head.prev = cursor.hash()?,
            _ => drop(cursor.skip()?),
        }
    }
    Ok(head)
}

fn decode_object(mut cursor: Cursor<'_>, fields: u64) -> Result<ObjectRecord> {
    let mut object = ObjectRecord { id: ObjectId(cursor.hash()?), len: 0, parts: Vec::new() };
    for _ in 0..fields {
        match cursor.str()? {
            "len" => object.len = cursor.uint()?,
            "parts" => {
                for _ in 0..cursor.array_len()? {
                    object.parts.push(decode_part(&mut cursor)?);
                }
            }
            _ => drop(cursor.skip()?),
        }
    }
    Ok(object)
}

fn decode_part(cursor: &mut Cursor<'_>) -> Result<Part> {
    let (mut chunk, mut copy, mut at, mut len) = (None, None, 0, 0);
    for _ in 0..cursor.map_len()? {
        match cursor.str()? {
            "chunk" => chunk = Some(cursor.uint()?),
            "copy" => copy = Some(cursor.uint()?),
            "at" => at = cursor.uint()?,
            "len" => len = cursor.uint()?,
            _ => drop(cursor.skip()?),
        }
    }
    match (chunk, copy) {
        (Some(chunk), None) if chunk > 0 && len > 0 => Ok(Part::Chunk { chunk, at, len }),
        (None, Some(object)) if object > 0 && len > 0 => Ok(Part::Copy { object, at, len }),
        _ => Err(Error::decode("recipe", "a part is neither of a chunk nor a copy")),
    }
}

fn decode_index<'a>(mut cursor: Cursor<'a>, fields: u64) -> Result<Record<'a>> {
    let kind = cursor.str()?;
    let mut frames: Vec<[u64; 3]> = Vec::new();
    let mut ids: &[u8] = &[];
    for _ in 0..fields {
        let column = match cursor.str()? {
            "events" => 0,
            "objects" => 1,
            "chunks" => 2,
            "ids" => {
                ids = cursor.bin()?;
                continue;
            }
            _ => {
                cursor.skip()?;
                continue;
            }
        };
        for row in 0..cursor.array_len()? as usize {
            if row == frames.len() {
                frames.push([0; 3]);
            }
            frames[row][column] = cursor.uint()?;
        }
    }
    Ok(match kind {
        "frames" => Record::FrameIndex(frames),
        "objects" if ids.len().is_multiple_of(32) => Record::ObjectIndex(ids),
        "objects" => return Err(Error::decode("index", "ids are not 32 bytes each")),
        _ => Record::Unknown,
    })
}

/// The MessagePack encoding of `value`.
pub(crate) fn encode_value(value: &Value) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    value
        .serialize(&mut rmp_serde::Serializer::new(&mut out))
        .map_err(|e| Error::encode("value", e))?;
    // An event around it nests as well.
    if msgpack::nests_deeper(&out, MAX_DEPTH - 8)? {
        return Err(Error::encode("value", format_args!("it nests deeper than {MAX_DEPTH}")));
    }
    Ok(out)
}
