//! Descriptors of the front and the recorder: what the command's first three are, and what the recorder lets go of.

use std::borrow::Cow;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

use agentrec_launch::closed_at_start;
use agentrec_trace::event::StandardFd;

use crate::error::{Error, Result};

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
