//! Who may rely on objects, and who may remove them.
//!
//! Whoever is about to name objects holds the store from before it first asks what is there until what names them can be
//! read (for a snapshot: until its event is in the trace's file). Whoever removes objects takes the store for itself
//! between the last look at what names them and the removal. Nothing is awaited while it is taken, so that time is short.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// As long as it lives no object of the store is removed.
#[derive(Debug)]
pub struct Hold {
    _file: File,
    /// How often objects have been removed.
    removals: u64,
}

impl Hold {
    /// Waits until nobody removes objects.
    pub(crate) fn shared(objects: &Path) -> Result<Self> {
        let (file, path) = open(objects)?;
        file.lock_shared().context("lock", &path)?;
        Ok(Self { removals: count(&file, &path)?, _file: file })
    }

    /// What is known of the store is still true while this number is the same.
    pub(crate) fn removals(&self) -> u64 {
        self.removals
    }
}

/// As long as it lives nobody holds the store.
#[derive(Debug)]
pub(crate) struct Taken {
    file: File,
    path: PathBuf,
}

impl Taken {
    /// None while somebody holds it.
    pub(crate) fn try_take(objects: &Path) -> Result<Option<Self>> {
        let (file, path) = open(objects)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file, path })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error).context("lock", &path),
        }
    }

    /// Tells those who hold it later that objects are gone. To be called before the first one goes.
    pub(crate) fn will_remove(&mut self) -> Result<()> {
        let next = count(&self.file, &self.path)? + 1;
        let mut write = || {
            self.file.rewind()?;
            self.file.write_all(format!("{next:020}\n").as_bytes())?;
            self.file.sync_data()
        };
        write().context("write", &self.path)
    }
}

fn open(objects: &Path) -> Result<(File, PathBuf)> {
    let path = objects.join("lock");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    Ok((file.context("open", &path)?, path))
}

/// The number in the file; 0 where there is none yet.
fn count(mut file: &File, path: &Path) -> Result<u64> {
    let mut text = String::new();
    let read: io::Result<_> = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.context("read", path)?;
    Ok(text.trim().parse().unwrap_or_default())
}
