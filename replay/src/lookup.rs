//! Entries of a tree by their paths, and whether two of them are the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use agentrec_store::{Entry, Kind, Objects, Tree, TreeBudget};
use agentrec_trace::ObjectId;

use crate::error::Result;

/// Whether two entries are the same but for their times, owners and link groups.
pub(crate) fn same(a: Option<&Entry>, b: Option<&Entry>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            let content = a.kind == Kind::Dir || a.id == b.id;
            a.kind == b.kind
                && content
                && a.target == b.target
                && a.meta.mode == b.meta.mode
                && a.meta.xattrs == b.meta.xattrs
        }
        _ => false,
    }
}

/// What lies at a path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// This; a directory with its own attributes.
    Entry(Box<Entry>),
    /// Nobody can tell: a directory above it was left out.
    LeftOut(Box<Entry>),
    /// The path goes through this symbolic link.
    Link(PathBuf, Vec<u8>),
}

/// Finds entries of trees by path; each directory is read once.
pub(crate) struct Lookup<'a> {
    objects: &'a dyn Objects,
    budget: TreeBudget,
    trees: HashMap<ObjectId, Tree>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(objects: &'a dyn Objects) -> Self {
        Self { objects, budget: TreeBudget::default(), trees: HashMap::new() }
    }

    /// The entry at `path`; none where there is none.
    pub(crate) fn entry(&mut self, root: ObjectId, path: &Path) -> Result<Option<Entry>> {
        Ok(match self.find(root, path)? {
            Found::Entry(entry) => Some(*entry),
            _ => None,
        })
    }

    /// What is at `path` of the tree `root`.
    pub(crate) fn find(&mut self, root: ObjectId, path: &Path) -> Result<Found> {
        let mut entry = Entry { kind: Kind::Dir, id: Some(root), ..Entry::default() };
        let mut walked = PathBuf::new();
        for (depth, name) in path.iter().enumerate() {
            match (entry.kind, entry.id, &entry.target) {
                (Kind::Dir, Some(id), _) => {
                    let tree = self.tree(id, depth)?;
                    let Some(next) = tree.entry(name.as_encoded_bytes()) else {
                        return Ok(Found::Nothing);
                    };
                    entry = next.clone();
                }
                (Kind::Dir, None, _) => return Ok(Found::LeftOut(Box::new(entry))),
                (Kind::Symlink, _, Some(target)) => {
                    return Ok(Found::Link(walked, target.to_vec()));
                }
                _ => return Ok(Found::Nothing),
            }
            walked.push(name);
        }
        if let (Kind::Dir, Some(id)) = (entry.kind, entry.id) {
            entry.meta = self.tree(id, walked.iter().count())?.meta.clone();
        }
        Ok(Found::Entry(Box::new(entry)))
    }

    /// Calls `f` with the path and entry of everything below `path`, directories first.
    pub(crate) fn each_below(
        &mut self,
        root: ObjectId,
        path: &Path,
        f: &mut dyn FnMut(&Path, &Entry),
    ) -> Result<()> {
        let Found::Entry(entry) = self.find(root, path)? else { return Ok(()) };
        let Some(id) = entry.id.filter(|_| entry.kind == Kind::Dir) else { return Ok(()) };
        // A tree may be named many times over, so what was listed is not kept here but counted against the budget.
        let tree = self.budget.load(self.objects, id, path.iter().count())?;
        for entry in &tree.entries {
            let path = path.join(entry.os_name());
            f(&path, entry);
            if entry.kind == Kind::Dir {
                self.each_below(root, &path, f)?;
            }
        }
        Ok(())
    }

    fn tree(&mut self, id: ObjectId, depth: usize) -> Result<&Tree> {
        if !self.trees.contains_key(&id) {
            let tree = self.budget.load(self.objects, id, depth)?;
            self.trees.insert(id, tree);
        }
        Ok(&self.trees[&id])
    }
}
