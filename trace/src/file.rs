//! The file that a trace is written to: private, locked while it grows, never left with half a frame.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A trace being written. Its lock (flock(2), exclusive) tells readers that more is to come.
#[derive(Debug)]
pub struct TraceFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl TraceFile {
    /// Creates the file with mode 0600. One that exists is an error unless `overwrite`; one that is being recorded
    /// is one always.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self> {
        let fail = |source| Error::Open { action: "create", path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = match options.open(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Self::make_room(path, overwrite)?;
                options.open(path).map_err(fail)?
            }
            opened => opened.map_err(fail)?,
        };
        // A reader may hold its shared lock for a moment to see whether the file is being recorded.
        file.lock().map_err(fail)?;
        Ok(Self { file, path: path.to_owned(), len: 0 })
    }

    /// Removes the finished trace at `path`, so that those who have it open keep it.
    fn make_room(path: &Path, overwrite: bool) -> Result<()> {
        let open = |source| Error::Open { action: "open", path: path.to_owned(), source };
        if !overwrite {
            return Err(Error::Exists(path.to_owned()));
        }
        if !fs::symlink_metadata(path).map_err(open)?.is_file() {
            return Err(Error::NotAFile(path.to_owned()));
        }
        let old = File::open(path).map_err(open)?;
        if is_locked(&old).map_err(open)? {
            return Err(Error::Recording(path.to_owned()));
        }
        let remove = |source| Error::Open { action: "replace", path: path.to_owned(), source };
        fs::remove_file(path).map_err(remove)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has the system put everything on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|source| Error::Io {
            action: "write",
            offset: self.len,
            source,
        })
    }
}

/// Whether a recorder holds `file`.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// All of a buffer is written or, as on a full disk, nothing: the trace stays readable and can go on.
impl Write for TraceFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Err(e) = self.file.write_all_at(buf, self.len) {
            // Readers pass over half a frame as well; so the first error is the one to tell.
            let _ = self.file.set_len(self.len);
            return Err(e);
        }
        self.len += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
