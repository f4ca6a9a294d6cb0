//! `agentrec restore`: the files of a snapshot, in a new directory or, when asked, in place.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_replay::undo::{Done, InPlace, Target, carry_out, plan_in_place};
use agentrec_replay::{NotSet, Only, Restored, Snapshot, Sources, read_snapshot, restore_new};
use agentrec_store::{CaptureOptions, Objects as _, Operation, OperationKind, Operations, Store};
use agentrec_trace::ObjectId;
use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

use crate::address::Address;
use crate::error::with_hint;
use crate::exit::Exit;
use crate::output::{Output, Style, command_line, json, of_files, plural, relative, size};
use crate::session::{self, Context, Opened};
use crate::state::StateArgs;
use crate::undo::reversal;

/// Arguments of `agentrec restore`.
#[derive(clap::Args)]
pub struct Args {
    /// The session, or the snapshot as 7q3k@s2, or a turn as t5 (default: this directory's last)
    trace: Option<Address>,
    /// The snapshot's number
    #[arg(long, short, value_name = "N")]
    snapshot: Option<u32>,
    /// The directory to create (default: NAME-sN here)
    #[arg(long, value_name = "DIR", conflicts_with = "in_place")]
    dir: Option<PathBuf>,
    /// Turn the original directories back, after saving what they are
    #[arg(long)]
    in_place: bool,
    /// A saved tree instead of a snapshot's: --in-place and apply print its hash
    #[arg(long, value_name = "HASH", conflicts_with_all = ["trace", "snapshot", "in_place"])]
    tree: Option<ObjectId>,
    /// Only what matches; relative to the tree
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
    #[command(flatten)]
    state: StateArgs,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let only = if args.only.is_empty() { None } else { Some(Only::new(&args.only)?) };
    let mut out = Output::new(context.preferences);
    if let Some(tree) = args.tree {
        let complete = saved_tree(&mut out, tree, args.dir.as_deref(), only.as_ref())?;
        out.finish()?;
        return Ok(if complete { Exit::OK } else { Exit::FAILURE });
    }
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?;
    let index = opened.snapshot(args.snapshot)?;
    let mut snapshot = read_snapshot(&opened.reader, index)?;
    args.state.leave_out(&mut snapshot);
    let complete = if args.in_place {
        in_place(&mut out, &opened, &snapshot, only.as_ref())?
    } else {
        let dir = match &args.dir {
            Some(dir) => dir.clone(),
            None => default_dir(&opened, &snapshot)?,
        };
        anew(&mut out, &opened, &snapshot, &dir, only.as_ref())?
    };
    out.finish()?;
    Ok(if complete { Exit::OK } else { Exit::FAILURE })
}

fn default_dir(opened: &Opened, snapshot: &Snapshot) -> Result<PathBuf> {
    let stem =
        Path::new(&opened.name).file_stem().context("cannot name a directory after this trace")?;
    let here = env::current_dir().context("cannot tell the working directory")?;
    Ok(here.join(format!("{}-{}", stem.to_string_lossy(), snapshot.index)))
}

/// Restores a tree that was saved in this machine's store.
fn saved_tree(
    out: &mut Output,
    tree: ObjectId,
    dir: Option<&Path>,
    only: Option<&Only>,
) -> Result<bool> {
    let store = Store::open(&session::home()?)?;
    if !store.contains(&tree)? {
        return Err(with_hint(
            anyhow!("cannot restore tree {tree}: this machine's store does not hold it"),
            "trees are saved by restore --in-place and by apply, in the data directory of the user who ran it",
        ));
    }
    let target = match dir {
        Some(dir) => dir.to_owned(),
        None => PathBuf::from(format!("tree-{}", &tree.to_string()[..8])),
    };
    let restored =
        restore_new(&Sources::store(&store), tree, &target, only, Some(&of_files("restoring")))
            .with_context(|| format!("cannot restore tree {tree} to {}", target.display()))?;
    Report::of(&target, &target, &restored).write(out)
}

/// Says where the state before is, and what to type to have it back.
pub fn say_saved(root: &Path, tree: ObjectId) {
    eprintln!("agentrec: what was in {} is saved as tree {tree}", root.display());
    let mut dir = root.file_name().unwrap_or_else(|| "root".as_ref()).to_owned();
    dir.push("-before");
    let dir = root.with_file_name(dir);
    let tree = tree.to_string();
    let dir = dir.as_os_str().as_bytes();
    let argv = [&b"agentrec"[..], b"restore", b"--tree", tree.as_bytes(), b"--dir", dir];
    eprintln!("hint: {} brings it back beside", command_line(&argv));
}

/// Restores into `dir`: the tree itself, or, where there are several roots, each under its own name.
fn anew(
    out: &mut Output,
    opened: &Opened,
    snapshot: &Snapshot,
    dir: &Path,
    only: Option<&Only>,
) -> Result<bool> {
    if snapshot.roots.is_empty() {
        bail!("cannot restore {}: it holds no files", snapshot.index);
    }
    let store = session::store();
    let sources = Sources::new(&opened.reader, store.as_ref());
    let mut complete = true;
    for (n, root) in snapshot.roots.iter().enumerate() {
        let target = match n {
            0 => dir.to_owned(),
            // Beside, never inside: a root's own files must not mix with another's.
            _ => {
                let name = root.path.file_name().unwrap_or_else(|| "root".as_ref());
                dir.with_file_name(format!(
                    "{}-{n}-{}",
                    dir.file_name().unwrap_or_default().to_string_lossy(),
                    name.to_string_lossy()
                ))
            }
        };
        let restored =
            restore_new(&sources, root.tree, &target, only, Some(&of_files("restoring")))
                .with_context(|| {
                    format!("cannot restore {} to {}", root.path.display(), target.display())
                })?;
        if only.is_some() && restored.missing.is_empty() && fs::remove_dir(&target).is_ok() {
            eprintln!("agentrec: nothing in {} is meant by --only", root.path.display());
            eprintln!("hint: globs are relative to the tree: src/*.rs, docs, **/*.md");
            complete = false;
            continue;
        }
        complete &= Report::of(&root.path, &target, &restored).write(out)?;
    }
    Ok(complete)
}

/// Turns the original directories back, as an operation of the log.
fn in_place(
    out: &mut Output,
    opened: &Opened,
    snapshot: &Snapshot,
    only: Option<&Only>,
) -> Result<bool> {
    let home = session::home()?;
    let store = Store::open(&home)?;
    if let Some(gone) = snapshot.roots.iter().find(|root| !root.path.is_dir()) {
        return Err(with_hint(
            anyhow!("cannot restore in place: {} is not there", gone.path.display()),
            "leave --in-place out to restore into a new directory",
        ));
    }
    let log = Operations::open(&home)?;
    reversal::none_interrupted(&reversal::operations(&home)?)?;
    let sources = Sources::new(&opened.reader, Some(&store));
    let targets: Vec<_> = snapshot
        .roots
        .iter()
        .map(|root| Target {
            root: root.path.clone(),
            tree: root.tree,
            options: CaptureOptions { seen_as: root.path.clone(), ..CaptureOptions::default() },
        })
        .collect();
    let planned = plan_in_place(&store, &home, &sources, &targets, only)
        .map_err(reversal::stopped)
        .context("cannot restore in place")?;
    let InPlace { plan, saved, kept, .. } = planned;
    let mut missing: Vec<_> =
        plan.unable.iter().map(|(path, why)| (path.clone(), why.as_str())).collect();
    let directory = targets.first().map(|target| target.root.clone()).unwrap_or_default();
    let operation = Operation {
        kind: OperationKind::Restore,
        session: snapshot.session.clone(),
        place: snapshot.index.to_string(),
        directory: directory.clone(),
        ..Operation::default()
    };
    // Where all is as it was there is nothing that could be taken back.
    let changes = !plan.steps.is_empty();
    let done = if changes {
        let progress = of_files("restoring");
        carry_out(&store, &log, &sources, plan, operation, Some(&progress))
            .map_err(reversal::stopped)
            .context("cannot restore in place")?
    } else {
        Done::default()
    };
    missing
        .extend(done.missing.iter().map(|missing| (missing.path.clone(), missing.reason.as_str())));
    let report = Report {
        root: &directory,
        target: &directory,
        operation: changes.then_some(done.id),
        files: done.files,
        bytes: done.bytes,
        removed: done.removed,
        missing,
        not_set: &done.not_set,
        kept: &kept,
    };
    let complete = report.write(out)?;
    if changes {
        for (target, tree) in targets.iter().zip(saved) {
            say_saved(&target.root, tree);
        }
    }
    Ok(complete)
}

/// What was done to one directory, or to several in place.
struct Report<'a> {
    /// Paths that are told lie below it, or are relative to it.
    root: &'a Path,
    target: &'a Path,
    operation: Option<u64>,
    files: u64,
    bytes: u64,
    removed: u64,
    missing: Vec<(PathBuf, &'static str)>,
    not_set: &'a [NotSet],
    kept: &'a [PathBuf],
}

impl<'a> Report<'a> {
    fn of(root: &'a Path, target: &'a Path, restored: &'a Restored) -> Self {
        let missing = restored.missing.iter();
        Self {
            root,
            target,
            operation: None,
            files: restored.files,
            bytes: restored.bytes,
            removed: restored.removed,
            missing: missing
                .map(|missing| (missing.path.clone(), missing.reason.as_str()))
                .collect(),
            not_set: &restored.not_set,
            kept: &[],
        }
    }

    /// Says what was done; whether all of it is there.
    fn write(&self, out: &mut Output) -> Result<bool> {
        if out.json {
            self.write_json(out)?;
            return Ok(self.missing.is_empty());
        }
        let paint = out.paint;
        let name =
            |path: &Path| relative(path.as_os_str().as_bytes(), self.root.as_os_str().as_bytes());
        let removed = match self.removed {
            0 => String::new(),
            removed => format!(", {removed} removed"),
        };
        let (files, size) = (plural(self.files, "file"), size(self.bytes));
        writeln!(out, "restored {}: {files}, {size}{removed}", self.target.display())?;
        for (path, reason) in &self.missing {
            let mark = paint.apply(Style::Bad, "missing");
            writeln!(out, "  {mark} {}: {reason}", name(path))?;
        }
        for NotSet { path, what, reason } in self.not_set {
            let mark = paint.apply(Style::Warn, "not set");
            writeln!(out, "  {mark} {}: {what}: {reason}", name(path))?;
        }
        for kept in self.kept {
            let mark = paint.apply(Style::Warn, "kept");
            writeln!(out, "  {mark} {}: a trace, left where it is", name(kept))?;
        }
        if let Some(id) = self.operation {
            let address = format!("o{id}");
            let painted = paint.address(&address);
            writeln!(out, "done: {painted}; `agentrec undo {address}` takes this back")?;
        }
        Ok(self.missing.is_empty())
    }

    fn write_json(&self, out: &mut Output) -> Result<()> {
        let path = |path: &Path| json::bytes(path.as_os_str().as_bytes());
        let missing = self.missing.iter();
        let missing: Vec<_> = missing
            .map(|(missing, reason)| json!({ "path": path(missing), "reason": reason }))
            .collect();
        let not_set: Vec<_> = self
            .not_set
            .iter()
            .map(|NotSet { path: of, what, reason }| json!({ "path": path(of), "what": what, "reason": reason }))
            .collect();
        let kept: Vec<_> = self.kept.iter().map(|kept| path(kept)).collect();
        out.json_line(&json!({
            "kind": "restored", "root": path(self.root), "dir": path(self.target),
            "operation": self.operation.map(|id| format!("o{id}")), "files": self.files,
            "bytes": self.bytes, "removed": self.removed, "missing": missing, "not_set": not_set, "kept": kept,
        }))?;
        Ok(())
    }
}
