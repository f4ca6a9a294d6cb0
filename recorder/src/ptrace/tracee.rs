//! Tracees and their stops, made safe by types: a stopped tracee is a value, and resuming it consumes that value.
//!
//! A tracee can vanish at any moment, stopped or not (SIGKILL, or an exec by a sibling thread). That is no error
//! but [`Vanished`]; its end, where there is one to come, is reported by a later [`wait`]. See ptrace(2).

use std::io;
use std::marker::PhantomData;

use libc::{c_int, c_uint, c_void};

use crate::handed_on::SignalInfo;
use crate::observation::Tid;
use crate::source::ExitStatus;

/// The tracee is gone (ESRCH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vanished;

/// A tracee that stands still until it is resumed. Belongs to the tracer's thread.
#[derive(Debug)]
#[must_use = "a tracee that nobody resumes hangs"]
pub(super) struct Stopped {
    tid: Tid,
    _not_send: PhantomData<*const ()>,
}

/// Why a tracee stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The seccomp filter stopped it before a call.
    Seccomp,
    /// It comes out of a call; with [`Follow::Running`] also: it goes into one.
    Syscall,
    /// It started a process or thread (fork, vfork or clone), whose id is the event message.
    Fork,
    /// It executed a program; the event message is the id that its thread had before.
    Exec,
    /// It is about to end; its memory is still there.
    Exit,
    /// It stopped with its process, as job control has it, by this signal.
    Group(c_int),
    /// A first stop, or the end of a group-stop.
    Trap,
    /// A signal is about to be delivered.
    Signal(c_int),
    /// A stop that needs no answer but to go on.
    Other,
}

/// What [`wait`] found.
#[derive(Debug)]
pub(super) enum Waited {
    Stopped(Stopped, Stop),
    Ended(Ended),
    /// No stop is pending. Only when not blocking.
    Quiet,
    /// No such tracee is left.
    Nothing,
}

/// What the kernel says of a stopped tracee's call.
#[derive(Clone, Copy, Debug)]
pub(super) enum SyscallInfo {
    Seccomp { arch: u32, number: u64, args: [u64; 6], data: u32 },
    Entry { arch: u32, number: u64, args: [u64; 6] },
    Exit { result: Result<u64, i32> },
    Other,
}

/// A tracee that has ended. With [`Ends::Held`] the kernel still knows it, and its parent can't have waited for it, until this
/// is dropped.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) tid: Tid,
    pub(super) status: ExitStatus,
    released: bool,
}

impl Ended {
    /// Leaves it to its parent: the kernel tells of it no more, and [`wait`] neither.
    pub(super) fn release(&mut self) {
        if !std::mem::replace(&mut self.released, true) {
            // Ends only: after an execve(2) its id may be that of another thread, whose stops are not to be taken here.
            let _ = wait_id(self.tid, libc::WEXITED | libc::WNOHANG);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.release();
    }
}

const OPTIONS: c_int = libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEEXIT
    | libc::PTRACE_O_TRACESYSGOOD;

/// Whom the tracer follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// What we started: the filter stops it, and it ends with this process, since its filter would outlive us.
    Started,
    /// What ran already, without our filter: it goes on without us, and what a filter of its own answers is not ours to
    /// change.
    Running,
}

/// Makes the calling thread the tracer of `tid` and of all that it starts.
pub(super) fn seize(tid: Tid, follow: Follow) -> io::Result<()> {
    let more = match follow {
        Follow::Started => libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_EXITKILL,
        Follow::Running => 0,
    };
    request(libc::PTRACE_SEIZE, tid, 0, (OPTIONS | more) as usize)
}

/// Makes a tracee stop soon. One that is gone needs no stop.
pub(super) fn interrupt(tid: Tid) {
    let _ = request(libc::PTRACE_INTERRUPT, tid, 0, 0);
}

/// How ends are taken note of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// At once: the parent may wait for who ended from there on.
    Taken,
    /// First looked at, which costs one more call for each stop, too: who ended can be asked until that is dropped.
    Held,
}

/// The next stop or end among the calling thread's tracees. Signals to this process don't interrupt it.
pub(super) fn wait(block: bool, ends: Ends) -> io::Result<Waited> {
    wait_among(-1, if block { 0 } else { libc::WNOHANG }, ends)
}

/// What happened to `tid` since its last stop. Doesn't block.
pub(super) fn wait_for(tid: Tid, ends: Ends) -> io::Result<Waited> {
    wait_among(tid, libc::WNOHANG, ends)
}

fn wait_among(which: Tid, flags: c_int, ends: Ends) -> io::Result<Waited> {
    const BOTH: c_int = libc::WEXITED | libc::WSTOPPED;
    if ends == Ends::Taken {
        let mut waited = wait_id(which, BOTH | flags)?;
        if let Waited::Ended(ended) = &mut waited {
            ended.released = true;
        }
        return Ok(waited);
    }
    loop {
        let looked_at = wait_id(which, BOTH | libc::WNOWAIT | flags)?;
        let Waited::Stopped(stopped, _) = &looked_at else { return Ok(looked_at) };
        // Killed meanwhile, it stands there no more.
        let taken = wait_id(stopped.tid, libc::WSTOPPED | libc::WNOHANG)?;
        if matches!(taken, Waited::Stopped(..)) {
            return Ok(taken);
        }
    }
}

impl From<libc::siginfo_t> for Waited {
    fn from(news: libc::siginfo_t) -> Self {
        // SAFETY: waitid(2) fills these in, and leaves zeros where it found nobody.
        let (tid, status) = unsafe { (news.si_pid(), news.si_status()) };
        let status = match news.si_code {
            _ if tid == 0 => return Self::Quiet,
            libc::CLD_EXITED => ExitStatus::Code(status),
            libc::CLD_KILLED => ExitStatus::Signal { signal: status, core: false },
            libc::CLD_DUMPED => ExitStatus::Signal { signal: status, core: true },
            _ => {
                let stopped = Stopped { tid, _not_send: PhantomData };
                return Self::Stopped(stopped, Stop::of(status));
            }
        };
        Self::Ended(Ended { tid, status, released: false })
    }
}

/// waitid(2) for one of the calling thread's tracees, or with -1 for any.
fn wait_id(which: Tid, flags: c_int) -> io::Result<Waited> {
    let kind = if which < 0 { libc::P_ALL } else { libc::P_PID };
    // Not the children of other threads: those are somebody else's to wait for.
    let flags = flags | libc::__WALL | libc::__WNOTHREAD;
    loop {
        // SAFETY: zeros are a valid siginfo_t, and a valid place for one.
        let (result, news) = unsafe {
            let mut news: libc::siginfo_t = std::mem::zeroed();
            (libc::waitid(kind, which as libc::id_t, &mut news, flags), news)
        };
        if result == 0 {
            return Ok(news.into());
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Waited::Nothing),
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

impl Stop {
    /// What waitid(2) shows of a stop: the signal, and above it the event (ptrace(2), PTRACE_EVENT stops).
    fn of(status: c_int) -> Self {
        let signal = status & 0xff;
        match status >> 8 {
            libc::PTRACE_EVENT_SECCOMP => Self::Seccomp,
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                Self::Fork
            }
            libc::PTRACE_EVENT_EXEC => Self::Exec,
            libc::PTRACE_EVENT_EXIT => Self::Exit,
            libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Self::Trap,
            libc::PTRACE_EVENT_STOP => Self::Group(signal),
            0 if signal == libc::SIGTRAP | 0x80 => Self::Syscall,
            0 => Self::Signal(signal),
            _ => Self::Other,
        }
    }
}

impl Stopped {
    pub(super) fn tid(&self) -> Tid {
        self.tid
    }

    /// Lets it run to its next event; delivers `signal` unless that is 0.
    pub(super) fn resume(self, signal: c_int) -> Result<(), Vanished> {
        self.request(libc::PTRACE_CONT, 0, signal as usize)
    }

    /// Lets it run to the end of the call that it is in, or to an event before that.
    pub(super) fn resume_to_exit(self, signal: c_int) -> Result<(), Vanished> {
        self.request(libc::PTRACE_SYSCALL, 0, signal as usize)
    }

    /// Lets it go: it is no tracee any more. Delivers `signal` unless that is 0.
    pub(super) fn detach(self, signal: c_int) -> Result<(), Vanished> {
        self.request(libc::PTRACE_DETACH, 0, signal as usize)
    }

    /// Leaves it in its group-stop, from which SIGCONT wakes it.
    pub(super) fn listen(self) -> Result<(), Vanished> {
        self.request(libc::PTRACE_LISTEN, 0, 0)
    }

    /// What the kernel has to say of this event. A tracee that was killed meanwhile stands at its end instead, about which
    /// the kernel says something else; a later [`wait`] tells of that stop.
    pub(super) fn event_message(&self) -> Result<u64, Vanished> {
        let mut message: libc::c_ulong = 0;
        self.request(libc::PTRACE_GETEVENTMSG, 0, &raw mut message as usize)?;
        // Asked after it, since nobody comes back from there.
        if self.event()? == libc::PTRACE_EVENT_EXIT { Err(Vanished) } else { Ok(message) }
    }

    /// The event that it stands at now (ptrace(2), PTRACE_GETSIGINFO).
    fn event(&self) -> Result<c_int, Vanished> {
        // SAFETY: the structure is plain numbers, for which zero is a value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        self.request(libc::PTRACE_GETSIGINFO, 0, &raw mut info as usize)?;
        Ok(info.si_code >> 8)
    }

    /// The signal that is about to be delivered.
    pub(super) fn signal_info(&self) -> Result<SignalInfo, Vanished> {
        let mut info = SignalInfo::empty();
        self.request(libc::PTRACE_GETSIGINFO, 0, &raw mut info as usize)?;
        Ok(info)
    }

    /// Changes what is said of the signal that is about to be delivered.
    pub(super) fn set_signal_info(&self, info: &SignalInfo) -> Result<(), Vanished> {
        self.request(libc::PTRACE_SETSIGINFO, 0, std::ptr::from_ref(info) as usize)
    }

    /// The call that it goes into or comes out of.
    pub(super) fn syscall_info(&self) -> Result<SyscallInfo, Vanished> {
        let info = self.info()?;
        Ok(match info.op {
            libc::PTRACE_SYSCALL_INFO_SECCOMP => {
                // SAFETY: `op` says which member the kernel filled in, and any bits are numbers.
                let seccomp = unsafe { info.u.seccomp };
                SyscallInfo::Seccomp {
                    arch: info.arch,
                    number: seccomp.nr,
                    args: seccomp.args,
                    data: seccomp.ret_data,
                }
            }
            libc::PTRACE_SYSCALL_INFO_ENTRY => {
                // SAFETY: as above.
                let entry = unsafe { info.u.entry };
                SyscallInfo::Entry { arch: info.arch, number: entry.nr, args: entry.args }
            }
            libc::PTRACE_SYSCALL_INFO_EXIT => {
                // SAFETY: as above.
                let exit = unsafe { info.u.exit };
                let result = match exit.is_error {
                    0 => Ok(exit.sval as u64),
                    _ => Err(exit.sval.unsigned_abs() as i32),
                };
                SyscallInfo::Exit { result }
            }
            _ => SyscallInfo::Other,
        })
    }

    /// The architecture of the call that it is in, at any stop.
    pub(super) fn arch(&self) -> Result<u32, Vanished> {
        self.info().map(|info| info.arch)
    }

    fn info(&self) -> Result<libc::ptrace_syscall_info, Vanished> {
        // SAFETY: the structure is plain numbers, for which zero is a value.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        self.request(libc::PTRACE_GET_SYSCALL_INFO, size, &raw mut info as usize)?;
        Ok(info)
    }

    /// The general registers, by their names in 64-bit code for 32-bit tracees too (PTRACE_GETREGSET would have theirs).
    #[cfg(target_arch = "x86_64")]
    pub(super) fn registers(&self) -> Result<libc::user_regs_struct, Vanished> {
        // SAFETY: the structure is plain numbers, for which zero is a value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        self.request(libc::PTRACE_GETREGS, 0, &raw mut registers as usize)?;
        Ok(registers)
    }

    /// Changes the general registers.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn set_registers(&self, registers: &libc::user_regs_struct) -> Result<(), Vanished> {
        self.request(libc::PTRACE_SETREGS, 0, std::ptr::from_ref(registers) as usize)
    }

    /// Changes one general register: the one at this offset in `user_regs_struct`, with which `struct user` begins.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn set_register(&self, offset: usize, value: u64) -> Result<(), Vanished> {
        self.request(libc::PTRACE_POKEUSER, offset, value as usize)
    }

    /// The general registers. Not of a 32-bit tracee, which has others.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn registers(&self) -> Result<libc::user_regs_struct, Vanished> {
        // SAFETY: the structure is plain numbers, for which zero is a value.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let mut area = io_vec(&mut registers);
        self.request(libc::PTRACE_GETREGSET, NT_PRSTATUS, &raw mut area as usize)?;
        Ok(registers)
    }

    /// Changes the general registers.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn set_registers(
        &self,
        mut registers: libc::user_regs_struct,
    ) -> Result<(), Vanished> {
        let mut area = io_vec(&mut registers);
        self.request(libc::PTRACE_SETREGSET, NT_PRSTATUS, &raw mut area as usize)
    }

    /// Changes the number of the call that it goes into.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn set_call(&self, mut number: c_int) -> Result<(), Vanished> {
        let mut area = io_vec(&mut number);
        self.request(libc::PTRACE_SETREGSET, NT_ARM_SYSTEM_CALL, &raw mut area as usize)
    }

    /// Changes 8 bytes of its memory.
    pub(super) fn poke(&self, address: u64, value: u64) -> Result<(), Vanished> {
        self.request(libc::PTRACE_POKEDATA, address as usize, value as usize)
    }

    fn request(&self, what: c_uint, address: usize, data: usize) -> Result<(), Vanished> {
        request(what, self.tid, address, data).map_err(|error| {
            if error.raw_os_error() != Some(libc::ESRCH) {
                tracing::debug!(tid = self.tid, what, %error, "ptrace request refused");
            }
            Vanished
        })
    }
}

#[cfg(target_arch = "aarch64")]
const NT_PRSTATUS: usize = 1;
#[cfg(target_arch = "aarch64")]
const NT_ARM_SYSTEM_CALL: usize = 0x404;

#[cfg(target_arch = "aarch64")]
fn io_vec<T>(value: &mut T) -> libc::iovec {
    libc::iovec { iov_base: std::ptr::from_mut(value).cast(), iov_len: size_of::<T>() }
}

fn request(what: c_uint, tid: Tid, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: `address` and `data` are numbers to these requests, or, from the functions above, the address and size
    // of a live value of the type that the request fills in or reads. Only the tracee's memory is changed otherwise.
    let answer =
        unsafe { libc::ptrace(what as _, tid, address as *mut c_void, data as *mut c_void) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_fork_stop_that_was_left_tells_of_nobody() {
        let (gate, mut open) = pipe().unwrap();
        // SAFETY: the child makes only async-signal-safe calls, and never returns.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::read(gate.as_raw_fd(), [0_u8].as_mut_ptr().cast(), 1);
                libc::fork();
                loop {
                    libc::pause();
                }
            }
            child
        };
        // Its own child ends with the tracer, this thread.
        seize(child, Follow::Started).unwrap();
        open.write_all(b"!").unwrap();
        let forked = loop {
            match wait(true, Ends::Held).unwrap() {
                Waited::Stopped(stopped, Stop::Fork) => break stopped,
                Waited::Stopped(..) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(forked.event_message().is_ok_and(|born| born > 0));
        // SAFETY: no memory effects; then waits, and leaves what it saw for others to see.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            let mut seen: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL;
            assert_eq!(libc::waitid(libc::P_PID, child as u32, &mut seen, flags), 0);
        }
        assert_eq!(forked.event_message(), Err(Vanished));
        match wait_for(child, Ends::Held).unwrap() {
            Waited::Stopped(stopped, Stop::Exit) => stopped.resume(0).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}
