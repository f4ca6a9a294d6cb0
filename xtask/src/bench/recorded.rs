//! A recording that goes on while its recorder is looked at.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// `agentrec`, as `build::agentrec` made it.
pub fn agentrec() -> PathBuf {
    workspace::target().join("release/agentrec")
}

/// A recorded program that says when it is ready, and ends with its input.
pub struct Recorded {
    front: Child,
    recorder: u32,
}

impl Recorded {
    /// Records the command into `trace.zst` in `dir`, and waits until it is ready.
    pub fn start(dir: &Path, engine: &str, words: &[&OsStr]) -> Result<Self> {
        let mut command = Command::new(agentrec());
        command.args(["run", "--engine", engine, "--overwrite", "-o", "trace.zst", "--"]);
        command.args(words).current_dir(dir).env("AGENTREC_HOME", dir.join("home"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut front = command.spawn().context("cannot start agentrec")?;
        let output = front.stdout.take().context("a pipe was asked for")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("cannot read from the program")?;
        ensure!(line == "ready\n", "the program said {line:?}");
        let pid = front.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        let recorder = children.find(|&pid| is_agentrec(pid)).context("no recorder")?;
        Ok(Self { front, recorder })
    }

    /// A field of the recorder's /proc/PID/status, in MiB.
    pub fn memory(&self, field: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.recorder))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no field")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("no number")?;
        Ok(kib / 1024.0)
    }

    /// Time that the recorder was on a CPU, all its threads.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut sum = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.recorder))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let nanos = text.split_whitespace().next().context("schedstat is empty")?;
            sum += nanos.parse::<u64>().context("schedstat holds no number")?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Ends the program, and waits for both.
    pub fn end(mut self) -> Result<()> {
        drop(self.front.stdin.take());
        ensure!(self.front.wait()?.success(), "the recorded program failed");
        until_gone()
    }
}

/// Waits until no recorder of ours is left: one that is behind its report may still have programs in the kernel.
pub fn until_gone() -> Result<()> {
    let start = Instant::now();
    loop {
        let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
        let mut pids = names.filter_map(|name| name.to_str()?.parse().ok());
        if !pids.any(|pid| is_agentrec(pid) || is_ending(pid)) {
            return Ok(());
        }
        ensure!(start.elapsed() < Duration::from_secs(120), "a recorder does not end");
        thread::sleep(Duration::from_millis(10));
    }
}

fn is_agentrec(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == agentrec())
}

/// Whether it may be one that has no memory any more, but its descriptors, and with them its BPF programs.
fn is_ending(pid: u32) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let is_named = fs::read(proc.join("comm")).is_ok_and(|name| name == b"agentrec\n");
    let gone = |e: std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    if !is_named || !fs::read_link(proc.join("exe")).is_err_and(gone) {
        return false;
    }
    let threads = fs::read_dir(proc.join("task")).map_or(0, Iterator::count);
    let stat = fs::read_to_string(proc.join("stat")).unwrap_or_default();
    threads > 1 || (threads == 1 && !stat.contains(") Z "))
}
