//! Processes: their start, the programs that they execute, their end.

use super::define::events;
use crate::{Bytes, ProcId};

events! {
    /// A process was started by another.
    Sys "process.fork" ProcessFork {
        /// The new process; the envelope's `proc` is its parent.
        child: ProcId,
        /// Its pid, in the recorder's pid namespace.
        pid: u32,
        /// Flags as given to clone(2); 0 for fork.
        flags: u64,
        /// The child was there already when its recording began (`agentrec attach`, `agentrec watch`).
        initial: bool,
    }
    /// A process executed a program, or failed to.
    Sys "process.exec" ProcessExec<'a> {
        /// The program's path, absolute.
        #[serde(borrow)] path: Bytes<'a>,
        /// Arguments, redacted.
        #[serde(borrow)] argv: Vec<Bytes<'a>>,
        /// Length of the argument list in bytes where `argv` was cut, else absent.
        argv_len: Option<u64>,
        /// Working directory.
        #[serde(borrow)] cwd: Bytes<'a>,
        /// Environment variables that differ from the parent's last exec as name and value, redacted; no value where removed.
        #[serde(borrow)] env: Vec<(Bytes<'a>, Option<Bytes<'a>>)>,
        /// The interpreter or the file that the kernel mapped, where it is not `path`.
        #[serde(borrow)] exe: Option<Bytes<'a>>,
        /// Process id, in the recorder's pid namespace.
        pid: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
        /// The program ran already when its recording began (`agentrec attach`, `agentrec watch`); `argv` and `env` are as /proc says.
        initial: bool,
    }
    /// A process ended.
    Sys "process.exit" ProcessExit {
        /// Exit code.
        code: Option<i32>,
        /// Signal that ended it.
        signal: Option<i32>,
        /// Whether core was dumped.
        core: bool,
        /// User CPU time, nanoseconds (of this process, without its children).
        utime: u64,
        /// System CPU time, nanoseconds.
        stime: u64,
        /// Peak resident set, bytes.
        max_rss: u64,
    }
}
