//! Runs a program twice in one place, as it is and recorded, and gathers what can be seen of it from outside.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::common::TestEnv;

/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(100);

/// What can be seen of a run from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The code, or 128 + n for a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// What it left in its directory: mode and content of files, targets of links.
    pub files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
}

/// A place where programs run.
pub struct Battery {
    pub env: TestEnv,
    wrap: Box<dyn Fn(Command) -> Command>,
}

impl Battery {
    pub fn new() -> Self {
        Self { env: TestEnv::new(), wrap: Box::new(|command| command) }
    }

    /// How the program, or `agentrec` in its place, is started.
    pub fn started_by(self, wrap: impl Fn(Command) -> Command + 'static) -> Self {
        Self { wrap: Box::new(wrap), ..self }
    }

    /// Runs it both ways; both must look the same, and end with `code`. Gives what was seen.
    pub fn same<S: AsRef<OsStr>>(&self, code: i32, argv: &[S]) -> Seen {
        let plain = self.plain(argv);
        let recorded = self.recorded(argv);
        assert_same(&plain, &recorded);
        assert_eq!(plain.code, code, "{plain:#?}");
        plain
    }

    /// As [`same`](Self::same), for a script of bash.
    pub fn same_script(&self, code: i32, script: &str) -> Seen {
        self.same(code, &["bash", "-c", script])
    }

    /// As [`same`](Self::same), for one of `programs/`, which ends with code 0.
    pub fn same_program(&self, name: &str, args: &[&str]) -> Seen {
        let program = compiled(name, &[]);
        let argv: Vec<&OsStr> =
            [program.as_os_str()].into_iter().chain(args.iter().map(OsStr::new)).collect();
        self.same(0, &argv)
    }

    pub fn plain<S: AsRef<OsStr>>(&self, argv: &[S]) -> Seen {
        self.clear();
        let mut command = self.env.command(argv[0].as_ref());
        command.args(&argv[1..]);
        self.watch(command)
    }

    pub fn recorded<S: AsRef<OsStr>>(&self, argv: &[S]) -> Seen {
        self.clear();
        let mut command = self.env.agentrec(["run", "--quiet", "--name", "recorded", "--"]);
        command.args(argv);
        self.watch(command)
    }

    fn clear(&self) {
        let work = self.env.work();
        let _ = fs::remove_dir_all(&work);
        fs::create_dir(&work).expect("a directory of ours");
    }

    fn watch(&self, command: Command) -> Seen {
        let mut command = (self.wrap)(command);
        // A group of its own: some programs send signals to theirs.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let output = wait(command.spawn().expect("it starts"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let status = output.status;
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        Seen {
            code: code.expect("it ended"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            files: files(&self.env.work()),
        }
    }
}

/// Fails with the first difference.
pub fn assert_same(plain: &Seen, recorded: &Seen) {
    for (what, plain, recorded) in
        [("stdout", &plain.stdout, &recorded.stdout), ("stderr", &plain.stderr, &recorded.stderr)]
    {
        for (number, (plain, recorded)) in plain.lines().zip(recorded.lines()).enumerate() {
            assert_eq!(recorded, plain, "recorded (left) and plain differ in {what}:{number}");
        }
    }
    assert_eq!(recorded, plain, "recorded (left) and plain differ");
}

/// Waits for the end; whoever takes too long is killed, and fails the test by its status.
pub fn wait(child: Child) -> std::process::Output {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let (done, is_done) = channel::<()>();
    let guard = thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("killed: it hung");
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
        }
    });
    let output = child.wait_with_output().expect("it can be waited for");
    drop(done);
    guard.join().expect("no panic");
    output
}

fn files(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).expect("readable").flatten() {
            let path = entry.path();
            let metadata = path.symlink_metadata().expect("still there");
            let content = if metadata.is_dir() {
                dirs.push(path.clone());
                Vec::new()
            } else if metadata.is_file() {
                fs::read(&path).unwrap_or_default()
            } else {
                Vec::new()
            };
            let name = path.strip_prefix(dir).expect("it is below").to_owned();
            found.insert(name, (metadata.mode(), content));
        }
    }
    found
}

/// What `programs/NAME.c` becomes; compiled once, and again when it changed.
pub fn compiled(name: &str, flags: &[&str]) -> PathBuf {
    static COMPILING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = COMPILING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli_transparency/programs");
    let source = sources.join(name).with_extension("c");
    let into = programs_dir();
    let program = into.join(format!("{name}{}", flags.concat().replace('=', "-")));
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    let newest = modified(&source).expect("it is there");
    let newest = newest.max(modified(&sources.join("program.h")).expect("it is there"));
    if modified(&program).is_ok_and(|compiled| compiled > newest) {
        return program;
    }
    let fresh = into.join(format!("{name}.{}", std::process::id()));
    // Static where nothing else is asked for: a dynamic linker opens files of its own.
    let flags = if flags.is_empty() { &["-static"] } else { flags };
    let status = Command::new("cc")
        .args(["-O1", "-g", "-pthread", "-Wall", "-Werror"])
        .args(flags)
        .arg("-o")
        .args([&fresh, &source])
        .status()
        .expect("a C compiler is there");
    assert!(status.success(), "{name}.c compiles");
    fs::rename(&fresh, &program).expect("the same directory");
    program
}

/// Below the target directory, or where that is somebody else's, below the one for temporary files.
fn programs_dir() -> PathBuf {
    let uid = nix::unistd::geteuid();
    let ours = |dir: PathBuf| {
        fs::create_dir_all(&dir).ok()?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).ok()?;
        Some(dir)
    };
    ours(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("transparency-{uid}")))
        .or_else(|| ours(std::env::temp_dir().join(format!("agentrec-test-programs-{uid}"))))
        .expect("some place for programs")
}
