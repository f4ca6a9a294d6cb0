//! `agentrec why FILE`: who changed a file, through which processes, and for which tool call.

use std::env;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use agentrec_replay::Sources;
use agentrec_trace::{Bytes, ProcId};
use anyhow::{Context as _, Result, anyhow};
use serde_json::json;

use crate::address::Address;
use crate::commands::blame;
use crate::digest::{
    Action, ActionKind, Attribution, Digest, Processes, Step, history, suffix_below,
};
use crate::error::with_hint;
use crate::exit::Exit;
use crate::output::{Output, Style, command_line, fit, json, printable_line, relative, size, wall};
use crate::session::{self, Context, Opened};
use crate::view::{arguments, certainty, how_sure, server};

/// Arguments of `agentrec why`.
#[derive(clap::Args)]
pub struct Args {
    /// The file, deleted ones included, or one line of it as FILE:12, in another session as 7q3k@FILE:12; outside the session's tree a relative path is meant from its working directory
    file: PathBuf,
    /// The session (default: this directory's last)
    #[arg(long, short, value_name = "SESSION")]
    trace: Option<Address>,
    /// Tell of every change, not only of the last ones
    #[arg(long, short)]
    all: bool,
}

/// Changes that are told without `--all`.
const SHOWN: usize = 5;

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let (file, line) = split_line(&args.file);
    let (opened, file) = session::open_of_file(args.trace.as_ref(), &file)?;
    let digest = session::analyse(&opened.reader)?;
    let path = absolute(&file, &digest)?;
    let mut steps: Vec<_> =
        history(&digest.files, &path).into_iter().filter(worth_telling).collect();
    if let Some(line) = line {
        return line_of(line, &path, &opened, &digest, &mut steps, context);
    }
    if steps.is_empty() {
        return Err(untouched(&digest, &path, &opened));
    }
    let mut out = Output::paged(context.preferences);
    let shown = if args.all || context.preferences.json { steps.len() } else { SHOWN };
    for step in steps.iter().take(shown) {
        if context.preferences.json {
            out.json_line(&to_json(&digest, step))?;
        } else {
            tell(&mut out, &digest, &opened, step, &path)?;
        }
    }
    if steps.len() > shown {
        let more = out.paint.dim(format!("… {} earlier changes: --all", steps.len() - shown));
        writeln!(out, "{more}")?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// The absolute path that the user means: from here where that lies in the session's tree, else from its directory.
pub fn absolute(file: &Path, digest: &Digest) -> Result<Vec<u8>> {
    let here = env::current_dir().context("cannot tell the working directory")?;
    let base = if suffix_below(here.as_os_str().as_bytes(), digest.cwd()).is_some() {
        here
    } else {
        PathBuf::from(std::ffi::OsStr::from_bytes(digest.cwd()))
    };
    // By text alone: what is named may be long gone.
    let mut absolute = PathBuf::new();
    for component in base.join(file).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(absolute.pop()),
            component => absolute.push(component),
        }
    }
    Ok(absolute.into_os_string().into_vec())
}

/// `FILE:12` as file and line, unless a file has that name.
fn split_line(file: &Path) -> (PathBuf, Option<usize>) {
    let whole = || (file.to_owned(), None);
    let Some((name, line)) = file.to_str().and_then(|name| name.rsplit_once(':')) else {
        return whole();
    };
    match line.parse() {
        Ok(line) if line > 0 && !name.is_empty() && !file.exists() => (name.into(), Some(line)),
        _ => whole(),
    }
}

/// Tells where one line came from, and of the acts that may have brought it.
fn line_of(
    line: usize,
    path: &[u8],
    opened: &Opened,
    digest: &Digest,
    steps: &mut Vec<Step>,
    context: Context,
) -> Result<Exit> {
    let store = session::store();
    let sources = Sources::new(&opened.reader, store.as_ref());
    let blamed = blame::blame(digest, &sources, Bytes::from(path).as_path())?;
    let name = relative(path, digest.cwd());
    let Some(&of) = blamed.of.get(line - 1) else {
        return Err(anyhow!(
            "cannot tell why {name}:{line} is as it is: it has {} lines",
            blamed.of.len()
        ));
    };
    let origin = &blamed.origins[of];
    match origin.between {
        Some((from, to)) => steps.retain(|step| step.action.seq > from && step.action.seq <= to),
        None => steps.clear(),
    }
    let mut out = Output::paged(context.preferences);
    if context.preferences.json {
        for step in steps.iter() {
            out.json_line(&to_json(digest, step))?;
        }
    } else {
        let text = printable_line(&blamed.lines[line - 1]);
        writeln!(out, "{}  {text}", out.paint.strong(format_args!("{name}:{line}")))?;
        let (who, span) = (blame::in_words(origin), blame::span(origin));
        writeln!(out, "{who}  {}", out.paint.address(span))?;
        for step in steps.iter() {
            tell(&mut out, digest, opened, step, path)?;
        }
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// A mapping that could be written through says nothing about whether it was.
fn worth_telling(step: &Step) -> bool {
    !matches!(step.action.kind, ActionKind::Mapped)
}

fn untouched(digest: &Digest, path: &[u8], opened: &Opened) -> anyhow::Error {
    let name = relative(path, digest.cwd());
    let error =
        anyhow!("cannot tell why {name} is as it is: nothing in {} changed it", opened.name);
    let readers = digest.files.find(path).map(|id| digest.files.users_of(id));
    let readers: Vec<_> = readers
        .into_iter()
        .flatten()
        .filter(|(_, usage)| usage.opens > 0)
        .map(|(proc, _)| format!("{proc} {}", program(digest, proc, u64::MAX)))
        .take(4)
        .collect();
    match readers.as_slice() {
        [] => with_hint(error, "no recorded process opened it either"),
        readers => with_hint(error, format!("it was opened by {}", readers.join(", "))),
    }
}

fn program(digest: &Digest, proc: ProcId, ts: u64) -> String {
    let argv = digest.processes.argv_at(proc, ts);
    command_line(argv.get(..1).unwrap_or_default())
}

/// `deleted 02:12:05 by rm 4180 <- bash -c '…' <- t5 Bash (recorded)`
fn tell(
    out: &mut Output,
    digest: &Digest,
    opened: &Opened,
    step: &Step,
    asked: &[u8],
) -> Result<()> {
    let paint = out.paint;
    let action = &step.action;
    let style = match action.kind {
        ActionKind::Deleted | ActionKind::RenamedTo(_) => Style::Bad,
        ActionKind::Created | ActionKind::RenamedFrom(_) => Style::Good,
        _ => Style::Warn,
    };
    let utc_offset = digest.start.as_ref().map_or(0, |start| start.utc_offset);
    let time = wall(digest.wall(action.ts), utc_offset).strftime("%H:%M:%S").to_string();
    let mut what = verb(step).to_owned();
    if let Some(other) = &step.other {
        what = format!("{what} {}", relative(other, digest.cwd()));
    }
    let wrote = step.written.map(|bytes| format!(" ({})", size(bytes))).unwrap_or_default();
    let pid = digest.processes.get(action.proc).map_or(0, |process| process.pid);
    write!(
        out,
        "{}{wrote} {time} by {} {pid}",
        paint.apply(style, &what),
        paint.strong(program(digest, action.proc, action.ts)),
    )?;
    for ancestor in chain(digest, action) {
        write!(out, " <- {}", fit(&ancestor, 60))?;
    }
    let attribution = digest.attribute(action.proc, action.seq, action.ts);
    if let Some(found) = &attribution {
        let calls: Vec<_> = found
            .calls
            .iter()
            .map(|call| {
                let name = printable_line(call.name.as_bytes());
                format!("{} {name}{}", paint.address(call.seq), server(call))
            })
            .collect();
        write!(out, " <- {} ({})", calls.join(" or "), how_sure(found))?;
    }
    write!(out, "  {}", paint.dim(action.seq))?;
    writeln!(out)?;
    if step.name != asked {
        writeln!(out, "  as {}", relative(&step.name, digest.cwd()))?;
    }
    if let Some(Attribution { calls, .. }) = &attribution
        && let [call] = calls.as_slice()
    {
        let given = opened.reader.payload(&call.arguments).map(|value| arguments(&value));
        if let Ok(given) = given
            && !given.is_empty()
        {
            writeln!(out, "  {} {}", printable_line(call.name.as_bytes()), fit(&given, 100))?;
        }
        if let Some(said) =
            digest.messages.iter().rev().find(|m| m.ts <= call.ts && m.role == "assistant")
        {
            let text =
                opened.reader.payload(&said.content).map(|content| crate::view::text_of(&content));
            if let Ok(text) = text
                && !text.is_empty()
            {
                writeln!(out, "  {} said: “{}”", paint.address(said.seq), fit(&text, 100))?;
            }
        }
    }
    Ok(())
}

/// The commands of the processes above the one that acted, up to the recorded command.
fn chain(digest: &Digest, action: &Action) -> Vec<String> {
    let mut chain = Vec::new();
    let mut last = digest.processes.argv_at(action.proc, action.ts);
    let mut started =
        digest.processes.get(action.proc).map_or(action.ts, |process| process.started);
    for ancestor in digest.processes.ancestors(action.proc) {
        let argv = digest.processes.argv_at(ancestor.id, started);
        // A fork that executed nothing is the same program once more.
        if argv != last || ancestor.id == Processes::COMMAND {
            chain.push(command_line(argv));
            last = argv;
        }
        started = ancestor.started;
    }
    chain
}

fn verb(step: &Step) -> &'static str {
    match step.action.kind {
        ActionKind::Created | ActionKind::NodeCreated => "created",
        ActionKind::Written { .. } => "modified",
        ActionKind::Truncated if step.written.is_some() => "rewritten",
        ActionKind::Truncated => "truncated",
        ActionKind::Deleted | ActionKind::DirectoryDeleted => "deleted",
        ActionKind::RenamedTo(_) => "renamed to",
        ActionKind::RenamedFrom(_) => "renamed from",
        ActionKind::Exchanged(_) => "exchanged with",
        ActionKind::DirectoryCreated => "created",
        ActionKind::LinkedFrom(_) => "linked to",
        ActionKind::Symlinked => "created as a link",
        ActionKind::Attributes => "mode or owner changed",
        ActionKind::Mapped => "mapped for writing",
        ActionKind::ClonedFrom(_) => "cloned from",
    }
}

fn to_json(digest: &Digest, step: &Step) -> serde_json::Value {
    let action = &step.action;
    let lineage = digest
        .processes
        .get(action.proc)
        .into_iter()
        .chain(digest.processes.ancestors(action.proc));
    let processes: Vec<_> = lineage
        .map(|process| {
            let argv = digest.processes.argv_at(process.id, action.ts);
            json!({ "proc": process.id, "pid": process.pid, "argv": json::list(argv) })
        })
        .collect();
    let attribution = digest.attribute(action.proc, action.seq, action.ts).map(|found| {
        let calls: Vec<_> = found
            .calls
            .iter()
            .map(|call| {
                json!({ "seq": call.seq, "id": call.id, "name": call.name, "server": call.server })
            })
            .collect();
        json!({ "calls": calls, "certainty": certainty(found.certainty) })
    });
    json!({
        "kind": "change",
        "seq": action.seq,
        "at": digest.since_start(action.ts),
        "wall": digest.wall(action.ts),
        "what": verb(step),
        "path": json::bytes(&step.name),
        "other": step.other.as_deref().map(json::bytes),
        "written": step.written,
        "processes": processes,
        "tool": attribution,
    })
}
