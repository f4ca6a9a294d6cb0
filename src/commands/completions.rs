//! `agentrec completions SHELL`: completions on standard output.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Exit;
use crate::output::Output;
use crate::session::Context;

/// Arguments of `agentrec completions`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    // clap_complete panics where a write fails, as into a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "agentrec", &mut script);
    let mut out = Output::new(context.preferences);
    out.write_all(&script)?;
    out.finish()?;
    Ok(Exit::OK)
}
