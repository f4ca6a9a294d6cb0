//! `agentrec stop`: ends a recording, seals its trace, and leaves the agent running.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::address::Address;
use crate::exit::Exit;
use crate::live;
use crate::output::{Output, json};
use crate::session::Context;

/// Arguments of `agentrec stop`.
#[derive(clap::Args)]
pub struct Args {
    /// The session (default: the one that surrounds this command, else this directory's last)
    session: Option<Address>,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let mut client = live::connect(args.session.as_ref())?;
    let stopped = client.stop().context("cannot stop the recording")?;
    let mut out = Output::new(context.preferences);
    if context.preferences.json {
        out.json_line(&json!({
            "kind": "stopped",
            "trace": json::bytes(stopped.trace.as_os_str().as_bytes()),
            "seal": stopped.seal,
        }))?;
    } else {
        writeln!(out, "stopped; the agent goes on unrecorded")?;
        writeln!(out, "trace {}", stopped.trace.display())?;
        if let Some(seal) = stopped.seal {
            writeln!(out, "seal {seal}")?;
        }
    }
    out.finish()?;
    Ok(Exit::OK)
}
