//! What was read before need not be read again: contents by inode, valid as long as stat(2) says the same.
//!
//! One file per root, written whole and atomically. Several recorders may write the same one, and the last wins: every
//! entry is checked against stat(2) before it is believed, so an old or a foreign file costs time, never truth.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentrec_trace::ObjectId;
use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::Home;
use crate::error::{Context, Result};

/// A change time this close to the reading is not trusted, nanoseconds: a later write could leave the same time. File
/// systems keep times to 2 s at worst (FAT).
const TOO_FRESH: i64 = 2_000_000_000;

/// Times and size by which stat(2) tells that a file is the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) size: i64,
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
}

impl Stamp {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self {
            size: stat.st_size,
            mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Nanoseconds since 1970, saturating in the year 2262.
pub(crate) fn nanoseconds(seconds: i64, fraction: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(fraction)
}

/// What was found when a file was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cached {
    pub(crate) stamp: Stamp,
    pub(crate) id: ObjectId,
    /// The content begins with a private key.
    pub(crate) private_key: bool,
    /// The content is an SQLite database.
    pub(crate) sqlite: bool,
    pub(crate) xattrs: Vec<(ByteBuf, ByteBuf)>,
    /// Found or read since the cache was loaded: the rest is not written again.
    #[serde(skip)]
    used: bool,
}

/// The files that earlier captures of one root read.
#[derive(Debug, Default)]
pub struct StatCache {
    path: Option<PathBuf>,
    files: HashMap<(u64, u64), Cached>,
    changed: bool,
}

impl StatCache {
    /// A cache that is never written.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// The cache of the root at the real path `root`; empty where there is none, or a damaged one.
    pub fn load(home: &Home, root: &Path) -> Self {
        let name = blake3::hash(root.as_os_str().as_bytes()).to_hex();
        let path = home.cache().join(&name[..32]);
        let files = fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { path: Some(path), files, changed: false }
    }

    /// Writes what is still valid, if anything changed.
    pub fn save(&mut self) -> Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return Ok(()) };
        let used: Vec<_> = self.files.iter().filter(|(_, cached)| cached.used).collect();
        let body = rmp_serde::to_vec(&used).expect("every field has a MessagePack form");
        let temp = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temp)
            .context("create", &temp)?;
        file.write_all(blake3::hash(&body).as_bytes()).context("write", &temp)?;
        file.write_all(&body).context("write", &temp)?;
        // Not synced: the checksum tells a torn file, and an empty cache is only slow.
        fs::rename(&temp, path).context("rename to", path)?;
        self.changed = false;
        Ok(())
    }

    /// What is known of the file that `stat` describes, if it is still the one that was read.
    pub(crate) fn get(&mut self, stat: &FileStat) -> Option<&Cached> {
        let cached = self.files.get_mut(&(stat.st_dev, stat.st_ino))?;
        if cached.stamp != Stamp::of(stat) {
            return None;
        }
        cached.used = true;
        Some(cached)
    }

    /// Remembers a file that was read from `read_at` on (nanoseconds since 1970), unless it changed too shortly before.
    pub(crate) fn insert(&mut self, stat: &FileStat, read_at: i64, mut cached: Cached) {
        self.changed = true;
        if cached.stamp.ctime.saturating_add(TOO_FRESH) > read_at {
            self.files.remove(&(stat.st_dev, stat.st_ino));
            return;
        }
        cached.used = true;
        self.files.insert((stat.st_dev, stat.st_ino), cached);
    }
}

impl Cached {
    pub(crate) fn new(stamp: Stamp, id: ObjectId) -> Self {
        Self { stamp, id, private_key: false, sqlite: false, xattrs: Vec::new(), used: true }
    }
}

fn decode(bytes: &[u8]) -> Option<HashMap<(u64, u64), Cached>> {
    let (hash, body) = bytes.split_at_checked(blake3::OUT_LEN)?;
    if blake3::hash(body).as_bytes() != hash {
        return None;
    }
    let files: Vec<((u64, u64), Cached)> = rmp_serde::from_slice(body).ok()?;
    Some(files.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::stat;

    use super::*;

    fn fixture() -> (tempfile::TempDir, Home, FileStat, Cached) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        home.create().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "content").unwrap();
        let stat = stat(&path).unwrap();
        let mut cached = Cached::new(Stamp::of(&stat), ObjectId::of(b"content"));
        cached.xattrs.push((ByteBuf::from("user.a"), ByteBuf::from([0xff])));
        (dir, home, stat, cached)
    }

    #[test]
    fn a_file_that_kept_still_is_known_in_the_next_session() {
        let (dir, home, stat, cached) = fixture();
        let mut cache = StatCache::load(&home, dir.path());
        cache.insert(&stat, cached.stamp.ctime + 2 * TOO_FRESH, cached.clone());
        cache.save().unwrap();
        let mut next = StatCache::load(&home, dir.path());
        assert_eq!(next.get(&stat), Some(&cached));
        assert_eq!(StatCache::load(&home, Path::new("/other")).get(&stat), None);
    }

    #[test]
    fn any_difference_in_size_or_times_counts() {
        let (_dir, _home, stat, cached) = fixture();
        let mut cache = StatCache::in_memory();
        cache.insert(&stat, cached.stamp.ctime + 2 * TOO_FRESH, cached);
        let changes: [fn(&mut FileStat); 4] = [
            |stat| stat.st_size += 1,
            |stat| stat.st_mtime_nsec += 1,
            |stat| stat.st_ctime_nsec += 1,
            |stat| stat.st_ino += 1,
        ];
        for change in changes {
            let mut other = stat;
            change(&mut other);
            assert_eq!(cache.get(&other), None);
        }
        assert!(cache.get(&stat).is_some());
    }

    #[test]
    fn a_change_shortly_before_the_reading_is_not_trusted() {
        let (_dir, _home, stat, cached) = fixture();
        let mut cache = StatCache::in_memory();
        cache.insert(&stat, cached.stamp.ctime + TOO_FRESH - 1, cached.clone());
        assert_eq!(cache.get(&stat), None);
        // The clock was set back.
        cache.insert(&stat, cached.stamp.ctime - 1, cached);
        assert_eq!(cache.get(&stat), None);
    }

    #[test]
    fn a_damaged_cache_is_an_empty_one() {
        let (dir, home, stat, cached) = fixture();
        let mut cache = StatCache::load(&home, dir.path());
        cache.insert(&stat, cached.stamp.ctime + 2 * TOO_FRESH, cached);
        cache.save().unwrap();
        let path = cache.path.unwrap();
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &[b"x", &whole[1..]].concat(), b""] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(StatCache::load(&home, dir.path()).get(&stat), None);
        }
    }

    #[test]
    fn files_that_are_gone_are_not_written_again() {
        let (dir, home, stat, cached) = fixture();
        let read_at = cached.stamp.ctime + 2 * TOO_FRESH;
        let mut gone = stat;
        gone.st_ino += 1;
        let mut cache = StatCache::load(&home, dir.path());
        cache.insert(&stat, read_at, cached.clone());
        cache.insert(&gone, read_at, cached.clone());
        cache.save().unwrap();
        let mut next = StatCache::load(&home, dir.path());
        next.get(&stat);
        let mut new = stat;
        new.st_ino += 2;
        next.insert(&new, read_at, cached);
        next.save().unwrap();
        let mut last = StatCache::load(&home, dir.path());
        assert!(last.get(&stat).is_some() && last.get(&new).is_some());
        assert_eq!(last.get(&gone), None);
    }
}
