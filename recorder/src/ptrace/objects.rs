//! Objects that tracees open to map and execute: where they hold functions of TLS libraries, these get breakpoints.

use std::os::fd::RawFd;

use nix::unistd::geteuid;

use super::Tracer;
use super::breakpoints::Incomplete;
use super::tracee::Stopped;
use crate::observation::{At, Call, Loss, Tid};
use crate::source::Report;

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// A call is over: it may have opened an object.
    pub(super) fn opened(&mut self, tid: Tid, call: Call<'_>, result: Result<u64, i32>) {
        let (Call::Open { at: At::Path { path, .. }, flags, .. }, Ok(fd)) = (call, result) else {
            return;
        };
        let reads = flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32;
        // A tracee that serves the object's file system may be waiting for us.
        if !reads || !self.breakpoints.may_want(path) || self.kernel.serves_files {
            return;
        }
        self.breakpoints.opened(tid, fd as RawFd);
    }

    /// A thread closes a descriptor, from which it may have mapped an object before.
    pub(super) fn closes(&mut self, stopped: &Stopped, fd: RawFd) {
        let tid = stopped.tid();
        let Some(process) = self.threads.get(tid).map(|thread| thread.process) else { return };
        if self.breakpoints.closing(stopped, process, fd) == Err(Incomplete) {
            self.lost(tid, Loss::Plaintext);
        }
    }
    /// A process is about to close its memory: without privileges, nobody could be led past a breakpoint from then on.
    pub(super) fn hides(&mut self, stopped: &Stopped) {
        let tid = stopped.tid();
        let Some(process) = self.threads.get(tid).map(|thread| thread.process) else { return };
        if !geteuid().is_root() && self.breakpoints.take_out(stopped, process) {
            self.lost(tid, Loss::Plaintext);
        }
    }
}
