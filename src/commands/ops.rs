//! `agentrec ops`: the log of what undo, redo, `restore --in-place` and `apply` did.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use serde_json::json;

use crate::commands::list::local_offset;
use crate::exit::Exit;
use crate::output::{Output, Style, json, plural, wall};
use crate::session::{self, Context};
use crate::undo::reversal;

/// Arguments of `agentrec ops`.
#[derive(clap::Args)]
pub struct Args {
    /// Those of other directories, too
    #[arg(long, short)]
    all: bool,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let here = reversal::here()?;
    let all = reversal::operations(&session::home()?)?;
    let mut out = Output::paged(context.preferences);
    let shown: Vec<_> =
        all.iter().filter(|logged| args.all || reversal::is_here(logged, &here)).collect();
    for logged in &shown {
        let operation = &logged.operation;
        let kind = operation.kind.as_str();
        let paths = operation.steps.iter().filter(|step| step.is_change()).count() as u64;
        let stands = reversal::stands(&all, logged.id);
        let left = logged.outcome.as_ref().map_or(0, |outcome| outcome.left.len() as u64);
        if out.json {
            out.json_line(&json!({
                "kind": "operation", "operation": format!("o{}", logged.id), "what": kind,
                "session": operation.session, "place": operation.place,
                "directory": json::bytes(operation.directory.as_os_str().as_bytes()),
                "time": operation.time, "paths": paths, "not_done": left,
                "reverses": operation.reverses.map(|id| format!("o{id}")),
                "taken_back": !stands, "interrupted": logged.outcome.is_none(),
            }))?;
            continue;
        }
        let paint = out.paint;
        let state = match (&logged.outcome, stands) {
            (None, _) => paint.apply(Style::Bad, "interrupted".to_owned()),
            (_, false) => paint.apply(Style::Dim, "taken back".to_owned()),
            (Some(_), true) if left > 0 => paint.apply(Style::Warn, format!("{left} not done")),
            _ => paint.apply(Style::Good, "done".to_owned()),
        };
        let time = wall(operation.time, local_offset(operation.time))
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string();
        let id = paint.address(format!("{:<4}", format!("o{}", logged.id)));
        writeln!(
            out,
            "{id} {kind:<7}  {:<24} {:>10}  {time}  {state}",
            reversal::about(operation),
            plural(paths, "path")
        )?;
    }
    out.finish()?;
    if shown.is_empty() && !context.preferences.json {
        eprintln!("agentrec: nothing was undone or restored here");
    }
    Ok(Exit::OK)
}
