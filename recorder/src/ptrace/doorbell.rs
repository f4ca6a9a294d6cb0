//! How other threads interrupt the tracer's waitpid(2): a child that does nothing, is a tracee too, and is sent a signal.
//!
//! A signal to the tracer itself could arrive just before it goes to sleep and be lost. The stop of a tracee can't be.

use std::io;

use super::tracee::{self, Follow};
use crate::observation::Tid;

/// The child. It ends with the tracer (PTRACE_O_EXITKILL).
#[derive(Debug)]
pub(super) struct Doorbell {
    tid: Tid,
}

impl Doorbell {
    /// Starts the child; the calling thread becomes its tracer.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the child calls only what signal-safety(7) allows after a fork in a program with threads.
        let tid = unsafe { libc::fork() };
        match tid {
            -1 => Err(io::Error::last_os_error()),
            0 => idle(),
            _ => {
                let bell = Self { tid };
                // Dropped, and with it the child ended, when that fails.
                tracee::seize(tid, Follow::Started)?;
                Ok(bell)
            }
        }
    }

    pub(super) fn tid(&self) -> Tid {
        self.tid
    }

    /// For a child that has ended and was waited for: its id may be another's by now.
    pub(super) fn forget(self) {
        std::mem::forget(self);
    }

    /// What rings it. From any thread, as often as one likes; the child must not have been waited for.
    pub(super) fn ring(tid: Tid) {
        // SAFETY: kill(2) has no memory effects.
        unsafe { libc::kill(tid, libc::SIGURG) };
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        // SAFETY: neither call has memory effects; the status is not asked for. A SIGKILLed tracee may still show
        // its exit stop, which the second wait is there for.
        unsafe {
            libc::kill(self.tid, libc::SIGKILL);
            let mut status = 0;
            while libc::waitpid(self.tid, &mut status, libc::__WALL) == self.tid
                && libc::WIFSTOPPED(status)
            {
                libc::ptrace(libc::PTRACE_CONT, self.tid, 0, 0);
            }
        }
    }
}

fn idle() -> ! {
    // SAFETY: plain system calls; no memory of the parent's is relied on. The descriptors are closed so that none of the
    // recorder's (its lock on the trace, its pipes) lives on in here, and the directory is left so that no file system is
    // kept busy; the signals are let in since they are the point.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        libc::chdir(c"/".as_ptr());
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        loop {
            libc::pause();
        }
    }
}
