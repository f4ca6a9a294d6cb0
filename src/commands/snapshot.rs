//! `agentrec snapshot`: saves the state of a running session, from another terminal or from a tool of the agent.

use std::io::Write;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::address::Address;
use crate::exit::Exit;
use crate::live;
use crate::output::Output;
use crate::session::Context;

/// Arguments of `agentrec snapshot`.
#[derive(clap::Args)]
pub struct Args {
    /// The session (default: the one that surrounds this command, else this directory's last)
    session: Option<Address>,
    /// What to remember this moment by
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    message: String,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let mut client = live::connect(args.session.as_ref())?;
    let index = client.snapshot(&args.message).context("cannot take a snapshot")?;
    let mut out = Output::new(context.preferences);
    if context.preferences.json {
        out.json_line(&json!({ "kind": "snapshot", "snapshot": index }))?;
    } else {
        writeln!(out, "s{index}")?;
    }
    out.finish()?;
    Ok(Exit::OK)
}
