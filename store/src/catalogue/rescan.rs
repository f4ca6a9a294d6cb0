//! Makes the catalogue again from the traces themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agentrec_trace::event::{SessionStart, SessionStop};
use agentrec_trace::{Data, Reader, Seq, Status};
use rusqlite::{Transaction, TransactionBehavior};

use super::{Catalogue, Counts, Session, State};
use crate::error::{Context, Result};
use crate::session_id::is_session_id;

/// What a rescan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescan {
    /// Sessions that the catalogue did not know.
    pub added: Vec<String>,
    /// Sessions of which it knew something else.
    pub updated: Vec<String>,
    /// Sessions whose trace is gone; forgotten.
    pub forgotten: Vec<String>,
    /// Files named like traces that can't be read as such, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl Catalogue {
    /// Reads the traces in the data directory and directly in `dirs`, adds those that are not listed, corrects those
    /// that are listed wrongly, and forgets the sessions whose trace is gone.
    pub fn rescan(&self, dirs: &[PathBuf]) -> Result<Rescan> {
        let mut report = Rescan::default();
        for dir in std::iter::once(&self.home.traces()).chain(dirs) {
            for path in traces_in(dir)? {
                match describe(&path) {
                    Ok(Some(session)) if is_session_id(&session.id) => {
                        self.take_over(session, &mut report)?;
                    }
                    Ok(Some(_)) => {
                        report.unreadable.push((path, "its session id is none".to_owned()));
                    }
                    Ok(None) => {}
                    Err(error) => report.unreadable.push((path, error.to_string())),
                }
            }
        }
        for session in self.list()? {
            if is_gone(&session.trace) {
                self.forget(&session.id)?;
                report.forgotten.push(session.id);
            }
        }
        Ok(report)
    }

    /// The traces that say what the store is needed for: those that are listed, and those in the data directory. One that
    /// is gone for good is not among them.
    pub fn traces(&self) -> Result<Vec<PathBuf>> {
        let listed = self.list()?.into_iter().map(|session| session.trace);
        let mut traces: Vec<_> = listed.filter(|trace| !is_gone(trace)).collect();
        traces.extend(traces_in(&self.home.traces())?);
        traces.sort();
        traces.dedup();
        Ok(traces)
    }

    /// A session that is listed as running, as its trace describes it where nobody writes that any more; entered so.
    pub(super) fn settled(&self, listed: &Session) -> Option<Session> {
        let mut session = describe(&listed.trace).ok()??;
        if session.id != listed.id || session.state == State::Recording {
            return None;
        }
        let now = TransactionBehavior::Immediate;
        let entering = Transaction::new_unchecked(&self.connection, now).ok();
        // Its recorder may have entered more by now than the trace tells.
        let known = self.get(&listed.id).ok()??;
        if known.state != State::Recording {
            return Some(known);
        }
        session.keep_counts_of(&known);
        // Where it can't be entered (a full disk), it is told all the same.
        self.put(&session).ok();
        entering.map(Transaction::commit);
        Some(session)
    }

    /// Enters a session as its trace describes it; what only its recorder knew (counts, the socket) is kept.
    fn take_over(&self, mut session: Session, report: &mut Rescan) -> Result<()> {
        match self.get(&session.id)? {
            None => report.added.push(session.id.clone()),
            Some(known) => {
                session.keep_counts_of(&known);
                if session.state == State::Recording {
                    session.socket.clone_from(&known.socket);
                    session.recorder_pid = known.recorder_pid;
                }
                // Of two copies of one trace, the one that is listed stays.
                if known.trace != session.trace && known.trace.exists() {
                    return Ok(());
                }
                if known == session {
                    return Ok(());
                }
                report.updated.push(session.id.clone());
            }
        }
        self.put(&session)
    }
}

impl Session {
    /// How many files changed is not read again from the trace.
    fn keep_counts_of(&mut self, known: &Self) {
        let Counts { added, changed, deleted, .. } = known.counts;
        self.counts = Counts { added, changed, deleted, ..self.counts };
    }
}

/// Only a plain "not there" counts: a disk that is not mounted or a closed directory may be back tomorrow.
fn is_gone(trace: &Path) -> bool {
    match trace.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            trace.parent().is_some_and(Path::is_dir)
        }
        _ => false,
    }
}

/// What the trace at `path` says about its session; none where it has not begun yet.
pub(crate) fn describe(path: &Path) -> Result<Option<Session>, agentrec_trace::Error> {
    let reader = Reader::open(path)?;
    let Some(first) = reader.event(Seq(1))? else { return Ok(None) };
    let Data::SessionStart(start) = first.data else { return Ok(None) };
    let mut session = from_start(path, start);
    session.state = match reader.status() {
        Status::Complete(_) => State::Complete,
        Status::Recording => State::Recording,
        Status::Incomplete { .. } => State::Incomplete,
    };
    session.counts.events = reader.len();
    session.counts.trace_bytes = reader.file_len()?;
    if let Some(Data::SessionStop(stop)) = reader.tail(1)?.pop().map(|event| event.data) {
        let SessionStop { code, signal, duration, lost, .. } = stop;
        session.duration = Some(duration);
        (session.code, session.signal) = (code, signal);
        session.counts.lost = lost;
    }
    Ok(Some(session))
}

fn from_start(path: &Path, start: SessionStart<'_>) -> Session {
    let (parent, parent_at) = match start.parent {
        Some(parent) => (Some(parent.session.into_owned()), Some(parent.at.into_owned())),
        None => (None, None),
    };
    Session {
        id: start.session.into_owned(),
        name: start.name.map(|name| name.into_owned()),
        trace: path.to_owned(),
        cwd: start.cwd.as_path().to_owned(),
        argv: start.argv.iter().map(|argument| argument.to_vec()).collect(),
        started: start.wall,
        parent,
        parent_at,
        ..Session::default()
    }
}

/// Files directly in `dir` whose name ends in `.zst`, absolute; none where there is no such directory.
fn traces_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let dir = std::path::absolute(dir).context("find", dir)?;
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("list", &dir)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.context("list", &dir)?.path();
        if path.extension().is_some_and(|extension| extension == "zst") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
