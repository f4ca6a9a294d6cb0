//! `agentrec attach`: records a process that runs already, from now on, and leaves it running.

use agentrec_recorder::{Attached, Engine, Target};
use anyhow::Result;

use crate::exit::Exit;
use crate::output::plural;
use crate::recording::{self, RecordingArgs};
use crate::session::{self, Context};

/// What a user has to know before.
const GOOD_TO_KNOW: &str = "\
Ctrl-C, or `agentrec stop` in another terminal, ends the recording; the process runs on. Where the process ends first, \
its exit status is returned (128 + n for a signal); 0 when it was let go, 125 when it can't be attached to.

What it did before is not known, but for the files that it has open. It does not find the local socket of the session: \
messages and tool calls are not recorded.

It needs the right to trace the process: root, or one's own process where kernel.yama.ptrace_scope is 0 (agentrec doctor \
tells). A process that is traced already, by a debugger or another recording, can't be attached to.

Each system call of the process stops twice meanwhile, which costs some 20 to 40 µs; computing costs nothing. As root it \
is recorded by the eBPF engine where that loads, which stops nobody and takes a process that is traced already, too, but \
records no terminal input; --engine chooses.";

/// Arguments of `agentrec attach`.
#[derive(clap::Args)]
#[command(after_long_help = GOOD_TO_KNOW)]
pub struct Args {
    #[command(flatten)]
    recording: RecordingArgs,
    /// The process, by its id; its threads and descendants are recorded too
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
        options.attached = Some(say_attached);
    }
    let record = |options| agentrec_recorder::attach(options, target);
    Ok(recording::record(options, record, quiet, None, context.preferences)?.exit)
}

fn say_attached(found: Attached) {
    let descendants = match found.processes.saturating_sub(1) as u64 {
        0 => String::new(),
        count => format!(" with {}", plural(count, "descendant")),
    };
    let threads = plural(found.threads as u64, "thread");
    let cost = match found.engine {
        Engine::Ebpf => "nobody is stopped while this lasts",
        Engine::Ptrace => COST,
    };
    eprintln!("agentrec: attached{descendants} ({threads}); {cost}; Ctrl-C detaches");
}

/// What the recording costs whom it follows. Measured with getppid, open, close and pread on a virtual machine with two busy
/// cores: 17 to 37 µs a call, of which those take 0.2 to 1.3 alone.
const COST: &str = "each of their system calls stops twice while this lasts: expect some 20 to 40 µs for each, 20 to 200 \
     times what short ones take, and computing as long as ever";
