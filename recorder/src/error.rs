//! Why a recording could not be made.

use std::path::PathBuf;

/// The recording could not be started, or was cut off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command could not be started.
    #[error(transparent)]
    Launch(#[from] agentrec_launch::Error),
    /// The recorder process could not do its work.
    #[error("{message}")]
    Recorder {
        /// What it was trying to do, and why it could not.
        message: String,
        /// What the user can do.
        hint: Option<String>,
    },
    /// There is no such process to attach to, or it can't be traced.
    #[error("cannot attach to process {pid}: {reason}")]
    Target {
        /// The process.
        pid: i32,
        /// Why not.
        reason: String,
        /// What the user can do.
        hint: Option<String>,
    },
    /// The recorder process was killed, and with it the agent.
    #[error(
        "the recorder was killed (signal {signal}), and its agent with it; the trace ends there"
    )]
    RecorderKilled {
        /// Signal number.
        signal: i32,
    },
    /// The calling process has threads, and a fork would lose them.
    #[error("a recording must be started before any thread")]
    Threads,
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Nobody listens on a session's socket.
    #[error("no recording answers at {}: {source}", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The recorder refused a request.
    #[error("{0}")]
    Refused(String),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with what led to it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl Error {
    pub(crate) fn io(action: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { action: action.into(), source: source.into() }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Launch(error) => error.hint(),
            Self::Recorder { hint, .. } | Self::Target { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }

    /// What `agentrec run` returns: 126 and 127 where the command could not be run, else 125.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Launch(error) => error.exit_code(),
            _ => 125,
        }
    }
}
