//! What is on the disk now, read into the store without following a link below a root.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agentrec_store::{Entry, EntryReader, Kind, Store};
use nix::errno::Errno;

use crate::error::{Context, Result};
use crate::restore::Dir;

/// Reads entries below roots.
pub(super) struct Present<'r, 'a> {
    pub(super) reader: &'r mut EntryReader<'a>,
    roots: HashMap<PathBuf, Option<Dir>>,
}

impl<'r, 'a> Present<'r, 'a> {
    pub(super) fn new(reader: &'r mut EntryReader<'a>) -> Self {
        Self { reader, roots: HashMap::new() }
    }

    /// What is at `path` below `root` now; none where there is nothing, or a link or a file on the way.
    pub(super) fn entry(&mut self, root: &Path, path: &Path) -> Result<Option<Entry>> {
        let Some((dir, name)) = self.parent(root, path)? else { return Ok(None) };
        let full = root.join(path);
        let name = name.unwrap_or(OsStr::new("."));
        Ok(self.reader.read(dir.file(), name, &full)?)
    }

    /// When what is there was last changed in any way, nanoseconds since 1970.
    pub(super) fn changed_at(&mut self, root: &Path, path: &Path) -> Result<Option<i64>> {
        let Some((dir, Some(name))) = self.parent(root, path)? else { return Ok(None) };
        let stat = dir.stat(name).context("read", &root.join(path))?;
        Ok(stat.map(|stat| {
            stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec)
        }))
    }

    /// The names in the directory at `path`.
    pub(super) fn names(&mut self, root: &Path, path: &Path) -> Vec<std::ffi::OsString> {
        // What can't be listed is treated as if something were in it.
        let full = root.join(path);
        match std::fs::read_dir(&full) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
            Err(_) => vec!["?".into()],
        }
    }

    /// The open parent of `path` and its name there; without a name the root itself.
    fn parent<'p>(
        &mut self,
        root: &Path,
        path: &'p Path,
    ) -> Result<Option<(Dir, Option<&'p OsStr>)>> {
        if !self.roots.contains_key(root) {
            let opened = match Dir::open(root) {
                Ok(dir) => Some(dir),
                Err(error) if is_gone(&error) => None,
                Err(error) => return Err(error).context("open", root),
            };
            self.roots.insert(root.to_owned(), opened);
        }
        let Some(Some(dir)) = self.roots.get(root) else { return Ok(None) };
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, Some(name)),
            _ => (Path::new(""), None),
        };
        match dir.descend(parent) {
            Ok(dir) => Ok(Some((dir, name))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error).context("open", &root.join(parent)),
        }
    }
}

/// Whether the files among `entries` below `root`, which are going to be replaced or removed, hold what was saved of them: they are
/// read. What was saved may have been taken from a stat cache, and a write through a shared map need leave no mark in a file's times.
pub(crate) fn is_as_saved<'e>(
    store: &Store,
    root: &Path,
    entries: impl Iterator<Item = (&'e Path, &'e Entry)>,
) -> Result<bool> {
    // What it reads is not kept: the store has it already, or it is not what was saved.
    let mut reader = EntryReader::new(store);
    let mut present = Present::new(&mut reader);
    for (path, saved) in entries {
        if saved.kind == Kind::File
            && saved.left_out.is_none()
            && present.entry(root, path)?.map(|now| now.id) != Some(saved.id)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a path that lies in no root is changed from: the nearest directory above it that is there, without links, and the rest.
pub(super) fn anchor(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let (mut above, mut rest) = (path.parent()?, PathBuf::from(path.file_name()?));
    loop {
        match above.canonicalize() {
            Ok(real)
                if real
                    .metadata()
                    .is_ok_and(|metadata| metadata.mode() & 0o170_000 == 0o040_000) =>
            {
                return Some((real, rest));
            }
            _ => {
                rest = Path::new(above.file_name()?).join(rest);
                above = above.parent()?;
            }
        }
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)
    )
}
