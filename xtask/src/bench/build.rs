//! A real build, `make` of 50 C files: what its trace takes, beside strace's log of the same calls.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agentrec_trace::Reader;
use anyhow::{Context, Result, ensure};

use super::{Bar, Section, recorded};
use crate::workspace;

const FILES: usize = 50;
/// The calls that a trace of the build holds events for.
const CALLS: &str = "open,openat,creat,close,execve,fork,vfork,clone,clone3,unlink,unlinkat,\
    chmod,fchmod,fchmodat,chdir,rename,renameat,renameat2,mkdir,mkdirat";

/// Measures the trace of the build.
pub fn measure(section: &mut Section, dir: &Path) -> Result<()> {
    let source = dir.join("build");
    write_sources(&source)?;
    let log = dir.join("strace.log");
    let calls = format!("trace={CALLS}");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-ttt", "-e", calls.as_str(), "-o"]).arg(&log);
    make(strace, &source)?;
    let log = fs::read(&log).context("cannot read strace's log")?;
    let strace = zstd::bulk::compress(&log, 3).context("cannot compress")?.len() as f64;
    write_sources(&source)?;
    let trace = dir.join("build.zst");
    let mut agentrec = Command::new(agentrec()?);
    agentrec.env("AGENTREC_HOME", dir.join("home"));
    agentrec.args(["run", "--overwrite", "-o"]).arg(&trace).arg("--");
    make(agentrec, &source)?;
    let reader = Reader::open(&trace)?;
    let (events, size) = (reader.len() as f64, reader.event_bytes()? as f64);
    ensure!(events > 10_000.0, "only {events} events");
    section.figure("`agentrec run -- make` of 50 C files, events", events, "", Bar::Seen);
    section.figure("their frames in the trace", size / 1e3, "kB", Bar::Seen);
    section.figure("the same, an event", size / events, "bytes", Bar::AtMost(15.0));
    section.figure("strace's log of the same calls, `zstd -3`", strace / 1e3, "kB", Bar::Seen);
    section.figure("the trace over strace's log", size / strace, "times", Bar::AtMost(1.0));
    let whole = reader.file_len()? as f64 / 1e3;
    section.figure(
        "the whole trace, with the contents that its snapshots hold",
        whole,
        "kB",
        Bar::Seen,
    );
    Ok(())
}

/// Builds `agentrec` and says where it is.
pub fn agentrec() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .current_dir(workspace::root())
        .args(["build", "--quiet", "--release", "--package", "agentrec"])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "agentrec does not build");
    Ok(recorded::agentrec())
}

/// Runs `make` in `source` below the program of `recorder`.
fn make(mut recorder: Command, source: &Path) -> Result<()> {
    let name = recorder.get_program().to_owned();
    recorder.args(["make", "-s"]).current_dir(source);
    recorder.stdout(Stdio::null()).stderr(Stdio::null());
    let status = recorder.status().with_context(|| format!("cannot run {}", name.display()))?;
    ensure!(status.success(), "make failed under {}", name.display());
    Ok(())
}

/// Writes the C files and their Makefile into a fresh directory.
pub fn write_sources(dir: &Path) -> Result<()> {
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
