//! Packs: files with many objects each, written once and complete or not there at all.
//!
//! Twenty thousand files of one object each cost more in names and syncs than in bytes. Which objects there are is held
//! in memory, 24 bytes for each: the first bytes of its address and its place, which the record there confirms.

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

use crate::error::{Context, Result};
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

/// Where an object may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    prefix: u64,
    pack: u32,
    at: u32,
    stored: u32,
}

/// An object that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    /// Where its record begins.
    pub(crate) at: u64,
    file: Arc<File>,
}

impl Found {
    /// The record that an index says is there; none where it is another one.
    pub(crate) fn at(file: &Arc<File>, path: &Path, entry: &Entry) -> Option<Self> {
        let at = u64::from(entry.at);
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, at).ok()?;
        let header = Header::decode(&header)
            .filter(|header| (header.id, header.stored) == (entry.id, entry.stored))?;
        Some(Self { header, path: path.to_owned(), at, file: Arc::clone(file) })
    }

    /// Reads the body into `buffer`. An end that is missing is damage: [`io::ErrorKind::UnexpectedEof`].
    pub(crate) fn read(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.resize(self.header.stored as usize, 0);
        self.file.read_exact_at(buffer, self.at + HEADER_LEN as u64)
    }
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

    /// Where the object is, if it is in a pack that is known.
    pub(crate) fn find(&mut self, id: &ObjectId) -> Result<Option<Found>> {
        let prefix = prefix(id);
        let mut candidates = Vec::new();
        for run in std::iter::once(&self.slots).chain(&self.recent) {
            let first = run.partition_point(|slot| slot.prefix < prefix);
            candidates.extend(run[first..].iter().take_while(|slot| slot.prefix == prefix));
        }
        for Slot { pack, at, stored, .. } in candidates {
            let path = self.path(pack);
            let file = match self.file(pack, &path) {
                // It was merged into another one, or collected.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.context("open", &path)?,
            };
            let found = Found::at(&file, &path, &Entry { id: *id, at, stored });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
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

fn prefix(id: &ObjectId) -> u64 {
    u64::from_be_bytes(*id.0.first_chunk().expect("an address is longer"))
}
