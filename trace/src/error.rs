//! What can go wrong with a trace, with the path or the offset where it did.

use std::io;
use std::path::PathBuf;

use crate::ObjectId;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or created.
    #[error("cannot {action} {}", path.display())]
    Open {
        /// `open`, `create`, …
        action: &'static str,
        /// The path as given.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("cannot {action} the trace at offset {offset}")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// Byte offset in the file.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// Another recorder holds the file.
    #[error("{} is being recorded", .0.display())]
    Recording(PathBuf),
    /// The file exists and was not to be overwritten.
    #[error("{} exists", .0.display())]
    Exists(PathBuf),
    /// Something other than a file is at the path.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The file does not begin as a trace does.
    #[error("not a trace: {0}")]
    NotATrace(String),
    /// A later version of agentrec wrote it.
    #[error("trace format version {0} is newer than this program")]
    Version(u32),
    /// The bytes are not what a writer writes.
    #[error("damaged at offset {offset}: {what}")]
    Damaged {
        /// Byte offset in the file, of the frame or of the structure that is wrong.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A value is larger than what is accepted.
    #[error("{what} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The trace refers to an object that is not in it.
    #[error("object {0} is not in the trace")]
    NoObject(ObjectId),
    /// A value could not be decoded.
    #[error("cannot decode {what}: {why}")]
    Decode {
        /// What it is.
        what: &'static str,
        /// The decoder's reason.
        why: String,
    },
    /// A value could not be encoded.
    #[error("cannot encode {what}: {why}")]
    Encode {
        /// What it is.
        what: &'static str,
        /// The encoder's reason.
        why: String,
    },
    /// The writer was sealed; nothing follows a seal.
    #[error("the trace is sealed")]
    Sealed,
}

impl Error {
    pub(crate) fn damaged(offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { offset, what: what.into() }
    }

    pub(crate) fn decode(what: &'static str, why: impl ToString) -> Self {
        Self::Decode { what, why: why.to_string() }
    }

    pub(crate) fn encode(what: &'static str, why: impl ToString) -> Self {
        Self::Encode { what, why: why.to_string() }
    }

    /// Places an error of decoding at `offset` of the file.
    pub(crate) fn at(self, offset: u64) -> Self {
        match self {
            Self::Decode { what, why } => Self::damaged(offset, format!("{what}: {why}")),
            Self::TooLarge { .. } => Self::damaged(offset, self.to_string()),
            other => other,
        }
    }
}
