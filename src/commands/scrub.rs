//! `agentrec scrub`: a trace again without something that must not be in it, and what of it remains elsewhere.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_recorder::redact::{Redactor, load_or_create_key};
use agentrec_replay::{Error, Pattern, Scrubbed, Target, scrub, session_id};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::address::Address;
use crate::error::WithHint;
use crate::exit::Exit;
use crate::output::{Output, Style, count, plural, printable_line};
use crate::session::{self, Context, Opened};

/// Arguments of `agentrec scrub`.
#[derive(clap::Args)]
pub struct Args {
    /// What must go: these very bytes, wherever they stand; also escaped as in JSON, percent-encoded, and in base64
    pattern: OsString,
    /// The session (default: this directory's last)
    trace: Option<Address>,
    /// The pattern is a regular expression; (?-u) matches bytes that are no UTF-8
    #[arg(long)]
    regex: bool,
    /// The file to write
    #[arg(long, short, value_name = "FILE", required_unless_present = "in_place")]
    output: Option<PathBuf>,
    /// Replace that file, once the new one is whole
    #[arg(long, requires = "output")]
    force: bool,
    /// Replace the trace itself, once the new one is whole
    #[arg(long, conflicts_with = "output")]
    in_place: bool,
}

/// Of each list so many are shown.
const SHOWN: usize = 20;

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?.whole()?;
    let pattern = pattern(args)?;
    let target = match &args.output {
        Some(path) => Target { path, replace: args.force },
        None => Target { path: &opened.path, replace: true },
    };
    let store = session::store();
    let scrubbed = scrub(&opened.reader, store.as_ref(), &pattern, target);
    let hint = match &scrubbed {
        Err(Error::NotScrubbed { .. }) => Some(
            "a short pattern stands in names of the format and in hashes by chance: take a longer one",
        ),
        Err(Error::Trace(agentrec_trace::Error::Recording(_))) => {
            Some("wait for its end, or end the recording with agentrec stop")
        }
        _ => None,
    };
    let scrubbed = scrubbed.with_context(|| format!("cannot scrub {}", opened.name));
    let scrubbed = match hint {
        Some(hint) => scrubbed.hint(hint)?,
        None => scrubbed?,
    };
    let remains = remains(&opened, &scrubbed, &pattern, args.in_place)?;
    let mut out = Output::new(context.preferences);
    if out.json {
        out.json_line(&as_json(target.path, &scrubbed, &remains))?;
    } else {
        write_text(&mut out, &opened.name, target.path, &scrubbed, &remains)?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// The pattern, with the marks of this user's recordings.
fn pattern(args: &Args) -> Result<Pattern> {
    let home = session::home()?;
    home.create()?;
    let redactor = Redactor::new(load_or_create_key(&home.redaction_key())?);
    let mark = move |secret: &[u8]| redactor.mark("scrubbed", secret);
    let pattern = match args.regex {
        false => Pattern::literal(args.pattern.as_bytes(), mark),
        true => {
            let text = args.pattern.to_str().context("a regular expression is UTF-8")?;
            Pattern::regex(text, mark)
        }
    };
    pattern.context("cannot scrub").hint(
        "the pattern must be longer than a piece of `[redacted:scrubbed:…]`; --regex takes regular expressions",
    )
}

/// Where the pattern is still to be found, a line each.
fn remains(
    opened: &Opened,
    scrubbed: &Scrubbed,
    pattern: &Pattern,
    in_place: bool,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if !scrubbed.is_changed() {
        return Ok(lines);
    }
    if in_place {
        lines.extend(catalogued(opened, pattern)?);
    } else {
        lines.push(format!(
            "the old trace, {}; agentrec rm removes it",
            printable_line(opened.path.as_os_str().as_bytes())
        ));
    }
    if !scrubbed.in_store.is_empty() {
        lines.push(format!(
            "{} of this machine's store; agentrec store gc removes them once no session names them",
            plural(scrubbed.in_store.len() as u64, "object")
        ));
    }
    if !scrubbed.unseen.is_empty() {
        lines.push(format!(
            "perhaps {} that the snapshots name and that nobody here has",
            plural(scrubbed.unseen.len() as u64, "file")
        ));
    }
    if scrubbed.in_structure {
        lines.push(
            "the new trace's own structure: names of fields, hashes, or two values that meet"
                .into(),
        );
    }
    lines.push("perhaps other sessions, and the files themselves: this was about one trace".into());
    Ok(lines)
}

/// Takes the pattern out of what the list of sessions says. The directory stays: the session is found by it.
fn catalogued(opened: &Opened, pattern: &Pattern) -> Result<Option<String>> {
    let catalogue = session::catalogue()?;
    let Some(mut entry) = catalogue.get(&session_id(&opened.reader)?)? else { return Ok(None) };
    if entry.trace != std::path::absolute(&opened.path)? {
        return Ok(None);
    }
    let mut texts: Vec<_> = entry.argv.iter_mut().collect();
    let mut name = entry.name.take().map(String::into_bytes);
    texts.extend(&mut name);
    for text in texts {
        if let Some(new) = pattern.scrubbed(text) {
            *text = new;
        }
    }
    entry.name = name.map(|name| String::from_utf8_lossy(&name).into_owned());
    entry.counts.trace_bytes = opened.path.metadata().map_or(0, |metadata| metadata.len());
    catalogue.put(&entry)?;
    let cwd = entry.cwd.as_os_str().as_bytes();
    let in_cwd = pattern.scrubbed(cwd).is_some();
    Ok(in_cwd.then(|| "the list of sessions, which has the directory's name".to_owned()))
}

fn write_text(
    out: &mut Output,
    name: &str,
    path: &Path,
    scrubbed: &Scrubbed,
    remains: &[String],
) -> Result<()> {
    if !scrubbed.is_changed() {
        writeln!(out, "nothing in {name} holds it; {} has the same events", path.display())?;
    } else {
        writeln!(
            out,
            "scrubbed {name} as {}: {} changed, {}, {}",
            path.display(),
            plural(scrubbed.addresses.len() as u64, "event"),
            plural(scrubbed.objects, "object"),
            plural(scrubbed.trees, "tree"),
        )?;
        let paint = out.paint;
        for (kind, events) in &scrubbed.events {
            let kind = printable_line(kind.as_bytes());
            writeln!(out, "  {:<18} {}", kind, paint.dim(count(*events)))?;
        }
        let addresses = scrubbed.addresses.iter().map(ToString::to_string);
        line(out, "at", addresses, scrubbed.addresses.len())?;
        let snapshots = scrubbed.snapshots.iter().map(ToString::to_string);
        line(out, "other trees in", snapshots, scrubbed.snapshots.len())?;
        let files = scrubbed.files.iter().map(|(path, snapshot)| {
            format!("{} from {snapshot} on", printable_line(path.as_os_str().as_bytes()))
        });
        for file in files.take(SHOWN) {
            writeln!(out, "  file {file}")?;
        }
        if let Some(more) = scrubbed.files.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            writeln!(out, "  {more} more files, which --json lists")?;
        }
    }
    if !remains.is_empty() {
        writeln!(out, "{}", out.paint.apply(Style::Warn, "still there"))?;
    }
    for remaining in remains {
        writeln!(out, "  {remaining}")?;
    }
    for id in scrubbed.in_store.iter().take(SHOWN) {
        writeln!(out, "  object {id}")?;
    }
    Ok(())
}

/// `  at #1 #7 #9 …`
fn line(
    out: &mut Output,
    what: &str,
    items: impl Iterator<Item = String>,
    len: usize,
) -> Result<()> {
    if len > 0 {
        let shown: Vec<_> = items.take(SHOWN).collect();
        let more = if len > SHOWN { format!(" …{}", len - SHOWN) } else { String::new() };
        writeln!(out, "  {what} {}{more}", shown.join(" "))?;
    }
    Ok(())
}

fn as_json(path: &Path, scrubbed: &Scrubbed, remains: &[String]) -> Value {
    let bytes = |path: &Path| crate::output::json::bytes(path.as_os_str().as_bytes());
    let files = scrubbed
        .files
        .iter()
        .map(|(path, snapshot)| json!({"path": bytes(path), "snapshot": snapshot}));
    json!({
        "kind": "scrub", "trace": bytes(path), "seal": scrubbed.seal.hex(),
        "events": scrubbed.events, "addresses": scrubbed.addresses,
        "objects": scrubbed.objects, "trees": scrubbed.trees, "snapshots": scrubbed.snapshots,
        "files": files.collect::<Vec<_>>(),
        "in_store": scrubbed.in_store.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "unseen": scrubbed.unseen.iter().map(|path| bytes(path)).collect::<Vec<_>>(),
        "in_structure": scrubbed.in_structure, "remains": remains,
    })
}
