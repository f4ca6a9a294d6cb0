//! `agentrec messages`: what was said, whole, with the tool calls and their results in between.

use std::io::Write;

use agentrec_trace::event::Payload;
use agentrec_trace::{Reader, Seq, Value};
use anyhow::{Result, bail};

use crate::address::{Address, Place, TurnLabel};
use crate::digest::{Call, Digest, Effects, Message};
use crate::exit::Exit;
use crate::output::{Output, Style, offset, printable, printable_line};
use crate::session::{self, Context};
use crate::view::{arguments, json};

/// Arguments of `agentrec messages`.
#[derive(clap::Args)]
pub struct Args {
    /// The session (default: this directory's last)
    trace: Option<Address>,
    /// As the conversation stood there: t5, t5/a.2, s2 or #1234
    #[arg(long, value_name = "ADDRESS")]
    at: Option<Address>,
    /// Only this conversation; the first one is `main`
    #[arg(long, value_name = "NAME")]
    conversation: Option<String>,
}

enum Said<'d> {
    Message(&'d Message),
    Call(&'d Call),
    Result(&'d Call),
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    // A place alone names a place in that session.
    let (address, at) = match (&args.trace, &args.at) {
        (None, Some(at)) => (at, at.place.clone()),
        (Some(trace), at) => {
            let at = at.as_ref().and_then(|at| at.place.clone());
            (trace, at.or_else(|| trace.place.clone()))
        }
        (None, None) => (&Address::LAST, None),
    };
    let opened = session::open(address)?;
    let digest = session::analyse(&opened.reader)?;
    let until = match &at {
        None => Seq(u64::MAX),
        Some(place) => end_of(&digest, place)?,
    };
    let mut said: Vec<(Seq, Said<'_>)> = Vec::new();
    let conversation = args.conversation.as_ref().or(match &at {
        Some(
            Place::Conversation(_, name) | Place::Turn(TurnLabel { other: Some((name, _)), .. }),
        ) => Some(name),
        _ => None,
    });
    let wanted = |of: &Option<String>| conversation.is_none() || conversation == of.as_ref();
    for message in digest.messages.iter().filter(|message| wanted(&message.conversation)) {
        said.push((message.seq, Said::Message(message)));
    }
    let calls = digest.calls.iter().filter(|call| call.carries_out.is_none());
    for call in calls.filter(|call| wanted(&call.conversation)) {
        said.push((call.seq, Said::Call(call)));
        if let Some(result) = call.result_seq {
            said.push((result, Said::Result(call)));
        }
    }
    said.retain(|(seq, _)| *seq <= until);
    said.sort_by_key(|(seq, _)| *seq);
    let mut out = Output::paged(context.preferences);
    if said.is_empty() && !context.preferences.json {
        eprintln!("agentrec: nothing was said there, as far as the traffic could be read");
    }
    for (seq, said) in said {
        if context.preferences.json {
            let line = match said {
                Said::Message(message) => json::message(&opened.reader, &digest, message),
                Said::Call(call) => json::call(&opened.reader, &digest, call, &Effects::default()),
                Said::Result(_) => continue,
            };
            out.json_line(&line)?;
        } else {
            print(&mut out, &opened.reader, &digest, seq, &said)?;
        }
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// The last event that was said when it stood there.
fn end_of(digest: &Digest, place: &Place) -> Result<Seq> {
    Ok(match place {
        Place::Event(seq) => *seq,
        Place::Snapshot(index) => {
            let found = digest.snapshots.iter().find(|snapshot| snapshot.index == *index);
            let Some(snapshot) = found else { bail!("cannot find a snapshot {index}") };
            snapshot.seq
        }
        // With its answer, and what its tools returned: that is told by the next request, after it began.
        Place::Turn(_) | Place::Conversation(..) => {
            let turns = session::turns(digest, place)?.unwrap_or_default();
            let Some(turn) = turns.last() else { bail!("{place} is no turn") };
            let results = digest.calls.iter().filter(|call| turn.calls.contains(&call.seq));
            let results = results.filter_map(|call| call.result_seq);
            let last = results.chain(turn.said).chain(turn.calls.iter().copied()).max();
            last.unwrap_or(turn.seq)
        }
        Place::Process(id) => bail!("{id} is a process, no place in a conversation"),
    })
}

fn print(
    out: &mut Output,
    reader: &Reader,
    digest: &Digest,
    seq: Seq,
    said: &Said<'_>,
) -> Result<()> {
    let paint = out.paint;
    let payload = |payload: &Payload| reader.payload(payload).unwrap_or(Value::Nil);
    let (ts, head, body) = match said {
        Said::Message(message) => {
            let turn = digest.turns.of_message(message.seq);
            let turn = turn.map_or(String::new(), |turn| format!("  {}", turn.label));
            let role = printable_line(message.role.as_bytes());
            (message.ts, format!("{}{turn}", paint.strong(role)), text(&payload(&message.content)))
        }
        Said::Call(call) => {
            let name = printable_line(call.name.as_bytes());
            (call.ts, format!("calls {}", paint.strong(name)), arguments(&payload(&call.arguments)))
        }
        Said::Result(call) => {
            let name = printable_line(call.name.as_bytes());
            let value = call.result.as_ref().map_or(Value::Nil, payload);
            let body = call.error.clone().unwrap_or_else(|| text(&value));
            let style = if call.error.is_some() { Style::Bad } else { Style::Dim };
            (
                call.ended.unwrap_or(call.ts),
                format!("{name} {}", paint.apply(style, "returned")),
                body,
            )
        }
    };
    let at = offset(digest.since_start(ts));
    writeln!(out, "{} {at}  {head}", paint.address(format_args!("{seq:<8}")))?;
    for line in body.trim_end().lines() {
        writeln!(out, "    {}", printable(line.as_bytes()))?;
    }
    writeln!(out)?;
    Ok(())
}

/// All text of a content, with its lines; what is no text as JSON.
fn text(content: &Value) -> String {
    let field = |block: &Value, name: &str| {
        let fields = block.as_map()?;
        let (_, value) = fields.iter().find(|(key, _)| key.as_str() == Some(name))?;
        value.as_str().map(str::to_owned)
    };
    match content {
        Value::Nil => String::new(),
        Value::String(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        Value::Array(blocks) => {
            let block = |block: &Value| match block {
                Value::String(_) => text(block),
                _ => field(block, "text")
                    .or_else(|| field(block, "thinking").map(|text| format!("(thinks) {text}")))
                    .unwrap_or_else(|| crate::output::json::value(block).to_string()),
            };
            blocks.iter().map(block).collect::<Vec<_>>().join("\n")
        }
        other => crate::output::json::value(other).to_string(),
    }
}
