//! `agentrec prune`: removes old sessions, after showing which.

use std::io::Write;
use std::time::Duration;

use agentrec_store::{PruneLimits, PruneReason};
use anyhow::Result;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{Output, command_line, fit, plural, size};
use crate::quantity::{bytes, span};
use crate::session::{self, Context};

/// Arguments of `agentrec prune`.
#[derive(clap::Args)]
pub struct Args {
    /// Remove what began longer ago than this, such as 7d or 12h
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
    out.finish()?;
    let bytes = pruned.iter().map(|going| going.bytes).sum();
    eprintln!("agentrec: {}, {}", plural(pruned.len() as u64, "session"), size(bytes));
    if !args.yes && !pruned.is_empty() {
        eprintln!("hint: --yes removes them");
    }
    Ok(Exit::OK)
}
