//! What can still be had of an old content by who stops nobody: best effort, and said.
//!
//! A file that was opened for writing is read at once: what was written to it meanwhile is in it. What was cut, deleted or
//! replaced is gone; whether a rename replaced anything nobody saw.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentrec_trace::event::FileKept;
use agentrec_trace::{Bytes, Data, open_flags};

use super::look::{Found, Place};
use super::{Change, Keeping};
use crate::source::Captured;

/// Paths that are remembered. Beyond them all are forgotten, and some told again.
const MAX_PATHS: usize = 100_000;

/// What was told already.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Made by the session, and when (its epoch).
    made: HashMap<Vec<u8>, u64>,
    /// Told, and whether it was more than attributes.
    told: HashMap<Vec<u8>, (u64, bool)>,
}

/// A change that happened.
pub(super) struct Changed {
    pub(super) path: Bytes<'static>,
    pub(super) change: Change,
    what: What,
}

/// What may be left of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// Its content, perhaps changed already.
    All,
    /// What a cut leaves as it was.
    Attributes,
    /// Only what kind of file it is.
    Kind,
    Nothing,
    /// Not even whether there was one.
    Unseen,
}

impl Changed {
    pub(super) fn place(&self) -> Place<'_> {
        Place { follow: self.is_there(), ..Place::named(&self.path) }
    }

    /// Whether the file is still under its name.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.what, What::All | What::Attributes | What::Kind)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.what == What::All
    }

    /// What a call left of a file.
    pub(super) fn rest(&self, found: &Found) -> FileKept<'static> {
        let described = found.describe(&self.path, self.change);
        let FileKept { real, kind, mode, uid, gid, links, .. } = described;
        let known = self.nothing();
        match self.what {
            What::Attributes => FileKept { real, kind, mode, uid, gid, links, ..known },
            _ => FileKept { real, kind, links, ..known },
        }
    }

    pub(super) fn nothing(&self) -> FileKept<'static> {
        let reason = if self.what == What::Unseen { "unseen" } else { "gone" };
        FileKept {
            path: self.path.clone(),
            change: self.change.as_str().into(),
            reason: Some(reason.into()),
            late: true,
            ..FileKept::default()
        }
    }
}

impl Late {
    /// What an event says was changed outside of the roots, where it was not told in this epoch.
    pub(super) fn change(&mut self, captured: &Captured, keeping: &Keeping) -> Option<Changed> {
        let epoch = keeping.epoch.now();
        let outside = |path: &Bytes<'_>| {
            path.starts_with(b"/") && !keeping.is_left_out(Path::new(OsStr::from_bytes(path)))
        };
        let (path, change, what) = match &captured.event.data {
            Data::FileOpen(open) if open.errno.is_none() => {
                let flags = open.flags.cast_signed();
                let cuts = flags & libc::O_TRUNC != 0;
                let unnamed = open.flags & open_flags::TMPFILE == open_flags::TMPFILE;
                if open.created && outside(&open.path) {
                    self.make(&open.path, epoch);
                    return None;
                }
                match () {
                    () if unnamed || open.created || flags & libc::O_PATH != 0 => return None,
                    () if cuts => (&open.path, Change::Truncate, What::Attributes),
                    () if flags & libc::O_ACCMODE != libc::O_RDONLY => {
                        (&open.path, Change::Write, What::All)
                    }
                    () => return None,
                }
            }
            Data::FileTruncate(e) if e.errno.is_none() => {
                (&e.path, Change::Truncate, What::Attributes)
            }
            Data::FileUnlink(e) if e.errno.is_none() => (&e.path, Change::Unlink, What::Nothing),
            Data::FileRename(e) if e.errno.is_none() => {
                let replaces = e.flags & (libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) == 0;
                let made = self.made.remove(&*e.from);
                let known = self.is_known(&e.to, epoch, Change::Rename, keeping);
                if let Some(made) = made {
                    self.make(&e.to, made);
                }
                if !replaces || known || !outside(&e.to) {
                    return None;
                }
                self.tell(&e.to, epoch, true);
                let path = e.to.clone().into_owned();
                return Some(Changed { path, change: Change::Rename, what: What::Unseen });
            }
            Data::FileChmod(e) if e.errno.is_none() => (&e.path, Change::Attributes, What::Kind),
            Data::FileChown(e) if e.errno.is_none() => (&e.path, Change::Attributes, What::Kind),
            Data::FileUtime(e) if e.errno.is_none() => (&e.path, Change::Attributes, What::Kind),
            Data::FileXattr(e) if e.errno.is_none() => (&e.path, Change::Attributes, What::Kind),
            _ => return None,
        };
        if !outside(path) {
            return None;
        }
        let known = self.is_known(path, epoch, change, keeping);
        if change == Change::Unlink {
            self.made.remove(&**path);
        }
        if known {
            return None;
        }
        self.tell(path, epoch, change != Change::Attributes);
        Some(Changed { path: path.clone().into_owned(), change, what })
    }

    fn is_known(&self, path: &Bytes<'_>, epoch: u64, change: Change, keeping: &Keeping) -> bool {
        let temporary = || keeping.is_temporary(Path::new(OsStr::from_bytes(path)));
        self.made.get(&**path).is_some_and(|&made| made == epoch || temporary())
            || self.told.get(&**path).is_some_and(|&(told, whole)| {
                told == epoch && (whole || change == Change::Attributes)
            })
    }

    fn make(&mut self, path: &Bytes<'_>, epoch: u64) {
        if self.made.len() >= MAX_PATHS {
            self.made.clear();
        }
        self.made.insert(path.to_vec(), epoch);
    }

    fn tell(&mut self, path: &Bytes<'_>, epoch: u64, whole: bool) {
        if self.told.len() >= MAX_PATHS {
            self.told.clear();
        }
        self.told.insert(path.to_vec(), (epoch, whole));
    }
}
