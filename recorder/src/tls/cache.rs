//! What was found in files, so that each is read once: every process maps the same libraries.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Function, functions};

/// Which file this is, and which content it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    size: u64,
    /// When it was changed; seconds and nanoseconds.
    changed: (i64, i64),
}

impl From<&Metadata> for FileId {
    fn from(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Files that were looked at.
#[derive(Debug, Default)]
pub struct Cache {
    files: HashMap<FileId, Arc<[Function]>>,
}

/// Files that are remembered. A recording that runs more begins anew.
const MOST: usize = 16 * 1024;

impl Cache {
    /// What is known of a file; None where it was not looked at.
    pub fn get(&self, file: FileId) -> Option<Arc<[Function]>> {
        self.files.get(&file).cloned()
    }

    /// The functions of TLS libraries in a file.
    ///
    /// # Errors
    /// As [`functions`].
    pub fn functions(&mut self, file: &File) -> io::Result<Arc<[Function]>> {
        let id = FileId::from(&file.metadata()?);
        if let Some(known) = self.get(id) {
            return Ok(known);
        }
        let found: Arc<[Function]> = functions(file)?.into();
        if self.files.len() >= MOST {
            self.files.clear();
        }
        self.files.insert(id, Arc::clone(&found));
        Ok(found)
    }
}
