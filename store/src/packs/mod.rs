//! Packs: files with many objects each, written once and complete or not there at all.
//!
//! Twenty thousand files of one object each cost more in names and syncs than in bytes. Which objects there are is held
//! in memory, 32 bytes for each: half of its address, which nobody can make two contents for, and its place.

pub(crate) mod format;
pub(crate) mod writer;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agentrec_trace::ObjectId;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::staging::random_name;
use format::{Entry, HEADER_LEN, Header};
use writer::Finished;

/// How a pack is called.
const EXTENSION: &str = "pack";

/// Files that are kept open, at most.
const OPEN: usize = 16;

/// Indexes of packs that were added since the last sorting, at most.
const RECENT: usize = 32;

/// The clock that file systems stamp with moves on at least so often.
const TICK: Duration = Duration::from_millis(20);

/// The packs of one directory, as far as they are known.
#[derive(Debug)]
pub(crate) struct Packs {
    dir: PathBuf,
    /// Their names without the extension; a pack's number is its place here.
    names: Vec<String>,
    /// Bytes of the records of each.
    lens: Vec<u64>,
    /// The index of all of them, sorted.
    slots: Vec<Slot>,
    /// Indexes of those that came later.
    recent: Vec<Vec<Slot>>,
    open: Vec<(u32, Arc<File>)>,
    /// The directory's change time when it was listed.
    listed: Option<(i64, i64)>,
    /// Packs whose index can't be read.
    pub(crate) damaged: Vec<PathBuf>,
}

/// Which packs there were. As long as each is as it was, and nobody removed objects, all of their objects are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stock {
    /// How often objects had been removed.
    pub(crate) removals: u64,
    /// Name, inode, length and change time of each, in order.
    packs: Vec<(String, u64, u64, (i64, i64))>,
}

impl Stock {
    /// The packs in `dir`.
    pub(crate) fn of(dir: &Path, removals: u64) -> Result<Self> {
        let mut packs = Vec::new();
        for name in list(dir)? {
            let path = dir.join(&name).with_extension(EXTENSION);
            match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    let file = other.context("read", &path)?;
                    packs.push((name, file.ino(), file.len(), (file.ctime(), file.ctime_nsec())));
                }
            }
        }
        packs.sort();
        Ok(Self { removals, packs })
    }

    /// Whether all of what `other` lists is here too.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let has = |pack: &_| self.packs.binary_search(pack).is_ok();
        self.removals == other.removals && other.packs.iter().all(has)
    }
}

/// Where an object may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    prefix: u128,
    pack: u32,
    at: u32,
    stored: u32,
}

/// An object that was found, with its body.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
    /// Its pack.
    pub(crate) path: PathBuf,
}

impl Found {
    /// The record that an index says is there; none where it is another one, or cut.
    pub(crate) fn read(file: &File, path: &Path, entry: &Entry) -> Option<Self> {
        let len = HEADER_LEN + entry.stored.min(format::MAX_BODY) as usize;
        let mut body = vec![0; len];
        file.read_exact_at(&mut body, u64::from(entry.at)).ok()?;
        let header = own_header(&body, entry)?;
        body.drain(..HEADER_LEN);
        Some(Self { header, body, path: path.to_owned() })
    }
}

/// What stands before the body of a record.
pub(crate) fn read_header(file: &File, entry: &Entry) -> Option<Header> {
    let mut header = [0; HEADER_LEN];
    file.read_exact_at(&mut header, u64::from(entry.at)).ok()?;
    own_header(&header, entry)
}

fn own_header(bytes: &[u8], entry: &Entry) -> Option<Header> {
    let own = |header: &Header| (header.id, header.stored) == (entry.id, entry.stored);
    Header::decode(bytes).filter(own)
}

impl Packs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            names: Vec::new(),
            lens: Vec::new(),
            slots: Vec::new(),
            recent: Vec::new(),
            open: Vec::new(),
            listed: None,
            damaged: Vec::new(),
        }
    }

    /// Takes up packs that others added. Whether there may be something new.
    pub(crate) fn refresh(&mut self) -> Result<bool> {
        let metadata = match fs::metadata(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.context("read", &self.dir)?,
        };
        let now = (metadata.mtime(), metadata.mtime_nsec());
        if self.listed == Some(now) {
            return Ok(false);
        }
        let mut found = list(&self.dir)?;
        found.sort();
        if self.names.iter().any(|name| found.binary_search(name).is_err()) {
            // Some are gone: numbers would be wrong.
            self.forget();
        }
        let known: HashSet<_> = self.names.iter().cloned().collect();
        for name in found.into_iter().filter(|name| !known.contains(name)) {
            self.load(name)?;
        }
        self.sort_where_many();
        // What comes in the same tick of the file system's clock would leave the same time.
        let age = SystemTime::now().duration_since(metadata.modified().context("read", &self.dir)?);
        self.listed = age.is_ok_and(|age| age > TICK).then_some(now);
        Ok(true)
    }

    /// Forgets what is known, since packs were removed.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(std::mem::take(&mut self.dir));
    }

    /// Whether the object is in a pack that is known.
    pub(crate) fn contains(&self, id: &ObjectId) -> bool {
        self.slots(id).next().is_some()
    }

    /// The object, if it is in a pack that is known.
    pub(crate) fn find(&mut self, id: &ObjectId) -> Result<Option<Found>> {
        let slots: Vec<_> = self.slots(id).collect();
        let mut damaged = false;
        for Slot { pack, at, stored, .. } in slots {
            let path = self.path(pack);
            let file = match self.file(pack, &path) {
                // It was merged into another one, or collected.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.context("open", &path)?,
            };
            let found = Found::read(&file, &path, &Entry { id: *id, at, stored });
            if found.is_some() {
                return Ok(found);
            }
            damaged = true;
        }
        if damaged { Err(Error::Corrupt(*id)) } else { Ok(None) }
    }

    /// What stands before the object's body.
    pub(crate) fn header(&mut self, id: &ObjectId) -> Option<Header> {
        let Slot { pack, at, stored, .. } = self.slots(id).next()?;
        let path = self.path(pack);
        let file = self.file(pack, &path).ok()?;
        read_header(&file, &Entry { id: *id, at, stored })
    }

    /// The object's pack, and where its record begins there.
    pub(crate) fn locate(&self, id: &ObjectId) -> Option<(PathBuf, u64)> {
        self.slots(id).next().map(|slot| (self.path(slot.pack), u64::from(slot.at)))
    }

    fn slots(&self, id: &ObjectId) -> impl Iterator<Item = Slot> {
        let prefix = prefix(id);
        std::iter::once(&self.slots).chain(&self.recent).flat_map(move |run| {
            let first = run.partition_point(|slot| slot.prefix < prefix);
            run[first..].iter().copied().take_while(move |slot| slot.prefix == prefix)
        })
    }

    /// Puts finished packs under their names. They are safe when the directory was synced, which is done here.
    pub(crate) fn add(&mut self, finished: Vec<Finished>) -> Result<()> {
        if finished.is_empty() {
            return Ok(());
        }
        for mut pack in finished {
            let name = random_name().context("make a name in", &self.dir)?;
            let path = self.dir.join(&name).with_extension(EXTENSION);
            fs::rename(&pack.path, &path).context("rename to", &path)?;
            pack.path = PathBuf::new();
            self.take_up(name, &pack.entries);
        }
        self.sort_where_many();
        File::open(&self.dir).and_then(|dir| dir.sync_all()).context("sync", &self.dir)
    }

    /// All packs that are known.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        (0..self.names.len() as u32).map(|pack| self.path(pack)).collect()
    }

    /// Those of fewer bytes, as far as they can be read.
    pub(crate) fn smaller_than(&self, len: u64) -> Vec<PathBuf> {
        let paths = self.paths().into_iter().zip(&self.lens);
        paths.filter(|(_, bytes)| **bytes < len).map(|(path, _)| path).collect()
    }

    fn load(&mut self, name: String) -> Result<()> {
        let path = self.dir.join(&name).with_extension(EXTENSION);
        let index = File::open(&path).and_then(|file| format::read_index(&file));
        match index {
            Ok(Some(entries)) => self.take_up(name, &entries),
            Ok(None) => {
                self.take_up(name, &[]);
                self.damaged.push(path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("read", &path),
        }
        Ok(())
    }

    fn take_up(&mut self, name: String, entries: &[Entry]) {
        let pack = u32::try_from(self.names.len()).expect("fewer packs than that fit on a disk");
        self.names.push(name);
        self.lens
            .push(entries.iter().map(|entry| HEADER_LEN as u64 + u64::from(entry.stored)).sum());
        let slot = |entry: &Entry| Slot {
            prefix: prefix(&entry.id),
            pack,
            at: entry.at,
            stored: entry.stored,
        };
        self.recent.push(entries.iter().map(slot).collect());
    }

    fn sort_where_many(&mut self) {
        if self.recent.len() > RECENT || (self.slots.is_empty() && self.recent.len() > 1) {
            self.slots.extend(self.recent.drain(..).flatten());
            // Made of sorted runs, which a stable sort finds.
            self.slots.sort();
        }
    }

    fn path(&self, pack: u32) -> PathBuf {
        self.dir.join(&self.names[pack as usize]).with_extension(EXTENSION)
    }

    fn file(&mut self, pack: u32, path: &Path) -> io::Result<Arc<File>> {
        if let Some((_, file)) = self.open.iter().find(|(number, _)| *number == pack) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(path)?);
        if self.open.len() >= OPEN {
            self.open.remove(0);
        }
        self.open.push((pack, Arc::clone(&file)));
        Ok(file)
    }
}

/// The packs in `dir`, by name without the extension.
fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).context("list", dir)? {
        let path = entry.context("list", dir)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn prefix(id: &ObjectId) -> u128 {
    u128::from_be_bytes(*id.0.first_chunk().expect("an address is longer"))
}
