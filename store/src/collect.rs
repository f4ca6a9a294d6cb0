//! Removes objects that nothing names any more (`agentrec store gc`), and merges small packs.
//!
//! What is named is found first, without keeping anybody waiting, and packs that hold dead objects are written again
//! without those. Then the store is taken for as long as it needs to look at the traces that grew meanwhile and to remove
//! files. Young packs stay: what is stored may be named a moment later.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use agentrec_trace::ObjectId;

use crate::error::{Context, Error, Result};
use crate::lock::Taken;
use crate::mark::Marks;
use crate::objects::Store;
use crate::packs::format::{self, Entry, HEADER_LEN};
use crate::packs::writer::{Finished, PackWriter};
use crate::packs::{Found, Packs};

/// Packs of fewer bytes are merged.
const SMALL: u64 = 1 << 20;

/// So many small packs are merged at once.
const MANY: usize = 64;

/// A pack is written again when this part of it is dead, or more.
const WORTH_IT: f64 = 0.1;

/// How long snapshots that are being taken are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What names objects.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Traces, with the objects of their snapshots and of their other events.
    pub traces: Vec<PathBuf>,
    /// Other files, such as operations of undo.
    pub files: Vec<PathBuf>,
}

/// What to collect.
#[derive(Clone, Debug, Default)]
pub struct CollectOptions {
    /// Only so much goes, the oldest first, that the store takes at most this, bytes.
    pub max_size: Option<u64>,
    /// What was stored more recently stays.
    pub min_age: Duration,
    /// Remove it, rather than only tell what would go.
    pub remove: bool,
}

/// What was collected, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects that something names.
    pub live: u64,
    /// Objects that go.
    pub objects: u64,
    /// Bytes that this gives back.
    pub bytes: u64,
    /// Objects that nothing names and that stay: too young, or in a pack of which they are too small a part.
    pub spared: u64,
    /// Bytes on the disk, before.
    pub before: u64,
    /// Bytes on the disk, after.
    pub after: u64,
}

/// A file of objects, and what is dead in it.
struct Candidate {
    path: PathBuf,
    modified: SystemTime,
    bytes: u64,
    /// All that is in it.
    ids: Vec<ObjectId>,
    /// What has to stay, with its place.
    keep: Vec<Entry>,
    dead_bytes: u64,
}

impl Candidate {
    fn dead(&self) -> u64 {
        (self.ids.len() - self.keep.len()) as u64
    }

    fn is_worth_it(&self) -> bool {
        self.dead() > 0 && self.gain() as f64 >= WORTH_IT * self.bytes as f64
    }

    /// Bytes that are free when it has gone.
    fn gain(&self) -> u64 {
        if self.keep.is_empty() { self.bytes } else { self.dead_bytes }
    }
}

impl Store {
    /// Finds what nothing names, and removes it where that is asked for. What names objects is asked for again when the
    /// store is taken.
    ///
    /// # Errors
    /// [`Error::Trace`] where a trace can't be read: what it names is not known. [`Error::Held`] where snapshots are being
    /// taken all the time.
    pub fn collect(
        &self,
        names: &mut dyn FnMut() -> Result<Names>,
        options: &CollectOptions,
    ) -> Result<Collected> {
        let hold = self.hold()?;
        let mut marks = Marks::new(self);
        let mut seen = HashMap::new();
        mark_new(&names()?, &mut seen, &mut marks)?;
        let mut files = self.candidates(&marks.live)?;
        files.sort_by_key(|file| file.modified);
        let before = files.iter().map(|file| file.bytes).sum();
        let live = files.iter().map(|file| file.keep.len() as u64).sum();
        let mut report = Collected { live, before, after: before, ..Collected::default() };
        let now = SystemTime::now();
        let mut going = Vec::new();
        for file in files {
            let fits = options.max_size.is_some_and(|max| report.after <= max);
            let young = !now.duration_since(file.modified).is_ok_and(|age| age >= options.min_age);
            if young || fits || !file.is_worth_it() {
                report.spared += file.dead();
                continue;
            }
            report.after -= file.gain();
            report.objects += file.dead();
            going.push(file);
        }
        if !options.remove || going.is_empty() {
            return Ok(report);
        }
        let kept = self.rewrite(&going)?;
        drop(hold);
        let mut taken = self.take()?;
        let marked = marks.live.len();
        mark_new(&names()?, &mut seen, &mut marks)?;
        if marks.live.len() > marked {
            let kept = kept.iter().flat_map(|pack| &pack.entries);
            let kept: HashSet<_> = kept.map(|entry| entry.id).collect();
            // What was named meanwhile is only here.
            going.retain(|file| {
                file.ids.iter().all(|id| !marks.live.contains(id) || kept.contains(id))
            });
        }
        taken.will_remove()?;
        self.with_packs(|packs| packs.add(kept))??;
        for file in &going {
            remove(&file.path)?;
        }
        self.with_packs(Packs::forget)?;
        Ok(report)
    }

    /// Merges small packs where there are many. Who looks for an object in one of them finds the new one.
    pub(crate) fn merge_small(&self) -> Result<()> {
        let small = self.with_packs(|packs| packs.smaller_than(SMALL))?;
        if small.len() < MANY {
            return Ok(());
        }
        let mut files = Vec::new();
        let mut seen = HashSet::new();
        for path in small {
            files.extend(self.candidate(path, &mut |id| seen.insert(id))?);
        }
        let merged = self.rewrite(&files)?;
        self.with_packs(|packs| packs.add(merged))??;
        for file in &files {
            remove(&file.path)?;
        }
        self.with_packs(|packs| {
            packs.forget();
            packs.refresh().map(drop)
        })?
    }

    /// All files of objects. Of an object that is there twice one counts as dead.
    fn candidates(&self, live: &HashSet<ObjectId>) -> Result<Vec<Candidate>> {
        let mut seen = HashSet::new();
        let mut keep = |id: ObjectId| live.contains(&id) && seen.insert(id);
        let mut files = Vec::new();
        for path in self.with_packs(|packs| packs.paths())? {
            files.extend(self.candidate(path, &mut keep)?);
        }
        for (id, path) in self.loose().list(&mut Vec::new())? {
            let metadata = path.metadata().context("read", &path)?;
            let stays = keep(id);
            let entry = Entry { id, at: 0, stored: 0 };
            files.push(Candidate {
                modified: metadata.modified().context("read", &path)?,
                bytes: metadata.len(),
                ids: vec![id],
                keep: if stays { vec![entry] } else { Vec::new() },
                dead_bytes: if stays { 0 } else { metadata.len() },
                path,
            });
        }
        Ok(files)
    }

    /// A pack; none where it is gone.
    fn candidate(
        &self,
        path: PathBuf,
        keep: &mut dyn FnMut(ObjectId) -> bool,
    ) -> Result<Option<Candidate>> {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.context("open", &path)?,
        };
        let metadata = file.metadata().context("read", &path)?;
        // One that is damaged is for the user to look at.
        let Some(entries) = format::read_index(&file).context("read", &path)? else {
            return Ok(None);
        };
        let ids = entries.iter().map(|entry| entry.id).collect();
        let (keep, dead): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| keep(entry.id));
        let dead_bytes = dead.iter().map(|entry| HEADER_LEN as u64 + u64::from(entry.stored)).sum();
        let modified = metadata.modified().context("read", &path)?;
        let bytes = metadata.len();
        Ok(Some(Candidate { path, modified, bytes, ids, keep, dead_bytes }))
    }

    /// Writes what these packs keep into new ones, which nobody finds yet.
    fn rewrite(&self, packs: &[Candidate]) -> Result<Vec<Finished>> {
        let mut writer = PackWriter::new(Arc::clone(self.staging()?))?;
        for pack in packs.iter().filter(|pack| !pack.keep.is_empty()) {
            let file = File::open(&pack.path).context("open", &pack.path)?;
            // In the order in which they were written: what is read together lies together.
            let mut keep = pack.keep.clone();
            keep.sort_by_key(|entry| entry.at);
            for entry in keep {
                let found = Found::read(&file, &pack.path, &entry);
                let Found { header, body, .. } = found.ok_or(Error::Corrupt(entry.id))?;
                writer.add(header, &body)?;
            }
        }
        writer.finish()
    }

    /// Takes the store, for which snapshots that are being taken are waited for.
    fn take(&self) -> Result<Taken> {
        let begun = Instant::now();
        loop {
            if let Some(taken) = Taken::try_take(self.dir())? {
                return Ok(taken);
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::Held);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Removes a file of objects, unless somebody else did so.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.context("remove", path),
    }
}

/// A file by its inode, length and change time: one that was written to or replaced is another.
type Seen = Option<(u64, u64, i64, i64)>;

/// Marks what is named by files that were not seen yet, or are others now.
fn mark_new(names: &Names, seen: &mut HashMap<PathBuf, Seen>, marks: &mut Marks<'_>) -> Result<()> {
    let mut is_new = |path: &PathBuf| {
        let now = path.metadata().ok().map(|it| (it.ino(), it.len(), it.ctime(), it.ctime_nsec()));
        seen.insert(path.clone(), now) != Some(now)
    };
    for trace in &names.traces {
        // Before it is read: what comes meanwhile makes it another one.
        if is_new(trace) {
            marks.trace(trace)?;
        }
    }
    marks.pinned()?;
    for file in &names.files {
        if is_new(file) {
            marks.file(file)?;
        }
    }
    Ok(())
}
