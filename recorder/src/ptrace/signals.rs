//! Signals on their way to tracees, above all to the command.
//!
//! A signal to the whole process group reaches the command twice: itself, and handed on by the front, which can't know
//! that. Here both are seen, so the second one is held back.

use libc::c_int;

use super::Tracer;
use super::restart;
use super::tracee::{Stopped, Vanished};
use crate::observation::Call;
use crate::source::Report;

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
            Some(sent) if sent.code == libc::SI_USER && self.direct.take(sent.signal, sent.pid) => {
                restart::interrupted(stopped)?;
                return Ok(0);
            }
            Some(sent) => stopped.set_signal_info(&sent)?,
            // kill(2) alone sends to groups.
            None if info.code == libc::SI_USER => self.direct.note(info.signal, info.pid),
            None => {}
        }
        Ok(signal)
    }
}
