//! Placeholder while the workspace is laid out.

pub mod redact;
pub mod source;
