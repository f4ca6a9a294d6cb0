//! `agentrec setup`: gives this program the capabilities that the eBPF engine needs, so that users need no sudo.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agentrec_recorder::privileges;
use anyhow::{Context as _, Result};
use nix::unistd::geteuid;
use serde_json::json;

use crate::error::WithHint;
use crate::exit::Exit;
use crate::output::{Output, json};
use crate::session::Context;

/// What a user has to know before.
const GOOD_TO_KNOW: &str = "\
Whoever may execute the program can then record their own processes by BPF programs, which see every process of the machine \
for a moment (whether it is followed) and tell of those alone that belong to the recording. What is recorded runs as the user, \
without these capabilities. Processes of other users can't be attached to.

A program that is replaced, as by an update, has lost them: run setup again.";

/// Arguments of `agentrec setup`.
#[derive(clap::Args)]
#[command(after_long_help = GOOD_TO_KNOW)]
pub struct Args {
    /// Take the capabilities away again
    #[arg(long)]
    undo: bool,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let program = std::env::current_exe().context("cannot find this program")?;
    if !geteuid().is_root() {
        return Err(anyhow::anyhow!("only root can give capabilities to {}", program.display()))
            .hint(format!("sudo {} setup", program.display()));
    }
    let mut out = Output::new(context.preferences);
    let names = privileges::of_file();
    if args.undo {
        privileges::take_from_file(&program)
            .with_context(|| format!("cannot take capabilities from {}", program.display()))?;
    } else {
        refuse_what_others_write(&program)?;
        privileges::give_to_file(&program)
            .with_context(|| format!("cannot give capabilities to {}", program.display()))
            .hint("the file system must know extended attributes: copy the program to another, as /usr/local/bin")?;
    }
    if out.json {
        out.json_line(&json!({
            "kind": "setup",
            "program": json::bytes(program.as_os_str().as_encoded_bytes()),
            "capabilities": if args.undo { Vec::new() } else { names },
        }))?;
    } else if args.undo {
        writeln!(out, "{} has no capabilities any more", program.display())?;
    } else {
        writeln!(out, "{} has {}", program.display(), names.join(", "))?;
        writeln!(
            out,
            "`agentrec run` now takes the eBPF engine for every user; `agentrec setup --undo` takes it back"
        )?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// What a program that others may write does with capabilities is theirs to say. (Who writes to it takes them away; but who can
/// is not always who should.)
fn refuse_what_others_write(program: &Path) -> Result<()> {
    let metadata = fs::metadata(program).context("cannot look at this program")?;
    if metadata.mode() & 0o022 != 0 {
        return Err(anyhow::anyhow!(
            "{} can be written by others than its owner",
            program.display()
        ))
        .hint(format!("chmod go-w {}", program.display()));
    }
    Ok(())
}
