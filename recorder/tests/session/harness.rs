//! Runs programs under a whole recorder (`examples/record.rs`), each with a data directory and a tree of its own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use agentrec_recorder::Recording;
use agentrec_trace::{Data, Event, ProcId, Reader};
use nix::sys::signal::{self, SigHandler, Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The recorder program, which `cargo test --test` does not build by itself.
pub fn recorder() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        // Whoever starts the tests in the background or under nohup has signals ignored, and a command inherits that.
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
            // SAFETY: the default disposition runs no code of ours.
            unsafe { signal::signal(signal, SigHandler::SigDfl) }.unwrap();
        }
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", env!("CARGO_PKG_NAME"), "--example", "record"])
            .status()
            .unwrap();
        assert!(built.success());
        // target/debug/deps/session-… -> target/debug/examples/record
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().join("examples/record")
    })
}

/// A place to record in: `tree` is the working directory, `home` the data directory.
pub struct Place {
    dir: TempDir,
    pub home: PathBuf,
    pub options: Vec<String>,
}

/// A recording that has ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// What the recorder said at the end.
    pub recording: Option<Recording>,
    pub trace: PathBuf,
}

/// A recording under way; killed when the test gives up on it.
pub struct Running {
    pub front: Front,
    pub stdin: Option<ChildStdin>,
    pub stdout: BufReader<ChildStdout>,
    pub trace: PathBuf,
}

/// The front, which takes the tree with it when it is killed.
pub struct Front(pub Child);

impl Front {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Does nothing once it was waited for.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("agentrec-").tempdir().unwrap();
        for name in ["home", "tree"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { home: dir.path().join("home"), dir, options: Vec::new() }
    }

    /// With an option of `examples/record.rs`.
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| option.to_string()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn tree(&self, name: &str) -> PathBuf {
        self.path("tree").join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        let path = self.tree(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.tree(name)).unwrap()
    }

    pub fn trace(&self) -> PathBuf {
        self.path("trace.zst")
    }

    /// The recorder with this command; nothing of the tests' environment is in it.
    pub fn command(&self, argv: &[impl AsRef<OsStr>]) -> Command {
        let mut command = self.recorder();
        command.arg("--").args(argv);
        command
    }

    fn recorder(&self) -> Command {
        let mut command = Command::new(recorder());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("LC_ALL", "C")
            .env("HOME", self.path("home"))
            .env("AGENTREC_HOME", &self.home)
            .current_dir(self.path("tree"))
            .arg("-o")
            .arg(self.trace())
            .args(&self.options)
            .stdin(Stdio::null());
        command
    }

    /// The recorder, attaching to a process that runs already.
    pub fn attaching(&self, pid: u32) -> Command {
        let mut command = self.recorder();
        command.args(["--attach", &pid.to_string()]);
        command
    }

    /// Records to the end.
    pub fn run(&self, argv: &[impl AsRef<OsStr>]) -> Ended {
        self.ended(self.command(argv))
    }

    /// Records a shell script to the end.
    pub fn sh(&self, script: &str) -> Ended {
        self.run(&["sh", "-c", script])
    }

    pub fn ended(&self, mut command: Command) -> Ended {
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ended {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            recording: recording(&stderr),
            stderr,
            trace: self.trace(),
        }
    }

    /// Begins to record.
    pub fn start(&self, argv: &[impl AsRef<OsStr>]) -> Running {
        self.started(self.command(argv))
    }

    pub fn started(&self, mut command: Command) -> Running {
        let mut front = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = front.stdin.take();
        let stdout = BufReader::new(front.stdout.take().unwrap());
        Running { front: Front(front), stdin, stdout, trace: self.trace() }
    }

    /// The socket of the only session that runs here.
    pub fn socket(&self) -> PathBuf {
        let mut sockets = std::fs::read_dir(self.path("home/run")).unwrap();
        let socket = sockets.find(|entry| {
            entry.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|e| e == "sock"))
        });
        socket.expect("a session runs").unwrap().path()
    }
}

/// CLOCK_BOOTTIME in nanoseconds, as events have it.
pub fn boottime() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Compiles `tests/tracees/NAME.c` with one more option; whether the compiler could.
pub fn compile_tracee(name: &str, option: Option<&str>, to: &Path) -> bool {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tracees");
    let mut compiler = Command::new("cc");
    compiler.args(["-static", "-O1", "-pthread", "-Wall", "-Werror", "-Wno-nonnull"]).args(option);
    compiler.arg("-o").args([to, &sources.join(name).with_extension("c")]);
    compiler.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The only child of a process.
pub fn child_of(parent: u32) -> Pid {
    let children = children_of(parent);
    let [(child, _)] = children[..] else { panic!("{parent} has the children {children:?}") };
    child
}

/// The children of a process, with their process groups.
pub fn children_of(parent: u32) -> Vec<(Pid, Pid)> {
    let child = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat[stat.rfind(')')? + 2..].split(' ').skip(1);
        let (its_parent, group) = (fields.next()?, fields.next()?);
        let group = Pid::from_raw(group.parse().ok()?);
        (its_parent.parse() == Ok(parent)).then_some((Pid::from_raw(pid), group))
    };
    let names = std::fs::read_dir("/proc").unwrap();
    let pids = names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(child).collect()
}

fn recording(stderr: &str) -> Option<Recording> {
    let line = stderr.lines().find_map(|line| line.strip_prefix("record: {"))?;
    serde_json::from_str(&format!("{{{line}")).ok()
}

impl Running {
    /// The next line that the command writes.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn front_pid(&self) -> Pid {
        Pid::from_raw(self.front.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.front_pid(), signal).unwrap();
    }

    /// The recorder process, as soon as there is one: the child of the front that leads a group of its own.
    pub fn recorder_pid(&self) -> Pid {
        loop {
            let mut children = children_of(self.front.id()).into_iter();
            if let Some((pid, _)) = children.find(|(pid, group)| pid == group) {
                return pid;
            }
            std::thread::yield_now();
        }
    }

    /// Waits for the front, and for everybody who holds the command's output: the whole tree.
    pub fn end(mut self) -> Ended {
        drop(self.stdin.take());
        let mut stdout = Vec::new();
        self.stdout.read_to_end(&mut stdout).unwrap();
        let mut stderr = String::new();
        self.front.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Ended {
            status: self.front.wait(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            recording: recording(&stderr),
            stderr,
            trace: self.trace,
        }
    }
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("killed by {:?}", self.status.signal()))
    }

    pub fn recording(&self) -> &Recording {
        self.recording.as_ref().unwrap_or_else(|| panic!("no recording: {}", self.stderr))
    }

    pub fn reader(&self) -> Reader {
        Reader::open(&self.trace).unwrap()
    }

    pub fn events(&self) -> Vec<Event<'static>> {
        events(&self.trace)
    }
}

/// All events of a trace, with what was put into objects back in them.
pub fn events(trace: &Path) -> Vec<Event<'static>> {
    let reader = Reader::open(trace).unwrap();
    reader.iter().map(|event| reader.resolve(event.unwrap()).unwrap()).collect()
}

/// Waits until nobody writes the trace any more.
pub fn wait_for_recorder(trace: &Path) {
    File::open(trace).unwrap().lock_shared().unwrap();
}

/// The process whose exec ran a program of this name.
pub fn proc_of(events: &[Event<'_>], program: &str) -> Option<ProcId> {
    let exec = events.iter().find(|event| match &event.data {
        Data::ProcessExec(exec) => {
            exec.errno.is_none() && exec.path.as_path().file_name() == Some(OsStr::new(program))
        }
        _ => false,
    });
    exec?.proc
}

/// The reasons of all losses.
pub fn losses(events: &[Event<'_>]) -> Vec<String> {
    let reason = |event: &Event<'_>| match &event.data {
        Data::Lost(lost) => Some(format!("{}: {}", lost.place, lost.reason)),
        _ => None,
    };
    events.iter().filter_map(reason).collect()
}
