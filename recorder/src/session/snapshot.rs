//! Snapshots: the trees by content, and the state that the agent told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentrec_launch::PathMap;
use agentrec_store::{
    Capture, CaptureOptions, Dirty, FileId, Later, NewObject, ObjectRole, Objects, ProgressFn,
    Store, new_objects,
};
use agentrec_trace::event::{Payload, RootTree, SnapshotCreated};
use agentrec_trace::limits::MAX_OBJECT;
use agentrec_trace::{Bytes, Event, ObjectHint, ObjectId, ProcId, SnapshotIndex, Source, Value};
use serde_json::json;

use super::changes::{Changes, Held as HeldFile};
use super::doubts::{Doubts, Place};
use super::processes::Processes;
use super::roots::{Root, Roots};
use super::{Input, Reply, Session, boottime, descriptors};
use crate::error::chain;
use crate::mailbox::Inbox;
use crate::options::OnError;
use crate::setup::Setup;
use crate::socket::State;

/// Parts of the agent's state are objects where they are longer, in bytes: most snapshots have those of the one before.
const INLINE_STATE: usize = 256;

/// While a snapshot is read nothing is written. Events before one at a request may wait so long, as they may in their frame.
const QUICK: Duration = Duration::from_millis(100);

/// A snapshot that somebody asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) description: String,
    /// `start`, `end`, `sdk`, `command`, `request` or `agent`.
    pub(super) trigger: &'static str,
    pub(super) state: State,
    pub(super) proc: Option<ProcId>,
    /// The `model.request` at which it is taken.
    pub(super) cause: Option<agentrec_trace::Seq>,
    pub(super) reply: Option<Reply>,
    /// When, CLOCK_BOOTTIME in nanoseconds.
    pub(super) asked: u64,
}

/// The roots, and which of their files may change under our hands.
pub(super) struct Snapshots {
    pub(super) roots: Roots,
    paths: PathMap,
    excludes: Vec<String>,
    max_file: u64,
    max_tree: u64,
    own: PathBuf,
    progress: Option<ProgressFn>,
    wanted: VecDeque<Wanted>,
    count: u32,
    pub(super) changes: Changes,
    /// Every snapshot looks at the whole tree.
    rescan: bool,
    /// Objects of the last messages and of what goes with them: the next ones resemble them.
    series: HashMap<&'static str, ObjectId>,
    took: std::time::Duration,
}

/// Seconds and nanoseconds since 1970, by the clock that the kernel stamps files with.
type ChangeTime = (i64, i64);

/// A root that was read, or why not.
pub(super) type Captured = agentrec_store::Result<Capture>;

impl Snapshots {
    pub(super) fn new(setup: &Setup, trace: &Path, progress: Option<ProgressFn>) -> Self {
        let options = &setup.options;
        let paths = options.plan.path_map();
        Self {
            roots: Roots::new(setup),
            excludes: options.excludes.clone(),
            max_file: options.max_file,
            max_tree: options.max_tree,
            own: trace.to_owned(),
            progress,
            wanted: VecDeque::new(),
            count: 0,
            changes: Changes::new(paths.clone()),
            rescan: options.rescan,
            series: HashMap::new(),
            took: std::time::Duration::ZERO,
            paths,
        }
    }

    /// The first and the last tree of every root that the user named, where it has both, and what in them tools make again.
    pub(super) fn start_and_end(
        &self,
    ) -> impl Iterator<Item = (ObjectId, ObjectId, &HashSet<PathBuf>)> {
        let given = self.roots.list.iter().filter(|root| root.agent.is_none());
        given.filter_map(|root| Some((root.start?, root.last?, &root.ignored)))
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How long the last one took.
    pub(super) fn last_took(&self) -> std::time::Duration {
        self.took
    }

    pub(super) fn want(&mut self, wanted: Wanted) {
        self.wanted.push_back(wanted);
    }

    pub(super) fn next(&mut self) -> Option<Wanted> {
        self.wanted.pop_front()
    }

    /// Asks the kernel for what is open and mapped.
    fn ask_for_open(&mut self, processes: &Processes) {
        let wanted = |path: &Path| {
            self.roots.list.iter().any(|root| {
                path.starts_with(root.tracked.root()) || path.starts_with(&root.visible)
            })
        };
        let open = descriptors::open_for_writing(processes.pids(), wanted);
        let is_gone =
            |held: &HeldFile| held.paths.iter().all(|path| self.change_time(path).is_none());
        if self.changes.mapped().any(is_gone) {
            match descriptors::mapped(processes.pids(), wanted) {
                Some(mapped) => self.changes.mapped_now(mapped),
                None => self.changes.since.break_with("a mapped file can't be found"),
            }
        }
        self.changes.open_now(open.paths, open.renamed);
    }

    /// What every root has to look at; none where that is all.
    fn doubts(&mut self, later: &Later, processes: &Processes) -> Option<Vec<Dirty>> {
        self.ask_for_open(processes);
        let since = std::mem::take(&mut self.changes.since);
        let why = self.changes.always.map(Into::into).or_else(|| since.broken.clone());
        if let Some(why) = why.or_else(|| self.rescan.then(|| "it was asked for".into())) {
            tracing::debug!(%why, "the snapshot looks at the whole tree");
            return None;
        }
        let places = self.roots.list.iter_mut().map(|root| {
            let real = root.tracked.root().to_owned();
            (real, root)
        });
        let places: Vec<_> = places.collect();
        let places = places.into_iter().map(|(real, root)| Place {
            visible: &root.visible,
            real,
            tracked: &mut root.tracked,
        });
        let doubts = Doubts::new(&self.paths, later, places.collect());
        match doubts.resolve(since, &mut self.changes) {
            Ok(dirty) => Some(dirty),
            Err(why) => {
                tracing::debug!(%why, "the snapshot looks at the whole tree");
                None
            }
        }
    }

    /// Change times of the files that can be written to without an event.
    fn change_times(&self) -> HashMap<PathBuf, ChangeTime> {
        self.held().filter_map(|path| Some((path.clone(), self.change_time(path)?))).collect()
    }

    fn held(&self) -> impl Iterator<Item = &PathBuf> {
        self.changes.held().flat_map(|held| &held.paths)
    }

    fn change_time(&self, path: &Path) -> Option<ChangeTime> {
        let metadata = self.paths.real(path).symlink_metadata().ok()?;
        Some((metadata.ctime(), metadata.ctime_nsec()))
    }

    fn file_ids<'h>(&self, files: impl Iterator<Item = &'h HeldFile>) -> HashSet<FileId> {
        files
            .flat_map(|held| &held.paths)
            .filter_map(|path| file_id(&self.paths.real(path)))
            .collect()
    }

    /// Paths below the roots that were changed while the roots were read; `before` is from before that.
    fn late(&mut self, before: &HashMap<PathBuf, ChangeTime>) -> Vec<Bytes<'static>> {
        let mut late = self.changes.end_late();
        // Single writes are no events: the change time tells for what is open or mapped. Which time it is says nothing,
        // since the clock may have been set meanwhile. Who reads a file waits until its next change has another time.
        let written = self.held().filter(|path| {
            self.change_time(path).is_some_and(|time| before.get(*path) != Some(&time))
        });
        late.extend(written.map(|path| bytes(path)));
        late.retain(|path| {
            self.roots.list.iter().any(|root| path.as_path().starts_with(&root.visible))
        });
        let mut late: Vec<_> = late.into_iter().collect();
        late.sort();
        self.changes.again(&late);
        late
    }
}

impl Snapshots {
    /// Reads the roots, or what is in doubt in each.
    fn capture(
        &mut self,
        store: &Store,
        later: &Arc<Later>,
        dirty: Option<Vec<Dirty>>,
    ) -> Vec<Captured> {
        let own: HashSet<_> = file_id(&self.own).into_iter().collect();
        let options = CaptureOptions {
            secrets: self.roots.secrets.clone(),
            own,
            distrust: self.file_ids(self.changes.mapped()),
            busy: self.file_ids(self.changes.held()),
            progress: self.progress.clone(),
            max_file: Some(self.max_file),
            max_tree: Some(self.max_tree),
            later: Some(Arc::clone(later)),
            ..CaptureOptions::default()
        };
        let mut captured = Vec::new();
        for (index, root) in self.roots.list.iter_mut().enumerate() {
            let excludes = root.excludes.iter().chain(&self.excludes).cloned().collect();
            let seen_as = root.visible.clone();
            let options = CaptureOptions { seen_as, excludes, ..options.clone() };
            let Root { tracked, cache, .. } = root;
            let found = match dirty.as_ref().map(|dirty| &dirty[index]) {
                Some(dirty) => tracked.capture_changes(store, dirty, &options, cache),
                None => tracked.capture(store, &options, cache),
            };
            let walked = found.as_ref().is_ok_and(|capture| capture.walked);
            captured.push(found);
            if !walked {
                continue;
            }
            if let Err(error) = cache.save() {
                // The next session reads the files again.
                tracing::warn!(%error, "the stat cache is not saved");
            }
        }
        captured
    }
}

impl Session {
    /// Takes the snapshots that were asked for.
    pub(super) fn take_wanted(&mut self, inputs: &Inbox<Input>) {
        while let Some(wanted) = self.snapshots.next() {
            self.take_snapshot(wanted, inputs);
        }
    }

    /// Reads the roots between two fences of the source, and writes the snapshot.
    pub(super) fn take_snapshot(&mut self, mut wanted: Wanted, inputs: &Inbox<Input>) {
        // One with a request begins with that.
        if wanted.cause.is_none() {
            self.kepts.begin_epoch();
        }
        let reply = wanted.reply.take();
        let began = std::time::Instant::now();
        self.fence(inputs);
        self.snapshots.roots.take_state();
        // Reading may take its time, and find no room: what is there already is safe before. One that comes with every request, and is
        // quick, may go into one frame with it.
        if wanted.cause.is_none() || self.snapshots.took > QUICK {
            let flushed = self.output.writer().map_or(Ok(()), agentrec_trace::Writer::flush);
            self.check(flushed);
        }
        self.snapshots.changes.begin_late();
        // At start and end what others did is found as well.
        let whole = matches!(wanted.trigger, "start" | "end");
        let dirty = self.snapshots.doubts(&self.later, &self.processes).filter(|_| !whole);
        let before = self.snapshots.change_times();
        let captured = self.capture_changes(dirty);
        self.fence(inputs);
        let late = self.snapshots.late(&before);
        let taken = self.write_snapshot(wanted, captured, late);
        self.snapshots.took = began.elapsed();
        if self.output.failure.is_some() && self.setup.options.on_error == OnError::Stop {
            // Who gets the answer goes on, and is not to.
            self.kill(inputs);
        }
        match (reply, taken) {
            (Some(reply), Ok(taken)) => reply.ok(taken),
            (Some(reply), Err(error)) => reply.error(error),
            (None, _) => {}
        }
    }

    /// Reads all roots into the store.
    pub(super) fn capture_roots(&mut self) -> Vec<Captured> {
        self.held.begin(&self.store);
        self.snapshots.changes.since = super::changes::Since::default();
        self.snapshots.capture(&self.store, &self.later, None)
    }

    /// Reads what is in doubt in them; all, where that is not known.
    fn capture_changes(&mut self, dirty: Option<Vec<Dirty>>) -> Vec<Captured> {
        self.held.begin(&self.store);
        if let Err(error) = self.later.check() {
            let reason = format!("an object of an earlier snapshot: {}", chain(&error));
            self.lost("snapshot", reason, None);
            return self.snapshots.capture(&self.store, &self.later, None);
        }
        self.snapshots.capture(&self.store, &self.later, dirty)
    }

    /// Puts what was read into the trace, and writes `snapshot.created`. Gives the answer to who asked for it.
    pub(super) fn write_snapshot(
        &mut self,
        wanted: Wanted,
        captured: Vec<Captured>,
        late: Vec<Bytes<'static>>,
    ) -> Result<serde_json::Value, String> {
        let Wanted { description, trigger, state, proc, cause, asked, .. } = wanted;
        let (mut roots, mut torn, mut missing) = (Vec::new(), Vec::new(), None);
        let partial = captured.iter().flatten().any(|capture| !capture.walked);
        for (index, captured) in captured.into_iter().enumerate() {
            let visible = self.snapshots.roots.list[index].visible.clone();
            let stored = captured.and_then(|capture| {
                let self_contained = self.put_tree(index, &capture)?;
                torn.extend(capture.torn.iter().map(|path| bytes(&visible.join(path))));
                Ok(RootTree {
                    path: bytes(&visible),
                    tree: capture.tree,
                    files: capture.files,
                    bytes: capture.bytes,
                    left_out: capture.left_out.len() as u64,
                    self_contained,
                    agent: self.snapshots.roots.list[index].agent.clone().map(Into::into),
                })
            });
            match stored {
                Ok(root) => roots.push(root),
                Err(error) => {
                    let reason =
                        format!("{} is not in the snapshot: {}", visible.display(), chain(&error));
                    self.lost("snapshot", reason.clone(), None);
                    missing.get_or_insert(reason);
                }
            }
        }
        let index = SnapshotIndex(self.snapshots.count + 1);
        let State { messages, system_prompt, tools, model, last_query, last_result, stored } =
            state;
        let messages = match stored {
            Some(stored) => stored,
            None => self.state_payload("messages", messages),
        };
        let event = SnapshotCreated {
            index,
            description: self.redactor.str(&description).into_owned().into(),
            trigger: trigger.into(),
            roots,
            messages,
            system_prompt: self.state_payload("system_prompt", system_prompt),
            tools: self.state_payload("tools", tools),
            model: model.map(Into::into),
            last_query: self.state_payload("last_query", last_query),
            last_result: self.state_payload("last_result", last_result),
            late,
            torn,
            partial,
            duration: boottime() - asked,
        };
        let duration = event.duration;
        let event = Event::new(boottime(), Source::Recorder, event);
        let written = self.write(Event { proc, cause, ..event });
        if written.is_some() {
            self.snapshots.count = index.0;
        }
        self.held.is_named();
        // Who asked for it and goes on after the answer relies on it.
        if cause.is_none() {
            if let Err(error) = self.later.flush() {
                let reason = format!("an object of a snapshot: {}", chain(&error));
                self.lost("snapshot", reason.clone(), None);
                missing.get_or_insert(reason);
            }
            let flushed = self.output.writer().map_or(Ok(()), agentrec_trace::Writer::flush);
            self.check(flushed);
        }
        match self.output.failure.clone().or(missing) {
            None => Ok(json!({"snapshot": index.0, "duration": duration})),
            Some(error) => Err(error),
        }
    }

    /// A part of the agent's state, redacted; in an object where it is long.
    fn state_payload(&mut self, name: &'static str, mut value: Value) -> Payload {
        self.redactor.value(&mut value);
        let after = self.snapshots.series.get(name).copied();
        let Some(writer) = self.output.writer() else { return Payload::default() };
        match writer.payload_beyond(INLINE_STATE, value, ObjectHint::Series { after }) {
            Ok(payload) => {
                if let Payload::Object { id, .. } = payload {
                    self.snapshots.series.insert(name, id);
                }
                payload
            }
            Err(error) => {
                self.lost("snapshot", format!("{name}: {}", chain(&error)), Some(1));
                Payload::default()
            }
        }
    }

    /// Puts a tree's objects into the trace: all trees, what changed since the start (as it was and as it is), and
    /// where the first tree is small, all of it. Returns whether nothing but secrets is missing.
    fn put_tree(&mut self, index: usize, capture: &Capture) -> agentrec_store::Result<bool> {
        let root = &self.snapshots.roots.list[index];
        let (start, last) = (root.start, root.last);
        let tracked = &mut self.snapshots.roots.list[index].tracked;
        let (mut list, gone) = match last {
            None => (new_objects(&*self.later, None, capture.tree)?, Vec::new()),
            Some(last) => tracked.changed_objects(&*self.later, last, capture.tree)?,
        };
        let mut self_contained = self.snapshots.roots.list[index].self_contained;
        if start.is_none() {
            let wanted = |object: &&NewObject| !object.secret && !object.ignored;
            let bytes: u64 = list.iter().filter(wanted).map(|object| object.size).sum();
            let inline_max = self.snapshots.roots.list[index].inline_max;
            self_contained = bytes <= inline_max && capture.ignored.is_empty();
            if bytes > inline_max {
                // An agent's state may be looked at first when it has run for a moment.
                let visible = &self.snapshots.roots.list[index].visible;
                let changed = |path: &Path| self.outside.changed_at(&visible.join(path));
                list.retain(|object| object.role == ObjectRole::Tree || changed(&object.path));
            }
        }
        for object in &list {
            self_contained &= self.put_object(object)?;
        }
        if !self_contained {
            // As it was before: from the start on, one snapshot after the other.
            for object in gone {
                self.put_object(&object)?;
            }
        }
        let root = &mut self.snapshots.roots.list[index];
        root.ignored.extend(capture.ignored.iter().cloned());
        root.start.get_or_insert(capture.tree);
        root.last = Some(capture.tree);
        root.self_contained = self_contained;
        Ok(self_contained)
    }

    /// Puts one object into the trace where it may be there; returns whether it is, or must not be.
    fn put_object(&mut self, object: &NewObject) -> agentrec_store::Result<bool> {
        if object.secret {
            return Ok(true);
        }
        if object.ignored || object.size > MAX_OBJECT {
            return Ok(false);
        }
        let Some(writer) = self.output.writer() else { return Ok(false) };
        if writer.has_object(&object.id) {
            return Ok(true);
        }
        let Some(content) = self.later.get(&object.id)? else { return Ok(false) };
        let after = object.previous.filter(|previous| writer.has_object(previous));
        let hint = after.map_or(ObjectHint::Single, |id| ObjectHint::Series { after: Some(id) });
        let put = writer.put_object(&content, hint).map(drop);
        let done = put.is_ok();
        self.check(put);
        Ok(done)
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    let metadata = path.symlink_metadata().ok()?;
    Some(FileId { dev: metadata.dev(), ino: metadata.ino() })
}

fn bytes(path: &Path) -> Bytes<'static> {
    Bytes::from(path.as_os_str().as_bytes().to_vec())
}
