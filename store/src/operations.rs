//! The log of what undo, redo, restores in place and apply did: each operation with the state of every path before and after, written down before
//! anything is changed.
//!
//! An operation is a file of its own, `7.op`, which is complete or not there at all. Once it was carried out `7.done` stands
//! beside it; an operation without one was interrupted, and what it wanted can be finished or taken back. The contents that
//! entries name are objects of the store.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentrec_trace::ObjectId;
use serde::{Deserialize, Serialize};

use crate::Home;
use crate::error::{Context, Error, Result};
use crate::home::create_private_dir;
use crate::tree::{Entry, Kind, Meta};

/// What an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// It took back what a session did, or what a redo did.
    #[default]
    Undo,
    /// It took back an undo.
    Redo,
    /// It turned directories back into what a snapshot says.
    Restore,
    /// It brought the changes of a resumed session's copy home.
    Apply,
}

impl OperationKind {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undo => "undo",
            Self::Redo => "redo",
            Self::Restore => "restore",
            Self::Apply => "apply",
        }
    }
}

/// What a path is to an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It is changed.
    #[default]
    Changed,
    /// It stays: another name of a file that is changed, to which that one is linked.
    Anchor,
    /// A directory in which something is changed, which moves its time.
    Parent,
}

/// What becomes of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The directory from which the path is followed, never through a link.
    #[serde(with = "bytes_of_path")]
    pub root: PathBuf,
    /// The path below it; empty for the directory itself.
    #[serde(with = "bytes_of_path")]
    pub path: PathBuf,
    /// What it is to the operation.
    pub role: Role,
    /// What was there; none where there was nothing. A directory has its own attributes and no content.
    pub before: Option<Entry>,
    /// What is to be there.
    pub after: Option<Entry>,
}

impl Step {
    /// The absolute path.
    pub fn full_path(&self) -> PathBuf {
        if self.path.as_os_str().is_empty() {
            self.root.clone()
        } else {
            self.root.join(&self.path)
        }
    }

    /// Whether something other than the time of a directory is changed.
    pub fn is_change(&self) -> bool {
        self.role == Role::Changed && !self.is_time_of_directory()
    }

    /// Whether it only moves the time of a directory.
    pub fn is_time_of_directory(&self) -> bool {
        let (Some(before), Some(after)) = (&self.before, &self.after) else { return false };
        let same = before.meta == Meta { mtime: before.meta.mtime, ..after.meta.clone() };
        before.kind == Kind::Dir && after.kind == Kind::Dir && same
    }
}

/// An operation as it was planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operation {
    /// What it is.
    pub kind: OperationKind,
    /// The session that it is about.
    pub session: String,
    /// What of it: `t5`, `p7`, `s2`; empty for all.
    pub place: String,
    /// The session's working directory.
    #[serde(with = "bytes_of_path")]
    pub directory: PathBuf,
    /// When it began, nanoseconds since 1970.
    pub time: i64,
    /// The process that carried it out: what it wrote beside its place bears that number.
    pub pid: u32,
    /// The operation that this one takes back.
    pub reverses: Option<u64>,
    /// The states come from this machine's own store, so they may grant rights.
    pub trusted: bool,
    /// The paths, in path order.
    pub steps: Vec<Step>,
}

impl Operation {
    /// The contents that it needs: whoever clears the store keeps them.
    pub fn objects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.steps
            .iter()
            .flat_map(|step| [&step.before, &step.after])
            .flatten()
            .filter_map(|entry| entry.id)
    }
}

/// What came of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// When it ended, nanoseconds since 1970.
    pub time: i64,
    /// Paths that it could not change.
    pub left: Vec<PathBytes>,
    /// Modification times that it left in the directories where something was changed, nanoseconds since 1970.
    pub parents: Vec<(PathBytes, i64)>,
}

/// A path as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathBytes(#[serde(with = "bytes_of_path")] pub PathBuf);

/// An operation of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its number: later ones have higher ones.
    pub id: u64,
    /// What was planned.
    pub operation: Operation,
    /// What came of it; none where it was interrupted.
    pub outcome: Option<Outcome>,
}

/// The log of one user. While the value lives no other process begins an operation.
#[derive(Debug)]
pub struct Operations {
    dir: PathBuf,
    /// Holds the lock (flock(2)); the kernel releases it when the process dies.
    _lock: File,
}

impl Operations {
    /// Opens the log of `home` to add to it.
    ///
    /// # Errors
    /// [`Error::OperationRunning`] where another process carries one out.
    pub fn open(home: &Home) -> Result<Self> {
        let dir = home.operations();
        create_private_dir(&dir)?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .context("create", &path)?;
        match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) => return Err(Error::OperationRunning),
            Err(fs::TryLockError::Error(error)) => return Err(error).context("lock", &path),
            Ok(()) => {}
        }
        Ok(Self { dir, _lock: lock })
    }

    /// All operations, the oldest first; and the files that can't be read.
    pub fn list(home: &Home) -> Result<(Vec<Logged>, Vec<PathBuf>)> {
        let dir = home.operations();
        let (mut logged, mut damaged) = (Vec::new(), Vec::new());
        for id in ids(&dir)? {
            let path = dir.join(format!("{id}.op"));
            let Some(operation) = read(&path)? else {
                damaged.push(path);
                continue;
            };
            let done = dir.join(format!("{id}.done"));
            let outcome = if done.try_exists().context("look for", &done)? {
                // What it said is not needed to know that it ended.
                Some(read(&done)?.unwrap_or_default())
            } else {
                None
            };
            logged.push(Logged { id, operation, outcome });
        }
        Ok((logged, damaged))
    }

    /// The contents that the operations of `home` need, for whoever clears its store; an operation that can't be read is an error,
    /// since nobody knows what it needs.
    pub fn objects(home: &Home) -> Result<HashSet<ObjectId>> {
        let (logged, damaged) = Self::list(home)?;
        if let Some(path) = damaged.into_iter().next() {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidData);
            return Err(Error::Io { action: "read", path, source });
        }
        Ok(logged.iter().flat_map(|logged| logged.operation.objects()).collect())
    }

    /// Writes down what is going to be done; returns its number once that is on the disk.
    pub fn begin(&self, operation: &Operation) -> Result<u64> {
        let id = ids(&self.dir)?.last().copied().unwrap_or(0) + 1;
        // Of one that had the number and was removed only in part.
        remove(&self.dir.join(format!("{id}.done")))?;
        self.write(&format!("{id}.op"), &encode(operation), true)?;
        Ok(id)
    }

    /// Writes down what came of it. Where the machine stops before that is on the disk, it counts as interrupted.
    pub fn end(&self, id: u64, outcome: &Outcome) -> Result<()> {
        self.write(&format!("{id}.done"), &encode(outcome), false)
    }

    /// Forgets an operation: it can't be taken back any more, and what it alone needs goes with the next collection.
    pub fn remove(&self, id: u64) -> Result<()> {
        remove(&self.dir.join(format!("{id}.op")))?;
        remove(&self.dir.join(format!("{id}.done")))
    }

    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> Result<()> {
        let (path, temp) = (self.dir.join(name), self.dir.join(format!("{name}.tmp")));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temp)
            .context("create", &temp)?;
        file.write_all(bytes).context("write", &temp)?;
        if durable {
            file.sync_data().context("sync", &temp)?;
        }
        fs::rename(&temp, &path).context("rename to", &path)?;
        if durable {
            File::open(&self.dir).and_then(|dir| dir.sync_all()).context("sync", &self.dir)?;
        }
        Ok(())
    }
}

/// Removes a file that may be gone.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.context("remove", path),
    }
}

/// The numbers of all operations, in order.
fn ids(dir: &Path) -> Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("list", dir)?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.context("list", dir)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".op"));
        ids.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("it has no value that MessagePack lacks")
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let bytes = fs::read(path).context("read", path)?;
    Ok(rmp_serde::from_slice(&bytes).ok())
}

/// A path as a string of bytes.
mod bytes_of_path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(path.as_os_str().as_bytes())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(deserializer)?;
        Ok(OsString::from_vec(bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_ended_counts_as_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let log = Operations::open(&home).unwrap();
        let step =
            Step { path: "a\u{e9}".into(), after: Some(Entry::default()), ..Step::default() };
        let operation =
            Operation { session: "s".into(), steps: vec![step], ..Operation::default() };
        let (first, second) = (log.begin(&operation).unwrap(), log.begin(&operation).unwrap());
        log.end(first, &Outcome { time: 7, ..Outcome::default() }).unwrap();
        fs::write(home.operations().join("9.op"), "torn").unwrap();
        let (logged, damaged) = Operations::list(&home).unwrap();
        let seen: Vec<_> =
            logged.iter().map(|l| (l.id, l.outcome.as_ref().map(|o| o.time))).collect();
        assert_eq!(seen, [(first, Some(7)), (second, None)]);
        assert_eq!(logged[0].operation, operation);
        assert_eq!(damaged.len(), 1);
        assert_eq!(log.begin(&operation).unwrap(), 10, "a damaged one is not written over");
    }

    #[test]
    fn what_was_removed_is_not_there_and_its_end_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let log = Operations::open(&home).unwrap();
        let id = log.begin(&Operation::default()).unwrap();
        log.end(id, &Outcome::default()).unwrap();
        log.remove(id).unwrap();
        assert_eq!(Operations::list(&home).unwrap().0, []);
        // It was killed before it removed the second file.
        log.end(id, &Outcome::default()).unwrap();
        assert_eq!(log.begin(&Operation::default()).unwrap(), id);
        assert_eq!(Operations::list(&home).unwrap().0[0].outcome, None);
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let log = Operations::open(&home).unwrap();
        assert!(matches!(Operations::open(&home), Err(Error::OperationRunning)));
        drop(log);
        Operations::open(&home).unwrap();
    }
}
