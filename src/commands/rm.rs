//! `agentrec rm`: removes sessions.

use std::io::Write;

use agentrec_store::State;
use anyhow::{Result, anyhow, bail};

use crate::address::{Address, SessionRef};
use crate::error::with_hint;
use crate::exit::Exit;
use crate::output::Output;
use crate::session::{self, Context};

/// Arguments of `agentrec rm`.
#[derive(clap::Args)]
pub struct Args {
    /// The sessions
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<Address>,
}

/// Carries it out. A trace that was given a place of its own stays; only what lies in the data directory goes.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let catalogue = session::catalogue()?;
    let mut found = Vec::new();
    for address in &args.sessions {
        match (&address.session, &address.place) {
            (Some(SessionRef::File(path)), _) => bail!(with_hint(
                anyhow!("cannot remove {}: a session is removed by its id", path.display()),
                "a trace that lies outside the data directory is yours: use rm(1)"
            )),
            (_, Some(place)) => bail!("cannot remove {place}: only whole sessions can be removed"),
            (wanted, None) => found.extend(session::find(&catalogue, wanted.as_ref())?),
        }
    }
    if let Some(running) = found
        .iter()
        .find(|session| session.state == State::Recording && session::is_recording(&session.trace))
    {
        bail!(with_hint(
            anyhow!("cannot remove {}: it is being recorded", running.id),
            format!("agentrec stop {}", running.id)
        ));
    }
    let mut out = Output::new(context.preferences);
    for session in found {
        catalogue.remove(&session)?;
        if context.preferences.json {
            out.json_line(&serde_json::json!({ "kind": "removed", "session": session.id }))?;
        } else {
            let kept = if session.trace.exists() {
                format!("; {} stays", session.trace.display())
            } else {
                String::new()
            };
            writeln!(out, "removed {}{kept}", session.id)?;
        }
    }
    out.finish()?;
    Ok(Exit::OK)
}
