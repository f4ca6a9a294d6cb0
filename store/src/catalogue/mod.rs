//! The list of sessions: an SQLite file that helps to find traces and can be made again from them at any time.
//!
//! Nothing is kept here alone. A catalogue that can't be read is moved aside, and a new one begins with what the traces in
//! the data directory say; those elsewhere come back by [`Catalogue::rescan`].

mod prune;
mod rescan;
mod row;

use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

pub use prune::{PruneLimits, PruneReason, Pruned};
pub use rescan::Rescan;
pub use row::{Counts, Session, State};

use crate::Home;
use crate::error::{Context, Error, Result};
use crate::session_id::is_session_id;
use row::COLUMNS;

/// How long one process waits for another's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The layout of the tables; another number means another program version's catalogue, which is made anew.
const LAYOUT: i64 = 1;

/// Characters of an id by which a session is addressed at least.
pub const MIN_PREFIX: usize = 4;

/// An open catalogue.
#[derive(Debug)]
pub struct Catalogue {
    connection: Connection,
    path: PathBuf,
    home: Home,
    moved_aside: Option<PathBuf>,
}

impl Catalogue {
    /// Opens the catalogue of `home`, or begins one.
    pub fn open(home: &Home) -> Result<Self> {
        home.create()?;
        let path = home.catalogue();
        // Two processes must not move the same damaged file aside.
        let lock_path = home.data().join("catalogue.lock");
        let lock = private_file(&lock_path)?;
        lock.lock().context("lock", &lock_path)?;
        let ((connection, is_new), moved_aside) = match connect(&path) {
            Ok(connected) => (connected, None),
            Err(error) if is_damage(&error) => {
                let aside = move_aside(&path)?;
                (connect(&path).map_err(|error| failed("open", &path, error))?, Some(aside))
            }
            Err(error) => return Err(failed("open", &path, error)),
        };
        let catalogue = Self { connection, path, home: home.clone(), moved_aside };
        if is_new {
            catalogue.rescan(&[])?;
        }
        Ok(catalogue)
    }

    /// Where the old catalogue went, if it could not be read: traces outside the data directory must be searched again.
    pub fn moved_aside(&self) -> Option<&Path> {
        self.moved_aside.as_deref()
    }

    /// Adds a session, or replaces what was known of it.
    pub fn put(&self, session: &Session) -> Result<()> {
        let placeholders: Vec<_> =
            (1..=COLUMNS.split(',').count()).map(|n| format!("?{n}")).collect();
        let sql = format!(
            "INSERT OR REPLACE INTO sessions ({COLUMNS}) VALUES ({})",
            placeholders.join(", ")
        );
        let values = session.to_row();
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute(rusqlite::params_from_iter(values)))
            .map_err(|error| self.failed("write to", error))?;
        Ok(())
    }

    /// The session with exactly this id.
    pub fn get(&self, id: &str) -> Result<Option<Session>> {
        self.connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1"))
            .and_then(|mut statement| statement.query_row([id], Session::from_row).optional())
            .map_err(|error| self.failed("read", error))
    }

    /// The one session that is called `wanted` or whose id begins with it.
    pub fn find(&self, wanted: &str) -> Result<Session> {
        if let Some(session) = self.get(wanted)? {
            return Ok(session);
        }
        let mut found = self.select("WHERE name = ?1 ORDER BY started DESC", params![wanted])?;
        if found.is_empty() && wanted.len() >= MIN_PREFIX {
            let sql = "WHERE substr(id, 1, length(?1)) = ?1 ORDER BY started DESC";
            found = self.select(sql, params![wanted])?;
        }
        match found.len() {
            0 => Err(Error::NoSession(wanted.to_owned())),
            1 => Ok(found.remove(0)),
            _ => Err(Error::AmbiguousSession {
                prefix: wanted.to_owned(),
                ids: found.into_iter().map(|session| session.id).collect(),
            }),
        }
    }

    /// The shortest prefix of `id`, of at least 4 characters, that no other session shares.
    pub fn short_id<'i>(&self, id: &'i str) -> Result<&'i str> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM sessions WHERE id <> ?1 AND substr(id, 1, length(?2)) = ?2",
            )
            .map_err(|error| self.failed("read", error))?;
        for len in MIN_PREFIX..id.len() {
            let Some(prefix) = id.get(..len) else { continue };
            let others: i64 = statement
                .query_row([id, prefix], |row| row.get(0))
                .map_err(|error| self.failed("read", error))?;
            if others == 0 {
                return Ok(prefix);
            }
        }
        Ok(id)
    }

    /// The session that was started last in the directory `cwd` (an absolute path).
    pub fn last_for_directory(&self, cwd: &Path) -> Result<Option<Session>> {
        let sql = "WHERE cwd = ?1 ORDER BY started DESC LIMIT 1";
        Ok(self.select(sql, params![cwd.as_os_str().as_bytes()])?.pop())
    }

    /// The session that was started last.
    pub fn last(&self) -> Result<Option<Session>> {
        Ok(self.select("ORDER BY started DESC LIMIT 1", [])?.pop())
    }

    /// All sessions, the latest first. A running one whose recorder ended without a word (it was killed, or the disk was
    /// full) is what its trace tells.
    pub fn list(&self) -> Result<Vec<Session>> {
        let mut sessions = self.select("ORDER BY started DESC, id", [])?;
        for session in sessions.iter_mut().filter(|session| session.state == State::Recording) {
            if let Some(ended) = self.settled(session) {
                *session = ended;
            }
        }
        Ok(sessions)
    }

    /// Forgets a session and leaves its trace alone. Returns whether it was known.
    pub fn forget(&self, id: &str) -> Result<bool> {
        self.connection
            .execute("DELETE FROM sessions WHERE id = ?1", [id])
            .map(|rows| rows > 0)
            .map_err(|error| self.failed("write to", error))
    }

    /// Removes a session with all that it left in the data directory: the trace, where it lies there, and the copy it
    /// worked in. A trace that the user gave a place of its own stays.
    pub fn remove(&self, session: &Session) -> Result<()> {
        if self.is_in_home(&session.trace) {
            remove_if_there(fs::remove_file(&session.trace)).context("remove", &session.trace)?;
        }
        if is_session_id(&session.id) {
            let work = self.home.session_work(&session.id);
            remove_if_there(fs::remove_dir_all(&work)).context("remove", &work)?;
        }
        self.forget(&session.id).map(drop)
    }

    /// Whether a trace lies in the data directory, and so goes when its session is removed.
    fn is_in_home(&self, trace: &Path) -> bool {
        trace.parent() == Some(&self.home.traces())
    }

    fn select(&self, rest: &str, values: impl rusqlite::Params) -> Result<Vec<Session>> {
        self.connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM sessions {rest}"))
            .and_then(|mut statement| statement.query_map(values, Session::from_row)?.collect())
            .map_err(|error| self.failed("read", error))
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> Error {
        failed(action, &self.path, source)
    }
}

fn failed(action: &'static str, path: &Path, source: rusqlite::Error) -> Error {
    Error::Catalogue { action, path: path.to_owned(), source }
}

/// Opens the database, and says whether it was empty.
fn connect(path: &Path) -> rusqlite::Result<(Connection, bool)> {
    // SQLite would create it with the umask's mode.
    private_file(path).map_err(|_| rusqlite::Error::InvalidPath(path.to_owned()))?;
    match connect_sharing(path, true) {
        Err(error) if is_lack_of_room(&error) => connect_sharing(path, false),
        connected => connected,
    }
}

/// Where the database is not shared, SQLite keeps its index of the log in memory (sqlite.org/wal.html, "Use of WAL Without
/// Shared-Memory"): on a full disk, where sessions have to be found to be removed, there is no room for the file.
fn connect_sharing(path: &Path, shared: bool) -> rusqlite::Result<(Connection, bool)> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if !shared {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Every recording opens and closes it, with ten fsyncs. What a power failure damages is made again from the traces.
    connection.pragma_update(None, "synchronous", "OFF")?;
    let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match layout {
        LAYOUT => {}
        0 => connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {} PRAGMA user_version = {LAYOUT}; COMMIT;",
            row::SCHEMA
        ))?,
        _ => return Err(rusqlite::Error::InvalidQuery),
    }
    // A damaged page shows when it is read, so all of them are, now: the file is small.
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(rusqlite::Error::InvalidQuery);
    }
    connection.prepare(&format!("SELECT {COLUMNS} FROM sessions"))?;
    Ok((connection, layout == 0))
}

fn is_lack_of_room(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(error, _)
        if error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE || error.code == ErrorCode::DiskFull)
}

/// Whether the file is no catalogue of ours, rather than that it can't be had at the moment.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(error, _) => matches!(
            error.code,
            ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown
        ),
        rusqlite::Error::InvalidQuery => true,
        rusqlite::Error::SqlInputError { .. } => true,
        _ => false,
    }
}

fn move_aside(path: &Path) -> Result<PathBuf> {
    let mut number = 1;
    let aside = loop {
        let aside = path.with_extension(format!("sqlite.damaged-{number}"));
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    fs::rename(path, &aside).context("move aside", path)?;
    for suffix in ["-wal", "-shm"] {
        let mut side = path.as_os_str().to_owned();
        side.push(suffix);
        remove_if_there(fs::remove_file(&side)).context("remove", Path::new(&side))?;
    }
    Ok(aside)
}

fn remove_if_there(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn private_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .context("open", path)
}
