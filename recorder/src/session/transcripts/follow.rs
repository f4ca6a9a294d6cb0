//! A transcript that is being written: what was appended since, in whole lines.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// A file and how far it was read.
#[derive(Debug)]
pub(super) struct Followed {
    file: File,
    id: (u64, u64),
    offset: u64,
    /// A line that has no end yet.
    rest: Vec<u8>,
    /// The present line is not taken: it is too long, or began before we did.
    skips: bool,
    /// Lines that were too long.
    pub(super) too_long: u64,
    /// It is shorter than what was read of it.
    pub(super) was_cut: bool,
}

/// Longer lines are left out.
const MAX_LINE: usize = 16 << 20;

/// Of a file that was there before, so much of the end is read. What the recording is about is at its end: an agent wrote it
/// between its open(2) and our look.
const MAX_BEFORE: u64 = 8 << 20;

/// What is read at once.
const PIECE: usize = 64 << 10;

impl Followed {
    /// Opens the file `below` the directory `dir`, to read all of it or, where it is `old`, its end. The user may have put a
    /// link to that directory, but no link leads out of it.
    ///
    /// # Errors
    /// Where it can't be opened, or is no regular file.
    pub(super) fn open(dir: &Path, below: &Path, old: bool) -> io::Result<Self> {
        let dir = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(dir)?;
        let how = OpenHow::new()
            // A pipe would keep us waiting for who writes to it.
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let file = File::from(openat2(dir.as_fd(), below, how)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let offset = if old { metadata.len().saturating_sub(MAX_BEFORE) } else { 0 };
        Ok(Self {
            file,
            id: id(&metadata),
            offset,
            rest: Vec::new(),
            skips: offset > 0,
            too_long: 0,
            was_cut: false,
        })
    }

    /// Whether both are the same file.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// Gives the whole lines that were appended, from `limit` bytes at most. Whether there was anything.
    pub(super) fn read(&mut self, limit: usize, mut line: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut piece = vec![0; PIECE];
        let mut read = 0;
        while read < limit {
            let count = match self.file.read_at(&mut piece, self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if count == 0 {
                if read == 0 && self.file.metadata()?.len() < self.offset {
                    self.was_cut = true;
                    self.offset = 0;
                    self.rest.clear();
                    continue;
                }
                break;
            }
            self.offset += count as u64;
            read += count;
            self.take(&piece[..count], &mut line);
        }
        Ok(read > 0)
    }

    fn take(&mut self, mut piece: &[u8], line: &mut impl FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (last, next) = piece.split_at(end);
            if self.skips {
                self.skips = false;
            } else if self.rest.len() + last.len() > MAX_LINE {
                self.too_long += 1;
            } else if self.rest.is_empty() {
                line(last);
            } else {
                self.rest.extend_from_slice(last);
                line(&self.rest);
            }
            self.rest.clear();
            piece = &next[1..];
        }
        if self.skips {
            return;
        }
        if self.rest.len() + piece.len() > MAX_LINE {
            self.too_long += 1;
            self.skips = true;
            self.rest = Vec::new();
            return;
        }
        self.rest.extend_from_slice(piece);
    }

    /// A last line without an end.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn lines(followed: &mut Followed, limit: usize) -> Vec<String> {
        let mut lines = Vec::new();
        followed
            .read(limit, |line| lines.push(String::from_utf8_lossy(line).into_owned()))
            .unwrap();
        lines
    }

    #[test]
    fn lines_are_given_once_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/t.jsonl");
        fs::create_dir(dir.path().join("a")).unwrap();
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        let mut followed = Followed::open(dir.path(), Path::new("a/t.jsonl"), false).unwrap();
        assert_eq!(lines(&mut followed, 100), ["one"]);
        assert_eq!(lines(&mut followed, 100), [""; 0]);
        file.write_all(b"o\n\nthree\nfour").unwrap();
        assert_eq!(lines(&mut followed, 100), ["two", "", "three"]);
        assert_eq!(followed.take_rest(), b"four");
        // Whoever writes a file anew begins anew.
        fs::write(&path, "x\n").unwrap();
        assert_eq!(lines(&mut followed, 100), ["x"]);
        assert!(followed.was_cut);
    }

    #[test]
    fn a_line_that_is_too_long_costs_that_line_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.jsonl");
        fs::write(&path, b"a\n").unwrap();
        let mut followed = Followed::open(dir.path(), Path::new("t.jsonl"), true).unwrap();
        let long = vec![b'x'; MAX_LINE + 5];
        fs::write(&path, [b"a\n", &long[..], b"\nb\n"].concat()).unwrap();
        let mut found = Vec::new();
        while followed.read(1 << 20, |line| found.push(line.to_vec())).unwrap() {}
        assert_eq!((found, followed.too_long), (vec![b"a".to_vec(), b"b".to_vec()], 1));
    }

    #[test]
    fn of_what_was_there_before_only_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let old = "x".repeat(999) + "\n";
        let path = dir.path().join("t.jsonl");
        fs::write(&path, old.repeat(9000) + "new\n").unwrap();
        let mut followed = Followed::open(dir.path(), Path::new("t.jsonl"), true).unwrap();
        let mut found = Vec::new();
        while followed.read(1 << 20, |line| found.push(line.to_vec())).unwrap() {}
        assert_eq!(found.last().unwrap(), b"new");
        assert!(found.len() < 8400 && found[0].len() == 999, "{}", found.len());
    }

    #[test]
    fn no_link_leads_out_and_a_pipe_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("place")).unwrap();
        fs::write(at("secret.jsonl"), "s\n").unwrap();
        std::os::unix::fs::symlink(at("secret.jsonl"), at("place/l.jsonl")).unwrap();
        std::os::unix::fs::symlink(dir.path(), at("place/d")).unwrap();
        nix::unistd::mkfifo(&at("place/p.jsonl"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        for name in ["l.jsonl", "d/secret.jsonl", "../secret.jsonl", "p.jsonl"] {
            assert!(Followed::open(&at("place"), Path::new(name), false).is_err(), "{name}");
        }
        // The place itself may be a link of the user's.
        std::os::unix::fs::symlink(dir.path(), at("other")).unwrap();
        assert!(Followed::open(&at("other"), Path::new("secret.jsonl"), false).is_ok());
    }
}
