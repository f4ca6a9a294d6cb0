//! Files whose state is known: kept in this epoch, or made by the session, and not changed by anybody else since.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agentrec_trace::Seq;

use super::Change;
use crate::source::OpenId;

/// Files that are remembered. Beyond them all are forgotten, and some kept again.
const MAX_KNOWN: usize = 100_000;

/// A file for as long as it exists: inode numbers are used again, with another time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    dev: u64,
    ino: u64,
    /// None where the file system does not say.
    born: Option<SystemTime>,
}

impl Identity {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self { dev: meta.dev(), ino: meta.ino(), born: meta.created().ok() }
    }
}

/// What differs once a content was changed. The time of change would also differ after a rename.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(super) size: u64,
    /// Seconds and nanoseconds.
    mtime: (i64, i64),
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self { size: meta.size(), mtime: (meta.mtime(), meta.mtime_nsec()) }
    }
}

#[derive(Debug)]
struct Entry {
    epoch: u64,
    stamp: Stamp,
    /// Not only its attributes.
    content: bool,
    /// Made by the session, where nobody misses it.
    temporary: bool,
}

/// What is known, and which open descriptions may change it.
#[derive(Debug, Default)]
pub(super) struct Known {
    files: HashMap<Identity, Entry>,
    open: HashMap<u32, (Identity, PathBuf)>,
}

impl Known {
    pub(super) fn is_temporary(&self, id: &Identity) -> bool {
        self.files.get(id).is_some_and(|entry| entry.temporary)
    }

    /// Whether what `change` is about to change need not be kept again.
    pub(super) fn holds(&self, id: &Identity, epoch: u64, stamp: Stamp, change: Change) -> bool {
        self.files.get(id).is_some_and(|entry| {
            let whole = entry.content && entry.stamp == stamp;
            entry.epoch == epoch && (change == Change::Attributes || whole)
        })
    }

    pub(super) fn kept(&mut self, id: Identity, epoch: u64, stamp: Stamp, change: Change) {
        let content = change != Change::Attributes;
        self.insert(id, Entry { epoch, stamp, content, temporary: false });
    }

    pub(super) fn created(&mut self, id: Identity, epoch: u64, stamp: Stamp, temporary: bool) {
        self.insert(id, Entry { epoch, stamp, content: true, temporary });
    }

    /// A temporary file is none any more.
    pub(super) fn lasts(&mut self, id: &Identity, now: u64) {
        if let Some(entry) = self.files.get_mut(id).filter(|entry| entry.temporary) {
            (entry.temporary, entry.epoch) = (false, now);
        }
    }

    pub(super) fn forget(&mut self, id: &Identity) {
        self.files.remove(id);
    }

    /// The session may write to it through this description.
    pub(super) fn opened(&mut self, number: OpenId, file: (Identity, PathBuf)) {
        self.open.insert(number.0, file);
    }

    /// The number stands for another description from here on.
    pub(super) fn reused(&mut self, number: OpenId) {
        if !self.open.is_empty() {
            self.open.remove(&number.0);
        }
    }

    /// Whether a file is as it was when it was kept or made.
    pub(super) fn is_as(&self, id: &Identity, stamp: Stamp) -> bool {
        self.files.get(id).is_some_and(|entry| entry.stamp == stamp)
    }

    /// The session wrote through a description; `number` is the model's.
    pub(super) fn written(&mut self, number: Option<Seq>) {
        let file = number.and_then(|number| self.open.get(&(number.0 as u32)));
        if let Some((id, real)) = file.cloned() {
            self.changed(&id, &real);
        }
    }

    /// What is there now is the session's doing.
    pub(super) fn changed(&mut self, id: &Identity, real: &Path) {
        if let Some(entry) = self.files.get_mut(id)
            && let Ok(meta) = real.metadata()
            && Identity::of(&meta) == *id
        {
            entry.stamp = Stamp::of(&meta);
        }
    }

    fn insert(&mut self, id: Identity, entry: Entry) {
        if self.files.len() >= MAX_KNOWN {
            self.files.clear();
            self.open.clear();
        }
        self.files.insert(id, entry);
    }
}
