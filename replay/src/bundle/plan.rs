//! Finds what the snapshots of a trace name, and decides what of it a bundle holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use agentrec_store::{Entry, Error as StoreError, Kind, Objects, TreeBudget};
use agentrec_trace::limits::MAX_OBJECT;
use agentrec_trace::{Data, ObjectId, Reader, Seq, SnapshotIndex};

use super::BundleOptions;
use crate::error::{Error, Result};
use crate::sources::Sources;

/// What goes into a bundle, and what does not.
#[derive(Default)]
pub(super) struct Plan {
    /// How many snapshots there are.
    pub(super) snapshots: u64,
    /// Objects that stand before each snapshot's event, and whose they are.
    pub(super) objects: HashMap<Seq, Vec<(ObjectId, PathBuf)>>,
    /// Whether all of a root is inside, by its snapshot's event and its position there.
    pub(super) whole: HashMap<(Seq, usize), bool>,
    /// Contents of files that are not secret.
    pub(super) contents: HashSet<ObjectId>,
    /// Contents of secret files.
    pub(super) secret_contents: HashSet<ObjectId>,
    /// Those among them that were kept outside of the roots, and go in.
    pub(super) kept_secrets: HashSet<ObjectId>,
    pub(super) secrets_inside: BTreeSet<PathBuf>,
    pub(super) secrets_left: BTreeSet<PathBuf>,
    pub(super) ignored_left: BTreeMap<PathBuf, u64>,
    pub(super) too_large: BTreeMap<PathBuf, u64>,
    /// Of the state directories of agents: contents that stay out, with their lengths.
    pub(super) state_left: BTreeMap<PathBuf, HashMap<ObjectId, u64>>,
    pub(super) missing: Vec<(SnapshotIndex, PathBuf)>,
}

impl Plan {
    /// Walks the trees of all snapshots, each tree once.
    pub(super) fn make(
        reader: &Reader,
        sources: &Sources<'_>,
        options: BundleOptions,
    ) -> Result<Self> {
        let (mut snapshots, mut kept) = (Vec::new(), Vec::new());
        reader.for_each(|event| {
            if let Data::FileKept(file) = &event.data
                && let (true, Some(id)) = (file.secret, file.object)
            {
                kept.push((id, file.path.as_path().to_owned()));
            }
            if let Data::SnapshotCreated(created) = event.data {
                let roots: Vec<_> = created
                    .roots
                    .iter()
                    .map(|root| (root.path.as_path().to_owned(), root.tree, root.agent.is_some()))
                    .collect();
                snapshots.push((event.seq, created.index, roots));
            }
        })?;
        let mut walk = Walk {
            reader,
            sources,
            options,
            plan: Self { snapshots: snapshots.len() as u64, ..Self::default() },
            budget: TreeBudget::default(),
            planned: HashSet::new(),
            trees: HashMap::new(),
            ignored: HashMap::new(),
            ignored_bytes: 0,
            snapshot: SnapshotIndex(0),
            state: None,
        };
        for (seq, index, roots) in snapshots {
            walk.snapshot = index;
            let mut found = Found::default();
            for (position, (path, tree, is_state)) in roots.into_iter().enumerate() {
                walk.state = Some(path.clone()).filter(|_| is_state && !options.with_state);
                let whole = walk.tree(tree, &path, 0, &mut found)?;
                walk.plan.whole.insert((seq, position), whole);
            }
            walk.planned.extend(found.objects.iter().map(|(id, _)| *id));
            walk.plan.objects.insert(seq, found.objects);
        }
        for (id, path) in kept {
            if walk.secret(id, &path, &mut Found::default())? {
                walk.plan.kept_secrets.insert(id);
            }
        }
        Ok(walk.plan)
    }
}

/// Objects below one place.
#[derive(Default)]
struct Found {
    objects: Vec<(ObjectId, PathBuf)>,
    bytes: u64,
}

struct Walk<'a> {
    reader: &'a Reader,
    sources: &'a Sources<'a>,
    options: BundleOptions,
    plan: Plan,
    budget: TreeBudget,
    /// Objects that an earlier place brings.
    planned: HashSet<ObjectId>,
    /// Trees that were walked, whether for their own sake or in an agent's state, and whether all below them is inside.
    trees: HashMap<(ObjectId, bool), bool>,
    /// Directories that git ignores, and whether they are inside.
    ignored: HashMap<ObjectId, bool>,
    /// Bytes of what git ignores that go in.
    ignored_bytes: u64,
    snapshot: SnapshotIndex,
    /// The root, where it holds an agent's state: only what the session changed goes in, for the rest is other sessions'.
    state: Option<PathBuf>,
}

impl Walk<'_> {
    /// Returns whether everything in the tree but secrets is going to be inside.
    fn tree(&mut self, id: ObjectId, path: &Path, depth: usize, found: &mut Found) -> Result<bool> {
        let key = (id, self.state.is_some());
        if let Some(whole) = self.trees.get(&key) {
            return Ok(*whole);
        }
        let tree = match self.budget.load(self.sources, id, depth) {
            Err(StoreError::Missing(_) | StoreError::Corrupt(_)) => {
                self.plan.missing.push((self.snapshot, path.to_owned()));
                return Ok(false);
            }
            Err(source @ StoreError::InvalidTree { .. }) => {
                let (snapshot, path) = (self.snapshot, path.to_owned());
                if !self.options.allow_missing {
                    return Err(Error::NoDirectory { snapshot, path, source: source.into() });
                }
                self.plan.missing.push((snapshot, path));
                return Ok(false);
            }
            tree => tree?,
        };
        found.objects.push((id, path.to_owned()));
        let mut whole = true;
        for entry in &tree.entries {
            let path = path.join(entry.os_name());
            whole &= if entry.ignored && !entry.secret {
                self.ignored(entry, &path, depth, found)?
            } else {
                self.entry(entry, &path, depth, found)?
            };
        }
        self.trees.insert(key, whole);
        Ok(whole)
    }

    fn entry(
        &mut self,
        entry: &Entry,
        path: &Path,
        depth: usize,
        found: &mut Found,
    ) -> Result<bool> {
        match (entry.kind, entry.id) {
            (Kind::Dir, Some(id)) => self.tree(id, path, depth + 1, found),
            (Kind::File, Some(id)) if entry.secret => {
                self.secret(id, path, found)?;
                Ok(true)
            }
            (Kind::File, Some(id)) => self.file(id, entry.size, path, found),
            // What was left out is listed in the tree.
            _ => Ok(true),
        }
    }

    fn file(&mut self, id: ObjectId, size: u64, path: &Path, found: &mut Found) -> Result<bool> {
        if let Some(root) = self.state.clone()
            && !self.planned.contains(&id)
            && !self.reader.has_object(&id)?
        {
            self.plan.state_left.entry(root).or_default().insert(id, size);
            return Ok(false);
        }
        self.plan.contents.insert(id);
        if !self.is_here(&id)? {
            self.plan.missing.push((self.snapshot, path.to_owned()));
            return Ok(false);
        }
        if size > MAX_OBJECT {
            self.plan.too_large.insert(path.to_owned(), size);
            return Ok(false);
        }
        if !self.planned.contains(&id) {
            found.objects.push((id, path.to_owned()));
            found.bytes += size;
        }
        Ok(true)
    }

    /// Whether a content can be had. Where what is not may be left out, it is read to see that it is whole.
    fn is_here(&self, id: &ObjectId) -> Result<bool> {
        if !self.options.allow_missing || self.planned.contains(id) {
            return Ok(self.sources.contains(id)?);
        }
        match self.sources.copy_to(id, &mut io::sink()) {
            Err(StoreError::Corrupt(_)) => Ok(false),
            copied => Ok(copied?.is_some()),
        }
    }

    /// A secret file is where it may be; that it is not there lets nothing be less than whole.
    /// Returns whether it goes in.
    fn secret(&mut self, id: ObjectId, path: &Path, found: &mut Found) -> Result<bool> {
        self.plan.secret_contents.insert(id);
        let goes_in = self.options.with_secrets && self.sources.contains(&id)?;
        if goes_in {
            found.objects.push((id, path.to_owned()));
            self.plan.secrets_inside.insert(path.to_owned());
        } else {
            self.plan.secrets_left.insert(path.to_owned());
        }
        Ok(goes_in)
    }

    /// What git ignores goes in as a whole, or stays out as a whole: half a `node_modules` is of no use to anybody.
    fn ignored(
        &mut self,
        entry: &Entry,
        path: &Path,
        depth: usize,
        found: &mut Found,
    ) -> Result<bool> {
        if let Some(inside) = entry.id.and_then(|id| self.ignored.get(&id)) {
            return Ok(*inside);
        }
        let missing_before = self.plan.missing.len();
        let mut inside = Found::default();
        let mut whole = self.entry(entry, path, depth, &mut inside)?;
        let room = self.options.max_ignored.saturating_sub(self.ignored_bytes);
        // Tools make it again: that it is gone from the store is no reason to have no bundle.
        let is_gone = self.plan.missing.len() > missing_before;
        self.plan.missing.truncate(missing_before);
        if inside.bytes <= room && self.options.max_ignored > 0 && !is_gone {
            self.ignored_bytes += inside.bytes;
            found.objects.append(&mut inside.objects);
        } else {
            // What lies in there may lie elsewhere too: it is looked at again then.
            for (id, _) in &inside.objects {
                self.trees.remove(&(*id, self.state.is_some()));
            }
            self.plan.ignored_left.insert(path.to_owned(), inside.bytes);
            whole = false;
        }
        if let Some(id) = entry.id {
            self.ignored.insert(id, whole);
        }
        Ok(whole)
    }
}
