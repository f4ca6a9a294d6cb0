//! Runs a program under an engine alone, without a session, and gathers what it reports.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use agentrec_recorder::ebpf::Watcher;
use agentrec_recorder::mailbox::{Inbox, Outbox, mailbox};
use agentrec_recorder::ptrace::{Filter, Tracer};
use agentrec_recorder::source::{Captured, Config, Control, ExitStatus, Report};
use agentrec_trace::Data;
use tempfile::TempDir;

use super::lines::lines;

/// The descriptor number that these tests keep for the session's socket.
pub const RESERVED_FD: i32 = 900;
/// Tracees that load libraries.
const DYNAMIC: [&str; 1] = ["tls"];
/// Who has no rights.
const NOBODY: u32 = 65534;

/// Who traces and is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Same,
    /// A user without any capability; needs root to become.
    Nobody,
}

impl User {
    /// Everybody that the tests can be run as.
    pub fn all() -> Vec<Self> {
        // SAFETY: reads an id.
        let root = unsafe { libc::geteuid() } == 0;
        if root { vec![Self::Same, Self::Nobody] } else { vec![Self::Same] }
    }
}

/// What records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Ptrace,
    /// Needs root.
    Ebpf,
}

/// What a tracee is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// What the tests are compiled for.
    Native,
    /// 32-bit x86.
    I386,
}

impl Abi {
    /// All that programs can be compiled for here. That i386 is not missing by accident is a test of its own.
    pub fn all() -> Vec<Self> {
        if Self::can_compile_i386() { vec![Self::Native, Self::I386] } else { vec![Self::Native] }
    }

    /// Whether the C compiler makes 32-bit programs, and they run.
    pub fn can_compile_i386() -> bool {
        static CAN: LazyLock<bool> = LazyLock::new(|| {
            let dir = tempfile::tempdir().unwrap();
            let (source, program) = (dir.path().join("empty.c"), dir.path().join("empty"));
            fs::write(&source, "#include <stdlib.h>\nint main(void) { exit(0); }\n").unwrap();
            let compiled = Command::new("cc")
                .args(["-m32", "-static", "-o"])
                .args([&program, &source])
                .stderr(Stdio::null())
                .status();
            compiled.is_ok_and(|status| status.success())
                && Command::new(&program).status().is_ok_and(|status| status.success())
        });
        cfg!(target_arch = "x86_64") && *CAN
    }

    /// The compiler's option.
    fn option(self) -> Option<&'static str> {
        (self == Self::I386).then_some("-m32")
    }

    /// Where programs of this ABI are kept.
    fn folder(self) -> &'static str {
        match self {
            Self::Native => "tracees",
            Self::I386 => "tracees-i386",
        }
    }
}

/// Every ABI with every user.
pub fn all_kinds() -> Vec<(Abi, User)> {
    let abis = Abi::all().into_iter();
    abis.flat_map(|abi| User::all().into_iter().map(move |user| (abi, user))).collect()
}

/// A directory for a tracee, and a program to be run there.
pub struct Recording {
    dir: TempDir,
    program: PathBuf,
    tracee: Option<(String, Abi)>,
    args: Vec<OsString>,
    user: User,
    engine: Engine,
    socket: Option<PathBuf>,
    stdin: Option<OwnedFd>,
    stdout: Option<PathBuf>,
}

/// A tracee that is not traced: a server outside of the tree, until its standard input ends.
pub struct Outside(Child);

impl Outside {
    /// Starts it in `dir`, and waits until it says that it is ready.
    pub fn start(name: &str, dir: &Path, args: &[&str]) -> Self {
        let mut server = Command::new(compiled(Abi::Native, name));
        server.args(args).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut ready = [0; 6];
        server.stdout.as_mut().expect("piped").read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"ready\n");
        Self(server)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

/// A program that is being recorded.
pub struct Running {
    dir: TempDir,
    reports: Inbox<Report>,
    seen: Vec<Report>,
    control: Control,
    command: JoinHandle<io::Result<(Vec<u8>, Vec<u8>)>>,
    tracer: JoinHandle<Result<(), String>>,
    /// The command's process.
    pub pid: i32,
}

/// What came of it.
pub struct Recorded {
    dir: PathBuf,
    pub reports: Vec<Report>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Recording {
    /// A program of the system.
    pub fn program(program: impl Into<PathBuf>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = program.into();
        Self {
            dir,
            program,
            tracee: None,
            args: Vec::new(),
            user: User::Same,
            engine: Engine::Ptrace,
            socket: None,
            stdin: None,
            stdout: None,
        }
    }

    /// The program that `tests/tracees/NAME.c` becomes, in a directory of its own as `tracee`.
    pub fn tracee(name: &str) -> Self {
        let recording = Self::program("");
        let program = recording.dir.path().join("tracee");
        Self { program, tracee: Some((name.to_owned(), Abi::Native)), ..recording }
    }

    /// What the tracee is compiled for, if not for this machine's own ABI.
    pub fn abi(mut self, abi: Abi) -> Self {
        if let Some(tracee) = &mut self.tracee {
            tracee.1 = abi;
        }
        self
    }

    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn user(mut self, user: User) -> Self {
        self.user = user;
        self
    }

    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Where the session's socket is, in the program's directory.
    pub fn socket(mut self, name: &str) -> Self {
        self.socket = Some(self.dir().join(name));
        self
    }

    /// Standard input is not /dev/null.
    pub fn stdin(mut self, stdin: OwnedFd) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// Standard output goes to a new file of this name in the program's directory, not to the test.
    pub fn stdout(mut self, name: &str) -> Self {
        self.stdout = Some(self.dir().join(name));
        self
    }

    /// Prepares the program's directory.
    pub fn with(self, prepare: impl FnOnce(&Path)) -> Self {
        prepare(&self.dir());
        self
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// Starts the program and its tracer.
    pub fn start(self) -> Running {
        if let Some((name, abi)) = &self.tracee {
            copy_tracee(*abi, name, &self.program);
        }
        let cwd = self.dir();
        let uid = (self.user == User::Nobody).then_some(NOBODY);
        if let Some(uid) = uid {
            give(&cwd, uid);
        }
        let env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
        let config = Config {
            cwd: cwd.clone(),
            env: env.clone(),
            reserved_fd: Some(RESERVED_FD),
            socket: self.socket,
            outputs: vec![1, 2],
            front: 0,
        };
        let (mut pid_from, pid_to) = io::pipe().unwrap();
        let (go_from, mut go_to) = io::pipe().unwrap();
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(&cwd).env_clear().envs(env);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(stdin) = self.stdin {
            command.stdin(stdin);
        }
        if let Some(path) = &self.stdout {
            command.stdout(File::create_new(path).unwrap());
        }
        let filter = (self.engine == Engine::Ptrace).then(|| Filter::new(&config));
        hold_back(&mut command, filter, uid, pid_to, go_from);
        // `spawn` returns only after the exec, which waits for the tracer.
        let command = thread::spawn(move || command.spawn().and_then(output));
        let mut pid = [0; 4];
        pid_from.read_exact(&mut pid).unwrap();
        let pid = i32::from_ne_bytes(pid);
        let (send, reports) = mailbox();
        let (control_to, control_from) = sync_channel(1);
        let mut go = move |control| {
            control_to.send(control).unwrap();
            go_to.write_all(b"!").unwrap();
        };
        let tracer = match self.engine {
            Engine::Ptrace => thread::spawn(move || {
                // Who becomes another user makes the whole process undumpable for a moment, and with it what another thread
                // forks then, which an ordinary user may not trace (ptrace(2), PTRACE_MODE_ATTACH).
                static SEIZING: Mutex<()> = Mutex::new(());
                let one_at_a_time = SEIZING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if let Some(uid) = uid {
                    become_user(uid).unwrap();
                }
                let seized = Tracer::<Report>::seize(pid, &config, send);
                drop(one_at_a_time);
                let (tracer, control) = seized.map_err(|error| error.to_string())?;
                go(control);
                tracer.run().map_err(|error| error.to_string())
            }),
            Engine::Ebpf => thread::spawn(move || watch(pid, &config, &send, go)),
        };
        let control = control_from.recv().expect("the tracer started");
        Running { dir: self.dir, reports, seen: Vec::new(), control, command, tracer, pid }
    }

    /// Runs it to the end of its tree.
    pub fn run(self) -> Recorded {
        self.start().finish()
    }
}

/// Watches a tree by the one watcher that all tests share: the kernel takes seconds to let its programs go.
fn watch(
    pid: i32,
    config: &Config,
    reports: &Outbox<Report>,
    go: impl FnOnce(Control),
) -> Result<(), String> {
    type Shared = (Watcher<Report>, Control, Inbox<Report>);
    static SHARED: Mutex<Option<Shared>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.is_none() {
        let (send, reports) = mailbox();
        let (watcher, control) =
            Watcher::new(config, None, send).map_err(|error| error.to_string())?;
        *shared = Some((watcher, control, reports));
    }
    let (watcher, control, seen) = shared.as_mut().expect("it was just made");
    watcher.follow(pid, config).map_err(|error| error.to_string())?;
    go(control.clone());
    thread::scope(|scope| {
        let watching = scope.spawn(|| watcher.watch().map_err(|error| error.to_string()));
        for report in seen.iter() {
            let ended = report == Report::TreeEnded;
            reports.send(report).unwrap();
            if ended {
                break;
            }
        }
        watching.join().unwrap()
    })
}

/// Puts the program that `tests/tracees/NAME.c` becomes where it can be executed.
pub fn copy_tracee(abi: Abi, name: &str, to: &Path) {
    // By another process: what this one has open for writing, a child of another test may have too, for a moment, and
    // then it can't be executed (ETXTBSY).
    let copied = Command::new("cp").arg(compiled(abi, name)).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Compiles a tracee, once for all tests.
fn compiled(abi: Abi, name: &str) -> PathBuf {
    static COMPILING: Mutex<()> = Mutex::new(());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tracees");
    let source = sources.join(name).with_extension("c");
    let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join(abi.folder());
    let program = into.join(name);
    let _one_at_a_time = COMPILING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    let newest = modified(&source).unwrap().max(modified(&sources.join("tracee.h")).unwrap());
    if modified(&program).is_ok_and(|compiled| compiled > newest) {
        return program;
    }
    fs::create_dir_all(&into).unwrap();
    // Static: a dynamic linker opens files of its own. Renamed: tests may run in several processes.
    let is_static = (!DYNAMIC.contains(&name)).then_some("-static");
    let fresh = into.join(format!("{name}.{}", std::process::id()));
    let status = Command::new("cc")
        .args(["-O1", "-pthread", "-Wall", "-Werror", "-Wno-nonnull"])
        .args(is_static)
        .args(abi.option())
        .arg("-o")
        .args([&fresh, &source])
        .status()
        .expect("a C compiler is there");
    assert!(status.success(), "{name}.c compiles");
    fs::rename(&fresh, &program).unwrap();
    program
}

fn give(path: &Path, uid: u32) {
    if path.is_dir() && !path.is_symlink() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
    lchown(path, Some(uid), Some(uid)).unwrap();
}

/// What the program printed. Its status is the tracer's to wait for, which lives in this process too.
fn output(mut child: Child) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut stderr = child.stderr.take().expect("piped");
    let stderr = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut stdout = Vec::new();
    if let Some(mut piped) = child.stdout.take() {
        piped.read_to_end(&mut stdout)?;
    }
    Ok((stdout, stderr.join().expect("the reader ended")?))
}

/// The child says who it is, waits to be traced, and becomes what it is to be.
fn hold_back(
    command: &mut Command,
    filter: Option<Filter>,
    uid: Option<u32>,
    pid_to: PipeWriter,
    go_from: PipeReader,
) {
    let prepare = move || {
        if let Some(uid) = uid {
            become_user(uid)?;
        }
        // Whatever the test runner left open goes with the exec, and the tracer can see that.
        // SAFETY: marks descriptors, which the exec then closes.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        (&pid_to).write_all(&std::process::id().to_ne_bytes())?;
        (&go_from).read_exact(&mut [0])?;
        if let Some(filter) = &filter {
            let no_new_privs = filter.install()?;
            assert_eq!(no_new_privs.0, uid.is_some());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated.
    unsafe { command.pre_exec(prepare) };
}

/// Makes the calling thread, and it alone, a user without any right.
fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: system calls on this thread alone, unlike the C library's functions, which change all threads. A
    // process that changed its user can't be traced until it says so again (prctl(2), PR_SET_DUMPABLE).
    let done = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, 0) == 0
            && libc::syscall(libc::SYS_setresgid, uid, uid, uid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
            && libc::prctl(libc::PR_SET_DUMPABLE, 1) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Running {
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The program's directory.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// Waits for the first report that `wanted` picks.
    pub fn wait_for<T>(&mut self, mut wanted: impl FnMut(&Report) -> Option<T>) -> T {
        loop {
            let report = self.reports.recv().expect("the report comes before the tree ends");
            let found = wanted(&report);
            self.seen.push(report);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Waits until the tree opened a file of this name.
    pub fn wait_for_open(&mut self, name: &str) {
        let path = self.dir().join(name);
        self.wait_for(|report| match report {
            Report::Event(Captured { event, .. }) => match &event.data {
                Data::FileOpen(open) => (open.path.as_path() == path).then_some(()),
                _ => None,
            },
            _ => None,
        });
    }

    pub fn finish(self) -> Recorded {
        self.finish_with(|| ())
    }

    /// Calls `at_end` before the program's directory goes.
    pub fn finish_with(mut self, at_end: impl FnOnce()) -> Recorded {
        self.seen.extend(self.reports.iter());
        at_end();
        self.tracer.join().unwrap().unwrap();
        let (stdout, stderr) = self.command.join().unwrap().unwrap();
        assert_eq!(self.seen.last(), Some(&Report::TreeEnded));
        let dir = self.dir.path().canonicalize().unwrap();
        Recorded { dir, reports: self.seen, stdout, stderr }
    }
}

impl Recorded {
    /// All events in order.
    pub fn captured(&self) -> impl Iterator<Item = &Captured> {
        self.reports.iter().filter_map(|report| match report {
            Report::Event(captured) => Some(captured),
            _ => None,
        })
    }

    /// One line an event, see [`lines`].
    pub fn lines(&self) -> Vec<String> {
        lines(self.captured(), &self.dir)
    }

    /// How the command ended.
    pub fn status(&self) -> ExitStatus {
        let status = |report: &Report| match report {
            Report::CommandExited(status) => Some(*status),
            _ => None,
        };
        self.reports.iter().find_map(status).expect("the command ended")
    }
}

/// Runs a tracee for every ABI, as everybody, and compares all its events but the first exec and the last exit, which
/// is with code 0.
pub fn expect(name: &str, prepare: impl Fn(&Path), expected: &[&str]) {
    for abi in Abi::all() {
        expect_for(abi, name, &prepare, expected);
    }
}

/// The same for one ABI.
pub fn expect_for(abi: Abi, name: &str, prepare: impl Fn(&Path), expected: &[&str]) {
    for user in User::all() {
        let recorded = Recording::tracee(name).abi(abi).with(&prepare).user(user).run();
        let lines = recorded.lines();
        let shown = lines.join("\n");
        let [first, between @ .., last] = &lines[..] else { panic!("too few events:\n{shown}") };
        assert_eq!(first, "p1 exec tracee [tracee] []", "{abi:?} as {user:?}:\n{shown}");
        assert_eq!(last, "p1 exit 0", "{abi:?} as {user:?}:\n{shown}");
        assert!(between == expected, "{abi:?} as {user:?}: events:\n{shown}");
    }
}
