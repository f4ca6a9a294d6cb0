//! What snapshots cost the agent itself: its turns recorded with them, and without.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use agentrec_trace::{Data, Reader};
use anyhow::{Context, Result, ensure};

use super::recorded::{agentrec, until_gone};
use super::workloads::{Spread, Stopwatch, Workload, python};
use super::{Bar, Section, build};
use crate::workspace;

/// Most times the same without snapshots.
const SNAPSHOTS: f64 = 1.03;
/// Files of the tree, and turns that change some.
const FILES: usize = 20_000;
const TURNS: usize = 100;
/// Rounds from which on the figures are kept.
const KEPT_FROM: usize = 5;

/// Measures with so many rounds; whether the bars are met.
pub fn run(rounds: usize) -> Result<bool> {
    let dir = workspace::target().join("bench-turns");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let work = dir.join("work");
    for number in 0..FILES {
        let place = work.join(format!("d{}", number % 200));
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        fs::write(place.join(format!("f{number}")), format!("file {number}\n").repeat(300))?;
    }
    fs::write(dir.join("turns.py"), include_str!("workloads/turns.py"))?;
    build::agentrec()?;
    let stopwatch = Stopwatch::new(&dir)?;
    let model = Model::start(&dir)?;
    let words = vec![python()?, "../turns.py".into(), model.port.clone().into()];
    let agent = Workload::new("100 turns with 5 changed files each", words, work);
    let mut section = Section::new("turns", "What snapshots cost the agent");
    for engine in ["ebpf", "ptrace"] {
        let trace = dir.join("trace.zst");
        let prefix = |options: &[&str]| -> Vec<OsString> {
            let mut words = vec![agentrec().into_os_string()];
            words.extend(["run", "--engine", engine, "--overwrite"].map(OsString::from));
            words.extend(options.iter().map(OsString::from));
            words.extend(["-o".into(), trace.clone().into_os_string(), "--".into()]);
            words
        };
        let (with, without) = (prefix(&[]), prefix(&["--no-snapshots"]));
        // The first one reads the tree into the store.
        stopwatch.seconds(&agent, &with)?;
        until_gone()?;
        let (mut alone, mut taken, mut none) = (Vec::new(), Vec::new(), Vec::new());
        let mut least = usize::MAX;
        for _ in 0..rounds {
            alone.push(stopwatch.seconds(&agent, &[])?);
            taken.push(stopwatch.seconds(&agent, &with)?);
            until_gone()?;
            least = least.min(snapshots(&trace)?);
            none.push(stopwatch.seconds(&agent, &without)?);
            until_gone()?;
            ensure!(snapshots(&trace)? == 0, "there are snapshots");
        }
        let [alone, taken, none] = [alone, taken, none].map(Spread::of);
        let what = format!("{}, {engine}", agent.name);
        section.figure(format!("{what}, unrecorded ({alone} s)"), alone.median, "s", Bar::Seen);
        let recorded = format!("{what}, recorded without snapshots ({none} s)");
        section.figure(recorded, none.median / alone.median, "times unrecorded", Bar::Seen);
        let beside = format!("{what}, with them, beside without ({taken} s)");
        section.figure(beside, taken.median / none.median, "times", Bar::AtMost(SNAPSHOTS));
        let seen = format!("{what}: snapshots, at least");
        // One for each request, and those of the start and the end.
        section.figure(seen, least as f64, "", Bar::AtLeast(TURNS as f64 + 2.0));
    }
    drop(model);
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    section.note(format!(
        "The agent's own time, from its fork to its end, in a tree of {FILES} files; medians of {rounds} interleaved rounds. Its model is not recorded and \
         takes 50 ms for an answer, a tenth of what a quick one takes.",
    ));
    if rounds < KEPT_FROM {
        eprintln!("docs/benchmarks.md is left as it is: that takes {KEPT_FROM} rounds");
        return Ok(true);
    }
    section.finish()
}

fn snapshots(trace: &Path) -> Result<usize> {
    let mut count = 0;
    Reader::open(trace)?.for_each(|event| {
        count += usize::from(matches!(event.data, Data::SnapshotCreated(_)));
    })?;
    Ok(count)
}

/// Answers until it is dropped.
struct Model {
    process: Child,
    port: String,
}

impl Model {
    fn start(dir: &Path) -> Result<Self> {
        let mut process = Command::new(python()?)
            .args(["turns.py", "serve"])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the model")?;
        let output = process.stdout.take().context("a pipe was asked for")?;
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port).context("cannot read the model's port")?;
        Ok(Self { process, port: port.trim().to_owned() })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}
