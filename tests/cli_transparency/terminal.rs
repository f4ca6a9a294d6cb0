//! Programs that own a terminal: job control, full-screen programs, changes of the terminal's size.
//!
//! What appears in the terminal must be the same, byte for byte but for process ids.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};

use crate::common::{AGENTREC, TestEnv};

const PATIENCE: Duration = Duration::from_secs(30);

/// A program in a terminal of its own, of which it is the session's leader.
struct Terminal {
    master: File,
    child: Child,
    /// All that appeared.
    transcript: Vec<u8>,
    /// Up to where it was waited for.
    seen: usize,
}

nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, Winsize);

const fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let pty = openpty(&size(24, 80), None).expect("a terminal");
        let terminal = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        command.env("TERM", "xterm").stdin(terminal()).stdout(terminal()).stderr(terminal());
        let leader = || {
            // SAFETY: system calls alone, between fork and exec; descriptor 0 is the terminal by now.
            let done = unsafe { libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) != -1 };
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: the hook only makes system calls.
        let child = unsafe { command.pre_exec(leader) }.spawn().expect("it starts");
        drop(command);
        Self { master: pty.master.into(), child, transcript: Vec::new(), seen: 0 }
    }

    /// Types `keys`, and waits until `wanted` appears.
    fn does(&mut self, keys: &str, wanted: &str) {
        self.master.write_all(keys.as_bytes()).expect("somebody reads");
        self.wait_for(wanted);
    }

    fn wait_for(&mut self, wanted: &str) {
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

    fn resize(&mut self, rows: u16, columns: u16) {
        // SAFETY: the structure lives through the call.
        unsafe { set_window_size(self.master.as_raw_fd(), &size(rows, columns)) }.expect("ours");
    }

    /// Waits for the end: the code, or 128 + n, and the transcript.
    fn end(mut self) -> (i32, String) {
        while self.read() {}
        let status = self.child.wait().expect("it ends");
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        (code.expect("it ended"), self.text())
    }

    /// Long numbers are process ids, and other numbers elsewhere.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.transcript);
        let mut out = String::new();
        let mut digits = String::new();
        for character in text.chars().chain(['\n']) {
            if character.is_ascii_digit() {
                digits.push(character);
                continue;
            }
            out += if digits.len() > 3 { "#" } else { &digits };
            digits.clear();
            out.push(character);
        }
        out
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where the test failed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Plays the scene with the command as it is and recorded; both must show the same and end with `code`.
fn same(code: i32, argv: &[&str], scene: impl Fn(&mut Terminal)) -> String {
    let env = TestEnv::new();
    let play = |prefix: &[&str]| {
        let words: Vec<_> = prefix.iter().chain(argv).collect();
        let mut command = env.command(words[0]);
        command.args(&words[1..]).env("PS1", "> ").env("PS2", "");
        let mut terminal = Terminal::start(command);
        scene(&mut terminal);
        terminal.end()
    };
    compare(code, play(&[]), play(&[AGENTREC, "run", "-q", "--"]))
}

/// As [`same`], typed in a shell: the scene starts it by `$RUN COMMAND`.
fn same_in_shell(code: i32, scene: impl Fn(&mut Terminal)) -> String {
    let env = TestEnv::new();
    let play = |run: &str| {
        let mut command = env.command("bash");
        command.args(["--norc", "--noprofile", "-i"]).env("RUN", run).env("PS1", "$ ");
        let mut terminal = Terminal::start(command);
        terminal.wait_for("$ ");
        scene(&mut terminal);
        terminal.end()
    };
    compare(code, play("env"), play(&format!("{AGENTREC} run -q --")))
}

fn compare(code: i32, plain: (i32, String), recorded: (i32, String)) -> String {
    for (number, (plain, recorded)) in plain.1.lines().zip(recorded.1.lines()).enumerate() {
        assert_eq!(recorded, plain, "recorded (left) and plain differ in line {number}");
    }
    assert_eq!(recorded, plain, "recorded (left) and plain");
    assert_eq!(plain.0, code, "{}", plain.1);
    plain.1
}

const BASH: [&str; 4] = ["bash", "--norc", "--noprofile", "-i"];

#[test]
fn an_interactive_shell_and_its_jobs() {
    same(9, &BASH, |terminal| {
        terminal.wait_for("> ");
        terminal.does("echo $((6*7))\r", "42\r\n");
        terminal.wait_for("> ");
        terminal.does("sh -c 'echo ready; exec cat'\r", "ready\r\n");
        terminal.does("word\r", "word\r\nword\r\n");
        terminal.does("\x1a", "Stopped");
        terminal.wait_for("> ");
        terminal.does("jobs\r", "exec cat'\r\n");
        terminal.wait_for("> ");
        terminal.does("fg\r", "exec cat'\r\n");
        terminal.does("again\r", "again\r\nagain\r\n");
        terminal.does("\x03", "^C");
        terminal.wait_for("> ");
        terminal.does("echo status $?\r", "status 130\r\n");
        terminal.wait_for("> ");
        terminal.does("sleep 1000 &\r", "> ");
        terminal.does("sh -c 'echo ready; exec sleep 2000'\r", "ready\r\n");
        terminal.does("\x1a", "Stopped");
        terminal.wait_for("> ");
        terminal.does("bg; jobs\r", "Running");
        terminal.wait_for("> ");
        terminal.does("kill %1; wait %1; echo status $?\r", "status 143\r\n");
        terminal.wait_for("> ");
        terminal.does("kill -STOP %2; wait %2; echo status $?\r", "status 147\r\n");
        terminal.wait_for("> ");
        terminal.does("kill %2; fg\r", "> ");
        // An unfinished line that is redrawn, edited and given up.
        terminal.does("echo abc\x01\x0b", "");
        terminal.does("\x03", "> ");
        terminal.does("bash --norc --noprofile -i\r", "> ");
        terminal.does("suspend\r", "Stopped");
        terminal.wait_for("> ");
        terminal.does("fg\r", "> ");
        terminal.does("exit 5\r", "> ");
        terminal.does("exit 9\r", "exit\r\n");
    });
}

#[test]
fn a_recorded_job_of_a_shell() {
    same_in_shell(0, |terminal| {
        // Stopped by the terminal, by itself, from outside; continued in each way.
        terminal.does("$RUN sh -c 'echo ready; exec cat'\r", "ready\r\n");
        terminal.does("word\r", "word\r\nword\r\n");
        terminal.does("\x1a", "Stopped");
        terminal.wait_for("$ ");
        terminal.does("jobs\r", "exec cat'\r\n");
        terminal.wait_for("$ ");
        terminal.does("fg\r", "exec cat'\r\n");
        terminal.does("again\r", "again\r\nagain\r\n");
        terminal.does("\x04", "$ ");
        // A shell tells deaths by a signal from 128 + n, which is what we return: this one ends otherwise.
        terminal.does(
            "$RUN bash -c 'trap \"exit 6\" INT; echo ready; while :; do sleep 0.1; done'\r",
            "ready\r\n",
        );
        terminal.does("\x1a", "Stopped");
        terminal.wait_for("$ ");
        terminal.does("bg; jobs\r", "Running");
        terminal.wait_for("$ ");
        terminal.does("fg\r", "done'\r\n");
        terminal.does("\x03", "$ ");
        terminal.does("echo status $?\r", "status 6\r\n");
        terminal.wait_for("$ ");
        terminal.does("$RUN sh -c 'kill -STOP $$; exit 4'\r", "Stopped");
        terminal.wait_for("$ ");
        terminal.does("echo status $?\r", "status 147\r\n");
        terminal.wait_for("$ ");
        terminal.does("fg; echo status $?\r", "status 4\r\n");
        terminal.wait_for("$ ");
        terminal.does("$RUN sh -c 'kill -TSTP $$; exit 4'\r", "Stopped");
        terminal.wait_for("$ ");
        terminal.does("echo status $?\r", "status 148\r\n");
        terminal.wait_for("$ ");
        terminal.does("fg; echo status $?\r", "status 4\r\n");
        terminal.wait_for("$ ");
        // Reads in the background (SIGTTIN).
        terminal.does("$RUN cat & wait %1; echo status $?\r", "status 149\r\n");
        terminal.wait_for("$ ");
        terminal.does("fg\r", "$RUN cat\r\n");
        terminal.does("more\r", "more\r\nmore\r\n");
        terminal.does("\x04", "$ ");
        // A shell in the shell that suspends itself.
        terminal.does("$RUN bash --norc --noprofile -i\r", "-i\r\n");
        terminal.wait_for("$ ");
        terminal.does("suspend\r", "Stopped");
        terminal.wait_for("$ ");
        terminal.does("fg\r", "$ ");
        terminal.does("exit 3\r", "exit\r\n");
        terminal.wait_for("$ ");
        terminal.does("echo status $?; trap '' TTIN; exit 0\r", "status 3\r\n");
    });
}

#[test]
fn less_with_resize_and_job_control() {
    let lines: String = (1..=300).map(|number| format!("line {number}\n")).collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), lines).expect("ours");
    let path = file.path().to_str().expect("text").to_owned();
    let less = format!("$RUN less -X {path}\r");
    same_in_shell(0, |terminal| {
        terminal.does(&less, "line 23\r\n");
        terminal.does(" ", "line 46\r\n");
        terminal.does("/line 200\r", "222\r\n");
        terminal.does("G", "line 300");
        terminal.resize(10, 40);
        terminal.wait_for("line 286\r\n:");
        terminal.does("g", "line 9\r\n");
        terminal.does("\x1a", "Stopped");
        terminal.wait_for("$ ");
        terminal.does("fg\r", "line 9\r\n");
        terminal.does("q", "$ ");
        terminal.does("exit 0\r", "exit\r\n");
    });
}

#[test]
fn a_full_screen_program_with_resize() {
    // Draws its size and the keys that come; q ends it.
    let program = r#"
import curses
def main(screen):
    keys = ""
    while True:
        screen.erase()
        rows, columns = screen.getmaxyx()
        screen.border()
        screen.addstr(1, 1, f"size {rows} x {columns}")
        screen.addstr(2, 1, f"keys {keys}.")
        screen.refresh()
        key = screen.getch()
        if key == ord("q"):
            return 7
        keys += "R" if key == curses.KEY_RESIZE else chr(key)
raise SystemExit(curses.wrapper(main))"#;
    same(7, &["python3", "-c", program], |terminal| {
        terminal.wait_for("size 24 x 80");
        terminal.does("a", "a.");
        terminal.resize(12, 50);
        terminal.wait_for("R.");
        terminal.does("b", "b.");
        terminal.does("q", "");
    });
}

#[test]
fn an_editor() {
    // How much it draws at once depends on how fast keys come: what it saves is compared.
    let play = |prefix: &[&str]| {
        let env = TestEnv::new();
        let words: Vec<_> = prefix.iter().chain(&["nano", "--ignorercfiles", "file.txt"]).collect();
        let mut command = env.command(words[0]);
        command.args(&words[1..]);
        let mut terminal = Terminal::start(command);
        terminal.wait_for("Exit");
        terminal.does("some words", "words");
        terminal.does("\x0f", "Name to Write");
        terminal.does("\r", "Wrote 1");
        terminal.does("\x18", "");
        (terminal.end().0, env.read("file.txt"))
    };
    let plain = play(&[]);
    assert_eq!(plain, (0, Some("some words\n".to_owned())));
    assert_eq!(play(&[AGENTREC, "run", "-q", "--"]), plain);
}
