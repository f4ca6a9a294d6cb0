//! What can go wrong when going back, each with the path or the snapshot that it went wrong with.

use std::io;
use std::path::{Path, PathBuf};

use agentrec_store::OperationKind;
use agentrec_trace::{Problem, SnapshotIndex};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call on a file failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The trace can't be read.
    #[error(transparent)]
    Trace(#[from] agentrec_trace::Error),
    /// The store can't be read, or holds something else than it should.
    #[error(transparent)]
    Store(#[from] agentrec_store::Error),
    /// The command can't be started.
    #[error(transparent)]
    Launch(#[from] agentrec_launch::Error),
    /// The trace has no snapshot of this number.
    #[error("the trace has no snapshot {0}")]
    NoSnapshot(SnapshotIndex),
    /// The trace does not say which session it is of.
    #[error("the trace does not begin with a session's start")]
    NoSession,
    /// The tree of a snapshot is neither in the trace nor in the store.
    #[error("the files of {} are not in the trace, and this machine's store does not have them", path.display())]
    NoTree {
        /// The root.
        path: PathBuf,
    },
    /// What should be made is already there.
    #[error("{} already exists", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The file that should be written is already there.
    #[error("{} exists", path.display())]
    OutputExists {
        /// The path.
        path: PathBuf,
    },
    /// A trace can't be written again because it is damaged.
    #[error("{} is damaged at {problem}", path.display())]
    DamagedTrace {
        /// The trace.
        path: PathBuf,
        /// The first bad place.
        problem: Problem,
    },
    /// A new trace is not what was written.
    #[error("{} was written and read back otherwise, at {problem}", path.display())]
    NotWritten {
        /// The new trace.
        path: PathBuf,
        /// The first bad place.
        problem: Problem,
    },
    /// Something that a snapshot names is nowhere.
    #[error("neither the trace nor this machine's store has {} of {snapshot} whole{}", path.display(), and_others(*others))]
    NotHere {
        /// The first snapshot that names it.
        snapshot: SnapshotIndex,
        /// Where it was.
        path: PathBuf,
        /// How many more there are.
        others: usize,
    },
    /// git does not take what it is told.
    #[error("git ended before it was told everything: {0}")]
    Git(io::Error),
    /// A directory of a snapshot is none.
    #[error("cannot read the directory {} of {snapshot}: {source}", path.display())]
    NoDirectory {
        /// The first snapshot that names it.
        snapshot: SnapshotIndex,
        /// Where it was.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<agentrec_store::Error>,
    },
    /// The pattern is none that can be taken out.
    #[error("the pattern can't be taken out: {reason}")]
    ScrubPattern {
        /// Why.
        reason: String,
    },
    /// What was to go is in the new trace.
    #[error("the new trace holds it still, in {place}")]
    NotScrubbed {
        /// Where.
        place: String,
    },
    /// An earlier restore to the same place was interrupted.
    #[error("{} is left from an interrupted restore", path.display())]
    Partial {
        /// The unfinished directory.
        path: PathBuf,
    },
    /// The path at which a resumed agent should see its files is not there.
    #[error("{} does not exist, so nothing can be shown there", path.display())]
    NoOriginal {
        /// The original path.
        path: PathBuf,
    },
    /// The command that was recorded holds secrets that were taken out.
    #[error("argument {index} of the recorded command was redacted: {argument}")]
    RedactedArgument {
        /// Its position, the command itself being 0.
        index: usize,
        /// The argument as it is in the trace.
        argument: String,
    },
    /// A glob can't be read.
    #[error("invalid pattern: {0}")]
    Pattern(#[from] globset::Error),
    /// What an operation would replace is not in the store any more.
    #[error("what is in {} now is not saved any more", path.display())]
    NotSaved {
        /// Where it is.
        path: PathBuf,
    },
    /// An operation stands in the log and came to no end.
    #[error("o{id} was interrupted: {source}")]
    Interrupted {
        /// Its number.
        id: u64,
        /// What it is.
        kind: OperationKind,
        /// Why it went no further.
        source: Box<Error>,
    },
    /// A session is no resumed one, or what it left was removed.
    #[error("session {session} has no copy here whose changes could be brought home")]
    NoCopy {
        /// The session.
        session: String,
    },
    /// The note beside a copy can't be read.
    #[error("{}: {reason}", path.display())]
    Origin {
        /// The note.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSnapshot(_) => Some("`agentrec info` lists the snapshots".into()),
            Self::NoTree { .. } => Some(
                "resume on the machine that recorded it, or `agentrec bundle` the trace there"
                    .into(),
            ),
            Self::OutputExists { .. } => {
                Some("name a file that does not exist yet, or replace it with --force".into())
            }
            Self::DamagedTrace { .. } | Self::NotWritten { .. } => {
                Some("`agentrec verify` checks a trace; see that the disk is sound".into())
            }
            Self::NoDirectory { .. } => Some(
                "no recorder writes such a trace; --allow-missing goes on without that directory"
                    .into(),
            ),
            Self::Exists { .. } => Some("name a directory that does not exist yet".into()),
            Self::Partial { path } => Some(format!("remove {} and restore again", path.display())),
            Self::NoOriginal { path } => Some(format!(
                "agents find their own state by that path; create an empty {} and try again, or use \
                 `agentrec restore` to only get the files",
                path.display()
            )),
            Self::RedactedArgument { .. } => Some("give the whole command after `--`".into()),
            Self::NotSaved { .. } => Some("the store was cleared meanwhile; run it again".into()),
            Self::NoCopy { .. } => Some(
                "only sessions that `agentrec resume` started have one, until they are removed"
                    .into(),
            ),
            Self::Interrupted { source, .. } => source.hint(),
            Self::Launch(error) => error.hint().map(str::to_owned),
            Self::Store(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }
}

/// `, nor 3 others`, where there are some.
fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => ", nor one other".to_owned(),
        _ => format!(", nor {others} others"),
    }
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Turns an error of the operating system into ours by saying what was tried on what.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::Io { action, path: path.to_owned(), source: error.into() })
    }
}
