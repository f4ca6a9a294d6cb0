//! What the kernel says of a tracee's terminal: asked through a copy of its descriptor, which is closed at once. To hold
//! one would keep the terminal from hanging up.

use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::sockets::copy;
use crate::model::TerminalState;
use crate::observation::Tid;

/// The number of /dev/tty, which is another terminal for each session.
const OWN_TTY: u32 = 5 << 8;

/// The terminal behind a stopped thread's descriptor, by its device number.
pub(crate) fn device(tid: Tid, fd: RawFd) -> Option<u32> {
    if let Some(terminal) = copy(tid, fd) {
        return ask(&terminal, libc::TIOCGDEV, 0);
    }
    let meta = fs::metadata(format!("/proc/{tid}/fd/{fd}")).ok()?;
    let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
    match major << 8 | minor & 0xff | (minor & !0xff) << 12 {
        OWN_TTY => controlling(tid),
        // Terminals, and pseudo-terminals (Documentation/admin-guide/devices.txt).
        device => matches!(major, 4 | 5 | 136..=143).then_some(device),
    }
}

/// The thread's controlling terminal, by its device number (`tty_nr` in proc_pid_stat(5)).
pub(crate) fn controlling(tid: Tid) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    // After the name, which may hold anything: state, parent, group, session, terminal.
    let device: i32 = stat.rsplit_once(") ")?.1.split(' ').nth(4)?.parse().ok()?;
    (device != 0).then_some(device as u32)
}

/// How a terminal is set, and its size.
pub(crate) fn state(tid: Tid, fd: RawFd) -> Option<TerminalState> {
    let opened = || {
        // O_NOCTTY: the recorder has no terminal, and wants none.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
        options.open(format!("/proc/{tid}/fd/{fd}")).ok().map(OwnedFd::from)
    };
    let terminal = copy(tid, fd).or_else(opened)?;
    // SAFETY: the structures are plain numbers, for which zero is a value.
    let (settings, size): (libc::termios2, libc::winsize) = unsafe { std::mem::zeroed() };
    let settings = ask(&terminal, libc::TCGETS2, settings)?;
    let size = ask(&terminal, libc::TIOCGWINSZ, size)?;
    Some(TerminalState {
        // A program that reads keys (no ICANON) shows them itself; one that reads lines and wants none shown reads a
        // password.
        hides: settings.c_lflag & libc::ICANON != 0 && settings.c_lflag & libc::ECHO == 0,
        cols: size.ws_col,
        rows: size.ws_row,
    })
}

/// A request of ioctl(2) that fills in a `T`.
fn ask<T>(terminal: &OwnedFd, request: libc::Ioctl, mut value: T) -> Option<T> {
    // SAFETY: each request above writes one value of the type that it is called with.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), request, &raw mut value) };
    (done == 0).then_some(value)
}
