//! `agentrec undo`: takes back what a session, a turn or a process did to files, and only that.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentrec_replay::undo::{Record, Scope, carry_out, plan, worked_in_copy};
use agentrec_replay::{Only, Sources};
use agentrec_store::{Operation, OperationKind, Operations, Store};
use agentrec_trace::Status;
use anyhow::{Result, anyhow};

use crate::address::Address;
use crate::digest::Digest;
use crate::error::with_hint;
use crate::exit::Exit;
use crate::output::Output;
use crate::session::{self, Context};
use crate::state::{StateArgs, say_left_alone};
use crate::undo::{Acts, Asked, Collected, Shown, meant, outward, propose, reversal, say_done};

/// Arguments of `agentrec undo`.
#[derive(clap::Args)]
pub struct Args {
    /// A session, a turn or a process in one: 7q3k, t5, p7; or an operation: o4 (default: this directory's last session)
    what: Option<String>,
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    state: StateArgs,
    /// Complete the operation that was interrupted
    #[arg(long, conflicts_with_all = ["what", "only", "conflicts", "dry_run"])]
    finish: bool,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let home = session::home()?;
    let asked = &args.asked;
    if args.finish {
        return reversal::complete(&home, context);
    }
    if let Some(id) = args.what.as_deref().and_then(reversal::number) {
        let logged = reversal::named(reversal::operations(&home)?, id)?;
        if logged.operation.kind == OperationKind::Undo {
            return Err(with_hint(
                anyhow!("cannot undo o{id}: it is an undo itself"),
                format!("agentrec redo o{id} takes it back"),
            ));
        }
        return reversal::take_back(&home, &logged, OperationKind::Undo, asked, context);
    }
    let address = args.what.as_deref().map_or(Address::LAST, |what| match what.parse() {
        Ok(address) => address,
        Err(never) => match never {},
    });
    let opened = session::open(&address)?;
    let (mut digest, mut collected) = (Digest::default(), Collected::default());
    session::each_event(&opened.reader, |event| {
        digest.add(event);
        collected.add(event);
    })?;
    let session = digest.start.as_ref().map_or(String::new(), |start| start.session.to_string());
    if worked_in_copy(&home, &session)? {
        return Err(with_hint(
            anyhow!(
                "cannot undo {}: it worked in a copy, so your files are as they were",
                opened.name
            ),
            format!(
                "agentrec apply {0} brings its changes home; agentrec rm {0} removes them",
                opened.name
            ),
        ));
    }
    if matches!(opened.reader.status(), Status::Recording) {
        eprintln!(
            "agentrec: the session is still being recorded; what it does from now on is not meant"
        );
    }
    let mut acts = meant(&digest, &collected, opened.place.as_ref())?;
    leave_state(&mut acts, &digest, args.state);
    let beyond_reach = outward(&opened.reader, &acts, &session)?;

    let log = Operations::open(&home)?;
    reversal::none_interrupted(&reversal::operations(&home)?)?;
    let store = Store::open(&home)?;
    let sources = Sources::new(&opened.reader, Some(&store));
    let record = Record {
        session: &session,
        snapshots: digest
            .snapshots
            .iter()
            .map(|snapshot| (snapshot.seq, &snapshot.created))
            .collect(),
        kept: &collected.kept,
        others: &|path| acts.others(path),
    };
    let only = if asked.only.is_empty() { None } else { Some(Only::new(&asked.only)?) };
    let scope = Scope { only: only.as_ref(), settle: asked.settle() };
    let plan = plan(&store, &home, &sources, &record, acts.touches.clone(), scope)?;
    let directory = Path::new(std::ffi::OsStr::from_bytes(digest.cwd())).to_owned();
    let shown =
        Shown { plan: &plan, digest: Some(&digest), directory: &directory, outward: &beyond_reach };
    let mut out = Output::new(context.preferences);
    let (settled, stop) = propose(&mut out, &shown, asked, "nothing to undo")?;
    if let Some(exit) = stop {
        out.finish()?;
        return Ok(exit);
    }
    let operation = Operation {
        kind: OperationKind::Undo,
        session,
        place: opened.place.as_ref().map_or(String::new(), ToString::to_string),
        directory,
        ..Operation::default()
    };
    let done =
        carry_out(&store, &log, &sources, plan, operation, None).map_err(reversal::stopped)?;
    let complete = say_done(&mut out, &done, OperationKind::Undo)?;
    out.finish()?;
    Ok(if complete { settled.exit() } else { Exit::FAILURE })
}

/// Takes out what was changed in the state directories of agents, where that is not meant: their conversations would be cut.
fn leave_state(acts: &mut Acts, digest: &Digest, state: StateArgs) {
    for (path, agent) in digest.state_roots() {
        let before = acts.touches.len();
        if !state.means(Some(&agent)) {
            acts.touches.retain(|touch| !leads_below(&touch.path, &path));
        }
        if acts.touches.len() < before {
            say_left_alone(&path, &agent, "is left as it is");
        }
    }
}

/// Whether a path lies in a directory, by its name or by where links lead now: many have their dotfiles elsewhere.
fn leads_below(path: &Path, directory: &Path) -> bool {
    let real = || path.parent().and_then(|above| above.canonicalize().ok());
    path.starts_with(directory) || real().is_some_and(|above| above.starts_with(directory))
}
