//! What recording by the eBPF engine costs a command, its neighbours and the machine.
//!
//! A workload's time is its own, from its fork to its end (`timed.c`, a part of what is recorded): the recorder's start and end are
//! a figure apart. Rounds are interleaved, and each waits until the programs of the one before are gone from the kernel.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::recorded::{Recorded, agentrec, until_gone};
use super::workloads::{Getppid, Spread, Stopwatch, Workload, Workloads, compile, pinned_strace};
use super::{Bar, Section, build, time};
use crate::workspace;

mod told;

use told::Told;

/// Opens, and closes, of the first workload.
const OPENS: u32 = 1_000_000;
/// The same where others than we record it: they take their time.
const PEER_OPENS: u32 = 50_000;
/// Most times untraced: the first workload, and the others.
const W1: f64 = 2.0;
const W2: f64 = 1.05;
const W3: f64 = 1.10;
const W4: f64 = 1.05;
/// The same of who is not recorded, while somebody is: the first workload, and nanoseconds more for a call.
const NEIGHBOUR_W1: f64 = 1.25;
const NEIGHBOUR_CALL: f64 = 80.0;
/// Who opens and closes as fast as it can, and for how many seconds.
const STORM: u32 = 8;
const STORM_SECONDS: u32 = 60;
/// A test runs it for some seconds, too.
const STORM_PROGRAM: &str = include_str!("../../../tests/cli_many/storm.c");
/// Events a second, and what the recorder may take for them: of a core, and mebibytes.
const PACE: u32 = 100_000;
const PACE_SECONDS: u64 = 10;
const PACE_CORE: f64 = 0.35;
const PACE_MEMORY: f64 = 64.0;

/// Where everything is.
struct Bench {
    rounds: usize,
    dir: PathBuf,
    stopwatch: Stopwatch,
    section: Section,
}

/// Measures everything with so many rounds; whether all bars are met. Only what has `filter` in its name.
pub fn run(rounds: usize, filter: &str) -> Result<bool> {
    let dir = workspace::target().join("bench-ebpf");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    build::agentrec()?;
    let stopwatch = Stopwatch::new(&dir)?;
    let section = Section::new("ebpf", "What recording by the eBPF engine costs");
    let mut bench = Bench { rounds, dir, stopwatch, section };
    let workloads = Workloads::new(&bench.dir)?;
    let opens = workloads.opens("1 M opens and closes in C", OPENS)?;
    let wanted = |name: &str| name.contains(filter);
    if wanted(opens.name) {
        bench.recorded(&opens, W1, |told| told.check_opens(OPENS.into()))?;
    }
    if wanted("beside others") {
        bench.peers(&workloads)?;
    }
    for (workload, bar) in [(workloads.imports()?, W2), (workloads.requests()?, W4)] {
        if wanted(workload.name) {
            bench.recorded(&workload, bar, |_| Ok(()))?;
        }
    }
    let make = workloads.make();
    if wanted(make.name) {
        bench.recorded(&make, W3, Told::check_build)?;
    }
    drop(make);
    if wanted("not recorded") {
        bench.neighbour(&opens)?;
    }
    if wanted("storm") {
        bench.storm()?;
    }
    if wanted("events a second") {
        bench.paced(&opens.dir)?;
    }
    if wanted("start and end") {
        bench.start_and_end()?;
    }
    let mut section = bench.section;
    section.note(format!(
        "A workload's own time, from its fork to its end; medians of {rounds} interleaved rounds. All of what was recorded is counted \
         in the trace after each round: a round in which something is missing fails. Memory of the recorder is what is its own \
         (`RssAnon`); the ring buffer is 32 MiB of the kernel's beside it."
    ));
    if rounds < 7 || !filter.is_empty() {
        eprintln!("docs/benchmarks.md is left as it is: that takes 7 rounds of everything");
        return Ok(true);
    }
    section.finish()
}

impl Bench {
    fn trace(&self) -> PathBuf {
        self.dir.join("trace.zst")
    }

    /// `agentrec run` up to the command.
    fn recorder(&self) -> Vec<OsString> {
        let words = ["run", "--engine", "ebpf", "--overwrite", "-o"].map(OsString::from);
        let trace = [self.trace().into_os_string(), "--".into()];
        [agentrec().into_os_string()].into_iter().chain(words).chain(trace).collect()
    }

    /// A workload recorded beside the same untraced; `check` looks at each trace.
    fn recorded(
        &mut self,
        workload: &Workload,
        bar: f64,
        check: impl Fn(&Told) -> Result<()>,
    ) -> Result<()> {
        let (mut untraced, mut recorded) = (Vec::new(), Vec::new());
        let (mut events, mut lost) = (0, 0);
        for _ in 0..self.rounds {
            untraced.push(self.stopwatch.seconds(workload, &[])?);
            recorded.push(self.stopwatch.seconds(workload, &self.recorder())?);
            until_gone()?;
            let told = Told::read(&self.trace())?;
            check(&told).with_context(|| workload.name)?;
            (events, lost) = (told.events, lost + told.lost);
        }
        let (untraced, recorded) = (Spread::of(untraced), Spread::of(recorded));
        let name = workload.name;
        let what = format!("{name}, untraced ({untraced} s)");
        self.section.figure(what, untraced.median, "s", Bar::Seen);
        let what = format!("{name}, recorded ({recorded} s)");
        let times = recorded.median / untraced.median;
        self.section.figure(what, times, "times untraced", Bar::AtMost(bar));
        self.section.figure(format!("{name}, events"), events as f64, "", Bar::Seen);
        self.section.figure(format!("{name}, lost"), lost as f64, "", Bar::AtMost(0.0));
        Ok(())
    }

    /// What others take for the same opens.
    fn peers(&mut self, workloads: &Workloads) -> Result<()> {
        let workload = workloads.opens("50,000 opens and closes in C", PEER_OPENS)?;
        let log = self.dir.join("peer.log").into_os_string();
        // Neither makes tracefs known where nobody mounted it.
        let traces = || {
            let mount = "[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"";
            ["unshare", "-m", "sh", "-c", mount, "sh"].map(OsString::from).to_vec()
        };
        let opens = "tracepoint:syscalls:sys_enter_openat /comm == \"open_close\"/ \
                     { printf(\"%d %s\\n\", pid, str(args->filename)); }";
        let peers: [(&str, Vec<OsString>); 4] = [
            ("agentrec", self.recorder()),
            ("bpftrace", {
                let words =
                    ["bpftrace".into(), "-o".into(), log.clone(), "-e".into(), opens.into()];
                traces().into_iter().chain(words).collect()
            }),
            ("perf", {
                let words = ["perf", "trace", "-e", "openat,close", "-o"].map(OsString::from);
                traces().into_iter().chain(words).chain([log, "--".into()]).collect()
            }),
            ("strace", pinned_strace(&self.dir)),
        ];
        let named = |peer| match peer {
            "bpftrace" => "bpftrace, opens alone",
            "perf" => "perf trace",
            "strace" => "strace, pinned",
            peer => peer,
        };
        let mut untraced = Vec::new();
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..self.rounds {
            untraced.push(self.stopwatch.seconds(&workload, &[])?);
            for ((peer, prefix), times) in peers.iter().zip(&mut times) {
                if *peer == "agentrec" || is_installed(peer) {
                    times.push(self.peer_seconds(&workload, peer, prefix)?);
                }
            }
        }
        let untraced = Spread::of(untraced);
        for ((peer, _), times) in peers.iter().zip(times) {
            let (name, peer) = (workload.name, named(peer));
            if times.is_empty() {
                self.section.note(format!("{peer}: not installed."));
                continue;
            }
            let times = Spread::of(times);
            let what = format!("{name}, {peer} ({times} s)");
            let ratio = times.median / untraced.median;
            self.section.figure(what, ratio, "times untraced", Bar::Seen);
        }
        Ok(())
    }

    fn peer_seconds(&self, workload: &Workload, peer: &str, prefix: &[OsString]) -> Result<f64> {
        if peer != "bpftrace" {
            let seconds = self.stopwatch.seconds(workload, prefix)?;
            until_gone()?;
            return Ok(seconds);
        }
        // It takes the command as one word.
        let words = self.stopwatch.words();
        let words = words.iter().chain(&workload.words);
        let command: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        let own = ["-c".into(), command.join(" ").into()];
        let words: Vec<OsString> = prefix.iter().cloned().chain(own).collect();
        let mut bpftrace = Command::new(&words[0]);
        bpftrace.args(&words[1..]).current_dir(&workload.dir);
        bpftrace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(bpftrace.status()?.success(), "failed: {bpftrace:?}");
        self.stopwatch.last()
    }

    /// What somebody pays who is not recorded, while somebody is.
    fn neighbour(&mut self, opens: &Workload) -> Result<()> {
        let getppid = Getppid::new(&self.dir)?;
        let home = self.dir.join("home");
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..self.rounds {
            times[0].push(self.stopwatch.seconds(opens, &[])?);
            times[1].push(getppid.measure(&[], &home)?);
            let words = ["sh", "-c", "echo ready; read line"].map(OsStr::new);
            let recorded = Recorded::start(&self.dir, "ebpf", &words)?;
            times[2].push(self.stopwatch.seconds(opens, &[])?);
            times[3].push(getppid.measure(&[], &home)?);
            // `read` has seen no line.
            recorded.end().ok();
            until_gone()?;
        }
        let [alone, call_alone, beside, call_beside] = times.map(Spread::of);
        let what = format!("{}, not recorded, while another is ({beside} s)", opens.name);
        let ratio = beside.median / alone.median;
        self.section.figure(what, ratio, "times untraced", Bar::AtMost(NEIGHBOUR_W1));
        let what = "getppid(2), not recorded, while another is: more";
        let more = call_beside.median - call_alone.median;
        self.section.figure(what, more, "ns", Bar::AtMost(NEIGHBOUR_CALL));
        Ok(())
    }

    /// As fast as they can: all is told, or counted as lost.
    fn storm(&mut self) -> Result<()> {
        let storm = compile(&self.dir, "storm", STORM_PROGRAM)?;
        fs::write(self.dir.join("storm-file"), "content\n")?;
        let words = self.recorder();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(storm).args([STORM, STORM_SECONDS].map(|n| n.to_string()));
        command.current_dir(&self.dir).env("AGENTREC_HOME", self.dir.join("home"));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
        ensure!(output.status.success(), "failed: {command:?}");
        until_gone()?;
        let pairs: f64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
        let calls = 2.0 * pairs;
        let told = Told::read(&self.trace())?;
        let (opens, closes, lost) = told.of("storm-file");
        let what = format!("storm: {STORM} processes, {STORM_SECONDS} s: calls made");
        self.section.figure(what, calls, "", Bar::Seen);
        self.section.figure("storm: opens in the trace", opens as f64, "", Bar::Seen);
        self.section.figure("storm: closes in the trace", closes as f64, "", Bar::Seen);
        let what = "storm: lost calls, as the trace counts them";
        self.section.figure(what, lost as f64, "", Bar::Seen);
        let missing = (calls - (opens + closes + lost) as f64).abs();
        let what = "storm: difference of calls made, and events and lost";
        self.section.figure(what, missing, "", Bar::AtMost(0.0));
        Ok(())
    }

    /// What the recorder takes.
    fn paced(&mut self, opens: &Path) -> Result<()> {
        let paced = compile(&self.dir, "paced", include_str!("workloads/paced.c"))?;
        let pairs = (PACE / 2).to_string();
        let recorded =
            Recorded::start(opens, "ebpf", &[paced.as_os_str(), OsStr::new(pairs.as_str())])?;
        thread::sleep(Duration::from_secs(2));
        let before = recorded.cpu_time()?;
        let mut memory: f64 = 0.0;
        let ((), took) = time(|| {
            for _ in 0..PACE_SECONDS * 10 {
                thread::sleep(Duration::from_millis(100));
                memory = memory.max(recorded.memory("RssAnon:")?);
            }
            Ok(())
        })?;
        let used = recorded.cpu_time()?.saturating_sub(before);
        recorded.end()?;
        let told = Told::read(&opens.join("trace.zst"))?;
        let what = format!("recorder at {PACE} events a second");
        let cores = used.as_secs_f64() / took.as_secs_f64();
        self.section.figure(&what, cores, "cores", Bar::AtMost(PACE_CORE));
        self.section.figure(format!("{what}, peak"), memory, "MiB", Bar::AtMost(PACE_MEMORY));
        self.section.figure(format!("{what}, in the trace"), told.pace(), "a second", Bar::Seen);
        self.section.figure(format!("{what}, lost"), told.lost as f64, "", Bar::AtMost(0.0));
        Ok(())
    }

    /// What a user waits for beside the command.
    fn start_and_end(&mut self) -> Result<()> {
        let mut seconds = Vec::new();
        let mut gone = Vec::new();
        for _ in 0..self.rounds {
            let words = self.recorder();
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).arg("true").env("AGENTREC_HOME", self.dir.join("home"));
            command.current_dir(&self.dir).stdin(Stdio::null()).stderr(Stdio::null());
            let (status, took) = time(|| Ok(command.status()?))?;
            ensure!(status.success(), "failed: {command:?}");
            seconds.push(took.as_secs_f64());
            let ((), took) = time(until_gone)?;
            gone.push(took.as_secs_f64());
        }
        let (seconds, gone) = (Spread::of(seconds), Spread::of(gone));
        let what = format!("`agentrec run -- true`: start and end ({seconds} s)");
        self.section.figure(what, seconds.median, "s", Bar::Seen);
        let what =
            format!("the same, until its programs are gone, which nobody waits for ({gone} s)");
        self.section.figure(what, gone.median, "s", Bar::Seen);
        Ok(())
    }
}

fn is_installed(program: &str) -> bool {
    let mut which = Command::new("which");
    which.arg(program).stdout(Stdio::null()).stderr(Stdio::null());
    which.status().is_ok_and(|status| status.success())
}
