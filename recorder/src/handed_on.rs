//! Signals that the front hands on to the command, and how the tracer knows them.
//!
//! The front takes each with who sent it and sends it on as sigqueue(3) would, in that sender's name and with a mark
//! (rt_sigqueueinfo(2)). The tracer, at the stop before its delivery, makes it again what it was: the command sees the
//! signal as its sender sent it. Signals that are waited for (sigwaitinfo(2), signalfd(2)) stop nowhere, and keep both.
//!
//! With BPF programs nobody can change a signal. There the front asks whether the command was sent the same (`ebpf/signals.rs`),
//! and hands it on where it was not: what kill(2) sent in its own name, all else in the sender's.

use std::collections::VecDeque;
use std::os::raw::c_int;
use std::time::{Duration, Instant};

/// In the upper half of `si_errno`, which says nothing otherwise; the lower half has the code.
const MARK: c_int = 0x4167_0000;
const CODE: c_int = 0xffff;

/// The kernel's `siginfo_t`, 64-bit, as signals that processes send fill it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct SignalInfo {
    pub(crate) signal: c_int,
    errno: c_int,
    /// How it was sent: SI_USER by kill(2), SI_QUEUE by sigqueue(3), SI_KERNEL by the kernel, ….
    pub(crate) code: c_int,
    padding: c_int,
    /// The sender.
    pub(crate) pid: u32,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

impl SignalInfo {
    /// A signal that `pid` sent, with what it sent along.
    pub(crate) fn new(signal: c_int, code: c_int, pid: u32, uid: u32, value: u64) -> Self {
        Self { signal, errno: 0, code, padding: 0, pid, uid, value, rest: [0; 12] }
    }

    /// Nothing yet: for the kernel to fill in.
    pub(crate) fn empty() -> Self {
        Self::new(0, 0, 0, 0, 0)
    }

    /// In a form in which it may be sent to others, who may not use the codes of the kernel and of kill(2). None where what
    /// the kernel says of such a signal is more than a sender and a value.
    pub(crate) fn marked(self) -> Option<Self> {
        match self.code {
            libc::SI_QUEUE => Some(self),
            libc::SI_USER | libc::SI_TKILL | libc::SI_MESGQ | libc::SI_KERNEL => {
                Some(Self { errno: MARK | self.code & CODE, code: libc::SI_QUEUE, ..self })
            }
            _ => None,
        }
    }

    /// As it was sent first, where it bears the mark.
    pub(crate) fn unmarked(self) -> Option<Self> {
        let code = c_int::from(self.errno as i16);
        (self.errno & !CODE == MARK).then_some(Self { errno: 0, code, ..self })
    }
}

/// How long the front may take to hand on what reached the command itself. Not longer than need be: where both were one
/// (a signal that waits is not queued again, signal(7)) nothing comes, and the next one must not be taken for it.
const PATIENCE: Duration = Duration::from_millis(200);

/// More than this many at once are not told apart.
const MOST: usize = 64;

/// What processes sent to the command itself, of late: signal and sender.
#[derive(Debug, Default)]
pub(crate) struct Direct(VecDeque<(c_int, u32, Instant)>);

impl Direct {
    pub(crate) fn note(&mut self, signal: c_int, sender: u32) {
        self.0.truncate(MOST - 1);
        self.0.push_front((signal, sender, Instant::now()));
    }

    /// Whether the command has it already; only once for each.
    pub(crate) fn take(&mut self, signal: c_int, sender: u32) -> bool {
        self.0.retain(|(.., at)| at.elapsed() < PATIENCE);
        let known = self.0.len();
        self.0.retain(|sent| (sent.0, sent.1) != (signal, sender));
        self.0.len() < known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_goes_as_it_came() {
        assert_eq!(size_of::<SignalInfo>(), size_of::<libc::siginfo_t>());
        let info = |code| SignalInfo::new(10, code, 7, 1000, 42);
        for code in [libc::SI_USER, libc::SI_TKILL, libc::SI_MESGQ, libc::SI_KERNEL] {
            let marked = info(code).marked().expect("it can be handed on");
            assert_eq!(marked.code, libc::SI_QUEUE);
            assert_eq!((marked.unmarked(), info(code).unmarked()), (Some(info(code)), None));
        }
        let queued = info(libc::SI_QUEUE);
        assert_eq!((queued.marked(), queued.unmarked()), (Some(queued), None));
        assert_eq!(SignalInfo::new(29, libc::SI_SIGIO, 0, 0, 0).marked(), None);
    }
}
