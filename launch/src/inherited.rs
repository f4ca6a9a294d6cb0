//! What the process was started with, before Rust's runtime changed it: the command shall have it as it was.
//!
//! Before `main`, Rust's runtime ignores SIGPIPE and opens /dev/null for each of the descriptors 0 to 2 that is
//! closed. A command that inherited either through us would behave differently.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

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
// makes system calls and stores to statics that need no initialisation.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER: extern "C" fn() = remember;

/// Whether descriptor 0, 1 or 2 was closed when this process was started.
pub fn closed_at_start(fd: i32) -> bool {
    CLOSED.load(Ordering::Relaxed) & (1 << fd) != 0
}

/// In the command's process, before exec: SIGPIPE and descriptors as they were. Makes system calls only.
pub(crate) fn restore() {
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
