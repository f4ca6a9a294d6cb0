//! Going back: restore a snapshot, resume from it, see what changed, bring the changes home, and
//! make a trace or a repository of a trace, to be taken elsewhere.
//!
//! This crate records nothing: it returns a launch plan, which the command hands to the recorder and `agentrec-replay` to the
//! kernel.

mod apply;
mod bundle;
mod credentials;
mod error;
mod git;
mod lookup;
mod new_trace;
mod origin;
mod redacted;
mod restore;
mod resume;
mod scrub;
mod snapshot;
mod sources;
mod text_diff;
pub mod undo;

pub use apply::{ApplyPlan, ApplyRoot, plan_apply};
pub use bundle::{BundleOptions, Bundled, bundle};
pub use error::{Error, Result};
pub use git::{GitCommit, GitExported, GitLack, GitProjection, GitRefs};
pub use new_trace::Target;
pub use redacted::REDACTION_MARK;
pub use restore::{Missing, MissingReason, NotSet, Only, Restored, restore_new};
pub use resume::{Edits, Place, RestoredRoot, ResumePlan, restore_root, resume_plan};
pub use scrub::{Pattern, Scrubbed, scrub};
pub use snapshot::{Root, Snapshot, read_snapshot, read_snapshots, session_id};
pub use sources::Sources;
pub use text_diff::{ContentDiff, Hunk, Line, Side, content_diff, line_origins};
