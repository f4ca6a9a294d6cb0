//! What the recorder holds: beside a thousand live processes, and after minutes of steady work.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};

use super::{Bar, Section, build, run::compile};
use crate::workspace;

const PROCESSES: u32 = 1000;
/// Most mebibytes beside them.
const MOST: f64 = 40.0;
/// What it may grow after the first minute, mebibytes: less than what a leak of one byte an event would be.
const GROWTH: f64 = 1.0;

/// Measures both; the steady work for so many minutes after the first. Whether all bars are met.
pub fn run(minutes: u64) -> Result<bool> {
    let dir = workspace::target().join("bench-memory");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    fs::write(dir.join("file"), "content\n")?;
    build::agentrec()?;
    let mut section = Section::new("memory", "What the recorder holds");
    let many = compile(&dir, "many", include_str!("memory/many.c"))?;
    let recorded = Recorded::start(&dir, &[many.as_os_str(), PROCESSES.to_string().as_ref()])?;
    let peak = recorded.memory("VmHWM:")?;
    recorded.end()?;
    let what = format!("recorder beside {PROCESSES} live processes, peak");
    section.figure(what, peak, "MiB", Bar::AtMost(MOST));
    let steady = compile(&dir, "steady", include_str!("memory/steady.c"))?;
    let recorded = Recorded::start(&dir, &[steady.as_os_str()])?;
    thread::sleep(Duration::from_secs(60));
    let first = recorded.memory("VmRSS:")?;
    thread::sleep(Duration::from_secs(60 * minutes));
    let last = recorded.memory("VmRSS:")?;
    recorded.end()?;
    section.figure("after a minute of steady work", first, "MiB", Bar::Seen);
    let what = format!("growth in the {minutes} minutes after that");
    section.figure(what, last - first, "MiB", Bar::AtMost(GROWTH));
    section.note(
        "The resident set of the recorder's process. Steady work: processes that start, write, rename and delete a file, and \
         end, one after the other with two milliseconds in between.",
    );
    section.finish()
}

/// A recorded program that says when it is ready, and ends with its input.
struct Recorded(Child);

impl Recorded {
    fn start(dir: &Path, words: &[&std::ffi::OsStr]) -> Result<Self> {
        let mut command = Command::new(workspace::target().join("release/agentrec"));
        command.args(["run", "--overwrite", "-o", "trace.zst", "--"]).args(words);
        command.current_dir(dir).env("AGENTREC_HOME", dir.join("home"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut front = command.spawn().context("cannot start agentrec")?;
        let output = front.stdout.take().context("a pipe was asked for")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("cannot read from the program")?;
        ensure!(line == "ready\n", "the program said {line:?}");
        Ok(Self(front))
    }

    /// A field of the recorder's /proc/PID/status, in MiB.
    fn memory(&self, field: &str) -> Result<f64> {
        let front = self.0.id();
        let children = fs::read_to_string(format!("/proc/{front}/task/{front}/children"))?;
        let is_recorder = |pid: &&str| {
            let exe = fs::read_link(format!("/proc/{pid}/exe"));
            exe.is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "agentrec"))
        };
        let recorder = children.split_whitespace().find(is_recorder).context("no recorder")?;
        let status = fs::read_to_string(format!("/proc/{recorder}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no field")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("no number")?;
        Ok(kib / 1024.0)
    }

    fn end(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        ensure!(self.0.wait()?.success(), "the recorded program failed");
        Ok(())
    }
}
