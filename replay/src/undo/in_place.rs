//! What turning directories back into what they were would do, after saving what they are.
//!
//! Only what the saved state holds is ever removed or replaced: what was excluded, unreadable, or changed since stays, and so do
//! traces, which tell of the very work that is being undone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use agentrec_store::{
    CaptureOptions, Change, ChangeKind, Entry, Home, Kind, LeftOut, Objects, Role, StatCache, Step,
    Store, TreeBudget, capture_tree, diff_trees,
};
use agentrec_trace::{ObjectId, Reader};

use super::{Plan, Unable, is_as_saved};
use crate::error::Result;
use crate::lookup::Lookup;
use crate::restore::Only;
use crate::sources::Sources;

/// A directory, and the tree that it is to be again.
#[derive(Clone, Debug)]
pub struct Target {
    /// The directory.
    pub root: PathBuf,
    /// The tree object.
    pub tree: ObjectId,
    /// How what is there now is saved; what this leaves out is not touched.
    pub options: CaptureOptions,
}

/// What turning directories back would do.
pub struct InPlace<'a> {
    /// The changes. What a snapshot left out can't be brought back.
    pub plan: Plan<'a>,
    /// The tree object of what each directory is now, in the store: with it everything can be brought back.
    pub saved: Vec<ObjectId>,
    /// Traces that stay where they are. Paths are absolute.
    pub kept: Vec<PathBuf>,
    /// Files that had to be read to save them: of the others the stat cache knew the content.
    pub files_read: u64,
}

/// Finds out what making each directory what its tree says would do, once what it is now is saved in `store`. Nothing else is changed.
///
/// Of what did not change since a recorder read it the content is taken from the stat caches in `home`; what would be replaced or
/// removed is read all the same.
pub fn plan_in_place<'a>(
    store: &'a Store,
    home: &Home,
    sources: &Sources<'_>,
    targets: &[Target],
    only: Option<&Only>,
) -> Result<InPlace<'a>> {
    let mut plan = Plan::new(store);
    plan.trusted = true;
    let (mut saved, mut kept, mut files_read) = (Vec::new(), Vec::new(), 0);
    let _hold = store.hold()?;
    for target in targets {
        // Before the capture: afterwards the store has every tree that equals the present state.
        plan.trusted &= sources.is_own(&target.tree)?;
        // It is not saved: its directories are noted under a recorder's options, and the next recording is to find them.
        let mut cache = StatCache::load(home, &target.root);
        let mut found = Difference::find(store, sources, target, only, &mut cache)?;
        if !is_as_saved(store, &target.root, found.replaced())? {
            let read = found.files_read;
            found = Difference::find(store, sources, target, only, &mut StatCache::in_memory())?;
            found.files_read += read;
        }
        store.pin(&found.now)?;
        plan.steps.extend(found.steps.into_values());
        plan.unable.extend(found.unable);
        saved.push(found.now);
        kept.extend(found.kept);
        files_read += found.files_read;
    }
    Ok(InPlace { plan, saved, kept, files_read })
}

/// What one directory is now, and what makes it what it is to be.
struct Difference {
    now: ObjectId,
    files_read: u64,
    steps: BTreeMap<PathBuf, Step>,
    unable: Vec<(PathBuf, Unable)>,
    kept: Vec<PathBuf>,
}

impl Difference {
    fn find(
        store: &Store,
        sources: &Sources<'_>,
        target: &Target,
        only: Option<&Only>,
        cache: &mut StatCache,
    ) -> Result<Self> {
        let root = target.root.as_path();
        let capture = capture_tree(store, root, &target.options, cache)?;
        let now = capture.tree;
        let meant = |path: &Path| only.is_none_or(|only| only.matches(path));
        let mut changes = diff_trees(sources, now, target.tree)?;
        changes.retain(|change| meant(&change.path));
        let kept = keep_traces(&mut changes, root);
        let mut unable = Vec::new();
        changes.retain(|change| {
            let known = change.kind != ChangeKind::Unknown;
            // The trace and the data directory were never the agent's: nobody misses them.
            let after = change.after.as_ref().and_then(|entry| entry.left_out);
            if let Some(reason) = after.filter(|reason| !known && *reason != LeftOut::Recorder) {
                unable.push((root.join(&change.path), Unable::LeftOut(reason)));
            }
            known
        });
        let mut before = Listing::of(sources, now)?;
        let mut after = Listing::of(sources, target.tree)?;
        before.look_up(sources, now, &after)?;
        after.look_up(sources, target.tree, &before)?;
        let mut steps = steps_of(root, changes);
        links(&before, &after, &meant, root, &mut steps);
        times(&before, &after, &meant, root, &mut steps);
        Ok(Self { now, files_read: capture.files_read, steps, unable, kept })
    }

    /// What goes or is written over.
    fn replaced(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        let changed = self.steps.values().filter(|step| step.role == Role::Changed);
        changed.filter_map(|step| Some((step.path.as_path(), step.before.as_ref()?)))
    }
}

/// A plan that makes `changes` below `root`, whose present state is the tree `now` of this machine's own store.
pub(crate) fn plan_of_changes<'a>(
    store: &'a Store,
    roots: Vec<(&Path, ObjectId, Vec<Change>)>,
) -> Result<Plan<'a>> {
    let mut plan = Plan::new(store);
    plan.trusted = true;
    for (root, now, changes) in roots {
        let listing = Listing::of(store, now)?;
        let mut steps = steps_of(root, changes);
        times(&listing, &listing, &|_| false, root, &mut steps);
        plan.steps.extend(steps.into_values());
    }
    Ok(plan)
}

/// The steps that make `changes`, by path.
fn steps_of(root: &Path, changes: Vec<Change>) -> BTreeMap<PathBuf, Step> {
    let step = |change: Change| {
        let Change { path, before, after, .. } = change;
        (path.clone(), Step { root: root.to_owned(), path, role: Role::Changed, before, after })
    };
    changes.into_iter().map(step).collect()
}

/// Takes the removal of traces, and of directories that hold some, out of `changes`; returns the traces.
fn keep_traces(changes: &mut Vec<Change>, root: &Path) -> Vec<PathBuf> {
    let is_trace = |change: &&Change| {
        change.kind == ChangeKind::Deleted
            && change.before.as_ref().is_some_and(|entry| entry.kind == Kind::File)
            // An empty file can be opened as one that was cut at once.
            && Reader::open(root.join(&change.path)).is_ok_and(|reader| !reader.is_empty())
    };
    let kept: Vec<PathBuf> =
        changes.iter().filter(is_trace).map(|change| change.path.clone()).collect();
    changes.retain(|change| {
        change.kind != ChangeKind::Deleted
            || !kept.iter().any(|path| path.starts_with(&change.path))
    });
    kept.into_iter().map(|path| root.join(path)).collect()
}

/// What of a tree a comparison by content does not see: which names are one file, and the times of directories.
#[derive(Default)]
struct Listing {
    /// Names of files that have several.
    linked: BTreeMap<PathBuf, Entry>,
    /// The names of each of them.
    groups: HashMap<u64, BTreeSet<PathBuf>>,
    /// Names of files that have several in the other tree alone.
    alone: BTreeMap<PathBuf, Entry>,
    /// Directories with their own attributes.
    directories: BTreeMap<PathBuf, Entry>,
}

impl Listing {
    fn of(objects: &dyn Objects, tree: ObjectId) -> Result<Self> {
        let mut listing = Self::default();
        listing.directory(objects, &mut TreeBudget::default(), tree, Path::new(""), 0)?;
        Ok(listing)
    }

    fn directory(
        &mut self,
        objects: &dyn Objects,
        budget: &mut TreeBudget,
        id: ObjectId,
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        let Ok(tree) = budget.load(objects, id, depth) else { return Ok(()) };
        for entry in tree.entries {
            let path = path.join(entry.os_name());
            match (entry.kind, entry.id, entry.link) {
                (Kind::Dir, Some(id), _) => {
                    self.directory(objects, budget, id, &path, depth + 1)?;
                }
                (Kind::Dir, None, _) => {}
                (_, _, Some(number)) => {
                    self.groups.entry(number).or_default().insert(path.clone());
                    self.linked.insert(path, entry);
                }
                (_, _, None) => {}
            }
        }
        let own = Entry { kind: Kind::Dir, meta: tree.meta, ..Entry::default() };
        self.directories.insert(path.to_owned(), own);
        Ok(())
    }

    /// Finds the names that have company in `other` and none in `tree`, which this is of.
    fn look_up(&mut self, objects: &dyn Objects, tree: ObjectId, other: &Self) -> Result<()> {
        let mut lookup = Lookup::new(objects);
        for path in other.linked.keys().filter(|path| !self.linked.contains_key(*path)) {
            if let Some(entry) = lookup.entry(tree, path)?.filter(|entry| entry.kind != Kind::Dir) {
                self.alone.insert(path.clone(), entry);
            }
        }
        Ok(())
    }

    fn file(&self, path: &Path) -> Option<&Entry> {
        self.linked.get(path).or_else(|| self.alone.get(path))
    }

    fn group(&self, path: &Path) -> Option<&BTreeSet<PathBuf>> {
        self.groups.get(&self.linked.get(path)?.link?)
    }
}

/// Adds what makes the same names one file as in `after`.
fn links(
    before: &Listing,
    after: &Listing,
    meant: &dyn Fn(&Path) -> bool,
    root: &Path,
    steps: &mut BTreeMap<PathBuf, Step>,
) {
    let step = |path: &Path, role| Step {
        root: root.to_owned(),
        path: path.to_owned(),
        role,
        before: before.file(path).cloned(),
        after: after.file(path).cloned(),
    };
    for names in after.groups.values() {
        let stays: Vec<_> = names
            .iter()
            .filter(|path| !steps.contains_key(*path) && before.file(path).is_some())
            .collect();
        let Some((anchor, others)) = stays.split_first() else { continue };
        let together = before.group(anchor);
        if together == Some(names) {
            continue;
        }
        for path in others.iter().filter(|path| meant(path)) {
            if !together.is_some_and(|together| together.contains(*path)) {
                steps.insert(path.to_path_buf(), step(path, Role::Changed));
            }
        }
        steps.insert(anchor.to_path_buf(), step(anchor, Role::Anchor));
    }
    for names in before.groups.values() {
        let single = |path: &&PathBuf| meant(path) && after.alone.contains_key(*path);
        let apart: Vec<_> = names.iter().filter(single).collect();
        // One of them may keep the file.
        let skipped = usize::from(apart.len() == names.len());
        for path in apart.into_iter().skip(skipped) {
            steps.entry(path.clone()).or_insert_with(|| step(path, Role::Changed));
        }
        // Names that are to come back to this file when the operation is taken back.
        let left = names.iter().find(|path| !steps.contains_key(*path));
        if let Some(left) = left.filter(|_| names.iter().any(|path| steps.contains_key(path))) {
            steps.insert(left.clone(), step(left, Role::Anchor));
        }
    }
}

/// Adds the times of directories: those that are meant become what they were, of others it is noted what they are.
fn times(
    before: &Listing,
    after: &Listing,
    meant: &dyn Fn(&Path) -> bool,
    root: &Path,
    steps: &mut BTreeMap<PathBuf, Step>,
) {
    let changed: HashSet<PathBuf> = steps
        .values()
        .filter(|step| step.role == Role::Changed)
        .filter_map(|step| step.path.parent().map(Path::to_owned))
        .collect();
    for (path, now) in &before.directories {
        let Some(then) = after.directories.get(path).filter(|_| !steps.contains_key(path)) else {
            continue;
        };
        let holds_changes = changed.contains(path);
        let (role, then) = match meant(path) {
            true if holds_changes || now.meta.mtime != then.meta.mtime => (Role::Changed, then),
            false if holds_changes => (Role::Parent, now),
            _ => continue,
        };
        let (before, after) = (Some(now.clone()), Some(then.clone()));
        let (root, path) = (root.to_owned(), path.clone());
        steps.insert(path.clone(), Step { root, path, role, before, after });
    }
}
