//! The trace format of agentrec: events, ids, `Writer` and `Reader`. No kernel, no command line.
//!
//! `docs/trace-format.md` describes the bytes precisely enough to write a reader in another language.

mod bytes;
mod codec;
mod container;
mod cursor;
mod de;
mod error;
pub mod event;
mod event_codec;
mod file;
mod ids;
pub mod json;
pub mod limits;
mod msgpack;
mod objects;
pub mod open_flags;
mod reader;
mod recipe;
mod rewrite;
mod verify;
mod writer;

pub use bytes::Bytes;
pub use container::{FORMAT_VERSION, Seal};
pub use cursor::{EventCursor, Events};
pub use error::{Error, Result};
pub use event::{Data, Event, Layer, Source, Value};
pub use file::TraceFile;
pub use ids::{InvalidObjectId, ObjectId, ProcId, Seq, SnapshotIndex};
pub use reader::{Reader, Status};
pub use recipe::ObjectHint;
pub use rewrite::{Part, Rewriter};
pub use verify::{Problem, Report, verify, verify_bytes};
pub use writer::{Writer, WriterOptions};
