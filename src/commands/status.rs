//! `agentrec status`: the sessions that are being recorded now.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use agentrec_recorder::control::Status;
use agentrec_store::{Catalogue, Session, State};
use anyhow::Result;
use serde_json::json;

use crate::exit::Exit;
use crate::live;
use crate::output::{
    Output, Style, command_line, count, duration, fit, home_relative, json, plural,
};
use crate::session::{self, Context};

/// Arguments of `agentrec status`.
#[derive(clap::Args)]
pub struct Args {}

/// Carries it out.
pub fn run(_: &Args, context: Context) -> Result<Exit> {
    let catalogue = session::catalogue()?;
    let mut out = Output::new(context.preferences);
    let mut running = 0;
    for session in catalogue.list()?.into_iter().filter(|session| session.state == State::Recording)
    {
        // What the catalogue calls running may have died since: only who answers, or holds the trace, counts.
        let status = match live::connect_to(&session.id) {
            Ok(Some(mut client)) => client.status().ok(),
            _ => None,
        };
        if status.is_none() && !session::is_recording(&session.trace) {
            continue;
        }
        running += 1;
        if context.preferences.json {
            out.json_line(&to_json(&session, status.as_ref()))?;
        } else {
            row(&mut out, &catalogue, &session, status.as_ref())?;
        }
    }
    out.finish()?;
    if running == 0 {
        eprintln!("agentrec: nothing is being recorded");
    }
    Ok(Exit::OK)
}

fn row(
    out: &mut Output,
    catalogue: &Catalogue,
    session: &Session,
    status: Option<&Status>,
) -> Result<()> {
    let paint = out.paint;
    let id = catalogue.short_id(&session.id)?;
    let facts = match status {
        None => paint.apply(Style::Warn, "does not answer".to_owned()).to_string(),
        Some(status) => {
            let pid = status.pid.map_or(String::new(), |pid| format!("pid {pid}  "));
            let processes = plural(status.processes.into(), "process");
            let lost = if status.lost > 0 {
                format!("  {} lost", count(status.lost))
            } else {
                String::new()
            };
            let blocked = if status.recording { "" } else { "  no longer written" };
            format!(
                "{:<7} {pid}{}  {processes}  {}{}{}",
                duration(status.duration),
                plural(status.events, "event"),
                plural(status.snapshots.into(), "snapshot"),
                paint.apply(Style::Warn, lost),
                paint.apply(Style::Bad, blocked),
            )
        }
    };
    writeln!(
        out,
        "{}  {facts}  {}  {}",
        paint.address(format_args!("{id:<4}")),
        paint.dim(home_relative(session.cwd.as_os_str().as_bytes())),
        fit(&command_line(&session.argv), 60)
    )?;
    Ok(())
}

fn to_json(session: &Session, status: Option<&Status>) -> serde_json::Value {
    let argv: Vec<_> = session.argv.iter().map(|arg| json::bytes(arg)).collect();
    json!({
        "kind": "running",
        "session": session.id,
        "name": session.name,
        "trace": json::bytes(session.trace.as_os_str().as_bytes()),
        "cwd": json::bytes(session.cwd.as_os_str().as_bytes()),
        "argv": argv,
        "answers": status.is_some(),
        "pid": status.and_then(|status| status.pid),
        "recording": status.map(|status| status.recording),
        "duration": status.map(|status| status.duration),
        "events": status.map(|status| status.events),
        "processes": status.map(|status| status.processes),
        "snapshots": status.map(|status| status.snapshots),
        "lost": status.map(|status| status.lost),
    })
}
