//! Recording does not change the run: each program runs as it is and recorded, and both must look the same from outside.
//!
//! `programs/` holds the ones in C, a subject each; they print what they find, and the harness compares.

#[path = "../common/mod.rs"]
mod common;

mod attributes;
mod containers;
mod harness;
mod nested;
mod processes;
mod pty;
mod rights;
mod sandboxes;
mod signals;
mod terminal;
