//! The lines that say which session this is.

use std::io::{self, Write};

use agentrec_trace::{Reader, Status};

use crate::digest::{Digest, Processes};
use crate::output::{
    Output, Style, command_line, count, duration, fit, home_relative, printable_line, size, wall,
    width,
};
use crate::view::describe::exit_text;

/// Columns for the command: at least, and at most however wide the screen.
const COMMAND_COLUMNS: (usize, usize) = (20, 100);
/// Columns of the rest of the first line but for the name.
const REST_COLUMNS: usize = 52;

/// The command of the session on one line.
fn command(digest: &Digest) -> String {
    match &digest.start {
        Some(start) => command_line(&start.argv),
        None => command_line(digest.processes.argv(Processes::COMMAND)),
    }
}

/// Writes who, what, when; where, how, whether whole; and from which run it goes on.
pub fn header(out: &mut Output, name: &str, reader: &Reader, digest: &Digest) -> io::Result<()> {
    let paint = out.paint;
    let start = digest.start.as_ref();
    let stop = digest.stop.as_ref();
    let rest = REST_COLUMNS + width(name);
    let wanted = out.columns.saturating_sub(rest).clamp(COMMAND_COLUMNS.0, COMMAND_COLUMNS.1);
    let command = fit(&command(digest), wanted);
    let place = fit(&place(digest), wanted);
    let left = (width(name) + 2 + width(&command)).max(width(&place));
    let status = stop.map_or_else(
        || format!("{:<8}", running_or_cut(reader)),
        |stop| match (stop.code, stop.signal) {
            // The recording ended before the command.
            (None, None) => format!("{:<8}", paint.apply(Style::Warn, "stopped")),
            (code, signal) => exit_text(paint, code, signal, 8),
        },
    );
    let took = duration(stop.map_or(digest.since_start(digest.last_ts), |stop| stop.duration));
    let began = start.map(|start| {
        let zoned = wall(start.wall, start.utc_offset);
        let this_year = jiff::Zoned::now().year() == zoned.year();
        let format = if this_year { "%a %d %b %H:%M:%S %Z" } else { "%a %d %b %Y %H:%M:%S %Z" };
        zoned.strftime(format).to_string()
    });
    let pad = left - width(name) - 2 - width(&command);
    writeln!(
        out,
        "{}  {}{:pad$}   {status} {took:<7}  {}",
        paint.address(name),
        paint.strong(&command),
        "",
        began.unwrap_or_default()
    )?;
    let pad = left - width(&place);
    let engine = start.map_or_else(String::new, |start| printable_line(start.engine.as_bytes()));
    let lost = digest.lost_total();
    let lost_style = if lost == 0 { Style::Dim } else { Style::Warn };
    let whole = match reader.status() {
        Status::Complete(_) => paint.apply(Style::Dim, "complete"),
        Status::Recording => paint.apply(Style::Good, "recording"),
        Status::Incomplete { .. } => paint.apply(Style::Bad, "incomplete"),
    };
    writeln!(
        out,
        "{place}{:pad$}   {engine:<16}  {}, {whole}, {}",
        "",
        size(reader.file_len().unwrap_or_default()),
        paint.apply(lost_style, format_args!("{} lost", count(lost)))
    )?;
    if let Status::Incomplete { offset, reason } = reader.status() {
        let reason = printable_line(reason.as_bytes());
        writeln!(out, "{} at byte {offset}: {reason}", paint.apply(Style::Bad, "cut off"))?;
    }
    if let Some(parent) = start.and_then(|start| start.parent.as_ref()) {
        let edits: Vec<_> =
            parent.edits.iter().map(|edit| printable_line(edit.as_bytes())).collect();
        let edits =
            if edits.is_empty() { String::new() } else { format!(" with {}", edits.join(", ")) };
        let parent = format!("{}@{}", parent.session, parent.at);
        writeln!(out, "resumed from {}{edits}", paint.address(printable_line(parent.as_bytes())))?;
    }
    if let Some(given) = start.and_then(|start| start.name.as_ref()) {
        writeln!(out, "named {}", paint.strong(printable_line(given.as_bytes())))?;
    }
    Ok(())
}

fn running_or_cut(reader: &Reader) -> &'static str {
    match reader.status() {
        Status::Recording => "running",
        _ => "cut off",
    }
}

/// `~/shop  main@3fc91ab, clean`
fn place(digest: &Digest) -> String {
    let Some(start) = &digest.start else { return String::new() };
    let mut place = home_relative(&start.cwd);
    if let Some(head) = &start.git_head {
        let head: String = head.chars().take(7).collect();
        let at = match &start.git_branch {
            Some(branch) => format!("{branch}@{head}"),
            None => head,
        };
        place += "  ";
        place += &printable_line(at.as_bytes());
        match start.git_dirty {
            Some(true) => place += ", dirty",
            Some(false) => place += ", clean",
            None => {}
        }
    }
    place
}
