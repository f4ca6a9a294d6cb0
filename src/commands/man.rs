//! `agentrec man DIR`: the manual pages, one for each command.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::CommandFactory;

use crate::args::Cli;
use crate::exit::Exit;
use crate::output::Output;
use crate::session::Context;

/// Arguments of `agentrec man`.
#[derive(clap::Args)]
pub struct Args {
    /// The directory, such as ~/.local/share/man/man1
    dir: PathBuf,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot create {}", args.dir.display()))?;
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .with_context(|| format!("cannot write manual pages to {}", args.dir.display()))?;
    let mut out = Output::new(context.preferences);
    writeln!(out, "{}", args.dir.join("agentrec.1").display())?;
    out.finish()?;
    Ok(Exit::OK)
}
