//! Entries become events: a message, the calls in it, the results in it.

use std::borrow::Cow;

use agentrec_trace::Value;
use agentrec_trace::event::{Payload, ToolCall, ToolResult};

use super::Told;
use super::json;
use super::known::Conversation;
use super::parts::{Entry, Keyed, Kind, id_key};

/// What goes with every event.
pub(super) struct Context<'a> {
    pub conversation: &'a str,
    /// Who wrote it, in a response.
    pub model: Option<&'a str>,
    /// Why the message is not whole.
    pub incomplete: Option<&'static str>,
}

/// Tells of the entries what `fresh` says is new: one for each of the keys.
pub(super) fn tell(
    entries: &[Entry<'_>],
    keys: &[Keyed],
    fresh: &[bool],
    context: &Context<'_>,
    known: &mut Conversation,
    ids: &mut u64,
) -> Vec<Told> {
    let mut told = Vec::new();
    for (entry, news) in entries.iter().zip(news(entries, keys, fresh)) {
        if !news.contains(&Some(true)) {
            continue;
        }
        let in_message = |part: usize| {
            let is_result = matches!(entry.parts[part].kind, Kind::Result(_));
            news[part] != Some(false) && (!is_result || entry.role == "assistant")
        };
        let says = |part: usize| in_message(part) && news[part] == Some(true);
        if (0..entry.parts.len()).any(says) {
            let mut message = entry.message(in_message);
            message.conversation = Some(context.conversation.to_owned().into());
            message.model = context.model.map(|model| model.to_owned().into());
            mark(&mut message.extra, context.incomplete);
            told.push(Told::Message(message));
        }
        tell_tools(entry, |part| news[part] == Some(true), context, known, ids, &mut told);
    }
    told
}

/// Tells the calls and results among the parts that are chosen.
pub(super) fn tell_tools(
    entry: &Entry<'_>,
    chosen: impl Fn(usize) -> bool,
    context: &Context<'_>,
    known: &mut Conversation,
    ids: &mut u64,
    told: &mut Vec<Told>,
) {
    for (_, part) in entry.parts.iter().enumerate().filter(|(number, _)| chosen(*number)) {
        match &part.kind {
            // The half of a call that was cut off will never be run.
            Kind::Call(call) if context.incomplete.is_none() || call.whole => {
                let id = if call.id.is_empty() {
                    *ids += 1;
                    let id = format!("call-{ids}");
                    known.open(&call.name, &id);
                    id
                } else {
                    call.id.to_owned()
                };
                told.push(Told::Call(ToolCall {
                    id: id.into(),
                    name: Cow::Owned(call.name.clone()),
                    arguments: Payload::Inline(json::value(json::arguments(call.arguments))),
                    conversation: Some(context.conversation.to_owned().into()),
                    server: None,
                }));
            }
            Kind::Result(result) => {
                let id = if result.id.is_empty() {
                    known.close(result.name).unwrap_or_else(|| {
                        *ids += 1;
                        format!("call-{ids}")
                    })
                } else if known.is_first_result(id_key(result.id)) {
                    result.id.to_owned()
                } else {
                    // Cleared or shortened by the agent: that history was edited is told.
                    continue;
                };
                told.push(Told::Result(ToolResult {
                    id: id.into(),
                    result: Payload::Inline(json::value(result.content.clone())),
                    error: result.error.clone().map(Cow::Owned),
                    ..ToolResult::default()
                }));
            }
            _ => {}
        }
    }
}

/// For each part of each entry whether it is new; nothing for what is not compared.
fn news(entries: &[Entry<'_>], keys: &[Keyed], fresh: &[bool]) -> Vec<Vec<Option<bool>>> {
    let mut news: Vec<Vec<Option<bool>>> =
        entries.iter().map(|entry| vec![None; entry.parts.len()]).collect();
    for (key, fresh) in keys.iter().zip(fresh) {
        news[key.entry][key.part] = Some(*fresh);
    }
    // A text that goes on another one shares its key.
    let mut last = None;
    for (entry, news) in entries.iter().zip(&mut news) {
        for (part, new) in entry.parts.iter().zip(news) {
            match (&part.kind, *new) {
                (_, Some(_)) => last = *new,
                (Kind::Text(text), None)
                    if entry.role == "assistant" && !text.trim_ascii().is_empty() =>
                {
                    *new = last
                }
                _ => {}
            }
        }
    }
    news
}

/// Says in a message's other fields that it is not whole.
pub(super) fn mark(extra: &mut Payload, incomplete: Option<&'static str>) {
    let Some(why) = incomplete else { return };
    let field = (Value::from("incomplete"), Value::from(why));
    match extra {
        Payload::Inline(Value::Map(fields)) => fields.push(field),
        other => *other = Payload::Inline(Value::Map(vec![field])),
    }
}
