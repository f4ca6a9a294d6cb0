//! What the recorder holds: beside a thousand live processes, and after minutes of steady work.

use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result};

use super::recorded::Recorded;
use super::workloads::compile;
use super::{Bar, Section, build};
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
    let recorded =
        Recorded::start(&dir, "ptrace", &[many.as_os_str(), PROCESSES.to_string().as_ref()])?;
    let peak = recorded.memory("VmHWM:")?;
    recorded.end()?;
    let what = format!("recorder beside {PROCESSES} live processes, peak");
    section.figure(what, peak, "MiB", Bar::AtMost(MOST));
    let steady = compile(&dir, "steady", include_str!("memory/steady.c"))?;
    let recorded = Recorded::start(&dir, "ptrace", &[steady.as_os_str()])?;
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
