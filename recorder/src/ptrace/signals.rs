//! Signals on their way to tracees, above all to the command.
//!
//! A signal to the whole process group reaches the command twice: itself, and handed on by the front, which can't know
//! that. Here both are seen, so the second one is held back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use libc::c_int;

use super::Tracer;
use super::restart;
use super::tracee::{Stopped, Vanished};
use crate::handed_on::SignalInfo;
use crate::observation::Call;
use crate::source::Report;

/// How long the front may take to hand on what reached the command itself. Not longer than need be: where both were one
/// (a signal that waits is not queued again, signal(7)) nothing comes, and the next one must not be taken for it.
const PATIENCE: Duration = Duration::from_millis(200);

/// More than this many at once are not told apart.
const MOST: usize = 64;

/// What processes sent to the command itself, of late.
#[derive(Debug, Default)]
pub(super) struct Direct(VecDeque<(c_int, u32, Instant)>);

impl Direct {
    fn note(&mut self, info: &SignalInfo) {
        self.0.truncate(MOST - 1);
        self.0.push_front((info.signal, info.pid, Instant::now()));
    }

    /// Whether the command has it already; only once for each.
    fn take(&mut self, info: &SignalInfo) -> bool {
        self.0.retain(|(.., at)| at.elapsed() < PATIENCE);
        let known = self.0.len();
        self.0.retain(|(signal, pid, _)| (*signal, *pid) != (info.signal, info.pid));
        self.0.len() < known
    }
}

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// The signal to deliver in place of `signal`: 0 for none.
    pub(super) fn delivered(
        &mut self,
        stopped: &Stopped,
        signal: c_int,
    ) -> Result<c_int, Vanished> {
        let tid = stopped.tid();
        if signal == libc::SIGWINCH && !self.silent {
            self.observe(tid, Call::Resize { fd: None }, Ok(0));
        }
        let command = self.threads.get(tid).is_some_and(|thread| thread.process == self.root);
        // The front hands on no SIGCHLD, and a shell gets very many.
        if !command || signal == libc::SIGCHLD {
            return Ok(signal);
        }
        let info = stopped.signal_info()?;
        match info.unmarked() {
            Some(sent) if sent.code == libc::SI_USER && self.direct.take(&sent) => {
                restart::interrupted(stopped)?;
                return Ok(0);
            }
            Some(sent) => stopped.set_signal_info(&sent)?,
            // kill(2) alone sends to groups.
            None if info.code == libc::SI_USER => self.direct.note(&info),
            None => {}
        }
        Ok(signal)
    }
}
