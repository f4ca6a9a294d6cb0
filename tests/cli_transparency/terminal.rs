//! Programs that own a terminal: job control, full-screen programs, changes of the terminal's size.
//!
//! What appears in the terminal must be the same, byte for byte but for process ids.

use crate::common::{AGENTREC, TestEnv};
use crate::pty::Terminal;

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

/// Shell code that returns once its jobs are listed with `$1`: news of a job comes when it comes, and a shell that tells of
/// it earlier or later writes other lines.
const IS: &str = "is() { until [[ $(jobs) == *$1* ]]; do :; done; }";

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
        terminal.does(&format!("{IS}\r"), "> ");
        terminal.does("kill %1; is Terminated; wait %1; echo status $?\r", "status 143\r\n");
        terminal.wait_for("> ");
        terminal.does("kill -STOP %2; is Stopped; jobs; echo told\r", "\ntold\r\n");
        terminal.wait_for("> ");
        terminal.does("bg; kill %2; is Terminated; fg\r", "> ");
        // An unfinished line that is edited and given up.
        terminal.does("echo abc", "abc");
        terminal.does("\x01", "\x1b[C\x1b[C");
        terminal.does("\x0b", "\x1b[K");
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
        terminal.does(&format!("{IS}\r"), "$ ");
        terminal.does("$RUN cat & is Stopped; jobs; echo told\r", "\ntold\r\n");
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
