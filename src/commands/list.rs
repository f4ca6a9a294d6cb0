//! `agentrec list`: the recorded sessions, the latest first; `--rescan` makes the catalogue again from the traces.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use agentrec_store::{Catalogue, Session, State};
use anyhow::Result;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{
    Output, Style, command_line, count, duration, fit, home_relative, json, plural, printable_line,
    size, wall, width,
};
use crate::session::{self, Context};
use crate::view::exit_text;

/// Arguments of `agentrec list`.
#[derive(clap::Args)]
pub struct Args {
    /// Only sessions of this directory
    #[arg(long)]
    here: bool,
    /// Read all traces again, in the data directory, in DIR, and wherever a listed one is
    #[arg(long, value_name = "DIR", num_args = 0..)]
    rescan: Option<Vec<PathBuf>>,
}

/// Columns of a row before the directory and the command.
const FIXED_COLUMNS: usize = 63;

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let catalogue = session::catalogue()?;
    if let Some(dirs) = &args.rescan {
        rescan(&catalogue, dirs)?;
    }
    let mut sessions = catalogue.list()?;
    if args.here {
        let here = std::env::current_dir()?;
        sessions.retain(|session| session.cwd == here);
    }
    let mut out = Output::paged(context.preferences);
    for session in &sessions {
        if context.preferences.json {
            out.json_line(&to_json(session))?;
        } else {
            row(&mut out, &catalogue, session)?;
        }
    }
    out.finish()?;
    if sessions.is_empty() {
        eprintln!("agentrec: nothing was recorded{}", if args.here { " here" } else { "" });
        eprintln!("hint: agentrec quickstart, or agentrec run -- COMMAND");
    }
    Ok(Exit::OK)
}

fn rescan(catalogue: &Catalogue, dirs: &[PathBuf]) -> Result<()> {
    let mut absolute = Vec::new();
    for dir in dirs {
        absolute.push(std::path::absolute(dir)?);
    }
    let found = catalogue.rescan(&absolute)?;
    eprintln!(
        "agentrec: {} added, {} corrected, {} forgotten",
        plural(found.added.len() as u64, "session"),
        count(found.updated.len() as u64),
        count(found.forgotten.len() as u64),
    );
    for (path, why) in &found.unreadable {
        eprintln!("agentrec: cannot read {}: {why}", path.display());
    }
    Ok(())
}

fn row(out: &mut Output, catalogue: &Catalogue, session: &Session) -> Result<()> {
    let paint = out.paint;
    let id = catalogue.short_id(&session.id)?;
    let ended = match session.state {
        State::Recording => format!("{:<9}", paint.apply(Style::Good, "running")),
        State::Incomplete => format!("{:<9}", paint.apply(Style::Bad, "cut off")),
        State::Complete if session.code.is_none() && session.signal.is_none() => {
            format!("{:<9}", paint.apply(Style::Warn, "stopped"))
        }
        State::Complete => exit_text(paint, session.code, session.signal, 9),
    };
    let took = session.duration.map(duration).unwrap_or_default();
    // The catalogue does not keep the zone of the machine; these are this user's own sessions.
    let began =
        wall(session.started, local_offset(session.started)).strftime("%d %b %H:%M").to_string();
    let counts = session.counts;
    let changed = format!("+{} ~{} -{}", counts.added, counts.changed, counts.deleted);
    let parent = match (&session.parent, &session.parent_at) {
        (Some(parent), Some(at)) => format!("  ({}@{at})", catalogue.short_id(parent)?),
        _ => String::new(),
    };
    let name = session.name.as_ref().map(|name| format!("  “{}”", printable_line(name.as_bytes())));
    let fixed =
        format!("{began}  {ended} {took:>6}  {changed:<12} {:>8}", size(counts.trace_bytes));
    let room = out.columns.saturating_sub(FIXED_COLUMNS).max(24);
    let place = fit(&home_relative(session.cwd.as_os_str().as_bytes()), room / 3);
    let said = format!("{}{}{parent}", command_line(&session.argv), name.unwrap_or_default());
    // One column for the directories, where it is known how wide it may be.
    let pad = if room > 200 { 0 } else { (room / 3).saturating_sub(width(&place)) };
    let said = fit(&said, room - width(&place) - pad);
    writeln!(
        out,
        "{}  {fixed}  {}{:pad$}  {said}",
        paint.address(format_args!("{id:<4}")),
        paint.dim(place),
        ""
    )?;
    Ok(())
}

/// Seconds east of UTC of the reader's time zone at a moment, nanoseconds since 1970.
pub fn local_offset(nanos: i64) -> i32 {
    let timestamp = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    jiff::tz::TimeZone::system().to_offset(timestamp).seconds()
}

/// A session of the catalogue as an object.
pub fn to_json(session: &Session) -> serde_json::Value {
    let argv: Vec<_> = session.argv.iter().map(|arg| json::bytes(arg)).collect();
    json!({
        "kind": "session",
        "session": session.id,
        "name": session.name,
        "trace": json::bytes(session.trace.as_os_str().as_bytes()),
        "cwd": json::bytes(session.cwd.as_os_str().as_bytes()),
        "argv": argv,
        "started": session.started,
        "duration": session.duration,
        "code": session.code,
        "signal": session.signal,
        "state": session.state.as_str(),
        "parent": session.parent,
        "parent_at": session.parent_at,
        "events": session.counts.events,
        "lost": session.counts.lost,
        "bytes": session.counts.trace_bytes,
        "added": session.counts.added,
        "changed": session.counts.changed,
        "deleted": session.counts.deleted,
    })
}
