//! `agentrec files`: the files that a session, a turn or a process changed, by whom, and for which tool call.

use std::collections::HashSet;
use std::io::Write;

use agentrec_store::secret_files::is_secret_path;
use agentrec_trace::{Bytes, ProcId, Seq};
use anyhow::{Result, bail};

use crate::address::{Address, Place};
use crate::baseline::Baseline;
use crate::digest::{Attribution, Change, Digest, Effects, Net, RowKind};
use crate::exit::Exit;
use crate::output::{
    Output, Style, command_line, fit, plural, printable_line, relative, size, width,
};
use crate::session::{self, Context};
use crate::view::{call_address, certainty, json, net_style};

/// Arguments of `agentrec files`.
#[derive(clap::Args)]
pub struct Args {
    /// A session, or a turn, another conversation or a process in one: 7q3k, t5, t5/a, p7 (default: this directory's last)
    trace: Option<Address>,
    /// Tell what was read, too
    #[arg(long, short)]
    reads: bool,
}

/// Widest column of names.
const NAME: usize = 60;

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?;
    let digest = session::analyse(&opened.reader)?;
    let store = session::store();
    let baseline = Baseline::new(&opened.reader, store.as_ref(), &digest);
    let (procs, calls) = actors(&digest, opened.place.as_ref())?;
    let effects = digest.effects_of(&procs, &calls, |path| baseline.existed(path));
    let mut out = Output::paged(context.preferences);
    if context.preferences.json {
        for change in &effects.changes {
            out.json_line(&line(&digest, change))?;
        }
        for read in effects.reads.iter().filter(|_| args.reads) {
            let mut line = json::read(read);
            line["kind"] = "file".into();
            line["change"] = "read".into();
            line["procs"] = serde_json::json!([read.proc]);
            out.json_line(&line)?;
        }
    } else {
        table(&mut out, &digest, &effects, args.reads)?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// Who acts for a place: processes, and tool calls inside of the process that told of them.
fn actors(digest: &Digest, place: Option<&Place>) -> Result<(HashSet<ProcId>, HashSet<Seq>)> {
    let below =
        |id: ProcId| digest.processes.subtree(id).into_iter().map(|(_, process)| process.id);
    let place = match place {
        None => {
            return Ok((
                digest.processes.iter().map(|process| process.id).collect(),
                HashSet::new(),
            ));
        }
        Some(Place::Process(id)) if digest.processes.get(*id).is_some() => {
            return Ok((below(*id).collect(), HashSet::new()));
        }
        Some(place) => place,
    };
    let Some(turns) = session::turns(digest, place)? else {
        bail!("cannot tell the files of {place}: it is no turn or process of this trace")
    };
    let calls: HashSet<Seq> = turns.iter().flat_map(|turn| turn.calls.iter().copied()).collect();
    let rows = digest.rows(|_| None);
    let of_calls = rows.iter().filter(
        |row| matches!(row.kind, RowKind::Call(index) if calls.contains(&digest.calls[index].seq)),
    );
    let started = of_calls.flat_map(|row| row.nested.iter().map(|(id, _)| *id));
    Ok((started.flat_map(below).collect(), calls))
}

/// The tool calls behind the last act on a file.
fn caller<'d>(digest: &'d Digest, change: &Change) -> Option<Attribution<'d>> {
    let actions = digest.files.actions();
    let at = actions.iter().rfind(|action| action.seq == change.last)?;
    digest.attribute(at.proc, at.seq, at.ts)
}

fn line(digest: &Digest, change: &Change) -> serde_json::Value {
    let mut line = json::change(change);
    line["kind"] = "file".into();
    line["in_tree"] = digest.in_tree(&change.path).into();
    line["secret"] = is_secret(&change.path).into();
    line["old_content"] = match digest.in_tree(&change.path) {
        true => serde_json::Value::Null,
        false => digest.files.old_content_of(change).into(),
    };
    line["tool"] = caller(digest, change).map_or(serde_json::Value::Null, |found| {
        let calls: Vec<_> = found.calls.iter().map(|call| call.seq).collect();
        serde_json::json!({ "calls": calls, "certainty": certainty(found.certainty) })
    });
    line
}

fn is_secret(path: &[u8]) -> bool {
    is_secret_path(Bytes::from(path).as_path())
}

fn table(out: &mut Output, digest: &Digest, effects: &Effects, reads: bool) -> Result<()> {
    let paint = out.paint;
    let name = |path: &[u8], directory: bool| {
        let name = relative(path, digest.cwd());
        if directory { format!("{name}/") } else { name }
    };
    let program = |id: ProcId| {
        let argv = digest.processes.argv(id);
        format!("{id} {}", fit(&command_line(argv.get(..1).unwrap_or_default()), 16))
    };
    let reads: &[_] = if reads { &effects.reads } else { &[] };
    let changed = effects.changes.iter().map(|change| name(&change.path, change.directory));
    let columns = changed.chain(reads.iter().map(|read| name(&read.path, false)));
    let columns = columns.map(|name| width(&name)).max().unwrap_or(0).clamp(4, NAME);
    if effects.changes.is_empty() && reads.is_empty() {
        eprintln!("agentrec: no file was changed there");
        return Ok(());
    }
    let heading = format!("  {:<columns$} {:>8}  {:<22}  FOR", "FILE", "WRITTEN", "BY");
    writeln!(out, "{}", paint.dim(heading))?;
    for change in &effects.changes {
        let shown = fit(&name(&change.path, change.directory), columns);
        let pad = columns - width(&shown);
        let shown = format!("{} {shown}", change.net.sign());
        let shown = paint.apply(net_style(change.net), shown);
        let written = if change.net == Net::Deleted { String::new() } else { size(change.written) };
        let last = change.procs.iter().next_back().copied().unwrap_or_default();
        let by = match change.procs.len() {
            0 | 1 => program(last),
            n => format!("{} …{}", program(last), n - 1),
        };
        write!(out, "{shown}{:pad$} {written:>8}  {by:<22}  {}", "", tools(digest, change))?;
        if change.directory && change.inside > 0 {
            write!(out, "  {}", plural(change.inside, "file"))?;
        }
        for (is_so, word) in [
            (is_secret(&change.path), "SECRET"),
            (!digest.in_tree(&change.path), "OUTSIDE the tree"),
        ] {
            if is_so {
                write!(out, "  {}", paint.apply(Style::Warn, word))?;
            }
        }
        if !digest.in_tree(&change.path)
            && let Some(old) = digest.files.old_content_of(change)
        {
            write!(out, ", {old}")?;
        }
        writeln!(out)?;
    }
    for read in reads {
        let shown = fit(&name(&read.path, false), columns);
        let pad = columns - width(&shown);
        let secret = if is_secret(&read.path) { "SECRET" } else { "" };
        let by = program(read.proc);
        writeln!(
            out,
            "  {shown}{:pad$} {:>8}  {by:<22}  read  {}",
            "",
            size(read.bytes),
            paint.apply(Style::Warn, secret)
        )?;
    }
    Ok(())
}

/// `t5 shell`, `t4 a or t4.2 b (inferred, ambiguous)`, or nothing.
fn tools(digest: &Digest, change: &Change) -> String {
    let Some(found) = caller(digest, change) else { return "-".to_owned() };
    let named = found.calls.iter().map(|call| {
        let name = printable_line(call.name.as_bytes());
        format!("{} {name}", call_address(digest, call.seq))
    });
    let named = named.collect::<Vec<_>>().join(" or ");
    format!("{named} ({})", crate::view::how_sure(&found))
}
