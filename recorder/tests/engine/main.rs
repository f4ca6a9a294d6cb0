//! The tracer on real programs: each covered call has a tracee that provokes it, and its events are compared exactly.
//!
//! Run as root, most tests run twice: as root, and with tracer and tracee as a user without any right.

mod abis;
mod coverage;
mod descriptors;
mod engines;
mod events;
mod files;
mod handover;
mod harness;
mod lines;
mod losses;
mod mounts;
mod processes;
mod sockets;
mod streams;
mod terminal;
#[cfg(target_arch = "x86_64")]
mod tls;
#[cfg(target_arch = "x86_64")]
mod tls_clients;
