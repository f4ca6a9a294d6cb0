//! What can go wrong in the store, each with the path or the object that it went wrong with.

use std::io;
use std::path::{Path, PathBuf};

use agentrec_trace::ObjectId;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call on a file of the store or of the captured tree failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Nothing can be kept in the data directory.
    #[error("cannot use the data directory {}: {source}", path.display())]
    Home {
        /// The directory, or the one in it that is in the way.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that should be stored can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The content of an object is not the one that its address names.
    #[error("object {0} is damaged")]
    Corrupt(ObjectId),
    /// An object that something names is not there.
    #[error("object {0} is missing")]
    Missing(ObjectId),
    /// A file that no store can take.
    #[error("object {0} is too large")]
    TooLarge(ObjectId),
    /// Contents that were to be stored are not, for a reason that was told before.
    #[error("the contents before could not be stored")]
    Unfinished,
    /// A trace can't be read.
    #[error("cannot read the trace {}: {source}", path.display())]
    Trace {
        /// The trace.
        path: PathBuf,
        /// Why not.
        source: agentrec_trace::Error,
    },
    /// Objects can't be removed at the moment.
    #[error("cannot take the store: snapshots are being written to it")]
    Held,
    /// An object that should be a tree is none, or one that no recorder writes.
    #[error("object {id} is not a valid tree: {reason}")]
    InvalidTree {
        /// The object.
        id: ObjectId,
        /// What is wrong with it.
        reason: String,
    },
    /// An ignore pattern can't be read.
    #[error("invalid pattern `{pattern}`: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The catalogue refused.
    #[error("cannot {action} the catalogue {}: {source}", path.display())]
    Catalogue {
        /// What was tried, as a verb.
        action: &'static str,
        /// The catalogue's file.
        path: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// Another process carries out an undo or a redo.
    #[error("another undo or redo is at work")]
    OperationRunning,
    /// No session has this id or prefix.
    #[error("no session `{0}`")]
    NoSession(String),
    /// Several sessions begin with this prefix.
    #[error("`{prefix}` is ambiguous: {}", ids.join(", "))]
    AmbiguousSession {
        /// What was asked for.
        prefix: String,
        /// The sessions that it could mean.
        ids: Vec<String>,
    },
}

impl Error {
    /// What the user could do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Home { .. } => {
                Some("make it writable, or set AGENTREC_HOME to a directory that is")
            }
            Self::Trace { .. } => {
                Some("what it names is not known, so nothing goes; `agentrec rm` forgets a session")
            }
            Self::Missing(_) => Some(
                "contents that are not in a trace are in the store of the machine that recorded it",
            ),
            Self::Held => Some("try again when the recordings that run have less to do"),
            Self::OperationRunning => Some("wait until it has ended"),
            _ => None,
        }
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
