//! What snapshots and going back cost, beside restic, git and cp, on a work tree and on a large one.
//!
//! Each of ours is a process of its own, as theirs are: what it loads and saves counts.

mod beside;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agentrec_replay::{Sources, restore_new};
use agentrec_store::{
    CaptureOptions, Dirty, Home, Later, StatCache, Store, Touch, Tracked, capture_tree,
};
use agentrec_trace::ObjectId;
use anyhow::{Context, Result, bail, ensure};

use self::beside::{Git, Restic, copy, remove, settle};
use self::tree::{PLANS, Plan};
use super::workloads::Spread;
use super::{Bar, Section, peak_memory, time};
use crate::workspace;

/// Most times what stands beside it.
const COLD: f64 = 0.7;
const AGAIN: f64 = 0.5;
const RESTORE: f64 = 1.3;
/// Files that change before a later snapshot, and the most milliseconds that it may take.
const CHANGED: u64 = 10;
const AFTER_CHANGES: f64 = 5.0;
/// How often they change.
const CHANGES: u64 = 21;
/// Most mebibytes.
const MEMORY: f64 = 100.0;
/// How often what takes little time is done in a round.
const SHORT: usize = 5;
/// Rounds from which on the figures are kept.
const KEPT_FROM: usize = 5;

/// Measures everything with so many rounds; whether all bars are met. Only the trees whose names contain `filter`.
pub fn run(rounds: usize, filter: &str) -> Result<bool> {
    let dir = workspace::target().join("bench-snapshot");
    remove(&dir)?;
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut section = Section::new("snapshot", "What snapshots cost");
    for plan in PLANS.into_iter().filter(|plan| plan.name.contains(filter)) {
        measure(plan, rounds, &dir, &mut section)?;
    }
    remove(&dir)?;
    section.note(format!(
        "Wall time of whole processes, on files that are in the page cache, after a sync(1); medians of {rounds} interleaved rounds, of those \
         that nothing changed for {}. `cold` begins with an empty store or repository; restic is as shipped (0.14, with compression), its key \
         derivation included. `git checkout` is `git checkout-index -a` of what was added, without its owners and times. Our snapshots wait until everything \
         is on the disk; git does not, and a restore does not, as little as cp. What was restored is removed at the end of all rounds. After {CHANGED} files changed, the library is called as the recorder calls it, 20 ms after the last write: what is \
         in the trace too goes to the disk behind its back.",
        rounds * SHORT,
    ));
    if rounds < KEPT_FROM || !filter.is_empty() {
        eprintln!(
            "docs/benchmarks.md is left as it is: that takes {KEPT_FROM} rounds of everything"
        );
        return Ok(true);
    }
    section.finish()
}

/// All times of one tree.
#[derive(Default)]
struct Times {
    cold: Vec<f64>,
    cold_restic: Vec<f64>,
    cold_git: Vec<f64>,
    again: Vec<f64>,
    again_git: Vec<f64>,
    /// Milliseconds.
    changed: Vec<f64>,
    restore: Vec<f64>,
    restore_restic: Vec<f64>,
    restore_git: Vec<f64>,
    copy: Vec<f64>,
    /// Mebibytes.
    memory: Vec<f64>,
}

fn measure(plan: Plan, rounds: usize, dir: &Path, section: &mut Section) -> Result<()> {
    let root = dir.join("tree");
    remove(&root)?;
    tree::write(plan, &root)?;
    // What changed a moment ago is read again.
    std::thread::sleep(Duration::from_secs(3));
    let (home, targets) = (dir.join("home"), dir.join("targets"));
    fs::create_dir_all(&targets)?;
    let (restic, git) = (Restic::new(dir)?, Git::new(dir));
    let mut times = Times::default();
    for round in 0..rounds {
        remove(&home)?;
        settle()?;
        let cold = ours("capture", &home, &root, "")?;
        ensure!(cold.files_read == plan.files, "{} files were read", cold.files_read);
        times.cold.push(cold.seconds);
        times.memory.push(cold.peak);
        restic.init()?;
        settle()?;
        times.cold_restic.push(restic.backup(&root)?);
        git.init()?;
        settle()?;
        times.cold_git.push(git.add(&root)?);
        settle()?;
        for _ in 0..SHORT {
            let again = ours("capture", &home, &root, "")?;
            ensure!(again.files_read == 0, "{} files were read again", again.files_read);
            ensure!(again.tree == cold.tree, "the tree is another one");
            times.again.push(again.seconds);
            times.memory.push(again.peak);
            times.again_git.push(git.status(&root)?);
        }
        let changed = ours("changes", &home, &root, "")?;
        times.changed.push(changed.files_read as f64 / 1e3);
        times.memory.push(changed.peak);
        // The files are as they were, and are to be old enough for the next round.
        std::thread::sleep(Duration::from_secs(3));
        // Nothing is removed in between: who makes files soon after many were removed pays for it, seconds on ext4.
        let fresh = |name: &str| -> Result<PathBuf> {
            settle()?;
            Ok(targets.join(format!("{name}{round}")))
        };
        times.copy.push(copy(&root, &fresh("cp")?)?);
        let target = fresh("ours")?;
        let restored = ours("restore", &home, &target, &cold.tree)?;
        ensure!(restored.files_read == plan.files, "{} files came back", restored.files_read);
        times.restore.push(restored.seconds);
        times.memory.push(restored.peak);
        times.restore_restic.push(restic.restore(&fresh("restic")?)?);
        times.restore_git.push(git.checkout(&root, &fresh("git")?)?);
    }
    remove(&targets)?;
    report(plan, times, section);
    remove(&root)
}

fn report(plan: Plan, times: Times, section: &mut Section) {
    let name = plan.name;
    let peak = times.memory.iter().copied().fold(0.0, f64::max);
    let spread = Spread::of;
    let mut group = |what: &str, ours: Vec<f64>, others: Vec<(&str, Vec<f64>, Bar)>| {
        let ours = spread(ours);
        section.figure(format!("{name}: {what} ({ours} s)"), ours.median, "s", Bar::Seen);
        for (other, times, bar) in others {
            let times = spread(times);
            let what = format!("{name}: {what}, beside `{other}` ({times} s)");
            section.figure(what, ours.median / times.median, "times", bar);
        }
    };
    group(
        "first snapshot, cold store",
        times.cold,
        vec![
            ("restic backup", times.cold_restic, Bar::AtMost(COLD)),
            ("git add -A && git write-tree", times.cold_git, Bar::Seen),
        ],
    );
    group(
        "first snapshot of a later session, nothing changed",
        times.again,
        vec![("git status", times.again_git, Bar::AtMost(AGAIN))],
    );
    group(
        "restore into a new directory",
        times.restore,
        vec![
            ("cp -a", times.copy, Bar::AtMost(RESTORE)),
            ("restic restore", times.restore_restic, Bar::Seen),
            ("git checkout", times.restore_git, Bar::Seen),
        ],
    );
    let changed = spread(times.changed);
    let what = format!("{name}: snapshot after {CHANGED} files changed ({changed} ms)");
    section.figure(what, changed.median, "ms", Bar::AtMost(AFTER_CHANGES));
    section.figure(format!("{name}: peak memory"), peak, "MiB", Bar::AtMost(MEMORY));
}

/// What one of our processes did.
struct Done {
    seconds: f64,
    tree: String,
    files_read: u64,
    /// Mebibytes.
    peak: f64,
}

fn ours(what: &str, home: &Path, root: &Path, tree: &str) -> Result<Done> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.args(["bench", "snapshot-work", what]).arg(home).arg(root).arg(tree);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let (output, took) = time(|| command.output().context("cannot start a process"))?;
    ensure!(output.status.success(), "snapshot-work {what} failed");
    let text = String::from_utf8(output.stdout).context("it printed no text")?;
    let words: Vec<_> = text.split_whitespace().collect();
    let [tree, files, kib] = words[..] else { bail!("it printed {text:?}") };
    Ok(Done {
        seconds: took.as_secs_f64(),
        tree: tree.to_owned(),
        files_read: files.parse().context("no number of files")?,
        peak: kib.parse::<f64>().context("no number of KiB")? / 1024.0,
    })
}

/// Changes some files again and again, and takes a snapshot each time as the recorder does, which knows from events what
/// changed: the last tree, and the median in microseconds.
fn changes(home: &Home, root: &Path) -> Result<(ObjectId, u64)> {
    let store = Arc::new(Store::open(home)?);
    let later = Some(Arc::new(Later::new(Arc::clone(&store))?));
    let options = CaptureOptions { later, ..CaptureOptions::default() };
    let mut cache = StatCache::load(home, root);
    let mut tracked = Tracked::new(root);
    let mut tree = tracked.capture(&store, &options, &mut cache)?.tree;
    let (mut times, mut before) = (Vec::new(), Vec::new());
    for round in 0..CHANGES {
        let mut dirty = Dirty::default();
        for number in 0..CHANGED {
            // In one place of the tree, as a turn's edits are, mostly.
            let path = tree::path(round * 100 + number * 5);
            before.push((root.join(&path), fs::read(root.join(&path))?));
            fs::write(root.join(&path), format!("changed in round {round}: {number}\n"))?;
            dirty.touch(&path, Touch::Content);
        }
        // An agent thinks before it asks: the clock that files are stamped with has moved on.
        std::thread::sleep(Duration::from_millis(20));
        let (captured, took) =
            time(|| Ok(tracked.capture_changes(&store, &dirty, &options, &mut cache)?))?;
        ensure!(captured.files_read == CHANGED, "{} files were read", captured.files_read);
        ensure!(captured.tree != tree, "the tree is the same");
        tree = captured.tree;
        times.push(took.as_micros() as u64);
    }
    for (path, content) in before {
        fs::write(path, content)?;
    }
    times.sort_unstable();
    Ok((tree, times[times.len() / 2]))
}

/// One piece of work in a process of its own: prints the tree, the files that were read or written (after changes the time
/// in microseconds), and the peak memory.
pub fn work(what: &str, home: &Path, root: &Path, tree: &str) -> Result<()> {
    let home = Home::new(home);
    let store = Store::open(&home)?;
    let (tree, files) = match what {
        "capture" => {
            let mut cache = StatCache::load(&home, root);
            let captured = capture_tree(&store, root, &CaptureOptions::default(), &mut cache)?;
            cache.save()?;
            (captured.tree, captured.files_read)
        }
        "restore" => {
            let tree: ObjectId = tree.parse().context("no address of a tree")?;
            let restored = restore_new(&Sources::store(&store), tree, root, None, None)?;
            ensure!(
                restored.missing.is_empty() && restored.not_set.is_empty(),
                "not all came back"
            );
            (tree, restored.files)
        }
        "changes" => changes(&home, root)?,
        _ => bail!("nobody knows how to {what}"),
    };
    println!("{tree} {files} {}", peak_memory()?);
    Ok(())
}
