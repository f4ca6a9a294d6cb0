//! What restoring, resuming and applying do to real directories.

mod common;
mod round_trip;
