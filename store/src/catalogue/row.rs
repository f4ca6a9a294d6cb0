//! One session of the catalogue, as a value and as a row.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rusqlite::Row;
use rusqlite::types::Value;

/// What a recorded session left, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Session id.
    pub id: String,
    /// Name given with `--name`.
    pub name: Option<String>,
    /// The trace, an absolute path.
    pub trace: PathBuf,
    /// Working directory as the agent saw it, absolute.
    pub cwd: PathBuf,
    /// The command, redacted.
    pub argv: Vec<Vec<u8>>,
    /// When it began, nanoseconds since 1970.
    pub started: i64,
    /// Nanoseconds that it took; absent while it runs and where that is not known.
    pub duration: Option<u64>,
    /// Exit code of the command.
    pub code: Option<i32>,
    /// Signal that ended the command.
    pub signal: Option<i32>,
    /// How far it got.
    pub state: State,
    /// The session that this one continues.
    pub parent: Option<String>,
    /// Where in the parent, such as `s2`.
    pub parent_at: Option<String>,
    /// The socket of a running session.
    pub socket: Option<PathBuf>,
    /// The recorder's pid while it runs.
    pub recorder_pid: Option<u32>,
    /// Numbers for a list.
    pub counts: Counts,
}

/// How far a session got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// It runs, as far as the catalogue knows: a recorder that was killed could not say so.
    #[default]
    Recording,
    /// Its trace is sealed.
    Complete,
    /// Its recorder died.
    Incomplete,
}

/// What a session did, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events in the trace.
    pub events: u64,
    /// Events that were lost.
    pub lost: u64,
    /// Bytes of the trace.
    pub trace_bytes: u64,
    /// Files that the last snapshot has and the first had not.
    pub added: u64,
    /// Files whose content differs between the two.
    pub changed: u64,
    /// Files that the first snapshot has and the last has not.
    pub deleted: u64,
}

impl State {
    /// As stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "recording" => Self::Recording,
            "complete" => Self::Complete,
            _ => Self::Incomplete,
        }
    }
}

/// The table.
pub(super) const SCHEMA: &str = "
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT,
        trace BLOB NOT NULL,
        cwd BLOB NOT NULL,
        argv BLOB NOT NULL,
        started INTEGER NOT NULL,
        duration INTEGER,
        code INTEGER,
        signal INTEGER,
        state TEXT NOT NULL,
        parent TEXT,
        parent_at TEXT,
        socket BLOB,
        recorder_pid INTEGER,
        events INTEGER NOT NULL,
        lost INTEGER NOT NULL,
        trace_bytes INTEGER NOT NULL,
        added INTEGER NOT NULL,
        changed INTEGER NOT NULL,
        deleted INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sessions_by_directory ON sessions (cwd, started);
    CREATE INDEX sessions_by_start ON sessions (started);
";

/// Its columns, in the order of [`Session::to_row`].
pub(super) const COLUMNS: &str = "id, name, trace, cwd, argv, started, duration, code, signal, state, parent, \
     parent_at, socket, recorder_pid, events, lost, trace_bytes, added, changed, deleted";

impl Session {
    pub(super) fn to_row(&self) -> Vec<Value> {
        let path = |path: &PathBuf| Value::Blob(path.as_os_str().as_bytes().to_vec());
        let count = |count: u64| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX));
        let Counts { events, lost, trace_bytes, added, changed, deleted } = self.counts;
        vec![
            self.id.clone().into(),
            self.name.clone().into(),
            path(&self.trace),
            path(&self.cwd),
            // Arguments hold no NUL byte (execve(2)).
            Value::Blob(self.argv.join(&0)),
            self.started.into(),
            self.duration.map(count).unwrap_or(Value::Null),
            self.code.into(),
            self.signal.into(),
            self.state.as_str().to_owned().into(),
            self.parent.clone().into(),
            self.parent_at.clone().into(),
            self.socket.as_ref().map(path).unwrap_or(Value::Null),
            self.recorder_pid.into(),
            count(events),
            count(lost),
            count(trace_bytes),
            count(added),
            count(changed),
            count(deleted),
        ]
    }

    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let path = |bytes: Vec<u8>| PathBuf::from(OsStr::from_bytes(&bytes));
        let count = |index: usize| row.get(index).map(|count: i64| count.unsigned_abs());
        let argv: Vec<u8> = row.get(4)?;
        let argv = argv.split(|byte| *byte == 0).map(<[u8]>::to_vec);
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            trace: path(row.get(2)?),
            cwd: path(row.get(3)?),
            argv: argv.collect(),
            started: row.get(5)?,
            duration: row.get::<_, Option<i64>>(6)?.map(i64::unsigned_abs),
            code: row.get(7)?,
            signal: row.get(8)?,
            state: State::parse(&row.get::<_, String>(9)?),
            parent: row.get(10)?,
            parent_at: row.get(11)?,
            socket: row.get::<_, Option<Vec<u8>>>(12)?.map(path),
            recorder_pid: row.get(13)?,
            counts: Counts {
                events: count(14)?,
                lost: count(15)?,
                trace_bytes: count(16)?,
                added: count(17)?,
                changed: count(18)?,
                deleted: count(19)?,
            },
        })
    }
}
