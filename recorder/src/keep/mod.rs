//! Old contents outside the snapshots' roots: what is kept before a process changes it, and what need not be.
//!
//! The ptrace engine asks at a call's entry, while the thread stands still ([`Keeper::before`]), and hands over what it got
//! once the call has done it. By BPF programs everything comes too late, and is told as such ([`late`]). Once kept, a file is
//! left alone until somebody outside the session changes it, or until the next **epoch**: a request to a model, or a snapshot.

mod directories;
mod held;
mod known;
mod late;
mod look;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentrec_trace::event::FileKept;
use agentrec_trace::{Bytes, Data};

use crate::observation::Tid;
use crate::source::{Captured, OpenId};
use directories::Directories;
pub use held::Kept;
use held::{Counter, Held, OnTheWay};
pub(crate) use known::Identity;
use known::{Known, Stamp};
use late::Late;
pub(crate) use look::Place;
use look::{Found, Kind};

/// Not files of anybody's, or gone with the next boot: devices, the kernel's own, the state of what runs.
const NOT_KEPT: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Where files are that nobody misses, beside `TMPDIR`: those that the session made there are never kept.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// A file that loses its last name is read while the call waits up to this length, in bytes; longer ones live on as long as
/// they are open, and are read by the session.
const READ_AT_ONCE: u64 = 1 << 20;

/// What is kept, and how much of it.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    /// The snapshots' roots as the agent sees them: what is in them the snapshots hold.
    pub(crate) roots: Vec<PathBuf>,
    /// Files and directories of the recorder.
    pub(crate) own: Vec<PathBuf>,
    /// `TMPDIR` of the agent.
    pub(crate) temporary: Vec<PathBuf>,
    /// Longer files are not kept, in bytes.
    pub(crate) max_file: u64,
    /// Once so much is kept, nothing more is, in bytes.
    pub(crate) max: u64,
    /// Shared with the session, which begins new ones.
    pub(crate) epoch: Epoch,
}

impl Keeping {
    /// Whether the snapshots hold what is at `real`, or nobody would want it back.
    fn is_left_out(&self, real: &Path) -> bool {
        self.is_inside(real)
            || NOT_KEPT.iter().any(|dir| real.starts_with(dir))
            || self.own.iter().any(|own| real.starts_with(own))
    }

    fn is_inside(&self, real: &Path) -> bool {
        self.roots.iter().any(|root| real.starts_with(root))
    }

    fn is_temporary(&self, real: &Path) -> bool {
        TEMPORARY.iter().any(|dir| real.starts_with(dir))
            || self.temporary.iter().any(|dir| real.starts_with(dir))
    }
}

/// Counts up where the state of the files may be wanted back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epoch(Arc<AtomicU64>);

impl Epoch {
    /// A new one begins.
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a call is about to do to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was opened for writing.
    Write,
    /// Cut, by its name or by an open call.
    Truncate,
    /// Another takes its name.
    Rename,
    Unlink,
    /// Mode, owner, times or extended attributes: the content stays.
    Attributes,
}

impl Change {
    fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Truncate => "truncate",
            Self::Rename => "rename",
            Self::Unlink => "unlink",
            Self::Attributes => "attributes",
        }
    }
}

/// What was found before a call that changes it; whether the call does it is not known yet.
#[derive(Debug)]
pub(crate) struct Before {
    /// With a path that leads there. None where it could not be looked at, or needs no attention.
    file: Option<(Identity, PathBuf)>,
    stamp: Stamp,
    change: Change,
    /// None where it is known already.
    kept: Option<(FileKept<'static>, Held)>,
    /// Bytes that were counted for it.
    counted: u64,
    /// The file goes with this name.
    ends: bool,
}

impl Before {
    /// Of what need not be kept, and is not followed any further.
    fn of(meta: &Metadata, change: Change) -> Self {
        let loses_its_name = matches!(change, Change::Unlink | Change::Rename);
        Self {
            file: None,
            stamp: Stamp::of(meta),
            change,
            kept: None,
            counted: 0,
            ends: loses_its_name && meta.nlink() <= 1,
        }
    }
}

/// Decides what is kept. Belongs to the source's thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    keeping: Keeping,
    known: Known,
    directories: Directories,
    late: Late,
    /// Whether the files of a device are on a disk or in memory, and not made up by the kernel.
    file_systems: HashMap<u64, bool>,
    /// Bytes that were kept.
    total: u64,
    on_the_way: Arc<Counter>,
    /// What the call that is being told changes.
    changing: Option<(Identity, PathBuf)>,
}

impl Keeper {
    pub(crate) fn new(keeping: Keeping) -> Self {
        Self {
            keeping,
            known: Known::default(),
            directories: Directories::default(),
            late: Late::default(),
            file_systems: HashMap::new(),
            total: 0,
            on_the_way: Arc::default(),
            changing: None,
        }
    }

    /// A thread that stands still is about to change what is at `place`.
    pub(crate) fn before(&mut self, place: &Place<'_>, change: Change) -> Option<Box<Before>> {
        let path = place.path;
        if !path.starts_with(b"/") || NOT_KEPT.iter().any(|dir| look::is_below(path, dir)) {
            return None;
        }
        if self.directories.hold(place) {
            return None;
        }
        // Most are the session's own, which this look alone tells.
        if let Some(seen) = place.glance() {
            let meta = seen?;
            if let Some(before) = self.known_before(place, &meta, change) {
                return Some(Box::new(before));
            }
        }
        let found = match look::find(place) {
            Ok(found) => found?,
            Err(_) => return Some(Box::new(self.unseen(path, change))),
        };
        if self.keeping.is_left_out(&found.real) {
            if self.keeping.is_inside(&found.real) {
                self.directories.add(place, &found.real);
            }
            return None;
        }
        match (change, found.kind) {
            (Change::Write | Change::Truncate, kind) if kind != Kind::File => return None,
            // Fails.
            (Change::Unlink, Kind::Dir) => return None,
            _ => {}
        }
        if !self.is_of_a_disk(&found) {
            return None;
        }
        let before = self.known_before(place, &found.meta, change);
        Some(Box::new(before.unwrap_or_else(|| {
            let (kept, counted) = self.keep(path, &found, change);
            let file = Some((Identity::of(&found.meta), found.real));
            Before { file, kept: Some(kept), counted, ..Before::of(&found.meta, change) }
        })))
    }

    /// What is known already of what is about to be changed; None where it has to be kept.
    fn known_before(&self, place: &Place<'_>, meta: &Metadata, change: Change) -> Option<Before> {
        let id = Identity::of(meta);
        let before = Before::of(meta, change);
        if self.known.is_temporary(&id) {
            return Some(Before { file: before.ends.then(|| (id, PathBuf::new())), ..before });
        }
        let is_known = self.known.holds(&id, self.keeping.epoch.now(), before.stamp, change);
        let path = || PathBuf::from(OsStr::from_bytes(place.path));
        is_known.then(|| Before { file: Some((id, path())), ..before })
    }

    /// What can't be looked at may be there.
    fn unseen(&self, path: &[u8], change: Change) -> Before {
        let data = FileKept {
            path: Bytes::from(path.to_vec()),
            change: change.as_str().into(),
            reason: Some("failed".into()),
            ..FileKept::default()
        };
        let stamp = Stamp::default();
        let kept = Some((data, Held::Nothing));
        Before { file: None, stamp, change, kept, counted: 0, ends: false }
    }

    /// The call did it: what to tell the session before the call itself.
    pub(crate) fn confirm(&mut self, before: Before) -> Option<(FileKept<'static>, Held)> {
        let Before { file, change, stamp, mut kept, ends, .. } = before;
        if let Some((_, held)) = &mut kept {
            self.count(held);
        }
        let Some((id, real)) = file else { return kept };
        if ends {
            self.known.forget(&id);
        } else if kept.is_some() {
            self.known.kept(id, self.keeping.epoch.now(), stamp, change);
        }
        let is_known = change != Change::Attributes || self.known.is_as(&id, stamp);
        self.changing = (is_known && !ends).then_some((id, real));
        kept
    }

    /// The call was told.
    pub(crate) fn called(&mut self) {
        if let Some((id, real)) = self.changing.take() {
            self.known.changed(&id, &real);
        }
    }

    /// The call failed.
    pub(crate) fn refuse(&mut self, before: &Before) {
        self.total -= before.counted;
    }

    /// Takes note of what is told of a call; `tid` stands still behind it.
    pub(crate) fn told(&mut self, captured: &Captured, tid: Tid) {
        match &captured.event.data {
            Data::FileOpen(open) => {
                let Some(number) = captured.opens else { return };
                match (&self.changing, open.fd) {
                    (Some(file), _) => self.known.opened(number, file.clone()),
                    (None, Some(fd)) if open.created => self.created(&open.path, number, tid, fd),
                    _ => self.known.reused(number),
                }
            }
            Data::FileClose(close) if close.written > 0 => self.known.written(close.open),
            Data::FileLink(link) if link.errno.is_none() => self.named(&link.from, &link.to),
            Data::FileRename(rename) if rename.errno.is_none() => {
                self.named(&rename.from, &rename.to);
                self.directories.forget(&rename.from);
                self.directories.forget(&rename.to);
            }
            Data::FileRmdir(rmdir) if rmdir.errno.is_none() => self.directories.forget(&rmdir.path),
            Data::Mount(_) => self.directories.clear(),
            _ => {}
        }
    }

    /// What can still be had once a call was told that nobody waited for.
    pub(crate) fn after(&mut self, captured: &Captured) -> Option<(FileKept<'static>, Held)> {
        let change = self.late.change(captured, &self.keeping)?;
        let found = look::find(&change.place()).ok().flatten();
        if found.as_ref().is_some_and(|found| self.keeping.is_left_out(&found.real)) {
            return None;
        }
        let found = found.filter(|_| change.is_there());
        if change.change != Change::Attributes
            && let Some(found) = &found
            && (found.kind != Kind::File || !self.is_of_a_disk(found))
        {
            return None;
        }
        Some(match found {
            Some(found) if change.is_whole() => {
                let ((mut data, mut held), _) = self.keep(&change.path, &found, change.change);
                data.late = true;
                self.count(&mut held);
                (data, held)
            }
            Some(found) => (change.rest(&found), Held::Nothing),
            None => (change.nothing(), Held::Nothing),
        })
    }

    fn count(&self, held: &mut Held) {
        if let Held::Bytes(bytes) = held
            && let Some(bytes) = Arc::get_mut(bytes)
        {
            bytes.count(&self.on_the_way);
        }
    }

    /// Waits until the session has dealt with most of what is on its way; `flush` sends what waits to be sent. Before more is
    /// confirmed: what waits here would not be on its way.
    pub(crate) fn settle(&self, flush: impl FnOnce()) {
        if self.on_the_way.is_over() {
            flush();
            self.on_the_way.wait();
        }
    }

    /// A file has another name: one that was made where nobody misses it may be somewhere else now.
    fn named(&mut self, from: &[u8], to: &[u8]) {
        let [from, to] = [from, to].map(|path| Path::new(OsStr::from_bytes(path)));
        if self.keeping.is_temporary(from)
            && !self.keeping.is_temporary(to)
            && let Ok(meta) = to.symlink_metadata()
        {
            self.known.lasts(&Identity::of(&meta), self.keeping.epoch.now());
        }
    }

    fn created(&mut self, path: &[u8], number: OpenId, tid: Tid, fd: RawFd) {
        let is_made_up = NOT_KEPT.iter().any(|dir| look::is_below(path, dir));
        let path = Path::new(OsStr::from_bytes(path));
        let is_outside = !is_made_up && !self.keeping.is_inside(path);
        // By its descriptor: the name may be another file's already.
        let Some(meta) = is_outside.then(|| look::opened(tid, fd)).flatten() else {
            return self.known.reused(number);
        };
        let temporary = self.keeping.is_temporary(path);
        let id = Identity::of(&meta);
        self.known.created(id, self.keeping.epoch.now(), Stamp::of(&meta), temporary);
        match temporary {
            true => self.known.reused(number),
            false => self.known.opened(number, (id, path.to_owned())),
        }
    }

    /// What there is to say of a file, its content, and how many bytes of it count.
    fn keep(
        &mut self,
        path: &[u8],
        found: &Found,
        change: Change,
    ) -> ((FileKept<'static>, Held), u64) {
        let mut data = found.describe(path, change);
        let mut held = Held::Nothing;
        if found.kind == Kind::File {
            let opened = found.open();
            if let Ok(file) = &opened {
                data.xattrs = look::xattrs(file, &found.real);
            }
            if change != Change::Attributes {
                let room = self.keeping.max.saturating_sub(self.total);
                let size = found.meta.size();
                let kept = match opened {
                    _ if size > self.keeping.max_file => Err("too-large"),
                    _ if size > room => Err("limit"),
                    Ok(file) => self.content(file, found, change),
                    Err(reason) => Err(reason),
                };
                match kept {
                    Ok((content, late)) => (held, data.late) = (content, late),
                    Err(reason) => data.reason = Some(reason.into()),
                }
            }
        } else if found.kind == Kind::Dir
            && let Ok(dir) = found.open()
        {
            data.xattrs = look::xattrs(&dir, &found.real);
        }
        let counted = if matches!(held, Held::Nothing) { 0 } else { found.meta.size() };
        self.total += counted;
        ((data, held), counted)
    }

    /// The content of a file, and whether it changed while it was read.
    fn content(
        &self,
        mut file: File,
        found: &Found,
        change: Change,
    ) -> Result<(Held, bool), &'static str> {
        let stamp = Stamp::of(&found.meta);
        let loses_its_name = matches!(change, Change::Unlink | Change::Rename);
        if loses_its_name && found.meta.nlink() == 1 && stamp.size > READ_AT_ONCE {
            return Ok((Held::File(Arc::new(file), stamp), false));
        }
        let mut content = Vec::with_capacity(stamp.size as usize);
        (&mut file).take(self.keeping.max_file).read_to_end(&mut content).map_err(|_| "failed")?;
        let now = file.metadata().map_err(|_| "failed")?;
        let changed = Stamp::of(&now) != stamp;
        Ok((Held::Bytes(Arc::new(OnTheWay::new(content))), changed))
    }

    fn is_of_a_disk(&mut self, found: &Found) -> bool {
        let dev = found.meta.dev();
        *self.file_systems.entry(dev).or_insert_with(|| found.is_of_a_disk())
    }
}

fn bytes(path: &Path) -> Bytes<'static> {
    Bytes::from(path.as_os_str().as_bytes().to_vec())
}
