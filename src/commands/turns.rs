//! `agentrec turns`: one line a turn: the model, tokens, cost, where the time went, the tools, what became of files.

use std::io::Write;

use agentrec_trace::Source;
use anyhow::{Result, bail};
use serde_json::json;

use crate::address::Address;
use crate::baseline::Baseline;
use crate::digest::{Call, Digest, Effects, Net, RowKind, Turn};
use crate::exit::Exit;
use crate::output::{Output, Style, count, duration, fit, offset, plural, printable_line};
use crate::session::{self, Context};
use crate::view;

/// Arguments of `agentrec turns`.
#[derive(clap::Args)]
pub struct Args {
    /// A session, a turn or another conversation in one: 7q3k, t5, 7q3k@t5, t5/a (default: this directory's last)
    trace: Option<Address>,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?;
    let digest = session::analyse(&opened.reader)?;
    let turns: Vec<&Turn> = match opened.place {
        None => digest.turns.iter().collect(),
        Some(place) => match session::turns(&digest, &place)? {
            Some(turns) => turns,
            None => bail!("{place} is no turn"),
        },
    };
    let store = session::store();
    let baseline = Baseline::new(&opened.reader, store.as_ref(), &digest);
    let rows = digest.rows(|path| baseline.existed(path));
    let changes = |call: &Call| {
        let row = rows.iter().find(|row| match row.kind {
            RowKind::Call(index) => digest.calls[index].seq == call.seq,
            _ => false,
        });
        let effects = row.into_iter().flat_map(|row| {
            std::iter::once(&row.effects).chain(row.nested.iter().map(|(_, effects)| effects))
        });
        changed(effects)
    };
    let mut out = Output::paged(context.preferences);
    if !context.preferences.json {
        if turns.is_empty() {
            eprintln!(
                "agentrec: no model was asked in this session, as far as its traffic could be read"
            );
        } else {
            let heading = format!(
                "{:<8} {:>8} {:>7}  {:<20} {:>8} {:>8} {:>7} {:>8}  {:>6} {:>6} {:>6}  {:>12}  TOOLS",
                "TURN",
                "START",
                "TIME",
                "MODEL",
                "IN",
                "CACHED",
                "OUT",
                "COST",
                "MODEL",
                "TOOLS",
                "AGENT",
                "FILES"
            );
            let heading = out.paint.dim(heading);
            writeln!(out, "{heading}")?;
        }
    }
    for turn in &turns {
        let calls: Vec<&Call> =
            digest.calls.iter().filter(|call| turn.calls.contains(&call.seq)).collect();
        let files = calls.iter().map(|call| changes(call)).fold([0; 3], add);
        if context.preferences.json {
            out.json_line(&line(&digest, turn, &calls, files))?;
        } else {
            row(&mut out, &digest, turn, &calls, files)?;
        }
    }
    if !context.preferences.json && turns.len() > 1 {
        total(&mut out, &digest, &turns)?;
    }
    let noted = turns.iter().filter(|turn| turn.source == Source::Transcript).count() as u64;
    if !context.preferences.json && noted > 0 {
        let line = format!(
            "{} from the agent's transcript: there the model's time includes the agent's before it asked",
            plural(noted, "turn")
        );
        let line = out.paint.dim(line);
        writeln!(out, "{line}")?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// Files that were added, modified, deleted.
fn changed<'e>(effects: impl Iterator<Item = &'e Effects>) -> [u64; 3] {
    let mut files = [0; 3];
    for change in effects.flat_map(|effects| &effects.changes) {
        let index = match change.net {
            Net::Added => 0,
            Net::Modified => 1,
            Net::Deleted => 2,
        };
        files[index] += if change.directory { change.inside } else { 1 };
    }
    files
}

fn add(sum: [u64; 3], more: [u64; 3]) -> [u64; 3] {
    [sum[0] + more[0], sum[1] + more[1], sum[2] + more[2]]
}

/// Where the time of a turn went, nanoseconds.
struct Times {
    whole: u64,
    model: u64,
    tools: u64,
}

impl Times {
    fn of(digest: &Digest, turn: &Turn, calls: &[&Call]) -> Self {
        // The last turn ends with what came of it, not with the session.
        let last_result = calls.iter().filter_map(|call| call.ended).max();
        let end = turn.next.or(last_result).or(turn.answered).unwrap_or(digest.last_ts);
        let model = turn.answered.unwrap_or(end).saturating_sub(turn.ts);
        // Parallel tools share their time.
        let mut spans: Vec<(u64, u64)> =
            calls.iter().map(|call| (call.ts, call.ended.unwrap_or(end).min(end))).collect();
        spans.sort_unstable();
        let (mut tools, mut until) = (0, 0);
        for (from, to) in spans {
            let from = from.max(until);
            tools += to.saturating_sub(from);
            until = until.max(to);
        }
        Self { whole: end.saturating_sub(turn.ts), model, tools }
    }

    fn agent(&self) -> u64 {
        self.whole.saturating_sub(self.model).saturating_sub(self.tools)
    }
}

fn dollars(cost: Option<f64>) -> String {
    match cost {
        None => "-".to_owned(),
        Some(cost) if cost < 0.01 => format!("${cost:.4}"),
        Some(cost) => format!("${cost:.2}"),
    }
}

fn tokens(turn: &Turn, n: u64) -> String {
    if turn.counted { count(n) } else { "-".to_owned() }
}

fn files_text([added, modified, deleted]: [u64; 3]) -> String {
    match [added, modified, deleted] {
        [0, 0, 0] => "-".to_owned(),
        _ => format!("+{added} ~{modified} -{deleted}"),
    }
}

/// `shell 2  write_file  mcp__sums__add (sums)`
fn tools(calls: &[&Call]) -> String {
    let mut named: Vec<(String, u64)> = Vec::new();
    for call in calls {
        let tool = printable_line(call.name.as_bytes()) + &view::server(call);
        match named.iter_mut().find(|(name, _)| *name == tool) {
            Some((_, n)) => *n += 1,
            None => named.push((tool, 1)),
        }
    }
    let one = |(name, n): &(String, u64)| match n {
        1 => name.clone(),
        n => format!("{name} {n}"),
    };
    named.iter().map(one).collect::<Vec<_>>().join("  ")
}

fn row(
    out: &mut Output,
    digest: &Digest,
    turn: &Turn,
    calls: &[&Call],
    files: [u64; 3],
) -> Result<()> {
    let paint = out.paint;
    let times = Times::of(digest, turn, calls);
    let model = fit(&printable_line(turn.model.as_bytes()), 20);
    let mut said = tools(calls);
    if turn.repeats > 0 {
        said += &format!(
            "  {}",
            paint.apply(Style::Warn, format_args!("asked {} times", turn.repeats + 1))
        );
    }
    if let Some(error) = &turn.error {
        let error = fit(&printable_line(error.as_bytes()), 40);
        said += &format!("  {}", paint.apply(Style::Bad, error));
    }
    let row = format!(
        "{} {:>8} {:>7}  {model:<20} {:>8} {:>8} {:>7} {:>8}  {:>6} {:>6} {:>6}  {:>12}  {}",
        paint.address(format_args!("{:<8}", turn.label)),
        offset(digest.since_start(turn.ts)),
        duration(times.whole),
        tokens(turn, turn.input),
        tokens(turn, turn.cached),
        tokens(turn, turn.output),
        dollars(turn.cost),
        duration(times.model),
        duration(times.tools),
        duration(times.agent()),
        files_text(files),
        said.trim_start(),
    );
    writeln!(out, "{}", row.trim_end())?;
    Ok(())
}

fn total(out: &mut Output, digest: &Digest, turns: &[&Turn]) -> Result<()> {
    let sum = |of: fn(&Turn) -> u64| turns.iter().map(|turn| of(turn)).fold(0, u64::saturating_add);
    let mut line = format!(
        "{}: {} tokens in, {} of them cached, {} out",
        plural(turns.len() as u64, "turn"),
        count(sum(|turn| turn.input)),
        count(sum(|turn| turn.cached)),
        count(sum(|turn| turn.output)),
    );
    match digest.turns.cost() {
        Some(cost) => line += &format!(", {}", dollars(Some(cost))),
        None => line += "; what they cost is not known for all models",
    }
    let side: Vec<_> = digest.turns.side.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    if !side.is_empty() {
        line += &format!("   side: {}", printable_line(side.join("  ").as_bytes()));
    }
    let line = out.paint.dim(line);
    writeln!(out, "{line}")?;
    Ok(())
}

fn line(digest: &Digest, turn: &Turn, calls: &[&Call], files: [u64; 3]) -> serde_json::Value {
    let times = Times::of(digest, turn, calls);
    json!({
        "kind": "turn",
        "turn": turn.label.to_string(),
        "seq": turn.seq,
        "proc": turn.proc,
        "source": turn.source,
        "at": digest.since_start(turn.ts),
        "model": turn.model,
        "input": turn.input,
        "cached": turn.cached,
        "output": turn.output,
        "cost": turn.cost,
        "repeats": turn.repeats,
        "error": turn.error,
        "time": times.whole,
        "time_model": times.model,
        "time_tools": times.tools,
        "time_agent": times.agent(),
        "calls": turn.calls,
        "added": files[0],
        "modified": files[1],
        "deleted": files[2],
    })
}
