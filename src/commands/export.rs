//! `agentrec export`: the events as JSON Lines; of a running session without stopping it.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use agentrec_trace::json::JsonEvent;
use agentrec_trace::{Reader, Seq};
use anyhow::{Context as _, Result};

use crate::address::Address;
use crate::error::WithHint;
use crate::exit::Exit;
use crate::output::{Output, Progress};
use crate::session::{self, Context};

/// Arguments of `agentrec export`.
#[derive(clap::Args)]
pub struct Args {
    /// The session (default: this directory's last)
    trace: Option<Address>,
    /// Write to this file, which must not exist (default: standard output)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Carries it out. A running session's recorder writes whole frames every 250 ms, so its file is read as it is.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?.whole()?;
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
