//! What a watch is asked for: whom it follows, for how long, and into how many files.

use std::path::PathBuf;
use std::time::Duration;

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Whom.
    pub subject: Subject,
    /// For how long; until it is ended where there is none.
    pub duration: Option<Duration>,
    /// The trace becomes several files.
    pub rotation: Option<Rotation>,
}

/// Whom a watch follows, each with all that it starts from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A process and its descendants.
    Tree(i32),
    /// A control group (version 2) with the groups below it, by its directory.
    Group(PathBuf),
    /// The processes of a user.
    User(u32),
    /// Those of a name, as `ps` shows it (`comm` in proc(5)).
    Name(String),
    /// Everybody but the recorder.
    All,
}

/// How a trace becomes several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The next file is begun when one has so many bytes.
    pub size: u64,
    /// So many files are kept; the oldest go.
    pub keep: Option<usize>,
}

impl Subject {
    /// Longest name that the kernel keeps, in bytes (TASK_COMM_LEN in include/linux/sched.h, without the NUL).
    pub const MAX_NAME: usize = 15;

    /// What kind it is, for `session.start`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Tree(_) => "pid",
            Self::Group(_) => "cgroup",
            Self::User(_) => "uid",
            Self::Name(_) => "comm",
            Self::All => "all",
        }
    }

    /// Which one it is, for `session.start`.
    pub(crate) fn value(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        match self {
            Self::Tree(pid) => pid.to_string().into_bytes(),
            Self::Group(path) => path.as_os_str().as_bytes().to_vec(),
            Self::User(uid) => uid.to_string().into_bytes(),
            Self::Name(name) => name.clone().into_bytes(),
            Self::All => Vec::new(),
        }
    }
}
