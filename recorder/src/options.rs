//! What a recording is asked for, and what it gives back.

use std::path::PathBuf;
use std::time::Duration;

use agentrec_launch::Plan;
use agentrec_store::Home;
use serde::{Deserialize, Serialize};

use crate::profiles::Profiles;
use crate::source::ExitStatus;

/// What to record, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The command. Its environment is the agent's; the variables of the local socket are added to it.
    pub plan: Plan,
    /// Id of the new session, where it had to be known before (a resumed run's copy is named by it).
    pub session: Option<String>,
    /// The trace; `None` for the data directory's `traces/`.
    pub output: Option<PathBuf>,
    /// Whether `output` may be there already.
    pub overwrite: bool,
    /// A name for people.
    pub name: Option<String>,
    /// Directories beside the working directory that snapshots hold, as the agent sees them.
    pub roots: Vec<PathBuf>,
    /// Agents that are recognised when they are started: the directories of their state become roots too.
    pub profiles: Profiles,
    /// Whether they do. Credentials are known by the profiles all the same.
    pub state: bool,
    /// Those of a snapshot that is resumed: the agent, and the directory as it sees it.
    pub state_roots: Vec<(String, PathBuf)>,
    /// What snapshots leave out, in the syntax of .gitignore.
    pub excludes: Vec<String>,
    /// How processes are watched; `None` for the best that works here.
    pub engine: Option<Engine>,
    /// How what is encrypted is read.
    pub tls: Tls,
    /// Wait for the last descendant instead of the command.
    pub wait_tree: bool,
    /// What to do when the trace can't be written any more.
    pub on_error: OnError,
    /// The untouched files of a tree are put into the trace where they are not more than this, in bytes.
    pub inline_max: u64,
    /// Snapshots leave out files longer than this, in bytes, and list them.
    pub max_file: u64,
    /// Once a snapshot holds this much, it leaves out the other files, in bytes, and lists them.
    pub max_tree: u64,
    /// Longer old contents outside of the roots are not kept, in bytes: at most [`Options::KEEP_MAX_FILE_LIMIT`].
    pub keep_max_file: u64,
    /// Once so much of them is kept, no more are, in bytes; 0 for none.
    pub keep_max: u64,
    /// Snapshots are taken: at start and end, at requests to models, and where somebody asks.
    pub snapshots: bool,
    /// Every snapshot looks at the whole tree, also for what others than the command changed.
    pub rescan: bool,
    /// Which run this one continues.
    pub lineage: Option<Lineage>,
    /// The JSON object that the agent finds through `AGENTREC_RESUME`.
    pub resume_state: Option<serde_json::Value>,
    /// Where traces, objects, the catalogue and the redaction key are.
    pub home: Home,
    /// `XDG_RUNTIME_DIR`, where that is set: the socket is made there.
    pub runtime_dir: Option<PathBuf>,
    /// Called up to ten times a second while the tree is read, before the command starts and after it ended; with `None`
    /// when the terminal becomes the command's.
    pub progress: Option<fn(Option<Progress>)>,
    /// Called where BPF programs should have loaded and did not, with the reason: ptrace took their place.
    pub fell_back: Option<fn(&str)>,
    /// Called once a running process is attached to.
    pub attached: Option<fn(Attached)>,
}

impl Options {
    /// The default of [`Options::inline_max`]: 64 MiB.
    pub const INLINE_MAX: u64 = 64 << 20;

    /// The default of [`Options::max_file`]: 2 GiB.
    pub const MAX_FILE: u64 = 2 << 30;

    /// The default of [`Options::max_tree`]: 16 GiB. Who starts an agent in the root directory should not find the
    /// disk full.
    pub const MAX_TREE: u64 = 16 << 30;

    /// The default of [`Options::keep_max_file`]: 16 MiB.
    pub const KEEP_MAX_FILE: u64 = 16 << 20;

    /// What an object of a trace can hold.
    pub const KEEP_MAX_FILE_LIMIT: u64 = agentrec_trace::limits::MAX_OBJECT;

    /// The default of [`Options::keep_max`]: 256 MiB.
    pub const KEEP_MAX: u64 = 256 << 20;

    /// To record `plan` as a run of its own, everything else by default.
    pub fn new(plan: Plan, home: Home) -> Self {
        Self {
            plan,
            session: None,
            output: None,
            overwrite: false,
            name: None,
            roots: Vec::new(),
            profiles: Profiles::default(),
            state: true,
            state_roots: Vec::new(),
            excludes: Vec::new(),
            engine: None,
            tls: Tls::default(),
            wait_tree: false,
            on_error: OnError::Continue,
            inline_max: Self::INLINE_MAX,
            max_file: Self::MAX_FILE,
            max_tree: Self::MAX_TREE,
            keep_max_file: Self::KEEP_MAX_FILE,
            keep_max: Self::KEEP_MAX,
            snapshots: true,
            rescan: false,
            lineage: None,
            resume_state: None,
            home,
            runtime_dir: None,
            progress: None,
            fell_back: None,
            attached: None,
        }
    }
}

/// How processes are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// By stopping them: needs no privilege.
    Ptrace,
    /// By programs in the kernel, which stop nobody.
    Ebpf,
}

impl Engine {
    /// Its name in traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ptrace => "ptrace",
            Self::Ebpf => "ebpf",
        }
    }
}

/// How what goes over encrypted connections is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// In the TLS libraries of the processes.
    #[default]
    Probe,
    /// By a proxy that decrypts it, which the command is led to trust.
    Proxy,
    /// Not at all.
    Off,
}

/// What to do when the trace can't be written any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The command goes on without a recording.
    #[default]
    Continue,
    /// The command and its descendants are killed.
    Stop,
}

/// Which run a session continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Session id of the parent.
    pub session: String,
    /// Address inside the parent, such as `s2`.
    pub at: String,
    /// What was changed, such as `prompt` or `env.NAME`.
    pub edits: Vec<String>,
}

/// How far the reading of the tree has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Files so far.
    pub files: u64,
    /// The sum of their lengths, bytes.
    pub bytes: u64,
}

/// What an attached recorder follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// By which engine.
    pub engine: Engine,
    /// Processes, the one that was asked for among them.
    pub processes: usize,
    /// Threads of all of them.
    pub threads: usize,
}

/// What a recording gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How the command ended; code 0 where it goes on.
    pub status: ExitStatus,
    /// The process was only attached to, and goes on.
    pub detached: bool,
    /// What the recorder says; `None` where it was killed, or for a nested run.
    pub recording: Option<Recording>,
    /// The signal that killed the recorder, where the command went on without it.
    pub cut_off: Option<i32>,
}

/// What the recorder says when the trace is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Session id.
    pub session: String,
    /// The trace.
    pub trace: PathBuf,
    /// From start to stop.
    pub duration: Duration,
    /// Files that the agent changed.
    pub files: FileCounts,
    /// Events in the trace.
    pub events: u64,
    /// Events that were lost, as far as they could be counted.
    pub lost: u64,
    /// Programs that recording changed.
    pub changed: Vec<ChangedRun>,
    /// The seal's hash in hexadecimal; `None` where the trace could not be sealed.
    pub seal: Option<String>,
    /// Descendants that outlived the command; the recorder stays behind until they end.
    pub left_running: u32,
    /// It had no command: a watch.
    pub watched: bool,
    /// It took snapshots, and so knows what changed in a tree.
    pub snapshots: bool,
    /// Files that the trace became; the last of them is `trace`.
    pub parts: u32,
    /// Why the trace ends before the command did.
    pub failure: Option<String>,
}

/// A program that does not run as it would without us, because the kernel lets no unprivileged recorder allow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedRun {
    /// Its name, without directories.
    pub program: String,
    /// What it can't do.
    pub lacks: Lack,
}

/// What a recorded program can't do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lack {
    /// Be what its set-uid bit, set-gid bit or file capabilities say.
    Rights,
    /// Trace another process, such as strace, gdb and LeakSanitizer do.
    Tracing,
}

/// Files that differ between start and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCounts {
    /// Added in the tree.
    pub added: u64,
    /// Changed in the tree.
    pub changed: u64,
    /// Deleted in the tree.
    pub deleted: u64,
    /// Written to, renamed or deleted outside the tree.
    pub outside: u64,
}

impl ExitStatus {
    /// The code that a shell gives: 128 + n for a signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => 128 + signal,
        }
    }
}
