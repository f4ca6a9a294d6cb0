//! `agentrec resume`: brings back a snapshot in a copy and runs the agent again from there, recorded.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use agentrec_recorder::Lineage;
use agentrec_replay::{Edits, MissingReason, Place, ResumePlan, read_snapshot, resume_plan};
use agentrec_store::{LeftOut, Store, new_session_id};
use anyhow::{Context as _, Result, bail};

use crate::address::Address;
use crate::exit::Exit;
use crate::identity;
use crate::output::{home_relative, of_files, plural, printable_line};
use crate::recording::{self, RecordingArgs, SdkArgs};
use crate::session::{self, Context};

/// Arguments of `agentrec resume`.
#[derive(clap::Args)]
pub struct Args {
    /// The session, or the snapshot as 7q3k@s2, or a turn as t5 (default: this directory's last)
    trace: Option<Address>,
    /// The snapshot's number
    #[arg(long, short, value_name = "N")]
    snapshot: Option<u32>,
    /// What the agent is asked this time; it finds this in its resume state
    #[arg(long, short, value_name = "TEXT")]
    prompt: Option<String>,
    /// Set a variable, redacted ones included
    #[arg(long, value_name = "NAME=VALUE", value_parser = clap::builder::OsStringValueParser::new())]
    env: Vec<OsString>,
    /// Where the copy of the files goes (default: in the data directory)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    recording: RecordingArgs,
    #[command(flatten)]
    sdk: SdkArgs,
    /// Another command (default: the recorded one)
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Carries it out.
pub fn run(args: Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?;
    let index = opened.snapshot(args.snapshot)?;
    let snapshot = read_snapshot(&opened.reader, index)?;
    let edits = Edits {
        prompt: args.prompt,
        env: args.env.into_iter().map(variable).collect::<Result<_>>()?,
        argv: (!args.command.is_empty()).then_some(args.command),
    };
    let home = session::home()?;
    let store = Store::open(&home)?;
    let id = new_session_id().context("cannot make a session id")?;
    let environment = identity::environment();
    let place = Place { home: &home, session: &id, dir: args.dir.as_deref(), env: &environment };
    let planned = resume_plan(
        &opened.reader,
        &store,
        &snapshot,
        &edits,
        &place,
        Some(&of_files("restoring")),
    )
    .with_context(|| format!("cannot resume {}@{index}", opened.name))?;
    tell(&planned);
    let parent = format!("{}@{index}", opened.name);
    let quiet = args.recording.quiet();
    let ResumePlan { mut plan, state, parent: parent_id, at, edits, roots, .. } = planned;
    let work = home.session_work(&id);
    args.sdk.apply(&home, &mut plan)?;
    let mut options = args.recording.options(plan, home)?;
    // All of them: where the working directory lies below a root, it is no root of its own.
    for root in roots {
        match root.agent {
            Some(agent) => options.state_roots.push((agent, root.path)),
            None => options.roots.push(root.path),
        }
    }
    options.session = Some(id);
    options.lineage = Some(Lineage { session: parent_id, at, edits });
    options.resume_state = Some(state);
    let ended = recording::record(
        options,
        agentrec_recorder::run,
        quiet,
        Some(&parent),
        context.preferences,
    );
    if !ended.as_ref().is_ok_and(|ended| ended.ran) {
        // Nothing ran, so nothing worked in the copy. What can't be removed is found by `agentrec rm`.
        let _ = std::fs::remove_dir_all(work);
    }
    Ok(ended?.exit)
}

fn variable(text: OsString) -> Result<(OsString, OsString)> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|&b| b == b'=') {
        Some(at) if at > 0 => Ok((
            OsStr::from_bytes(&bytes[..at]).to_owned(),
            OsString::from_vec(bytes[at + 1..].to_vec()),
        )),
        _ => bail!("cannot set a variable by `{}`: write NAME=VALUE", printable_line(bytes)),
    }
}

/// Says where the agent works, and what it will miss.
fn tell(planned: &ResumePlan) {
    for root in &planned.roots {
        let path = home_relative(root.path.as_os_str().as_bytes());
        eprintln!(
            "agentrec: works in a copy that the agent sees as {path}; your {path} is untouched"
        );
        if let Some(agent) = &root.agent {
            // Its profile leaves out what it makes again, and the rest can be a thousand files.
            let excluded = MissingReason::LeftOut(LeftOut::Excluded);
            let missing = root.restored.missing.iter().filter(|it| it.reason != excluded).count();
            if missing > 0 {
                let files = plural(missing as u64, "file");
                let agent = printable_line(agent.as_bytes());
                eprintln!("agentrec: missing of {path}, the state of {agent}: {files}");
            }
            continue;
        }
        for missing in &root.restored.missing {
            let name = printable_line(missing.path.as_os_str().as_bytes());
            eprintln!("agentrec: missing {name}: {}", missing.reason.as_str());
        }
    }
    for path in &planned.absent {
        let path = home_relative(path.as_os_str().as_bytes());
        eprintln!(
            "agentrec: {path} is not here: the agent starts without the state that it had there"
        );
        eprintln!("hint: make that directory, and resume again, to give it back");
    }
    for name in &planned.missing_env {
        eprintln!("agentrec: {name} was redacted and is not set now; --env {name}=… sets it");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_recorder_redacts_is_what_a_resume_fills_in() {
        assert_eq!(agentrec_replay::REDACTION_MARK, agentrec_recorder::redact::MARK_START);
    }
}
