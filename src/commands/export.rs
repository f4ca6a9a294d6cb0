//! `agentrec export`: the events as JSON Lines, of a running session without stopping it; or the snapshots as git commits.

mod git;
mod repository;

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use agentrec_trace::json::JsonEvent;
use agentrec_trace::{Reader, Seq};
use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;

use crate::address::Address;
use crate::error::{WithHint, with_hint};
use crate::exit::Exit;
use crate::output::{Output, Progress};
use crate::session::{self, Context};

/// Arguments of `agentrec export`.
#[derive(clap::Args)]
pub struct Args {
    /// The session (default: this directory's last)
    trace: Option<Address>,
    /// Write to this file, which must not exist (default: standard output)
    #[arg(long, short, value_name = "FILE", conflicts_with = "to")]
    output: Option<PathBuf>,
    /// `json`: every event, a line each. `git`: a commit for each snapshot
    #[arg(long, value_enum, default_value_t = Format::Json, value_name = "WHAT")]
    format: Format,
    /// git: the repository to make
    #[arg(long, value_name = "DIR", required_if_eq("format", "git"))]
    to: Option<PathBuf>,
    /// git: DIR is a repository; add references below refs/agentrec to it and touch nothing else
    #[arg(long, requires = "to")]
    add_refs: bool,
    /// git: leave out contents that are neither in the trace nor in this machine's store, and list them
    #[arg(long, requires = "to")]
    allow_missing: bool,
}

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON Lines.
    Json,
    /// A git repository.
    Git,
}

/// Carries it out. A running session's recorder writes whole frames every 250 ms, so its file is read as it is.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?.whole()?;
    match (args.format, &args.to) {
        (Format::Git, Some(to)) => {
            let target = git::Target { dir: to, add_refs: args.add_refs };
            return git::run(&opened, target, args.allow_missing, context);
        }
        (Format::Json, Some(_)) => {
            return Err(with_hint(
                anyhow!("cannot write JSON Lines to a directory"),
                "--format git --to DIR makes a repository; --output FILE takes the events",
            ));
        }
        (_, None) => {}
    }
    match &args.output {
        None => {
            let mut out = Output::new(context.preferences);
            write_events(&opened.reader, &mut out)?;
            out.finish()?;
        }
        Some(path) => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("cannot create {}", path.display()))
                .hint("name a file that does not exist yet")?;
            let mut file = BufWriter::new(file);
            write_events(&opened.reader, &mut file)?;
            file.flush().with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(Exit::OK)
}

fn write_events(reader: &Reader, out: &mut impl Write) -> Result<()> {
    let mut progress = Progress::new("exporting", reader.len());
    let mut cursor = reader.cursor(Seq(1))?;
    loop {
        match cursor.next() {
            Ok(Some(event)) => {
                serde_json::to_writer(&mut *out, &JsonEvent(&event))
                    .map_err(std::io::Error::from)?;
                out.write_all(b"\n")?;
                if event.seq.0.is_multiple_of(8192) {
                    progress.set(event.seq.0);
                }
            }
            Ok(None) => return Ok(()),
            Err(error) => eprintln!("agentrec: passing over a part of the trace: {error}"),
        }
    }
}
