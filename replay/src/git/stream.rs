//! The language of git-fast-import(1): blobs with marks, and the lines of a commit.

use std::collections::HashMap;
use std::io::{self, Write};

use agentrec_store::{Error as StoreError, Objects};
use agentrec_trace::ObjectId;

use crate::error::{Error, Result};

/// Contents up to this length are held in memory, bytes.
const IN_MEMORY: u64 = 16 << 20;

/// What is written to git, and which contents it has.
pub(super) struct Stream<W> {
    out: W,
    marks: u64,
    blobs: HashMap<ObjectId, u64>,
}

impl<W: Write> Stream<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, marks: 0, blobs: HashMap::new() }
    }

    pub(super) fn next_mark(&mut self) -> u64 {
        self.marks += 1;
        self.marks
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::Git)
    }

    pub(super) fn finish(mut self) -> Result<W> {
        self.write(b"done\n")?;
        self.out.flush().map_err(Error::Git)?;
        Ok(self.out)
    }

    /// `data`, and the bytes.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(format!("data {}\n", bytes.len()).as_bytes())?;
        self.write(bytes)?;
        self.write(b"\n")
    }

    /// The mark of a content, which git is given where it has not got it; none where it is not there or damaged.
    pub(super) fn blob(
        &mut self,
        objects: &dyn Objects,
        id: &ObjectId,
        size: u64,
    ) -> Result<Option<u64>> {
        if let Some(mark) = self.blobs.get(id) {
            return Ok(Some(*mark));
        }
        let told = match size > IN_MEMORY {
            true => self.large(objects, id)?,
            false => match objects.get(id) {
                Ok(Some(content)) => {
                    self.begin_blob()?;
                    self.data(&content)?;
                    true
                }
                Ok(None) | Err(StoreError::Corrupt(_)) => false,
                Err(error) => return Err(error.into()),
            },
        };
        if !told {
            return Ok(None);
        }
        self.blobs.insert(*id, self.marks);
        Ok(Some(self.marks))
    }

    fn begin_blob(&mut self) -> Result<()> {
        let mark = self.next_mark();
        self.write(format!("blob\nmark :{mark}\n").as_bytes())
    }

    /// The length comes first, so it is read twice: what the tree says of it may be wrong.
    fn large(&mut self, objects: &dyn Objects, id: &ObjectId) -> Result<bool> {
        let len = match objects.copy_to(id, &mut io::sink()) {
            Ok(Some(len)) => len,
            Ok(None) | Err(StoreError::Corrupt(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.begin_blob()?;
        self.write(format!("data {len}\n").as_bytes())?;
        objects.copy_to(id, &mut self.out)?;
        self.write(b"\n")?;
        Ok(true)
    }

    /// A content that is no object of ours: what a symbolic link holds.
    pub(super) fn link(&mut self, target: &[u8]) -> Result<u64> {
        let id = ObjectId::of(target);
        if let Some(mark) = self.blobs.get(&id) {
            return Ok(*mark);
        }
        self.begin_blob()?;
        self.data(target)?;
        self.blobs.insert(id, self.marks);
        Ok(self.marks)
    }
}

/// A path as the stream has it: in quotes, with all that could end it escaped.
pub(super) fn quoted(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 2);
    out.push(b'"');
    for byte in path {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            0..=0x1f | 0x7f.. => out.extend(format!("\\{byte:03o}").into_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted(b"a \"b\"\n\\\xff"), br#""a \"b\"\012\\\377""#);
    }
}
