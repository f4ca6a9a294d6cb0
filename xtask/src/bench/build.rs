//! A real build, `make` of 50 C files: what its trace takes, beside strace's log of the same calls.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use agentrec_trace::event::{
    FileClose, FileOpen, FileUnlink, ProcessExec, ProcessExit, ProcessFork,
};
use agentrec_trace::{Bytes, Data, Event, ProcId, Reader, Seq, Source, Writer, WriterOptions};
use anyhow::{Context, Result, ensure};

use super::{Bar, Section};

const FILES: usize = 50;
/// The calls whose events are compared: those that a trace holds one event for.
const CALLS: &str = "open,openat,creat,close,execve,fork,vfork,clone,clone3,unlink,unlinkat";

/// Measures the trace of the build.
pub fn measure(section: &mut Section, dir: &Path) -> Result<()> {
    let source = dir.join("build");
    write_sources(&source)?;
    let log = dir.join("strace.log");
    let strace = Command::new("strace")
        .args(["-f", "-ttt", "-e", &format!("trace={CALLS}"), "-o"])
        .arg(&log)
        .args(["make", "-s", "-C"])
        .arg(&source)
        .stdout(Stdio::null())
        .status()
        .context("cannot run strace")?;
    ensure!(strace.success(), "make failed under strace");
    let log = fs::read_to_string(&log).context("cannot read strace's log")?;
    let compressed = zstd::bulk::compress(log.as_bytes(), 3).context("cannot compress")?;
    let trace = convert(&log)?;
    let events = Reader::from_bytes(trace.as_slice())?.len();
    ensure!(events > 10_000, "only {events} events");
    fs::write(dir.join("build.zst"), &trace).context("cannot write the trace")?;
    let size = trace.len() as f64;
    section.figure("`make` of 50 C files, events", events as f64, "", Bar::Seen);
    section.figure("its trace, index and seal included", size / 1e3, "kB", Bar::Seen);
    let per_event = size / events as f64;
    section.figure("the same, an event", per_event, "bytes", Bar::AtMost(15.0));
    let strace = compressed.len() as f64;
    section.figure("strace's log of the same calls, `zstd -3`", strace / 1e3, "kB", Bar::Seen);
    let ratio = size / strace;
    section.figure("its trace over strace's log", ratio, "times", Bar::AtMost(1.0));
    Ok(())
}

fn write_sources(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let headers =
        ["stdio.h", "stdlib.h", "string.h", "unistd.h", "sys/stat.h", "signal.h", "time.h"];
    let includes: String = headers.iter().map(|name| format!("#include <{name}>\n")).collect();
    let mut makefile = "all: program\n%.o: %.c\n\tcc -O1 -c -o $@ $<\nprogram:".to_owned();
    for number in 0..FILES {
        let body = format!("{includes}int f{number}(int x) {{ return x * {number} + 1; }}\n");
        let main = if number == 0 { "int main(void) { return f0(0) - 1; }\n" } else { "" };
        fs::write(dir.join(format!("unit{number}.c")), body + main)?;
        makefile.push_str(&format!(" unit{number}.o"));
    }
    makefile.push_str("\n\tcc -o $@ $^\n");
    fs::write(dir.join("Makefile"), makefile)?;
    Ok(())
}

/// A trace of the calls in strace's `log`.
fn convert(log: &str) -> Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), WriterOptions::default())?;
    let mut procs: HashMap<&str, ProcId> = HashMap::new();
    let mut unfinished: HashMap<&str, String> = HashMap::new();
    let mut opened: HashMap<(ProcId, i32), Seq> = HashMap::new();
    for line in log.lines() {
        let (pid, rest) = line.split_once(' ').context("no pid")?;
        let (time, call) = rest.trim_start().split_once(' ').context("no time")?;
        let next = ProcId(procs.len() as u32 + 1);
        let proc = *procs.entry(pid).or_insert(next);
        let (seconds, micros) = time.split_once('.').context("no fraction")?;
        let ts = seconds.parse::<u64>()? * 1_000_000_000 + micros.parse::<u64>()? * 1_000;
        let whole;
        let call = if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid, begin.to_owned());
            continue;
        } else if let Some((_, end)) = call.split_once(" resumed>") {
            whole = unfinished.remove(pid).unwrap_or_default() + end;
            whole.as_str()
        } else {
            call
        };
        let Some(data) = event_of(call, proc, &mut opened, procs.len() as u32) else { continue };
        let close_of = matches!(data, Data::FileOpen(_)).then(|| result_of(call)).flatten();
        let event = Event { proc: Some(proc), ..Event::new(ts, Source::Kernel, data) };
        let seq = writer.append(&event)?;
        if let Some(fd) = close_of.filter(|fd| *fd >= 0) {
            opened.insert((proc, fd as i32), seq);
        }
    }
    writer.seal()?;
    Ok(writer.into_inner())
}

fn result_of(call: &str) -> Option<i64> {
    call.rsplit_once(" = ")?.1.split_whitespace().next()?.parse().ok()
}

/// The event of one call, if it is one that a trace holds.
fn event_of<'a>(
    call: &'a str,
    proc: ProcId,
    opened: &mut HashMap<(ProcId, i32), Seq>,
    procs: u32,
) -> Option<Data<'a>> {
    if let Some(rest) = call.strip_prefix("+++ exited with ") {
        let code = rest.split_whitespace().next()?.parse().ok();
        return Some(ProcessExit { code, ..ProcessExit::default() }.into());
    }
    let (name, arguments) = call.split_once('(')?;
    let result = result_of(call)?;
    let errno = (result < 0).then_some(2);
    let path: Bytes<'a> = arguments.split('"').nth(1).unwrap_or_default().into();
    Some(match name {
        "openat" | "open" | "creat" => {
            let fd = i32::try_from(result).ok().filter(|fd| *fd >= 0);
            let flags = if arguments.contains("O_CLOEXEC") { 0o2_000_000 } else { 0 };
            FileOpen { path, flags, fd, errno, ..FileOpen::default() }.into()
        }
        "close" => {
            let fd = arguments.split(')').next()?.parse().ok()?;
            let open = Some(opened.remove(&(proc, fd))?);
            FileClose { open, ..FileClose::default() }.into()
        }
        "execve" => {
            let argv = arguments.split('[').nth(1)?.split(']').next()?;
            let argv = argv.split(", ").map(|word| word.trim_matches('"').into()).collect();
            ProcessExec { path, argv, errno, ..ProcessExec::default() }.into()
        }
        "vfork" | "clone" | "clone3" | "fork" => {
            let pid = u32::try_from(result).ok()?;
            ProcessFork { child: ProcId(procs + 1), pid, flags: 0x4111 }.into()
        }
        "unlink" | "unlinkat" => FileUnlink { path, errno }.into(),
        _ => return None,
    })
}
