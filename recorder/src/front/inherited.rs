//! What the process was started with, before Rust's runtime changed it: the command shall have it as it was.
//!
//! Before `main`, Rust's runtime ignores SIGPIPE and opens /dev/null for each of the descriptors 0 to 2 that is
//! closed. A command that inherited either through us would behave differently.

use std::borrow::Cow;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use agentrec_trace::event::StandardFd;

use crate::error::{Error, Result};

/// Bit n: descriptor n was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn remember() {
    let mut closed = 0;
    for fd in 0..3 {
        // SAFETY: fcntl(2) with F_GETFD takes no pointer, and fails where the descriptor is closed.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            closed |= 1 << fd;
        }
    }
    CLOSED.store(closed, Ordering::Relaxed);
    // SAFETY: all zeroes is a valid `sigaction`, which the call fills; the new action may be null.
    let ignored = unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut old) == 0
            && old.sa_sigaction == libc::SIG_IGN
    };
    SIGPIPE_IGNORED.store(ignored, Ordering::Relaxed);
}

// SAFETY: the C library calls the functions of this section before `main`, hence before Rust's runtime. `remember`
// makes three kinds of system calls and stores to statics that need no initialisation.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER: extern "C" fn() = remember;

/// Whether descriptor 0, 1 or 2 was closed when this process was started.
fn closed_at_start(fd: i32) -> bool {
    CLOSED.load(Ordering::Relaxed) & (1 << fd) != 0
}

/// In the command's process, before exec: SIGPIPE and descriptors as they were.
pub(super) fn restore() {
    let disposition =
        if SIGPIPE_IGNORED.load(Ordering::Relaxed) { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither disposition runs code of ours.
    unsafe {
        libc::signal(libc::SIGPIPE, disposition);
    }
    for fd in (0..3).filter(|fd| closed_at_start(*fd)) {
        // SAFETY: what the runtime opened there is used by nobody in this process, which is about to exec.
        unsafe {
            libc::close(fd);
        }
    }
}

/// What descriptors 0, 1 and 2 are.
pub(crate) fn standard_fds() -> Vec<StandardFd<'static>> {
    (0..3).map(describe).collect()
}

fn describe(fd: RawFd) -> StandardFd<'static> {
    // SAFETY: all zeroes are valid for both structures, which the calls fill.
    let (stat, size) = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let known = !closed_at_start(fd) && libc::fstat(fd, &raw mut stat) == 0;
        let mut size: libc::winsize = std::mem::zeroed();
        let tty = known && libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) == 0;
        (known.then_some(stat), tty.then_some(size))
    };
    let kind = match stat {
        None => "closed",
        Some(_) if size.is_some() => "tty",
        Some(stat) => match stat.st_mode & libc::S_IFMT {
            libc::S_IFIFO => "pipe",
            libc::S_IFREG => "file",
            libc::S_IFSOCK => "socket",
            // null(4).
            libc::S_IFCHR if stat.st_rdev == libc::makedev(1, 3) => "null",
            _ => "other",
        },
    };
    let (cols, rows) = size.map_or((0, 0), |size| (size.ws_col, size.ws_row));
    StandardFd { kind: Cow::Borrowed(kind), cols, rows }
}

/// In the recorder: lets go of every descriptor but those in `keep`, so that nobody waits for a pipe that only the
/// recorder still holds. Descriptors 0 to 2 become /dev/null.
pub(crate) fn detach(keep: &[RawFd]) -> Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| Error::io("open /dev/null", e))?;
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let mut from = 3;
    // SAFETY: whoever owned these descriptors belongs to the front, whose copy this process is; it has one thread,
    // and uses none of them any more.
    unsafe {
        for fd in 0..3 {
            libc::dup2(null.as_raw_fd(), fd);
        }
        std::mem::forget(null);
        for fd in keep {
            if fd > from {
                libc::close_range(from as u32, fd as u32 - 1, 0);
            }
            from = from.max(fd + 1);
        }
        libc::close_range(from as u32, u32::MAX, 0);
    }
    Ok(())
}

/// Ends the recorder process: no destructor, no buffer that it shares with the front.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) takes no pointer and does not return.
    unsafe { libc::_exit(code) }
}
