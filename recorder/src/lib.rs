//! Placeholder while the workspace is laid out.

pub mod model;
pub mod observation;
pub mod ptrace;
pub mod redact;
pub mod source;
