//! Brings the changes of a resumed session's copy home: what only the copy changed is applied, what both changed is a conflict.

use std::path::{Path, PathBuf};

use agentrec_store::{
    CaptureOptions, Change, ChangeKind, Entry, Home, Kind, Objects, StatCache, Store, capture_tree,
    diff_trees,
};
use agentrec_trace::{ObjectId, Reader};

use crate::error::{Error, Result};
use crate::lookup::{Lookup, same};
use crate::origin::{Origin, OriginRoot};
use crate::sources::Sources;
use crate::undo;

/// What bringing a session's changes home would do, root by root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyPlan {
    /// The session whose copies these are.
    pub session: String,
    /// Its roots.
    pub roots: Vec<ApplyRoot>,
}

/// What would be done in one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyRoot {
    /// The directory that would be changed.
    pub home: PathBuf,
    /// The copy that the changes are from.
    pub copy: PathBuf,
    /// The tree object of the present state of `home`, in the store: with it everything can be brought back.
    pub saved: ObjectId,
    /// Changes that only the copy has, from the present state to that of the copy, in path order.
    pub changes: Vec<Change>,
    /// Changes that meet others made at home in the meantime.
    pub conflicts: Vec<Change>,
    /// Paths whose content was left out on one side or never got into the copy, so that nobody can tell.
    pub unknown: Vec<PathBuf>,
}

impl ApplyPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.roots.iter().all(|root| root.changes.is_empty() && root.conflicts.is_empty())
    }

    /// The changes as an operation carries them out; with `overwrite`, conflicts too are settled for the copy.
    pub fn changes<'a>(&self, store: &'a Store, overwrite: bool) -> Result<undo::Plan<'a>> {
        let of = |root: &ApplyRoot| {
            let conflicts = root.conflicts.iter().filter(|_| overwrite);
            root.changes.iter().chain(conflicts).cloned().collect()
        };
        let roots = self.roots.iter().map(|root| (root.home.as_path(), root.saved, of(root)));
        undo::plan_of_changes(store, roots.collect())
    }
}

/// Compares the copies of `session` with the directories that they stand for. The present state of both is saved in the
/// store; nothing else is changed. `excludes` are those of the session.
pub fn plan_apply(
    store: &Store,
    home: &Home,
    session: &str,
    excludes: &[String],
) -> Result<ApplyPlan> {
    let no_copy = || Error::NoCopy { session: session.to_owned() };
    let origin = Origin::load(home, session)?.ok_or_else(no_copy)?;
    let mut roots = Vec::new();
    for root in &origin.roots {
        if !root.copy.is_dir() {
            return Err(no_copy());
        }
        roots.push(plan_root(store, home, root, excludes)?);
    }
    Ok(ApplyPlan { session: origin.session, roots })
}

fn plan_root(
    store: &Store,
    home: &Home,
    root: &OriginRoot,
    excludes: &[String],
) -> Result<ApplyRoot> {
    // The trees that both sides started from may be in the parent's trace only.
    let reader = Reader::open(&root.base_trace).ok();
    let sources = match &reader {
        Some(reader) => Sources::new(reader, Some(store)),
        None => Sources::store(store),
    };
    let base: ObjectId = root.base.parse().map_err(|_| Error::Origin {
        path: root.copy.clone(),
        reason: format!("`{}` is no tree", root.base),
    })?;
    if !sources.contains(&base)? {
        return Err(Error::NoTree { path: root.home.clone() });
    }
    let capture = |dir: &Path, cache: &mut StatCache| {
        let options = CaptureOptions {
            seen_as: root.home.clone(),
            excludes: excludes.to_vec(),
            ..CaptureOptions::default()
        };
        capture_tree(store, dir, &options, cache).map(|capture| capture.tree)
    };
    // Nothing else tells what is to be brought home.
    let copy = capture(&root.copy, &mut StatCache::in_memory())?;
    // It is not saved: its directories are noted under a recorder's options, and the next recording is to find them.
    let saved = capture(&root.home, &mut StatCache::load(home, &root.home))?;
    let plan = compare(&sources, root, base, copy, saved)?;
    let replaced = plan.changes.iter().chain(&plan.conflicts);
    let replaced =
        replaced.filter_map(|change| Some((change.path.as_path(), change.before.as_ref()?)));
    if undo::is_as_saved(store, &root.home, replaced)? {
        return Ok(plan);
    }
    let saved = capture(&root.home, &mut StatCache::in_memory())?;
    compare(&sources, root, base, copy, saved)
}

/// Compares the trees: what both sides started from, the copy, and what home is now.
fn compare(
    sources: &Sources<'_>,
    root: &OriginRoot,
    base: ObjectId,
    copy: ObjectId,
    saved: ObjectId,
) -> Result<ApplyRoot> {
    let mut plan = ApplyRoot {
        home: root.home.clone(),
        copy: root.copy.clone(),
        saved,
        changes: Vec::new(),
        conflicts: Vec::new(),
        unknown: Vec::new(),
    };
    let mut lookup = Lookup::new(sources);
    let never_there = |change: &Change| {
        change.kind == ChangeKind::Deleted
            && root.missing.iter().any(|missing| change.path.starts_with(&missing.0))
    };
    for change in diff_trees(sources, base, copy)? {
        if never_there(&change) {
            plan.unknown.push(change.path);
            continue;
        }
        let now = lookup.entry(saved, &change.path)?;
        match judge(&change, now.as_ref()) {
            Verdict::AlreadyThere => {}
            Verdict::Unknown => plan.unknown.push(change.path),
            Verdict::Apply => {
                plan.changes.extend(from_now(change, now));
            }
            Verdict::Conflict => plan.conflicts.extend(from_now(change, now)),
        }
    }
    Ok(plan)
}

enum Verdict {
    Apply,
    AlreadyThere,
    Conflict,
    Unknown,
}

/// What becomes of a change of the copy, given what home has now.
fn judge(change: &Change, now: Option<&Entry>) -> Verdict {
    if change.kind == ChangeKind::Unknown || now.is_some_and(|now| now.left_out.is_some()) {
        return Verdict::Unknown;
    }
    if change.kind == ChangeKind::Time || same(now, change.after.as_ref()) {
        return Verdict::AlreadyThere;
    }
    if same(now, change.before.as_ref()) { Verdict::Apply } else { Verdict::Conflict }
}

/// The change from what home has now to what the copy has.
fn from_now(change: Change, now: Option<Entry>) -> Option<Change> {
    let kind = match (&now, &change.after) {
        (None, None) => return None,
        (None, Some(_)) => ChangeKind::Added,
        (Some(_), None) => ChangeKind::Deleted,
        (Some(now), Some(after)) if now.kind != after.kind => ChangeKind::Type,
        (Some(now), Some(after)) if now.id == after.id && now.target == after.target => {
            ChangeKind::Attributes
        }
        _ if change.entry().kind == Kind::Dir => ChangeKind::Attributes,
        _ => ChangeKind::Content,
    };
    Some(Change { kind, before: now, ..change })
}
