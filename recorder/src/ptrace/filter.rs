//! The seccomp filter: stops the covered calls for the tracer and lets all others through.
//!
//! It is made before the fork and installed by the child last thing before its exec. It outlives its tracer: without
//! one, covered calls fail with ENOSYS (seccomp(2)). Calls that it always lets through cost next to nothing: the kernel
//! keeps them in a bitmap and doesn't run the filter (kernel/seccomp.c, seccomp_cache_prepare).

use std::io;
use std::os::fd::RawFd;

use libc::{c_int, sock_filter, sock_fprog};

use crate::calls::abi::{Abi, NATIVE_ARCH};
use crate::calls::shape::Arg;
use crate::calls::table::When;
use crate::source::Config;

/// What the filter reports for calls that no table knows: of another ABI than those in [`Abi`].
pub(super) const FOREIGN: u32 = 0xffff;

/// Stands in front of the row's number, so that a tracee's own filter is not taken for ours.
const OURS: u32 = 0x5a00;
const INDEX: u32 = 0x01ff;

/// The number of the row that our filter means; None where a filter of the tracee's stopped the call, which wins where
/// both would, since it is newer (seccomp(2)).
pub(super) fn row_number(data: u32) -> Option<u32> {
    match data {
        FOREIGN => Some(INDEX),
        _ => (data & !INDEX == OURS).then_some(data & INDEX),
    }
}

/// A filter that is ready to be installed.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<sock_filter>,
}

impl Filter {
    /// The filter for a command with this configuration.
    pub fn new(config: &Config) -> Self {
        Self { program: assemble(config.reserved_fd) }
    }

    /// Installs the filter in the calling thread, for it and all that it starts. Allocates nothing, so a child may call
    /// it after a fork. Says whether NO_NEW_PRIVS had to be set, which takes set-uid programs their right: without
    /// CAP_SYS_ADMIN in its user namespace a process may install a filter only then (seccomp(2)).
    ///
    /// # Errors
    /// As seccomp(2): EINVAL where the kernel has no filters, EPERM or ENOSYS where an outer sandbox forbids them.
    pub fn install(&self) -> io::Result<NoNewPrivs> {
        match self.set() {
            Ok(()) => Ok(NoNewPrivs(false)),
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                // SAFETY: changes an attribute of this thread alone.
                if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
                    return Err(io::Error::last_os_error());
                }
                self.set().map(|()| NoNewPrivs(true))
            }
            Err(error) => Err(error),
        }
    }

    fn set(&self) -> io::Result<()> {
        let program = sock_fprog {
            len: self.program.len() as libc::c_ushort,
            filter: self.program.as_ptr().cast_mut(),
        };
        // A recording must not slow the command down with mitigations that it did not ask for (old kernels turn
        // speculative store bypass off with a filter unless told so).
        let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        // SAFETY: the kernel copies the program, which outlives the call and is not written to.
        let done = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Whether the filter went in with NO_NEW_PRIVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNewPrivs(pub bool);

/// Lets `tracer` trace the calling process where Yama allows only ancestors (`kernel.yama.ptrace_scope` 1). Does
/// nothing where there is no Yama. For the child, before the tracer seizes it.
pub fn permit_tracer(tracer: u32) {
    const PR_SET_PTRACER: c_int = 0x5961_6d61;
    // SAFETY: changes an attribute of this process alone. EINVAL without Yama.
    unsafe { libc::prctl(PR_SET_PTRACER, libc::c_ulong::from(tracer), 0, 0, 0) };
}

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

const fn low_word(arg: Arg) -> u32 {
    16 + 8 * arg as u32 + if cfg!(target_endian = "big") { 4 } else { 0 }
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn assemble(reserved_fd: Option<RawFd>) -> Vec<sock_filter> {
    let mut program = vec![load(ARCH)];
    let mut architecture = |arch, calls: Vec<sock_filter>| {
        program.extend([jump(libc::BPF_JEQ, arch, 1, 0), skip(calls.len())]);
        program.extend(calls);
    };
    architecture(NATIVE_ARCH, native(reserved_fd));
    #[cfg(target_arch = "x86_64")]
    architecture(
        crate::calls::abi::I386_ARCH,
        [vec![load(NUMBER)], calls(Abi::I386, reserved_fd)].concat(),
    );
    program.push(ret(libc::SECCOMP_RET_TRACE | FOREIGN));
    program
}

/// Calls of this program's architecture.
#[cfg(target_arch = "x86_64")]
fn native(reserved_fd: Option<RawFd>) -> Vec<sock_filter> {
    use crate::calls::abi::{X32_BIT, X32_OWN};
    // Last: they cost the common calls nothing.
    let ill_numbered = [
        jump(libc::BPF_JGE, *X32_OWN.start(), 0, 2),
        jump(libc::BPF_JGT, *X32_OWN.end(), 1, 0),
        ret(libc::SECCOMP_RET_TRACE | FOREIGN),
        ret(ALLOW),
    ];
    let mut native = calls(Abi::Native, reserved_fd);
    native.pop();
    native.extend(ill_numbered);
    let mut program = vec![load(NUMBER), jump(libc::BPF_JGE, X32_BIT, 0, 1), skip(native.len())];
    program.extend(native);
    program.extend(calls(Abi::X32, reserved_fd));
    program
}

/// Calls of this program's architecture.
#[cfg(not(target_arch = "x86_64"))]
fn native(reserved_fd: Option<RawFd>) -> Vec<sock_filter> {
    [vec![load(NUMBER)], calls(Abi::Native, reserved_fd)].concat()
}

/// Stops the covered calls of one ABI by their number, and lets the others through.
fn calls(abi: Abi, reserved_fd: Option<RawFd>) -> Vec<sock_filter> {
    let mut program = Vec::new();
    for (index, row) in abi.table().iter().enumerate() {
        let block = block(row.when, libc::SECCOMP_RET_TRACE | OURS | index as u32, reserved_fd);
        program.push(jump(libc::BPF_JEQ, row.number as u32, 0, block.len() as u8));
        program.extend(block);
    }
    program.push(ret(ALLOW));
    program
}

/// What to do with a call whose number matched. Always ends with a return.
fn block(when: When, stop: u32, reserved_fd: Option<RawFd>) -> Vec<sock_filter> {
    match (when, reserved_fd) {
        (When::NotReserved(arg), Some(fd)) => {
            vec![load(low_word(arg)), jump(libc::BPF_JEQ, fd as u32, 0, 1), ret(ALLOW), ret(stop)]
        }
        (When::Always | When::NotReserved(_), _) => vec![ret(stop)],
        (When::Has(arg, bits), _) => {
            vec![load(low_word(arg)), jump(libc::BPF_JSET, bits, 1, 0), ret(ALLOW), ret(stop)]
        }
        (When::Is(arg, values), _) => {
            let mut block = vec![load(low_word(arg))];
            for (index, &value) in values.iter().enumerate() {
                // Over the values that are left and the `ret(ALLOW)`.
                block.push(jump(libc::BPF_JEQ, value, (values.len() - index) as u8, 0));
            }
            block.extend([ret(ALLOW), ret(stop)]);
            block
        }
    }
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump(test: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(libc::BPF_JMP | test | libc::BPF_K, value, if_true, if_false)
}

fn skip(instructions: usize) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JA, instructions as u32, 0, 0)
}

fn ret(action: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABIS: &[(u32, Abi)] = &[
        (NATIVE_ARCH, Abi::Native),
        #[cfg(target_arch = "x86_64")]
        (crate::calls::abi::I386_ARCH, Abi::I386),
        #[cfg(target_arch = "x86_64")]
        (NATIVE_ARCH, Abi::X32),
    ];

    /// What the kernel would answer, for the instructions that the filter is made of.
    fn run(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend([0; 8]);
        args.iter().for_each(|arg| data.extend(arg.to_ne_bytes()));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let code = u32::from(code);
            match code & 0x07 {
                libc::BPF_LD => {
                    let word = &data[k as usize..k as usize + 4];
                    accumulator = u32::from_ne_bytes(word.try_into().unwrap());
                }
                libc::BPF_JMP if code & 0xf0 == libc::BPF_JA => at += k as usize,
                libc::BPF_JMP => {
                    let holds = match code & 0xf0 {
                        libc::BPF_JEQ => accumulator == k,
                        libc::BPF_JGE => accumulator >= k,
                        libc::BPF_JGT => accumulator > k,
                        libc::BPF_JSET => accumulator & k != 0,
                        other => panic!("jump {other:#x}"),
                    };
                    at += usize::from(if holds { jt } else { jf });
                }
                libc::BPF_RET => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn stops(number: libc::c_long, args: [u64; 6]) -> bool {
        let program = assemble(Some(1000));
        let answer = run(&program, NATIVE_ARCH, number as u32, args);
        assert!(answer == ALLOW || answer & 0xffff_0000 == libc::SECCOMP_RET_TRACE);
        answer != ALLOW
    }

    #[test]
    fn reports_the_row_of_every_covered_call() {
        let program = assemble(Some(1000));
        for (arch, abi) in ABIS {
            for (index, row) in abi.table().iter().enumerate() {
                let mut args = [0; 6];
                match row.when {
                    When::Has(arg, bits) => args[usize::from(arg)] = u64::from(bits),
                    When::Is(arg, values) => args[usize::from(arg)] = u64::from(values[0]),
                    When::Always | When::NotReserved(_) => {}
                }
                let answer = run(&program, *arch, row.number as u32, args);
                assert_eq!(answer & 0xffff_0000, libc::SECCOMP_RET_TRACE, "{abi:?} {}", row.name);
                let data = answer & libc::SECCOMP_RET_DATA;
                assert_eq!(row_number(data), Some(index as u32), "{abi:?} {}", row.name);
            }
        }
        assert!(program.len() < 4096, "the kernel takes no longer one (BPF_MAXINSNS)");
    }

    #[test]
    fn knows_what_is_not_ours() {
        for data in [0, 1, 0xff, 0x7fff, 0xfffe, OURS + INDEX + 1] {
            assert_eq!(row_number(data), None);
        }
        // No row has the number of what has none.
        assert!(ABIS.iter().all(|(_, abi)| abi.table().len() < INDEX as usize));
        assert!(row_number(FOREIGN).is_some());
    }

    #[test]
    fn who_has_no_filter_is_stopped_for_the_same_calls() {
        let program = assemble(None);
        let values = [0, 1, 2, 3, 0x10, 0x200, 0x400, 1030, 0x4206, 0x5451, 0x4004_9409, u64::MAX];
        for row in Abi::Native.table() {
            for (at, value) in (0..6).flat_map(|at| values.map(|value| (at, value))) {
                let mut args = [0; 6];
                args[at] = value;
                let stops = run(&program, NATIVE_ARCH, row.number as u32, args) != ALLOW;
                let covered = Abi::Native.covered(row.number as u64, &args);
                assert_eq!(covered.is_some(), stops, "{} {args:x?}", row.name);
            }
        }
        assert!(Abi::Native.covered(libc::SYS_getppid as u64, &[0; 6]).is_none());
    }

    #[test]
    fn exempts_the_reserved_descriptor_alone() {
        for number in [libc::SYS_write, libc::SYS_writev, libc::SYS_sendto, libc::SYS_sendmsg] {
            assert!(!stops(number, [1000, 0, 0, 0, 0, 0]));
            assert!(stops(number, [1001, 0, 0, 0, 0, 0]));
        }
        assert!(stops(libc::SYS_read, [1000, 0, 0, 0, 0, 0]));
        assert!(stops(libc::SYS_close, [1000, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn looks_at_arguments() {
        let fcntl = |command| stops(libc::SYS_fcntl, [0, command as u64, 0, 0, 0, 0]);
        assert!(fcntl(libc::F_DUPFD) && fcntl(libc::F_DUPFD_CLOEXEC) && fcntl(libc::F_SETFD));
        assert!(!fcntl(libc::F_GETFD) && !fcntl(libc::F_GETFL) && !fcntl(libc::F_SETLK));
        let mmap = |flags| stops(libc::SYS_mmap, [0, 0, 0, flags as u64, 0, 0]);
        assert!(mmap(libc::MAP_SHARED) && mmap(libc::MAP_SHARED_VALIDATE));
        assert!(!mmap(libc::MAP_PRIVATE) && !mmap(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS));
        assert!(!stops(libc::SYS_clone, [libc::CLONE_VM as u64, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn lets_the_rest_through_and_stops_foreign_calls() {
        assert!(!stops(libc::SYS_getppid, [0; 6]));
        assert!(!stops(libc::SYS_futex, [0; 6]));
        let program = assemble(None);
        let answer = |arch, number| run(&program, arch, number, [0; 6]);
        // AUDIT_ARCH_ARM, as aarch64 machines may have it.
        assert_eq!(answer(0x4000_0028, 5), libc::SECCOMP_RET_TRACE | FOREIGN);
        assert_eq!(answer(NATIVE_ARCH, u32::MAX), ALLOW);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tells_abis_apart() {
        use crate::calls::abi::{I386_ARCH, X32_BIT};
        let program = assemble(None);
        let name = |abi: Abi, arch, number| match run(&program, arch, number, [0; 6]) {
            ALLOW => None,
            stop => Some(abi.row(stop & 0xffff, u64::from(number)).unwrap().name),
        };
        assert_eq!(name(Abi::Native, NATIVE_ARCH, 59), Some("execve"));
        assert_eq!(name(Abi::I386, I386_ARCH, 11), Some("execve"));
        assert_eq!(name(Abi::X32, NATIVE_ARCH, X32_BIT | 520), Some("execve"));
        // munmap(2), time(2), brk(2)
        assert_eq!(name(Abi::Native, NATIVE_ARCH, 11), None);
        assert_eq!(name(Abi::I386, I386_ARCH, 13), None);
        assert_eq!(name(Abi::X32, NATIVE_ARCH, X32_BIT | 12), None);
        // execve(2) of x32 without its bit.
        let answer = |number| run(&program, NATIVE_ARCH, number, [0; 6]);
        assert_eq!(answer(520), libc::SECCOMP_RET_TRACE | FOREIGN);
        assert_eq!((answer(511), answer(548)), (ALLOW, ALLOW));
        assert_eq!(Abi::of(NATIVE_ARCH, 520), None);
    }
}
