//! `agentrec attach`: records a process that runs already, from now on, and leaves it running.

use agentrec_recorder::{Attached, Target};
use anyhow::Result;

use crate::exit::Exit;
use crate::output::plural;
use crate::recording::{self, RecordingArgs};
use crate::session::{self, Context};

/// Arguments of `agentrec attach`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recording: RecordingArgs,
    /// The process; its threads and descendants are recorded too
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
}

/// Carries it out.
pub fn run(args: Args, context: Context) -> Result<Exit> {
    let target = Target::of(args.pid)?;
    let quiet = args.recording.quiet();
    let mut options = args.recording.options(target.plan(), session::home()?)?;
    if !quiet {
        eprintln!("agentrec: attaching to {} ({})", target.pid, target.name);
        options.attached = Some(say_cost);
    }
    let record = |options| agentrec_recorder::attach(options, target);
    Ok(recording::record(options, record, quiet, None, context.preferences)?.exit)
}

/// What the recording costs whom it follows. The factors are measured: docs/benchmarks.md.
fn say_cost(found: Attached) {
    let descendants = match found.processes.saturating_sub(1) as u64 {
        0 => String::new(),
        count => format!(" with {}", plural(count, "descendant")),
    };
    eprintln!(
        "agentrec: attached{descendants} ({}); each of their system calls stops twice while this lasts: expect them to take \
         10 to 60 times as long, and computing as long as ever; Ctrl-C detaches",
        plural(found.threads as u64, "thread"),
    );
}
