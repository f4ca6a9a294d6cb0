//! Whose turn it is: everybody who has stopped gets one, before anybody gets another.
//!
//! waitpid(2) tells of the youngest tracee first (the kernel's list of them begins with it: kernel/ptrace.c, __ptrace_link;
//! kernel/exit.c, ptrace_do_wait). A few young ones that stop all the time would keep an old one, such as their parent,
//! waiting for ever. So now and then all that have stopped are taken at once; again and again while they are several.

use std::collections::VecDeque;
use std::io;

use super::tracee::{self, Ends, Waited};

/// Stops after which it is looked whether others wait.
const OFTEN: u32 = 16;

/// Stops that were taken and have not had their turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: VecDeque<Waited>,
    /// Stops since somebody looked.
    unseen: u32,
}

impl Turns {
    /// The next stop or end among the calling thread's tracees.
    pub(super) fn next(&mut self, block: bool, ends: Ends) -> io::Result<Waited> {
        if let Some(waited) = self.taken(ends)? {
            return Ok(waited);
        }
        if self.unseen >= OFTEN {
            self.take(ends)?;
            if let Some(waited) = self.taken(ends)? {
                return Ok(waited);
            }
        }
        self.unseen += 1;
        tracee::wait(block, ends)
    }

    /// Takes everybody who has stopped; how many wait now.
    pub(super) fn take(&mut self, ends: Ends) -> io::Result<usize> {
        // Who has ended, and was not dealt with, would be found again.
        while !matches!(self.taken.front(), Some(Waited::Ended(_))) {
            match tracee::wait(false, ends)? {
                Waited::Quiet | Waited::Nothing => {
                    self.unseen = if self.taken.len() < 2 { 0 } else { OFTEN };
                    break;
                }
                ended @ Waited::Ended(_) => self.taken.push_front(ended),
                stopped => self.taken.push_back(stopped),
            }
        }
        Ok(self.taken.len())
    }

    /// The first of those that were taken. What was killed, or ended by an exec of another thread, while it waited, has left
    /// that stop behind: then its newer one, or its end, counts.
    fn taken(&mut self, ends: Ends) -> io::Result<Option<Waited>> {
        while let Some(waited) = self.taken.pop_front() {
            let Waited::Stopped(stopped, _) = &waited else { return Ok(Some(waited)) };
            match tracee::wait_for(stopped.tid(), ends)? {
                Waited::Quiet => return Ok(Some(waited)),
                Waited::Nothing => {}
                newer => return Ok(Some(newer)),
            }
        }
        Ok(None)
    }
}
