//! `agentrec bundle`: one file with all that the snapshots of a session hold, for where this machine's store is not.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_replay::{BundleOptions, Bundled, Error, Target, bundle};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::address::Address;
use crate::error::WithHint;
use crate::exit::Exit;
use crate::output::{Output, Style, plural, printable_line, size};
use crate::quantity;
use crate::session::{self, Context};

/// Arguments of `agentrec bundle`.
#[derive(clap::Args)]
pub struct Args {
    /// The session (default: this directory's last)
    trace: Option<Address>,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace that file, once the new one is whole
    #[arg(long)]
    force: bool,
    /// Put the contents of secret files in too (.env, private keys, credentials)
    #[arg(long)]
    with_secrets: bool,
    /// Put in what agents keep in their state directories too, also of other sessions
    #[arg(long)]
    with_state: bool,
    /// How much of what git ignores goes in; 0 for none of it
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = quantity::bytes)]
    max_ignored: u64,
    /// Leave out what is neither in the trace nor in this machine's store, and list it
    #[arg(long)]
    allow_missing: bool,
}

/// Of each list so many are shown.
const SHOWN: usize = 20;

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?.whole()?;
    let options = BundleOptions {
        with_secrets: args.with_secrets,
        with_state: args.with_state,
        max_ignored: args.max_ignored,
        allow_missing: args.allow_missing,
    };
    let target = Target { path: &args.output, replace: args.force };
    let store = session::store();
    let bundled = bundle(&opened.reader, store.as_ref(), target, options);
    let hint = match &bundled {
        Err(Error::NotHere { .. }) => Some(
            "bundle it on the machine that recorded it, or with --allow-missing without what is gone",
        ),
        Err(Error::Trace(agentrec_trace::Error::Recording(_))) => {
            Some("wait for its end, or end the recording with agentrec stop")
        }
        _ => None,
    };
    let bundled = bundled.with_context(|| format!("cannot bundle {}", opened.name));
    let bundled = match hint {
        Some(hint) => bundled.hint(hint)?,
        None => bundled?,
    };
    let mut out = Output::new(context.preferences);
    if out.json {
        out.json_line(&as_json(&args.output, &bundled))?;
    } else {
        write_text(&mut out, &args.output, &opened.name, &bundled)?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

fn write_text(out: &mut Output, path: &Path, name: &str, bundled: &Bundled) -> Result<()> {
    let len = path.metadata().map_or(0, |metadata| metadata.len());
    writeln!(
        out,
        "bundled {name} as {}: {}, {}, {} of them from the store ({})",
        path.display(),
        size(len),
        plural(bundled.seal.objects, "object"),
        bundled.added,
        size(bundled.added_bytes),
    )?;
    let names = |paths: &[PathBuf]| paths.iter().map(|path| printable(path)).collect::<Vec<_>>();
    let sized = |paths: &[(PathBuf, u64)]| {
        let text =
            |(path, bytes): &(PathBuf, u64)| format!("{}, {}", printable(path), size(*bytes));
        paths.iter().map(text).collect::<Vec<_>>()
    };
    let missing: Vec<_> = bundled
        .missing
        .iter()
        .map(|(snapshot, path)| format!("{} of {snapshot}", printable(path)))
        .collect();
    let state: Vec<_> = bundled
        .state_left
        .iter()
        .map(|(root, files, bytes)| {
            format!("{}, {}, {}", printable(root), plural(*files, "file"), size(*bytes))
        })
        .collect();
    let inside = names(&bundled.secrets_inside);
    list(out, Style::Bad, "secret, and inside all the same", &inside)?;
    list(out, Style::Warn, "secret, left out", &names(&bundled.secrets_left))?;
    list(out, Style::Warn, "ignored by git, left out", &sized(&bundled.ignored_left))?;
    list(out, Style::Warn, "an agent's state that the session did not change, left out", &state)?;
    list(out, Style::Bad, "too large for a trace, left out", &sized(&bundled.too_large))?;
    list(out, Style::Bad, "not whole in the trace, nor in the store", &missing)?;
    if bundled.is_self_contained() {
        writeln!(out, "self-contained: all {} can be restored from it", snapshots(bundled))?;
    } else {
        writeln!(out, "not self-contained: a restore lists what it lacks")?;
    }
    Ok(())
}

fn snapshots(bundled: &Bundled) -> String {
    plural(bundled.snapshots, "snapshot")
}

fn printable(path: &Path) -> String {
    printable_line(path.as_os_str().as_bytes())
}

/// What a bundle lacks, a line each.
fn list(out: &mut Output, style: Style, what: &str, lines: &[impl Display]) -> Result<()> {
    let what = out.paint.apply(style, what).to_string();
    for line in lines.iter().take(SHOWN) {
        writeln!(out, "  {what}: {line}")?;
    }
    if let Some(more) = lines.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        writeln!(out, "  {what}: {more} more, which --json lists")?;
    }
    Ok(())
}

fn as_json(path: &Path, bundled: &Bundled) -> Value {
    let bytes = |path: &Path| crate::output::json::bytes(path.as_os_str().as_bytes());
    let names = |paths: &[PathBuf]| paths.iter().map(|path| bytes(path)).collect::<Vec<_>>();
    let sized = |paths: &[(PathBuf, u64)]| {
        let object = |(path, size): &(PathBuf, u64)| json!({"path": bytes(path), "bytes": size});
        paths.iter().map(object).collect::<Vec<_>>()
    };
    let missing: Vec<_> = bundled
        .missing
        .iter()
        .map(|(snapshot, path)| json!({"snapshot": snapshot, "path": bytes(path)}))
        .collect();
    let state: Vec<_> = bundled
        .state_left
        .iter()
        .map(|(root, files, size)| json!({"path": bytes(root), "files": files, "bytes": size}))
        .collect();
    json!({
        "kind": "bundle", "trace": bytes(path), "seal": bundled.seal.hex(),
        "events": bundled.seal.events, "objects": bundled.seal.objects,
        "snapshots": bundled.snapshots, "added": bundled.added, "added_bytes": bundled.added_bytes,
        "self_contained": bundled.is_self_contained(),
        "secrets_inside": names(&bundled.secrets_inside), "secrets_left": names(&bundled.secrets_left),
        "ignored_left": sized(&bundled.ignored_left), "too_large": sized(&bundled.too_large),
        "state_left": state, "missing": missing,
    })
}
