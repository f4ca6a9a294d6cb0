//! Turns a directory back into what it was, after saving what it is.
//!
//! Only what the saved state holds is ever removed or replaced: what was excluded, unreadable, or changed since stays, and so do
//! traces, which tell of the very work that is being undone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use agentrec_store::{
    CaptureOptions, Change, ChangeKind, Entry, Kind, Objects, ProgressFn, StatCache, Store, Tree,
    TreeBudget, capture_tree, diff_trees,
};
use agentrec_trace::{ObjectId, Reader};

use super::Restored;
use super::apply_changes::{Applier, still};
use super::only::Only;
use crate::error::{Context, Result};
use crate::sources::Sources;

/// What a restore in place did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPlace {
    /// The tree object of the state before, in the store: with it everything can be brought back.
    pub saved: ObjectId,
    /// What was done.
    pub restored: Restored,
}

/// Makes the directory `root` what `tree` says, after saving what it is in `store`.
///
/// `options` are those of the capture that saves it; what they leave out is not touched.
pub fn restore_in_place(
    reader: &Reader,
    store: &Store,
    tree: ObjectId,
    root: &Path,
    only: Option<&Only>,
    options: &CaptureOptions,
    progress: Option<&ProgressFn>,
) -> Result<InPlace> {
    let sources = &Sources::new(reader, Some(store));
    // Before the capture: afterwards the store has every tree that equals the present state.
    let trusted = sources.is_own(&tree)?;
    let saved = capture_tree(store, root, options, &mut StatCache::in_memory())?.tree;
    store.pin(&saved)?;
    let meant = |path: &Path| only.is_none_or(|only| only.matches(path));
    let mut changes: Vec<Change> = diff_trees(sources, saved, tree)?
        .into_iter()
        .filter(|change| meant(&change.path))
        .collect();
    let kept = keep_traces(&mut changes, root);
    let mut applier = Applier::new(root, sources, trusted, progress)?;
    applier.apply(&changes)?;
    let unknown = changes
        .iter()
        .filter(|change| change.kind == ChangeKind::Unknown)
        .map(|change| change.path.clone())
        .collect();
    let mut finish = Finish {
        applier,
        objects: sources,
        budget: TreeBudget::default(),
        groups: HashMap::new(),
        meant: &meant,
        unknown,
    };
    finish.directory(tree, Path::new(""), 0)?;
    Ok(InPlace { saved, restored: Restored { kept, ..finish.applier.finish() } })
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
    kept
}

/// What a comparison by content does not see: which names are one file, and the times of directories.
struct Finish<'a> {
    applier: Applier<'a>,
    objects: &'a dyn Objects,
    budget: TreeBudget,
    /// The first name of each link group, and its inode.
    groups: HashMap<(u64, Kind, Option<ObjectId>), (u64, u64)>,
    meant: &'a dyn Fn(&Path) -> bool,
    unknown: Vec<PathBuf>,
}

impl Finish<'_> {
    fn directory(&mut self, id: ObjectId, path: &Path, depth: usize) -> Result<()> {
        let Ok(tree) = self.budget.load(self.objects, id, depth) else { return Ok(()) };
        for entry in &tree.entries {
            let path = path.join(entry.os_name());
            match entry.id {
                Some(id) if entry.kind == Kind::Dir && !self.unknown.contains(&path) => {
                    self.directory(id, &path, depth + 1)?;
                }
                _ if entry.link.is_some() && (self.meant)(&path) => self.relink(entry, &path)?,
                _ => {}
            }
        }
        if (self.meant)(path) || path.as_os_str().is_empty() {
            self.times(&tree, path)?;
        }
        Ok(())
    }

    /// Makes the name at `path` one file with the first of its group.
    fn relink(&mut self, entry: &Entry, path: &Path) -> Result<()> {
        let (Some(number), Some(parent), Some(name)) =
            (entry.link, path.parent(), path.file_name())
        else {
            return Ok(());
        };
        let Ok(dir) = self.applier.root().descend(parent) else { return Ok(()) };
        let Some(stat) = dir.stat(name).context("read", path)? else { return Ok(()) };
        // What was left alone because it changed must not be replaced now.
        if !still(&dir, name, &stat, entry) {
            return Ok(());
        }
        let (group, file) = ((number, entry.kind, entry.id), (stat.st_dev, stat.st_ino));
        match self.groups.get(&group) {
            None => {
                self.groups.insert(group, file);
                self.applier.is_first_of_group(entry, path);
                Ok(())
            }
            Some(first) if *first == file => Ok(()),
            Some(_) => self.applier.replace(&dir, name, entry, path),
        }
    }

    fn times(&mut self, tree: &Tree, path: &Path) -> Result<()> {
        let entry = Entry { kind: Kind::Dir, meta: tree.meta.clone(), ..Entry::default() };
        self.applier.directory_meta(path, &entry)
    }
}
