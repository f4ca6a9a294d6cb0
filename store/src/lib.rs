//! Content-addressed objects, trees, snapshots and the catalogue of sessions.

pub mod secret_files;
