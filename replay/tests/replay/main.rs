//! What restoring, resuming and applying do to real directories.

mod common;
mod restore;
mod resume;
mod round_trip;
