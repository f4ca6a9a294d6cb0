//! Header compression (RFC 7541), for connections that may not have been seen from their beginning.
//!
//! The table is our own, since published decoders end a connection at an index they don't know, while here entries from
//! before the beginning of our knowledge are only unknown. The newest entry has the lowest index, so whatever was added
//! since then is found all the same.

use std::collections::VecDeque;

use httlib_huffman::DecoderSpeed;

use crate::fields::Fields;
use crate::http2::static_table::STATIC;
use crate::limits::{MAX_FIELDS, MAX_HEAD, MAX_TABLE};

/// What an entry costs beside its bytes (RFC 7541, 4.1).
const ENTRY: usize = 32;
/// The table's size until the encoder says otherwise (RFC 9113, 6.5.2).
const DEFAULT_SIZE: usize = 4096;

/// Why a header block cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HpackError {
    /// It ends in the middle of a field.
    #[error("cut")]
    Cut,
    /// A number over 32 bits.
    #[error("number too large")]
    Number,
    /// An index beyond the table.
    #[error("index {0} is beyond the table")]
    Index(usize),
    /// Not Huffman code.
    #[error("malformed Huffman code")]
    Huffman,
    /// A table of more than [`MAX_TABLE`] bytes.
    #[error("table of {0} bytes")]
    Table(usize),
}

/// The fields of a block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) fields: Fields,
    /// Fields that were there, whose names are unknown or for which there was no room.
    pub(crate) unknown: u32,
}

type Entry = (Vec<u8>, Vec<u8>);

/// The decoder of one direction.
pub(crate) struct Decoder {
    /// The newest first, each with its size; `None` where a name is unknown.
    entries: VecDeque<(Option<Entry>, usize)>,
    size: usize,
    max_size: usize,
    /// Older entries may exist, which nobody knows.
    has_unknown: bool,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, max_size: DEFAULT_SIZE, has_unknown: false }
    }

    /// Header blocks were missed, or the beginning was.
    pub(crate) fn forget(&mut self) {
        self.entries.clear();
        self.size = 0;
        self.has_unknown = true;
        // The encoder evicts when it likes; what it still refers to must not have been evicted here.
        self.max_size = MAX_TABLE;
    }

    /// Decodes a block. After an error the table is not what the encoder thinks.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Block, HpackError> {
        let mut rest = Rest(block);
        let mut decoded = Block::default();
        let mut bytes = 0;
        while let Some(&first) = rest.0.first() {
            let field = if first & 0x80 != 0 {
                let index = rest.number(7)?;
                self.get(index)?
            } else if first & 0xe0 == 0x20 {
                let size = rest.number(5)?;
                if size > MAX_TABLE {
                    return Err(HpackError::Table(size));
                }
                self.max_size = size;
                self.evict(0);
                // An empty table holds nothing unknown.
                self.has_unknown &= size > 0;
                continue;
            } else {
                let is_added = first & 0xc0 == 0x40;
                let index = rest.number(if is_added { 6 } else { 4 })?;
                let name = match index {
                    0 => Some(rest.string()?),
                    index => self.get(index)?.map(|(name, _)| name),
                };
                let value = rest.string()?;
                // Its size counts even where its name is unknown; no name is shorter than one byte.
                let size = ENTRY + name.as_ref().map_or(1, Vec::len) + value.len();
                let field = name.map(|name| (name, value));
                if is_added {
                    self.add(field.clone(), size);
                }
                field
            };
            let Some((name, value)) = field else {
                decoded.unknown += 1;
                continue;
            };
            bytes += name.len() + value.len();
            if bytes > MAX_HEAD || decoded.fields.len() == MAX_FIELDS {
                decoded.unknown += 1;
            } else {
                decoded.fields.push((name, value));
            }
        }
        Ok(decoded)
    }

    fn get(&self, index: usize) -> Result<Option<Entry>, HpackError> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|index| STATIC.get(index)) {
            return Ok(Some((name.as_bytes().to_vec(), value.as_bytes().to_vec())));
        }
        let dynamic = index.checked_sub(STATIC.len() + 1).ok_or(HpackError::Index(index))?;
        match self.entries.get(dynamic) {
            Some((entry, _)) => Ok(entry.clone()),
            None if self.has_unknown && index <= MAX_TABLE / ENTRY => Ok(None),
            None => Err(HpackError::Index(index)),
        }
    }

    fn add(&mut self, entry: Option<Entry>, size: usize) {
        self.evict(size);
        if size <= self.max_size {
            self.size += size;
            self.entries.push_front((entry, size));
        }
    }

    /// Makes room (RFC 7541, 4.4).
    fn evict(&mut self, room: usize) {
        while self.size + room > self.max_size {
            let Some((_, size)) = self.entries.pop_back() else { break };
            self.size -= size;
        }
    }
}

/// What is left of a block.
struct Rest<'b>(&'b [u8]);

impl Rest<'_> {
    fn byte(&mut self) -> Result<u8, HpackError> {
        let (first, rest) = self.0.split_first().ok_or(HpackError::Cut)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An integer with a prefix of `bits` (RFC 7541, 5.1).
    fn number(&mut self, bits: u32) -> Result<usize, HpackError> {
        let mask = (1u8 << bits) - 1;
        let mut number = u64::from(self.byte()? & mask);
        if number < u64::from(mask) {
            return Ok(number as usize);
        }
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(number).map(|n| n as usize).map_err(|_| HpackError::Number);
            }
        }
        Err(HpackError::Number)
    }

    /// A string (RFC 7541, 5.2).
    fn string(&mut self) -> Result<Vec<u8>, HpackError> {
        let is_huffman = self.0.first().ok_or(HpackError::Cut)? & 0x80 != 0;
        let len = self.number(7)?;
        let (string, rest) = self.0.split_at_checked(len).ok_or(HpackError::Cut)?;
        self.0 = rest;
        if !is_huffman {
            return Ok(string.to_vec());
        }
        let mut decoded = Vec::with_capacity(2 * len);
        httlib_huffman::decode(string, &mut decoded, DecoderSpeed::FiveBits)
            .map_err(|_| HpackError::Huffman)?;
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn text(block: &Block) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        block.fields.iter().map(|(name, value)| text(name) + "=" + &text(value)).collect()
    }

    /// RFC 7541, C.4: requests with Huffman code.
    const REQUESTS: [&str; 3] = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];

    #[test]
    fn the_documents_requests() {
        let mut decoder = Decoder::new();
        let mut decode = |block: &str| text(&decoder.decode(&hex(block)).unwrap());
        let host = ":authority=www.example.com";
        let first = [":method=GET", ":scheme=http", ":path=/", host];
        assert_eq!(decode(REQUESTS[0]), first);
        assert_eq!(decode(REQUESTS[1])[3..], [host, "cache-control=no-cache"]);
        let third = [":method=GET", ":scheme=https", ":path=/index.html", host];
        let third = [&third[..], &["custom-key=custom-value"]].concat();
        assert_eq!(decode(REQUESTS[2]), third);
        assert_eq!(decoder.size, 164);
    }

    #[test]
    fn the_documents_responses_evict() {
        // RFC 7541, C.6: a table of 256 bytes.
        let mut decoder = Decoder::new();
        decoder.max_size = 256;
        for (block, fields, size) in [
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                4,
                222,
            ),
            ("4883 640e ffc1 c0bf", 4, 222),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
                 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f \
                 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                6,
                215,
            ),
        ] {
            assert_eq!(decoder.decode(&hex(block)).unwrap().fields.len(), fields);
            assert_eq!(decoder.size, size);
        }
    }

    #[test]
    fn what_was_before_is_unknown_and_what_came_since_is_known() {
        let mut decoder = Decoder::new();
        decoder.forget();
        let second = decoder.decode(&hex(REQUESTS[1])).unwrap();
        assert_eq!((second.fields.len(), second.unknown), (4, 1));
        let third = decoder.decode(&hex("be bf")).unwrap();
        assert_eq!((text(&third), third.unknown), (vec!["cache-control=no-cache".to_owned()], 1));
        // A field whose name is unknown: neither it nor its entry is guessed.
        let named = decoder.decode(&hex("7f00 0178 be")).unwrap();
        assert_eq!((named.fields.len(), named.unknown), (0, 2));
        // The table is emptied: everything is known again.
        decoder.decode(&hex("20")).unwrap();
        assert_eq!(decoder.decode(&hex("be")), Err(HpackError::Index(62)));
    }

    #[test]
    fn what_cannot_be_a_block_is_told() {
        for (block, error) in [
            ("80", HpackError::Index(0)),
            ("be", HpackError::Index(62)),
            ("00", HpackError::Cut),
            ("0005 61", HpackError::Cut),
            ("ff ffff ffff ff", HpackError::Number),
            ("ff ffff ffff 7f", HpackError::Number),
            ("3fe1 ffff 03", HpackError::Table(8388608)),
            ("0084 ffff ffff 00", HpackError::Huffman),
        ] {
            assert_eq!(Decoder::new().decode(&hex(block)), Err(error), "{block}");
        }
    }

    #[test]
    fn a_block_that_unpacks_to_much_is_cut_and_said() {
        let mut decoder = Decoder::new();
        let value = [&hex("4001 617f 8117")[..], &[b'x'; 3072]].concat();
        let block = [&value[..], &[0xbe; 1 << 12]].concat();
        let block = decoder.decode(&block).unwrap();
        let bytes: usize = block.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= MAX_HEAD);
        assert_eq!(block.fields.len() + block.unknown as usize, 1 + (1 << 12));
    }
}
