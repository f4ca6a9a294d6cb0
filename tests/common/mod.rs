//! What the end-to-end tests of the command share: a place of their own, a clean environment, and sessions recorded there.

// Every test file uses its part of this.
#![allow(dead_code)]

pub mod built;
pub mod dice;
pub mod exchanges;
pub mod listing;
pub mod scripted;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub const AGENTREC: &str = env!("CARGO_BIN_EXE_agentrec");

/// A data directory and a working directory that go when the test ends.
pub struct TestEnv {
    dir: TempDir,
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The code, or 128 + n for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A session that was recorded.
pub struct Recorded {
    /// Session id.
    pub id: String,
    /// The trace.
    pub trace: PathBuf,
    /// The closing line as JSON.
    pub closing: Value,
}

impl TestEnv {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["work", "user"] {
            fs::create_dir(dir.path().join(name)).expect("a directory of ours");
        }
        Self { dir }
    }

    /// Where commands run.
    pub fn work(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("it is there").join("work")
    }

    /// Another place outside the working directory.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join("user").join(name)
    }

    /// The data directory.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Writes a file of the working directory.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.work().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a directory of ours");
        }
        fs::write(path, content).expect("a file of ours");
    }

    /// Reads a file of the working directory; none where there is none.
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.work().join(name)).ok()
    }

    /// A program in a fixed environment and in the working directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path().join("user"))
            .env("AGENTREC_HOME", self.home())
            // Else it would depend on who runs the tests.
            .env(
                "AGENTREC_ENGINE",
                std::env::var("AGENTREC_TEST_ENGINE").unwrap_or("ptrace".into()),
            )
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .current_dir(self.work())
            .stdin(Stdio::null());
        command
    }

    /// `agentrec` with these arguments.
    pub fn agentrec<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command(AGENTREC);
        command.args(args);
        command
    }

    /// Runs `agentrec`.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        ran(self.agentrec(args).output())
    }

    /// Runs `agentrec`, which must succeed; returns its standard output.
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout
    }

    /// Runs `agentrec --json`, which must succeed; returns the objects.
    pub fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Vec<Value> {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        objects(&self.ok(args.chain(["--json".into()])))
    }

    /// Records a shell script.
    pub fn record(&self, script: &str) -> Recorded {
        self.record_with(&[], &["sh", "-c", script])
    }

    /// Records a command with options of `run`.
    pub fn record_with(&self, options: &[&str], command: &[&str]) -> Recorded {
        let args = ["run", "--json"].iter().chain(options).chain(&["--"]).chain(command);
        recorded(&self.run(args))
    }

    /// Starts recording a shell script that talks with the test through its standard input and output.
    pub fn start(&self, options: &[&str], script: &str) -> Live {
        let command = ["--", "sh", "-c", script];
        Live::start(self.agentrec(["run", "--json"].iter().chain(options).chain(&command)))
    }

    /// Runs a shell command in a terminal of its own; returns all that appeared there.
    pub fn in_terminal(&self, line: &str, env: &[(&str, &str)]) -> Ran {
        let mut command = self.command("script");
        command.args(["--quiet", "--return", "--command", line, "/dev/null"]).env("TERM", "xterm");
        command.envs(env.iter().copied()).env("SHELL", "/bin/sh");
        ran(command.output())
    }
}

/// The session that a `run --json` recorded.
pub fn recorded(ran: &Ran) -> Recorded {
    let closing = objects(&ran.stderr).pop().unwrap_or_else(|| panic!("no closing line: {ran:?}"));
    let text =
        |value: &Value| value.as_str().unwrap_or_else(|| panic!("not text: {closing}")).to_owned();
    Recorded {
        id: text(&closing["session"]),
        trace: text(&closing["trace"]["text"]).into(),
        closing: closing.clone(),
    }
}

/// The JSON objects among the lines.
pub fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(Value::is_object)
        .collect()
}

/// The objects of one kind.
pub fn of_kind<'v>(values: &'v [Value], kind: &str) -> Vec<&'v Value> {
    values.iter().filter(|value| value["kind"] == kind).collect()
}

/// What a program that was run to its end printed.
pub fn ran(output: std::io::Result<Output>) -> Ran {
    use std::os::unix::process::ExitStatusExt;
    let output = output.expect("the program runs");
    let status = output.status;
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).expect("it ended");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A session that is being recorded.
pub struct Live {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
}

impl Live {
    /// Starts `agentrec run`, given whole.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("agentrec starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take().map(BufReader::new).expect("piped");
        Self { child, stdin, stdout, stderr }
    }

    /// The process that the user started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the script prints this line.
    pub fn wait_for(&mut self, wanted: &str) {
        let stdout = self.stdout.as_mut().expect("still open");
        let mut line = String::new();
        while stdout.read_line(&mut line).expect("readable") > 0 {
            if line.trim_end() == wanted {
                return;
            }
            line.clear();
        }
        panic!("the script ended without printing {wanted:?}");
    }

    /// Gives the script a line.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("still open");
        writeln!(stdin, "{line}").expect("the script reads it");
    }

    /// Waits for the closing line, as JSON.
    pub fn closing(&mut self) -> Value {
        let mut line = String::new();
        self.stderr.read_line(&mut line).expect("readable");
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("no closing line: {error}: {line:?}"))
    }

    /// Ends the script's input and waits for the end; returns what it printed since.
    pub fn finish(mut self) -> Ran {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (String::new(), String::new());
        if let Some(pipe) = &mut self.stdout {
            pipe.read_to_string(&mut stdout).expect("readable");
        }
        self.stderr.read_to_string(&mut stderr).expect("readable");
        let ran = ran(self.child.wait_with_output());
        Ran { stdout, stderr, ..ran }
    }
}

/// Whether `path` is a file of its owner alone.
pub fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0)
}

/// The commands that `agentrec --help` lists.
pub fn commands(env: &TestEnv) -> Vec<String> {
    let help = env.ok(["--help"]);
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}
