//! `agentrec store`: the contents that the snapshots of all sessions share.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use agentrec_store::{CheckReport, CollectOptions, Names, Store, files_in};
use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{Output, count, home_relative, plural, size};
use crate::quantity::{bytes, span};
use crate::session::{self, Context};

/// What was stored more recently stays: it may be named a moment later.
const MIN_AGE: Duration = Duration::from_secs(10 * 60);

/// Arguments of `agentrec store`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Read all contents again, and look whether everything is there that snapshots name
    Check,
    /// Remove what no snapshot names; only tells what would go unless --yes is given
    Gc(GcArgs),
    /// Tell how much there is
    Stats,
}

#[derive(clap::Args)]
struct GcArgs {
    /// Remove only so much, the oldest first, that the rest takes at most this, such as 5G or 500M
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_size: Option<u64>,
    /// Leave what was stored more recently than this, such as 1h
    #[arg(long, value_name = "AGE", value_parser = span)]
    keep_last: Option<Duration>,
    /// Do it, rather than only telling what would go
    #[arg(long, short)]
    yes: bool,
    /// Only tell what would go, as without --yes
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let store = Store::open(&session::home()?)?;
    match &args.what {
        What::Check => check(&store, context),
        What::Gc(args) => gc(&store, args, context),
        What::Stats => stats(&store, context),
    }
}

fn check(store: &Store, context: Context) -> Result<Exit> {
    let report = store.check_with(&session::catalogue()?.traces()?)?;
    let mut out = Output::new(context.preferences);
    if context.preferences.json {
        check_json(&mut out, &report)?;
    } else {
        check_text(&mut out, &report)?;
    }
    out.finish()?;
    if report.is_sound() {
        return Ok(Exit::OK);
    }
    eprintln!("agentrec: the store is damaged");
    eprintln!(
        "hint: what a trace holds too is taken from there; a new recording stores again what it finds changed"
    );
    Ok(Exit::FAILURE)
}

fn check_text(out: &mut Output, report: &CheckReport) -> Result<()> {
    for id in &report.damaged {
        writeln!(out, "damaged  object {id}")?;
    }
    for path in &report.damaged_packs {
        writeln!(out, "damaged  {}: its index can't be read", path.display())?;
    }
    for missing in &report.missing {
        let (path, trace) = (missing.path.display(), missing.trace.display());
        writeln!(
            out,
            "missing  {path}, of s{} in {trace}: object {}",
            missing.snapshot.0, missing.id
        )?;
    }
    for (path, why) in &report.unreadable {
        writeln!(out, "not read  {}: {why}", path.display())?;
    }
    for path in &report.foreign {
        writeln!(out, "not an object  {}", path.display())?;
    }
    let verdict = if report.is_sound() { "nothing broken or missing" } else { "damaged" };
    writeln!(
        out,
        "{verdict}: {} of {}, {} on the disk; {} followed",
        plural(report.objects, "object"),
        size(report.content_bytes),
        size(report.stored_bytes),
        plural(report.snapshots, "snapshot"),
    )?;
    Ok(())
}

fn check_json(out: &mut Output, report: &CheckReport) -> Result<()> {
    let missing = report.missing.iter().map(|missing| {
        json!({
            "id": missing.id.to_string(), "path": missing.path.to_string_lossy(),
            "snapshot": missing.snapshot.0, "trace": missing.trace.to_string_lossy(),
        })
    });
    let unreadable = report.unreadable.iter();
    let unreadable =
        unreadable.map(|(path, why)| json!({"trace": path.to_string_lossy(), "why": why}));
    let paths = |paths: &[PathBuf]| -> Vec<_> {
        paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    };
    out.json_line(&json!({
        "kind": "store-check", "sound": report.is_sound(), "objects": report.objects,
        "content_bytes": report.content_bytes, "stored_bytes": report.stored_bytes,
        "snapshots": report.snapshots,
        "damaged": report.damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "damaged_packs": paths(&report.damaged_packs), "foreign": paths(&report.foreign),
        "missing": missing.collect::<Vec<_>>(), "unreadable": unreadable.collect::<Vec<_>>(),
    }))?;
    Ok(())
}

fn gc(store: &Store, args: &GcArgs, context: Context) -> Result<Exit> {
    let catalogue = session::catalogue()?;
    let operations = session::home()?.operations();
    let mut names = || Ok(Names { traces: catalogue.traces()?, files: files_in(&operations)? });
    let options = CollectOptions {
        max_size: args.max_size,
        min_age: args.keep_last.unwrap_or(MIN_AGE),
        remove: args.yes,
    };
    let report = store.collect(&mut names, &options)?;
    let mut out = Output::new(context.preferences);
    let freed = report.before - report.after;
    if context.preferences.json {
        out.json_line(&json!({
            "kind": "store-gc", "removed": args.yes, "objects": report.objects, "bytes": freed,
            "live": report.live, "spared": report.spared, "before": report.before, "after": report.after,
        }))?;
    } else {
        let verb = if args.yes { "removed" } else { "would remove" };
        writeln!(
            out,
            "{verb} {} that nothing names, {} of {}",
            plural(report.objects, "object"),
            size(freed),
            size(report.before),
        )?;
        if report.spared > 0 {
            writeln!(
                out,
                "{} stay: stored lately, small parts of their packs, or within the size",
                plural(report.spared, "more")
            )?;
        }
    }
    out.finish()?;
    if !args.yes && report.objects > 0 {
        eprintln!("hint: --yes removes them");
    }
    if let Some(max) = args.max_size.filter(|max| report.after > *max) {
        eprintln!(
            "agentrec: {} are named by sessions, more than {}",
            size(report.after),
            size(max)
        );
        eprintln!(
            "hint: agentrec prune removes old sessions; what only they named goes with the next gc"
        );
    }
    Ok(Exit::OK)
}

fn stats(store: &Store, context: Context) -> Result<Exit> {
    let stats = store.stats()?;
    let mut out = Output::new(context.preferences);
    if context.preferences.json {
        out.json_line(&json!({
            "kind": "store-stats", "objects": stats.objects, "cut": stats.cut, "packs": stats.packs,
            "loose": stats.loose, "content_bytes": stats.content_bytes, "stored_bytes": stats.stored_bytes,
            "path": store.dir().to_string_lossy(),
        }))?;
    } else {
        writeln!(out, "{}", home_relative(store.dir().as_os_str().as_bytes()))?;
        writeln!(
            out,
            "objects   {}, {} of them cut into others",
            count(stats.objects),
            count(stats.cut)
        )?;
        writeln!(
            out,
            "packs     {}, and {} in files of their own",
            count(stats.packs),
            count(stats.loose)
        )?;
        writeln!(out, "contents  {}", size(stats.content_bytes))?;
        writeln!(out, "on disk   {}", size(stats.stored_bytes))?;
    }
    out.finish()?;
    Ok(Exit::OK)
}
