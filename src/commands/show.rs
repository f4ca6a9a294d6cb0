//! `agentrec show`: what happened, folded; or the flat timeline with `--events`.

use std::io::Write;
use std::thread;
use std::time::Duration;

use agentrec_trace::json::JsonEvent;
use agentrec_trace::{Data, Event, Reader, Seq, Status};
use anyhow::{Result, anyhow, bail};

use crate::address::{Address, Place};
use crate::baseline::Baseline;
use crate::digest::{Digest, Turn};
use crate::error::with_hint;
use crate::exit::Exit;
use crate::filter::{Filter, FilterArgs, SessionTimes};
use crate::output::{Output, Preferences};
use crate::session::{self, Context, Opened};
use crate::view::{Folded, Limits, Timeline, header, json};

/// Arguments of `agentrec show`.
#[derive(clap::Args)]
pub struct Args {
    /// A session or a place in one: 7q3k, t5, t5/a, p7, #1234, trace.zst (default: this directory's last)
    trace: Option<Address>,
    /// The flat timeline: one line an event
    #[arg(long, short)]
    events: bool,
    /// Only the last N events
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<u64>,
    /// Go on with what a running session does
    #[arg(long, short)]
    follow: bool,
    /// Leave nothing out of the folded view
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Traces up to this many events are read whole for their last ones, so that all names in them are known.
const QUICKLY_READ: u64 = 50_000;

/// How often a running trace is looked at. Its recorder writes every 250 ms.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let opened = session::open(args.trace.as_ref().unwrap_or(&Address::LAST))?;
    let flat = args.events || args.follow || args.tail.is_some() || !args.filter.is_empty();
    match opened.place {
        Some(Place::Event(seq)) => one_event(&opened.reader, seq, context.preferences),
        Some(Place::Process(id)) => {
            let filter = args.filter.clone().of_process(id);
            if timeline(&opened, filter, args, context)? == 0
                && session::analyse(&opened.reader)?.processes.get(id).is_none()
            {
                bail!("cannot find a process {id} in this trace");
            }
            Ok(Exit::OK)
        }
        Some(Place::Snapshot(_)) => bail!(with_hint(
            anyhow!("cannot show a snapshot"),
            format!(
                "agentrec info {} tells what is in it; agentrec diff compares two",
                opened.name
            )
        )),
        Some(place @ (Place::Turn(_) | Place::Conversation(..))) => {
            let digest = session::analyse(&opened.reader)?;
            let turns = session::turns(&digest, &place)?.unwrap_or_default();
            events_of(&turns, &digest, &opened.reader, context.preferences)
        }
        None if flat => {
            timeline(&opened, args.filter.clone(), args, context)?;
            Ok(Exit::OK)
        }
        None => folded(&opened, args, context),
    }
}

fn folded(opened: &Opened, args: &Args, context: Context) -> Result<Exit> {
    let reader = &opened.reader;
    let digest = session::analyse(reader)?;
    let store = session::store();
    let baseline = Baseline::new(reader, store.as_ref(), &digest);
    let existed = |path: &[u8]| baseline.existed(path);
    let limits = if args.all { Limits::NONE } else { Limits::SCREEN };
    let folded = Folded { reader, digest: &digest, existed: &existed, limits };
    let mut out = Output::paged(context.preferences);
    if context.preferences.json {
        out.json_line(&json::session(&opened.name, &opened.path, reader, &digest))?;
        for line in folded.json() {
            out.json_line(&line)?;
        }
    } else {
        header(&mut out, &opened.name, reader, &digest)?;
        writeln!(out)?;
        folded.write(&mut out)?;
        writeln!(out)?;
        folded.write_summary(&mut out)?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// The events from the first to the last of some turns of one conversation, without what was said in others meanwhile.
fn events_of(
    turns: &[&Turn],
    digest: &Digest,
    reader: &Reader,
    preferences: Preferences,
) -> Result<Exit> {
    let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return Ok(Exit::OK) };
    // Another conversation ends at the latest where the main one goes on.
    let goes_on = || {
        let later = digest.turns.iter().find(|turn| {
            last.label.other.is_some() && turn.label.other.is_none() && turn.seq > last.seq
        });
        later.map(|turn| turn.seq)
    };
    let end = last.next_seq.or_else(goes_on).unwrap_or(Seq(u64::MAX));
    let is_other = |event: &Event<'_>| {
        let name = |turn: &Turn| turn.label.other.as_ref().map(|(name, _)| name.clone());
        digest.turns.of_event(event).is_some_and(|turn| name(turn) != name(first))
    };
    let mut out = Output::paged(preferences);
    let mut timeline = Timeline::default();
    session::each_event(reader, |event| {
        timeline.learn(event);
        if (first.seq..end).contains(&event.seq) && !is_other(event) {
            let shown = match preferences.json {
                true => out.json_line(&JsonEvent(event)),
                false => timeline.write(&mut out, reader, event),
            };
            // A reader that is gone is noticed at the end.
            drop(shown);
        }
    })?;
    out.finish()?;
    Ok(Exit::OK)
}

fn one_event(reader: &Reader, seq: Seq, preferences: Preferences) -> Result<Exit> {
    let Some(event) = reader.event(seq)? else {
        bail!("cannot show {seq}: the trace has {} events", reader.len());
    };
    let mut out = Output::paged(preferences);
    if preferences.json {
        out.json_line(&JsonEvent(&event))?;
    } else {
        let value = serde_json::to_value(JsonEvent(&event))?;
        let text = serde_json::to_string_pretty(&value)?;
        writeln!(out, "{}", crate::output::printable(text.as_bytes()))?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// The session's facts that a filter needs; from its first and last event only.
fn times(reader: &Reader) -> Result<(Vec<u8>, SessionTimes)> {
    let first = reader.event(Seq(1))?;
    let last = reader.event(Seq(reader.len()))?;
    let first_ts = first.as_ref().map_or(0, |event| event.ts);
    let last_ts = last.map_or(first_ts, |event| event.ts);
    Ok(match first.map(|event| event.data) {
        Some(Data::SessionStart(start)) => (
            start.cwd.to_vec(),
            SessionTimes { first_ts, last_ts, wall: start.wall, utc_offset: start.utc_offset },
        ),
        _ => (b"/".to_vec(), SessionTimes { first_ts, last_ts, wall: 0, utc_offset: 0 }),
    })
}

/// Prints the events that match; returns how many did.
fn timeline(opened: &Opened, filter: FilterArgs, args: &Args, context: Context) -> Result<u64> {
    let mut reader = session::open_file(&opened.path)?;
    let (cwd, times) = times(&reader)?;
    let filter = filter.build(&cwd, &times)?;
    // A pager shows nothing of what is still to come.
    let mut out = if args.follow {
        Output::new(context.preferences)
    } else {
        Output::paged(context.preferences)
    };
    let mut printer = Printer {
        timeline: Timeline::default(),
        filter,
        preferences: context.preferences,
        printed: 0,
    };
    let mut next = Seq(1);
    if let Some(tail) = args.tail {
        next = printer.tail(&mut out, &reader, tail)?;
    }
    loop {
        next = printer.from(&mut out, &reader, next)?;
        if !args.follow || !matches!(reader.status(), Status::Recording) {
            break;
        }
        out.flush()?;
        while !reader.refresh()? {
            thread::sleep(FOLLOW_INTERVAL);
        }
    }
    out.finish()?;
    Ok(printer.printed)
}

struct Printer {
    timeline: Timeline,
    filter: Filter,
    preferences: Preferences,
    printed: u64,
}

impl Printer {
    /// Prints the events from `next` on; returns the number of the first that is not there yet.
    fn from(&mut self, out: &mut Output, reader: &Reader, next: Seq) -> Result<Seq> {
        let mut cursor = reader.cursor(next)?;
        loop {
            match cursor.next() {
                Ok(Some(event)) => {
                    self.timeline.learn(&event);
                    if self.filter.matches(&event, |open| self.timeline.opened(open)) {
                        self.print(out, reader, &event)?;
                    }
                }
                Ok(None) => return Ok(Seq(reader.len() + 1)),
                Err(error) => eprintln!("agentrec: passing over a part of the trace: {error}"),
            }
        }
    }

    /// Prints the last `count` events that match. Of a long trace only those are read; what they refer to is looked up.
    fn tail(&mut self, out: &mut Output, reader: &Reader, count: u64) -> Result<Seq> {
        let end = Seq(reader.len() + 1);
        if let Some(first) = reader.event(Seq(1))? {
            self.timeline.learn(&first);
        }
        if self.filter.is_empty() && reader.len() > QUICKLY_READ {
            for event in reader.tail(count)? {
                if let Data::FileClose(close) = &event.data
                    && let Some(open) = close.open
                    && let Some(open) = reader.event(open)?
                {
                    self.timeline.learn(&open);
                }
                self.timeline.learn(&event);
                self.print(out, reader, &event)?;
            }
            return Ok(end);
        }
        let mut last = std::collections::VecDeque::new();
        for event in reader.iter() {
            let event = event?;
            self.timeline.learn(&event);
            if self.filter.matches(&event, |open| self.timeline.opened(open)) {
                last.push_back(event);
                if last.len() as u64 > count {
                    last.pop_front();
                }
            }
        }
        for event in last {
            self.print(out, reader, &event)?;
        }
        Ok(end)
    }

    fn print(
        &mut self,
        out: &mut Output,
        reader: &Reader,
        event: &agentrec_trace::Event<'_>,
    ) -> Result<()> {
        self.printed += 1;
        if self.preferences.json {
            out.json_line(&JsonEvent(event))?;
        } else {
            self.timeline.write(out, reader, event)?;
        }
        Ok(())
    }
}
