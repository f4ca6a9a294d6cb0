//! `agentrec restore`: the files of a snapshot, in a new directory or, when asked, in place.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_replay::{
    Only, Restored, Snapshot, Sources, read_snapshot, restore_in_place, restore_new,
};
use agentrec_store::{CaptureOptions, Objects as _, Store};
use agentrec_trace::ObjectId;
use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

use crate::address::Address;
use crate::error::{WithHint, with_hint};
use crate::exit::Exit;
use crate::output::{Output, Style, command_line, json, of_files, plural, printable_line, size};
use crate::session::{self, Context, Opened};

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
    let snapshot = read_snapshot(&opened.reader, index)?;
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
    report(out, &target, &target, &restored)
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
        complete &= report(out, &root.path, &target, &restored)?;
    }
    Ok(complete)
}

fn in_place(
    out: &mut Output,
    opened: &Opened,
    snapshot: &Snapshot,
    only: Option<&Only>,
) -> Result<bool> {
    let store = Store::open(&session::home()?)?;
    if let Some(gone) = snapshot.roots.iter().find(|root| !root.path.is_dir()) {
        return Err(with_hint(
            anyhow!("cannot restore in place: {} is not there", gone.path.display()),
            "leave --in-place out to restore into a new directory",
        ));
    }
    let mut complete = true;
    for root in &snapshot.roots {
        let options = CaptureOptions { seen_as: root.path.clone(), ..CaptureOptions::default() };
        let done = restore_in_place(
            &opened.reader,
            &store,
            root.tree,
            &root.path,
            only,
            &options,
            Some(&of_files("restoring")),
        )
        .with_context(|| format!("cannot restore {}", root.path.display()))
        .hint("nothing is lost: the state before was saved first")?;
        complete &= report(out, &root.path, &root.path, &done.restored)?;
        say_saved(&root.path, done.saved);
    }
    Ok(complete)
}

/// Says what was done; whether all of it is there.
fn report(out: &mut Output, root: &Path, target: &Path, restored: &Restored) -> Result<bool> {
    let path = |path: &Path| json::bytes(path.as_os_str().as_bytes());
    if out.json {
        let missing: Vec<_> = restored
            .missing
            .iter()
            .map(
                |missing| json!({ "path": path(&missing.path), "reason": missing.reason.as_str() }),
            )
            .collect();
        let not_set: Vec<_> = restored
            .not_set
            .iter()
            .map(|not_set| json!({ "path": path(&not_set.path), "what": not_set.what, "reason": not_set.reason }))
            .collect();
        out.json_line(&json!({
            "kind": "restored", "root": path(root), "dir": path(target), "files": restored.files,
            "bytes": restored.bytes, "removed": restored.removed, "missing": missing, "not_set": not_set,
            "kept": restored.kept.iter().map(|kept| path(kept)).collect::<Vec<_>>(),
        }))?;
        return Ok(restored.missing.is_empty());
    }
    let paint = out.paint;
    let removed = if restored.removed > 0 {
        format!(", {} removed", restored.removed)
    } else {
        String::new()
    };
    writeln!(
        out,
        "restored {}: {}, {}{removed}",
        target.display(),
        plural(restored.files, "file"),
        size(restored.bytes)
    )?;
    for missing in &restored.missing {
        let name = printable_line(missing.path.as_os_str().as_bytes());
        writeln!(
            out,
            "  {} {name}: {}",
            paint.apply(Style::Bad, "missing"),
            missing.reason.as_str()
        )?;
    }
    for not_set in &restored.not_set {
        let name = printable_line(not_set.path.as_os_str().as_bytes());
        writeln!(
            out,
            "  {} {name}: {}: {}",
            paint.apply(Style::Warn, "not set"),
            not_set.what,
            not_set.reason
        )?;
    }
    for kept in &restored.kept {
        let name = printable_line(kept.as_os_str().as_bytes());
        writeln!(out, "  {} {name}: a trace, left where it is", paint.apply(Style::Warn, "kept"))?;
    }
    Ok(restored.missing.is_empty())
}
