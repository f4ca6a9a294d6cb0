//! What was done to files: who read and wrote how much of which, and every act that changed one.

use std::collections::{BTreeMap, HashMap};

use agentrec_trace::{Data, Event, ProcId, Seq, open_flags};

use super::changes::{Change, existed_before};
use super::old::OldContents;
use super::paths::{PathId, Paths};

/// What a process did with a path, in sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Successful opens.
    pub opens: u64,
    /// Failed opens.
    pub failed: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

/// One act that changed a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The event.
    pub seq: Seq,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub ts: u64,
    /// Who did it; 0 where no process is named.
    pub proc: ProcId,
    /// What it was done to.
    pub path: PathId,
    /// What was done.
    pub kind: ActionKind,
}

/// What was done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// A file was created by open(2).
    Created,
    /// Bytes were written; told at the close.
    Written {
        /// How many.
        bytes: u64,
        /// The `file.open`; none for a descriptor that was open when the session began.
        open: Option<Seq>,
    },
    /// Cut at open(2), or its length set.
    Truncated,
    /// unlink(2)
    Deleted,
    /// It went away under this name, to that one.
    RenamedTo(PathId),
    /// It came under this name, from that one.
    RenamedFrom(PathId),
    /// It changed places with that one.
    Exchanged(PathId),
    /// mkdir(2)
    DirectoryCreated,
    /// rmdir(2)
    DirectoryDeleted,
    /// A second name of that file.
    LinkedFrom(PathId),
    /// symlink(2)
    Symlinked,
    /// mknod(2)
    NodeCreated,
    /// chmod(2), chown(2)
    Attributes,
    /// Mapped shared and writable: may have changed without a call.
    Mapped,
    /// Contents cloned from that file.
    ClonedFrom(PathId),
}

/// All that was done to files.
#[derive(Debug, Default)]
pub struct Files {
    paths: Paths,
    opens: HashMap<Seq, PathId>,
    uses: BTreeMap<(ProcId, PathId), Use>,
    actions: Vec<Action>,
    old: OldContents,
    /// Of each path, whether the first act made it.
    made: HashMap<PathId, bool>,
}

impl Files {
    /// Every act that changed a path, in order.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// Old contents outside of the tree.
    pub fn old_contents(&self) -> &OldContents {
        &self.old
    }

    /// What became of what stood there before a change outside of the tree; none where nothing did.
    pub fn old_content_of(&self, change: &Change) -> Option<&'static str> {
        let made = |path: &[u8]| {
            self.find(path).and_then(|id| self.made.get(&id).copied()).unwrap_or_default()
        };
        self.old.of(change, made)
    }

    /// The path of `id`.
    pub fn path(&self, id: PathId) -> &[u8] {
        self.paths.get(id)
    }

    /// The id of `path`, if an event named it.
    pub fn find(&self, path: &[u8]) -> Option<PathId> {
        self.paths.find(path)
    }

    /// What `proc` did, by path.
    pub fn uses_of(&self, proc: ProcId) -> impl Iterator<Item = (&[u8], Use)> {
        let range = (proc, PathId::MIN)..=(proc, PathId::MAX);
        self.uses.range(range).map(|((_, path), usage)| (self.paths.get(*path), *usage))
    }

    /// Who did something with `path`, and what.
    pub fn users_of(&self, path: PathId) -> impl Iterator<Item = (ProcId, Use)> {
        self.uses
            .iter()
            .filter(move |((_, p), _)| *p == path)
            .map(|((proc, _), usage)| (*proc, *usage))
    }

    /// Takes the next event. Calls that failed change nothing.
    pub fn add(&mut self, event: &Event<'_>) {
        match &event.data {
            Data::FileKept(_) => self.old.add(event),
            Data::FileOpen(open) => {
                let path = self.paths.intern(&open.path);
                let usage = self.usage(event, path);
                if open.errno.is_some() {
                    usage.failed += 1;
                    return;
                }
                usage.opens += 1;
                // A file without a name is told of once it has one.
                if open.flags & open_flags::TMPFILE == open_flags::TMPFILE {
                    return;
                }
                self.opens.insert(event.seq, path);
                if open.created {
                    self.act(event, path, ActionKind::Created);
                } else if truncates(open.flags) {
                    self.act(event, path, ActionKind::Truncated);
                }
            }
            Data::FileClose(close) => {
                let opened = close.open.and_then(|seq| self.opens.get(&seq).copied());
                let named = close.path.as_ref().map(|path| self.paths.intern(path));
                let Some(path) = opened.or(named) else { return };
                let usage = self.usage(event, path);
                usage.read = usage.read.saturating_add(close.read);
                usage.written = usage.written.saturating_add(close.written);
                if close.written > 0 {
                    let open = close.open;
                    self.act(event, path, ActionKind::Written { bytes: close.written, open });
                }
            }
            Data::FileRename(e) if e.errno.is_none() => {
                let (from, to) = (self.paths.intern(&e.from), self.paths.intern(&e.to));
                if e.flags & libc::RENAME_EXCHANGE != 0 {
                    self.act(event, from, ActionKind::Exchanged(to));
                    self.act(event, to, ActionKind::Exchanged(from));
                } else if from != to {
                    self.act(event, from, ActionKind::RenamedTo(to));
                    self.act(event, to, ActionKind::RenamedFrom(from));
                }
            }
            Data::FileLink(e) if e.errno.is_none() => {
                let (from, to) = (self.paths.intern(&e.from), self.paths.intern(&e.to));
                let kind = match e.open {
                    Some(open) => {
                        self.opens.insert(open, to);
                        ActionKind::Created
                    }
                    None => ActionKind::LinkedFrom(from),
                };
                self.act(event, to, kind);
            }
            Data::FileClone(e) if e.errno.is_none() => {
                let (from, to) = (self.paths.intern(&e.from), self.paths.intern(&e.to));
                self.act(event, to, ActionKind::ClonedFrom(from));
            }
            data => {
                if let Some((path, kind)) = simple(data) {
                    let path = self.paths.intern(path);
                    self.act(event, path, kind);
                }
            }
        }
    }

    fn usage(&mut self, event: &Event<'_>, path: PathId) -> &mut Use {
        self.uses.entry((event.proc.unwrap_or_default(), path)).or_default()
    }

    fn act(&mut self, event: &Event<'_>, path: PathId, kind: ActionKind) {
        let proc = event.proc.unwrap_or_default();
        self.made.entry(path).or_insert(existed_before(kind) == Some(false));
        self.actions.push(Action { seq: event.seq, ts: event.ts, proc, path, kind });
    }
}

/// Events that succeeded, change one path, and say no more than that.
fn simple<'e>(data: &'e Data<'_>) -> Option<(&'e [u8], ActionKind)> {
    let (path, errno, kind) = match data {
        Data::FileUnlink(e) => (&e.path, e.errno, ActionKind::Deleted),
        Data::FileMkdir(e) => (&e.path, e.errno, ActionKind::DirectoryCreated),
        Data::FileRmdir(e) => (&e.path, e.errno, ActionKind::DirectoryDeleted),
        Data::FileSymlink(e) => (&e.path, e.errno, ActionKind::Symlinked),
        Data::FileMknod(e) => (&e.path, e.errno, ActionKind::NodeCreated),
        Data::FileTruncate(e) => (&e.path, e.errno, ActionKind::Truncated),
        Data::FileChmod(e) => (&e.path, e.errno, ActionKind::Attributes),
        Data::FileChown(e) => (&e.path, e.errno, ActionKind::Attributes),
        Data::FileMmap(e) => (&e.path, e.errno, ActionKind::Mapped),
        _ => return None,
    };
    errno.is_none().then_some((path.as_slice(), kind))
}

fn truncates(flags: u32) -> bool {
    let flags = flags.cast_signed();
    flags & libc::O_TRUNC != 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;

    #[test]
    fn a_close_counts_for_the_process_that_closes() {
        let mut script = Script::new("/w");
        let open = script.open(1, "/w/a", libc::O_RDWR, false);
        script.fork(1, 2).close(2, open, 10, 5).close(1, open, 1, 0);
        let files = script.digest().files;
        let uses: Vec<_> = files.users_of(files.find(b"/w/a").expect("opened")).collect();
        assert_eq!(uses[0], (ProcId(1), Use { opens: 1, failed: 0, read: 1, written: 0 }));
        assert_eq!(uses[1], (ProcId(2), Use { opens: 0, failed: 0, read: 10, written: 5 }));
        assert_eq!(files.actions().len(), 1);
        assert_eq!(files.actions()[0].kind, ActionKind::Written { bytes: 5, open: Some(open) });
    }

    #[test]
    fn what_failed_changes_nothing() {
        let mut script = Script::new("/w");
        script.failing_unlink(1, "/w/a", libc::EPERM);
        assert_eq!(script.digest().files.actions(), []);
    }

    #[test]
    fn reading_with_o_trunc_is_no_truncation() {
        let mut script = Script::new("/w");
        script.open(1, "/w/a", libc::O_RDONLY | libc::O_TRUNC, false);
        script.open(1, "/w/b", libc::O_WRONLY | libc::O_TRUNC, false);
        let files = script.digest().files;
        assert_eq!(files.actions().len(), 1);
        assert_eq!(files.path(files.actions()[0].path), b"/w/b");
    }
}
