//! What the store holds, in numbers.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use crate::error::{Context, Result};
use crate::objects::Store;
use crate::packs::format::Body;
use crate::packs::{format, read_header};

/// Numbers of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Objects.
    pub objects: u64,
    /// Those that are long contents, cut into chunks; the chunks are objects too.
    pub cut: u64,
    /// Packs.
    pub packs: u64,
    /// Objects in files of their own.
    pub loose: u64,
    /// Bytes of the objects that lie in packs, before compression.
    pub content_bytes: u64,
    /// Bytes on the disk.
    pub stored_bytes: u64,
}

impl Store {
    /// Counts. Contents are not read.
    pub fn stats(&self) -> Result<StoreStats> {
        let _hold = self.hold()?;
        let mut stats = StoreStats::default();
        let mut seen = HashSet::new();
        for path in self.with_packs(|packs| packs.paths())? {
            let file = match File::open(&path) {
                // It was merged into another one, which is listed too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.context("open", &path)?,
            };
            stats.packs += 1;
            stats.stored_bytes += file.metadata().context("read", &path)?.len();
            for entry in format::read_index(&file).context("read", &path)?.unwrap_or_default() {
                if !seen.insert(entry.id) {
                    continue;
                }
                let Some(header) = read_header(&file, &entry) else { continue };
                match header.body {
                    Body::Plain => stats.content_bytes += header.len,
                    // Its chunks are counted.
                    Body::Recipe => stats.cut += 1,
                }
            }
        }
        for (id, path) in self.loose().list(&mut Vec::new())? {
            stats.loose += u64::from(seen.insert(id));
            stats.stored_bytes += path.metadata().context("read", &path)?.len();
        }
        stats.objects = seen.len() as u64;
        Ok(stats)
    }
}
