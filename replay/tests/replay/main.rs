//! What restoring, resuming and applying do to real directories.

mod common;
mod in_place;
mod restore;
mod resume;
mod round_trip;
