//! Carries a plan out: first the present state and the plan go to the disk, then the files are changed one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use agentrec_store::{
    Change, ChangeKind, Entry, EntryReader, Kind, Logged, Objects, Operation, Operations, Outcome,
    PathBytes, ProgressFn, Role, Step, Store,
};

use super::Plan;
use super::present::Present;
use crate::error::{Error, Result};
use crate::lookup::same;
use crate::restore::{Applier, Missing, NotSet, Restored};
use crate::sources::Sources;

/// What an operation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Its number.
    pub id: u64,
    /// Files that were written.
    pub files: u64,
    /// The sum of their lengths, bytes.
    pub bytes: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// What is not as it should be. Paths are absolute.
    pub missing: Vec<Missing>,
    /// Attributes that could not be set. Paths are absolute.
    pub not_set: Vec<NotSet>,
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Carries `plan` out as `operation`, whose steps come from the plan. When it returns, or is interrupted at any moment, the log and
/// the store hold what it takes to go on and to go back.
///
/// # Errors
/// [`Error::Interrupted`] once the operation is in the log. After any other error nothing was changed.
pub fn carry_out(
    store: &Store,
    log: &Operations,
    sources: &Sources<'_>,
    mut plan: Plan<'_>,
    operation: Operation,
    progress: Option<&ProgressFn>,
) -> Result<Done> {
    let operation = Operation {
        time: now(),
        pid: std::process::id(),
        trusted: plan.trusted,
        steps: wanted(plan.steps),
        ..operation
    };
    // Until the log names them.
    let _hold = store.hold()?;
    // The operation needs nothing but the store from here on.
    for id in operation.objects() {
        if !store.contains(&id)?
            && let Some(content) = sources.get(&id)?
        {
            plan.reader.put(&content)?;
        }
    }
    plan.reader.commit()?;
    saved(store, &operation)?;
    let id = log.begin(&operation)?;
    let interrupted = |source| interrupted(id, &operation, source);
    let restored = apply(store, &operation, progress).map_err(interrupted)?;
    end(log, id, &operation, restored).map_err(interrupted)
}

fn interrupted(id: u64, operation: &Operation, source: Error) -> Error {
    Error::Interrupted { id, kind: operation.kind, source: Box::new(source) }
}

/// Fails where what would be replaced is not in the store: it was saved before the plan was shown, and may have been cleared away
/// since.
fn saved(store: &Store, operation: &Operation) -> Result<()> {
    for step in &operation.steps {
        let id = step.before.as_ref().and_then(|entry| entry.id);
        if let Some(id) = id.filter(|_| step.role == Role::Changed)
            && !store.contains(&id)?
        {
            return Err(Error::NotSaved { path: step.full_path() });
        }
    }
    Ok(())
}

/// Goes on with an operation that was interrupted.
pub fn finish(store: &Store, log: &Operations, logged: &Logged) -> Result<Done> {
    go_on(store, log, logged).map_err(|source| interrupted(logged.id, &logged.operation, source))
}

fn go_on(store: &Store, log: &Operations, logged: &Logged) -> Result<Done> {
    let mut operation = logged.operation.clone();
    clean(&operation);
    let mut reader = EntryReader::new(store);
    let mut present = Present::new(&mut reader);
    for step in &mut operation.steps {
        let now = present.entry(&step.root, &step.path)?;
        // What was interrupted in between setting attributes is neither the one nor the other.
        let halfway = |now: &Entry| {
            now.kind == Kind::File
                && step.before.as_ref().is_some_and(|entry| entry.id == now.id)
                && step.after.as_ref().is_some_and(|entry| entry.id == now.id)
        };
        let is_ours = same(now.as_ref(), step.before.as_ref())
            || same(now.as_ref(), step.after.as_ref())
            || now.as_ref().is_some_and(halfway);
        // Else what is expected there stays what it was, so that somebody's change since is left alone.
        if is_ours {
            step.before = now;
        }
    }
    let restored = apply(store, &operation, None)?;
    end(log, logged.id, &logged.operation, restored)
}

/// Takes what an interrupted operation wrote beside its place away.
pub(super) fn clean(operation: &Operation) {
    let prefix = format!(".agentrec-{}-", operation.pid);
    let places: HashSet<PathBuf> = operation
        .steps
        .iter()
        .filter_map(|step| step.full_path().parent().map(Path::to_owned))
        .collect();
    for place in places {
        let Ok(entries) = fs::read_dir(&place) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.as_bytes();
            if name.starts_with(prefix.as_bytes()) && name.ends_with(b".partial") {
                // One that can't be removed is only in the way of the eye.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The steps that are carried out: parents only of what is changed.
fn wanted(steps: Vec<Step>) -> Vec<Step> {
    let changed: HashSet<PathBuf> = steps
        .iter()
        .filter(|step| step.role == Role::Changed)
        .filter_map(|step| step.full_path().parent().map(Path::to_owned))
        .collect();
    let is_wanted = |step: &Step| step.role != Role::Parent || changed.contains(&step.full_path());
    steps.into_iter().filter(is_wanted).collect()
}

/// Makes the changes, root by root. Paths of what it tells are absolute.
fn apply(store: &Store, operation: &Operation, progress: Option<&ProgressFn>) -> Result<Restored> {
    let mut roots: BTreeMap<&Path, Vec<&Step>> = BTreeMap::new();
    for step in &operation.steps {
        roots.entry(&step.root).or_default().push(step);
    }
    let sources = Sources::store(store);
    let mut total = Restored::default();
    for (root, mut steps) in roots {
        if !root.is_dir() {
            let reason = crate::restore::MissingReason::Changed;
            total
                .missing
                .extend(steps.iter().map(|step| Missing { path: step.full_path(), reason }));
            continue;
        }
        steps.sort_by(|a, b| a.path.cmp(&b.path));
        let mut applier = Applier::new(root, &sources, operation.trusted, progress)?;
        for step in steps.iter().filter(|step| step.role == Role::Anchor) {
            if let Some(after) = &step.after {
                applier.is_first_of_group(after, &step.path);
            }
        }
        let groups = Groups::of(&steps);
        let changes: Vec<Change> = steps.iter().filter_map(|step| change(step, &groups)).collect();
        applier.apply(&changes)?;
        let restored = applier.finish();
        let full = |path: &Path| root.join(path);
        total.files += restored.files;
        total.bytes += restored.bytes;
        total.removed += restored.removed;
        total
            .missing
            .extend(restored.missing.into_iter().map(|m| Missing { path: full(&m.path), ..m }));
        total
            .not_set
            .extend(restored.not_set.into_iter().map(|n| NotSet { path: full(&n.path), ..n }));
    }
    Ok(total)
}

/// Which names were one file and which are to be, of those that steps name.
struct Groups<'s> {
    before: HashMap<u64, BTreeSet<&'s Path>>,
    after: HashMap<u64, BTreeSet<&'s Path>>,
}

impl<'s> Groups<'s> {
    fn of(steps: &[&'s Step]) -> Self {
        let mut groups = Self { before: HashMap::new(), after: HashMap::new() };
        for step in steps {
            let sides = [(&step.before, &mut groups.before), (&step.after, &mut groups.after)];
            for (entry, names) in sides {
                if let Some(number) = entry.as_ref().and_then(|entry| entry.link) {
                    names.entry(number).or_default().insert(&step.path);
                }
            }
        }
        groups
    }

    /// Whether the names of both sides' files are the same.
    fn keeps(&self, before: &Entry, after: &Entry) -> bool {
        let names = |of: &HashMap<u64, BTreeSet<&'s Path>>, entry: &Entry| {
            entry.link.and_then(|number| of.get(&number).cloned())
        };
        names(&self.before, before) == names(&self.after, after)
    }
}

/// The change that a step asks for; none where there is nothing to do.
fn change(step: &Step, groups: &Groups<'_>) -> Option<Change> {
    let (before, after) = (step.before.as_ref(), step.after.as_ref());
    let kind = match (step.role, before, after) {
        (Role::Anchor, ..) | (_, None, None) => return None,
        (Role::Parent, Some(before), Some(after)) => {
            return (before.meta.mtime != after.meta.mtime)
                .then(|| changed(step, ChangeKind::Time));
        }
        (_, None, Some(_)) => ChangeKind::Added,
        (_, Some(_), None) => ChangeKind::Deleted,
        (_, Some(before), Some(after)) if before.kind != after.kind => ChangeKind::Type,
        (_, Some(before), Some(_)) if before.kind == Kind::Dir => ChangeKind::Attributes,
        (_, Some(before), Some(after))
            if before.id == after.id
                && before.target == after.target
                && groups.keeps(before, after) =>
        {
            ChangeKind::Attributes
        }
        _ => ChangeKind::Content,
    };
    Some(changed(step, kind))
}

fn changed(step: &Step, kind: ChangeKind) -> Change {
    let (before, after) = (step.before.clone(), step.after.clone());
    Change { path: step.path.clone(), kind, before, after }
}

/// Writes down what came of it.
fn end(log: &Operations, id: u64, operation: &Operation, restored: Restored) -> Result<Done> {
    let left = restored.missing.iter().map(|missing| PathBytes(missing.path.clone())).collect();
    let parents =
        operation.steps.iter().filter(|step| step.role == Role::Parent).filter_map(|step| {
            use std::os::unix::fs::MetadataExt;
            let full = step.full_path();
            let metadata = full.symlink_metadata().ok()?;
            let mtime = metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec());
            Some((PathBytes(full), mtime))
        });
    log.end(id, &Outcome { time: now(), left, parents: parents.collect() })?;
    let Restored { files, bytes, removed, missing, not_set } = restored;
    Ok(Done { id, files, bytes, removed, missing, not_set })
}

/// The times of parents as an operation left them.
pub(super) fn parent_times(outcome: &Outcome) -> HashMap<&Path, i64> {
    outcome.parents.iter().map(|(path, mtime)| (path.0.as_path(), *mtime)).collect()
}
