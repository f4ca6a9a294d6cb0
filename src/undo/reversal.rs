//! Operations of the log: which one is meant, and taking one back.

use std::env;
use std::path::{Path, PathBuf};

use agentrec_replay::undo::{Scope, carry_out, finish, reverse};
use agentrec_replay::{Error, Only, Sources};
use agentrec_store::{Home, Logged, Operation, OperationKind, Operations, Store};
use anyhow::{Context as _, Result, anyhow};

use super::show::{Shown, say_done};
use super::{Asked, propose};
use crate::error::{with_hint, with_stand};
use crate::exit::Exit;
use crate::output::{Output, printable_line};
use crate::session::Context;

/// All operations; files that can't be read are told.
pub fn operations(home: &Home) -> Result<Vec<Logged>> {
    let (logged, damaged) = Operations::list(home)?;
    for path in damaged {
        eprintln!("agentrec: passing over {}: it can't be read", path.display());
    }
    Ok(logged)
}

/// The number in `o7`.
pub fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('o')?;
    (digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0'))
        .then(|| digits.parse().ok())?
}

/// The operation `o7`.
pub fn named(logged: Vec<Logged>, id: u64) -> Result<Logged> {
    logged.into_iter().find(|logged| logged.id == id).ok_or_else(|| {
        with_hint(anyhow!("cannot find an operation o{id}"), "agentrec ops --all lists them")
    })
}

/// Whether an operation stands: it was not taken back by one that stands itself.
pub fn stands(all: &[Logged], id: u64) -> bool {
    !all.iter().any(|later| later.operation.reverses == Some(id) && stands(all, later.id))
}

/// Whether an operation is about a directory: it is that of its session, or lies in it.
pub fn is_here(logged: &Logged, here: &Path) -> bool {
    here.starts_with(&logged.operation.directory)
}

/// The present directory.
pub fn here() -> Result<PathBuf> {
    env::current_dir().context("cannot tell the working directory")
}

/// The command that takes an operation back.
pub fn takes_back(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Undo => "redo",
        OperationKind::Redo | OperationKind::Restore | OperationKind::Apply => "undo",
    }
}

/// The last operation that was interrupted.
pub fn interrupted(all: &[Logged]) -> Option<&Logged> {
    all.iter().rfind(|logged| logged.outcome.is_none())
}

/// Fails where an operation was interrupted and nobody has said what is to become of it.
pub fn none_interrupted(all: &[Logged]) -> Result<()> {
    match interrupted(all) {
        None => Ok(()),
        Some(logged) => Err(with_hint(
            anyhow!("cannot begin another one: o{} was interrupted", logged.id),
            ways_on(logged.id, logged.operation.kind),
        )),
    }
}

/// What can become of an operation that was interrupted.
fn ways_on(id: u64, kind: OperationKind) -> String {
    format!(
        "agentrec undo --finish completes it; agentrec {} o{id} takes it back",
        takes_back(kind)
    )
}

/// Says how things stand where a plan was not made, or not carried out.
pub fn stopped(error: Error) -> anyhow::Error {
    let stand = match &error {
        Error::Interrupted { id, kind, .. } => {
            format!("what was done so far is in the log; {}", ways_on(*id, *kind))
        }
        _ => "nothing was changed yet".to_owned(),
    };
    with_stand(error, stand)
}

/// Completes the operation that was interrupted.
pub fn complete(home: &Home, context: Context) -> Result<Exit> {
    let log = Operations::open(home)?;
    let all = operations(home)?;
    let Some(logged) = interrupted(&all) else {
        eprintln!("agentrec: nothing was interrupted");
        return Ok(Exit::OK);
    };
    let store = Store::open(home)?;
    let done = finish(&store, &log, logged).map_err(stopped)?;
    close_reversed(&log, &all, &logged.operation)?;
    let mut out = Output::new(context.preferences);
    let complete = say_done(&mut out, &done, logged.operation.kind)?;
    out.finish()?;
    Ok(if complete { Exit::OK } else { Exit::FAILURE })
}

/// Takes `logged` back, after showing what that means.
pub fn take_back(
    home: &Home,
    logged: &Logged,
    kind: OperationKind,
    asked: &Asked,
    context: Context,
) -> Result<Exit> {
    let log = Operations::open(home)?;
    let all = operations(home)?;
    if interrupted(&all).is_none_or(|interrupted| interrupted.id != logged.id) {
        none_interrupted(&all)?;
    }
    let store = Store::open(home)?;
    let only = if asked.only.is_empty() { None } else { Some(Only::new(&asked.only)?) };
    let plan = reverse(&store, logged, Scope { only: only.as_ref(), settle: asked.settle() })?;
    let directory = logged.operation.directory.clone();
    let shown = Shown { plan: &plan, digest: None, directory: &directory, outward: &[] };
    let mut out = Output::new(context.preferences);
    if plan.is_empty() && logged.outcome.is_none() && !asked.dry_run {
        log.end(logged.id, &agentrec_store::Outcome::default())?;
    }
    let (settled, stop) = propose(&mut out, &shown, asked, "nothing to take back")?;
    if let Some(exit) = stop {
        out.finish()?;
        return Ok(exit);
    }
    let operation = Operation {
        kind,
        session: logged.operation.session.clone(),
        place: logged.operation.place.clone(),
        directory,
        reverses: Some(logged.id),
        ..Operation::default()
    };
    let reversed = operation.clone();
    let done =
        carry_out(&store, &log, &Sources::store(&store), plan, operation, None).map_err(stopped)?;
    close_reversed(&log, &all, &reversed)?;
    let complete = say_done(&mut out, &done, kind)?;
    out.finish()?;
    Ok(if complete { settled.exit() } else { Exit::FAILURE })
}

/// An interrupted operation that was taken back is not interrupted any more.
fn close_reversed(log: &Operations, all: &[Logged], operation: &Operation) -> Result<()> {
    let reversed =
        all.iter().find(|logged| Some(logged.id) == operation.reverses && logged.outcome.is_none());
    if let Some(reversed) = reversed {
        log.end(reversed.id, &agentrec_store::Outcome::default())?;
    }
    Ok(())
}

/// What an operation is about, for a list.
pub fn about(operation: &Operation) -> String {
    let session = printable_line(operation.session.as_bytes());
    let place = if operation.place.is_empty() {
        String::new()
    } else {
        format!("@{}", printable_line(operation.place.as_bytes()))
    };
    match operation.reverses {
        Some(id) => format!("o{id} ({session}{place})"),
        None => format!("{session}{place}"),
    }
}
