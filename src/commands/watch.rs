//! `agentrec watch`: records a part of the machine, or all of it, until it is ended.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentrec_launch::Plan;
use agentrec_recorder::{Attached, Options, Rotation, Subject, Watch};
use anyhow::{Context as _, Result, anyhow, bail};

use crate::error::with_hint;
use crate::exit::Exit;
use crate::live;
use crate::output::{count, plural};
use crate::quantity::{bytes, span};
use crate::recording::{self, session_name};
use crate::session::{self, Context};

/// What a user has to know before.
const GOOD_TO_KNOW: &str = "\
Ctrl-C, SIGTERM, `agentrec stop` in another terminal, or the end of --for seals the trace. Nobody is stopped or slowed down \
by more than some hundred nanoseconds a system call, and nobody ends with it.

Exactly one of --pid, --cgroup, --uid, --comm and --all says who is recorded: who runs already, with what it has open, and \
who comes later. Whoever is recorded stays so to its end, with everything that it starts, whatever user, name or group that \
has. The kernel itself decides, when a process starts another one or executes a program; a process that only changes its user, \
its name or its group is noticed when it does one of these. Of who is recorded from an exec on, what it had open is asked a \
little later, and may be missing where it ended at once.

There are no snapshots and no terminal output: the trace says who did what. agentrec audit, show and export read it.

With --rotate the trace becomes several files: trace.0001.zst, trace.0002.zst, … of trace.zst. Each is a session of its own that \
needs no other, begins with all that lives at that moment, and nothing is missing between two of them. --keep removes the \
oldest of them, and nothing that this command did not write.

It needs root, and a kernel with BTF (agentrec doctor tells).";

/// Arguments of `agentrec watch`.
#[derive(clap::Args)]
#[command(after_long_help = GOOD_TO_KNOW)]
pub struct Args {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Write the trace to this file (default: in the data directory)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// A name for the session, usable as its address
    #[arg(long, value_name = "NAME", value_parser = session_name)]
    name: Option<String>,
    /// End by itself after this time, such as 10m or 1h30m
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    duration: Option<Duration>,
    /// Begin another file when one has this size, such as 256M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    rotate: Option<u64>,
    /// Keep so many files, and remove the oldest
    #[arg(long, value_name = "N", requires = "rotate", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// Whom to watch: exactly one of them.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct SubjectArgs {
    /// A process with its descendants; the recording ends with the last of them
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
    /// The processes of a control group (version 2) and of those below it, by its directory
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// The processes of a user, by number or name
    #[arg(long, value_name = "U", value_parser = user)]
    uid: Option<u32>,
    /// The processes of a name, as `ps -o comm` shows it
    #[arg(long, value_name = "NAME", value_parser = comm)]
    comm: Option<String>,
    /// All processes but agentrec's own
    #[arg(long)]
    all: bool,
}

impl SubjectArgs {
    fn subject(self) -> Result<Subject> {
        Ok(match self {
            Self { pid: Some(pid), .. } if !Path::new(&format!("/proc/{pid}")).exists() => {
                bail!("cannot watch process {pid}: there is no such process")
            }
            Self { pid: Some(pid), .. } => Subject::Tree(pid),
            Self { cgroup: Some(path), .. } => Subject::Group(group(&path)?),
            Self { uid: Some(uid), .. } => Subject::User(uid),
            Self { comm: Some(name), .. } => Subject::Name(name),
            _ => Subject::All,
        })
    }
}

/// The directory of a control group: `path` itself, or that of its name as /proc/PID/cgroup has it.
fn group(path: &Path) -> Result<PathBuf> {
    let mounted = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let inside = mounted.map(|root| root.join(path.strip_prefix("/").unwrap_or(path)));
    let is_group = |path: &&PathBuf| path.join("cgroup.procs").is_file();
    let candidates = [path.to_owned()].into_iter().chain(inside).collect::<Vec<_>>();
    let found = candidates.iter().find(is_group).ok_or_else(|| {
        with_hint(
            anyhow!("cannot watch {}: it is no control group", path.display()),
            "name its directory, such as /sys/fs/cgroup/system.slice",
        )
    })?;
    let found = found.canonicalize().context("cannot find the control group")?;
    // Groups of version 1 have other numbers.
    let kind = nix::sys::statfs::statfs(&found).context("cannot look at the control group")?;
    if kind.filesystem_type() != nix::sys::statfs::CGROUP2_SUPER_MAGIC {
        bail!(with_hint(
            anyhow!("cannot watch {}: it is a group of version 1", found.display()),
            "name one of the unified hierarchy: see `mount -t cgroup2`",
        ));
    }
    Ok(found)
}

fn user(text: &str) -> Result<u32> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    let found = nix::unistd::User::from_name(text).ok().flatten();
    found.map(|user| user.uid.as_raw()).ok_or_else(|| anyhow!("there is no such user"))
}

fn comm(text: &str) -> Result<String> {
    match text.len() {
        0 => bail!("it is empty"),
        1..=Subject::MAX_NAME => Ok(text.to_owned()),
        _ => bail!(
            "the kernel keeps {} bytes of a name: `{}` is what it has of this one",
            Subject::MAX_NAME,
            String::from_utf8_lossy(&text.as_bytes()[..Subject::MAX_NAME])
        ),
    }
}

fn size(text: &str) -> Result<u64> {
    match bytes(text)? {
        0 => bail!("a file has more than 0 bytes"),
        size => Ok(size),
    }
}

/// Carries it out.
pub fn run(args: Args, context: Context) -> Result<Exit> {
    let watch = Watch {
        subject: args.subject.subject()?,
        duration: args.duration,
        rotation: args
            .rotate
            .map(|size| Rotation { size, keep: args.keep.map(|keep| keep as usize) }),
    };
    let cwd = env::current_dir().context("cannot tell the working directory")?;
    let argv = env::args_os().collect();
    let plan = Plan { argv, env: Vec::new(), cwd, mounts: Vec::new() };
    let output = args.output.map(std::path::absolute).transpose();
    let options = Options {
        output: output.context("cannot tell the working directory")?,
        overwrite: args.overwrite,
        name: args.name,
        runtime_dir: live::runtime_dir(),
        attached: (!args.quiet).then_some(say_begun as fn(Attached)),
        ..Options::new(plan, session::home()?)
    };
    let record = |options| agentrec_recorder::watch(options, watch);
    Ok(recording::record(options, record, args.quiet, None, context.preferences)?.exit)
}

fn say_begun(found: Attached) {
    let processes = plural(found.processes as u64, "process");
    eprintln!(
        "agentrec: watching {processes} ({}) and those that come; nobody is stopped; Ctrl-C ends it",
        if found.threads == 1 {
            "1 thread".into()
        } else {
            format!("{} threads", count(found.threads as u64))
        }
    );
}
