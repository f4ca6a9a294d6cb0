//! What recording costs a command: four workloads beside strace, which covers the same calls and writes to a file.
//!
//! One round runs each workload untraced, under strace as a user starts it, under strace on the tracee's CPU, and recorded,
//! so that what else the machine does falls on all alike.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::recorded::agentrec;
use super::workloads::{Getppid, Spread, Workload, Workloads, pinned_strace, strace};
use super::{Bar, Section, build, time};
use crate::workspace;

/// Opens and closes of the first workload.
const OPENS: u32 = 200_000;
/// Which part of them strace as started makes.
const PART: u32 = 10;
/// How many times more rounds a workload gets that takes less than two seconds.
const SHORT: usize = 3;
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
        match self {
            Self::Untraced => Vec::new(),
            Self::Strace => strace(dir),
            Self::PinnedStrace => pinned_strace(dir),
            Self::Recorded => {
                let agentrec = agentrec().into_os_string();
                let trace = dir.join("trace.zst").into_os_string();
                let words = ["run", "--engine", "ptrace", "--overwrite", "-o"].map(OsString::from);
                [agentrec].into_iter().chain(words).chain([trace, "--".into()]).collect()
            }
        }
    }
}

/// Most times the duration under strace.
struct Bars {
    pinned: Bar,
    started: Bar,
    better: Bar,
}

/// Measures everything with so many rounds; whether all bars are met. Only the workloads whose names contain `filter`.
pub fn run(rounds: usize, filter: &str) -> Result<bool> {
    let dir = workspace::target().join("bench-run");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    build::agentrec()?;
    let mut section = Section::new("run", "What recording costs a command");
    let workloads = Workloads::new(&dir)?;
    let opens = Bars { pinned: Bar::AtMost(0.8), started: Bar::AtMost(0.2), better: Bar::Seen };
    let better = || Bars { pinned: Bar::Seen, started: Bar::Seen, better: Bar::AtMost(0.9) };
    // strace as started needs minutes for all of them.
    let part = workloads.opens("a tenth of them", OPENS / PART)?;
    for (workload, part, repeats, bars) in [
        (workloads.opens("200,000 opens and closes in C", OPENS)?, Some(&part), 1, opens),
        (workloads.imports()?, None, SHORT, better()),
        (workloads.make(), None, 1, better()),
        (workloads.requests()?, None, SHORT, better()),
    ] {
        if workload.name.contains(filter) {
            measure(&workload, part, &bars, repeats * rounds, &dir, &mut section)?;
        }
    }
    drop(workloads);
    getppid(rounds, &dir, &mut section)?;
    section.note(format!(
        "Wall time of the whole command, the recorder's start, two snapshots and the seal included; medians of {rounds} interleaved \
         rounds, of those that take less than two seconds {}. strace is `strace -f --seccomp-bpf -o FILE` with all calls that we cover; pinned, strace and the \
         whole tree are on one CPU; as started it makes a tenth of the opens, whose time is taken ten times.",
        SHORT * rounds,
    ));
    if rounds < 7 || !filter.is_empty() {
        eprintln!("docs/benchmarks.md is left as it is: that takes 7 rounds of everything");
        return Ok(true);
    }
    section.finish()
}

/// Runs a workload in all modes; where there is a `part` of it, strace as started runs that alone.
fn measure(
    workload: &Workload,
    part: Option<&Workload>,
    bars: &Bars,
    rounds: usize,
    dir: &Path,
    section: &mut Section,
) -> Result<()> {
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        for (mode, times) in Mode::ALL.into_iter().zip(&mut times) {
            let prefix = mode.prefix(dir);
            let (workload, times_all) = match part {
                Some(part) if mode == Mode::Strace => (part, f64::from(PART)),
                _ => (workload, 1.0),
            };
            workload.prepare()?;
            let ((), took) = time(|| workload.run(&prefix, &dir.join("home")))?;
            times.push(took.as_secs_f64() * times_all);
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
    let Bars { pinned: pinned_bar, started: started_bar, better: better_bar } = *bars;
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

/// What a call that nobody covers costs.
fn getppid(rounds: usize, dir: &Path, section: &mut Section) -> Result<()> {
    let program = Getppid::new(dir)?;
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..rounds {
        for (mode, times) in [Mode::Untraced, Mode::Recorded].into_iter().zip(&mut times) {
            times.push(program.measure(&mode.prefix(dir), &dir.join("home"))?);
        }
    }
    let [untraced, recorded] = times.map(|times| Spread::of(times).median);
    section.figure("getppid(2), untraced", untraced, "ns", Bar::Seen);
    let more = recorded - untraced;
    section.figure("the same, recorded: more", more, "ns", Bar::AtMost(UNTRACED_CALL));
    Ok(())
}
