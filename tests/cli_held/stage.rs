//! Where a program runs several times from the same beginning: in the same directory, prepared afresh for each run.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

use super::common::{AGENTREC, objects};
use super::deeds::{Summary, differences};
use super::recorded::recorded;
use super::reference::{LONGEST_ARGUMENT, reference};
use super::strace;

/// A program, and what it finds where it runs.
pub struct Stage {
    dir: TempDir,
    prepare: fn(&Path),
    command: Vec<String>,
    engine: &'static str,
}

impl Stage {
    /// `command` in a new directory, in which `prepare` makes what it needs.
    pub fn new(prepare: fn(&Path), command: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let command = command.iter().map(|&word| word.to_owned()).collect();
        Self { dir, prepare, command, engine: "ptrace" }
    }

    /// Recorded by this engine.
    pub fn by(self, engine: &'static str) -> Self {
        Self { engine, ..self }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("it is there").join(name)
    }

    /// Everything that a run may have left behind goes, and what it finds comes back.
    fn set(&self) {
        for name in ["work", "home", "tmp"] {
            let place = self.place(name);
            match fs::remove_dir_all(&place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
                _ => fs::create_dir(&place).expect("a directory of ours"),
            }
        }
        (self.prepare)(&self.place("work"));
    }

    /// Runs the program behind some other words, and hands back what those wrote to their standard error.
    fn run(&self, before: &[&str]) -> (Output, [String; 2]) {
        self.set();
        let words = before.iter().copied().chain(self.command.iter().map(String::as_str));
        let words: Vec<&str> = words.collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.place("home"))
            .env("TMPDIR", self.place("tmp"))
            .env("AGENTREC_HOME", self.place("recordings"))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .current_dir(self.place("work"))
            .stdin(Stdio::null());
        let (mut stdout, to_stdout) = io::pipe().expect("a pipe");
        let (mut stderr, to_stderr) = io::pipe().expect("a pipe");
        let pipe = |fd: i32| {
            let link = fs::read_link(format!("/proc/self/fd/{fd}")).expect("it is open");
            link.into_os_string().into_string().expect("pipe:[number]")
        };
        let names = [pipe(stdout.as_raw_fd()), pipe(stderr.as_raw_fd())];
        let mut child = command
            .stdout(to_stdout)
            .stderr(to_stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", words[0]));
        // It holds ends of the pipes, for whose end the readers wait.
        drop(command);
        let errors = thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).expect("readable");
        let errors = errors.join().expect("the reader ended").expect("readable");
        let status = child.wait().expect("a child");
        (Output { status, stdout: bytes, stderr: errors }, names)
    }

    /// A run that nobody watches, which leaves caches outside of the stage as later runs find them.
    pub fn warm_up(&self) {
        let (output, _) = self.run(&[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A run under strace.
    pub fn reference(&self) -> Summary {
        let log = self.place("log");
        let log = log.to_str().expect("text");
        let cut = LONGEST_ARGUMENT.to_string();
        // All that works on files, descriptors, connections and processes: also what the recorder doesn't know of. On
        // one processor: the program waits for strace anyway, and is woken sooner there.
        let before = [
            "taskset",
            "-c",
            "0",
            "strace",
            "-f",
            "-q",
            "-y",
            "-xx",
            "-s",
            &cut,
            "--seccomp-bpf",
            "-e",
            "trace=%file,%desc,%network,%process",
            "-o",
            log,
            "--",
        ];
        let (output, pipes) = self.run(&before);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = strace::parse(&fs::read_to_string(log).expect("strace wrote it"));
        let work = self.place("work").into_os_string().into_encoded_bytes();
        reference(&lines, &work, [pipes[0].as_bytes(), pipes[1].as_bytes()]).summary()
    }

    /// A recorded run; its trace.
    pub fn record(&self) -> PathBuf {
        let (output, _) = self.run(&[AGENTREC, "run", "--json", "--engine", self.engine, "--"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        let closing = objects(&stderr).pop().expect("a closing line");
        let trace = closing["trace"]["text"].as_str().expect("a path");
        trace.into()
    }

    /// Compares a recorded run with one under strace.
    pub fn hold_against_strace(&self) {
        self.warm_up();
        let reference = self.reference();
        let recorded = recorded(&self.record()).summary();
        let differences = differences(&reference, &recorded);
        assert!(differences.is_empty(), "not the same deeds:\n{differences}");
    }
}

/// Writes a file.
pub fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("in a directory")).expect("a directory of ours");
    fs::write(path, content).expect("a file of ours");
}

/// Runs a preparing command.
pub fn must_run(dir: &Path, program: &str, args: &[&str]) {
    let mut command = Command::new(program);
    let devnull = File::options().write(true).open("/dev/null").expect("it is everywhere");
    command.args(args).current_dir(dir).env("HOME", dir.parent().expect("a stage").join("home"));
    command.stdin(Stdio::null()).stdout(devnull).env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z");
    assert!(command.status().expect("it runs").success(), "{program} {args:?}");
}
