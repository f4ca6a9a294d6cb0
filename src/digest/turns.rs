//! Turns: a request to a model and all until the next one of the same conversation.

use std::collections::{BTreeMap, HashMap};

use agentrec_trace::{Data, Event, ProcId, Seq, Source};

use crate::address::TurnLabel;

/// The conversation whose turns are `t1`, `t2`, …
pub const MAIN: &str = "main";

/// The turns of all conversations, in the order in which they began, and what was asked beside them.
#[derive(Debug, Default)]
pub struct Turns {
    turns: Vec<Turn>,
    /// Side requests by kind.
    pub side: BTreeMap<String, u64>,
    /// Turns by the `model.request` and `model.response` that belong to them.
    by_event: HashMap<Seq, usize>,
}

/// A turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its address.
    pub label: TurnLabel,
    /// The first `model.request`.
    pub seq: Seq,
    /// The process that asked.
    pub proc: Option<ProcId>,
    /// CLOCK_BOOTTIME of the request, nanoseconds.
    pub ts: u64,
    /// The same of the last answer; none while there is none.
    pub answered: Option<u64>,
    /// The same of the next turn of the conversation; none where this is its last.
    pub next: Option<u64>,
    /// The first event of that.
    pub next_seq: Option<Seq>,
    /// The model that answered, or that was asked.
    pub model: String,
    /// How often the request was made again.
    pub repeats: u32,
    /// Input tokens, cached ones included.
    pub input: u64,
    /// Input tokens read from a cache.
    pub cached: u64,
    /// Output tokens.
    pub output: u64,
    /// US dollars, where the prices of all answers are known.
    pub cost: Option<f64>,
    /// What went wrong with the last answer.
    pub error: Option<String>,
    /// The `tool.call`s that it led to.
    pub calls: Vec<Seq>,
    /// The `message` of the answer.
    pub said: Option<Seq>,
    /// Tokens are known.
    pub counted: bool,
    /// Who says so.
    pub source: Source,
}

impl Turns {
    /// Takes the next event.
    pub fn add(&mut self, event: &Event<'_>) {
        let caused = event.cause.and_then(|cause| self.by_event.get(&cause).copied());
        match &event.data {
            Data::ModelRequest(request) => {
                if let Some(side) = &request.side {
                    *self.side.entry(side.clone().into_owned()).or_default() += 1;
                    return;
                }
                let conversation = request.conversation.as_deref().unwrap_or(MAIN);
                let last = self.last_of(conversation);
                let index = match last {
                    Some(last) if request.repeats => {
                        self.turns[last].repeats += 1;
                        last
                    }
                    last => self.begin(event, conversation, &request.model, last),
                };
                self.by_event.insert(event.seq, index);
            }
            Data::ModelResponse(response) => {
                let of = response.request.and_then(|request| self.by_event.get(&request).copied());
                let Some(index) = of else { return };
                self.by_event.insert(event.seq, index);
                let turn = &mut self.turns[index];
                turn.answered = Some(event.ts);
                if !response.model.is_empty() {
                    turn.model = response.model.clone().into_owned();
                }
                let error = response.error.as_ref().or(response.incomplete.as_ref());
                turn.error = error.map(|error| error.clone().into_owned());
            }
            Data::Usage(usage) => {
                let Some(index) = caused else { return };
                let turn = &mut self.turns[index];
                turn.input = turn.input.saturating_add(usage.input);
                turn.cached = turn.cached.saturating_add(usage.cache_read);
                turn.output = turn.output.saturating_add(usage.output);
                turn.cost = match (turn.cost, usage.cost, turn.counted) {
                    (Some(sum), Some(more), _) => Some(sum + more),
                    (None, more, false) => more,
                    _ => None,
                };
                turn.counted = true;
            }
            // The agent told of it itself, before the response was read.
            Data::Link(link) if link.kind == "response-call" || link.kind == "response-message" => {
                let Some(&index) = self.by_event.get(&link.from) else { return };
                let turn = &mut self.turns[index];
                match &*link.kind {
                    "response-call" => turn.calls.push(link.to),
                    _ => turn.said = Some(link.to),
                }
            }
            Data::ToolCall(_) => {
                if let Some(index) = caused {
                    self.turns[index].calls.push(event.seq);
                }
            }
            Data::Message(message) if message.role == "assistant" => {
                if let Some(index) = caused {
                    self.turns[index].said = Some(event.seq);
                }
            }
            _ => {}
        }
    }

    fn begin(
        &mut self,
        event: &Event<'_>,
        conversation: &str,
        model: &str,
        last: Option<usize>,
    ) -> usize {
        if let Some(last) = last {
            (self.turns[last].next, self.turns[last].next_seq) = (Some(event.ts), Some(event.seq));
        }
        let now = self.turns.iter().rev().find(|turn| turn.label.other.is_none());
        let now = now.map_or(0, |turn| turn.label.main);
        let label = match (conversation, last.map(|last| &self.turns[last].label)) {
            (MAIN, _) => TurnLabel { main: now + 1, other: None },
            (_, Some(TurnLabel { main, other: Some((name, number)) })) => {
                TurnLabel { main: *main, other: Some((name.clone(), number + 1)) }
            }
            _ => TurnLabel { main: now, other: Some((conversation.to_owned(), 1)) },
        };
        self.turns.push(Turn {
            label,
            seq: event.seq,
            proc: event.proc,
            ts: event.ts,
            answered: None,
            next: None,
            next_seq: None,
            model: model.to_owned(),
            repeats: 0,
            input: 0,
            cached: 0,
            output: 0,
            cost: None,
            error: None,
            calls: Vec::new(),
            said: None,
            counted: false,
            source: event.source.clone(),
        });
        self.turns.len() - 1
    }

    fn last_of(&self, conversation: &str) -> Option<usize> {
        self.turns.iter().rposition(|turn| match &turn.label.other {
            None => conversation == MAIN,
            Some((name, _)) => name == conversation,
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Turn> {
        self.turns.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The turn of this address.
    pub fn get(&self, label: &TurnLabel) -> Option<&Turn> {
        self.turns.iter().find(|turn| turn.label == *label)
    }

    /// The turns of another conversation than the main one, by the turn in which it began and its name.
    pub fn of_conversation(&self, main: u32, name: &str) -> impl Iterator<Item = &Turn> {
        self.turns.iter().filter(move |turn| {
            let other = turn.label.other.as_ref();
            turn.label.main == main && other.is_some_and(|(of, _)| of == name)
        })
    }

    /// The turn that an event of a conversation belongs to.
    pub fn of_event(&self, event: &Event<'_>) -> Option<&Turn> {
        let known = |seq: Option<Seq>| self.by_event.get(&seq?).map(|&index| &self.turns[index]);
        known(Some(event.seq)).or_else(|| known(event.cause))
    }

    /// The turn that led to a tool call, and the call's place among its calls, from 0.
    pub fn of_call(&self, call: Seq) -> Option<(&Turn, usize)> {
        self.turns.iter().find_map(|turn| {
            let place = turn.calls.iter().position(|seq| *seq == call)?;
            Some((turn, place))
        })
    }

    /// The turn whose answer a message is.
    pub fn of_message(&self, message: Seq) -> Option<&Turn> {
        self.turns.iter().find(|turn| turn.said == Some(message))
    }

    /// How many turns the main conversation has.
    pub fn count(&self) -> usize {
        self.turns.iter().filter(|turn| turn.label.other.is_none()).count()
    }

    /// What all turns cost; None where the price of one is not known.
    pub fn cost(&self) -> Option<f64> {
        self.turns.iter().filter(|turn| turn.counted).map(|turn| turn.cost).sum()
    }
}

#[cfg(test)]
mod tests {
    use agentrec_trace::event::{ModelRequest, ModelResponse, ToolCall, Usage};

    use super::*;

    fn add(turns: &mut Turns, seq: u64, cause: u64, data: impl Into<Data<'static>>) {
        let mut event = Event::new(seq * 10, Source::Wire, data);
        (event.seq, event.cause) = (Seq(seq), (cause > 0).then_some(Seq(cause)));
        turns.add(&event);
    }

    fn request(conversation: &'static str, repeats: bool) -> ModelRequest<'static> {
        ModelRequest {
            conversation: Some(conversation.into()),
            model: "m".into(),
            repeats,
            ..ModelRequest::default()
        }
    }

    fn response(request: u64) -> ModelResponse<'static> {
        ModelResponse { request: Some(Seq(request)), ..ModelResponse::default() }
    }

    #[test]
    fn repeats_and_other_conversations_are_no_turns_of_the_main_one() {
        let mut turns = Turns::default();
        add(&mut turns, 1, 0, request(MAIN, false));
        add(&mut turns, 2, 0, request(MAIN, true));
        add(&mut turns, 3, 0, response(2));
        add(&mut turns, 4, 3, ToolCall { id: "c".into(), ..ToolCall::default() });
        let usage = Usage { input: 5, output: 2, cost: Some(0.5), ..Usage::default() };
        add(&mut turns, 5, 3, usage.clone());
        add(&mut turns, 6, 0, request("a", false));
        let side = ModelRequest { side: Some("title".into()), ..ModelRequest::default() };
        add(&mut turns, 7, 0, side);
        add(&mut turns, 8, 0, request("a", false));
        add(&mut turns, 9, 0, request(MAIN, false));
        let labels: Vec<_> = turns.iter().map(|turn| turn.label.to_string()).collect();
        assert_eq!(labels, ["t1", "t1/a.1", "t1/a.2", "t2"]);
        let first = turns.get(&TurnLabel { main: 1, other: None }).unwrap();
        assert_eq!(turns.of_conversation(1, "a").count(), 2);
        assert_eq!((first.repeats, first.input, first.cost), (1, 5, Some(0.5)));
        assert_eq!((first.answered, first.next), (Some(30), Some(90)));
        assert_eq!(turns.of_call(Seq(4)).map(|(turn, place)| (turn.seq, place)), Some((Seq(1), 0)));
        assert_eq!((turns.count(), turns.side.get("title")), (2, Some(&1)));
        assert_eq!(turns.cost(), Some(0.5));
        add(&mut turns, 10, 9, Usage { cost: None, ..usage });
        assert_eq!(turns.cost(), None, "the price of one is not known");
    }
}
