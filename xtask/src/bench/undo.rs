//! What going back costs: an undo of a turn that changed ten files, and its redo, beside git.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::recorded::agentrec;
use super::workloads::Spread;
use super::{Bar, Section};
use crate::workspace;

/// Most milliseconds.
const UNDO: f64 = 20.0;
/// Files of the tree, and those that the turn changes.
const FILES: usize = 1000;
const CHANGED: usize = 10;
/// Rounds from which on the figures are kept.
const KEPT_FROM: usize = 5;
/// How often each is done in a round.
const SHORT: usize = 5;

/// Measures with so many rounds; whether the bar is met.
pub fn run(rounds: usize) -> Result<bool> {
    let dir = workspace::target().join("bench-undo");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let work = dir.join("work");
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    super::build::agentrec()?;
    for n in 0..FILES {
        let sub = work.join(format!("d{}", n % 30));
        fs::create_dir_all(&sub)?;
        fs::write(sub.join(format!("f{n}")), format!("line {n}\n").repeat(200))?;
    }
    let names: Vec<_> = (0..CHANGED).map(|n| format!("d{n}/f{n}")).collect();
    git(&work, &["init", "-q"])?;
    git(&work, &["add", "-A"])?;
    record(&dir, &work, &names)?;
    let read = |name: &String| Ok((work.join(name), fs::read(work.join(name))?));
    let left: Vec<_> = names.iter().map(read).collect::<Result<_>>()?;
    let checkout_names: Vec<_> =
        ["checkout", "-q", "--"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let (mut undo, mut redo, mut checkout) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds * SHORT {
        undo.push(ours(&dir, &work, &["undo", "t2", "--yes"])?);
        redo.push(ours(&dir, &work, &["redo", "--yes"])?);
        checkout.push(git(&work, &checkout_names)?);
        for (path, content) in &left {
            fs::write(path, content)?;
        }
    }
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    let mut section = Section::new("undo", "What going back costs");
    let (undo, redo, checkout) = (Spread::of(undo), Spread::of(redo), Spread::of(checkout));
    let turn = format!("a turn with {CHANGED} changed files");
    section.figure(format!("undo of {turn} ({undo} ms)"), undo.median, "ms", Bar::AtMost(UNDO));
    section.figure(format!("its redo ({redo} ms)"), redo.median, "ms", Bar::Seen);
    section.figure(
        format!("`git checkout` of these files ({checkout} ms)"),
        checkout.median,
        "ms",
        Bar::Seen,
    );
    section.note(format!(
        "Wall time of whole processes, the reading of the trace included, in a tree of {FILES} files; medians of {} runs. Ours have the operation \
         and what they replace on the disk (fsync(2)) before they change a file; git does not.",
        rounds * SHORT,
    ));
    if rounds < KEPT_FROM {
        eprintln!("docs/benchmarks.md is left as it is: that takes {KEPT_FROM} rounds");
        return Ok(true);
    }
    section.finish()
}

/// Records an agent of which the second turn changes the files.
fn record(dir: &Path, work: &Path, names: &[String]) -> Result<()> {
    let change =
        names.iter().map(|name| format!("echo agent >> {name}")).collect::<Vec<_>>().join("; ");
    let turns = json!([["true"], [change], ["true"]]);
    let script = dir.join("script.json");
    fs::write(&script, json!({ "agentrec": agentrec(), "turns": turns }).to_string())?;
    let root = workspace::root();
    let status = command(dir, work)
        .args(["run", "-q", "--engine", "ptrace", "--", "python3"])
        .arg(root.join("tests/agents/scripted.py"))
        .arg(root.join("examples"))
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::null())
        .status()
        .context("cannot run agentrec")?;
    ensure!(status.success(), "the agent ended with {status}");
    Ok(())
}

fn command(dir: &Path, work: &Path) -> Command {
    let mut command = Command::new(agentrec());
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("AGENTREC_HOME", dir.join("home"))
        .current_dir(work)
        .stdin(Stdio::null());
    command
}

/// Milliseconds.
fn ours(dir: &Path, work: &Path, args: &[&str]) -> Result<f64> {
    let began = Instant::now();
    let output = command(dir, work).args(args).output().context("cannot run agentrec")?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "agentrec {args:?}: {}: {said}", output.status);
    Ok(took)
}

/// Milliseconds.
fn git(work: &Path, args: &[&str]) -> Result<f64> {
    let began = Instant::now();
    let status =
        Command::new("git").args(args).current_dir(work).status().context("cannot run git")?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    ensure!(status.success(), "git {args:?}: {status}");
    Ok(took)
}
