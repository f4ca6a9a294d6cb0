//! MessagePack without trust: a cursor over a slice that checks every length against what is there.

use rmp::Marker;

use crate::error::{Error, Result};
use crate::limits::MAX_DEPTH;

/// Reads MessagePack values off the front of a slice.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
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
    fn marker(&mut self) -> Result<Marker> {
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
    fn big_endian(&mut self, width: usize) -> Result<u64> {
        Ok(match width {
            1 => u64::from(u8::from_be_bytes(self.array()?)),
            2 => u64::from(u16::from_be_bytes(self.array()?)),
            4 => u64::from(u32::from_be_bytes(self.array()?)),
            _ => u64::from_be_bytes(self.array()?),
        })
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let len = usize::try_from(len).map_err(|_| end())?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(end)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The number of pairs of a map.
    #[inline]
    pub(crate) fn map_len(&mut self) -> Result<u64> {
        match self.marker()? {
            Marker::FixMap(len) => Ok(u64::from(len)),
            Marker::Map16 => self.big_endian(2),
            Marker::Map32 => self.big_endian(4),
            other => Self::fail("a map", other),
        }
    }

    /// The number of elements of an array.
    #[inline]
    pub(crate) fn array_len(&mut self) -> Result<u64> {
        match self.marker()? {
            Marker::FixArray(len) => Ok(u64::from(len)),
            Marker::Array16 => self.big_endian(2),
            Marker::Array32 => self.big_endian(4),
            other => Self::fail("an array", other),
        }
    }

    /// A string.
    #[inline]
    pub(crate) fn str(&mut self) -> Result<&'a str> {
        let len = match self.marker()? {
            Marker::FixStr(len) => u64::from(len),
            Marker::Str8 => self.big_endian(1)?,
            Marker::Str16 => self.big_endian(2)?,
            Marker::Str32 => self.big_endian(4)?,
            other => return Self::fail("a string", other),
        };
        std::str::from_utf8(self.take(len)?).map_err(|e| Error::decode("string", e))
    }

    /// A byte string.
    #[inline]
    pub(crate) fn bin(&mut self) -> Result<&'a [u8]> {
        let len = match self.marker()? {
            Marker::Bin8 => self.big_endian(1)?,
            Marker::Bin16 => self.big_endian(2)?,
            Marker::Bin32 => self.big_endian(4)?,
            other => return Self::fail("a byte string", other),
        };
        self.take(len)
    }

    /// A BLAKE3 hash.
    pub(crate) fn hash(&mut self) -> Result<[u8; 32]> {
        let bytes = self.bin()?;
        bytes.try_into().map_err(|_| Error::decode("hash", format_args!("{} bytes", bytes.len())))
    }

    /// An integer that is not negative.
    #[inline]
    pub(crate) fn uint(&mut self) -> Result<u64> {
        let value = self.int()?;
        u64::try_from(value).map_err(|_| Error::decode("integer", format_args!("{value}")))
    }

    /// An integer.
    #[inline]
    pub(crate) fn int(&mut self) -> Result<i128> {
        Ok(match self.marker()? {
            Marker::FixPos(value) => i128::from(value),
            Marker::FixNeg(value) => i128::from(value),
            Marker::U8 => i128::from(self.big_endian(1)?),
            Marker::U16 => i128::from(self.big_endian(2)?),
            Marker::U32 => i128::from(self.big_endian(4)?),
            Marker::U64 => i128::from(self.big_endian(8)?),
            Marker::I8 => i128::from(i8::from_be_bytes(self.array()?)),
            Marker::I16 => i128::from(i16::from_be_bytes(self.array()?)),
            Marker::I32 => i128::from(i32::from_be_bytes(self.array()?)),
            Marker::I64 => i128::from(i64::from_be_bytes(self.array()?)),
            other => return Self::fail("an integer", other),
        })
    }

    /// Passes over one value of whatever shape and returns its bytes. Without recursion: nesting costs nothing.
    #[inline]
    pub(crate) fn skip(&mut self) -> Result<&'a [u8]> {
        let before = self.rest;
        let mut values = 1u64;
        while values > 0 {
            values -= 1;
            let len = match self.marker()? {
                Marker::FixPos(_)
                | Marker::FixNeg(_)
                | Marker::Null
                | Marker::True
                | Marker::False => 0,
                Marker::U8 | Marker::I8 => 1,
                Marker::U16 | Marker::I16 => 2,
                Marker::U32 | Marker::I32 | Marker::F32 => 4,
                Marker::U64 | Marker::I64 | Marker::F64 => 8,
                Marker::FixStr(len) => u64::from(len),
                Marker::Str8 | Marker::Bin8 => self.big_endian(1)?,
                Marker::Str16 | Marker::Bin16 => self.big_endian(2)?,
                Marker::Str32 | Marker::Bin32 => self.big_endian(4)?,
                Marker::FixExt1 => 2,
                Marker::FixExt2 => 3,
                Marker::FixExt4 => 5,
                Marker::FixExt8 => 9,
                Marker::FixExt16 => 17,
                Marker::Ext8 => 1 + self.big_endian(1)?,
                Marker::Ext16 => 1 + self.big_endian(2)?,
                Marker::Ext32 => 1 + self.big_endian(4)?,
                container => {
                    let elements = match container {
                        Marker::FixArray(len) => u64::from(len),
                        Marker::Array16 => self.big_endian(2)?,
                        Marker::Array32 => self.big_endian(4)?,
                        Marker::FixMap(len) => 2 * u64::from(len),
                        Marker::Map16 => 2 * self.big_endian(2)?,
                        Marker::Map32 => 2 * self.big_endian(4)?,
                        other => return Self::fail("a value", other),
                    };
                    // Every element takes a byte at least, so that the sum can't overflow either.
                    if elements > self.rest.len() as u64 {
                        return Err(end());
                    }
                    values += elements;
                    0
                }
            };
            self.take(len)?;
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
