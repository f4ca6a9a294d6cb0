//! A terminal to play scenes in: types what a user would, when one would, and keeps all that appears.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};

const PATIENCE: Duration = Duration::from_secs(90);

/// A program in a terminal of its own, of which it is the session's leader.
pub struct Terminal {
    master: File,
    child: Child,
    /// All that appeared.
    transcript: Vec<u8>,
    /// Up to where it was waited for.
    seen: usize,
}

nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, Winsize);
nix::ioctl_read_bad!(foreground, libc::TIOCGPGRP, libc::pid_t);

const fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    pub fn start(mut command: Command) -> Self {
        let pty = openpty(&size(24, 80), None).expect("a terminal");
        let terminal = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        command.env("TERM", "xterm").stdin(terminal()).stdout(terminal()).stderr(terminal());
        let leader = || {
            // SAFETY: system calls alone, between fork and exec; descriptor 0 is the terminal by now.
            let done = unsafe {
                // Ignored where the tests run in the background of a script.
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                libc::signal(libc::SIGQUIT, libc::SIG_DFL);
                libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) != -1
            };
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: the hook only makes system calls.
        let child = unsafe { command.pre_exec(leader) }.spawn().expect("it starts");
        drop(command);
        Self { master: pty.master.into(), child, transcript: Vec::new(), seen: 0 }
    }

    /// Types `keys` once whoever has the terminal waits for them, and waits until `wanted` appears.
    pub fn does(&mut self, keys: &str, wanted: &str) {
        self.settle();
        self.master.write_all(keys.as_bytes()).expect("somebody reads");
        self.wait_for(wanted);
    }

    pub fn wait_for(&mut self, wanted: &str) {
        if wanted.is_empty() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rest = &self.transcript[self.seen..];
            let found = rest.windows(wanted.len()).position(|at| at == wanted.as_bytes());
            if let Some(at) = found {
                self.seen += at + wanted.len();
                return;
            }
            let more = Instant::now() < deadline && self.read();
            assert!(more, "{wanted:?} did not come: {}", self.text());
        }
    }

    /// Waits until all of the foreground job sleeps. What is typed before that goes to whoever has the terminal by
    /// chance: a shell that has announced a job owns it still, and a program may not have asked for single keys yet.
    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        // Twice, since a program may sleep for a moment elsewhere, as for a page of its file.
        let mut asleep = 0;
        while asleep < 2 {
            assert!(Instant::now() < deadline, "it does not come to rest: {}", self.text());
            asleep = if self.foreground_sleeps() { asleep + 1 } else { 0 };
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn foreground_sleeps(&self) -> bool {
        let mut group = 0;
        // SAFETY: the integer lives through the call. On this side of the terminal anybody may ask.
        unsafe { foreground(self.master.as_raw_fd(), &raw mut group) }.expect("a terminal");
        let states: Vec<_> = fs::read_dir("/proc")
            .expect("readable")
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
            .filter_map(|stat| state_in(&stat, group))
            .collect();
        !states.is_empty() && states.iter().all(|&state| state == 'S')
    }

    /// False where nothing comes for a while, or ever again.
    fn read(&mut self) -> bool {
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&self.master), PollFlags::POLLIN)];
        let timeout = nix::poll::PollTimeout::try_from(PATIENCE).expect("short enough");
        if poll(&mut fds, timeout) != Ok(1) {
            return false;
        }
        let mut chunk = [0; 4096];
        // EIO: nobody holds the other side any more.
        let count = self.master.read(&mut chunk).unwrap_or(0);
        self.transcript.extend_from_slice(&chunk[..count]);
        count > 0
    }

    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.settle();
        // SAFETY: the structure lives through the call.
        unsafe { set_window_size(self.master.as_raw_fd(), &size(rows, columns)) }.expect("ours");
    }

    /// Waits for the end: the code, or 128 + n, and the transcript.
    pub fn end(mut self) -> (i32, String) {
        while self.read() {}
        let status = self.child.wait().expect("it ends");
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        (code.expect("it ended"), self.text())
    }

    /// Without the process ids of jobs, such as in `[1] 4711`.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.transcript);
        let mut out = String::new();
        for line in text.split_inclusive('\n') {
            match line.split_once("] ") {
                Some((before, rest)) if rest.trim().parse::<u32>().is_ok() => {
                    out += before;
                    out += "] #\r\n";
                }
                _ => out += line,
            }
        }
        out
    }
}

/// The state of a process, from its `/proc/PID/stat`, where it belongs to `group`.
fn state_in(stat: &str, group: libc::pid_t) -> Option<char> {
    // After the name, which may hold anything: state, parent, group.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    (fields.nth(1)?.parse() == Ok(group)).then_some(state)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where the test failed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
