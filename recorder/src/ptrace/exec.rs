//! A thread that runs another program now.

use super::breakpoints::Incomplete;
use super::tracee::{Stopped, Vanished};
use super::{Tracer, rights};
use crate::calls::shape::Shape;
use crate::observation::{At, Call, Loss, Tid};
use crate::proc;
use crate::source::Report;

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// The thread runs another program, and is the only one of its process.
    pub(super) fn executed(&mut self, stopped: Stopped) -> Result<(), Vanished> {
        let tid = stopped.tid();
        let former = stopped.event_message()? as Tid;
        let entry = self.threads.take_over(tid, former);
        self.breakpoints.thread_ended(former);
        let breakpoints = match self.kernel.serves_files {
            true => Ok(()),
            false => self.breakpoints.executed(&stopped, tid),
        };
        if self.silent {
            return self.resume(stopped, 0);
        }
        let exe = proc::program(tid);
        let at = entry.as_ref().and_then(|entry| match entry.row()?.0.shape {
            Shape::Exec { at, .. } => entry.at(at, 0).ok(),
            _ => None,
        });
        // An exec that was not decoded is known by what it led to.
        let at = at.unwrap_or(At::Path { dir: None, path: exe.as_deref().unwrap_or_default() });
        let argv = proc::arguments(tid);
        let env = proc::environment(tid);
        let unreadable = argv.is_err() || env.is_err();
        let (argv, env) = (argv.unwrap_or_default(), env.unwrap_or_default());
        let call = Call::Exec { former, at, argv: &argv, env: &env, exe: exe.as_deref() };
        self.observe(tid, call, Ok(0));
        if unreadable {
            self.lost(tid, Loss::Hidden);
        }
        if breakpoints == Err(Incomplete) {
            self.lost(tid, Loss::Plaintext);
        }
        if self.rights_lost && rights::would_be_more(tid) {
            self.lost(tid, Loss::Rights);
        }
        self.spare.extend(entry);
        self.resume(stopped, 0)
    }
}
