//! `agentrec prune`: removes old sessions, after showing which.

use std::io::Write;
use std::time::Duration;

use agentrec_store::{PruneLimits, PruneReason};
use anyhow::{Result, anyhow};
use serde_json::json;

use crate::exit::Exit;
use crate::output::{Output, command_line, fit, plural, size};
use crate::session::{self, Context};

/// Arguments of `agentrec prune`.
#[derive(clap::Args)]
pub struct Args {
    /// Remove what began longer ago than this, such as 7d or 12h
    #[arg(long, value_name = "AGE", value_parser = age, required_unless_present = "max_size")]
    keep_last: Option<Duration>,
    /// Remove the oldest until the rest takes at most this, such as 5G or 500M
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_size: Option<u64>,
    /// Do it, rather than only telling what would go
    #[arg(long, short)]
    yes: bool,
}

fn age(text: &str) -> Result<Duration> {
    let span: jiff::Span =
        text.parse().map_err(|_| anyhow!("write an age such as 7d, 12h or 2w"))?;
    // Days and weeks of 24 hours: nobody counts on the hour that a clock change moves.
    let nanos = span.total(jiff::SpanTotal::from(jiff::Unit::Nanosecond).days_are_24_hours());
    match nanos {
        Ok(nanos) if nanos >= 0.0 => Ok(Duration::from_nanos(nanos as u64)),
        _ => Err(anyhow!("write an age such as 7d, 12h or 2w")),
    }
}

fn bytes(text: &str) -> Result<u64> {
    let text = text.trim_end_matches(['B', 'b']);
    let (digits, factor) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'M')) => (&text[..at], 1_000_000),
        Some((at, 'G')) => (&text[..at], 1_000_000_000),
        Some((at, 'T')) => (&text[..at], 1_000_000_000_000),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| anyhow!("write a size such as 500M or 5G"))?;
    number.checked_mul(factor).ok_or_else(|| anyhow!("that is more than any disk holds"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes() {
        assert_eq!(age("7d").ok(), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(age("12h").ok(), Some(Duration::from_secs(12 * 3_600)));
        assert!(age("-1d").is_err() && age("soon").is_err());
        assert_eq!(bytes("5G").ok(), Some(5_000_000_000));
        assert_eq!(bytes("500MB").ok(), Some(500_000_000));
        assert_eq!(bytes("12").ok(), Some(12));
        assert!(bytes("G").is_err() && bytes("99999999999T").is_err());
    }
}
