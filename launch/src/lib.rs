//! How a recorded or replayed program is started: directory, environment, private mounts, and what happens
//! between fork and exec.
//!
//! A [`Plan`] says what to run. [`Plan::prepare`] does everything that allocates, so that the child only makes
//! system calls; [`Prepared::spawn`] forks, [`Prepared::exec`] replaces the present process. Whatever fails on the
//! way is an [`Error`] that names the step, and knows the exit code that a shell would give.

mod child;
mod error;
mod inherited;
mod path_map;
mod plan;

pub use child::{Child, HookError, Prepared};
pub use error::{Error, Step};
pub use inherited::closed_at_start;
pub use path_map::PathMap;
pub use plan::{Plan, PrivateMount};
