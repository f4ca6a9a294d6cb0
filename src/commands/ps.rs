//! `agentrec ps`: the process tree with times, exit codes, and what each process read and wrote.

use std::io::Write;

use anyhow::Result;

use crate::address::{Address, Place};
use crate::digest::{Digest, Effects, Process};
use crate::exit::Exit;
use crate::output::{Output, Style, command_line, count, duration, fit, offset, size, width};
use crate::session::{self, Context};
use crate::view::{json, process_exit};

/// Arguments of `agentrec ps`.
#[derive(clap::Args)]
pub struct Args {
    /// A session, or a process whose descendants to show: 7q3k, p7, 7q3k@p7 (default: this directory's last)
    trace: Option<Address>,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?;
    let digest = session::analyse(&opened.reader)?;
    let tops: Vec<_> = match opened.place {
        None => digest.processes.roots().map(|process| process.id).collect(),
        Some(Place::Process(id)) if digest.processes.get(id).is_some() => vec![id],
        Some(place) => anyhow::bail!("cannot find a process {place} in this trace"),
    };
    let tree: Vec<_> = tops.into_iter().flat_map(|top| digest.processes.subtree(top)).collect();
    let mut out = Output::paged(context.preferences);
    if context.preferences.json {
        let effects = digest.effects(Some, |_, _| None, |_| None);
        for (_, process) in tree {
            out.json_line(&json::process(&digest, process, effects.get(&process.id)))?;
        }
    } else {
        let sums = Sums::new(&digest);
        let heading = format!(
            "{:<7} {:>7} {:>8} {:>7} {:>6}  {:<8} {:>8} {:>8} {:>5}  ",
            "PROC", "PID", "START", "TIME", "CPU", "EXIT", "READ", "WROTE", "FILES"
        );
        let heading = out.paint.dim(heading + "COMMAND");
        writeln!(out, "{heading}")?;
        for (depth, process) in tree {
            row(&mut out, &digest, &sums, depth, process)?;
        }
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// Bytes and files by process.
struct Sums<'d> {
    digest: &'d Digest,
    effects: std::collections::BTreeMap<agentrec_trace::ProcId, Effects>,
}

impl<'d> Sums<'d> {
    fn new(digest: &'d Digest) -> Self {
        Self { digest, effects: digest.effects(Some, |_, _| None, |_| None) }
    }

    /// Bytes read, bytes written, files changed.
    fn of(&self, process: &Process) -> (u64, u64, usize) {
        let (mut read, mut written) = (0u64, 0u64);
        for (path, usage) in self.digest.files.uses_of(process.id) {
            if !crate::digest::is_pseudo(path) {
                read = read.saturating_add(usage.read);
                written = written.saturating_add(usage.written);
            }
        }
        let changed = self.effects.get(&process.id).map_or(0, |effects| effects.changes.len());
        (read, written, changed)
    }
}

fn row(
    out: &mut Output,
    digest: &Digest,
    sums: &Sums<'_>,
    depth: usize,
    process: &Process,
) -> Result<()> {
    let paint = out.paint;
    let took = process
        .exit
        .map_or("…".to_owned(), |exit| duration(exit.ts.saturating_sub(process.started)));
    let cpu = process.exit.map_or(String::new(), |exit| duration(exit.cpu));
    let (read, written, changed) = sums.of(process);
    let bytes = |bytes: u64| if bytes == 0 { "-".to_owned() } else { size(bytes) };
    let changed = if changed == 0 { "-".to_owned() } else { count(changed as u64) };
    let fixed = format!(
        " {:>7} {:>8} {took:>7} {cpu:>6}  {} {:>8} {:>8} {changed:>5}  ",
        process.pid,
        offset(digest.since_start(process.started)),
        process_exit(paint, process.exit, 8),
        bytes(read),
        bytes(written),
    );
    // Very deep trees are not worth more of the line than this.
    let indent = "  ".repeat(depth.min(16));
    let argv = command_line(digest.processes.argv(process.id));
    let text = match digest.processes.executed(process.id) {
        true => argv,
        false => format!("(fork of) {argv}"),
    };
    let used = 7 + 68 + width(&indent);
    let text = fit(&text, out.columns.saturating_sub(used).max(20));
    let style = match process.exit.map(|exit| exit.code) {
        Some(Some(0)) | None => Style::Strong,
        Some(_) => Style::Bad,
    };
    writeln!(
        out,
        "{}{fixed}{indent}{}",
        paint.address(format_args!("{:<7}", process.id.to_string())),
        paint.apply(style, text)
    )?;
    Ok(())
}
