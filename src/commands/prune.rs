//! `agentrec prune`: removes old sessions and what could take old operations back, after showing which.

use std::io::Write;
use std::time::{Duration, SystemTime};

use agentrec_store::{Operations, PruneLimits, PruneReason, Store};
use anyhow::Result;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{Output, command_line, fit, plural, size};
use crate::quantity::{bytes, span};
use crate::session::{self, Context};
use crate::undo::reversal;

/// Arguments of `agentrec prune`.
#[derive(clap::Args)]
pub struct Args {
    /// Remove what began longer ago than this, such as 7d or 12h: sessions, operations, and trees that were saved before
    /// something was overwritten
    #[arg(long, value_name = "AGE", value_parser = span, required_unless_present = "max_size")]
    keep_last: Option<Duration>,
    /// Remove the oldest until the rest takes at most this, such as 5G or 500M
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_size: Option<u64>,
    /// Do it, rather than only telling what would go
    #[arg(long, short)]
    yes: bool,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let catalogue = session::catalogue()?;
    let limits = PruneLimits { keep_last: args.keep_last, max_size: args.max_size };
    let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let pruned = catalogue.plan_prune(limits, now)?;
    let mut out = Output::new(context.preferences);
    for going in &pruned {
        let id = catalogue.short_id(&going.session.id)?;
        let why = match going.reason {
            PruneReason::Age => "too old",
            PruneReason::Size => "over the size",
        };
        if args.yes {
            catalogue.remove(&going.session)?;
        }
        if context.preferences.json {
            out.json_line(&json!({
                "kind": "pruned", "session": going.session.id, "bytes": going.bytes,
                "reason": why, "removed": args.yes,
            }))?;
        } else {
            let verb = if args.yes { "removed" } else { "would remove" };
            let command = fit(&command_line(&going.session.argv), 40);
            writeln!(out, "{verb} {id}  {:>8}  {why:<13}  {command}", size(going.bytes))?;
        }
    }
    let old = match args.keep_last {
        Some(age) => prune_operations(&mut out, now, age, args.yes)?,
        None => 0,
    };
    out.finish()?;
    let bytes = pruned.iter().map(|going| going.bytes).sum();
    eprintln!("agentrec: {}, {}", plural(pruned.len() as u64, "session"), size(bytes));
    if !args.yes && (!pruned.is_empty() || old > 0) {
        eprintln!("hint: --yes removes them");
    }
    Ok(Exit::OK)
}

/// Removes operations that began longer ago than `age`, and the trees that were saved then; what was interrupted stays. Returns how
/// many there are.
fn prune_operations(out: &mut Output, now: i64, age: Duration, remove: bool) -> Result<u64> {
    let home = session::home()?;
    let oldest = now.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
    let log = Operations::open(&home)?;
    let mut count = 0;
    let verb = if remove { "removed" } else { "would remove" };
    for logged in reversal::operations(&home)? {
        if logged.outcome.is_none() || logged.operation.time >= oldest {
            continue;
        }
        if remove {
            log.remove(logged.id)?;
        }
        count += 1;
        let (kind, about) = (logged.operation.kind.as_str(), reversal::about(&logged.operation));
        if out.json {
            let operation = format!("o{}", logged.id);
            out.json_line(&json!({ "kind": "pruned", "operation": operation, "reason": "too old", "removed": remove }))?;
        } else {
            writeln!(out, "{verb} o{}  {kind} of {about}", logged.id)?;
        }
    }
    let store = Store::open(&home)?;
    let since = SystemTime::now().checked_sub(age);
    for (tree, saved) in store.pinned()? {
        if since.is_none_or(|since| saved >= since) {
            continue;
        }
        if remove {
            store.unpin(&tree)?;
        }
        count += 1;
        if out.json {
            let tree = tree.to_string();
            out.json_line(
                &json!({ "kind": "pruned", "tree": tree, "reason": "too old", "removed": remove }),
            )?;
        } else {
            writeln!(out, "{verb} saved tree {tree}")?;
        }
    }
    Ok(count)
}
