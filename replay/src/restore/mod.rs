//! Puts files back: those of a snapshot into a new directory, or changes into one that is in use.
//!
//! A tree may come from anybody's trace. Names are single components (`Tree::decode` sees to it), every directory is opened
//! relative to the one above it and never through a link, and what grants rights (set-uid bits, capabilities) is only
//! restored from trees that this machine's own store recorded.

mod apply_changes;
mod dir;
mod fresh;
mod node;
mod only;

use std::path::PathBuf;

use agentrec_store::LeftOut;

pub(crate) use apply_changes::Applier;
pub(crate) use dir::Dir;
pub use fresh::restore_new;
pub use only::Only;

/// What a restore did and what it could not do. All paths are relative to the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Files that were written.
    pub files: u64,
    /// The sum of their lengths, bytes.
    pub bytes: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// Entries that are not there, or not as they were.
    pub missing: Vec<Missing>,
    /// Attributes that could not be set.
    pub not_set: Vec<NotSet>,
}

/// An entry that could not be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which one.
    pub path: PathBuf,
    /// Why.
    pub reason: MissingReason,
}

/// Why an entry could not be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissingReason {
    /// The snapshot does not hold its content.
    LeftOut(LeftOut),
    /// It holds secrets, so its content is only on the machine that recorded it.
    Secret,
    /// Its content is neither in the trace nor in this machine's store.
    NotHere,
    /// Its content is damaged.
    Damaged,
    /// It is a socket or a device.
    NotAFile,
    /// It changed after the present state was saved, so it was left alone.
    Changed,
    /// It is a directory that still has something in it that was not saved.
    NotEmpty,
    /// The system refused; `not_set` says why.
    Refused,
}

impl MissingReason {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeftOut(reason) => reason.as_str(),
            Self::Secret => "a secret file, kept on the machine that recorded it",
            Self::NotHere => "neither in the trace nor in this machine's store",
            Self::Damaged => "damaged",
            Self::NotAFile => "a socket or a device",
            Self::Changed => "changed in the meantime, left alone",
            Self::NotEmpty => "holds files that the snapshot does not know",
            Self::Refused => "could not be changed",
        }
    }
}

/// An attribute that could not be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSet {
    /// Of which entry.
    pub path: PathBuf,
    /// Which one: `content`, `owner`, `set-uid`, `times`, `mode`, or the name of an extended attribute.
    pub what: String,
    /// Why.
    pub reason: String,
}
