//! `agentrec apply`: brings home the changes that a resumed run made in its copy, after showing them.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use agentrec_replay::undo::carry_out;
use agentrec_replay::{ApplyPlan, Sources, plan_apply};
use agentrec_store::{Operation, OperationKind, Operations, Store};
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::address::{Address, SessionRef};
use crate::commands::restore::say_saved;
use crate::exit::Exit;
use crate::output::{Output, Style, json, of_files, plural, printable_line};
use crate::session::{self, Context};
use crate::undo::{confirmed, reversal, say_done};
use crate::view::changes;

/// Arguments of `agentrec apply`.
#[derive(clap::Args)]
pub struct Args {
    /// The resumed session (default: this directory's last)
    session: Option<Address>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Only show what would be done
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Where both sides changed a file, take the copy's
    #[arg(long)]
    overwrite: bool,
    /// The patterns that the session was recorded with
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let id = session_of(args.session.as_ref().unwrap_or(&Address::LAST))?;
    let home = session::home()?;
    let store = Store::open(&home)?;
    let plan = plan_apply(&store, &home, &id, &args.exclude)
        .with_context(|| format!("cannot apply {id}"))?;
    let mut out = Output::new(context.preferences);
    show(&mut out, &store, &plan, args.overwrite)?;
    out.flush()?;
    let conflicts = plan.roots.iter().map(|root| root.conflicts.len()).sum::<usize>();
    if conflicts > 0 && !args.overwrite && !args.dry_run {
        eprintln!("agentrec: {} left alone", plural(conflicts as u64, "conflict"));
        eprintln!("hint: --overwrite takes the copy's");
    }
    if plan.is_empty() {
        eprintln!("agentrec: nothing to bring home");
        return Ok(Exit::OK);
    }
    if args.dry_run {
        return Ok(Exit::OK);
    }
    if !args.yes && !confirmed("Bring these changes home?")? {
        eprintln!("agentrec: nothing was changed");
        return Ok(Exit::FAILURE);
    }
    for root in &plan.roots {
        store.pin(&root.saved)?;
    }
    let log = Operations::open(&home)?;
    reversal::none_interrupted(&reversal::operations(&home)?)?;
    let changes = plan.changes(&store, args.overwrite)?;
    let operation = Operation {
        kind: OperationKind::Apply,
        session: id,
        directory: plan.roots.first().map(|root| root.home.clone()).unwrap_or_default(),
        ..Operation::default()
    };
    let progress = of_files("applying");
    let done =
        carry_out(&store, &log, &Sources::store(&store), changes, operation, Some(&progress))
            .map_err(reversal::stopped)?;
    drop(progress);
    let done_all = say_done(&mut out, &done, OperationKind::Apply)?;
    for root in &plan.roots {
        say_saved(&root.home, root.saved);
    }
    out.finish()?;
    let complete = done_all && (conflicts == 0 || args.overwrite);
    Ok(if complete { Exit::OK } else { Exit::FAILURE })
}

fn session_of(address: &Address) -> Result<String> {
    if let Some(place) = &address.place {
        bail!("cannot apply {place}: only whole sessions have a copy");
    }
    match &address.session {
        Some(SessionRef::File(path)) => {
            Ok(agentrec_replay::session_id(&session::open_file(path)?)?)
        }
        wanted => {
            let found = session::find(&session::catalogue()?, wanted.as_ref())?;
            Ok(found.context("cannot find the session")?.id)
        }
    }
}

fn show(out: &mut Output, store: &Store, plan: &ApplyPlan, overwrite: bool) -> Result<()> {
    let paint = out.paint;
    for root in &plan.roots {
        let home = root.home.as_os_str().as_bytes();
        for change in &root.changes {
            if out.json {
                out.json_line(&changes::to_json(home, change))?;
            } else {
                changes::write_stat(out, store, change)?;
            }
        }
        for change in &root.conflicts {
            let name = printable_line(change.path.as_os_str().as_bytes());
            if out.json {
                let path = json::bytes(change.path.as_os_str().as_bytes());
                out.json_line(
                    &json!({ "kind": "conflict", "root": json::bytes(home), "path": path }),
                )?;
            } else {
                let what = if overwrite {
                    "changed at home too, would be replaced"
                } else {
                    "changed at home too"
                };
                writeln!(out, "{} {name}  {what}", paint.apply(Style::Bad, "conflict"))?;
            }
        }
        for path in &root.unknown {
            if out.json {
                let path = json::bytes(path.as_os_str().as_bytes());
                out.json_line(
                    &json!({ "kind": "unknown", "root": json::bytes(home), "path": path }),
                )?;
            } else {
                let name = printable_line(path.as_os_str().as_bytes());
                let mark = paint.apply(Style::Warn, "unknown");
                writeln!(out, "{mark} {name}  was not in the copy or in a snapshot, left alone")?;
            }
        }
    }
    Ok(())
}
