//! What a tree has that an earlier one had not: the objects that a snapshot adds.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentrec_trace::ObjectId;

use crate::error::Result;
use crate::objects::Objects;
use crate::tree::{Entry, Kind, Tree, TreeBudget};

/// What an object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectRole {
    /// The tree of a directory.
    Tree,
    /// The content of a file.
    Content,
}

/// An object of a tree that an earlier tree did not have at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// Its address.
    pub id: ObjectId,
    /// What it is for.
    pub role: ObjectRole,
    /// Where it is used first, relative to the root.
    pub path: PathBuf,
    /// A content's length in bytes; 0 for trees.
    pub size: u64,
    /// What stood in its place: likely to resemble it.
    pub previous: Option<ObjectId>,
    /// It must stay in the local store.
    pub secret: bool,
    /// It lies in a directory that tools make again, and has no place in a trace.
    pub ignored: bool,
}

/// The objects of `tree` that are not at the same place in `previous`, each once: trees before what is in them.
///
/// An object that is both secret and not, or both ignored and not, by its several places is listed once for each.
pub fn new_objects(
    objects: &dyn Objects,
    previous: Option<ObjectId>,
    tree: ObjectId,
) -> Result<Vec<NewObject>> {
    find(&mut |id| Tree::load(objects, id).map(Arc::new), previous, tree, &[])
}

/// The same, for trees that are loaded by `load`. Directories that have other names than before are compared with what they
/// were: `renamed` has the names in `previous`, and those in `tree`.
pub(crate) fn changed_objects(
    load: &mut dyn FnMut(ObjectId) -> Result<Arc<Tree>>,
    previous: ObjectId,
    tree: ObjectId,
    renamed: &[(PathBuf, PathBuf)],
) -> Result<Vec<NewObject>> {
    find(load, Some(previous), tree, renamed)
}

fn find(
    load: &mut dyn FnMut(ObjectId) -> Result<Arc<Tree>>,
    previous: Option<ObjectId>,
    tree: ObjectId,
    renamed: &[(PathBuf, PathBuf)],
) -> Result<Vec<NewObject>> {
    let budget = TreeBudget::default();
    let mut former = HashMap::new();
    for (from, to) in renamed {
        if let Some(entry) = previous.map(|tree| at(load, tree, from)).transpose()?.flatten() {
            former.insert(to.clone(), entry);
        }
    }
    let mut found = Found { load, list: Vec::new(), seen: HashSet::new(), former, budget };
    if previous != Some(tree) {
        found.tree(previous, tree, Path::new(""), 0, false)?;
    }
    Ok(found.list)
}

struct Found<'a> {
    load: &'a mut dyn FnMut(ObjectId) -> Result<Arc<Tree>>,
    list: Vec<NewObject>,
    seen: HashSet<(ObjectId, bool, bool)>,
    /// What stood somewhere else before.
    former: HashMap<PathBuf, Entry>,
    budget: TreeBudget,
}

impl Found<'_> {
    fn tree(
        &mut self,
        previous: Option<ObjectId>,
        id: ObjectId,
        path: &Path,
        depth: usize,
        ignored: bool,
    ) -> Result<()> {
        if !self.seen.insert((id, false, ignored)) {
            return Ok(());
        }
        let role = ObjectRole::Tree;
        let path_owned = path.to_owned();
        self.list.push(NewObject {
            id,
            role,
            path: path_owned,
            size: 0,
            previous,
            secret: false,
            ignored,
        });
        let tree = (self.load)(id)?;
        self.budget.spend(id, &tree, depth)?;
        let before = previous.map(|id| (self.load)(id)).transpose()?;
        for entry in &tree.entries {
            let before = before.as_ref().and_then(|tree| tree.entry(&entry.name));
            let moved = (!self.former.is_empty())
                .then(|| self.former.get(&path.join(entry.os_name())).cloned());
            let moved = moved.flatten();
            let before = moved.as_ref().or(before);
            let before = before.filter(|before| before.kind == entry.kind);
            let Some(id) = entry.id.filter(|_| !before.is_some_and(|before| same(before, entry)))
            else {
                continue;
            };
            let previous = before.and_then(|before| before.id);
            let path = path.join(entry.os_name());
            let ignored = ignored || entry.ignored;
            if entry.kind == Kind::Dir {
                self.tree(previous, id, &path, depth + 1, ignored)?;
            } else if self.seen.insert((id, entry.secret, ignored)) {
                let (role, size, secret) = (ObjectRole::Content, entry.size, entry.secret);
                self.list.push(NewObject { id, role, path, size, previous, secret, ignored });
            }
        }
        Ok(())
    }
}

/// The entry at a path below a tree.
fn at(
    load: &mut dyn FnMut(ObjectId) -> Result<Arc<Tree>>,
    mut tree: ObjectId,
    path: &Path,
) -> Result<Option<Entry>> {
    let mut found = None;
    for name in path {
        let entry = load(tree)?.entry(name.as_encoded_bytes()).cloned();
        let Some(id) = entry.as_ref().and_then(|entry| entry.id) else { return Ok(None) };
        (tree, found) = (id, entry);
    }
    Ok(found)
}

/// Whether the object of `entry` was already to be had at its place, under the same rules.
fn same(before: &Entry, entry: &Entry) -> bool {
    before.id == entry.id && before.secret == entry.secret && before.ignored == entry.ignored
}
