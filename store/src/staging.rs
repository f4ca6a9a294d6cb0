//! Directories for files that are still being written: each is locked by its writer, so that a later writer
//! recognises what a killed one left behind and removes it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Context, Result};

/// A directory of temporary files that belongs to this process as long as the value lives.
#[derive(Debug)]
pub(crate) struct Staging {
    dir: PathBuf,
    /// Holds the lock (flock(2) on the directory); the kernel releases it when the process dies.
    _handle: File,
    next: AtomicU64,
}

impl Staging {
    /// Removes what dead writers left in `parent`, then makes a directory of our own there.
    pub(crate) fn create(parent: &Path) -> Result<Self> {
        remove_abandoned(parent)?;
        loop {
            let dir = parent.join(random_name().context("make a name in", parent)?);
            DirBuilder::new().mode(0o700).create(&dir).context("create", &dir)?;
            let Some(handle) = lock(&dir)? else { continue };
            return Ok(Self { dir, _handle: handle, next: AtomicU64::new(0) });
        }
    }

    /// A path that nothing else uses, inside the directory.
    pub(crate) fn next_path(&self) -> PathBuf {
        self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next writer.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes every staging directory of `parent` whose writer is dead.
fn remove_abandoned(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent).context("list", parent)? {
        let path = entry.context("list", parent)?.path();
        // Held until it is gone: who has just made it waits to lock it.
        let Some(_held) = lock(&path)? else { continue };
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context("remove", &path);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Locks a staging directory; none where it is another's or was removed in between.
///
/// A newly made directory can be taken for an abandoned one until it is locked, so whoever gets the lock checks that
/// the name still leads to what was locked.
fn lock(dir: &Path) -> Result<Option<File>> {
    let handle = match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.context("open", dir)?,
    };
    match handle.try_lock() {
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error).context("lock", dir),
        Ok(()) => {}
    }
    let held = handle.metadata().context("read", dir)?;
    Ok(fs::symlink_metadata(dir)
        .is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()))
        .then_some(handle))
}

/// 32 hexadecimal digits from the kernel's random source.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_writer_left_is_removed_and_what_a_live_one_writes_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let live = Staging::create(parent.path()).unwrap();
        fs::write(live.next_path(), "half").unwrap();
        let dead = parent.path().join("dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("0"), "half").unwrap();

        let own = Staging::create(parent.path()).unwrap();
        assert!(!dead.exists());
        assert!(live.dir.join("0").exists());
        assert_ne!(own.next_path(), live.next_path());
    }

    #[test]
    fn writers_that_begin_at_once_remove_nobody_elses() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let own = Staging::create(parent.path()).unwrap();
                        fs::write(own.next_path(), "half").unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn nothing_is_left_when_the_writer_ends() {
        let parent = tempfile::tempdir().unwrap();
        drop(Staging::create(parent.path()).unwrap());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
