//! The bytes of a pack: records one after the other, then an index of them, then a footer that says where it begins.
//!
//! A record is the object's address, what its body is, its content's length, the body's length, and the body. The
//! index repeats addresses and places, in the order of the addresses.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use agentrec_trace::ObjectId;

/// What a pack begins and ends with.
pub(crate) const MAGIC: &[u8; 8] = b"agrpack1";

/// Address, kind, length of the content, length of the body.
pub(crate) const HEADER_LEN: usize = 32 + 1 + 8 + 4;

/// Address, place of the record, length of the body.
const ENTRY_LEN: usize = 32 + 4 + 4;

/// Place of the index, number of entries, BLAKE3 of the index, magic.
const FOOTER_LEN: usize = 4 + 4 + 32 + MAGIC.len();

/// A record's body is at most this long, bytes: a recipe of some 200 GB.
pub(crate) const MAX_BODY: u32 = 32 << 20;

/// A content that is not a recipe is at most this long, bytes.
pub(crate) const MAX_PLAIN: u64 = 1 << 20;

/// What the body of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// The content, compressed.
    Plain,
    /// Addresses of the chunks that the content consists of, one after the other, compressed.
    Recipe,
}

/// What stands before a record's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: ObjectId,
    pub(crate) body: Body,
    /// Bytes of the content.
    pub(crate) len: u64,
    /// Bytes of the body.
    pub(crate) stored: u32,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..32].copy_from_slice(&self.id.0);
        bytes[32] = match self.body {
            Body::Plain => 0,
            Body::Recipe => 1,
        };
        bytes[33..41].copy_from_slice(&self.len.to_le_bytes());
        bytes[41..].copy_from_slice(&self.stored.to_le_bytes());
        bytes
    }

    /// None where no recorder writes such a header.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<32>()?;
        let (kind, rest) = rest.split_first()?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let len = u64::from_le_bytes(*len);
        let stored = u32::from_le_bytes(*rest.first_chunk::<4>()?);
        let body = match kind {
            0 if len <= MAX_PLAIN => Body::Plain,
            1 => Body::Recipe,
            _ => return None,
        };
        (stored <= MAX_BODY).then_some(Self { id: ObjectId(*id), body, len, stored })
    }
}

/// Where a pack has an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) id: ObjectId,
    /// Where its record begins.
    pub(crate) at: u32,
    /// Bytes of the body.
    pub(crate) stored: u32,
}

/// The end of a pack whose records take `at` bytes. Sorts `entries`.
pub(crate) fn encode_end(entries: &mut [Entry], at: u32) -> Vec<u8> {
    entries.sort_unstable();
    let mut out = Vec::with_capacity(entries.len() * ENTRY_LEN + FOOTER_LEN);
    for entry in entries.iter() {
        out.extend_from_slice(&entry.id.0);
        out.extend_from_slice(&entry.at.to_le_bytes());
        out.extend_from_slice(&entry.stored.to_le_bytes());
    }
    let hash = blake3::hash(&out);
    out.extend_from_slice(&at.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.extend_from_slice(hash.as_bytes());
    out.extend_from_slice(MAGIC);
    out
}

/// The index of a pack, sorted; none where it is damaged.
pub(crate) fn read_index(file: &File) -> io::Result<Option<Vec<Entry>>> {
    let len = file.metadata()?.len();
    let Some(footer_at) = len.checked_sub(FOOTER_LEN as u64) else { return Ok(None) };
    let mut footer = [0; FOOTER_LEN];
    file.read_exact_at(&mut footer, footer_at)?;
    let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| footer[at + n]));
    let (at, count) = (u64::from(number(0)), u64::from(number(4)));
    if &footer[40..] != MAGIC || at + count * ENTRY_LEN as u64 != footer_at {
        return Ok(None);
    }
    let mut index = vec![0; (footer_at - at) as usize];
    file.read_exact_at(&mut index, at)?;
    if blake3::hash(&index).as_bytes() != &footer[8..40] {
        return Ok(None);
    }
    let entries = index.chunks_exact(ENTRY_LEN).map(|bytes| {
        let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| bytes[at + n]));
        let mut id = [0; 32];
        id.copy_from_slice(&bytes[..32]);
        Entry { id: ObjectId(id), at: number(32), stored: number(36) }
    });
    Ok(Some(entries.collect()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn index_of(bytes: &[u8]) -> Option<Vec<Entry>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        read_index(&file).unwrap()
    }

    proptest! {
        #[test]
        fn headers_and_indexes_come_back(ids in prop::collection::vec(any::<[u8; 32]>(), 0..20), len in 0..MAX_PLAIN) {
            let mut entries: Vec<_> = ids
                .iter()
                .enumerate()
                .map(|(n, id)| Entry { id: ObjectId(*id), at: n as u32, stored: 7 })
                .collect();
            let mut bytes = MAGIC.to_vec();
            for entry in &entries {
                let header = Header { id: entry.id, body: Body::Plain, len, stored: 7 };
                prop_assert_eq!(Header::decode(&header.encode()), Some(header));
                bytes.extend_from_slice(&header.encode());
            }
            let at = bytes.len() as u32;
            bytes.extend(encode_end(&mut entries, at));
            prop_assert_eq!(index_of(&bytes), Some(entries));
        }

        #[test]
        fn any_bytes_are_no_index_or_one(mut bytes in prop::collection::vec(any::<u8>(), 0..300), end: bool) {
            if end {
                bytes.extend_from_slice(MAGIC);
            }
            index_of(&bytes);
            Header::decode(&bytes);
        }
    }

    #[test]
    fn a_changed_bit_of_the_index_is_seen() {
        let mut entries = vec![Entry { id: ObjectId([7; 32]), at: 8, stored: 3 }];
        let whole = [&MAGIC[..], &encode_end(&mut entries, 8)].concat();
        for at in 8..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(index_of(&damaged), None, "byte {at}");
        }
    }
}
