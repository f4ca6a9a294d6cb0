//! The session's terminal: what is typed there, and its size.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use agentrec_recorder::source::{Captured, Report};
use agentrec_trace::Data;
use agentrec_trace::event::Content;
use nix::pty::{Winsize, openpty};

use super::harness::{Engine, Recording, Running, User};

fn wait_for_output(running: &mut Running, what: &str) {
    running.wait_for(|report| match report {
        Report::Event(Captured { event, .. }) => match &event.data {
            Data::TermOutput(output) => match &output.data {
                Content::Inline(bytes) => (bytes.as_slice() == what.as_bytes()).then_some(()),
                Content::Object { .. } => None,
            },
            _ => None,
        },
        _ => None,
    });
}

fn size(cols: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_what_is_typed_is_kept_unless_the_terminal_hides_it() {
    typing(Engine::Ebpf, User::Same);
}

#[test]
fn what_is_typed_is_kept_unless_the_terminal_hides_it() {
    User::all().into_iter().for_each(|user| typing(Engine::Ptrace, user));
}

fn typing(engine: Engine, user: User) {
    let pty = openpty(&size(80, 24), None).unwrap();
    let mut keyboard = File::from(pty.master);
    let mut running =
        Recording::tracee("terminal").engine(engine).user(user).stdin(pty.slave).start();
    for (wanted, typed) in [
        ("line", "plain\n"),
        ("secret", "hunter2\n"),
        ("key", "k"),
        ("vector", "vector\n"),
        ("copy", "copy\n"),
        ("moved", "moved\n"),
    ] {
        wait_for_output(&mut running, wanted);
        keyboard.write_all(typed.as_bytes()).unwrap();
    }
    wait_for_output(&mut running, "size");
    let wider = size(100, 40);
    // SAFETY: the request reads a `struct winsize`.
    let done =
        unsafe { libc::ioctl(keyboard.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const wider) };
    assert_eq!(done, 0);
    wait_for_output(&mut running, "again");
    keyboard.write_all(b"on\n").unwrap();
    let lines = running.finish().lines();
    let moved = "p1 lost input: input was moved inside the kernel (splice, sendfile), where it \
                     can't be read";
    let moved =
        if lines.iter().any(|line| line == moved) { moved } else { "p1 input \"moved\\n\"" };
    let expected = [
        "p1 exec tracee [tracee] []",
        "p1 output 1 \"line\"",
        "p1 input \"plain\\n\"",
        "p1 output 1 \"secret\"",
        "p1 input 8 hidden",
        "p1 output 1 \"key\"",
        "p1 input \"k\"",
        "p1 open /dev/tty rw = 3",
        "p1 output 1 \"vector\"",
        "p1 input \"vector\\n\"",
        "p1 output 1 \"copy\"",
        "p1 input \"copy\\n\"",
        "p1 output 1 \"moved\"",
        moved,
        "p1 output 1 \"size\"",
        "p1 resize 100x40",
        "p1 output 1 \"again\"",
        "p1 input \"on\\n\"",
        "p1 resize 120x50",
        "p1 open /dev/ptmx rw|400 = 6",
        "p1 close /dev/pts/ r18 w0",
        "p1 close pipe r0 w37",
        "p1 close /dev/ptmx r0 w0",
        "p1 close /dev/tty r18 w0",
        "p1 exit 0",
    ];
    // The terminal's number differs from run to run.
    let lines: Vec<_> = lines
        .iter()
        .map(|line| match line.split_once("/dev/pts/") {
            Some((before, after)) => {
                format!(
                    "{before}/dev/pts/{}",
                    after.trim_start_matches(|c: char| c.is_ascii_digit())
                )
            }
            None => line.clone(),
        })
        .collect();
    assert_eq!(lines, expected, "as {user:?}");
}
