//! Calls that end with EINTR when their thread is only stopped, and have to be made again.
//!
//! The kernel makes nearly all calls again by itself, with what is left of their time; for these it answers EINTR, also
//! without any handler (signal(7), "Interruption of system calls and library functions by stop signals"). Reading and
//! writing are among them for sockets with a time limit (SO_RCVTIMEO). Made again, their time begins anew: how long
//! they have waited the kernel tells nobody.

use super::tracee::{Stopped, Vanished};

/// Has such a call made again by a thread that came out of it because we stopped it.
#[cfg(target_arch = "x86_64")]
pub(super) fn interrupted(stopped: &Stopped) -> Result<(), Vanished> {
    /// To be made again unless a handler runs, which shall see EINTR (include/linux/errno.h).
    const ERESTARTNOHAND: i64 = 514;
    let registers = stopped.registers()?;
    let interrupted = registers.rax as i64 == -i64::from(libc::EINTR);
    if interrupted && is_made_again(stopped.arch()?, registers.orig_rax) {
        let result = std::mem::offset_of!(libc::user_regs_struct, rax);
        stopped.set_register(result, (-ERESTARTNOHAND) as u64)?;
    }
    Ok(())
}

/// Here the kernel has decided about it before the stop (arch/arm64/kernel/signal.c, do_signal).
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn interrupted(_: &Stopped) -> Result<(), Vanished> {
    Ok(())
}

/// Whether this call of this architecture is one of them. Outside of a call its number is -1.
#[cfg(target_arch = "x86_64")]
fn is_made_again(arch: u32, number: u64) -> bool {
    use crate::calls::abi::{I386_ARCH, NATIVE_ARCH};
    const NATIVE: [libc::c_long; 22] = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_connect,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_io_getevents,
        333, // io_pgetevents
        libc::SYS_io_uring_enter,
    ];
    /// The same in arch/x86/entry/syscalls/syscall_32.tbl. socketcall and ipc are many calls in one, all of which may be
    /// made again after an EINTR.
    const I386: [u64; 24] = [
        3,   // read
        4,   // write
        145, // readv
        146, // writev
        102, // socketcall
        362, // connect
        364, // accept4
        371, // recvfrom
        372, // recvmsg
        337, // recvmmsg
        417, // recvmmsg_time64
        369, // sendto
        370, // sendmsg
        345, // sendmmsg
        256, // epoll_wait
        319, // epoll_pwait
        441, // epoll_pwait2
        117, // ipc
        420, // semtimedop_time64
        177, // rt_sigtimedwait
        421, // rt_sigtimedwait_time64
        247, // io_getevents
        416, // io_pgetevents_time64
        426, // io_uring_enter
    ];
    match arch {
        NATIVE_ARCH => NATIVE.iter().any(|&call| call as u64 == number),
        I386_ARCH => I386.contains(&number),
        _ => false,
    }
}
