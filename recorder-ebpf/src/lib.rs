//! What the kernel and the recorder say to each other: the records, map values and settings of the eBPF engine.
//!
//! This is the one definition of that ABI: the BPF programs (`programs/`) and the recorder both use it. Everything in
//! it is made by [`abi!`], which refuses to compile a struct with padding: the verifier would refuse it as well, since
//! padding on a BPF stack is memory that was never written, and the recorder would read what nobody meant to send.

#![no_std]

mod abi;

pub use abi::Plain;

/// A counter of every CPU, in the map [`COUNTERS`]: its index there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Counter {
    /// Threads that ended.
    ThreadsEnded,
}

impl Counter {
    /// How many there are.
    pub const COUNT: u32 = Self::ThreadsEnded as u32 + 1;
}

/// The name of the map of counters: a per-CPU array of `u64`, indexed by [`Counter`].
pub const COUNTERS: &str = "COUNTERS";
