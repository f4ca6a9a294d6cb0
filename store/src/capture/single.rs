//! Reads single entries, for those who know which ones they want and not what else lies beside them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentrec_trace::ObjectId;
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use serde_bytes::ByteBuf;

use super::dir;
use super::file::{FileReader, Manner, Outcome};
use super::sink::Sink;
use super::walk::{kept_file, link_group};
use crate::cache::StatCache;
use crate::error::{Context, Result};
use crate::objects::{Batch, Store};
use crate::tree::{Entry, Kind, LeftOut};

/// Reads entries into the store, as a capture of the whole tree would.
pub struct EntryReader<'a> {
    store: &'a Store,
    /// Not there only while a file is read.
    batch: Option<Batch<'a>>,
    cache: StatCache,
}

impl<'a> EntryReader<'a> {
    /// Contents are in `store` after [`EntryReader::commit`], and not before.
    pub fn new(store: &'a Store) -> Self {
        Self { store, batch: None, cache: StatCache::in_memory() }
    }

    /// The entry `name` in the open directory `dir`; none where there is none. A directory has its own attributes and no content.
    /// `path` is the absolute path, by which secret files are recognised and errors name it.
    pub fn read(&mut self, dir: &File, name: &OsStr, path: &Path) -> Result<Option<Entry>> {
        let stat = match dir::stat(dir, name) {
            Ok(Some(stat)) => stat,
            Ok(None) | Err(Errno::ENOTDIR) => return Ok(None),
            Err(error) => return Err(error).context("read", path),
        };
        let kind = dir::kind(&stat);
        let mut entry = Entry {
            name: ByteBuf::from(name.as_bytes().to_vec()),
            kind,
            meta: dir::meta(&stat),
            link: link_group(&stat),
            ..Entry::default()
        };
        match kind {
            Kind::File => {
                let batch = self.batch.take().unwrap_or_else(|| self.store.batch());
                let sink = Sink::of(self.store, batch);
                let mut reader = FileReader { sink, cache: &mut self.cache, busy: None };
                let manner = Manner { trust: false, local: true };
                let outcome = reader.read(dir, name, path, stat, manner);
                self.batch = Some(reader.sink.into_batch());
                match outcome? {
                    Outcome::Kept(content, _) => return Ok(Some(kept_file(name, path, *content))),
                    Outcome::Gone => return Ok(None),
                    Outcome::Unreadable => entry.left_out = Some(LeftOut::Unreadable),
                    Outcome::OtherFileSystem => entry.left_out = Some(LeftOut::OtherFileSystem),
                }
                entry.size = stat.st_size.unsigned_abs();
            }
            Kind::Dir => {
                if let Ok(sub) = dir::open(dir, name, true) {
                    entry.meta.xattrs = dir::xattrs(&sub, path);
                }
            }
            Kind::Symlink => match readlinkat(dir, name) {
                Ok(target) => entry.target = Some(ByteBuf::from(target.into_encoded_bytes())),
                Err(Errno::ENOENT | Errno::EINVAL) => return Ok(None),
                Err(error) => return Err(error).context("read the link", path),
            },
            Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => {}
        }
        Ok(Some(entry))
    }

    /// Adds a content that stands in no file.
    pub fn put(&mut self, content: &[u8]) -> Result<ObjectId> {
        self.batch.get_or_insert_with(|| self.store.batch()).put(content)
    }

    /// Puts the contents on the disk; returns how many were new.
    pub fn commit(&mut self) -> Result<usize> {
        self.batch.take().map_or(Ok(0), Batch::commit)
    }
}
