//! Capture: records a command and everything that it starts.
//!
//! [`run`] is all that most callers need. The two processes behind it, and the way of an event through them, are
//! described in `docs/architecture.md`.

pub mod calls;
pub mod control;
pub mod ebpf;
mod error;
mod front;
mod gate;
mod handed_on;
mod keep;
mod link;
pub mod mailbox;
pub mod model;
mod nested;
pub mod observation;
mod options;
pub mod privileges;
mod proc;
pub mod profiles;
mod proxy;
pub mod ptrace;
mod recorder;
pub mod redact;
mod runtime;
mod session;
mod setup;
mod socket;
pub mod source;
mod target;
pub mod tls;
mod watch;

pub use error::{Error, Result};
pub use front::{attach, run, watch};
pub use options::{
    Attached, ChangedRun, Engine, FileCounts, Lack, Lineage, OnError, Options, Outcome, Progress,
    Recording, Tls,
};
pub use runtime::find_socket;
pub use target::Target;
pub use watch::{Rotation, Subject, Watch};
