//! What a trace tells, counted.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use agentrec_trace::{Data, Reader, Seq};
use anyhow::{Result, ensure};

use crate::bench::workloads::{NAMES, READS_ONE_OF};

/// What happened to the files of one name.
#[derive(Clone, Copy, Default)]
struct File {
    opens: u64,
    closes: u64,
    read: u64,
    written: u64,
}

/// What is said of calls that were lost, closes among them.
const CALLS: [&str; 2] = ["system calls are missing", "closes are missing"];

/// A trace's events.
#[derive(Default)]
pub struct Told {
    /// How many there are.
    pub events: u64,
    /// How many it says are lost.
    pub lost: u64,
    /// How many of them are calls.
    lost_calls: u64,
    /// By path; opens that failed are not here.
    files: BTreeMap<Vec<u8>, File>,
    programs: u64,
    /// Nanoseconds from the first to the last open.
    time: u64,
}

impl Told {
    /// Counts all.
    pub fn read(trace: &Path) -> Result<Self> {
        let reader = Reader::open(trace)?;
        let mut told = Self { events: reader.len(), ..Self::default() };
        // What is open, by the event that opened it.
        let mut open: HashMap<Seq, Vec<u8>> = HashMap::new();
        let mut first = None;
        reader.for_each(|event| match &event.data {
            Data::FileOpen(data) if data.errno.is_none() => {
                told.time = event.ts - *first.get_or_insert(event.ts);
                told.file(&data.path).opens += 1;
                open.insert(event.seq, data.path.to_vec());
            }
            Data::FileClose(data) => {
                let Some(path) = data.open.and_then(|seq| open.remove(&seq)) else { return };
                let file = told.file(&path);
                file.closes += 1;
                file.read += data.read;
                file.written += data.written;
            }
            Data::ProcessExec(data) if data.errno.is_none() => told.programs += 1,
            Data::Lost(lost) if lost.place == "ebpf" => {
                let count = lost.count.unwrap_or(1);
                told.lost += count;
                if CALLS.iter().any(|what| lost.reason.contains(what)) {
                    told.lost_calls += count;
                }
            }
            _ => {}
        })?;
        Ok(told)
    }

    fn file(&mut self, path: &[u8]) -> &mut File {
        if !self.files.contains_key(path) {
            self.files.insert(path.to_vec(), File::default());
        }
        self.files.get_mut(path).expect("it was inserted")
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = File> + 'a {
        let is_named = move |path: &[u8]| {
            path.strip_suffix(name.as_bytes()).is_some_and(|dir| dir.ends_with(b"/"))
        };
        self.files.iter().filter(move |(path, _)| is_named(path)).map(|(_, file)| *file)
    }

    /// Opens and closes of the files of this name, and how many calls are lost.
    pub fn of(&self, name: &str) -> (u64, u64, u64) {
        let sum = |of: fn(File) -> u64| self.named(name).map(of).sum();
        (sum(|file| file.opens), sum(|file| file.closes), self.lost_calls)
    }

    /// Whether all is there of the workload that opens and closes so often.
    pub fn check_opens(&self, count: u64) -> Result<()> {
        let each = count / NAMES as u64;
        for number in 0..NAMES {
            let name = format!("file{number}");
            let files: Vec<File> = self.named(&name).collect();
            let [file] = files[..] else { anyhow::bail!("{} files named {name}", files.len()) };
            // The reads fall on the first name alone.
            let read = if number == 0 { count / READS_ONE_OF as u64 } else { 0 };
            ensure!(
                (file.opens, file.closes, file.read, file.written) == (each, each, read, 0),
                "{name}: {} opens, {} closes, {} bytes read, {} written",
                file.opens,
                file.closes,
                file.read,
                file.written
            );
        }
        Ok(())
    }

    /// Whether all is there of the build.
    pub fn check_build(&self) -> Result<()> {
        for number in 0..50 {
            for name in [format!("unit{number}.c"), format!("unit{number}.o")] {
                let (opens, closes, _) = self.of(&name);
                ensure!(opens > 0 && opens == closes, "{name}: {opens} opens, {closes} closes");
            }
        }
        // The timer, make, and for each file the driver, the compiler and the assembler; then the linker with its own.
        ensure!(self.programs >= 2 + 3 * 50 + 2, "{} programs", self.programs);
        Ok(())
    }

    /// Opens and closes a second.
    pub fn pace(&self) -> f64 {
        let files = self.files.values();
        let calls: u64 = files.map(|file| file.opens + file.closes).sum();
        calls as f64 / (self.time as f64 / 1e9)
    }
}
