//! What recording costs a command: four workloads beside strace, which covers the same calls and writes to a file.
//!
//! One round runs each workload untraced, under strace as a user starts it, under strace on the tracee's CPU, and recorded,
//! so that what else the machine does falls on all alike.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agentrec_recorder::calls::covered;
use anyhow::{Context, Result, ensure};

use super::{Bar, Section, build, time};
use crate::workspace;

/// Opens and closes of the first workload.
const OPENS: u32 = 200_000;
/// Files that the second one reads.
const FILES: usize = 500;
/// What a call that no recorder covers may cost more, nanoseconds.
const UNTRACED_CALL: f64 = 100.0;

/// How a workload runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Untraced,
    Strace,
    PinnedStrace,
    Recorded,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Untraced, Self::Strace, Self::PinnedStrace, Self::Recorded];

    /// What stands before the workload's own words.
    fn prefix(self, dir: &Path) -> Vec<OsString> {
        let strace = || {
            let calls: Vec<String> = covered().map(|name| format!("?{name}")).collect();
            let log = dir.join("strace.log").into_os_string();
            let words = ["strace", "-f", "--seccomp-bpf", "-e"].map(OsString::from);
            let calls = [format!("trace={}", calls.join(",")).into(), "-o".into(), log];
            words.into_iter().chain(calls).collect::<Vec<_>>()
        };
        match self {
            Self::Untraced => Vec::new(),
            Self::Strace => strace(),
            Self::PinnedStrace => {
                let cpu = last_cpu().to_string();
                let words = ["taskset", "-c", &cpu].map(OsString::from);
                words.into_iter().chain(strace()).collect()
            }
            Self::Recorded => {
                let agentrec = workspace::target().join("release/agentrec").into_os_string();
                let trace = dir.join("trace.zst").into_os_string();
                let words = ["run", "--overwrite", "-o"].map(OsString::from);
                [agentrec].into_iter().chain(words).chain([trace, "--".into()]).collect()
            }
        }
    }
}

/// A command in a directory of its own.
struct Workload {
    name: &'static str,
    words: Vec<OsString>,
    dir: PathBuf,
    /// What makes the directory ready for another run.
    prepare: fn(&Path) -> Result<()>,
    bars: Bars,
}

/// Most times the duration under strace.
struct Bars {
    pinned: Bar,
    started: Bar,
    better: Bar,
}

impl Workload {
    fn run(&self, mode: Mode, dir: &Path) -> Result<f64> {
        (self.prepare)(&self.dir)?;
        let prefix = mode.prefix(dir);
        let mut words = prefix.iter().chain(&self.words);
        let program = words.next().context("a workload has a program")?;
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.dir).env("AGENTREC_HOME", dir.join("home"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (status, took) =
            time(|| command.status().with_context(|| format!("cannot run {command:?}")))?;
        ensure!(status.success(), "{} failed: {command:?}", self.name);
        Ok(took.as_secs_f64())
    }
}

/// Measures everything with so many rounds; whether all bars are met. Only the workloads whose names contain `filter`.
pub fn run(rounds: usize, filter: &str) -> Result<bool> {
    let dir = workspace::target().join("bench-run");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    build::agentrec()?;
    let server = Server::start(&dir)?;
    let mut section = Section::new("run", "What recording costs a command");
    for workload in workloads(&dir, &server)? {
        if workload.name.contains(filter) {
            measure(&workload, rounds, &dir, &mut section)?;
        }
    }
    drop(server);
    getppid(rounds, &dir, &mut section)?;
    section.note(format!(
        "Wall time of the whole command, the recorder's start, two snapshots and the seal included; medians of {rounds} interleaved \
         rounds. strace is `strace -f --seccomp-bpf -o FILE` with all calls that we cover; pinned, strace and the \
         whole tree are on one CPU."
    ));
    if rounds < 7 || !filter.is_empty() {
        eprintln!("docs/benchmarks.md is left as it is: that takes 7 rounds of everything");
        return Ok(true);
    }
    section.finish()
}

fn measure(workload: &Workload, rounds: usize, dir: &Path, section: &mut Section) -> Result<()> {
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        for (mode, times) in Mode::ALL.into_iter().zip(&mut times) {
            times.push(workload.run(mode, dir)?);
        }
    }
    let [untraced, started, pinned, recorded] = times.map(Spread::of);
    let name = workload.name;
    section.figure(format!("{name}, untraced"), untraced.median, "s", Bar::Seen);
    for (what, times) in
        [("strace", &started), ("strace, pinned", &pinned), ("recorded", &recorded)]
    {
        let what = format!("{name}, {what} ({times} s)");
        section.figure(what, times.median / untraced.median, "times untraced", Bar::Seen);
    }
    let better = started.median.min(pinned.median);
    let Bars { pinned: pinned_bar, started: started_bar, better: better_bar } = workload.bars;
    for (beside, time, bar) in [
        ("pinned strace", pinned.median, pinned_bar),
        ("strace as started", started.median, started_bar),
        ("the better of the two", better, better_bar),
    ] {
        if !matches!(bar, Bar::Seen) {
            let what = format!("{name}, recorded beside {beside}");
            section.figure(what, recorded.median / time, "times", bar);
        }
    }
    Ok(())
}

/// Seconds of several runs.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |place: usize| times.get(place).copied().unwrap_or(f64::NAN);
        Self { least: at(0), median: at(times.len() / 2), most: at(times.len() - 1) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} to {:.2}", self.least, self.most)
    }
}

fn workloads(dir: &Path, server: &Server) -> Result<Vec<Workload>> {
    let better = || Bars { pinned: Bar::Seen, started: Bar::Seen, better: Bar::AtMost(0.9) };
    let place = |name: &str| -> Result<PathBuf> {
        let place = dir.join(name);
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        Ok(place)
    };
    let opens = place("opens")?;
    fs::write(opens.join("file"), "content\n")?;
    let program = compile(dir, "open_close", include_str!("run/open_close.c"))?;
    let imports = place("imports")?;
    fs::create_dir_all(imports.join("files"))?;
    for number in 0..FILES {
        fs::write(imports.join(format!("files/{number}")), format!("file {number}\n").repeat(100))?;
    }
    fs::write(imports.join("imports.py"), include_str!("run/imports.py"))?;
    let requests = place("requests")?;
    fs::write(requests.join("requests.py"), include_str!("run/requests.py"))?;
    let python = python()?;
    Ok(vec![
        Workload {
            name: "200,000 opens and closes in C",
            words: vec![program.into(), OPENS.to_string().into()],
            dir: opens,
            prepare: |_| Ok(()),
            bars: Bars { pinned: Bar::AtMost(0.8), started: Bar::AtMost(0.2), better: Bar::Seen },
        },
        Workload {
            name: "Python imports 60 modules and reads 500 files",
            words: vec![python.clone(), "imports.py".into()],
            dir: imports,
            prepare: |_| Ok(()),
            bars: better(),
        },
        Workload {
            name: "`make -j2` of 50 C files",
            words: ["make", "-s", "-j2"].map(OsString::from).to_vec(),
            dir: dir.join("make"),
            prepare: build::write_sources,
            bars: better(),
        },
        Workload {
            name: "1,000 local HTTP requests from Python",
            words: vec![python, "requests.py".into(), server.port.clone().into()],
            dir: requests,
            prepare: |_| Ok(()),
            bars: better(),
        },
    ])
}

/// What a call that nobody covers costs.
fn getppid(rounds: usize, dir: &Path, section: &mut Section) -> Result<()> {
    let program = compile(dir, "getppid", include_str!("run/getppid.c"))?;
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..rounds {
        for (mode, times) in [Mode::Untraced, Mode::Recorded].into_iter().zip(&mut times) {
            let words: Vec<OsString> =
                mode.prefix(dir).into_iter().chain([program.clone().into()]).collect();
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).current_dir(dir).stderr(Stdio::null());
            command.env("AGENTREC_HOME", dir.join("home"));
            let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
            let text = String::from_utf8_lossy(&output.stdout);
            times.push(text.trim().parse().with_context(|| format!("not a number: {text:?}"))?);
        }
    }
    let [untraced, recorded] = times.map(|times| Spread::of(times).median);
    section.figure("getppid(2), untraced", untraced, "ns", Bar::Seen);
    let more = recorded - untraced;
    section.figure("the same, recorded: more", more, "ns", Bar::AtMost(UNTRACED_CALL));
    Ok(())
}

/// The server of the last workload: outside of the recorded tree.
struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start(dir: &Path) -> Result<Self> {
        let script = dir.join("server.py");
        fs::write(&script, include_str!("run/server.py"))?;
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
fn python() -> Result<OsString> {
    let asked = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .context("cannot run python3")?;
    Ok(String::from_utf8_lossy(&asked.stdout).trim().to_owned().into())
}

/// Compiles a program of ours.
pub(super) fn compile(dir: &Path, name: &str, source: &str) -> Result<PathBuf> {
    let (from, to) = (dir.join(name).with_extension("c"), dir.join(name));
    fs::write(&from, source).with_context(|| format!("cannot write {}", from.display()))?;
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-static", "-o"]).arg(&to).arg(&from);
    ensure!(cc.status().context("cannot run cc")?.success(), "{name}.c does not compile");
    Ok(to)
}

/// A CPU that exists: the last one of those that there are.
fn last_cpu() -> usize {
    std::thread::available_parallelism().map_or(0, |count| count.get() - 1)
}
