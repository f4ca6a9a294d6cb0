//! The `agentrec` command: records AI agents, shows what they did, and goes back.

mod address;
mod args;
mod audit;
mod baseline;
mod commands;
mod digest;
mod error;
mod exit;
mod filter;
mod identity;
mod live;
mod output;
mod quantity;
mod recording;
mod sdk;
mod session;
mod state;
mod undo;
mod view;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::Cli;
use commands::Command;
use exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches))
    {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let context = session::Context { preferences: cli.global.preferences() };
    let trouble = cli.command.trouble();
    let done = cli.command.settle_rights().and_then(|()| cli.command.run(context));
    match done {
        Ok(exit) => exit.into(),
        Err(error) if output::is_reader_gone(&error) => Exit::OK.into(),
        Err(error) => {
            error::report(&error);
            trouble.into()
        }
    }
}

/// Prints what clap found, be it an error, the help or the version.
fn usage(error: &clap::Error) -> Exit {
    // Standard output may be closed; there is nobody left to tell.
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::OK;
    }
    let named = Cli::command().ignore_errors(true).try_get_matches();
    match named.as_ref().map(|matches| matches.subcommand_name()) {
        Ok(Some(name)) if Command::runs_a_command(name) => Exit::RUN_FAILED,
        _ => Exit::TROUBLE,
    }
}
