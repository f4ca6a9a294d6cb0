//! The round of a transcript that is not over: which lines belong to one answer, and when that is complete.

use agentrec_trace::Value;
use agentrec_trace::event::{Message, Payload, Usage};
use serde_json::Value as Json;

use super::{Answer, Part, Round};
use crate::llm::dialect::Tokens;
use crate::llm::json;
use crate::llm::known::Conversation;
use crate::llm::parts::keys;
use crate::llm::tell::{Context, tell, tell_tools};
use crate::llm::{Dialect, Prices, Told, anthropic, responses};

/// A round whose answer may go on.
#[derive(Debug, Default)]
pub(super) struct Open {
    inputs: Vec<(Option<i64>, Told)>,
    answer: Option<Pending>,
    /// What the model was told since: tools may return while it still speaks.
    later: Vec<(Option<i64>, Told)>,
    /// Bytes of the lines of all that.
    size: usize,
}

/// An answer, without what was told of it already.
#[derive(Debug, Default)]
struct Pending {
    number: u64,
    id: Option<String>,
    model: Option<String>,
    finish: Option<String>,
    prompt: Option<String>,
    items: Vec<(Option<i64>, Json)>,
    began: Option<i64>,
    ended: Option<i64>,
    /// What it used so far, and how much of that was told.
    tokens: Tokens,
    told: Tokens,
    /// A line said what it used, which comes behind its items.
    is_over: bool,
}

/// A round to be told.
#[derive(Debug)]
pub(super) struct Done {
    inputs: Vec<(Option<i64>, Told)>,
    answer: Option<Pending>,
    size: usize,
}

/// Bytes of the lines of one round. It is told as it is when there are more.
const MAX_SIZE: usize = 32 << 20;

impl Pending {
    fn has_news(&self) -> bool {
        !self.items.is_empty() || self.tokens != self.told
    }

    /// What there is to tell; the rest stays.
    fn take(&mut self) -> Self {
        let taken = Self {
            number: self.number,
            id: self.id.clone(),
            model: self.model.clone(),
            finish: self.finish.clone(),
            prompt: self.prompt.take(),
            items: std::mem::take(&mut self.items),
            began: self.began.take(),
            ended: self.ended,
            tokens: self.tokens,
            told: self.told,
            is_over: self.is_over,
        };
        self.told = self.tokens;
        taken
    }
}

impl Open {
    /// Something that the model is told.
    pub(super) fn input(
        &mut self,
        dialect: Dialect,
        (at, size): (Option<i64>, usize),
        json: &Json,
    ) -> Option<Done> {
        let entry = match dialect {
            Dialect::Responses => responses::entry(json),
            _ => anthropic::entry(json),
        };
        let entries = [entry];
        let keys = keys(&entries);
        let context = Context { conversation: "", model: None, incomplete: None };
        let fresh = vec![true; keys.len()];
        let mut apart = Conversation::default();
        let told = tell(&entries, &keys, &fresh, &context, &mut apart, &mut 0);
        let list = if self.answer.is_some() { &mut self.later } else { &mut self.inputs };
        self.size += size;
        list.extend(told.into_iter().map(|told| (at, told)));
        if self.size > MAX_SIZE { self.pause().or_else(|| self.rest()) } else { None }
    }

    /// A part of an answer; `number` numbers new ones, and gives the prompt that they were given.
    pub(super) fn part(
        &mut self,
        (at, size): (Option<i64>, usize),
        part: Part,
        number: impl FnOnce() -> (u64, Option<String>),
    ) -> Option<Done> {
        let goes_on = self.answer.as_ref().is_some_and(|answer| match (&answer.id, &part.id) {
            (Some(own), Some(other)) => own == other,
            _ => !answer.is_over && self.later.is_empty(),
        });
        let mut done = None;
        if !goes_on {
            done = self.pause();
            let (number, prompt) = number();
            self.inputs.append(&mut self.later);
            if let Some(prompt) = &prompt {
                let first = self.inputs.first().map_or(at, |(at, _)| *at);
                self.inputs.insert(0, (first, system(prompt)));
            }
            self.answer = Some(Pending { number, prompt, ..Pending::default() });
        }
        if let Some(answer) = &mut self.answer {
            answer.id = part.id.or(answer.id.take());
            answer.model = part.model.or(answer.model.take());
            answer.finish = part.finish.or(answer.finish.take());
            answer.began = answer.began.or(at);
            answer.ended = at.or(answer.ended);
            answer.tokens = part.tokens.unwrap_or(answer.tokens);
            self.size += size;
            answer.items.extend(part.items.into_iter().map(|item| (at, item)));
        }
        if self.size > MAX_SIZE { done.or_else(|| self.pause()) } else { done }
    }

    /// What the last answer used.
    pub(super) fn used(&mut self, id: Option<String>, tokens: Tokens) {
        if let Some(answer) = &mut self.answer {
            answer.id = id.or(answer.id.take());
            answer.tokens = tokens;
            answer.is_over = true;
        }
    }

    /// When the answer began, as far as its lines say.
    pub(super) fn began(&self) -> Option<i64> {
        self.answer.as_ref()?.began
    }

    /// What was answered so far, with what led to it.
    pub(super) fn pause(&mut self) -> Option<Done> {
        let answer = self.answer.as_mut().filter(|answer| answer.has_news())?.take();
        let size = std::mem::take(&mut self.size);
        Some(Done { inputs: std::mem::take(&mut self.inputs), answer: Some(answer), size })
    }

    /// What nobody has answered.
    pub(super) fn rest(&mut self) -> Option<Done> {
        let mut inputs = std::mem::take(&mut self.inputs);
        inputs.append(&mut self.later);
        let size = std::mem::take(&mut self.size);
        (!inputs.is_empty()).then_some(Done { inputs, answer: None, size })
    }
}

/// What the model is told beside the messages.
fn system(prompt: &str) -> Told {
    let content = Payload::Inline(prompt.into());
    Told::Message(Message { role: "system".into(), content, ..Message::default() })
}

impl Done {
    pub(super) fn round(self, branch: Option<String>, dialect: Dialect, prices: &Prices) -> Round {
        let Self { inputs, answer, size } = self;
        let answer = answer.map(|answer| answer.tell(dialect, prices));
        Round { branch, inputs, answer, size }
    }
}

impl Pending {
    fn tell(self, dialect: Dialect, prices: &Prices) -> Answer {
        let Self { number, id, model, finish, prompt, items, began, ended, tokens, told, .. } =
            self;
        let used = difference(tokens, told);
        let mut told = Vec::new();
        if !items.is_empty() {
            let content = items.iter().map(|(_, item)| json::value(item.clone())).collect();
            let message = Message {
                role: "assistant".into(),
                content: Payload::Inline(Value::Array(content)),
                model: model.clone().map(Into::into),
                ..Message::default()
            };
            told.push((ended, Told::Message(message)));
        }
        let context = Context { conversation: "", model: None, incomplete: None };
        for (at, item) in items {
            let choice = match dialect {
                Dialect::Responses => Json::Array(vec![item]),
                _ => serde_json::json!({"role": "assistant", "content": [item]}),
            };
            let (mut apart, mut called) = (Conversation::default(), Vec::new());
            for entry in dialect.said(&choice) {
                tell_tools(&entry, |_| true, &context, &mut apart, &mut 0, &mut called);
            }
            told.extend(called.into_iter().map(|told| (at, told)));
        }
        if used != Tokens::default() {
            let model = model.clone().unwrap_or_default();
            let usage = Told::Usage(Usage {
                input: used.input,
                cache_read: used.cache_read,
                cache_write: used.cache_write,
                output: used.output,
                cost: prices.cost(&model, &used),
                conversation: None,
                model: model.into(),
            });
            told.push((ended, usage));
        }
        let system_prompt = prompt.map_or(Value::Nil, Value::from);
        Answer { number, id, model, dialect, finish, system_prompt, began, ended, told }
    }
}

fn difference(all: Tokens, told: Tokens) -> Tokens {
    Tokens {
        input: all.input.saturating_sub(told.input),
        cache_read: all.cache_read.saturating_sub(told.cache_read),
        cache_write: all.cache_write.saturating_sub(told.cache_write),
        cache_write_long: all.cache_write_long.saturating_sub(told.cache_write_long),
        output: all.output.saturating_sub(told.output),
        cost: None,
    }
}
