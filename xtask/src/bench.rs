//! `cargo xtask bench NAME`: measures, prints beside the bars, and keeps the figures in `docs/benchmarks.md`.
//!
//! Each bench owns one section of that file, between two comments that carry its name, and replaces no other.

mod build;
mod ebpf;
mod http;
mod memory;
mod recorded;
mod run;
mod sdk;
mod snapshot;
mod trace;
mod turns;
mod undo;
mod workloads;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::workspace;

/// What to measure.
#[derive(Subcommand)]
pub enum Bench {
    /// The trace format: speed, size, opening
    Trace,
    /// The Python package: what one event costs the agent
    Sdk,
    /// What recording costs a command, beside strace
    Run {
        /// Rounds; the figures are kept with 7 or more
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Only workloads whose names contain this
        #[arg(default_value = "")]
        filter: String,
    },
    /// What recording by the eBPF engine costs a command, and everybody else
    Ebpf {
        /// Rounds; the figures are kept with 7 or more
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Only what has this in its name
        #[arg(default_value = "")]
        filter: String,
    },
    /// What reading HTTP costs a command, by both engines
    Http {
        /// Rounds; the figures are kept with 7 or more
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Only what has this in its name
        #[arg(default_value = "")]
        filter: String,
    },
    /// What the recorder holds
    Memory {
        /// Minutes of steady work after the first
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
    /// What snapshots and going back cost, beside restic, git and cp
    Snapshot {
        /// Rounds; the figures are kept with 5 or more
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Only trees whose names contain this
        #[arg(default_value = "")]
        filter: String,
    },
    /// What an undo of a turn and its redo cost, beside git
    Undo {
        /// Rounds; the figures are kept with 5 or more
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// What snapshots cost the agent's own time
    Turns {
        /// Rounds; the figures are kept with 5 or more
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Takes or restores one snapshot: what `snapshot` times in a process of its own
    #[command(hide = true)]
    SnapshotWork {
        /// `capture` or `restore`.
        what: String,
        /// The data directory.
        home: PathBuf,
        /// What is captured, or made.
        root: PathBuf,
        /// What is restored.
        #[arg(default_value = "")]
        tree: String,
    },
    /// Opens a trace and shows its last ten events: what `trace` times in a process of its own
    #[command(hide = true)]
    TraceTail {
        /// The trace.
        path: PathBuf,
    },
}

/// Runs a bench; whether all bars are met.
pub fn run(bench: &Bench) -> Result<bool> {
    if cfg!(debug_assertions) {
        return Ok(release(bench)?.success());
    }
    match bench {
        Bench::Trace => trace::run(),
        Bench::Sdk => sdk::run(),
        Bench::Run { rounds, filter } => run::run(*rounds, filter),
        Bench::Ebpf { rounds, filter } => ebpf::run(*rounds, filter),
        Bench::Http { rounds, filter } => http::run(*rounds, filter),
        Bench::Memory { minutes } => memory::run(*minutes),
        Bench::Snapshot { rounds, filter } => snapshot::run(*rounds, filter),
        Bench::Undo { rounds } => undo::run(*rounds),
        Bench::Turns { rounds } => turns::run(*rounds),
        Bench::SnapshotWork { what, home, root, tree } => {
            snapshot::work(what, home, root, tree).map(|()| true)
        }
        Bench::TraceTail { path } => trace::tail(path).map(|()| true),
    }
}

/// Runs the same bench in a release build.
fn release(bench: &Bench) -> Result<ExitStatus> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What is measured says so where it means the other one.
    cargo.current_dir(workspace::root()).env("AGENTREC_ENGINE", "ptrace");
    cargo.args(["run", "--quiet", "--release", "--package", "agentrec-xtask", "--", "bench"]);
    match bench {
        Bench::Trace => cargo.arg("trace"),
        Bench::Sdk => cargo.arg("sdk"),
        Bench::Run { rounds, filter } => {
            cargo.args(["run", "--rounds", &rounds.to_string(), filter])
        }
        Bench::Ebpf { rounds, filter } => {
            cargo.args(["ebpf", "--rounds", &rounds.to_string(), filter])
        }
        Bench::Http { rounds, filter } => {
            cargo.args(["http", "--rounds", &rounds.to_string(), filter])
        }
        Bench::Memory { minutes } => cargo.args(["memory", "--minutes", &minutes.to_string()]),
        Bench::Snapshot { rounds, filter } => {
            cargo.args(["snapshot", "--rounds", &rounds.to_string(), filter])
        }
        Bench::Undo { rounds } => cargo.args(["undo", "--rounds", &rounds.to_string()]),
        Bench::Turns { rounds } => cargo.args(["turns", "--rounds", &rounds.to_string()]),
        Bench::SnapshotWork { what, home, root, tree } => {
            cargo.args(["snapshot-work", what]).arg(home).arg(root).arg(tree)
        }
        Bench::TraceTail { path } => cargo.arg("trace-tail").arg(path),
    };
    cargo.status().context("cannot run cargo")
}

/// What a figure must reach.
#[derive(Clone, Copy)]
pub enum Bar {
    /// Not less than this.
    AtLeast(f64),
    /// Not more than this.
    AtMost(f64),
    /// Nothing: it is there to be seen.
    Seen,
}

/// One measured figure.
struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    bar: Bar,
}

impl Figure {
    fn met(&self) -> Option<bool> {
        match self.bar {
            Bar::AtLeast(bar) => Some(self.value >= bar),
            Bar::AtMost(bar) => Some(self.value <= bar),
            Bar::Seen => None,
        }
    }

    fn cells(&self) -> [String; 4] {
        let bar = match self.bar {
            Bar::AtLeast(bar) => format!("≥ {}", number(bar)),
            Bar::AtMost(bar) => format!("≤ {}", number(bar)),
            Bar::Seen => String::new(),
        };
        let met = match self.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        let value = format!("{} {}", number(self.value), self.unit);
        [self.what.clone(), value.trim_end().to_owned(), bar, met.to_owned()]
    }
}

/// Three significant digits or all of a large number's.
fn number(value: f64) -> String {
    let digits = if value >= 100.0 || value == value.trunc() { 0 } else { 2 };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_once('.').map_or((plain.as_str(), ""), |(a, b)| (a, b));
    let mut grouped = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

/// The figures of one bench.
pub struct Section {
    name: &'static str,
    title: &'static str,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Section {
    /// A section without figures.
    pub fn new(name: &'static str, title: &'static str) -> Self {
        Self { name, title, figures: Vec::new(), notes: Vec::new() }
    }

    /// Adds a figure and prints it.
    pub fn figure(&mut self, what: impl Into<String>, value: f64, unit: &'static str, bar: Bar) {
        let figure = Figure { what: what.into(), value, unit, bar };
        let [what, value, bar, met] = figure.cells();
        eprintln!("{what}: {value}  {bar} {met}");
        self.figures.push(figure);
    }

    /// Adds a sentence below the figures.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Replaces the section in `docs/benchmarks.md`; whether all bars are met.
    pub fn finish(self) -> Result<bool> {
        let path = workspace::root().join("docs/benchmarks.md");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => PREAMBLE.to_owned(),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let text = replace_section(&text, self.name, &self.markdown()?);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(self.figures.iter().all(|figure| figure.met() != Some(false)))
    }

    fn markdown(&self) -> Result<String> {
        let mut out = format!("## {}\n\n", self.title);
        writeln!(out, "`cargo xtask bench {}`, {}, {}.\n", self.name, today()?, machine()?)?;
        writeln!(out, "| what | measured | bar | |\n|---|---|---|---|")?;
        for figure in &self.figures {
            writeln!(out, "| {} |", figure.cells().join(" | "))?;
        }
        for note in &self.notes {
            writeln!(out, "\n{note}")?;
        }
        Ok(out)
    }
}

const PREAMBLE: &str = "# Benchmarks\n\n\
    Figures and the bars they are held against. `cargo xtask bench NAME` measures a section again and replaces it here.\n";

/// `text` with the section `name` replaced, or added at the end.
fn replace_section(text: &str, name: &str, body: &str) -> String {
    let (begin, end) = (format!("<!-- bench {name} -->"), format!("<!-- end of bench {name} -->"));
    let section = format!("{begin}\n{body}{end}");
    let place = text.find(&begin).and_then(|from| {
        let to = text[from..].find(&end)? + from + end.len();
        Some(from..to)
    });
    match place {
        Some(place) => format!("{}{section}{}", &text[..place.start], &text[place.end..]),
        None => format!("{}\n\n{section}\n", text.trim_end()),
    }
}

/// The median of `times` runs of `measure`.
pub fn median(times: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut values = (0..times).map(|_| measure()).collect::<Result<Vec<f64>>>()?;
    values.sort_by(f64::total_cmp);
    values.get(times / 2).copied().context("nothing was measured")
}

/// How long `work` takes.
pub fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed()))
}

/// The most memory that this process has had, KiB.
pub fn peak_memory() -> Result<u64> {
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.split_whitespace().next()).context("no VmHWM")?;
    peak.parse().context("VmHWM is no number")
}

/// How long this thread was on a core while it did `work`: what others do on the machine counts less.
pub fn time_on_core<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let on_core = || -> Result<Duration> {
        let path = "/proc/thread-self/schedstat";
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        let nanos = text.split_whitespace().next().context("schedstat is empty")?;
        Ok(Duration::from_nanos(nanos.parse().context("schedstat holds no number")?))
    };
    let start = on_core()?;
    let done = work()?;
    Ok((done, on_core()?.saturating_sub(start)))
}

fn today() -> Result<String> {
    let output =
        Command::new("date").args(["-u", "+%Y-%m-%d"]).output().context("cannot run date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Cores, processor and kernel of this machine.
fn machine() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the release")?;
    let release: Vec<&str> = kernel.trim().splitn(3, ['.', '-']).collect();
    let [major, minor, ..] = release[..] else { bail!("kernel release {kernel:?}") };
    let cores = std::thread::available_parallelism()?;
    let model = model.map_or("unknown processor", |(_, model)| model);
    Ok(format!("{cores} cores ({model}), Linux {major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::{number, replace_section};

    #[test]
    fn a_section_replaces_itself_alone() {
        let one = replace_section("# Top\n", "a", "first\n");
        let two = replace_section(&one, "b", "second\n");
        let three = replace_section(&two, "a", "third\n");
        assert_eq!(three, two.replace("first", "third"));
        assert!(three.contains("second") && three.starts_with("# Top"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(14.126), "14.13");
        assert_eq!(number(0.5), "0.50");
    }
}
