//! MessagePack without trust: a cursor over a slice that checks every length against what is there.

use rmp::Marker;

use crate::error::{Error, Result};
use crate::limits::MAX_DEPTH;

/// Reads MessagePack values off the front of a slice.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

/// What stands before the bytes of a value, or the value itself where it has none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    Uint(u64),
    Int(i64),
    Str(u64),
    Bin(u64),
    Array(u64),
    Map(u64),
    /// Type and length.
    Ext(i8, u64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Nil,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that have not been read.
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn fail<T>(what: &'static str, marker: Marker) -> Result<T> {
        Err(Error::decode("MessagePack", format_args!("expected {what}, found {marker:?}")))
    }

    #[inline]
    pub(crate) fn marker(&mut self) -> Result<Marker> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(end)?;
        self.rest = rest;
        Ok(Marker::from_u8(byte))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(end)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn u8(&mut self) -> Result<u64> {
        Ok(u64::from(u8::from_be_bytes(self.array()?)))
    }

    #[inline]
    fn u16(&mut self) -> Result<u64> {
        Ok(u64::from(u16::from_be_bytes(self.array()?)))
    }

    #[inline]
    fn u32(&mut self) -> Result<u64> {
        Ok(u64::from(u32::from_be_bytes(self.array()?)))
    }

    /// The next `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let len = usize::try_from(len).map_err(|_| end())?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(end)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// What `marker` and the bytes after it say of the value.
    #[inline]
    pub(crate) fn length(&mut self, marker: Marker) -> Result<Length> {
        Ok(match marker {
            Marker::FixPos(value) => Length::Uint(value.into()),
            Marker::U8 => Length::Uint(self.u8()?),
            Marker::U16 => Length::Uint(self.u16()?),
            Marker::U32 => Length::Uint(self.u32()?),
            Marker::U64 => Length::Uint(u64::from_be_bytes(self.array()?)),
            Marker::FixNeg(value) => Length::Int(value.into()),
            Marker::I8 => Length::Int(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => Length::Int(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => Length::Int(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => Length::Int(i64::from_be_bytes(self.array()?)),
            Marker::FixStr(len) => Length::Str(len.into()),
            Marker::Str8 => Length::Str(self.u8()?),
            Marker::Str16 => Length::Str(self.u16()?),
            Marker::Str32 => Length::Str(self.u32()?),
            Marker::Bin8 => Length::Bin(self.u8()?),
            Marker::Bin16 => Length::Bin(self.u16()?),
            Marker::Bin32 => Length::Bin(self.u32()?),
            Marker::FixArray(len) => Length::Array(len.into()),
            Marker::Array16 => Length::Array(self.u16()?),
            Marker::Array32 => Length::Array(self.u32()?),
            Marker::FixMap(len) => Length::Map(len.into()),
            Marker::Map16 => Length::Map(self.u16()?),
            Marker::Map32 => Length::Map(self.u32()?),
            Marker::FixExt1 => self.ext(1)?,
            Marker::FixExt2 => self.ext(2)?,
            Marker::FixExt4 => self.ext(4)?,
            Marker::FixExt8 => self.ext(8)?,
            Marker::FixExt16 => self.ext(16)?,
            Marker::Ext8 => {
                let len = self.u8()?;
                self.ext(len)?
            }
            Marker::Ext16 => {
                let len = self.u16()?;
                self.ext(len)?
            }
            Marker::Ext32 => {
                let len = self.u32()?;
                self.ext(len)?
            }
            Marker::F32 => Length::F32(f32::from_be_bytes(self.array()?)),
            Marker::F64 => Length::F64(f64::from_be_bytes(self.array()?)),
            Marker::True => Length::Bool(true),
            Marker::False => Length::Bool(false),
            Marker::Null => Length::Nil,
            Marker::Reserved => return Self::fail("a value", marker),
        })
    }

    fn ext(&mut self, len: u64) -> Result<Length> {
        Ok(Length::Ext(i8::from_be_bytes(self.array()?), len))
    }

    /// The number of pairs of a map.
    #[inline]
    pub(crate) fn map_len(&mut self) -> Result<u64> {
        let marker = self.marker()?;
        match self.length(marker)? {
            Length::Map(len) => Ok(len),
            _ => Self::fail("a map", marker),
        }
    }

    /// The number of elements of an array.
    pub(crate) fn array_len(&mut self) -> Result<u64> {
        let marker = self.marker()?;
        match self.length(marker)? {
            Length::Array(len) => Ok(len),
            _ => Self::fail("an array", marker),
        }
    }

    /// The bytes of a string, which may not be UTF-8: enough for a name that is only compared.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<&'a [u8]> {
        let marker = self.marker()?;
        match self.length(marker)? {
            Length::Str(len) => self.take(len),
            _ => Self::fail("a string", marker),
        }
    }

    /// A string.
    #[inline]
    pub(crate) fn str(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.key()?).map_err(|e| Error::decode("string", e))
    }

    /// A byte string.
    #[inline]
    pub(crate) fn bin(&mut self) -> Result<&'a [u8]> {
        let marker = self.marker()?;
        match self.length(marker)? {
            Length::Bin(len) => self.take(len),
            _ => Self::fail("a byte string", marker),
        }
    }

    /// A BLAKE3 hash.
    pub(crate) fn hash(&mut self) -> Result<[u8; 32]> {
        let bytes = self.bin()?;
        bytes.try_into().map_err(|_| Error::decode("hash", format_args!("{} bytes", bytes.len())))
    }

    /// An integer that is not negative.
    #[inline]
    pub(crate) fn uint(&mut self) -> Result<u64> {
        let marker = self.marker()?;
        match self.length(marker)? {
            Length::Uint(value) => Ok(value),
            Length::Int(value) if value >= 0 => Ok(value as u64),
            _ => Self::fail("an integer that is not negative", marker),
        }
    }

    /// An integer.
    #[inline]
    pub(crate) fn int(&mut self) -> Result<i64> {
        let marker = self.marker()?;
        match self.length(marker)? {
            Length::Uint(value) => i64::try_from(value).map_err(|e| Error::decode("integer", e)),
            Length::Int(value) => Ok(value),
            _ => Self::fail("an integer", marker),
        }
    }

    /// Passes over one value of whatever shape and returns its bytes. Without recursion: nesting costs nothing.
    #[inline]
    pub(crate) fn skip(&mut self) -> Result<&'a [u8]> {
        let before = self.rest;
        let mut values = 1u64;
        while values > 0 {
            values -= 1;
            let marker = self.marker()?;
            let elements = match self.length(marker)? {
                Length::Str(len) | Length::Bin(len) | Length::Ext(_, len) => {
                    self.take(len)?;
                    continue;
                }
                Length::Array(elements) => elements,
                Length::Map(pairs) => 2 * pairs,
                _ => continue,
            };
            // Every element takes a byte at least, so that the sum can't overflow either.
            if elements > self.rest.len() as u64 {
                return Err(end());
            }
            values += elements;
        }
        Ok(&before[..before.len() - self.rest.len()])
    }
}

/// Whether maps and arrays of the value that `bytes` begin with nest deeper than `limit`.
pub(crate) fn nests_deeper(bytes: &[u8], limit: usize) -> Result<bool> {
    let mut cursor = Cursor::new(bytes);
    // Elements that are still to come, of each map and array that is open.
    let mut open: Vec<u64> = Vec::new();
    loop {
        let mut next = cursor;
        let elements = match next.marker()? {
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => Some(2 * cursor.map_len()?),
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => Some(cursor.array_len()?),
            _ => {
                cursor.skip()?;
                None
            }
        };
        if let Some(elements) = elements {
            open.push(elements);
            if open.len() > limit {
                return Ok(true);
            }
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        match open.last_mut() {
            Some(left) => *left -= 1,
            None => return Ok(false),
        }
    }
}

fn end() -> Error {
    Error::decode("MessagePack", "the bytes end inside a value")
}

/// Decodes a free-form value that takes all of `bytes`.
pub(crate) fn value(bytes: &[u8]) -> Result<crate::Value> {
    let mut rest = bytes;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH)
        .map_err(|e| Error::decode("value", e))?;
    if rest.is_empty() { Ok(value) } else { Err(Error::decode("value", "bytes follow it")) }
}
