//! Content-addressed objects, trees, snapshots and the catalogue of sessions.
//!
//! What a recorder keeps beside its traces, for one user and all of that user's sessions. The library touches only the
//! directory that its [`Home`] names and the trees that it is told to capture.

mod cache;
mod capture;
mod catalogue;
mod changes;
mod check;
mod collect;
mod diff;
mod error;
mod home;
mod lock;
mod loose;
mod mark;
mod objects;
mod operations;
mod packs;
pub mod secret_files;
mod session_id;
mod staging;
mod stats;
mod tree;

pub use cache::StatCache;
pub use capture::{
    Capture, CaptureOptions, Dirty, EntryReader, FileId, Later, Omission, ProgressFn, Touch,
    Tracked, capture_tree, check_pattern, is_beyond_mount, restorable_xattrs,
};
pub use catalogue::{
    Catalogue, Counts, MIN_PREFIX, PruneLimits, PruneReason, Pruned, Rescan, Session, State,
};
pub use changes::{NewObject, ObjectRole, new_objects};
pub use check::CheckReport;
pub use collect::{CollectOptions, Collected, Names};
pub use diff::{Change, ChangeKind, diff_trees};
pub use error::{Error, Result};
pub use home::{Home, create_private_dir, files_in};
pub use lock::Hold;
pub use mark::MissingObject;
pub use objects::{Batch, Objects, Staged, Store};
pub use operations::{
    Logged, Operation, OperationKind, Operations, Outcome, PathBytes, Role, Step,
};
pub use secret_files::SecretPlaces;
pub use session_id::{is_session_id, new_session_id};
pub use stats::StoreStats;
pub use tree::{Entry, Kind, LeftOut, MAX_DEPTH, Meta, Tree, TreeBudget};
