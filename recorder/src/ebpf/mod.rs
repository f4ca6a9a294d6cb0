//! The eBPF engine: programs in the kernel report what the ptrace engine learns from stops.

pub mod object;
pub mod tracefs;
