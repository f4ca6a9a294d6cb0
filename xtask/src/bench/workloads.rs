//! The commands whose cost is measured, and what it takes to run them: the same in every bench.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agentrec_recorder::calls::covered;
use anyhow::{Context, Result, ensure};

use super::build;

/// Files that the second one reads.
const FILES: usize = 500;
/// Names that the first one opens in turn.
pub const NAMES: usize = 10;
/// Of so many opens it reads a byte after one.
pub const READS_ONE_OF: usize = 1_000;

/// A command in a directory of its own.
pub struct Workload {
    /// What it does.
    pub name: &'static str,
    /// The command.
    pub words: Vec<OsString>,
    /// Its directory.
    pub dir: PathBuf,
    /// What makes the directory ready for another run.
    prepare: fn(&Path) -> Result<()>,
}

impl Workload {
    /// A command that needs nothing made ready.
    pub fn new(name: &'static str, words: Vec<OsString>, dir: PathBuf) -> Self {
        Self { name, words, dir, prepare: |_| Ok(()) }
    }

    /// Makes its directory ready.
    pub fn prepare(&self) -> Result<()> {
        (self.prepare)(&self.dir)
    }

    /// Runs it once behind `prefix`, whose first word is a program too; `home` is where recordings go.
    pub fn run(&self, prefix: &[OsString], home: &Path) -> Result<()> {
        let mut words = prefix.iter().chain(&self.words);
        let program = words.next().context("a workload has a program")?;
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.dir).env("AGENTREC_HOME", home);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
        ensure!(status.success(), "{} failed: {command:?}", self.name);
        Ok(())
    }
}

/// Takes a workload's own time, from its fork to its end, whatever stands before it.
pub struct Stopwatch {
    program: PathBuf,
    took: PathBuf,
    home: PathBuf,
}

impl Stopwatch {
    /// With its files in `dir`, where recordings go, too.
    pub fn new(dir: &Path) -> Result<Self> {
        let program = compile(dir, "timed", include_str!("workloads/timed.c"))?;
        Ok(Self { program, took: dir.join("took"), home: dir.join("home") })
    }

    /// What stands directly before the workload's words.
    pub fn words(&self) -> [OsString; 2] {
        [self.program.clone().into(), self.took.clone().into()]
    }

    /// Runs a workload behind `prefix`; its seconds.
    pub fn seconds(&self, workload: &Workload, prefix: &[OsString]) -> Result<f64> {
        workload.prepare()?;
        let prefix: Vec<OsString> = prefix.iter().cloned().chain(self.words()).collect();
        workload.run(&prefix, &self.home)?;
        self.last()
    }

    /// The seconds of what ran last behind its words.
    pub fn last(&self) -> Result<f64> {
        let text = fs::read_to_string(&self.took).context("cannot read what it took")?;
        let nanos: f64 = text.trim().parse().context("what it took is no number")?;
        Ok(nanos / 1e9)
    }
}

/// All of them.
pub struct Workloads {
    dir: PathBuf,
    server: Server,
    open_close: PathBuf,
}

impl Workloads {
    /// Compiles what has to be, in `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        let server = Server::start(dir)?;
        let open_close = compile(dir, "open_close", include_str!("workloads/open_close.c"))?;
        Ok(Self { dir: dir.to_owned(), server, open_close })
    }

    fn place(&self, name: &str) -> Result<PathBuf> {
        let place = self.dir.join(name);
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        Ok(place)
    }

    /// Opens and closes in C, so many of each.
    pub fn opens(&self, name: &'static str, count: u32) -> Result<Workload> {
        let dir = self.place("opens")?;
        for number in 0..NAMES {
            fs::write(dir.join(format!("file{number}")), "content\n")?;
        }
        let words = vec![self.open_close.clone().into(), count.to_string().into()];
        Ok(Workload { name, words, dir, prepare: |_| Ok(()) })
    }

    /// An interpreter that starts, and small files.
    pub fn imports(&self) -> Result<Workload> {
        let dir = self.place("imports")?;
        fs::create_dir_all(dir.join("files"))?;
        for number in 0..FILES {
            let text = format!("file {number}\n").repeat(100);
            fs::write(dir.join(format!("files/{number}")), text)?;
        }
        fs::write(dir.join("imports.py"), include_str!("workloads/imports.py"))?;
        Ok(Workload {
            name: "Python imports 60 modules and reads 500 files",
            words: vec![python()?, "imports.py".into()],
            dir,
            prepare: |_| Ok(()),
        })
    }

    /// A build.
    pub fn make(&self) -> Workload {
        Workload {
            name: "`make -j2` of 50 C files",
            words: ["make", "-s", "-j2"].map(OsString::from).to_vec(),
            dir: self.dir.join("make"),
            prepare: build::write_sources,
        }
    }

    /// Requests to a server outside of the recorded tree.
    pub fn requests(&self) -> Result<Workload> {
        let dir = self.place("requests")?;
        fs::write(dir.join("requests.py"), include_str!("workloads/requests.py"))?;
        Ok(Workload {
            name: "1,000 local HTTP requests from Python",
            words: vec![python()?, "requests.py".into(), self.server.port.clone().into()],
            dir,
            prepare: |_| Ok(()),
        })
    }
}

/// What one call of getppid(2) takes, which nobody covers.
pub struct Getppid(PathBuf);

impl Getppid {
    /// Compiles it in `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        compile(dir, "getppid", include_str!("workloads/getppid.c")).map(Self)
    }

    /// Nanoseconds of one, behind `prefix`.
    pub fn measure(&self, prefix: &[OsString], home: &Path) -> Result<f64> {
        let words: Vec<OsString> = prefix.iter().cloned().chain([self.0.clone().into()]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("AGENTREC_HOME", home);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().with_context(|| format!("not a number: {text:?}"))
    }
}

/// strace with all calls that we cover, which writes to a file in `dir`.
pub fn strace(dir: &Path) -> Vec<OsString> {
    let calls: Vec<String> = covered().map(|name| format!("?{name}")).collect();
    let log = dir.join("strace.log").into_os_string();
    let words = ["strace", "-f", "--seccomp-bpf", "-e"].map(OsString::from);
    let calls = [format!("trace={}", calls.join(",")).into(), "-o".into(), log];
    words.into_iter().chain(calls).collect()
}

/// The same, on one CPU with the whole tree.
pub fn pinned_strace(dir: &Path) -> Vec<OsString> {
    // A CPU that exists: the last one of those that there are.
    let cpu = std::thread::available_parallelism().map_or(0, |count| count.get() - 1);
    let words = ["taskset".into(), "-c".into(), cpu.to_string().into()];
    words.into_iter().chain(strace(dir)).collect()
}

/// Several runs' seconds.
pub struct Spread {
    least: f64,
    /// The one in the middle.
    pub median: f64,
    most: f64,
}

impl Spread {
    /// Of these.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |place: usize| times.get(place).copied().unwrap_or(f64::NAN);
        Self { least: at(0), median: at(times.len() / 2), most: at(times.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} to {:.2}", self.least, self.most)
    }
}

/// The server of the requests: outside of the recorded tree.
struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start(dir: &Path) -> Result<Self> {
        let script = dir.join("server.py");
        fs::write(&script, include_str!("workloads/server.py"))?;
        let mut child = Command::new(python()?)
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let mut port = String::new();
        let output = child.stdout.take().context("a pipe was asked for")?;
        BufReader::new(output).read_line(&mut port).context("cannot read the server's port")?;
        Ok(Self { child, port: port.trim_end().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its input.
        self.child.stdin.take();
        self.child.wait().ok();
    }
}

/// The interpreter itself: `python3` may be a script that looks for one.
pub fn python() -> Result<OsString> {
    let asked = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .context("cannot run python3")?;
    Ok(String::from_utf8_lossy(&asked.stdout).trim().to_owned().into())
}

/// Compiles a program of ours.
pub fn compile(dir: &Path, name: &str, source: &str) -> Result<PathBuf> {
    let (from, to) = (dir.join(name).with_extension("c"), dir.join(name));
    fs::write(&from, source).with_context(|| format!("cannot write {}", from.display()))?;
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-static", "-o"]).arg(&to).arg(&from);
    ensure!(cc.status().context("cannot run cc")?.success(), "{name}.c does not compile");
    Ok(to)
}
