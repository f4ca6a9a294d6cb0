//! Why this machine can't be watched by BPF programs.

use std::io;
use std::path::PathBuf;

use crate::observation::Tid;

/// This machine can't be watched by BPF programs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not tell where its fields are.
    #[error("cannot read the kernel's types from {0}")]
    Btf(PathBuf, #[source] io::Error),
    /// A field that the programs need is not there.
    #[error("this kernel's types lack {0}")]
    Field(String),
    /// The kernel refused the programs or their maps.
    #[error("cannot load the BPF programs")]
    Load(#[source] aya::EbpfError),
    /// The same of one program, or of the tracepoint that it is for.
    #[error("cannot load the BPF program for {0}")]
    Program(String, #[source] io::Error),
    /// The same of one map.
    #[error("cannot use the BPF map {0}")]
    Map(&'static str, #[source] aya::maps::MapError),
    /// Tracepoints have no numbers without it.
    #[error("cannot see the kernel's tracepoints (tracefs)")]
    Tracefs(#[source] io::Error),
    /// It ended before it could be followed.
    #[error("there is no process {0} any more")]
    Gone(Tid),
    /// There are no control groups of version 2, or this process is in none of those that are mounted.
    #[error("cannot see the control groups (cgroup2) that this process is in")]
    NoControlGroups,
    /// Something else that the kernel refused.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
    /// The ring buffer was full to its last byte just then.
    #[error("the end of the command was lost")]
    EndLost,
}
