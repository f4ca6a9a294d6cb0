//! Recordings held against what strace(1) sees of the same program, and against each other.
//!
//! Both are brought into one form, [`deeds::Summary`]: which process did what to which path with which result, and how
//! often. Nothing may be missing and nothing be too much.

#[path = "../common/mod.rs"]
mod common;
mod deeds;
mod names;
mod programs;
mod recorded;
mod reference;
mod repeat;
mod silent;
mod stage;
mod strace;
mod stress;
