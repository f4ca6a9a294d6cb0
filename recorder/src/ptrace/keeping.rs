//! Old contents are looked at while a thread stands before the call that changes them, and handed over behind it.

use super::Tracer;
use crate::calls::decode::Entry;
use crate::calls::shape::Shape;
use crate::keep::{Before, Change, Keeper, Kept, Place};
use crate::observation::{At, Call, Loss, Tid};
use crate::source::Report;

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// Keeps what stands outside of the roots before it is changed.
    pub(crate) fn keep(&mut self, keeper: Option<Keeper>) {
        self.keeper = keeper;
    }

    /// A thread goes into a call: what that is about to change.
    pub(super) fn before(&mut self, tid: Tid, entry: &Entry) -> Option<Box<Before>> {
        self.keeper.as_ref()?;
        let (at, change) = changed_by(entry)?;
        // To ask the file system could be to wait for a tracee that waits for us.
        if self.kernel.serves_files {
            self.keeper = None;
            self.lost(tid, Loss::NotKept);
            return None;
        }
        let path = self.model.path_of(tid, at, &mut self.kernel)?;
        let (root, is_plain) = self.model.root_of(tid, &path);
        let fd = if let At::Descriptor(fd) = at { Some(fd) } else { None };
        let follow = entry.follows();
        self.keeper
            .as_mut()?
            .before(&Place { tid: Some(tid), path: &path, root, fd, follow, is_plain }, change)
    }

    /// The call is over.
    pub(super) fn changed(&mut self, tid: Tid, before: Option<Box<Before>>, done: bool) {
        let (Some(keeper), Some(before)) = (&mut self.keeper, before) else { return };
        if !done {
            return keeper.refuse(&before);
        }
        keeper.settle(|| self.reports.flush());
        let (Some(kept), Some(author)) = (keeper.confirm(*before), self.model.author(tid)) else {
            return;
        };
        let kept = Report::Kept(Box::new(Kept::new(kept, super::now(), author)));
        if self.reports.defer(kept).is_err() {
            self.deserted();
        }
    }

    /// What was told of a call is told.
    pub(super) fn change_told(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.called();
        }
    }

    /// A thread was killed: the call that it was in may have been made.
    pub(super) fn may_have_changed(&mut self, tid: Tid) {
        let before = self.threads.get_mut(tid).and_then(|thread| thread.before.take());
        if !self.silent {
            self.changed(tid, before, true);
            self.change_told();
        }
    }
}

/// What a call is about to change, and how. What goes through a descriptor was kept when that was opened.
fn changed_by(entry: &Entry) -> Option<(At<'_>, Change)> {
    let (row, _) = entry.row()?;
    match row.shape {
        Shape::Open { .. } | Shape::Creat { .. } | Shape::OpenHow { .. } => {}
        Shape::Rename { .. } | Shape::Unlink { .. } | Shape::UnlinkAt { .. } => {}
        Shape::Truncate { .. } | Shape::Chmod { .. } | Shape::Chown { .. } => {}
        Shape::Utime { .. } | Shape::SetXattr { .. } | Shape::SetXattrAt { .. } => {}
        Shape::RemoveXattr { .. } => {}
        _ => return None,
    }
    Some(match entry.call(Ok(0))? {
        Call::Open { at, flags, created, .. } => (at, opened(flags, created)?),
        // Nothing is lost by an exchange, and RENAME_NOREPLACE fails where something would be.
        Call::Rename { to, flags: 0, .. } => (to, Change::Rename),
        Call::Unlink { at } => (at, Change::Unlink),
        Call::Truncate { at, .. } if !matches!(at, At::Descriptor(_)) => (at, Change::Truncate),
        Call::Chmod { at, .. }
        | Call::Chown { at, .. }
        | Call::Utime { at, .. }
        | Call::Xattr { at, .. } => (at, Change::Attributes),
        _ => return None,
    })
}

/// What comes of an open call that succeeds; `created` says that nothing is there before.
fn opened(flags: u32, created: bool) -> Option<Change> {
    const UNNAMED: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
    const NEW: i32 = libc::O_CREAT | libc::O_EXCL;
    let flags = flags.cast_signed();
    let untouched = libc::O_PATH | libc::O_DIRECTORY | UNNAMED;
    if created || flags & untouched != 0 || flags & NEW == NEW {
        return None;
    }
    match flags & libc::O_ACCMODE {
        _ if flags & libc::O_TRUNC != 0 => Some(Change::Truncate),
        libc::O_RDONLY => None,
        _ => Some(Change::Write),
    }
}
