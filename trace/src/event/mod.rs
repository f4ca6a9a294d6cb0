//! Every event that a trace can hold: the envelope here, the types with their fields by subject.
//!
//! To add an event, define its type in the file of its subject, add it to the list in `data.rs`, its row to
//! `docs/trace-format.md` (a test compares the two), and the tracee or test that provokes it. Fields are only ever added,
//! each with a default that means "not known"; names are never reused.

mod conversation;
mod data;
mod define;
mod fields;
mod file;
mod http;
mod net;
mod process;
mod session;
mod terminal;
mod values;

use serde::{Deserialize, Serialize};

use crate::{ProcId, Seq};

pub use self::conversation::*;
pub use self::data::{Data, EVENT_TYPES};
pub use self::define::EventType;
pub use self::fields::Visitor;
pub use self::file::*;
pub use self::http::*;
pub use self::net::*;
pub use self::process::*;
pub use self::session::*;
pub use self::terminal::*;
pub(crate) use self::values::is_default;
pub use self::values::{
    Address, Certainty, Content, Lineage, Payload, RootTree, StandardFd, Value, Watch,
};

/// Where an event belongs: the operating system, a tool, or the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Processes, files, network, terminal, HTTP.
    Sys,
    /// Tool invocations.
    Tool,
    /// What the agent said, used, and saved.
    Agent,
}

impl Layer {
    /// As written in a trace and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sys => "sys",
            Self::Tool => "tool",
            Self::Agent => "agent",
        }
    }

    /// The layer of that name, if this version knows it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sys, Self::Tool, Self::Agent].into_iter().find(|layer| layer.as_str() == name)
    }
}

/// Who says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The kernel, through either engine.
    #[default]
    Kernel,
    /// Decoded from the bytes of a connection.
    Wire,
    /// The agent itself, over the local socket.
    Sdk,
    /// A transcript that the agent keeps.
    Transcript,
    /// The recorder.
    Recorder,
    /// A source that this version does not know.
    #[serde(untagged)]
    Other(String),
}

impl Source {
    /// As written in a trace and on the command line.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Kernel => "kernel",
            Self::Wire => "wire",
            Self::Sdk => "sdk",
            Self::Transcript => "transcript",
            Self::Recorder => "recorder",
            Self::Other(name) => name,
        }
    }

    /// The source of that name.
    pub fn from_name(name: &str) -> Self {
        match name {
            "kernel" => Self::Kernel,
            "wire" => Self::Wire,
            "sdk" => Self::Sdk,
            "transcript" => Self::Transcript,
            "recorder" => Self::Recorder,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// One event: the envelope and its typed data.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// Assigned by the `Writer`; 0 before.
    pub seq: Seq,
    /// CLOCK_BOOTTIME in nanoseconds. A trace keeps its microseconds.
    pub ts: u64,
    /// The process it belongs to, if any.
    pub proc: Option<ProcId>,
    /// The thread, in the recorder's pid namespace; absent where it equals the pid of `proc`.
    pub tid: Option<u32>,
    /// The event that led to this one, where that was known at writing.
    pub cause: Option<Seq>,
    /// Who says so.
    pub source: Source,
    /// Type and fields.
    pub data: Data<'a>,
}

impl<'a> Event<'a> {
    /// An event of the session itself, not yet written.
    pub fn new(ts: u64, source: Source, data: impl Into<Data<'a>>) -> Self {
        Self { seq: Seq(0), ts, proc: None, tid: None, cause: None, source, data: data.into() }
    }

    /// Detached from the frame it was decoded from.
    pub fn into_owned(self) -> Event<'static> {
        let Self { seq, ts, proc, tid, cause, source, data } = self;
        Event { seq, ts, proc, tid, cause, source, data: data.into_owned() }
    }
}
