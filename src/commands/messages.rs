//! `agentrec messages`: what was said, whole, with the tool calls and their results in between.

use std::io::Write;

use agentrec_replay::read_snapshot;
use agentrec_trace::event::Payload;
use agentrec_trace::{Reader, Seq, Source, Value};
use anyhow::{Result, bail};

use crate::address::{Address, Place, TurnLabel};
use crate::digest::{Call, Digest, Effects, Message};
use crate::exit::Exit;
use crate::output::{Output, Style, offset, printable, printable_line};
use crate::session::{self, Context, Opened};
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
    /// What the model was sent at a turn or snapshot, as it stood in that request: with what the agent had cut or rewritten by then
    #[arg(long, conflicts_with = "conversation")]
    sent: bool,
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
    if args.sent {
        return sent(&opened, at.as_ref(), context);
    }
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

/// The messages of the request at a place, which its snapshot has.
fn sent(opened: &Opened, place: Option<&Place>, context: Context) -> Result<Exit> {
    let Some(place) = place else { bail!("cannot tell which request: name a turn, such as t5") };
    let Some(index) = opened.snapshot_at(place)? else {
        bail!("{place} is no turn and no snapshot");
    };
    let snapshot = read_snapshot(&opened.reader, index)?;
    let mut out = Output::paged(context.preferences);
    if context.preferences.json {
        let value = crate::output::json::value;
        out.json_line(&serde_json::json!({
            "kind": "sent",
            "snapshot": index.to_string(),
            "model": snapshot.model,
            "system_prompt": value(&snapshot.system_prompt),
            "tools": value(&snapshot.tools),
            "messages": value(&snapshot.messages),
        }))?;
        out.finish()?;
        return Ok(Exit::OK);
    }
    let messages = snapshot.messages.as_array().map(Vec::as_slice).unwrap_or_default();
    // Where it stands among the messages, it is one of them.
    let is_apart = snapshot.system_prompt != Value::Nil
        && !messages.iter().any(|message| field(message, "role").is_some_and(is_system));
    if is_apart {
        write_sent(&mut out, "system", &text(&snapshot.system_prompt))?;
    }
    for message in messages {
        let kind = field(message, "role").or_else(|| field(message, "type"));
        let kind = kind.and_then(Value::as_str).unwrap_or("message");
        let content = ["content", "parts"].iter().find_map(|name| field(message, name));
        let said = content.map_or_else(String::new, text);
        // What is said in other fields, such as calls of tools, is shown as it is.
        let said =
            if said.is_empty() { crate::output::json::value(message).to_string() } else { said };
        write_sent(&mut out, kind, &said)?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

fn is_system(role: &Value) -> bool {
    matches!(role.as_str(), Some("system" | "developer"))
}

fn write_sent(out: &mut Output, kind: &str, said: &str) -> Result<()> {
    let kind = printable_line(kind.as_bytes());
    writeln!(out, "{}", out.paint.strong(kind))?;
    for line in said.trim_end().lines() {
        writeln!(out, "    {}", printable(line.as_bytes()))?;
    }
    writeln!(out)?;
    Ok(())
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
    let source = match said {
        Said::Message(message) => &message.source,
        Said::Call(call) | Said::Result(call) => &call.source,
    };
    let noted = match source {
        Source::Transcript => format!("  {}", paint.dim("from the agent's transcript")),
        _ => String::new(),
    };
    writeln!(out, "{} {at}  {head}{noted}", paint.address(format_args!("{seq:<8}")))?;
    for line in body.trim_end().lines() {
        writeln!(out, "    {}", printable(line.as_bytes()))?;
    }
    writeln!(out)?;
    Ok(())
}

/// All text of a content, with its lines; what is no text as JSON.
fn text(content: &Value) -> String {
    let own = |block: &Value, name: &str| field(block, name)?.as_str().map(str::to_owned);
    match content {
        Value::Nil => String::new(),
        Value::String(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        Value::Array(blocks) => {
            let block = |block: &Value| match block {
                Value::String(_) => text(block),
                _ => own(block, "text")
                    .or_else(|| own(block, "thinking").map(|text| format!("(thinks) {text}")))
                    .or_else(|| item(block))
                    .unwrap_or_else(|| crate::output::json::value(block).to_string()),
            };
            blocks.iter().map(block).collect::<Vec<_>>().join("\n")
        }
        other => crate::output::json::value(other).to_string(),
    }
}

/// An item of a list that holds whole messages.
fn item(block: &Value) -> Option<String> {
    let is_message = field(block, "role").is_some();
    let content = field(block, "content").filter(|content| is_message && content.is_array());
    let summary = || {
        let summary = field(block, "summary")
            .filter(|summary| summary.as_array().is_some_and(|parts| !parts.is_empty()));
        summary.map(|summary| format!("(thinks) {}", text(summary)))
    };
    content.map(text).or_else(summary)
}

/// A field of a map.
fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let (_, found) = value.as_map()?.iter().find(|(key, _)| key.as_str() == Some(name))?;
    Some(found)
}
