//! What was captured before need not be read again: directories by path, contents by inode, valid as long as stat(2) says
//! the same.
//!
//! One file per root, written whole and atomically. Several recorders may write the same one, and the last wins: everything
//! is checked against stat(2) before it is believed, so an old or a foreign file costs time, never truth.

mod folder;

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentrec_trace::ObjectId;
use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use self::folder::{Bytes, put_block};
pub(crate) use self::folder::{Folder, FolderWriter, Moment, Note};
use crate::Home;
use crate::error::{Context, Result};
use crate::packs::Stock;

/// What the file begins with, behind its hash.
const MAGIC: &[u8; 8] = b"agrstat2";

/// A change time this close to the reading is not trusted, nanoseconds: a later write could leave the same time. File
/// systems keep times to 2 s at worst (FAT).
pub(crate) const TOO_FRESH: i64 = 2_000_000_000;

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
}

/// The directories of a tree, by path.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    bytes: Vec<u8>,
    /// Where they begin in the bytes.
    from: usize,
    /// Where each lies in the bytes, in the order of their paths.
    places: Vec<Range<usize>>,
}

/// What earlier captures of one root found.
#[derive(Debug, Default)]
pub struct StatCache {
    path: Option<PathBuf>,
    /// Of the last capture of everything.
    folders: Folders,
    /// By what it was decided what to read: with other rules no directory is as it was.
    context: [u8; 32],
    /// Where the objects of those directories are; none where nobody knows.
    stock: Option<Stock>,
    /// Contents that were read since, and those of directories that are being walked: by device and inode.
    files: HashMap<(u64, u64), Cached>,
    /// The directories whose contents are not there yet, by device and inode.
    inodes: Option<HashMap<(u64, u64), usize>>,
    changed: bool,
}

/// What stands in the file in front of the directories.
#[derive(Serialize, Deserialize)]
struct Front {
    context: [u8; 32],
    stock: Option<Stock>,
    files: Vec<((u64, u64), Cached)>,
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
        let loaded = fs::read(&path).ok().and_then(decode).unwrap_or_default();
        Self { path: Some(path), ..loaded }
    }

    /// Writes what is still valid, if anything changed.
    pub fn save(&mut self) -> Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return Ok(()) };
        let front = Front {
            context: self.context,
            stock: self.stock.clone(),
            files: self.files.iter().map(|(file, cached)| (*file, cached.clone())).collect(),
        };
        let front = rmp_serde::to_vec(&front).expect("every field has a MessagePack form");
        let mut head = MAGIC.to_vec();
        put_block(&mut head, &front);
        let folders = &self.folders.bytes[self.folders.from..];
        let hash = blake3::Hasher::new().update(&head).update(folders).finalize();
        let temp = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temp)
            .context("create", &temp)?;
        for part in [hash.as_bytes().as_slice(), &head, folders] {
            file.write_all(part).context("write", &temp)?;
        }
        // Not synced: the checksum tells a torn file, and an empty cache is only slow.
        fs::rename(&temp, path).context("rename to", path)?;
        self.changed = false;
        Ok(())
    }

    /// What is known of the file that `stat` describes, if it is still the one that was read.
    pub(crate) fn get(&self, stat: &FileStat) -> Option<&Cached> {
        let cached = self.files.get(&(stat.st_dev, stat.st_ino))?;
        (cached.stamp == Stamp::of(stat)).then_some(cached)
    }

    /// Remembers a file that was read from `read_at` on (nanoseconds since 1970), unless it changed too shortly before.
    pub(crate) fn insert(&mut self, stat: &FileStat, read_at: i64, cached: Cached) {
        self.changed = true;
        let file = (stat.st_dev, stat.st_ino);
        if cached.stamp.ctime.saturating_add(TOO_FRESH) > read_at {
            self.files.remove(&file);
        } else {
            self.files.insert(file, cached);
        }
    }

    /// The directories of the last capture of everything.
    pub(crate) fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Whether the last capture of everything decided by the same.
    pub(crate) fn has_context(&self, context: &[u8; 32]) -> bool {
        self.context == *context
    }

    /// Where the objects of the directories were.
    pub(crate) fn stock(&self) -> Option<&Stock> {
        self.stock.as_ref()
    }

    /// Makes the contents in the directory that `stat` describes known to [`StatCache::get`], wherever it was before.
    pub(crate) fn open(&mut self, stat: &FileStat) {
        let folders = &self.folders;
        let inodes = self.inodes.get_or_insert_with(|| {
            let all = (0..folders.len()).filter_map(|index| Some((index, folders.get(index)?)));
            all.map(|(index, Folder { moment, .. })| ((moment.dev, moment.ino), index)).collect()
        });
        // Once is enough.
        let Some(index) = inodes.remove(&(stat.st_dev, stat.st_ino)) else { return };
        let Some(folder) = self.folders.get(index) else { return };
        for item in folder.items() {
            if let Some(cached) = item.cached() {
                self.files.entry((item.moment.dev, item.moment.ino)).or_insert(cached);
            }
        }
    }

    /// Takes over what a capture of everything found: directories that are as they were, by number, and others, encoded.
    pub(crate) fn replace(
        &mut self,
        context: [u8; 32],
        stock: Stock,
        same: &[usize],
        others: &Folders,
    ) {
        let is_same = others.places.is_empty() && same.len() == self.folders.len();
        if !is_same {
            self.folders = self.folders.merged(same, others);
        }
        self.changed |= !is_same || self.context != context || self.stock.as_ref() != Some(&stock);
        (self.context, self.stock) = (context, Some(stock));
        self.files = HashMap::new();
        self.inodes = None;
    }
}

impl Folders {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<Folder<'_>> {
        Folder::decode(self.at(index)?)
    }

    fn at(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(self.places.get(index)?.clone())
    }

    /// The path of each, in order.
    pub(crate) fn path(&self, index: usize) -> &[u8] {
        self.at(index).and_then(Folder::path_in).unwrap_or_default()
    }

    /// The number of the directory at `path`.
    pub(crate) fn find(&self, path: &[u8]) -> Option<usize> {
        let index = self.first_from(path);
        (index < self.len() && self.path(index) == path).then_some(index)
    }

    /// The number of the directory at `path`, if it is there, and those of all below it.
    pub(crate) fn below(&self, path: &[u8]) -> impl Iterator<Item = usize> + use<> {
        let own = self.find(path);
        let rest = if path.is_empty() {
            usize::from(own.is_some())..self.len()
        } else {
            // '0' follows '/'.
            self.first_from(&[path, b"/"].concat())..self.first_from(&[path, b"0"].concat())
        };
        own.into_iter().chain(rest)
    }

    fn first_from(&self, path: &[u8]) -> usize {
        self.places.partition_point(|place| {
            Folder::path_in(&self.bytes[place.clone()]).is_some_and(|known| known < path)
        })
    }

    /// Adds one; the order is made by [`Folders::merged`].
    pub(crate) fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let from = self.bytes.len();
        encode(&mut self.bytes);
        self.places.push(from..self.bytes.len());
    }

    /// Some of these, by number, and all others, as they are written.
    fn merged(&self, same: &[usize], others: &Self) -> Self {
        let kept = same.iter().filter_map(|&index| self.at(index));
        let mut all: Vec<_> =
            kept.chain(others.places.iter().map(|place| &others.bytes[place.clone()])).collect();
        all.sort_by_key(|bytes| Folder::path_in(bytes));
        let mut bytes = Vec::with_capacity(all.iter().map(|folder| folder.len() + 4).sum());
        let mut places = Vec::with_capacity(all.len());
        for folder in all {
            put_block(&mut bytes, folder);
            places.push(bytes.len() - folder.len()..bytes.len());
        }
        Self { bytes, from: 0, places }
    }

    /// None where these bytes are not what is written, or out of order.
    fn decode(bytes: Vec<u8>, from: usize) -> Option<Self> {
        let mut rest = Bytes(bytes.get(from..)?);
        let mut places: Vec<Range<usize>> = Vec::new();
        let mut last = None;
        while !rest.0.is_empty() {
            let folder = rest.block()?;
            let path = Folder::path_in(folder)?;
            if last.is_some_and(|last| last >= path) {
                return None;
            }
            last = Some(path);
            let end = bytes.len() - rest.0.len();
            places.push(end - folder.len()..end);
        }
        Some(Self { bytes, from, places })
    }
}

impl Cached {
    pub(crate) fn new(stamp: Stamp, id: ObjectId) -> Self {
        Self { stamp, id, private_key: false, sqlite: false, xattrs: Vec::new() }
    }
}

fn decode(bytes: Vec<u8>) -> Option<StatCache> {
    let (hash, body) = bytes.split_at_checked(blake3::OUT_LEN)?;
    if blake3::hash(body).as_bytes() != hash {
        return None;
    }
    let mut rest = Bytes(body.strip_prefix(MAGIC)?);
    let front: Front = rmp_serde::from_slice(rest.block()?).ok()?;
    let from = bytes.len() - rest.0.len();
    let folders = Folders::decode(bytes, from)?;
    let Front { context, stock, files } = front;
    let files = files.into_iter().collect();
    Some(StatCache { folders, context, stock, files, ..StatCache::default() })
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::stat;
    use proptest::prelude::*;

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
        let next = StatCache::load(&home, dir.path());
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

    fn folders(paths: &[&str], stat: &FileStat) -> Folders {
        let mut folders = Folders::default();
        for path in paths {
            let writer = FolderWriter::new(stat, i64::MAX);
            let id = ObjectId::of(path.as_bytes());
            folders.push(|out| writer.finish(path.as_bytes(), id, false, None, out));
        }
        folders
    }

    #[test]
    fn what_a_capture_did_not_meet_is_not_written_again() {
        let (dir, home, stat, cached) = fixture();
        let stock = Stock::of(dir.path(), 0).unwrap();
        let read_at = cached.stamp.ctime + 2 * TOO_FRESH;
        let mut cache = StatCache::load(&home, dir.path());
        cache.insert(&stat, read_at, cached);
        let all = folders(&["", "a/b", "a", "a-b", "gone"], &stat);
        cache.replace([1; 32], stock.clone(), &[], &all);
        cache.save().unwrap();

        let mut next = StatCache::load(&home, dir.path());
        assert_eq!(next.get(&stat), None);
        assert!(next.has_context(&[1; 32]) && next.stock() == Some(&stock));
        let paths = |cache: &StatCache| -> Vec<String> {
            let path = |index| String::from_utf8(cache.folders().path(index).to_vec()).unwrap();
            (0..cache.folders().len()).map(path).collect()
        };
        assert_eq!(paths(&next), ["", "a", "a-b", "a/b", "gone"]);
        let below = |path: &str| next.folders().below(path.as_bytes()).collect::<Vec<_>>();
        assert_eq!((below(""), below("a")), (vec![0, 1, 2, 3, 4], vec![1, 3]));
        assert_eq!((below("a-b"), below("b")), (vec![2], vec![]));
        next.replace([1; 32], stock.clone(), &[0, 1, 3], &folders(&["new", "a-b"], &stat));
        next.save().unwrap();
        let last = StatCache::load(&home, dir.path());
        assert_eq!(paths(&last), ["", "a", "a-b", "a/b", "new"]);
        assert!(last.folders().get(3).is_some_and(|folder| folder.path == b"a/b"));
    }

    #[test]
    fn nothing_is_written_where_nothing_changed() {
        let (dir, home, stat, _) = fixture();
        let stock = Stock::of(dir.path(), 0).unwrap();
        let mut cache = StatCache::load(&home, dir.path());
        cache.replace([1; 32], stock.clone(), &[], &folders(&["", "a"], &stat));
        cache.save().unwrap();
        let path = cache.path.unwrap();
        let mut next = StatCache::load(&home, dir.path());
        fs::remove_file(&path).unwrap();
        next.replace([1; 32], stock.clone(), &[0, 1], &Folders::default());
        next.save().unwrap();
        assert!(!path.exists());
        next.replace([2; 32], stock, &[0, 1], &Folders::default());
        next.save().unwrap();
        assert!(path.exists());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_cache_or_none(
            body in prop::collection::vec(any::<u8>(), 0..300),
            front in prop::collection::vec(any::<u8>(), 0..20),
            parts: bool,
        ) {
            let mut bytes = MAGIC.to_vec();
            if parts {
                let front = Front { context: [0; 32], stock: None, files: Vec::new() };
                put_block(&mut bytes, &rmp_serde::to_vec(&front).unwrap());
                put_block(&mut bytes, &body);
            } else {
                bytes.extend_from_slice(&front);
                bytes.extend_from_slice(&body);
            }
            let hash = blake3::hash(&bytes);
            let file = [hash.as_bytes().as_slice(), &bytes].concat();
            if let Some(cache) = decode(file) {
                for index in 0..cache.folders.len() {
                    let Some(folder) = cache.folders.get(index) else { continue };
                    folder.items().for_each(|item| drop(item.cached()));
                }
            }
        }
    }
}
