//! How a program hangs on a tracepoint.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The first version of `struct perf_event_attr` (perf_event_open(2)).
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    others: [u64; 3],
    bits: u64,
    rest: [u64; 2],
}

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_ATTR_SIZE_VER0: u32 = 64;
const DISABLED: u64 = 1;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// _IOW('$', 8, __u32) (include/uapi/linux/perf_event.h).
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// Hangs a program on the tracepoint of this number, for as long as what comes back is open.
///
/// It takes an event of perf, of which aya leaves behind one that counts on CPU 0, where everybody who passes the tracepoint pays for that
/// (some 150 ns). This one never begins to count: the programs belong to the tracepoint, and run all the same, on all CPUs
/// (kernel/trace/trace_syscalls.c, perf_syscall_exit).
pub(super) fn hang(program: BorrowedFd<'_>, tracepoint: u64) -> io::Result<OwnedFd> {
    let attributes = Attributes {
        kind: PERF_TYPE_TRACEPOINT,
        size: PERF_ATTR_SIZE_VER0,
        config: tracepoint,
        others: [0; 3],
        bits: DISABLED,
        rest: [0; 2],
    };
    let (everybody, cpu, group): (libc::pid_t, libc::c_int, libc::c_int) = (-1, 0, -1);
    // SAFETY: the attributes live, and are as large as they say.
    let event = unsafe {
        let number = libc::SYS_perf_event_open;
        libc::syscall(number, &raw const attributes, everybody, cpu, group, PERF_FLAG_FD_CLOEXEC)
    };
    if event < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave this descriptor to us.
    let event = unsafe { OwnedFd::from_raw_fd(event as RawFd) };
    // SAFETY: takes a number.
    let done =
        unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(event) }
}
