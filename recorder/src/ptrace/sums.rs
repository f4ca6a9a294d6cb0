//! How much a read(2) or write(2) moved, without its exit stop: the kernel counts for each thread what it reads and
//! writes (proc_pid_io(5), `rchar` and `wchar`), and to ask it at the thread's next stop takes a fraction of a stop.
//!
//! The counters say how much, not what and not why not; so this is for calls of which nothing else matters. They are
//! there where the kernel is made with them (CONFIG_TASK_IO_ACCOUNTING) and shows them to us.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;

use super::tracee::Ends;
use crate::observation::{Direction, Tid};

/// Files that are kept open at a time.
const MAX_FILES: usize = 128;

/// The counters of all threads.
#[derive(Debug, Default)]
pub(super) struct Sums {
    files: HashMap<Tid, File>,
    /// What was read last, and of whom: good for as long as that one stands still.
    seen: Option<(Tid, Counters)>,
    /// The kernel has none.
    absent: bool,
    /// Calls whose exit is not waited for, and which nobody has asked about.
    moving: usize,
}

/// What a thread has moved so far, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counters {
    read: u64,
    written: u64,
}

/// A call whose exit is not waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moving {
    pub(super) fd: RawFd,
    pub(super) direction: Direction,
    before: u64,
}

impl Sums {
    /// A thread goes into a call; None where its exit has to be waited for.
    pub(super) fn begin(&mut self, tid: Tid, fd: RawFd, direction: Direction) -> Option<Moving> {
        let counters = match self.seen.take() {
            Some((seen, counters)) if seen == tid => counters,
            _ => self.counters(tid)?,
        };
        self.moving += 1;
        Some(Moving { fd, direction, before: counters.of(direction) })
    }

    /// The thread stands at its next stop, or has ended: how much the call moved.
    pub(super) fn end(&mut self, tid: Tid, moving: Moving) -> Option<u64> {
        self.moving -= 1;
        let counters = self.counters(tid)?;
        self.seen = Some((tid, counters));
        counters.of(moving.direction).checked_sub(moving.before)
    }

    /// Who ends with such a call unasked has to be held.
    pub(super) fn ends(&self) -> Ends {
        if self.moving > 0 { Ends::Held } else { Ends::Taken }
    }

    /// Another stop: whoever was looked at last has moved since.
    pub(super) fn stopped(&mut self) {
        self.seen = None;
    }

    /// The thread is gone.
    pub(super) fn forget(&mut self, tid: Tid) {
        self.files.remove(&tid);
    }

    fn counters(&mut self, tid: Tid) -> Option<Counters> {
        if self.absent {
            return None;
        }
        if !self.files.contains_key(&tid) {
            if self.files.len() == MAX_FILES {
                self.files.clear();
            }
            match File::open(format!("/proc/{tid}/task/{tid}/io")) {
                Ok(file) => self.files.insert(tid, file),
                Err(error) => {
                    // Not there, though the thread is (its directory would be missing otherwise).
                    self.absent = error.kind() == io::ErrorKind::NotFound
                        && File::open(format!("/proc/{tid}/task/{tid}/stat")).is_ok();
                    return None;
                }
            };
        }
        let mut text = [0; 128];
        // Refused for some (prctl(2), PR_SET_DUMPABLE), and the thread may be gone.
        let len = self.files.get(&tid)?.read_at(&mut text, 0).ok()?;
        Counters::parse(text.get(..len)?)
    }
}

impl Counters {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = text.split(|&byte| byte == b'\n');
        let mut number = |name: &[u8]| {
            let digits = lines.next()?.strip_prefix(name)?;
            str::from_utf8(digits).ok()?.trim_start().parse().ok()
        };
        Some(Self { read: number(b"rchar:")?, written: number(b"wchar:")? })
    }

    fn of(self, direction: Direction) -> u64 {
        match direction {
            Direction::Read => self.read,
            Direction::Write => self.written,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn counts_what_a_thread_moves() {
        // SAFETY: gives a number.
        let tid = unsafe { libc::gettid() };
        let mut sums = Sums::default();
        let mut file = tempfile::tempfile().unwrap();
        let moving = sums.begin(tid, 5, Direction::Write).unwrap();
        file.write_all(b"five!").unwrap();
        assert_eq!(sums.end(tid, moving), Some(5));
        sums.stopped();
        let mut file = File::open("/proc/self/stat").unwrap();
        let mut bytes = [0; 3];
        let moving = sums.begin(tid, 5, Direction::Read).unwrap();
        file.read_exact(&mut bytes).unwrap();
        // To look is to read, too, where one looks at oneself.
        assert!(sums.end(tid, moving).unwrap() >= 3);
    }

    #[test]
    fn reads_the_first_two_lines_and_nothing_else() {
        let parse = |text: &str| Counters::parse(text.as_bytes());
        let some = Some(Counters { read: 12, written: 3 });
        assert_eq!(parse("rchar: 12\nwchar: 3\nsyscr: 1\n"), some);
        assert_eq!(parse("rchar: 12\n"), None);
        assert_eq!(parse("rchar: x\nwchar: 3\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn says_nothing_of_a_thread_that_is_gone() {
        let mut sums = Sums::default();
        assert!(sums.begin(i32::MAX, 5, Direction::Read).is_none());
        assert!(!sums.absent);
    }
}
