//! Writes single entries: a file with its content, a link, a FIFO, and the attributes of each.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_store::{Entry, Error as StoreError, Kind, LeftOut, Meta, Objects, ProgressFn};
use agentrec_trace::ObjectId;
use nix::fcntl::AtFlags;
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, UtimensatFlags, fchmod, fchmodat, fstat, futimens, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use xattr::FileExt;

use super::dir::Dir;
use super::{Missing, MissingReason, NotSet, Restored};
use crate::error::{Context, Error, Result};

/// Set-uid and set-gid.
const PRIVILEGE_BITS: u32 = 0o6000;

/// Runs of zeroes of this length become holes in a sparse file, bytes: the usual block.
const HOLE: usize = 4096;

/// Writes entries below one root.
pub(super) struct NodeWriter<'a> {
    objects: &'a dyn Objects,
    /// The tree comes from this machine's own recorder, so it may grant rights.
    trusted: bool,
    privileged: bool,
    /// The names of hard-linked files that were written: group and content to directory and name.
    links: HashMap<(u64, Kind, Option<ObjectId>), PathBuf>,
    progress: Option<&'a ProgressFn>,
    pub(super) report: Restored,
}

impl<'a> NodeWriter<'a> {
    pub(super) fn new(
        objects: &'a dyn Objects,
        trusted: bool,
        progress: Option<&'a ProgressFn>,
    ) -> Self {
        let privileged = nix::unistd::geteuid().is_root();
        let report = Restored::default();
        Self { objects, trusted, privileged, links: HashMap::new(), progress, report }
    }

    pub(super) fn missing(&mut self, path: &Path, reason: MissingReason) {
        // The trace and the data directory were never the agent's: nobody misses them.
        if reason == MissingReason::LeftOut(LeftOut::Recorder) {
            return;
        }
        self.report.missing.push(Missing { path: path.to_owned(), reason });
    }

    /// Writes `entry`, which is no directory, as `name` in `dir`, where nothing has that name. `path` is the entry's own,
    /// relative to `root`. Returns whether it is there now.
    pub(super) fn write(
        &mut self,
        root: &Dir,
        dir: &Dir,
        name: &OsStr,
        entry: &Entry,
        path: &Path,
    ) -> Result<bool> {
        if let Some(reason) = entry.left_out {
            self.missing(path, MissingReason::LeftOut(reason));
            return Ok(false);
        }
        let group = entry.link.map(|number| (number, entry.kind, entry.id));
        if let Some(group) = group
            && let Some(first) = self.links.get(&group)
        {
            let first = first.clone();
            self.link(root, dir, &first, name, path)?;
            return Ok(true);
        }
        match entry.kind {
            Kind::File => {
                if !self.file(dir, name, entry, path)? {
                    return Ok(false);
                }
            }
            Kind::Symlink => {
                let target = entry.target.as_deref().map(Vec::as_slice).unwrap_or_default();
                dir.symlink(OsStr::from_bytes(target), name).context("make the link", path)?;
                self.set_name_meta(dir, name, &entry.meta, path, false);
            }
            Kind::Fifo => {
                dir.fifo(name).context("make the FIFO", path)?;
                self.set_name_meta(dir, name, &entry.meta, path, true);
            }
            Kind::Socket | Kind::Char | Kind::Block => {
                self.missing(path, MissingReason::NotAFile);
                return Ok(false);
            }
            Kind::Dir => unreachable!("directories are made by the walk"),
        }
        Ok(true)
    }

    /// From now on the other names of the entry's link group are linked to the file at `path`.
    pub(super) fn first_of_group(&mut self, entry: &Entry, path: &Path) {
        if let Some(number) = entry.link {
            self.links.insert((number, entry.kind, entry.id), path.to_owned());
        }
    }

    /// The entry is at `path` now: if its link group has no file yet, this is it.
    pub(super) fn written(&mut self, entry: &Entry, path: &Path) {
        if let Some(number) = entry.link {
            self.links.entry((number, entry.kind, entry.id)).or_insert_with(|| path.to_owned());
        }
    }

    fn link(&self, root: &Dir, dir: &Dir, first: &Path, name: &OsStr, path: &Path) -> Result<()> {
        let parent = first.parent().unwrap_or(Path::new(""));
        let from = root.descend(parent).context("open", parent)?;
        let first_name = first.file_name().unwrap_or_default();
        dir.link(&from, first_name, name).context("link", path)
    }

    fn file(&mut self, dir: &Dir, name: &OsStr, entry: &Entry, path: &Path) -> Result<bool> {
        let Some(id) = entry.id else {
            self.missing(path, MissingReason::NotHere);
            return Ok(false);
        };
        let file = dir.create(name, first_mode(&entry.meta)).context("create", path)?;
        let mut out =
            HoleWriter { file: &file, with_holes: entry.sparse, len: 0, end_is_hole: false };
        let copied = self.objects.copy_to(&id, &mut out).and_then(|len| {
            out.finish().map_err(|source| StoreError::Io {
                action: "write",
                path: path.to_owned(),
                source,
            })?;
            Ok(len)
        });
        let reason = match copied {
            Ok(Some(len)) => {
                self.set_meta(&file, &entry.meta, path);
                self.report.files += 1;
                self.report.bytes = self.report.bytes.saturating_add(len);
                if let Some(progress) = self.progress {
                    (progress.0)(self.report.files, self.report.bytes);
                }
                return Ok(true);
            }
            Ok(None) if entry.secret => MissingReason::Secret,
            Ok(None) => MissingReason::NotHere,
            Err(StoreError::Corrupt(_)) => MissingReason::Damaged,
            // What failed is the writing, whatever object it was of.
            Err(StoreError::Io { source, .. }) => {
                let _ = dir.unlink(name);
                return Err(Error::Io { action: "write", path: path.to_owned(), source });
            }
            Err(error) => return Err(error.into()),
        };
        dir.unlink(name).context("remove", path)?;
        self.missing(path, reason);
        Ok(false)
    }

    /// Gives an open file or directory its attributes. What can't be set is noted.
    pub(super) fn set_meta(&mut self, file: &File, meta: &Meta, path: &Path) {
        // What is so already is not set again: each change costs a transaction of the file system.
        let now = fstat(file).ok();
        let is_owner = now.is_some_and(|now| (now.st_uid, now.st_gid) == (meta.uid, meta.gid));
        // The owner first: chown(2) takes away set-uid bits and capabilities.
        if self.privileged && !is_owner {
            let result = fchown(file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
            self.note(path, "owner", result.map_err(io::Error::from));
        }
        for (name, value) in &meta.xattrs {
            let name = OsStr::from_bytes(name);
            if name == "security.capability" && !self.trusted {
                self.note_untrusted(path, "security.capability");
                continue;
            }
            let result = file.set_xattr(name, value);
            self.note(path, &name.to_string_lossy(), result);
        }
        let mode = self.mode(meta, path);
        // A new owner or an access control list may have changed it.
        let is_as_seen = meta.xattrs.is_empty() && (is_owner || !self.privileged);
        let bits = |stat: FileStat| stat.st_mode & 0o7777;
        if !is_as_seen || now.map(bits) != Some(mode.bits()) {
            self.note(path, "mode", fchmod(file, mode).map_err(io::Error::from));
        }
        let time = time_spec(meta.mtime);
        self.note(path, "times", futimens(file, &time, &time).map_err(io::Error::from));
    }

    /// Removes the extended attributes that `meta` does not have.
    pub(super) fn remove_other_xattrs(&mut self, file: &File, meta: &Meta, path: &Path) {
        let Ok(names) = file.list_xattr() else { return };
        for name in names {
            let kept = meta.xattrs.iter().any(|(wanted, _)| wanted.as_slice() == name.as_bytes());
            if name.as_bytes().starts_with(b"user.") && !kept {
                let result = file.remove_xattr(&name);
                self.note(path, &name.to_string_lossy(), result);
            }
        }
    }

    /// Attributes of what can't be opened: links and FIFOs.
    fn set_name_meta(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        meta: &Meta,
        path: &Path,
        with_mode: bool,
    ) {
        if self.privileged {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            let result =
                fchownat(dir.file(), name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW);
            self.note(path, "owner", result.map_err(io::Error::from));
        }
        if with_mode {
            let mode = self.mode(meta, path);
            let result = fchmodat(dir.file(), name, mode, FchmodatFlags::FollowSymlink);
            self.note(path, "mode", result.map_err(io::Error::from));
        }
        let time = time_spec(meta.mtime);
        let result = utimensat(dir.file(), name, &time, &time, UtimensatFlags::NoFollowSymlink);
        self.note(path, "times", result.map_err(io::Error::from));
    }

    fn mode(&mut self, meta: &Meta, path: &Path) -> Mode {
        let mut mode = meta.mode;
        if mode & PRIVILEGE_BITS != 0 && !self.trusted {
            self.note_untrusted(path, "set-uid");
            mode &= !PRIVILEGE_BITS;
        }
        Mode::from_bits_truncate(mode)
    }

    fn note(&mut self, path: &Path, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.not_set(path, what, &error.to_string());
        }
    }

    fn note_untrusted(&mut self, path: &Path, what: &str) {
        self.not_set(path, what, "the trace is not from this machine");
    }

    pub(super) fn not_set(&mut self, path: &Path, what: &str, reason: &str) {
        let (what, reason) = (what.to_owned(), reason.to_owned());
        self.report.not_set.push(NotSet { path: path.to_owned(), what, reason });
    }
}

/// The mode with which a file is created: its own where nobody gets more by that, meanwhile, than in the end. The group may
/// still be another, and an access control list may take away what the mode gives.
fn first_mode(meta: &Meta) -> Mode {
    let group_is_anybody = (meta.mode >> 3) & 0o7 & !meta.mode == 0;
    if group_is_anybody && meta.xattrs.is_empty() {
        Mode::from_bits_truncate(meta.mode & 0o777)
    } else {
        Mode::S_IRUSR | Mode::S_IWUSR
    }
}

/// Nanoseconds since 1970 as the kernel wants them: the fraction is never negative.
fn time_spec(nanoseconds: i64) -> TimeSpec {
    TimeSpec::new(nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000))
}

/// Writes a file and leaves out what is zero anyway, where that is wanted.
struct HoleWriter<'f> {
    file: &'f File,
    with_holes: bool,
    len: u64,
    end_is_hole: bool,
}

impl HoleWriter<'_> {
    fn finish(&self) -> io::Result<()> {
        if self.end_is_hole { self.file.set_len(self.len) } else { Ok(()) }
    }
}

impl Write for HoleWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.with_holes {
            let written = self.file.write(bytes)?;
            self.len += written as u64;
            return Ok(written);
        }
        // Up to the next block boundary, so that whole blocks are looked at.
        let to_boundary = HOLE - (self.len % HOLE as u64) as usize;
        let block = &bytes[..bytes.len().min(to_boundary)];
        self.end_is_hole = block.iter().all(|byte| *byte == 0);
        if self.end_is_hole {
            self.file.seek(SeekFrom::Current(block.len() as i64))?;
        } else {
            self.file.write_all(block)?;
        }
        self.len += block.len() as u64;
        Ok(block.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_open_a_file_earlier_than_in_the_end() {
        let mode = |mode: u32, acl: bool| {
            let name = serde_bytes::ByteBuf::from("system.posix_acl_access");
            let xattrs = if acl { vec![(name, serde_bytes::ByteBuf::new())] } else { Vec::new() };
            first_mode(&Meta { mode, xattrs, ..Meta::default() }).bits()
        };
        for whole in [0o644, 0o755, 0o600, 0o444, 0o711, 0o666, 0o604] {
            assert_eq!(mode(whole, false), whole);
            assert_eq!(mode(whole, true), 0o600);
        }
        for secret in [0o640, 0o660, 0o664, 0o750, 0o770, 0o670] {
            assert_eq!(mode(secret, false), 0o600);
        }
        assert_eq!(mode(0o6755, false), 0o755, "rights come last");
    }
}
