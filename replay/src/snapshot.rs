//! A snapshot as the trace holds it, with everything that stands in objects put in its place.

use std::path::PathBuf;

use agentrec_trace::event::{SessionStart, SnapshotCreated};
use agentrec_trace::{Data, ObjectId, Reader, Seq, SnapshotIndex, Value};

use crate::error::{Error, Result};

/// What was saved of a run at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The session that it is of.
    pub session: String,
    /// Its number.
    pub index: SnapshotIndex,
    /// Its event.
    pub seq: Seq,
    /// When, CLOCK_BOOTTIME in nanoseconds.
    pub ts: u64,
    /// What the one who asked for it said.
    pub description: String,
    /// `start`, `end`, `sdk`, `command`, `request`, `agent`.
    pub trigger: String,
    /// The file trees.
    pub roots: Vec<Root>,
    /// Working directory of the command as the agent saw it.
    pub cwd: PathBuf,
    /// Environment as name and value, redacted.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The command, redacted.
    pub argv: Vec<Vec<u8>>,
    /// The conversation's messages.
    pub messages: Value,
    /// System prompt.
    pub system_prompt: Value,
    /// Tools that the agent offered its model.
    pub tools: Value,
    /// Model.
    pub model: Option<String>,
    /// The last query.
    pub last_query: Value,
    /// The last result.
    pub last_result: Value,
    /// Paths that were written to while the snapshot was taken.
    pub late: Vec<PathBuf>,
    /// Paths that changed while they were read.
    pub torn: Vec<PathBuf>,
}

/// A file tree of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Absolute path as the agent saw it.
    pub path: PathBuf,
    /// The tree object.
    pub tree: ObjectId,
    /// Files in it.
    pub files: u64,
    /// The sum of their lengths, bytes.
    pub bytes: u64,
    /// Entries whose content was left out.
    pub left_out: u64,
    /// The agent whose state it is, where no user made it a root.
    pub agent: Option<String>,
}

/// Reads snapshot `index`.
pub fn read_snapshot(reader: &Reader, index: SnapshotIndex) -> Result<Snapshot> {
    let start = session_start(reader)?;
    let mut found = None;
    for_each_snapshot(reader, |seq, ts, created| {
        if created.index == index {
            found = Some((seq, ts, created));
        }
        found.is_none()
    })?;
    let (seq, ts, created) = found.ok_or(Error::NoSnapshot(index))?;
    resolve(reader, &start, seq, ts, created)
}

/// Reads all snapshots, in order.
pub fn read_snapshots(reader: &Reader) -> Result<Vec<Snapshot>> {
    let start = session_start(reader)?;
    let mut all = Vec::new();
    for_each_snapshot(reader, |seq, ts, created| {
        all.push((seq, ts, created));
        true
    })?;
    all.into_iter().map(|(seq, ts, created)| resolve(reader, &start, seq, ts, created)).collect()
}

/// The session that a trace is of.
pub fn session_id(reader: &Reader) -> Result<String> {
    Ok(session_start(reader)?.session.into_owned())
}

/// What the trace says of its session: of all snapshots, it holds the command with its environment and working directory.
fn session_start(reader: &Reader) -> Result<SessionStart<'static>> {
    match reader.event(Seq(1))?.map(|event| event.into_owned().data) {
        Some(Data::SessionStart(start)) => Ok(start),
        _ => Err(Error::NoSession),
    }
}

/// Calls `f` with every snapshot until it returns false.
fn for_each_snapshot(
    reader: &Reader,
    mut f: impl FnMut(Seq, u64, SnapshotCreated<'static>) -> bool,
) -> Result<()> {
    let mut cursor = reader.cursor(Seq(1))?;
    while let Some(event) = cursor.next()? {
        if !matches!(event.data, Data::SnapshotCreated(_)) {
            continue;
        }
        let event = event.into_owned();
        if let Data::SnapshotCreated(created) = event.data
            && !f(event.seq, event.ts, created)
        {
            break;
        }
    }
    Ok(())
}

fn resolve(
    reader: &Reader,
    start: &SessionStart<'_>,
    seq: Seq,
    ts: u64,
    created: SnapshotCreated<'static>,
) -> Result<Snapshot> {
    let paths = |paths: Vec<agentrec_trace::Bytes<'_>>| {
        paths.iter().map(|path| path.as_path().to_owned()).collect()
    };
    let roots = created.roots.iter().map(|root| Root {
        path: root.path.as_path().to_owned(),
        tree: root.tree,
        files: root.files,
        bytes: root.bytes,
        left_out: root.left_out,
        agent: root.agent.as_deref().map(str::to_owned),
    });
    Ok(Snapshot {
        session: start.session.to_string(),
        index: created.index,
        seq,
        ts,
        description: created.description.into_owned(),
        trigger: created.trigger.into_owned(),
        roots: roots.collect(),
        cwd: start.cwd.as_path().to_owned(),
        env: start.env.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        argv: start.argv.iter().map(|argument| argument.to_vec()).collect(),
        messages: reader.payload(&created.messages)?,
        system_prompt: reader.payload(&created.system_prompt)?,
        tools: reader.payload(&created.tools)?,
        model: created.model.map(|model| model.into_owned()),
        last_query: reader.payload(&created.last_query)?,
        last_result: reader.payload(&created.last_result)?,
        late: paths(created.late),
        torn: paths(created.torn),
    })
}
