//! Reads single files so that what is stored is what the file held at one moment, or says that it is not.
//!
//! A file is read between two looks at its times. The kernel stamps with a clock that ticks every 1 to 10 ms, so a
//! write in the tick of the first look could go unnoticed: a file that changed in the present tick is read in the next.
//! Where it is known who might write to it, only those files wait that are open for writing.
//!
//! An SQLite database is one unit with its `-wal` and `-journal`: all of them are read between two looks at all of
//! them, again if anything changed. SQLite changes those three by write(2), which moves their times. The `-shm` is an
//! index of the `-wal`, mapped and changed without a trace in its times; SQLite makes it anew when the first
//! connection opens the database, so it is stored as it is and not compared. Taking SQLite's own file locks instead
//! would make the recorded program meet SQLITE_BUSY where it otherwise would not.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::time::Duration;

use agentrec_trace::ObjectId;
use nix::sys::stat::{FileStat, fstat};
use nix::time::{ClockId, clock_gettime};
use serde_bytes::ByteBuf;

use super::dir;
use super::sink::Sink;
use super::{FileId, file_id};
use crate::cache::{Cached, Stamp, StatCache, nanoseconds};
use crate::error::{Context, Error, Result};
use crate::objects::Staged;
use crate::secret_files;

/// How often a file that changes is read before it counts as torn.
const ATTEMPTS: usize = 4;

/// What every SQLite database begins with (https://www.sqlite.org/fileformat.html).
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// The files that belong to a database; the last is not compared.
pub(super) const SIDE_SUFFIXES: [&str; 3] = ["-wal", "-journal", "-shm"];

/// The suffixes of the database itself and of the files whose times count.
const COMPARED: usize = 3;

/// A file as it was read.
pub(super) struct Content {
    pub(super) stat: FileStat,
    pub(super) id: ObjectId,
    pub(super) len: u64,
    pub(super) private_key: bool,
    /// It is an SQLite database.
    pub(super) sqlite: bool,
    pub(super) torn: bool,
    pub(super) xattrs: Vec<(ByteBuf, ByteBuf)>,
    /// It had to be read.
    pub(super) read: bool,
}

/// What became of a file.
pub(super) enum Outcome {
    /// It was read, with the files that belong to it.
    Kept(Box<Content>, Vec<(OsString, Content)>),
    /// It is no longer there, or no longer a regular file.
    Gone,
    /// It may not be read.
    Unreadable,
    /// It is a mount point.
    OtherFileSystem,
}

/// Reads files of one capture.
pub(super) struct FileReader<'s, 'c> {
    pub(super) sink: Sink<'s>,
    pub(super) cache: &'c mut StatCache,
    /// The files that somebody may be writing to; none where that can be any.
    pub(super) busy: Option<&'c HashSet<FileId>>,
}

/// How a file is to be read.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Its times tell when it changed.
    pub(super) trust: bool,
    /// It goes into no trace.
    pub(super) local: bool,
}

impl FileReader<'_, '_> {
    /// Reads the regular file `name` in `dir`, which lstat(2) described as `stat`.
    pub(super) fn read(
        &mut self,
        dir: &File,
        name: &OsStr,
        path: &Path,
        stat: FileStat,
        manner: Manner,
    ) -> Result<Outcome> {
        match self.try_read(dir, name, path, stat, manner) {
            Err(Error::Source { .. }) => Ok(Outcome::Unreadable),
            other => other,
        }
    }

    fn try_read(
        &mut self,
        dir: &File,
        name: &OsStr,
        path: &Path,
        stat: FileStat,
        manner: Manner,
    ) -> Result<Outcome> {
        if manner.trust
            && let Some(content) = self.cached(&stat)?
        {
            if !content.sqlite {
                return Ok(Outcome::Kept(Box::new(content), Vec::new()));
            }
            return self.group(dir, name, path, manner);
        }
        let mut file = match open(dir, name, path)? {
            Ok(file) => file,
            Err(outcome) => return Ok(outcome),
        };
        if is_sqlite(&mut file, path)? {
            return self.group(dir, name, path, manner);
        }
        let content = self.settled(&mut file, path, manner)?;
        Ok(content.map_or(Outcome::Gone, |content| Outcome::Kept(Box::new(content), Vec::new())))
    }

    /// What an earlier capture read, if the store still has it.
    fn cached(&mut self, stat: &FileStat) -> Result<Option<Content>> {
        let Some(cached) = self.cache.get(stat) else { return Ok(None) };
        if !self.sink.contains(&cached.id)? {
            return Ok(None);
        }
        let content = Content {
            stat: *stat,
            id: cached.id,
            len: cached.stamp.size.unsigned_abs(),
            private_key: cached.private_key,
            sqlite: cached.sqlite,
            torn: false,
            xattrs: cached.xattrs.clone(),
            read: false,
        };
        Ok(Some(content))
    }

    /// Reads one open file until it keeps still.
    fn settled(&mut self, file: &mut File, path: &Path, manner: Manner) -> Result<Option<Content>> {
        for attempt in 1..=ATTEMPTS {
            let before = fstat(&*file).context("read", path)?;
            if dir::kind(&before) != crate::tree::Kind::File {
                return Ok(None);
            }
            let read_at = self.wait_for(&[Some(before)]);
            let staged = self.stage(file, path)?;
            let after = fstat(&*file).context("read", path)?;
            let torn = Stamp::of(&before) != Stamp::of(&after);
            if !torn || attempt == ATTEMPTS {
                return self
                    .keep(file, path, after, staged, (torn, manner.local), read_at)
                    .map(Some);
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Reads a database and the files that belong to it until all of them keep still.
    fn group(&mut self, dir: &File, name: &OsStr, path: &Path, manner: Manner) -> Result<Outcome> {
        let mut names = vec![name.to_owned()];
        names.extend(SIDE_SUFFIXES.map(|suffix| with_suffix(name, suffix)));
        for attempt in 1..=ATTEMPTS {
            let before = stats(dir, &names, path)?;
            let Some(database) = before[0] else { return Ok(Outcome::Gone) };
            let read_at = self.wait_for(&before[..COMPARED]);
            let mut members = Vec::new();
            for (index, (name, stat)) in names.iter().zip(&before).enumerate() {
                let Some(stat) = stat else { continue };
                let cached = if index < COMPARED { self.cached(stat)? } else { None };
                if let Some(cached) = cached {
                    members.push((name, Member::Cached(cached)));
                    continue;
                }
                match open(dir, name, path)? {
                    Ok(mut file) => {
                        let staged = self.stage(&mut file, path)?;
                        members.push((name, Member::Read(file, staged, *stat)));
                    }
                    Err(outcome) if index == 0 => return Ok(outcome),
                    // Gone or not readable: the comparison finds the one, the walk lists the other.
                    Err(_) => {}
                }
            }
            let after = stats(dir, &names, path)?;
            let torn = stamps(&before) != stamps(&after);
            if torn && attempt < ATTEMPTS {
                continue;
            }
            let mut contents = Vec::new();
            for (name, member) in members {
                let content = match member {
                    Member::Cached(content) => Content { torn, ..content },
                    Member::Read(file, staged, stat) => {
                        self.keep(&file, path, stat, staged, (torn, manner.local), read_at)?
                    }
                };
                contents.push((name.clone(), content));
            }
            debug_assert_eq!(contents[0].1.stat.st_ino, database.st_ino);
            let (_, first) = contents.remove(0);
            return Ok(Outcome::Kept(Box::new(first), contents));
        }
        unreachable!("the last attempt returns")
    }

    /// Waits until the next change of each of these files gets another time, and returns the clock of those times.
    fn wait_for(&self, stats: &[Option<FileStat>]) -> i64 {
        let busy = |stat: &&FileStat| self.busy.is_none_or(|busy| busy.contains(&file_id(stat)));
        let newest = stats.iter().flatten().filter(busy).map(|stat| Stamp::of(stat).ctime).max();
        wait_for_next_tick(newest.unwrap_or_default())
    }

    fn stage(&mut self, file: &mut File, path: &Path) -> Result<Staged> {
        file.rewind().context("read", path)?;
        self.sink.stage(file, path)
    }

    fn keep(
        &mut self,
        file: &File,
        path: &Path,
        stat: FileStat,
        staged: Staged,
        (torn, local): (bool, bool),
        read_at: i64,
    ) -> Result<Content> {
        let mut cached = Cached::new(Stamp::of(&stat), staged.id);
        cached.private_key = secret_files::holds_private_key(&staged.head);
        cached.sqlite = staged.head.starts_with(SQLITE_MAGIC);
        cached.xattrs = dir::xattrs(file, path);
        let content = Content {
            stat,
            id: staged.id,
            len: staged.len,
            private_key: cached.private_key,
            sqlite: cached.sqlite,
            torn,
            xattrs: cached.xattrs.clone(),
            read: true,
        };
        self.sink.keep(staged, local || cached.private_key)?;
        if !torn {
            self.cache.insert(&stat, read_at, cached);
        }
        Ok(content)
    }
}

enum Member {
    Cached(Content),
    Read(File, Staged, FileStat),
}

/// Opens a file, or says what became of it.
fn open(dir: &File, name: &OsStr, path: &Path) -> Result<Result<File, Outcome>> {
    use nix::errno::Errno;

    match dir::open(dir, name, false) {
        Ok(file) => Ok(Ok(file)),
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => Ok(Err(Outcome::Gone)),
        Err(Errno::EXDEV) => Ok(Err(Outcome::OtherFileSystem)),
        Err(error) if dir::is_of_the_file(error) => Ok(Err(Outcome::Unreadable)),
        Err(error) => Err(error).context("open", path),
    }
}

fn is_sqlite(file: &mut File, path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let unreadable = |source| Error::Source { path: path.to_owned(), source };
    file.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut start).map_err(unreadable)?;
    Ok(start == SQLITE_MAGIC)
}

/// lstat(2) of each name; none where it is not there or not a regular file.
fn stats(dir: &File, names: &[OsString], path: &Path) -> Result<Vec<Option<FileStat>>> {
    let regular = |stat: &FileStat| dir::kind(stat) == crate::tree::Kind::File;
    names
        .iter()
        .map(|name| Ok(dir::stat(dir, name).context("read", path)?.filter(regular)))
        .collect()
}

fn stamps(stats: &[Option<FileStat>]) -> Vec<Option<(u64, Stamp)>> {
    let stamp = |stat: &FileStat| (stat.st_ino, Stamp::of(stat));
    stats[..COMPARED].iter().map(|stat| stat.as_ref().map(stamp)).collect()
}

fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

/// Waits until the clock that the kernel stamps files with has passed `ctime`, so that a later change gets another
/// time, and returns that clock, nanoseconds since 1970. A time that lies further ahead than a tick is not waited for.
fn wait_for_next_tick(ctime: i64) -> i64 {
    const TICK: i64 = 10_000_000;
    loop {
        let now = now();
        if now > ctime || ctime - now > TICK {
            return now;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The clock that the kernel stamps files with, nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE)
        .map_or(0, |time| nanoseconds(time.tv_sec(), time.tv_nsec()));
    #[cfg(test)]
    let now = now + AHEAD.get();
    now
}

#[cfg(test)]
thread_local! {
    /// So much later it is, nanoseconds: nobody can make a file that is old.
    pub(super) static AHEAD: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}
