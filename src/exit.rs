//! The exit codes of `agentrec`: the one place that knows them.

use std::process::ExitCode;

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// It worked; for `diff`, nothing differs.
    pub const OK: Self = Self(0);
    /// It did not work; for `verify`, the trace is damaged; for `doctor`, this machine can't record.
    pub const FAILURE: Self = Self(1);
    /// `diff`: something differs.
    pub const DIFFERENT: Self = Self(1);
    /// `audit`: a rule was broken.
    pub const VIOLATED: Self = Self(1);
    /// A wrong command line; for `diff` and `audit`, trouble of any kind.
    pub const TROUBLE: Self = Self(2);
    /// `run` and `resume`: the failure is ours, not the command's.
    pub const RUN_FAILED: Self = Self(125);
    /// `run` and `resume`: the command was found and can't be executed.
    pub const CANNOT_EXECUTE: Self = Self(126);
    /// `run` and `resume`: there is no such command.
    pub const NOT_FOUND: Self = Self(127);

    /// The status of a command that called exit(3) with `code`.
    pub fn child_code(code: i32) -> Self {
        // wait(2) hands on the low eight bits of the status.
        Self((code & 0xff) as u8)
    }

    /// The status that a shell reports for a command that `signal` ended.
    pub fn child_signal(signal: i32) -> Self {
        Self(128u8.wrapping_add((signal & 0x7f) as u8))
    }

    /// The number itself.
    pub fn code(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_killed_by_sigkill_is_137() {
        assert_eq!(Exit::child_signal(9).code(), 137);
        assert_eq!(Exit::child_code(7).code(), 7);
    }
}
