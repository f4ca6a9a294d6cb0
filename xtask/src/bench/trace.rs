//! What the trace format costs: encoding, decoding, opening, bytes per event and per object.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use agentrec_trace::event::FileOpen;
use agentrec_trace::{Data, Event, ObjectHint, ProcId, Reader, Source, Writer, WriterOptions};
use anyhow::{Context, Result, ensure};

use super::{Bar, Section, build, median, peak_memory, time, time_on_core};
use crate::workspace;

const EVENTS: u64 = 2_000_000;
const MANY_EVENTS: u64 = 10_000_000;
const MIB: f64 = (1 << 20) as f64;

/// Measures everything; whether all bars are met.
pub fn run() -> Result<bool> {
    let dir = workspace::target().join("bench-trace");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut section = Section::new("trace", "The trace format");
    encode_and_decode(&mut section)?;
    open_large(&mut section, &dir)?;
    build::measure(&mut section, &dir)?;
    http_bodies(&mut section)?;
    section.finish()
}

/// Numbers that look random and are the same in every run.
pub struct Noise(pub u64);

impl Noise {
    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// Opens as a compiler makes them: a search path, mostly in vain, again and again for other names.
struct Opens {
    paths: Vec<String>,
    noise: Noise,
    ts: u64,
}

impl Opens {
    fn new() -> Self {
        let mut noise = Noise(7);
        let dirs = ["/usr/include", "/usr/lib/gcc/x86_64-linux-gnu/12/include", "/home/u/shop/src"];
        let paths = (0..4_000)
            .map(|number| {
                let dir = dirs[noise.below(3) as usize];
                format!("{dir}/module{}/header_{number}.h", noise.below(40))
            })
            .collect();
        Self { paths, noise, ts: 1 << 40 }
    }

    fn next(&mut self) -> Event<'_> {
        self.ts += 2_000 + self.noise.below(50_000);
        let failed = self.noise.below(3) == 0;
        let path = self.noise.below(self.paths.len() as u64) as usize;
        let data = FileOpen {
            path: self.paths[path].as_str().into(),
            flags: 0o2_000_000,
            fd: (!failed).then_some(3 + self.noise.below(4) as i32),
            errno: failed.then_some(2),
            ..FileOpen::default()
        };
        let proc = Some(ProcId(1 + self.noise.below(4) as u32));
        Event { proc, ..Event::new(self.ts, Source::Kernel, data) }
    }
}

fn write_opens<W: Write>(sink: W, count: u64) -> Result<W> {
    let mut opens = Opens::new();
    let mut writer = Writer::new(sink, WriterOptions::default())?;
    for _ in 0..count {
        writer.append(&opens.next())?;
    }
    writer.seal()?;
    Ok(writer.into_inner())
}

fn encode_and_decode(section: &mut Section) -> Result<()> {
    let mut bytes = Vec::new();
    let per_second = median(5, || {
        let (written, took) = time_on_core(|| write_opens(Vec::new(), EVENTS))?;
        bytes = written;
        Ok(EVENTS as f64 / took.as_secs_f64())
    })?;
    let what = "`file.open` encoded, compressed and written, one core";
    section.figure(what, per_second, "events/s", Bar::AtLeast(1e6));
    let size = bytes.len() as f64 / EVENTS as f64;
    section.figure("the same, size", size, "bytes/event", Bar::Seen);
    let reader = Reader::from_bytes(bytes)?;
    let per_second = median(5, || {
        let mut sum = 0;
        let ((), took) = time_on_core(|| {
            let add = |event: Event<'_>| {
                if let Data::FileOpen(open) = event.data {
                    sum += open.path.len();
                }
            };
            Ok(reader.for_each(add)?)
        })?;
        ensure!(sum > 0, "no path was read");
        Ok(EVENTS as f64 / took.as_secs_f64())
    })?;
    section.figure("the same read, borrowed", per_second, "events/s", Bar::AtLeast(2e6));
    let per_second = median(3, || {
        let (count, took) = time_on_core(|| Ok(reader.iter().filter(Result::is_ok).count()))?;
        Ok(count as f64 / took.as_secs_f64())
    })?;
    section.figure("the same read, owned", per_second, "events/s", Bar::Seen);
    Ok(())
}

fn open_large(section: &mut Section, dir: &Path) -> Result<()> {
    let path = dir.join("large.zst");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    write_opens(file, MANY_EVENTS)?;
    let mut peak = 0.0;
    let millis = median(7, || {
        let program = std::env::current_exe().context("cannot find this program")?;
        let run = || {
            let output = Command::new(program).args(["bench", "trace-tail"]).arg(&path).output();
            output.context("cannot start a process")
        };
        let (output, took) = time(run)?;
        ensure!(output.status.success(), "trace-tail failed");
        let text = String::from_utf8(output.stdout).context("trace-tail printed no text")?;
        ensure!(text.lines().count() == 11, "trace-tail printed {text:?}");
        let last = text.lines().last().context("no line")?;
        peak = f64::max(peak, last.parse::<f64>().context("no number")? / 1024.0);
        Ok(took.as_secs_f64() * 1e3)
    })?;
    let what = "trace of 10 M events: process start, open, show the last ten";
    section.figure(what, millis, "ms", Bar::AtMost(50.0));
    section.figure("the same, peak memory", peak, "MiB", Bar::AtMost(64.0));
    let size = fs::metadata(&path)?.len() as f64 / MIB;
    section.figure("the same, size of the file", size, "MiB", Bar::Seen);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Prints the last ten events of `path` and this process's peak memory in KiB.
pub fn tail(path: &Path) -> Result<()> {
    let reader = Reader::open(path)?;
    for event in reader.tail(10)? {
        println!("{}", serde_json::to_string(&agentrec_trace::json::JsonEvent(&event))?);
    }
    println!("{}", peak_memory()?);
    Ok(())
}

/// Text of about `len` bytes that compresses like a conversation does.
pub fn prose(noise: &mut Noise, len: usize) -> String {
    let mut text = String::with_capacity(len + 16);
    while text.len() < len {
        let letters = 2 + noise.below(9);
        // A vocabulary of some thousand words, the common ones far more often.
        let rank = noise.below(70) * noise.below(70);
        let mut word = Noise(rank);
        text.extend((0..letters).map(|_| char::from(b'a' + word.below(26) as u8)));
        text.push(' ');
    }
    text.truncate(len);
    text
}

fn http_bodies(section: &mut Section) -> Result<()> {
    let mut noise = Noise(3);
    let tools = prose(&mut noise, 6_000);
    let mut messages = String::new();
    let mut bodies = Vec::new();
    for turn in 0..200 {
        messages.push_str(&format!(",{{\"role\":\"user\",\"content\":\"{turn} "));
        messages.push_str(&prose(&mut noise, 1_960));
        messages.push_str("\"}");
        bodies.push(format!("{{\"model\":\"m\",\"messages\":[{messages}],\"tools\":\"{tools}\"}}"));
    }
    let cost = |bodies: &[String]| -> Result<f64> {
        let mut writer = Writer::new(Vec::new(), WriterOptions::default())?;
        let mut after = None;
        for body in bodies {
            after = Some(writer.put_object(body.as_bytes(), ObjectHint::Series { after })?);
            // A model answers after the longest time that a frame stays open.
            writer.flush()?;
        }
        writer.seal()?;
        Ok(writer.into_inner().len() as f64)
    };
    let (all, last) = (cost(&bodies)?, cost(&bodies[199..])?);
    let raw = bodies.iter().map(String::len).sum::<usize>() as f64;
    section.figure(
        "200 HTTP bodies, each 2 KB longer, the last 400 KB",
        raw / MIB,
        "MiB",
        Bar::Seen,
    );
    section.figure("their cost in a trace", all / 1e3, "kB", Bar::Seen);
    section.figure("the last one's alone", last / 1e3, "kB", Bar::Seen);
    section.figure("their cost over the last one's alone", all / last, "times", Bar::AtMost(2.0));
    Ok(())
}
