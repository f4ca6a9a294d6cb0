//! Which programs use which TLS libraries, remembered from one recording to the next: to probe a library takes a while,
//! in which what goes through it is missing, and the programs that will use it can be told from before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FileId;

/// How many are remembered; the oldest go first.
const MOST: usize = 512;

/// A program, and an object with functions of a TLS library that it mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Use {
    program: FileId,
    object: FileId,
    /// As the process saw it.
    path: String,
}

/// What is known of programs. By default nothing, and nothing is kept.
#[derive(Debug, Default)]
pub struct Users {
    file: Option<PathBuf>,
    /// The newest last.
    uses: Vec<Use>,
    changed: bool,
}

impl Users {
    /// What earlier recordings left in a directory for caches; nothing where there is none, or a damaged one.
    pub fn load(cache: &Path) -> Self {
        let file = cache.join("tls-users.json");
        let read = fs::read(&file).ok();
        let uses = read.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        Self { file: Some(file), uses, changed: false }
    }

    /// Whether there is nothing to be found.
    pub fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// The objects that a program mapped before, with their paths.
    pub fn of(&self, program: FileId) -> Vec<(FileId, PathBuf)> {
        let its = self.uses.iter().filter(|used| used.program == program);
        its.map(|used| (used.object, PathBuf::from(&used.path))).collect()
    }

    /// A program mapped an object.
    pub fn learn(&mut self, program: FileId, object: FileId, path: &Path) {
        // One of another name costs what it did: its first milliseconds.
        let Some(path) = path.to_str() else { return };
        let path = path.to_owned();
        let used = Use { program, object, path };
        if self.file.is_none() || self.uses.contains(&used) {
            return;
        }
        // What became of the file at that path.
        self.uses.retain(|other| other.program != program || other.path != used.path);
        self.uses.push(used);
        let surplus = self.uses.len().saturating_sub(MOST);
        self.uses.drain(..surplus);
        self.changed = true;
    }

    /// Keeps what was learned. Several recorders may do so: the last one wins, and what it forgot is learned again.
    ///
    /// # Errors
    /// Where it can't be written; what was there before stays.
    pub fn save(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return Ok(()) };
        let json = serde_json::to_vec(&self.uses).map_err(io::Error::other)?;
        let temp = file.with_extension(format!("{}.tmp", std::process::id()));
        let mut options = OpenOptions::new();
        let written = options.write(true).create(true).truncate(true).mode(0o600).open(&temp);
        let written = written.and_then(|mut to: File| to.write_all(&json));
        let kept = written.and_then(|()| fs::rename(&temp, file));
        if kept.is_err() {
            let _ = fs::remove_file(&temp);
        }
        self.changed = false;
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(dir: &Path, names: [&str; 2]) -> [FileId; 2] {
        names.map(|name| {
            fs::write(dir.join(name), name).unwrap();
            FileId::from(&fs::metadata(dir.join(name)).unwrap())
        })
    }

    #[test]
    fn what_one_recording_learned_the_next_one_knows() {
        let dir = tempfile::tempdir().unwrap();
        let [program, object] = ids(dir.path(), ["program", "object"]);
        let mut users = Users::load(dir.path());
        assert!(users.is_empty());
        users.learn(program, object, Path::new("/lib/object"));
        users.save().unwrap();
        let next = Users::load(dir.path());
        assert_eq!(next.of(program), [(object, PathBuf::from("/lib/object"))]);
        assert!(next.of(object).is_empty());
    }

    #[test]
    fn a_file_that_took_the_place_of_another_takes_it_here_too() {
        let dir = tempfile::tempdir().unwrap();
        let [program, object] = ids(dir.path(), ["program", "object"]);
        let mut users = Users::load(dir.path());
        users.learn(program, program, Path::new("/lib/object"));
        users.learn(program, object, Path::new("/lib/object"));
        assert_eq!(users.of(program), [(object, PathBuf::from("/lib/object"))]);
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let [program, object] = ids(dir.path(), ["program", "object"]);
        let mut users = Users::load(dir.path());
        for number in 0..=MOST {
            users.learn(program, object, Path::new(&format!("/lib/{number}")));
        }
        let its = users.of(program);
        assert_eq!((its.len(), its[0].1.as_path()), (MOST, Path::new("/lib/1")));
    }

    #[test]
    fn a_damaged_file_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in ["", "{}", "[{\"program\":1}]", "\u{fffd}"] {
            fs::write(dir.path().join("tls-users.json"), damaged).unwrap();
            assert!(Users::load(dir.path()).is_empty());
        }
    }
}
