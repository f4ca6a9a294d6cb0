//! Undo and redo: takes back what a session did to files, and only that. Restores in place and `apply` are operations of the same log.
//!
//! The trace says which paths a span of it changed ([`Touch`]); snapshots and `file.kept` say what was there before and after.
//! What is on the disk now is compared with what the span left. Where that is the same, the state before is put in its
//! place; else somebody changed it since, which is a [`Conflict`] and never settled silently. Everything is
//! written down, with the present contents, before the first file is changed (`agentrec_store::Operations`).

mod carry;
mod in_place;
mod merge;
mod plan;
mod present;
mod reverse;
mod settle;
mod states;

use std::path::{Path, PathBuf};

use agentrec_store::{EntryReader, LeftOut, Step};
use agentrec_trace::Seq;
use agentrec_trace::event::{FileKept, SnapshotCreated};

pub use carry::{Done, carry_out, finish};
pub(crate) use in_place::plan_of_changes;
pub use in_place::{InPlace, Target, plan_in_place};
pub use plan::{Scope, plan};
pub(crate) use present::is_as_saved;
pub use reverse::reverse;

/// A path that the span changed, as the trace tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Absolute, as the process meant it.
    pub path: PathBuf,
    /// The first event of the span that changed it, or that opened it for that.
    pub first: Seq,
    /// The last event of the span that changed it.
    pub last: Seq,
    /// When that was, nanoseconds since 1970.
    pub until: i64,
    /// Whether something was there before the first act; none where the act does not tell.
    pub existed: Option<bool>,
    /// Whether nothing was there after the last act; none where the acts don't tell.
    pub gone: Option<bool>,
    /// By its first act another file came to this name.
    pub arrived: bool,
    /// The acts went through a symbolic link of that name, if there was one, to what it leads to.
    pub follows: bool,
    /// It was renamed, so what lies in it moved along.
    pub moved: bool,
    /// It was open for writing beyond the span: which bytes are of the span nobody knows.
    pub held: bool,
}

/// What else of the trace a plan needs.
pub struct Record<'a> {
    /// Session id.
    pub session: &'a str,
    /// The snapshots, in order, each with its event.
    pub snapshots: Vec<(Seq, &'a SnapshotCreated<'static>)>,
    /// Old contents, in order, each with its event.
    pub kept: &'a [(Seq, FileKept<'static>)],
    /// Events by which recorded processes that are not of the span changed a path, or renamed a directory above it.
    pub others: &'a dyn Fn(&Path) -> Vec<Seq>,
}

/// What an undo or a redo would do.
pub struct Plan<'a> {
    /// Paths that are changed without a question, in path order, with those that belong to them.
    pub steps: Vec<Step>,
    /// Paths that somebody else has a part in.
    pub conflicts: Vec<Conflict>,
    /// Paths that can't be brought back.
    pub unable: Vec<(PathBuf, Unable)>,
    /// Directories that stay, since something else is in them.
    pub stays: Vec<PathBuf>,
    /// The last event of the span on each path.
    pub last: std::collections::HashMap<PathBuf, Seq>,
    trusted: bool,
    reader: EntryReader<'a>,
}

/// A path that can't simply be put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// From what is there now to what was there before the span.
    pub step: Step,
    /// What the span left, where that is known: what both sides started from.
    pub base: Option<Option<agentrec_store::Entry>>,
    /// Why.
    pub why: Why,
}

/// Why a path is a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not as the span left it. The events are those of recorded processes that changed it later; none where it was somebody else.
    Changed(Vec<Seq>),
    /// Within the span, others that were recorded changed it too.
    Shared(Vec<Seq>),
    /// Within the span, somebody who was not recorded changed it too.
    Foreign,
    /// It was open for writing beyond the span.
    Held,
    /// What the span left was not recorded, and the file changed since its last act.
    NotRecorded,
    /// Whether something stood there before is not known.
    BeforeNotKnown,
    /// It was read when the process could have changed it already.
    KeptLate,
    /// The file has other names, which would keep what was done.
    OtherNames,
}

/// Why a path can't be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unable {
    /// No state from before the span was recorded.
    NotRecorded,
    /// Its old content was not kept, for this reason of `file.kept`.
    NotKept,
    /// The snapshots left it out.
    LeftOut(LeftOut),
    /// What is there now can't be saved first.
    NotSavable(LeftOut),
    /// The content is neither in the trace nor in this machine's store.
    NotHere,
    /// It was a socket or a device.
    NotAFile,
}

impl Unable {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRecorded => "what was there before was not recorded",
            Self::NotKept => "its old content was not kept",
            Self::LeftOut(_) => "the snapshots left it out",
            Self::NotSavable(_) => "what is there now can't be read, so it could not be saved",
            Self::NotHere => "its content is neither in the trace nor in this machine's store",
            Self::NotAFile => "it was a socket or a device",
        }
    }
}

/// How conflicts are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Settle {
    /// What is there now stays.
    #[default]
    Mine,
    /// What was there before the span comes back.
    Theirs,
    /// Both changes, where they don't touch the same lines; what can't be merged stays.
    Merge,
}

/// Whether a session worked in a copy, as resumed ones do: then its changes are not in the directories that it names.
pub fn worked_in_copy(home: &agentrec_store::Home, session: &str) -> crate::Result<bool> {
    Ok(crate::origin::Origin::load(home, session)?.is_some())
}
