//! Which acts of a session a place means, path by path, as undo wants them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use agentrec_replay::undo::Touch;
use agentrec_trace::event::FileKept;
use agentrec_trace::{Bytes, Data, Event, ProcId, Seq, open_flags};
use anyhow::{Result, bail};
use nix::time::{ClockId, clock_gettime};

use crate::address::Place;
use crate::digest::{Action, ActionKind, Digest, Turn, existed_before, is_pseudo};
use crate::session;

/// What a digest does not keep and undo needs.
#[derive(Debug, Default)]
pub struct Collected {
    /// Old contents, each with its event.
    pub kept: Vec<(Seq, FileKept<'static>)>,
    /// Opens for writing that no close has ended, or whose close tells of bytes: path, process, and the close.
    writers: BTreeMap<Seq, Writer>,
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    proc: ProcId,
    closed: Option<Seq>,
}

impl Collected {
    /// Takes the next event.
    pub fn add(&mut self, event: &Event<'_>) {
        match &event.data {
            Data::FileKept(_) => {
                if let Data::FileKept(kept) = event.data.clone().into_owned() {
                    self.kept.push((event.seq, kept));
                }
            }
            Data::FileOpen(open)
                if open.errno.is_none()
                    && open.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32
                    && open.flags & open_flags::TMPFILE != open_flags::TMPFILE
                    && !is_pseudo(&open.path) =>
            {
                let writer = Writer {
                    path: open.path.as_path().to_owned(),
                    proc: event.proc.unwrap_or_default(),
                    closed: None,
                };
                self.writers.insert(event.seq, writer);
            }
            Data::FileClose(close) => {
                let Some(open) = close.open else { return };
                if close.written == 0 {
                    self.writers.remove(&open);
                } else if let Some(writer) = self.writers.get_mut(&open) {
                    writer.closed = Some(event.seq);
                }
            }
            _ => {}
        }
    }
}

/// The acts of a place.
pub struct Acts {
    /// The paths that they changed.
    pub touches: Vec<Touch>,
    /// Events by which others changed a path.
    others: HashMap<PathBuf, Vec<Seq>>,
    /// Those of them that are renames.
    renames: HashMap<PathBuf, Vec<Seq>>,
    /// The events of the place: from the first up to the second, none where it has no end.
    pub window: (Seq, Option<Seq>),
    /// The processes, where the place is some of them.
    pub procs: Option<HashSet<ProcId>>,
}

impl Acts {
    /// Events by which recorded processes that are not meant changed `path`, or renamed a directory above it.
    pub fn others(&self, path: &Path) -> Vec<Seq> {
        let own = self.others.get(path);
        let above = path.ancestors().skip(1).filter_map(|above| self.renames.get(above));
        own.into_iter().chain(above).flatten().copied().collect()
    }
}

/// The acts that `place` means: all of a session's where it is none.
pub fn meant(digest: &Digest, collected: &Collected, place: Option<&Place>) -> Result<Acts> {
    let choice = Choice::new(digest, place)?;
    let drift = drift(digest);
    let mut slots: BTreeMap<(PathBuf, bool), Touch> = BTreeMap::new();
    let mut others: HashMap<PathBuf, Vec<Seq>> = HashMap::new();
    let mut renames: HashMap<PathBuf, Vec<Seq>> = HashMap::new();
    let mut gone: HashMap<PathBuf, Option<bool>> = HashMap::new();
    for action in digest.files.actions() {
        let path = digest.files.path(action.path);
        if is_pseudo(path) {
            continue;
        }
        let path = Bytes::from(path).as_path().to_owned();
        if !choice.takes(digest, action) {
            if is_rename(action) {
                renames.entry(path.clone()).or_default().push(action.seq);
            }
            others.entry(path).or_default().push(action.seq);
            continue;
        }
        let touch = touch(digest, action, path, choice.from, drift);
        // What was written is told at the close, when the file may long be gone.
        let written = matches!(action.kind, ActionKind::Written { .. });
        let gone = gone.entry(touch.path.clone()).or_insert(touch.gone);
        if !written {
            *gone = touch.gone;
        }
        // A file may have been made where a link leads, or in its place.
        let own = matches!(action.kind, ActionKind::Created)
            .then(|| Touch { follows: false, ..touch.clone() });
        for touch in own.into_iter().chain([touch]) {
            add(&mut slots, touch);
        }
    }
    for touch in slots.values_mut() {
        touch.gone = gone.get(&touch.path).copied().flatten();
    }
    held(digest, collected, &choice, &mut slots);
    let window = (choice.from, choice.to);
    let procs = choice.procs;
    Ok(Acts { touches: slots.into_values().collect(), others, renames, window, procs })
}

/// What has to be added to wall clocks of the trace: its start tells both clocks, read one after the other, and time may have passed in
/// between. More than a second is no such gap but another boot, or a clock that was set.
fn drift(digest: &Digest) -> i64 {
    let clock = |id| {
        let time = clock_gettime(id).ok()?;
        Some(time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec()))
    };
    let pair = || {
        let before = clock(ClockId::CLOCK_BOOTTIME)?;
        let wall = clock(ClockId::CLOCK_REALTIME)?;
        Some((clock(ClockId::CLOCK_BOOTTIME)? - before, before, wall))
    };
    // The pair that was read the fastest.
    let Some((_, boot, wall)) = (0..8).filter_map(|_| pair()).min() else { return 0 };
    let drift = u64::try_from(boot).map_or(0, |boot| wall.saturating_sub(digest.wall(boot)));
    if drift.abs() < 1_000_000_000 { drift } else { 0 }
}

fn touch(digest: &Digest, action: &Action, path: PathBuf, from: Seq, drift: i64) -> Touch {
    let first = match action.kind {
        ActionKind::Written { open: Some(open), .. } => open.max(from),
        _ => action.seq,
    };
    Touch {
        path,
        first,
        last: action.seq,
        until: digest.wall(action.ts).saturating_add(drift),
        existed: existed_before(action.kind),
        gone: match action.kind {
            ActionKind::Deleted | ActionKind::DirectoryDeleted | ActionKind::RenamedTo(_) => {
                Some(true)
            }
            _ => Some(false),
        },
        arrived: matches!(action.kind, ActionKind::RenamedFrom(_)),
        follows: matches!(
            action.kind,
            ActionKind::Created
                | ActionKind::Written { .. }
                | ActionKind::Truncated
                | ActionKind::Attributes
                | ActionKind::Mapped
                | ActionKind::ClonedFrom(_)
        ),
        moved: is_rename(action),
        held: false,
    }
}

fn add(slots: &mut BTreeMap<(PathBuf, bool), Touch>, touch: Touch) {
    let key = (touch.path.clone(), touch.follows);
    let Some(known) = slots.get_mut(&key) else {
        slots.insert(key, touch);
        return;
    };
    // What was written is told at the close; it may have begun before an act that was told earlier.
    if touch.first < known.first {
        (known.first, known.existed, known.arrived) = (touch.first, touch.existed, touch.arrived);
    }
    known.last = known.last.max(touch.last);
    known.until = known.until.max(touch.until);
    known.moved |= touch.moved;
}

fn is_rename(action: &Action) -> bool {
    matches!(
        action.kind,
        ActionKind::RenamedFrom(_) | ActionKind::RenamedTo(_) | ActionKind::Exchanged(_)
    )
}

/// Files that were open for writing beyond the place: what of their bytes belongs to it nobody knows.
fn held(
    digest: &Digest,
    collected: &Collected,
    choice: &Choice,
    slots: &mut BTreeMap<(PathBuf, bool), Touch>,
) {
    let Some(to) = choice.to else { return };
    for (open, writer) in &collected.writers {
        let beyond = *open < to && writer.closed.is_none_or(|closed| closed > to);
        let within = beyond
            || (*open < choice.from && writer.closed.is_some_and(|closed| closed > choice.from));
        if !within || !choice.may_be(writer.proc) {
            continue;
        }
        let until = digest.wall(digest.last_ts);
        let touch = Touch {
            path: writer.path.clone(),
            first: (*open).max(choice.from),
            last: Seq(to.0.saturating_sub(1)).max(choice.from),
            until,
            existed: None,
            gone: None,
            arrived: false,
            follows: true,
            moved: false,
            held: true,
        };
        slots
            .entry((writer.path.clone(), true))
            .and_modify(|known| known.held = true)
            .or_insert(touch);
    }
}

/// Who and when.
struct Choice {
    from: Seq,
    to: Option<Seq>,
    window: Option<(u64, Option<u64>)>,
    procs: Option<HashSet<ProcId>>,
    calls: Option<HashSet<Seq>>,
}

impl Choice {
    fn new(digest: &Digest, place: Option<&Place>) -> Result<Self> {
        let all = Self { from: Seq(0), to: None, window: None, procs: None, calls: None };
        let place = match place {
            None => return Ok(all),
            Some(Place::Process(id)) if digest.processes.get(*id).is_some() => {
                let below = digest.processes.subtree(*id);
                let procs = below.into_iter().map(|(_, process)| process.id).collect();
                return Ok(Self { procs: Some(procs), ..all });
            }
            Some(place) => place,
        };
        let Some(turns) = session::turns(digest, place)? else {
            bail!("cannot undo {place}: it is no turn or process of this trace")
        };
        let Some((first, last)) = turns.first().zip(turns.last()) else { return Ok(all) };
        // What sub-agents do in a turn is the turn's.
        let is_meant = |turn: &Turn| {
            turns.iter().any(|meant| meant.seq == turn.seq)
                || matches!(place, Place::Turn(label) if label.other.is_none() && turn.label.main == label.main)
        };
        let calls = digest
            .turns
            .iter()
            .filter(|turn| is_meant(turn))
            .flat_map(|turn| turn.calls.iter().copied());
        let window = match place {
            Place::Turn(label) if label.other.is_none() => Some((first.ts, last.next)),
            _ => None,
        };
        Ok(Self {
            from: first.seq,
            to: last.next_seq,
            window,
            procs: None,
            calls: Some(calls.collect()),
        })
    }

    /// Whether a process can have a part in it at all.
    fn may_be(&self, proc: ProcId) -> bool {
        self.procs.as_ref().is_none_or(|procs| procs.contains(&proc))
    }

    fn takes(&self, digest: &Digest, action: &Action) -> bool {
        if let Some(procs) = &self.procs {
            return procs.contains(&action.proc);
        }
        let Some(calls) = &self.calls else { return true };
        let found = digest.attribute(action.proc, action.seq, action.ts);
        let of_calls = found.map(|found| found.calls.iter().all(|call| calls.contains(&call.seq)));
        match (self.window, of_calls) {
            (_, Some(ours)) => ours,
            // No call stands behind it: then it is the turn's in whose time it was done.
            (Some((from, to)), None) => action.ts >= from && to.is_none_or(|to| action.ts < to),
            (None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::testing::Script;

    #[test]
    fn a_file_that_was_opened_before_counts_from_its_opening() {
        let mut script = Script::new("/w");
        let open = script.open(1, "/w/a", libc::O_WRONLY, false);
        script.create(1, "/w/b").close(1, open, 0, 5).rename(1, "/w/b", "/w/c");
        let digest = script.digest();
        let acts = meant(&digest, &Collected::default(), None).unwrap();
        let of =
            |path: &str| acts.touches.iter().find(|touch| touch.path == Path::new(path)).unwrap();
        assert_eq!(of("/w/a").first, open);
        assert!(of("/w/a").last > open && of("/w/a").existed == Some(true));
        assert!(
            of("/w/b").existed == Some(false) && of("/w/b").gone == Some(true) && of("/w/b").moved
        );
        assert!(of("/w/c").arrived && of("/w/c").moved && of("/w/c").existed.is_none());
    }

    #[test]
    fn what_other_processes_did_is_known_as_theirs() {
        let mut script = Script::new("/w");
        script.fork(1, 2).create(2, "/w/a").modify(1, "/w/a").fork(2, 3).create(3, "/w/b");
        let digest = script.digest();
        let acts = meant(&digest, &Collected::default(), Some(&Place::Process(ProcId(2)))).unwrap();
        let touched: Vec<_> =
            acts.touches.iter().map(|touch| (touch.path.as_path(), touch.follows)).collect();
        // Each may have been made where a link leads, or in its place.
        let expected = [("/w/a", false), ("/w/a", true), ("/w/b", false), ("/w/b", true)];
        assert_eq!(touched, expected.map(|(path, follows)| (Path::new(path), follows)));
        assert!(!acts.others(Path::new("/w/a")).is_empty());
        assert_eq!(acts.others(Path::new("/w/b")), []);
    }
}
