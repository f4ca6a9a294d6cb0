//! A tree that is followed from one capture to the next, so that a later one costs what changed and not what is there.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agentrec_trace::ObjectId;

use super::dirty::{Dirty, Node, Touch};
use super::moved::{self, AllMoved};
use super::rules::Rules;
use super::sink::Sink;
use super::state::{Renamed, State};
use super::update::Before;
use super::walk::{Place, Walk};
use super::{Capture, CaptureOptions, FileId};
use crate::cache::StatCache;
use crate::changes::{NewObject, changed_objects};
use crate::error::{Context, Result};
use crate::objects::{Objects, Store};
use crate::tree::Entry;

/// A root and what its last capture found.
///
/// Whoever holds one says what may have changed since then ([`Dirty`]); everything else is taken to be as it was. What
/// is not said is found by the next [`Tracked::capture`], which looks at every file.
pub struct Tracked {
    root: PathBuf,
    /// The root's own file, and what was found; none where the next capture has to look at everything.
    last: Option<(FileId, State)>,
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Tracked {
    /// The directory at the real path `root`, of which nothing is known yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), last: None }
    }

    /// The real path of the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Captures everything. When it returns, all objects of the tree are on the disk.
    ///
    /// Symbolic links are kept as such and never followed; other file systems are not entered.
    ///
    /// # Errors
    /// Where the root can't be read, or the store can't be written. What can't be read below the root is listed instead.
    pub fn capture(
        &mut self,
        store: &Store,
        options: &CaptureOptions,
        cache: &mut StatCache,
    ) -> Result<Capture> {
        self.last = None;
        let dir = File::open(&self.root).context("open", &self.root)?;
        let id = own_id(&dir, &self.root)?;
        let state = State::new(Rules::new(options.seen_as(&self.root), &options.excludes)?);
        let mut walk = Walk::new((store, cache), &self.root, &dir, options, state)?;
        walk.root(&dir)?;
        let (capture, state) = walk.finish(true)?;
        self.last = Some((id, state));
        Ok(capture)
    }

    /// Captures what may have changed since the last capture, which has to have had the same options (but for the files
    /// that they name), and takes the rest from there.
    ///
    /// Where that can't be done everything is captured: after an error, where the limit for the tree was reached, where
    /// the root is another directory. [`Capture::walked`] tells. With [`CaptureOptions::later`], what goes into a trace
    /// as well is on the disk some time after it returns.
    ///
    /// # Errors
    /// As [`Tracked::capture`].
    pub fn capture_changes(
        &mut self,
        store: &Store,
        dirty: &Dirty,
        options: &CaptureOptions,
        cache: &mut StatCache,
    ) -> Result<Capture> {
        let Some((id, mut state)) = self.last.take() else {
            return self.capture(store, options, cache);
        };
        let dir = File::open(&self.root).context("open", &self.root)?;
        if state.capped || dirty.root.touch == Touch::Name || own_id(&dir, &self.root)? != id {
            return self.capture(store, options, cache);
        }
        let root = self.root.clone();
        let objects: &dyn Objects = options.later.as_deref().map_or(store, |later| later);
        let mut moved = moved::find(&mut state, objects, dirty, &root, options)?;
        let dirty = with_other_names(dirty, &state, &dir, &moved);
        moved::take(&mut state, &mut moved, &dirty);
        let mut walk = Walk::new((store, cache), &root, &dir, options, state)?;
        walk.reader.busy = Some(&options.busy);
        walk.moved = moved;
        walk.reader.sink = Sink::new(store, options.later.as_deref());
        let since = walk.state.tree;
        walk.state.renamed = Renamed { since, names: Vec::new() };
        let before = walk.state.trees.load(walk.reader.sink.objects(), since)?;
        let same_rights = !has_other_rights(&dir, &root, &before.meta)?;
        let updated = if same_rights {
            let before = Before { tree: &before, path: Path::new("") };
            walk.update(&dir, before, &dirty.root, Place::root())?
        } else {
            None
        };
        let Some(tree) = updated.filter(|_| !walk.state.capped) else {
            return self.capture(store, options, walk.into_cache());
        };
        walk.give_up_moved()?;
        walk.state.inodes.remove(&since);
        walk.state.inodes.insert(tree, id.ino);
        walk.state.moved.clear();
        walk.state.tree = tree;
        let (capture, state) = walk.finish(false)?;
        self.last = Some((id, state));
        Ok(capture)
    }

    /// The entry of a path in the last capture; none for the root, where there is none, and where none can be read.
    pub fn entry(&mut self, objects: &dyn Objects, path: &Path) -> Option<Entry> {
        let (_, state) = self.last.as_mut()?;
        let mut tree = state.trees.load(objects, state.tree).ok()?;
        let mut components = path.components();
        loop {
            let name = components.next()?.as_os_str().as_encoded_bytes();
            let entry = tree.entry(name)?.clone();
            if components.as_path().as_os_str().is_empty() {
                return Some(entry);
            }
            tree = state.trees.load(objects, entry.id.filter(|_| entry.is_dir())?).ok()?;
        }
    }

    /// Whether files in the tree have this inode and several names.
    pub fn is_linked(&self, ino: u64) -> bool {
        self.last.as_ref().is_some_and(|(_, state)| state.links.names(ino).next().is_some())
    }

    /// What `tree` has that `previous` has not at the same place, and the other way round: see [`crate::new_objects`].
    /// What lies in a directory that was renamed has its former place there. It costs what differs.
    ///
    /// # Errors
    /// Where a tree object can't be read.
    pub fn changed_objects(
        &mut self,
        objects: &dyn Objects,
        previous: ObjectId,
        tree: ObjectId,
    ) -> Result<(Vec<NewObject>, Vec<NewObject>)> {
        let renamed = self.last.as_ref().map(|(_, state)| &state.renamed);
        let renamed = renamed.filter(|renamed| renamed.since == previous);
        let names = renamed.map(|renamed| renamed.names.clone()).unwrap_or_default();
        let back: Vec<_> = names.iter().map(|(from, to)| (to.clone(), from.clone())).collect();
        let mut load = |id| match &mut self.last {
            Some((_, state)) => state.trees.load(objects, id),
            None => crate::Tree::load(objects, id).map(Into::into),
        };
        let added = changed_objects(&mut load, previous, tree, &names)?;
        let removed = changed_objects(&mut load, tree, previous, &back)?;
        Ok((added, removed))
    }
}

/// Adds what was torn, and the other names of every file that may have changed: they are one file.
fn with_other_names(dirty: &Dirty, state: &State, dir: &File, moved: &AllMoved) -> Dirty {
    let mut all = dirty.clone();
    let now = |path: &PathBuf| moved::present(moved, path);
    for (to, moved) in moved {
        all.touch(to, Touch::Name);
        all.touch(&moved.from, Touch::Name);
    }
    state.torn.iter().for_each(|path| all.touch(&now(path), Touch::Content));
    // Names in what was left out are not known.
    let is_left_out = |path: &Path| {
        let former = moved::former(moved, path);
        former.ancestors().skip(1).any(|above| state.left_out.contains_key(above))
    };
    let mut outer_links = dirty.outer_links;
    let went_elsewhere = |path: &Path| moved.values().any(|moved| moved.from == path);
    let mut inodes: Vec<u64> = dirty.inodes.iter().copied().collect();
    for (path, touch) in all.paths() {
        outer_links |= touch == Touch::Name && is_left_out(&path);
        if touch == Touch::Name && !went_elsewhere(&path) {
            inodes.extend(state.links.inodes_below(&path));
        }
        let former = moved::former(moved, &path);
        if touch == Touch::Name && former != path && !moved.contains_key(&path) {
            inodes.extend(state.links.inodes_below(&former));
        }
        if let Ok(Some(stat)) = super::dir::stat(dir, path.as_os_str()) {
            inodes.extend((stat.st_nlink > 1).then_some(stat.st_ino));
        }
    }
    if outer_links {
        inodes.extend(state.links.with_outer_names());
    }
    inodes.sort_unstable();
    inodes.dedup();
    for path in inodes.into_iter().flat_map(|ino| state.links.names(ino)) {
        all.touch(&now(path), Touch::Content);
    }
    all
}

impl Node {
    /// Whether something changed by which it is decided what of the directory is kept, and how.
    pub(super) fn changes_rules(&self) -> bool {
        let changed = |name: &&str| {
            let touch = self.child(name).map_or(Touch::Way, |child| child.touch);
            touch == Touch::Name || touch == Touch::Content && *name != ".git"
        };
        let info = self.child(".git").and_then(|git| git.child("info"));
        let exclude =
            info.is_some_and(|info| info.touch == Touch::Name || info.child("exclude").is_some());
        exclude || super::rules::RULE_FILES.iter().any(changed)
    }
}

fn own_id(dir: &File, root: &Path) -> Result<FileId> {
    let metadata = dir.metadata().context("read", root)?;
    Ok(FileId { dev: metadata.dev(), ino: metadata.ino() })
}

/// Whether what may be read in a directory can be another than it was.
pub(super) fn has_other_rights(
    dir: &File,
    path: &Path,
    before: &crate::tree::Meta,
) -> Result<bool> {
    let now = dir.metadata().context("read", path)?;
    Ok((now.mode() & 0o7777, now.uid(), now.gid()) != (before.mode, before.uid, before.gid))
}
