//! `agentrec verify`: whether a trace is complete and as it was written; the first bad place where it is not.

use std::io::Write;

use agentrec_store::Catalogue;
use agentrec_trace::{Status, verify};
use anyhow::{Context as _, Result};
use serde_json::json;

use crate::address::{Address, SessionRef};
use crate::exit::Exit;
use crate::output::{Output, Style, plural};
use crate::session::{self, Context};

/// Arguments of `agentrec verify`.
#[derive(clap::Args)]
pub struct Args {
    /// The session or the file (default: this directory's last)
    trace: Option<Address>,
    /// Also compare the seal with this hash, as the closing line of the run printed it; its beginning will do
    #[arg(long, value_name = "HASH")]
    seal: Option<String>,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let path = match args.trace.as_ref().and_then(|address| address.session.as_ref()) {
        // Even what can't be opened as a trace has a first bad place.
        Some(SessionRef::File(path)) => path.clone(),
        wanted => {
            let catalogue: Catalogue = session::catalogue()?;
            session::find(&catalogue, wanted)?.context("cannot find the trace")?.trace
        }
    };
    let report = verify(&path).with_context(|| format!("cannot verify {}", path.display()))?;
    let seal = match &report.status {
        Some(Status::Complete(seal)) => Some(seal.hex()),
        _ => None,
    };
    let mut problem = report.problem.as_ref().map(|problem| (problem.offset, problem.what.clone()));
    if problem.is_none() {
        problem = match (&report.status, &args.seal, &seal) {
            (Some(Status::Recording), ..) => {
                Some((0, "it is being recorded: there is no seal yet".to_owned()))
            }
            (Some(Status::Incomplete { offset, reason }), ..) => {
                Some((*offset, format!("incomplete: {reason}")))
            }
            (_, Some(wanted), Some(seal))
                if !seal.starts_with(wanted.as_str()) || wanted.is_empty() =>
            {
                Some((0, format!("the seal is {seal}, not the one that was asked for")))
            }
            _ => None,
        };
    }
    let mut out = Output::new(context.preferences);
    if context.preferences.json {
        out.json_line(&json!({
            "kind": "verification",
            "ok": problem.is_none(),
            "seal": seal,
            "events": report.events,
            "objects": report.objects,
            "frames": report.frames,
            "problem": problem.as_ref().map(|(offset, what)| json!({ "offset": offset, "what": what })),
        }))?;
    } else {
        let paint = out.paint;
        let sound = format!(
            "{}, {}, {}",
            plural(report.events, "event"),
            plural(report.objects, "object"),
            plural(report.frames, "frame")
        );
        match &problem {
            None => {
                writeln!(out, "{}: {sound}, all sound", paint.apply(Style::Good, "complete"))?;
                writeln!(out, "seal {}", seal.unwrap_or_default())?;
            }
            Some((offset, what)) => {
                writeln!(out, "{} at byte {offset}: {what}", paint.apply(Style::Bad, "bad"))?;
                writeln!(out, "sound before that: {sound}")?;
            }
        }
    }
    out.finish()?;
    Ok(if problem.is_none() { Exit::OK } else { Exit::FAILURE })
}
