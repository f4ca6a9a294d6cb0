//! The session itself: its start and end, its snapshots, edges that were learned later, and what is not in the trace.

use std::borrow::Cow;

use super::define::events;
use super::values::{Certainty, Lineage, Payload, RootTree, StandardFd, Watch};
use crate::{Bytes, Seq, SnapshotIndex};

events! {
    /// The command was started. Always the first event.
    Sys "session.start" SessionStart<'a> {
        /// Session id.
        #[serde(borrow)] session: Cow<'a, str>,
        /// Name given with `--name`.
        #[serde(borrow)] name: Option<Cow<'a, str>>,
        /// The command, redacted.
        #[serde(borrow)] argv: Vec<Bytes<'a>>,
        /// Working directory as the agent sees it.
        #[serde(borrow)] cwd: Bytes<'a>,
        /// Environment as name and value, redacted.
        #[serde(borrow)] env: Vec<(Bytes<'a>, Bytes<'a>)>,
        /// Descriptors 0, 1 and 2.
        #[serde(borrow)] fds: Vec<StandardFd<'a>>,
        /// Host name.
        #[serde(borrow)] host: Cow<'a, str>,
        /// `uname -r`.
        #[serde(borrow)] kernel: Cow<'a, str>,
        /// `uname -m`.
        #[serde(borrow)] arch: Cow<'a, str>,
        /// `ptrace` or `ebpf`.
        #[serde(borrow)] engine: Cow<'a, str>,
        /// Why that engine.
        #[serde(borrow)] engine_reason: Cow<'a, str>,
        /// Version of agentrec.
        #[serde(borrow)] version: Cow<'a, str>,
        /// User id of the agent.
        uid: u32,
        /// Old contents outside of the snapshots' roots are kept (`file.kept`) up to this many bytes in all; 0 where none are. By
        /// ptrace nothing stood, then, where a change of a content has no such event before it.
        keeps: u64,
        /// Commit that HEAD of the working directory's git repository names.
        #[serde(borrow)] git_head: Option<Cow<'a, str>>,
        /// Branch, where HEAD is on one.
        #[serde(borrow)] git_branch: Option<Cow<'a, str>>,
        /// Whether the git work tree differed from HEAD.
        git_dirty: Option<bool>,
        /// Whom a session without a command follows.
        #[serde(borrow)] watch: Option<Watch<'a>>,
        /// The run that this one continues.
        #[serde(borrow)] parent: Option<Lineage<'a>>,
        /// Wall clock, nanoseconds since 1970 (CLOCK_REALTIME).
        wall: i64,
        /// Time zone offset of the machine, seconds east of UTC.
        utc_offset: i32,
    }
    /// The recording ended. Always the last event of a complete trace.
    Sys "session.stop" SessionStop<'a> {
        /// Why: `exit`, `stop`, `signal`, `error`, `rotate`.
        #[serde(borrow)] reason: Cow<'a, str>,
        /// Exit code of the command.
        code: Option<i32>,
        /// Signal that ended the command.
        signal: Option<i32>,
        /// Whether that signal dumped core.
        core: bool,
        /// Descendants that outlived the command.
        left_running: u32,
        /// Nanoseconds since `session.start`.
        duration: u64,
        /// Events that were lost in all.
        lost: u64,
    }
    /// The state was saved. The command, its environment and its working directory are those of `session.start`.
    Agent "snapshot.created" SnapshotCreated<'a> {
        /// Its number.
        index: SnapshotIndex,
        /// What the one who asked for it said.
        #[serde(borrow)] description: Cow<'a, str>,
        /// `start`, `end`, `sdk`, `command`, `request`.
        #[serde(borrow)] trigger: Cow<'a, str>,
        /// The file trees.
        #[serde(borrow)] roots: Vec<RootTree<'a>>,
        /// The conversation's messages, an array.
        messages: Payload,
        /// System prompt.
        system_prompt: Payload,
        /// Tools that the agent offers its model.
        tools: Payload,
        /// Model.
        #[serde(borrow)] model: Option<Cow<'a, str>>,
        /// The last query.
        last_query: Payload,
        /// The last result.
        last_result: Payload,
        /// Paths that were written to while the snapshot was taken.
        #[serde(borrow)] late: Vec<Bytes<'a>>,
        /// Paths that changed while they were read.
        #[serde(borrow)] torn: Vec<Bytes<'a>>,
        /// Only what the tree's own events told of was looked at: what others changed is not in it yet.
        partial: bool,
        /// Nanoseconds that it took.
        duration: u64,
    }
    /// An edge that was learned later.
    Sys "link" Link<'a> {
        /// From this event.
        from: Seq,
        /// To this event.
        to: Seq,
        /// What the edge says, such as `response-call`, `call-process`.
        #[serde(borrow)] kind: Cow<'a, str>,
        /// Seen or concluded.
        certainty: Certainty,
    }
    /// Something is not in the trace.
    Sys "lost" Lost<'a> {
        /// How many events, where that is known.
        count: Option<u64>,
        /// Where: such as `ptrace`, `socket`, `snapshot`, `process`, or `outside` for work that was handed to who is not recorded.
        #[serde(borrow)] place: Cow<'a, str>,
        /// Why, in a sentence.
        #[serde(borrow)] reason: Cow<'a, str>,
        /// The peer's pid, where work left the traced tree.
        peer_pid: Option<u32>,
    }
}
