//! Transcripts that agents keep themselves: what is appended to them during the session, where nobody else tells it.
//!
//! An agent whose traffic can't be read still writes down what was said. A round (what the model was told, and its answer) is told
//! as one, after the source has told all that happened before its lines were read: by then it is known whether the wire tells it.

mod follow;
mod places;
mod ties;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentrec_launch::PathMap;
use agentrec_trace::event::{
    Certainty, Link, Message, ModelRequest, ModelResponse, Payload, ToolCall, Usage,
};
use agentrec_trace::{Data, Event, ProcId, Seq, Source};
use agentrec_wire::llm::{Answer, Round, Told, Transcript};

use self::follow::Followed;
use self::places::{Place, Places};
pub(super) use self::ties::Program;
use self::ties::Ties;
use super::http::{Telling, id_key, message_key};
use super::{Session, boottime, wall_clock};
use crate::setup::Setup;
use crate::source::OpenId;

/// All transcripts of a session.
pub(super) struct Transcripts {
    places: Places,
    paths: PathMap,
    /// A watch follows none: they may be anybody's.
    is_off: bool,
    files: HashMap<u32, File>,
    count: u32,
    by_path: HashMap<PathBuf, u32>,
    /// Descriptions that are open for writing, by the model's number.
    writers: HashMap<u64, u32>,
    /// Files that can't be read, each told once.
    refused: HashSet<PathBuf>,
    held: VecDeque<Held>,
    held_items: usize,
    ties: Ties,
    /// Something may have been written.
    is_stale: bool,
    next_look: Instant,
}

/// One of them.
struct File {
    /// None once it is not followed any more; what it said may still have to be told.
    reading: Option<Reading>,
    proc: Option<ProcId>,
    branches: HashMap<Option<String>, Branch>,
}

/// How far a file was read, and understood.
struct Reading {
    followed: Followed,
    transcript: Transcript,
    path: PathBuf,
    /// Lines that are no JSON.
    damaged: u64,
    grew: Instant,
    /// It did not grow for a while, and what there was is told.
    is_paused: bool,
}

/// A conversation in a file.
#[derive(Clone, Default)]
struct Branch {
    name: Option<String>,
    /// The last answer, and what was made of it.
    last: Option<(u64, Fate)>,
}

/// What became of an answer.
#[derive(Clone, Copy)]
enum Fate {
    /// It was read off the wire, with all that led to it.
    Known,
    /// It is told from here: its `model.response`.
    Told(Option<Seq>),
}

/// A round that waits for the source.
struct Held {
    file: u32,
    round: Round,
    /// The source was asked to catch up by this one.
    fence: Option<u64>,
}

/// How often files that may grow are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// An answer that did not grow for so long is told, though more of it may follow.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of one file that are read at one look.
const PIECE: usize = 1 << 20;

/// Files that are followed at the same time: for another, the one that did not grow for longest is given up.
const MAX_FILES: usize = 64;

/// Messages, calls and results that wait. With more, none waits for an answer on the wire.
const MAX_HELD: usize = 4096;

impl Transcripts {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            places: Places::new(&setup.options.plan.env),
            paths: setup.options.plan.path_map(),
            is_off: setup.watch.is_some(),
            files: HashMap::new(),
            count: 0,
            by_path: HashMap::new(),
            writers: HashMap::new(),
            refused: HashSet::new(),
            held: VecDeque::new(),
            held_items: 0,
            ties: Ties::default(),
            is_stale: false,
            next_look: Instant::now(),
        }
    }

    /// When the files are to be looked at again, where they are.
    pub(super) fn due(&self) -> Option<Duration> {
        let waits = !self.writers.is_empty() || !self.held.is_empty() || self.is_stale;
        let grows = || self.readings().any(|(_, reading)| !reading.is_paused);
        (waits || grows()).then(|| self.next_look.saturating_duration_since(Instant::now()))
    }

    fn readings(&self) -> impl Iterator<Item = (u32, &Reading)> {
        self.files.iter().filter_map(|(number, file)| Some((*number, file.reading.as_ref()?)))
    }

    fn hold(&mut self, file: u32, round: Round) {
        self.held_items += items(&round);
        self.held.push_back(Held { file, round, fence: None });
    }
}

fn items(round: &Round) -> usize {
    round.inputs.len() + round.answer.as_ref().map_or(0, |answer| answer.told.len())
}

/// When a round began, as far as its lines say.
fn began(round: &Round) -> Option<i64> {
    let input = round.inputs.first().and_then(|(at, _)| *at);
    input.or(round.answer.as_ref().and_then(|answer| answer.began))
}

impl Reading {
    /// Takes what was appended, `limit` bytes at most; whether there was anything.
    fn read(&mut self, limit: usize, since: i64, rounds: &mut Vec<Round>) -> std::io::Result<bool> {
        let Self { followed, transcript, damaged, .. } = self;
        let grew = followed.read(limit, |line| match transcript.line(line, since) {
            Ok(more) => rounds.extend(more),
            Err(_) => *damaged += 1,
        })?;
        if grew {
            (self.grew, self.is_paused) = (Instant::now(), false);
        }
        Ok(grew)
    }

    /// Takes all that is left.
    fn finish(&mut self, since: i64, rounds: &mut Vec<Round>) -> std::io::Result<()> {
        while self.read(PIECE, since, rounds)? {}
        let rest = self.followed.take_rest();
        match self.transcript.line(&rest, since) {
            Ok(more) => rounds.extend(more),
            Err(_) => self.damaged += 1,
        }
        rounds.extend(self.transcript.finish());
        Ok(())
    }
}

impl Session {
    /// Takes note of an event whose `file.close.open` is still the model's number, and which is not redacted. A program that
    /// an agent started is for [`Self::executed_beside_transcript`], once its event is written.
    pub(super) fn observe_transcripts(
        &mut self,
        event: &Event<'_>,
        opens: Option<OpenId>,
    ) -> Option<Program> {
        if self.transcripts.is_off {
            return None;
        }
        let Transcripts { places, ties, files, .. } = &mut self.transcripts;
        places.observe(event);
        let is_agent = |proc| files.values().any(|file| file.proc == Some(proc));
        let program = ties.observe(event, is_agent);
        self.observe_file(event, opens);
        program
    }

    /// That event was written.
    pub(super) fn executed_beside_transcript(
        &mut self,
        program: Option<Program>,
        seq: Option<Seq>,
    ) {
        if let Some(program) = program {
            self.transcripts.ties.executed(program, seq);
        }
    }

    fn observe_file(&mut self, event: &Event<'_>, opens: Option<OpenId>) {
        let writes = |flags: u32| flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32;
        let (path, is_new) = match &event.data {
            Data::FileOpen(open) if open.errno.is_none() && writes(open.flags) => {
                (open.path.as_path(), open.created)
            }
            Data::FdInitial(fd) if writes(fd.flags) => (fd.path.as_path(), false),
            Data::FileClose(close) => {
                if let Some(open) = close.open {
                    self.transcripts.is_stale |= self.transcripts.writers.remove(&open.0).is_some();
                }
                return;
            }
            _ => return,
        };
        let Some((place, below)) = self.transcripts.places.find(event.proc, path) else { return };
        if let Some(file) = self.follow_transcript(&place, below, path, (event.proc, is_new)) {
            self.transcripts.is_stale = true;
            if let Some(open) = opens {
                self.transcripts.writers.insert(u64::from(open.0), file);
            }
        }
    }

    /// Follows a file, unless that is done already; its number.
    fn follow_transcript(
        &mut self,
        place: &Place,
        below: &Path,
        path: &Path,
        (proc, is_new): (Option<ProcId>, bool),
    ) -> Option<u32> {
        let dir = self.transcripts.paths.real(&place.dir).into_owned();
        let followed = match Followed::open(&dir, below, !is_new) {
            Ok(followed) => followed,
            Err(error) => {
                if self.transcripts.refused.insert(path.to_owned()) {
                    let reason = format!("cannot read the transcript {}: {error}", path.display());
                    self.lost("transcript", reason, None);
                }
                return None;
            }
        };
        let known = self.transcripts.by_path.get(path).copied();
        if let Some(known) = known {
            let file = self.transcripts.files.get(&known).and_then(|file| file.reading.as_ref());
            if file.is_some_and(|reading| reading.followed.is(&followed)) {
                return Some(known);
            }
            // Another file has its name now.
            self.end_transcript(known);
        }
        if self.transcripts.readings().count() >= MAX_FILES {
            let open: HashSet<u32> = self.transcripts.writers.values().copied().collect();
            let rank = |(number, it): &(u32, &Reading)| (open.contains(number), it.grew);
            let oldest = self.transcripts.readings().min_by_key(rank).map(|(number, _)| number);
            oldest.into_iter().for_each(|oldest| self.end_transcript(oldest));
        }
        let reading = Reading {
            followed,
            transcript: Transcript::new(place.keeper, self.talk.prices().clone(), !is_new),
            path: path.to_owned(),
            damaged: 0,
            grew: Instant::now(),
            is_paused: false,
        };
        let transcripts = &mut self.transcripts;
        transcripts.count += 1;
        let number = transcripts.count;
        transcripts.by_path.insert(path.to_owned(), number);
        let file = File { reading: Some(reading), proc, branches: HashMap::new() };
        transcripts.files.insert(number, file);
        Some(number)
    }

    /// Lines from before this time are not the session's: nanoseconds since 1970 by the clock as it stands now.
    fn transcripts_since(&self) -> i64 {
        const ROUNDED: i64 = 1_000_000;
        let ago = boottime().saturating_sub(self.started.boottime);
        wall_clock().saturating_sub_unsigned(ago).saturating_sub(ROUNDED)
    }

    /// Reads what was appended, and tells what is ripe.
    pub(super) fn look_at_transcripts(&mut self) {
        if self.transcripts.due().is_none_or(|due| !due.is_zero()) {
            return;
        }
        self.transcripts.next_look = Instant::now() + LOOK;
        self.read_transcripts(false);
        self.tell_transcripts(false);
    }

    /// Tells all that there is: nothing more will be written, or nobody waits for it.
    pub(super) fn end_transcripts(&mut self) {
        self.read_transcripts(true);
        let numbers: Vec<u32> = self.transcripts.files.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.end_transcript(number));
        self.tell_transcripts(true);
    }

    fn read_transcripts(&mut self, all: bool) {
        let since = self.transcripts_since();
        let transcripts = &mut self.transcripts;
        transcripts.is_stale = false;
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for (&number, file) in &mut transcripts.files {
            let Some(reading) = &mut file.reading else { continue };
            let mut rounds = Vec::new();
            let result = match all {
                true => reading.finish(since, &mut rounds).map(|()| false),
                false => reading.read(PIECE, since, &mut rounds),
            };
            match result {
                Ok(grew) => transcripts.is_stale |= grew,
                Err(error) => failed.push((number, error)),
            }
            if !reading.is_paused && reading.grew.elapsed() >= PAUSE {
                reading.is_paused = true;
                rounds.extend(reading.transcript.pause());
            }
            found.extend(rounds.into_iter().map(|round| (number, round)));
        }
        // A sub-agent has a file of its own; who called it began before.
        found.sort_by_key(|(number, round)| (began(round), *number));
        found.into_iter().for_each(|(number, round)| self.transcripts.hold(number, round));
        for (number, error) in failed {
            let reading = self.transcripts.files.get(&number).and_then(|it| it.reading.as_ref());
            let path = reading.map(|reading| reading.path.display().to_string());
            let path = path.unwrap_or_default();
            self.lost("transcript", format!("cannot read {path}: {error}"), None);
            self.end_transcript(number);
        }
    }

    /// Lets go of a file. What it says waits with the rest.
    fn end_transcript(&mut self, number: u32) {
        let since = self.transcripts_since();
        let transcripts = &mut self.transcripts;
        let Some(file) = transcripts.files.get_mut(&number) else { return };
        let Some(mut reading) = file.reading.take() else { return };
        let mut rounds = Vec::new();
        // What can't be read was told when it could not be.
        reading.finish(since, &mut rounds).ok();
        rounds.into_iter().for_each(|round| transcripts.hold(number, round));
        transcripts.by_path.retain(|_, known| *known != number);
        transcripts.writers.retain(|_, known| *known != number);
        let Reading { followed, path, damaged, .. } = reading;
        let path = path.display();
        for (count, what) in [(damaged, "no JSON"), (followed.too_long, "longer than 16 MiB")] {
            if count > 0 {
                let reason = format!("lines of the transcript {path} are {what}");
                self.lost("transcript", reason, Some(count));
            }
        }
        if followed.was_cut {
            let reason = format!("the transcript {path} was cut while it was read");
            self.lost("transcript", reason, None);
        }
    }

    /// Tells the rounds of which it is known whether the wire tells them, too; or all.
    fn tell_transcripts(&mut self, all: bool) {
        if self.transcripts.held.iter().any(|held| held.fence.is_none()) {
            if let Some(control) = self.control.as_ref().filter(|_| !all && !self.tree_ended) {
                self.next_fence += 1;
                control.fence(self.next_fence);
            }
            let fence = Some(self.next_fence);
            let new = self.transcripts.held.iter_mut().filter(|held| held.fence.is_none());
            new.for_each(|held| held.fence = fence);
        }
        while let Some(held) = self.transcripts.held.front() {
            let reached = self.tree_ended || held.fence.is_some_and(|fence| self.fence >= fence);
            let waits = self.talk.waits() && self.transcripts.held_items <= MAX_HELD;
            if !all && (!reached || waits) {
                return;
            }
            let Some(Held { file, round, .. }) = self.transcripts.held.pop_front() else { return };
            self.transcripts.held_items -= items(&round);
            self.tell_round(file, round);
        }
        self.transcripts.files.retain(|_, file| file.reading.is_some());
    }

    fn tell_round(&mut self, number: u32, round: Round) {
        let Round { branch: key, inputs, answer } = round;
        let Some(file) = self.transcripts.files.get(&number) else { return };
        let proc = file.proc;
        let Branch { name, last } = file.branches.get(&key).cloned().unwrap_or_default();
        let fate = match (&answer, last) {
            (Some(answer), Some((number, fate))) if number == answer.number => fate,
            (Some(answer), _) if self.is_on_the_wire(answer) => Fate::Known,
            // The wire tells a request that has no answer, in words of its own.
            (None, Some((_, Fate::Known))) => Fate::Known,
            (None, None) if proc.is_some_and(|proc| self.talk.has_asked(proc)) => Fate::Known,
            _ => Fate::Told(None),
        };
        let Fate::Told(response) = fate else {
            return self.remember(
                number,
                key,
                Branch { name, last: answer.map(|it| (it.number, fate)) },
            );
        };
        let name = name.unwrap_or_else(|| self.talk.next_name());
        let asked_at = inputs.last().and_then(|(at, _)| *at);
        self.tell_from_transcript(inputs, proc, None, &name);
        let mut last = last;
        if let Some(answer) = answer {
            let response = response.or_else(|| self.tell_asked(&answer, asked_at, proc, &name));
            last = Some((answer.number, Fate::Told(response)));
            self.tell_from_transcript(answer.told, proc, response, &name);
        }
        self.remember(number, key, Branch { name: Some(name), last });
    }

    fn remember(&mut self, file: u32, key: Option<String>, branch: Branch) {
        if let Some(file) = self.transcripts.files.get_mut(&file) {
            file.branches.insert(key, branch);
        }
    }

    /// Whether the same answer was read off the wire.
    fn is_on_the_wire(&self, answer: &Answer) -> bool {
        let said = &self.talk.said;
        answer.id.as_deref().is_some_and(|id| self.talk.has_answer(id))
            || answer.told.iter().any(|(_, told)| match told {
                Told::Call(call) => said.is_told_by(id_key(false, &call.id), &Source::Wire),
                // A name says more than words that may have been said twice.
                Told::Message(message) if answer.id.is_none() => {
                    said.is_told_by(message_key(message), &Source::Wire)
                }
                _ => false,
            })
    }

    /// That a model was asked, and answered: as much as the answer shows of that. The `model.response`.
    fn tell_asked(
        &mut self,
        answer: &Answer,
        asked_at: Option<i64>,
        proc: Option<ProcId>,
        name: &str,
    ) -> Option<Seq> {
        let model = answer.model.clone().unwrap_or_default();
        let request = ModelRequest {
            conversation: Some(name.to_owned().into()),
            dialect: answer.dialect.as_str().into(),
            model: model.clone().into(),
            system_prompt: Payload::Inline(answer.system_prompt.clone()),
            ..ModelRequest::default()
        };
        let request = self.noted(asked_at.or(answer.began), proc, None, request);
        let request = self.write(self.redacted(request));
        let response = ModelResponse {
            request,
            model: model.into(),
            finish: answer.finish.clone().map(Into::into),
            ..ModelResponse::default()
        };
        let response = self.noted(answer.ended, proc, None, response);
        self.write(self.redacted(response))
    }

    fn tell_from_transcript(
        &mut self,
        told: Vec<(Option<i64>, Told)>,
        proc: Option<ProcId>,
        cause: Option<Seq>,
        name: &str,
    ) {
        for (at, told) in told {
            let conversation = Some(name.to_owned().into());
            let data: Data<'static> = match told {
                Told::Message(message) => Message { conversation, ..message }.into(),
                Told::Call(call) => ToolCall { conversation, ..call }.into(),
                Told::Usage(usage) => Usage { conversation, ..usage }.into(),
                Told::Result(result) => result.into(),
                Told::Dropped(_) => continue,
            };
            let event = self.noted(at, proc, cause, data);
            let ts = event.ts;
            let (call, result) = match &event.data {
                Data::ToolCall(call) => (Some((call.id.to_string(), call.arguments.clone())), None),
                Data::ToolResult(result) => (None, Some(result.id.to_string())),
                _ => (None, None),
            };
            if let Telling::Now(seq) = self.tell_once(event)
                && let Some((id, arguments)) = call
            {
                self.transcripts.ties.called(id, seq, (proc, ts), &arguments);
            }
            for (from, to) in
                result.map_or(Vec::new(), |id| self.transcripts.ties.returned(&id, ts))
            {
                let certainty = Certainty::Recorded;
                self.note(Link { from, to, kind: "call-process".into(), certainty });
            }
        }
    }

    /// An event of the time that a line has.
    fn noted(
        &self,
        at: Option<i64>,
        proc: Option<ProcId>,
        cause: Option<Seq>,
        data: impl Into<Data<'static>>,
    ) -> Event<'static> {
        let now = boottime();
        let ago = at.map_or(0, |at| wall_clock().saturating_sub(at).max(0).unsigned_abs());
        let at = now.saturating_sub(ago).max(self.started.boottime);
        let event = Event::new(at, Source::Transcript, data);
        Event { proc, cause, ..event }
    }
}
