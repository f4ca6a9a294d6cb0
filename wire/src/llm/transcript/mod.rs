//! Transcripts that agents keep of their own conversations: lines of JSON become rounds, each what a model was told and
//! what it answered. One agent's form is one file; what its lines hold are the messages of the API that it speaks.

mod claude;
mod codex;
mod open;

use std::collections::BTreeMap;

use agentrec_trace::Value;
use serde_json::Value as Json;

use self::codex::Codex;
use self::open::Open;
use super::dialect::Tokens;
use super::{Dialect, Prices, Told};

/// Whose transcript it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keeper {
    /// `rollout-*.jsonl` below the `sessions` of Codex.
    Codex,
    /// `*.jsonl` below the `projects` of Claude Code.
    Claude,
}

/// A line is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the line is no JSON")]
pub struct NotJson;

/// One file of a transcript, read line by line.
pub struct Transcript {
    keeper: Keeper,
    prices: Prices,
    codex: Codex,
    branches: BTreeMap<Option<String>, Open>,
    answers: u64,
    is_old: bool,
}

/// What a model was told, and what it answered to that.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The sub-agent whose it is, where several share a file.
    pub branch: Option<String>,
    /// Messages and results of tools, with their times.
    pub inputs: Vec<(Option<i64>, Told)>,
    /// None where there is none yet.
    pub answer: Option<Answer>,
    /// Bytes of its lines.
    pub size: usize,
}

/// What a model said, or, where it goes on an earlier round, what it said since.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its number in the file: the same in every round that tells of it.
    pub number: u64,
    /// The name that the API gave it, where the transcript has that.
    pub id: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The language of its content.
    pub dialect: Dialect,
    /// Why the model stopped, in the words of its API.
    pub finish: Option<String>,
    /// What the model is told beside the messages, where that is new.
    pub system_prompt: Value,
    /// The time of its first line in this round, nanoseconds since 1970.
    pub began: Option<i64>,
    /// The same of its last one.
    pub ended: Option<i64>,
    /// The message, its calls, and what was used, with their times.
    pub told: Vec<(Option<i64>, Told)>,
}

/// What one line says.
#[derive(Debug, Default)]
struct Line {
    branch: Option<String>,
    says: Says,
}

#[derive(Debug, Default)]
enum Says {
    /// Something that is not of the conversation.
    #[default]
    Nothing,
    /// A message to the model, or a result, as the API has it.
    Input(Json),
    /// A part of what the model said.
    Part(Box<Part>),
    /// What the present answer used.
    Usage { id: Option<String>, tokens: Tokens },
}

/// A part of an answer.
#[derive(Debug, Default)]
struct Part {
    id: Option<String>,
    model: Option<String>,
    finish: Option<String>,
    /// Blocks or items, as the API has them.
    items: Vec<Json>,
    /// What the answer used so far.
    tokens: Option<Tokens>,
}

/// Branches of one file. The oldest are told as they are when there are more.
const MAX_BRANCHES: usize = 64;

impl Keeper {
    /// The language of the messages that it writes down.
    fn dialect(self) -> Dialect {
        match self {
            Self::Codex => Dialect::Responses,
            Self::Claude => Dialect::Anthropic,
        }
    }
}

impl Transcript {
    /// A file of which no line was read yet; prices are those that costs are counted by. Where the file `is_old`, nothing is
    /// told of lines without a time.
    pub fn new(keeper: Keeper, prices: Prices, is_old: bool) -> Self {
        let (codex, branches) = (Codex::default(), BTreeMap::new());
        Self { keeper, prices, codex, branches, answers: 0, is_old }
    }

    /// Takes the next line, without its end, and gives the rounds that it completes. Of lines from before `since`
    /// (nanoseconds since 1970) nothing is told: agents copy what was said earlier.
    ///
    /// # Errors
    /// Where it is no JSON. The lines after it are read all the same.
    pub fn line(&mut self, line: &[u8], since: i64) -> Result<Vec<Round>, NotJson> {
        if line.trim_ascii().is_empty() {
            return Ok(Vec::new());
        }
        let json: Json = serde_json::from_slice(line).map_err(|_| NotJson)?;
        let at = json.get("timestamp").and_then(Json::as_str).and_then(nanoseconds);
        let Line { branch, says } = match self.keeper {
            Keeper::Codex => self.codex.line(json),
            Keeper::Claude => claude::line(json),
        };
        let is_old = at.map_or(self.is_old, |at| at < since);
        if is_old || matches!(says, Says::Nothing) {
            return Ok(Vec::new());
        }
        let mut rounds = Vec::new();
        if self.branches.len() >= MAX_BRANCHES && !self.branches.contains_key(&branch) {
            rounds.extend(self.finish());
            self.branches.clear();
        }
        let dialect = self.keeper.dialect();
        let open = self.branches.entry(branch.clone()).or_default();
        let done = match says {
            Says::Nothing => None,
            Says::Input(input) => open.input(dialect, (at, line.len()), &input),
            Says::Part(part) => {
                let mut part = *part;
                part.model = part.model.or_else(|| self.codex.model.clone());
                open.part((at, line.len()), part, || {
                    self.answers += 1;
                    (self.answers, self.codex.take_prompt())
                })
            }
            Says::Usage { id, tokens } => {
                open.used(id, tokens);
                None
            }
        };
        rounds.extend(done.map(|done| done.round(branch, dialect, &self.prices)));
        Ok(rounds)
    }

    /// Tells what was answered so far, though more may follow.
    pub fn pause(&mut self) -> Vec<Round> {
        self.drain(Open::pause)
    }

    /// The same of answers that began before a time, nanoseconds since 1970.
    pub fn pause_before(&mut self, at: i64) -> Vec<Round> {
        self.drain(|open| if open.began() < Some(at) { open.pause() } else { None })
    }

    /// Tells all that is left: the file is over.
    pub fn finish(&mut self) -> Vec<Round> {
        let mut rounds = self.pause();
        rounds.extend(self.drain(Open::rest));
        rounds
    }

    fn drain(&mut self, take: impl Fn(&mut Open) -> Option<open::Done>) -> Vec<Round> {
        let dialect = self.keeper.dialect();
        let taken = self.branches.iter_mut().filter_map(|(name, open)| Some((name, take(open)?)));
        taken.map(|(name, done)| done.round(name.clone(), dialect, &self.prices)).collect()
    }
}

/// The time of a line, nanoseconds since 1970.
fn nanoseconds(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}
