//! Changes a directory that is in use, entry by entry: each file is replaced whole by a rename, and what is no longer as it was
//! expected is left alone.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentrec_store::{Change, ChangeKind, Entry, Kind, Objects, ProgressFn};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag};

use super::dir::Dir;
use super::node::NodeWriter;
use super::{MissingReason, Restored};
use crate::error::{Context, Error, Result};

/// Makes changes below one root.
pub(crate) struct Applier<'a> {
    root: Dir,
    nodes: NodeWriter<'a>,
    names: u64,
    /// Files whose attributes were set already: their other names (hard links) no longer look as they were captured.
    touched: HashSet<(u64, u64)>,
}

impl<'a> Applier<'a> {
    pub(crate) fn new(
        root: &Path,
        objects: &'a dyn Objects,
        trusted: bool,
        progress: Option<&'a ProgressFn>,
    ) -> Result<Self> {
        let root = Dir::open(root).context("open", root)?;
        Ok(Self {
            root,
            nodes: NodeWriter::new(objects, trusted, progress),
            names: 0,
            touched: HashSet::new(),
        })
    }

    /// Makes `changes` (in path order) so that each entry becomes what `after` says, if it still is what `before` says.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Result<()> {
        // What goes, the deepest first, so that directories are empty when their turn comes.
        for change in changes.iter().rev() {
            if let Some(before) = &change.before
                && goes_first(change)
            {
                let removed = self.remove(&change.path, before);
                self.go_on(&change.path, removed)?;
            }
        }
        for change in changes {
            if let Some(after) = &change.after {
                let put = self.put(change, after);
                self.go_on(&change.path, put)?;
            }
        }
        // The attributes of directories last: what was done in them changed their times.
        for change in changes.iter().rev() {
            if let Some(after) = change.after.as_ref().filter(|after| after.kind == Kind::Dir)
                && after.left_out.is_none()
            {
                self.directory_meta(&change.path, after)?;
            }
        }
        Ok(())
    }

    /// One entry that the system refuses must not leave all others half done: it is listed.
    fn go_on(&mut self, path: &Path, result: Result<()>) -> Result<()> {
        match result {
            Err(Error::Io { source, .. }) => {
                self.nodes.missing(path, MissingReason::Refused);
                self.nodes.not_set(path, "content", &source.to_string());
                Ok(())
            }
            other => other,
        }
    }

    pub(crate) fn finish(self) -> Restored {
        self.nodes.report
    }

    /// The open parent of `path` and its name there; none where the parent is gone or no directory any more.
    fn parent<'p>(&self, path: &'p Path) -> Result<Option<(Dir, &'p OsStr)>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        match self.root.descend(parent) {
            Ok(dir) => Ok(Some((dir, name))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error).context("open", parent),
        }
    }

    fn remove(&mut self, path: &Path, before: &Entry) -> Result<()> {
        // Its content was not saved, so it could not be brought back.
        if before.left_out.is_some() {
            return Ok(());
        }
        let Some((dir, name)) = self.parent(path)? else { return Ok(()) };
        let Some(stat) = dir.stat(name).context("read", path)? else { return Ok(()) };
        if !still(&dir, name, &stat, before) {
            self.nodes.missing(path, MissingReason::Changed);
            return Ok(());
        }
        let removed = if is_dir(&stat) { dir.rmdir(name) } else { dir.unlink(name) };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                self.nodes.missing(path, MissingReason::NotEmpty);
                Ok(())
            }
            other => {
                other.context("remove", path)?;
                self.nodes.report.removed += 1;
                Ok(())
            }
        }
    }

    fn put(&mut self, change: &Change, after: &Entry) -> Result<()> {
        let path = &change.path;
        if change.kind == ChangeKind::Unknown {
            if let Some(reason) = after.left_out {
                self.nodes.missing(path, MissingReason::LeftOut(reason));
            }
            return Ok(());
        }
        // The root itself: only its attributes can differ.
        let Some((dir, name)) = self.parent(path)? else {
            if !path.as_os_str().is_empty() {
                self.nodes.missing(path, MissingReason::Changed);
            }
            return Ok(());
        };
        let present = dir.stat(name).context("read", path)?;
        let before = change.before.as_ref().filter(|_| !goes_first(change));
        let as_expected = match (&present, before) {
            (None, None) => true,
            (Some(stat), Some(before)) => {
                still(&dir, name, stat, before)
                    || self.touched.contains(&(stat.st_dev, stat.st_ino))
            }
            // A directory that is to be made is there: it will do.
            (Some(stat), None) => is_dir(stat) && after.kind == Kind::Dir,
            (None, Some(_)) => false,
        };
        if !as_expected {
            self.nodes.missing(path, MissingReason::Changed);
            return Ok(());
        }
        let is_dir_now = present.as_ref().is_some_and(is_dir);
        if after.kind == Kind::Dir {
            if after.left_out.is_some() || is_dir_now {
                return Ok(());
            }
            if present.is_some() {
                dir.unlink(name).context("remove", path)?;
            }
            return dir.make(name).map(drop).context("create", path);
        }
        if is_dir_now {
            self.nodes.missing(path, MissingReason::NotEmpty);
            return Ok(());
        }
        let same_content = matches!(change.kind, ChangeKind::Attributes | ChangeKind::Time);
        if same_content
            && present.is_some()
            && after.kind == Kind::File
            && let Ok(file) = dir.open_for_attributes(name)
        {
            self.nodes.remove_other_xattrs(&file, &after.meta, path);
            self.nodes.set_meta(&file, &after.meta, path);
            self.touched.extend(present.map(|stat| (stat.st_dev, stat.st_ino)));
            return Ok(());
        }
        self.replace(&dir, name, after, path)
    }

    /// Writes the entry beside its place and moves it there.
    fn replace(&mut self, dir: &Dir, name: &OsStr, entry: &Entry, path: &Path) -> Result<()> {
        let temp = self.temp_name();
        let root = &self.root;
        if !self.nodes.write(root, dir, &temp, entry, path)? {
            return Ok(());
        }
        if let Err(error) = dir.rename(&temp, name) {
            let _ = dir.unlink(&temp);
            return Err(error).context("replace", path);
        }
        // rename(2) does nothing when both names are already one file.
        let _ = dir.unlink(&temp);
        self.nodes.written(entry, path);
        Ok(())
    }

    /// Says that `path` is now the file of its link group, to which the other names are linked.
    pub(crate) fn is_first_of_group(&mut self, entry: &Entry, path: &Path) {
        self.nodes.first_of_group(entry, path);
    }

    fn directory_meta(&mut self, path: &Path, entry: &Entry) -> Result<()> {
        match self.root.descend(path) {
            Ok(dir) => {
                self.nodes.remove_other_xattrs(dir.file(), &entry.meta, path);
                self.nodes.set_meta(dir.file(), &entry.meta, path);
                Ok(())
            }
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error).context("open", path),
        }
    }

    fn temp_name(&mut self) -> OsString {
        self.names += 1;
        OsString::from(format!(".agentrec-{}-{}.partial", std::process::id(), self.names))
    }
}

/// Whether what is there has to go before anything is put: deletions, and directories that become something else.
fn goes_first(change: &Change) -> bool {
    let was_dir = change.before.as_ref().is_some_and(|before| before.kind == Kind::Dir);
    match change.kind {
        ChangeKind::Deleted => true,
        ChangeKind::Type => was_dir,
        _ => false,
    }
}

/// Whether the entry on the disk is still the one that was captured.
fn still(dir: &Dir, name: &OsStr, stat: &FileStat, before: &Entry) -> bool {
    let mtime = stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec);
    let type_bits = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    match before.kind {
        Kind::Dir => type_bits == SFlag::S_IFDIR,
        Kind::File => {
            type_bits == SFlag::S_IFREG
                && stat.st_size.unsigned_abs() == before.size
                && mtime == before.meta.mtime
        }
        Kind::Symlink => {
            let target = before.target.as_ref().map(|target| OsStr::from_bytes(target));
            type_bits == SFlag::S_IFLNK && dir.read_link(name).ok().as_deref() == target
        }
        Kind::Fifo => type_bits == SFlag::S_IFIFO,
        Kind::Socket => type_bits == SFlag::S_IFSOCK,
        Kind::Char => type_bits == SFlag::S_IFCHR,
        Kind::Block => type_bits == SFlag::S_IFBLK,
    }
}

fn is_dir(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

/// The directory is not there any more, or something else has its name.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)
    )
}
