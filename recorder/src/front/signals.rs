//! The front's signals: all of them wait on a descriptor, with who sent them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::handed_on::SignalInfo;
use crate::source::ExitStatus;

/// All signals that can be waited for, blocked, until this is dropped.
pub(super) struct Signals {
    fd: SignalFd,
    original: SigSet,
    /// SIGCHLD as it was: where it is ignored, children vanish unwaited.
    child: SigAction,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info {
    pub(super) signal: i32,
    /// The terminal sent it to the job, which the command is part of, such as for Ctrl-C.
    pub(super) from_terminal: bool,
    /// The process that sent it.
    pub(super) sender: Pid,
    sent: SignalInfo,
}

/// What the kernel sends of which the command hears nothing: timers of this process, which survive its exec (alarm(2)).
const TIMERS: [i32; 3] = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];

/// What is left as it is: what can't be blocked, and what the processor raises.
const LEFT_ALONE: [i32; 9] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
];

fn ours() -> impl Iterator<Item = i32> {
    // glibc keeps the first real-time signals (32 and 33) for itself.
    (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).filter(|signal| !LEFT_ALONE.contains(signal))
}

impl Info {
    /// Whether a process sent it, which may have sent it to the whole group.
    pub(super) fn is_of_process(&self) -> bool {
        self.sent.code != libc::SI_KERNEL
    }
}

impl Signals {
    pub(super) fn block() -> Result<Self> {
        let failed = |errno: Errno| Error::io("set up signals", errno);
        // SAFETY: an all-zero sigset_t is storage for sigemptyset(3), which makes it valid; sigaddset(3) gets
        // numbers between 1 and SIGRTMAX.
        let set = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in ours() {
                libc::sigaddset(&raw mut set, signal);
            }
            SigSet::from_sigset_t_unchecked(set)
        };
        let original = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(failed)?;
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default disposition runs no code of ours.
        let child = unsafe { sigaction(Signal::SIGCHLD, &default) }.map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Self { fd, original, child })
    }

    /// The next signal that waits.
    pub(super) fn read(&self) -> Option<Info> {
        let info = self.fd.read_signal().ok().flatten()?;
        let signal = info.ssi_signo as i32;
        let sent = SignalInfo::new(signal, info.ssi_code, info.ssi_pid, info.ssi_uid, info.ssi_ptr);
        let from_terminal = info.ssi_code == libc::SI_KERNEL && !TIMERS.contains(&signal);
        let sender = Pid::from_raw(info.ssi_pid as i32);
        Some(Info { signal, from_terminal, sender, sent })
    }

    /// Stops this process by the signal that stopped the command, so that whoever waits for us is told the same. Gives
    /// who continued it.
    pub(super) fn stop_by(&self, signal: i32) -> Option<Pid> {
        let mut set = SigSet::empty();
        if let Ok(signal) = Signal::try_from(signal) {
            set.add(signal);
        }
        // SAFETY: the default disposition runs no code of ours, and the old one was in force before. SIGSTOP refuses
        // both, and needs neither.
        unsafe {
            let old = libc::signal(signal, libc::SIG_DFL);
            libc::kill(libc::getpid(), signal);
            set.thread_unblock().ok();
            // Stopped here.
            set.thread_block().ok();
            if old != libc::SIG_ERR {
                libc::signal(signal, old);
            }
        }
        self.take(Signal::SIGCONT)
    }

    /// Takes `signal` where it waits: who sent it.
    fn take(&self, signal: Signal) -> Option<Pid> {
        let set: SigSet = signal.into();
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: all pointers are to live values; the kernel fills in the sender of signals that processes send.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let taken = libc::sigtimedwait(set.as_ref(), &raw mut info, &raw const now);
            (taken > 0).then(|| Pid::from_raw(info.si_pid()))
        }
    }

    /// In the recorder: what is sent to a job or a control group must not end it before the command.
    pub(super) fn ignore_all(&self) {
        for signal in ours().filter(|signal| *signal != libc::SIGCHLD) {
            // SAFETY: ignoring a signal runs no code of ours.
            unsafe {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
        SigSet::empty().thread_set_mask().ok();
    }

    /// Mask and SIGCHLD as they were; also for the command's process, before exec.
    pub(super) fn restore(&self) {
        // SAFETY: the disposition was in force before, so its handler is as valid as it was.
        unsafe { sigaction(Signal::SIGCHLD, &self.child) }.ok();
        self.original.thread_set_mask().ok();
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.restore();
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor lives as long as `self.fd`, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) }
    }
}

/// Sends any signal, real-time ones too. That the process is gone is no error: its end is on the way.
pub(super) fn send(pid: Pid, signal: i32) {
    // SAFETY: kill(2) takes no pointer.
    unsafe {
        libc::kill(pid.as_raw(), signal);
    }
}

/// Sends on what arrived here, with its sender and payload.
pub(super) fn forward(pid: Pid, info: &Info) {
    let Some(marked) = info.sent.marked() else { return send(pid, info.signal) };
    // SAFETY: the kernel reads a siginfo_t, which `marked` is as long as. A full queue is the sender's error elsewhere.
    let done = unsafe {
        libc::syscall(libc::SYS_rt_sigqueueinfo, pid.as_raw(), info.signal, &raw const marked)
    };
    if done != 0 {
        send(pid, info.signal);
    }
}

/// Sends on what arrived here, where no tracer makes it again what it was: with its payload, where it has one.
pub(super) fn hand_on(pid: Pid, info: &Info) {
    match info.sent.code {
        libc::SI_QUEUE => forward(pid, info),
        _ => send(pid, info.signal),
    }
}

/// Whether this process leads its session (setsid(2)): the terminal's hang-up is told to it (drivers/tty/tty_jobctrl.c,
/// tty_signal_session_leader).
pub(super) fn leads_session() -> bool {
    nix::unistd::getsid(None) == Ok(nix::unistd::getpid())
}

/// What a child did.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Ended(ExitStatus),
    Stopped(i32),
    Continued,
}

/// The next news of any child, without waiting.
pub(super) fn next_child_change() -> Option<(Pid, Change)> {
    let mut status = 0;
    let flags = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED;
    // SAFETY: the status is written to a live integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
    if pid <= 0 {
        return None;
    }
    Some((Pid::from_raw(pid), decode(status)))
}

/// Waits until a child has ended; `None` where there is no such child.
pub(super) fn wait_for(pid: Pid) -> Option<ExitStatus> {
    loop {
        let mut status = 0;
        // SAFETY: the status is written to a live integer.
        let result = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
        match (result, Errno::last()) {
            (-1, Errno::EINTR) => {}
            (-1, _) => return None,
            _ => match decode(status) {
                Change::Ended(status) => return Some(status),
                Change::Stopped(_) | Change::Continued => {}
            },
        }
    }
}

/// wait(2)'s status; not through nix, which refuses real-time signals.
fn decode(status: libc::c_int) -> Change {
    if libc::WIFSTOPPED(status) {
        Change::Stopped(libc::WSTOPSIG(status))
    } else if libc::WIFCONTINUED(status) {
        Change::Continued
    } else if libc::WIFSIGNALED(status) {
        let (signal, core) = (libc::WTERMSIG(status), libc::WCOREDUMP(status));
        Change::Ended(ExitStatus::Signal { signal, core })
    } else {
        Change::Ended(ExitStatus::Code(libc::WEXITSTATUS(status)))
    }
}
