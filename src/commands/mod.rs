//! The commands, one file each: its arguments, then `run`.

mod apply;
mod attach;
mod audit;
mod blame;
mod bundle;
mod completions;
mod diff;
mod doctor;
mod export;
mod files;
mod graph;
mod info;
mod list;
mod man;
mod messages;
mod ops;
mod prune;
mod ps;
mod quickstart;
mod redo;
mod restore;
mod resume;
mod rm;
mod run;
mod scrub;
mod setup;
mod show;
mod snapshot;
mod status;
mod stop;
mod store;
mod turns;
mod undo;
mod verify;
mod watch;
mod why;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::exit::Exit;
use crate::identity;
use crate::session::Context;

/// What `agentrec` can do.
#[derive(Subcommand)]
pub enum Command {
    /// Record a command and everything that it starts
    Run(run::Args),
    /// Record a process that runs already, with its threads and descendants, and leave it running
    Attach(attach::Args),
    /// Record a part of the machine, or all of it, until it is ended
    Watch(watch::Args),
    /// Show what happened: folded, or as a flat timeline with --events
    Show(show::Args),
    /// Show the conversation's turns: tokens, cost, where the time went, tools, files
    Turns(turns::Args),
    /// Show what was said, whole, with tool calls and their results
    Messages(messages::Args),
    /// Show the process tree: times, exit codes, what each read and wrote
    Ps(ps::Args),
    /// Tell who changed a file, and for which tool call
    Why(why::Args),
    /// Tell for each line of a file the turn, tool call and process that it came from
    Blame(blame::Args),
    /// List the files that a session, a turn or a process changed, by whom, and for which tool call
    Files(files::Args),
    /// Show what led to what: turns, tool calls, processes, files, hosts
    Graph(graph::Args),
    /// Compare the files at two snapshots: start and end by default
    Diff(diff::Args),
    /// Tell what is in a trace, how complete it is, and what was not seen
    Info(info::Args),
    /// Report secrets, hosts, what went outside and can't be undone; hold it against rules
    Audit(audit::Args),
    /// List recorded sessions
    List(list::Args),
    /// Show sessions that are being recorded
    Status(status::Args),
    /// Save the state of a running session
    Snapshot(snapshot::Args),
    /// End a recording and leave the agent running
    Stop(stop::Args),
    /// Write the events as JSON Lines
    Export(export::Args),
    /// Make a trace self-contained, to be taken to another machine
    Bundle(bundle::Args),
    /// Write a trace again without something that must not be in it
    Scrub(scrub::Args),
    /// Check a trace for damage
    Verify(verify::Args),
    /// Take back what a session, a turn or a process did to files, and only that
    Undo(undo::Args),
    /// Take an undo back
    Redo(redo::Args),
    /// List what undo and redo did
    Ops(ops::Args),
    /// Bring back the files of a snapshot
    Restore(restore::Args),
    /// Bring back a snapshot and run the agent again from there, recorded
    Resume(resume::Args),
    /// Bring home the changes that a resumed run made in its copy
    Apply(apply::Args),
    /// Tell what this machine allows, and what to do about what it doesn't
    Doctor(doctor::Args),
    /// Let everybody use the eBPF engine without sudo
    Setup(setup::Args),
    /// Record a first session, step by step; needs no key and no network
    Quickstart(quickstart::Args),
    /// Remove sessions
    Rm(rm::Args),
    /// Remove old sessions; only tells what would go unless --yes is given
    Prune(prune::Args),
    /// Look after the contents that snapshots share: check them, remove what nothing needs
    Store(store::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Write the manual pages into a directory
    Man(man::Args),
}

impl Command {
    /// Carries the command out.
    pub fn run(self, context: Context) -> Result<Exit> {
        match self {
            Self::Run(args) => run::run(args, context),
            Self::Attach(args) => attach::run(args, context),
            Self::Watch(args) => watch::run(args, context),
            Self::Show(args) => show::run(&args, context),
            Self::Turns(args) => turns::run(&args, context),
            Self::Messages(args) => messages::run(&args, context),
            Self::Ps(args) => ps::run(&args, context),
            Self::Why(args) => why::run(&args, context),
            Self::Blame(args) => blame::run(&args, context),
            Self::Files(args) => files::run(&args, context),
            Self::Graph(args) => graph::run(&args, context),
            Self::Diff(args) => diff::run(&args, context),
            Self::Info(args) => info::run(&args, context),
            Self::Audit(args) => audit::run(&args, context),
            Self::List(args) => list::run(&args, context),
            Self::Status(args) => status::run(&args, context),
            Self::Snapshot(args) => snapshot::run(&args, context),
            Self::Stop(args) => stop::run(&args, context),
            Self::Export(args) => export::run(&args, context),
            Self::Bundle(args) => bundle::run(&args, context),
            Self::Scrub(args) => scrub::run(&args, context),
            Self::Verify(args) => verify::run(&args, context),
            Self::Undo(args) => undo::run(&args, context),
            Self::Redo(args) => redo::run(&args, context),
            Self::Ops(args) => ops::run(&args, context),
            Self::Restore(args) => restore::run(&args, context),
            Self::Resume(args) => resume::run(args, context),
            Self::Apply(args) => apply::run(&args, context),
            Self::Doctor(args) => doctor::run(&args, context),
            Self::Setup(args) => setup::run(&args, context),
            Self::Quickstart(args) => quickstart::run(&args, context),
            Self::Rm(args) => rm::run(&args, context),
            Self::Prune(args) => prune::run(&args, context),
            Self::Store(args) => store::run(&args, context),
            Self::Completions(args) => completions::run(&args, context),
            Self::Man(args) => man::run(&args, context),
        }
    }

    /// Sees to it that the command is carried out with the rights of the user, and no others.
    pub fn settle_rights(&self) -> Result<()> {
        match self {
            // About the program, and about other users' processes.
            Self::Setup(_) | Self::Attach(_) | Self::Watch(_) => {}
            _ => identity::become_caller()?,
        }
        agentrec_recorder::privileges::settle().context("cannot put privileges aside")
    }

    /// The exit code when it fails.
    pub fn trouble(&self) -> Exit {
        match self {
            Self::Run(_) | Self::Attach(_) | Self::Watch(_) | Self::Resume(_) => Exit::RUN_FAILED,
            Self::Diff(_) | Self::Audit(_) => Exit::TROUBLE,
            _ => Exit::FAILURE,
        }
    }

    /// Whether the command of that name gives back the status of another program.
    pub fn runs_a_command(name: &str) -> bool {
        matches!(name, "run" | "attach" | "resume")
    }
}
