//! `agentrec info`: what is in a trace, how complete it is, what its snapshots hold, and what was not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use agentrec_replay::Sources;
use agentrec_store::{Store, Tree};
use agentrec_trace::event::Watch;
use agentrec_trace::{ObjectId, Status};
use anyhow::{Result, anyhow};
use serde_json::json;

use crate::address::Address;
use crate::digest::{Digest, Loss, Snapshot};
use crate::exit::Exit;
use crate::output::{
    Output, Style, count, duration, home_relative, offset, plural, printable_line, relative, size,
};
use crate::session::{self, Context, Opened};
use crate::view::{header, json};

/// Arguments of `agentrec info`.
#[derive(clap::Args)]
pub struct Args {
    /// The session (default: this directory's last), or one snapshot of it, as s2 or t5: all that it lacks, by name
    trace: Option<Address>,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?;
    if opened.place.is_some() {
        return one_snapshot(&opened, context);
    }
    let digest = session::analyse(&opened.reader)?;
    let store = session::store();
    let mut out = Output::paged(context.preferences);
    if context.preferences.json {
        out.json_line(&json::session(&opened.name, &opened.path, &opened.reader, &digest))?;
        for snapshot in &digest.snapshots {
            let mut line = json::snapshot(&digest, snapshot);
            line["contents"] = Contents::of(snapshot, &opened, store.as_ref()).json();
            out.json_line(&line)?;
        }
        for loss in &digest.lost {
            let lost = &loss.lost;
            out.json_line(&json!({
                "kind": "lost", "seq": loss.seq, "at": digest.since_start(loss.ts), "count": lost.count,
                "proc": loss.proc, "program": program(&digest, loss),
                "place": lost.place, "reason": lost.reason, "peer_pid": lost.peer_pid,
            }))?;
        }
    } else {
        header(&mut out, &opened.name, &opened.reader, &digest)?;
        writeln!(out)?;
        facts(&mut out, &opened, &digest)?;
        snapshots(&mut out, &opened, store.as_ref(), &digest)?;
        ledger(&mut out, &digest)?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// `uid 1000, file 3 of the recording that begins with 7q3k…`
fn watched(watch: &Watch<'_>) -> String {
    let text = |text: &str| printable_line(text.as_bytes());
    let mut line = format!("{} {}", text(&watch.kind), printable_line(&watch.value));
    if watch.part > 0 {
        line = format!("{}, file {}", line.trim_end(), watch.part);
    }
    if let Some(first) = &watch.first {
        line += &format!(" of the recording that begins with {}", text(first));
    }
    line.trim_end().to_owned()
}

fn facts(out: &mut Output, opened: &Opened, digest: &Digest) -> Result<()> {
    let paint = out.paint;
    let mut fact = |name: &str, value: String| {
        writeln!(out, "{} {value}", paint.dim(format_args!("{name:<10}")))
    };
    fact("trace", opened.path.display().to_string())?;
    if let Some(start) = &digest.start {
        let text = |text: &str| printable_line(text.as_bytes());
        fact("session", text(&start.session))?;
        if let Some(watch) = &start.watch {
            fact("watches", watched(watch))?;
        }
        fact(
            "machine",
            format!("{}  {} {}", text(&start.host), text(&start.kernel), text(&start.arch)),
        )?;
        fact(
            "recorder",
            format!(
                "agentrec {}, {} ({})",
                text(&start.version),
                text(&start.engine),
                text(&start.engine_reason)
            ),
        )?;
    }
    match opened.reader.status() {
        Status::Complete(seal) => fact("seal", seal.hex())?,
        Status::Recording => fact("seal", "none yet: it is being recorded".into())?,
        Status::Incomplete { .. } => {
            fact("seal", "none: the recorder died or the file was cut".into())?;
        }
    }
    fact(
        "events",
        format!(
            "{}   {}   {}   {}",
            count(opened.reader.len()),
            plural(digest.processes.len() as u64, "process"),
            plural(
                digest.calls.iter().filter(|call| call.carries_out.is_none()).count() as u64,
                "tool call"
            ),
            plural(digest.messages.len() as u64, "message"),
        ),
    )?;
    if let Some(stop) = &digest.stop
        && stop.left_running > 0
    {
        let left = match digest.start.as_ref().is_some_and(|start| start.watch.is_some()) {
            true => format!("{} were watched at the end and went on", stop.left_running),
            false => format!("{} outlived the command and went on unrecorded", stop.left_running),
        };
        fact("left", left)?;
    }
    Ok(())
}

fn snapshots(
    out: &mut Output,
    opened: &Opened,
    store: Option<&Store>,
    digest: &Digest,
) -> Result<()> {
    writeln!(out)?;
    if digest.snapshots.is_empty() {
        writeln!(out, "no snapshots")?;
    }
    for snapshot in &digest.snapshots {
        tell(out, snapshot, &Contents::of(snapshot, opened, store), digest, Names::Some)?;
    }
    Ok(())
}

fn tell(
    out: &mut Output,
    snapshot: &Snapshot,
    contents: &Contents,
    digest: &Digest,
    names: Names,
) -> Result<()> {
    let paint = out.paint;
    let cwd = digest.start.as_ref().map_or(&[][..], |start| start.cwd.as_slice());
    let said = match &*snapshot.description {
        "" | "start" | "end" => String::new(),
        text => format!("  “{}”", printable_line(text.as_bytes())),
    };
    writeln!(
        out,
        "{}  {:<8} {:<8}{said}  {}",
        paint.address(format_args!("{:<4}", snapshot.index.to_string())),
        offset(digest.since_start(snapshot.ts)),
        printable_line(snapshot.trigger.as_bytes()),
        paint.dim(format_args!("took {}", duration(snapshot.duration))),
    )?;
    for root in &snapshot.roots {
        let place = match (root.self_contained, contents.in_store) {
            (true, _) => "inside the trace",
            (false, 0) => "partly inside the trace",
            (false, _) => "partly in this machine's store",
        };
        let of = root.agent.as_deref().map_or(String::new(), |agent| {
            format!("  the state of {}", printable_line(agent.as_bytes()))
        });
        writeln!(
            out,
            "      {}  {}, {}  {place}{of}",
            home_relative(&root.path),
            plural(root.files, "file"),
            size(root.bytes)
        )?;
    }
    contents.write(out, snapshot, cwd, names)
}

/// Tells of the snapshot that the address names, with every name.
fn one_snapshot(opened: &Opened, context: Context) -> Result<Exit> {
    let index = opened.snapshot(None)?;
    let digest = session::analyse(&opened.reader)?;
    let found = digest.snapshots.iter().find(|snapshot| snapshot.index == index);
    let snapshot = found.ok_or_else(|| anyhow!("cannot find {index} in the trace"))?;
    let contents = Contents::of(snapshot, opened, session::store().as_ref());
    let mut out = Output::paged(context.preferences);
    if context.preferences.json {
        let mut line = json::snapshot(&digest, snapshot);
        line["contents"] = contents.json();
        out.json_line(&line)?;
    } else {
        tell(&mut out, snapshot, &contents, &digest, Names::All)?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// How many names of a kind are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Some,
    All,
}

/// What was left out.
struct LeftOut {
    path: Vec<u8>,
    /// A file's length in bytes.
    size: Option<u64>,
}

/// What the trees of a snapshot hold and lack.
#[derive(Default)]
struct Contents {
    /// Files whose content is in the trace.
    inside: u64,
    /// Files whose content is only in this machine's store.
    in_store: u64,
    /// Files whose content is nowhere here.
    missing: u64,
    /// Secret files, as seen by the agent.
    secret: Vec<Vec<u8>>,
    /// Those of them whose content is in the trace: somebody bundled it so.
    secret_inside: Vec<Vec<u8>>,
    /// What was left out, by reason.
    left_out: BTreeMap<&'static str, Vec<LeftOut>>,
    /// Directories whose trees can't be read.
    unreadable: u64,
}

impl Contents {
    fn of(snapshot: &Snapshot, opened: &Opened, store: Option<&Store>) -> Self {
        let sources = Sources::new(&opened.reader, store);
        let mut contents = Self::default();
        let mut directories: Vec<(Vec<u8>, ObjectId)> =
            snapshot.roots.iter().map(|root| (root.path.to_vec(), root.tree)).collect();
        while let Some((path, id)) = directories.pop() {
            let Ok(tree) = Tree::load(&sources, id) else {
                contents.unreadable += 1;
                continue;
            };
            for entry in tree.entries {
                let path = [path.as_slice(), b"/", &entry.name].concat();
                match (entry.kind, entry.id, entry.left_out) {
                    (_, _, Some(why)) => {
                        let is_file = entry.kind == agentrec_store::Kind::File;
                        let size = is_file.then_some(entry.size);
                        contents
                            .left_out
                            .entry(why.as_str())
                            .or_default()
                            .push(LeftOut { path, size });
                    }
                    (agentrec_store::Kind::Dir, Some(id), _) => directories.push((path, id)),
                    (agentrec_store::Kind::File, Some(id), _) => {
                        if entry.secret {
                            let inside = opened.reader.has_object(&id).unwrap_or(false);
                            let list = match inside {
                                true => &mut contents.secret_inside,
                                false => &mut contents.secret,
                            };
                            list.push(path);
                        }
                        contents.count(&sources, opened, &id);
                    }
                    _ => {}
                }
            }
        }
        contents
    }

    fn count(&mut self, sources: &Sources<'_>, opened: &Opened, id: &ObjectId) {
        use agentrec_store::Objects as _;
        if opened.reader.has_object(id).unwrap_or(false) {
            self.inside += 1;
        } else if sources.contains(id).unwrap_or(false) {
            self.in_store += 1;
        } else {
            self.missing += 1;
        }
    }

    fn write(
        &self,
        out: &mut Output,
        snapshot: &Snapshot,
        cwd: &[u8],
        wanted: Names,
    ) -> Result<()> {
        let paint = out.paint;
        let listed = |shown: Vec<String>| match wanted {
            Names::All => shown.iter().map(|name| format!("\n        {name}")).collect(),
            Names::Some => {
                let more = shown.len().saturating_sub(4);
                let more = if more > 0 { format!(" …{more}") } else { String::new() };
                format!(" {}{more}", shown[..shown.len().min(4)].join("  "))
            }
        };
        let names = |paths: &[Vec<u8>]| -> String {
            listed(paths.iter().map(|path| relative(path, cwd).to_string()).collect())
        };
        let left_out = |left: &[LeftOut]| -> String {
            let sized = |left: &LeftOut| match left.size {
                Some(bytes) => format!("{} ({})", relative(&left.path, cwd), size(bytes)),
                None => relative(&left.path, cwd).to_string(),
            };
            listed(left.iter().map(sized).collect())
        };
        let mut line = format!("{} in the trace", plural(self.inside, "file"));
        if self.in_store > 0 {
            line += &format!(", {} only in this machine's store", count(self.in_store));
        }
        writeln!(out, "      {line}")?;
        if self.missing > 0 || self.unreadable > 0 {
            let text = format!(
                "{} not here: recorded on another machine, or removed since",
                count(self.missing + self.unreadable)
            );
            writeln!(out, "      {}", paint.apply(Style::Bad, text))?;
        }
        if !self.secret.is_empty() {
            let what = paint.apply(Style::Warn, "secret, never in a trace");
            writeln!(out, "      {what}:{}", names(&self.secret))?;
        }
        if !self.secret_inside.is_empty() {
            let what = paint.apply(Style::Bad, "secret, and in this trace");
            writeln!(out, "      {what}:{}", names(&self.secret_inside))?;
        }
        for (why, left) in &self.left_out {
            writeln!(out, "      left out, {why}:{}", left_out(left))?;
        }
        for (paths, why) in
            [(&snapshot.late, "written to meanwhile"), (&snapshot.torn, "changed while read")]
        {
            if !paths.is_empty() {
                let paths: Vec<_> = paths.iter().map(|path| path.to_vec()).collect();
                writeln!(out, "      {}:{}", paint.apply(Style::Warn, why), names(&paths))?;
            }
        }
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let paths = |paths: &[Vec<u8>]| -> serde_json::Value {
            paths.iter().map(|path| crate::output::json::bytes(path)).collect()
        };
        let left_out = |left: &[LeftOut]| -> serde_json::Value {
            let told = |left: &LeftOut| json!({ "path": crate::output::json::bytes(&left.path), "size": left.size });
            left.iter().map(told).collect()
        };
        let left_out: serde_json::Map<_, _> =
            self.left_out.iter().map(|(why, left)| ((*why).to_owned(), left_out(left))).collect();
        json!({
            "in_trace": self.inside, "in_store": self.in_store, "missing": self.missing,
            "secret": paths(&self.secret), "secret_inside": paths(&self.secret_inside), "left_out": left_out, "unreadable_directories": self.unreadable,
        })
    }
}

/// As many names of programs stand behind a loss.
const PROGRAMS_SHOWN: usize = 4;

/// The program that the process ran which a loss hit, without directories; also one that its parent ran before it forked.
fn program(digest: &Digest, loss: &Loss) -> Option<String> {
    let argv = digest.processes.argv_at(loss.proc?, loss.ts);
    let name = argv.first()?.rsplit(|&byte| byte == b'/').next()?;
    Some(printable_line(name))
}

/// What of the connections could be read.
fn traffic(out: &mut Output, digest: &Digest) -> Result<()> {
    let paint = out.paint;
    let traffic = &digest.traffic;
    if traffic.connections() == 0 && traffic.requests == 0 {
        return Ok(());
    }
    writeln!(out, "{}", paint.strong("connections"))?;
    let opaque: u64 = traffic.opaque.values().sum();
    let mut line = format!(
        "{} with hosts   {} read as HTTP",
        count(traffic.connections()),
        count(traffic.read())
    );
    // Of several streams of TLS to one host nobody knows which socket carries which.
    if traffic.loose > 0 {
        line += &format!("   {} through TLS, one of several", plural(traffic.loose, "request"));
    }
    if opaque > 0 {
        let reasons: Vec<_> = traffic
            .opaque
            .iter()
            .map(|(why, n)| format!("{} {}", printable_line(why.as_bytes()), count(*n)))
            .collect();
        let reasons = format!("{} not readable ({})", count(opaque), reasons.join(", "));
        line += &format!("   {}", paint.apply(Style::Warn, reasons));
    }
    writeln!(out, "  {line}")?;
    // By the proxy it has other reasons.
    if ["tls", "go-tls", "rustls"].iter().any(|why| traffic.opaque.contains_key(*why)) {
        writeln!(
            out,
            "  {}",
            paint.dim("`agentrec run --tls proxy` reads what no library gives away")
        )?;
    }
    let side: u64 = digest.turns.side.values().sum();
    writeln!(
        out,
        "  {}   {}   {}",
        plural(traffic.requests, "request"),
        plural(digest.turns.iter().count() as u64, "turn"),
        plural(side, "side request"),
    )?;
    writeln!(out)?;
    Ok(())
}

/// What is known from transcripts of agents alone.
fn transcripts(out: &mut Output, digest: &Digest) -> Result<()> {
    let [turns, messages, calls] = digest.in_transcripts();
    if messages + calls == 0 {
        return Ok(());
    }
    writeln!(out, "{}", out.paint.strong("from the agent's transcript"))?;
    writeln!(
        out,
        "  {}   {}   {}",
        plural(turns, "turn"),
        plural(messages, "message"),
        plural(calls, "tool call"),
    )?;
    writeln!(out, "  {}", out.paint.dim("the agent wrote it down; its traffic does not tell it"))?;
    writeln!(out)?;
    Ok(())
}

/// What is not in the trace, and why.
fn ledger(out: &mut Output, digest: &Digest) -> Result<()> {
    let paint = out.paint;
    writeln!(out)?;
    traffic(out, digest)?;
    transcripts(out, digest)?;
    let mut losses: BTreeMap<(&str, &str), Vec<&Loss>> = BTreeMap::new();
    for loss in &digest.lost {
        losses.entry((&loss.lost.place, &loss.lost.reason)).or_default().push(loss);
    }
    writeln!(out, "{}", paint.strong("not seen"))?;
    if losses.is_empty() {
        writeln!(out, "  nothing was lost of what is covered")?;
    }
    for ((place, reason), losses) in losses {
        let times = losses.len() as u64;
        let events: u64 = losses.iter().filter_map(|loss| loss.lost.count).sum();
        let mut line = format!(
            "{:<9} {}",
            printable_line(place.as_bytes()),
            printable_line(reason.as_bytes())
        );
        if events > 0 {
            line += &format!(", {}", plural(events, "event"));
        }
        if times > 1 {
            line += &format!(", {} times", count(times));
        }
        let hit: BTreeSet<_> = losses.iter().filter_map(|loss| program(digest, loss)).collect();
        let more = if hit.len() > PROGRAMS_SHOWN { " …" } else { "" };
        let hit: Vec<_> = hit.into_iter().take(PROGRAMS_SHOWN).collect();
        if !hit.is_empty() {
            line += &format!(": {}{more}", hit.join(", "));
        }
        let first = losses[0].seq;
        writeln!(out, "  {}  {}", paint.apply(Style::Warn, line), paint.address(first))?;
    }
    if digest.cut_arguments > 0 {
        writeln!(out, "  {} cut", plural(digest.cut_arguments, "argument list"))?;
    }
    writeln!(out, "  {}", paint.dim("not covered: who wrote through shared mappings"))?;
    Ok(())
}
