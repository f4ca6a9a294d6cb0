//! Transcripts that agents keep themselves: what is appended to them during the session, where nobody else tells it.
//!
//! An agent whose traffic can't be read still writes down what was said. A round (what the model was told, and its answer) is told
//! as one, after the source has told all that happened before its lines were read: by then it is known whether the wire tells it.

mod follow;
mod places;
mod telling;
mod ties;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agentrec_launch::PathMap;
use agentrec_trace::{Data, Event, ProcId, Seq};
use agentrec_wire::llm::{Round, Transcript};

use self::follow::Followed;
use self::places::{Place, Places};
pub(super) use self::ties::Program;
use self::ties::Ties;
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
    held_size: usize,
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
    /// Not all of it was read.
    has_more: bool,
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

/// How often files that grow are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The same of files that are open, and did not grow lately.
const IDLE: Duration = Duration::from_millis(500);

/// An answer that did not grow for so long is told, though more of it may follow.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of one file that are read at one look.
const PIECE: usize = 1 << 20;

/// Files that are followed at the same time: for another, the one that did not grow for longest is given up.
const MAX_FILES: usize = 64;

/// What is still to be read of a file when it is let go of. The rest is a loss: who goes on writing would never let us end.
const MAX_REST: u64 = 64 << 20;

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
            held_size: 0,
            ties: Ties::default(),
            is_stale: false,
            next_look: Instant::now(),
        }
    }

    /// When the files are to be looked at again, where they are.
    pub(super) fn due(&self) -> Option<Duration> {
        let is_any = self.is_busy() || !self.writers.is_empty();
        is_any.then(|| self.next_look.saturating_duration_since(Instant::now()))
    }

    /// Whether something is to be told, or may come soon.
    fn is_busy(&self) -> bool {
        let grows = |(_, reading): (u32, &Reading)| !reading.is_paused;
        self.is_stale || !self.held.is_empty() || self.readings().any(grows)
    }

    fn readings(&self) -> impl Iterator<Item = (u32, &Reading)> {
        self.files.iter().filter_map(|(number, file)| Some((*number, file.reading.as_ref()?)))
    }

    /// Keeps rounds until they are ripe, by the numbers of their files.
    fn hold(&mut self, mut rounds: Vec<(u32, Round)>) {
        // A sub-agent has a file of its own; who called it began before.
        rounds.sort_by_key(|(number, round)| (began(round), *number));
        for (file, round) in rounds {
            self.held_size += round.size;
            self.held.push_back(Held { file, round, fence: None });
        }
    }
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
        let mut left = MAX_REST;
        while self.read(PIECE, since, rounds)? {
            left = left.saturating_sub(PIECE as u64);
            if left == 0 {
                self.has_more = true;
                break;
            }
        }
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
            // Then it is looked at soon.
            self.transcripts.next_look = self.transcripts.next_look.min(Instant::now() + LOOK);
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
            has_more: false,
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
        self.read_transcripts();
        self.tell_transcripts(false);
        let pace = if self.transcripts.is_busy() { LOOK } else { IDLE };
        self.transcripts.next_look = Instant::now() + pace;
    }

    /// Tells all that there is: nothing more will be written, or nobody waits for it.
    pub(super) fn end_transcripts(&mut self) {
        let mut numbers: Vec<u32> = self.transcripts.files.keys().copied().collect();
        numbers.sort_unstable();
        let mut found = Vec::new();
        for number in numbers {
            let rounds = self.let_go_of_transcript(number);
            found.extend(rounds.into_iter().map(|round| (number, round)));
        }
        self.transcripts.hold(found);
        self.tell_transcripts(true);
    }

    fn read_transcripts(&mut self) {
        let since = self.transcripts_since();
        let transcripts = &mut self.transcripts;
        transcripts.is_stale = false;
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for (&number, file) in &mut transcripts.files {
            let Some(reading) = &mut file.reading else { continue };
            let mut rounds = Vec::new();
            match reading.read(PIECE, since, &mut rounds) {
                Ok(grew) => transcripts.is_stale |= grew,
                Err(error) => failed.push((number, error)),
            }
            if !reading.is_paused && reading.grew.elapsed() >= PAUSE {
                reading.is_paused = true;
                rounds.extend(reading.transcript.pause());
            }
            found.extend(rounds.into_iter().map(|round| (number, round)));
        }
        self.complete_before(since, &mut found);
        self.transcripts.hold(found);
        for (number, error) in failed {
            let reading = self.transcripts.files.get(&number).and_then(|it| it.reading.as_ref());
            let path = reading.map(|reading| reading.path.display().to_string());
            let path = path.unwrap_or_default();
            self.lost("transcript", format!("cannot read {path}: {error}"), None);
            self.end_transcript(number);
        }
    }

    /// A conversation that begins was mostly asked for by an answer in another file, which nothing has followed yet, and which may have
    /// been written after that file was read here: that is told first.
    fn complete_before(&mut self, since: i64, found: &mut Vec<(u32, Round)>) {
        /// Lines have times in whole milliseconds: what is of the same one came before.
        const SAME: i64 = 1_000_000;
        let files = &mut self.transcripts.files;
        let is_first = |(number, round): &&(u32, Round)| {
            files.get(number).is_some_and(|file| !file.branches.contains_key(&round.branch))
        };
        let first: Vec<(u32, i64)> = found
            .iter()
            .filter(is_first)
            .filter_map(|(number, round)| Some((*number, began(round)?)))
            .collect();
        let Some(&(_, at)) = first.iter().max_by_key(|(_, at)| at) else { return };
        for (&number, file) in files {
            let Some(reading) = &mut file.reading else { continue };
            let mut rounds = Vec::new();
            let mut until = at;
            if !first.iter().any(|(begun, _)| *begun == number) {
                // What can't be read is told when it is read again.
                self.transcripts.is_stale |=
                    reading.read(PIECE, since, &mut rounds).unwrap_or_default();
                until += SAME;
            }
            rounds.extend(reading.transcript.pause_before(until));
            found.extend(rounds.into_iter().map(|round| (number, round)));
        }
    }

    /// Lets go of a file. What it says waits with the rest.
    fn end_transcript(&mut self, number: u32) {
        let rounds = self.let_go_of_transcript(number);
        self.transcripts.hold(rounds.into_iter().map(|round| (number, round)).collect());
    }

    /// The same; gives what it says.
    fn let_go_of_transcript(&mut self, number: u32) -> Vec<Round> {
        let since = self.transcripts_since();
        let transcripts = &mut self.transcripts;
        let file = transcripts.files.get_mut(&number);
        let Some(mut reading) = file.and_then(|file| file.reading.take()) else {
            return Vec::new();
        };
        let mut rounds = Vec::new();
        // What can't be read was told when it could not be.
        reading.finish(since, &mut rounds).ok();
        transcripts.by_path.retain(|_, known| *known != number);
        transcripts.writers.retain(|_, known| *known != number);
        let Reading { followed, path, damaged, has_more, .. } = reading;
        let path = path.display();
        for (count, what) in [(damaged, "no JSON"), (followed.too_long, "longer than 16 MiB")] {
            if count > 0 {
                let reason = format!("lines of the transcript {path} are {what}");
                self.lost("transcript", reason, Some(count));
            }
        }
        for (is_so, what) in [
            (followed.was_cut, "was cut while it was read"),
            (has_more, "grew faster than it was read"),
        ] {
            if is_so {
                self.lost("transcript", format!("the transcript {path} {what}"), None);
            }
        }
        rounds
    }
}
