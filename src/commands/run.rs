//! `agentrec run`: records a command and everything that it starts.

use std::env;
use std::ffi::OsString;

use agentrec_launch::Plan;
use anyhow::{Context as _, Result};

use crate::exit::Exit;
use crate::identity;
use crate::recording::{self, RecordingArgs, SdkArgs};
use crate::session::{self, Context};

/// Arguments of `agentrec run`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recording: RecordingArgs,
    #[command(flatten)]
    sdk: SdkArgs,
    /// The command with its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Carries it out.
pub fn run(args: Args, context: Context) -> Result<Exit> {
    let cwd = env::current_dir().context("cannot tell the working directory")?;
    let env = identity::environment();
    let mut plan = Plan { argv: args.command, env, cwd, mounts: Vec::new() };
    let home = session::home()?;
    args.sdk.apply(&home, &mut plan)?;
    let quiet = args.recording.quiet();
    if let Some(name) = identity::caller().filter(|_| !quiet) {
        eprintln!("agentrec: the command runs as {name}, who called sudo");
    }
    let options = args.recording.options(plan, home)?;
    let run = agentrec_recorder::run;
    Ok(recording::record(options, run, quiet, None, context.preferences)?.exit)
}
