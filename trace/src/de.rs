//! Decodes the fields of an event from MessagePack, borrowing from the frame.
//!
//! The general decoder reads through `io::Read`, byte by byte; over a slice this one is twice as fast, and most of
//! reading a trace is this.

use rmp::Marker;
use serde::de::value::{BorrowedBytesDeserializer, SeqAccessDeserializer};
use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use crate::error::Error;
use crate::limits::MAX_DEPTH;
use crate::msgpack::{Cursor, Length};

impl de::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Error::decode("fields", message)
    }
}

/// Deserializes the value at the front of a cursor.
pub(crate) struct Deserializer<'de> {
    cursor: Cursor<'de>,
    /// How much deeper maps and arrays may nest.
    depth: usize,
}

impl<'de> Deserializer<'de> {
    pub(crate) fn new(cursor: Cursor<'de>) -> Self {
        Self { cursor, depth: MAX_DEPTH }
    }

    /// What follows the value.
    pub(crate) fn into_rest(self) -> Cursor<'de> {
        self.cursor
    }

    /// Runs `visit` one level deeper.
    #[inline]
    fn nested<T>(&mut self, visit: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| Error::decode("fields", "they nest too deeply"))?;
        let visited = visit(self);
        self.depth += 1;
        visited
    }
}

/// The elements of an array, or the pairs of a map, that are still to come.
struct Elements<'a, 'de> {
    deserializer: &'a mut Deserializer<'de>,
    left: u64,
}

impl<'de> serde::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let marker = self.cursor.marker()?;
        match self.cursor.length(marker)? {
            Length::Uint(value) => visitor.visit_u64(value),
            Length::Int(value) => visitor.visit_i64(value),
            Length::Str(len) => {
                let bytes = self.cursor.take(len)?;
                match std::str::from_utf8(bytes) {
                    Ok(text) => visitor.visit_borrowed_str(text),
                    Err(_) => visitor.visit_borrowed_bytes(bytes),
                }
            }
            Length::Bin(len) => visitor.visit_borrowed_bytes(self.cursor.take(len)?),
            Length::Array(left) => self.nested(|deserializer| {
                let mut elements = Elements { deserializer, left };
                let value = visitor.visit_seq(&mut elements)?;
                elements.finish(value)
            }),
            Length::Map(left) => self.nested(|deserializer| {
                let mut elements = Elements { deserializer, left };
                let value = visitor.visit_map(&mut elements)?;
                elements.finish(value)
            }),
            Length::Ext(kind, len) => {
                let ext = Ext { kind: Some(kind), bytes: Some(self.cursor.take(len)?) };
                visitor.visit_newtype_struct(SeqAccessDeserializer::new(ext))
            }
            Length::F32(value) => visitor.visit_f32(value),
            Length::F64(value) => visitor.visit_f64(value),
            Length::Bool(value) => visitor.visit_bool(value),
            Length::Nil => visitor.visit_unit(),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut rest = self.cursor;
        if rest.marker()? == Marker::Null {
            self.cursor = rest;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // Names are compared as bytes.
        visitor.visit_borrowed_bytes(self.cursor.key()?)
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.cursor.skip()?;
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// A name alone, or a map of one name and its value.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut rest = self.cursor;
        let marker = rest.marker()?;
        match rest.length(marker)? {
            Length::Map(1) => {
                self.cursor = rest;
                self.nested(|deserializer| visitor.visit_enum(Variant(deserializer)))
            }
            Length::Str(_) => {
                visitor.visit_enum(de::value::BorrowedStrDeserializer::new(self.cursor.str()?))
            }
            _ => Err(Error::decode("fields", "a variant is neither a name nor a map of one")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct
    }
}

impl Elements<'_, '_> {
    /// `value`, if it took all of them.
    fn finish<T>(&self, value: T) -> Result<T, Error> {
        match self.left {
            0 => Ok(value),
            left => Err(Error::decode("fields", format_args!("{left} elements too many"))),
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.deserializer).map(Some)
    }
}

impl<'de> MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next_element_seed(seed)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.deserializer)
    }
}

/// A variant with a value.
struct Variant<'a, 'de>(&'a mut Deserializer<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(&mut *self.0)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.0.cursor.skip().map(drop)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }
}

/// An extension value: its type, then its bytes.
struct Ext<'de> {
    kind: Option<i8>,
    bytes: Option<&'de [u8]>,
}

impl<'de> SeqAccess<'de> for Ext<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if let Some(kind) = self.kind.take() {
            return seed.deserialize(kind.into_deserializer()).map(Some);
        }
        let Some(bytes) = self.bytes.take() else { return Ok(None) };
        seed.deserialize(BorrowedBytesDeserializer::new(bytes)).map(Some)
    }
}
