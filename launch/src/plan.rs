//! What to run, and what it shall see.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::{Error, PathMap, Prepared};

/// What to run, and what it shall see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The command and its arguments. A command without a slash is searched in `PATH` of `env`.
    pub argv: Vec<OsString>,
    /// The whole environment, as name and value.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory as the program sees it; absolute.
    pub cwd: PathBuf,
    /// What is seen at another path than where it is.
    pub mounts: Vec<PrivateMount>,
}

/// A directory or file that the program, and nobody else, sees at the path of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateMount {
    /// Where it really is; absolute.
    pub source: PathBuf,
    /// Where the program sees it; absolute, and it must exist.
    pub target: PathBuf,
}

impl Plan {
    /// Makes everything ready that needs memory, so that the child only makes system calls.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the plan can't be handed to the kernel: no command, a NUL byte, a relative path.
    pub fn prepare(&self) -> Result<Prepared, Error> {
        Prepared::new(self)
    }

    /// Where the paths that the program sees really are.
    pub fn path_map(&self) -> PathMap {
        PathMap::new(&self.mounts)
    }

    /// The value that the program will see for an environment variable.
    pub fn env_var(&self, name: &str) -> Option<&std::ffi::OsStr> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }

    /// Sets an environment variable, replacing it where it is there.
    pub fn set_env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let name = name.into();
        self.env.retain(|(key, _)| *key != name);
        self.env.push((name, value.into()));
    }
}
