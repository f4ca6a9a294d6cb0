//! The trace format of agentrec: events, ids, `Writer` and `Reader`. No kernel, no command line.
//!
//! `docs/trace-format.md` describes the bytes precisely enough to write a reader in another language.

mod bytes;
pub mod event;
mod ids;

pub use bytes::Bytes;
pub use event::{Data, Event, Layer, Source, Value};
pub use ids::{InvalidObjectId, ObjectId, ProcId, Seq, SnapshotIndex};
