//! Directories that were renamed since the last capture: each keeps its tree object, and only what changed in it is looked at.
//!
//! That it is the same directory its inode says, together with its birth: a number that was in use at the last capture
//! belongs to who was there already. What stands in it must be decided about at its new name as it was at the old one:
//! where a rule may tell the two apart, it is walked like any new directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use agentrec_trace::ObjectId;
use nix::sys::stat::FileStat;

use super::CaptureOptions;
use super::dir;
use super::dirty::{Dirty, Node};
use super::rules::{RULES_BELOW, is_derived};
use super::state::{Noted, State, renamed};
use super::tracked::has_other_rights;
use super::update::Before;
use super::walk::{Place, Walk};
use crate::error::Result;
use crate::objects::Objects;
use crate::secret_files;
use crate::tree::{Entry, MAX_DEPTH};

/// Renamed directories by their new names, which are relative to the root.
pub(super) type AllMoved = BTreeMap<PathBuf, Moved>;

/// A directory that lay elsewhere at the last capture.
pub(super) struct Moved {
    /// Where.
    pub(super) from: PathBuf,
    former: Entry,
    ino: u64,
    /// It lay in one that tools make again.
    ignored: bool,
    /// So many components of both names, from the root on, are the same directories.
    common: usize,
    /// What may have changed in it.
    node: Node,
    /// What was noted below its old name.
    noted: Option<Noted>,
}

/// The directories that `dirty` names as renamed, as far as they can be known again.
pub(super) fn find(
    state: &mut State,
    objects: &dyn Objects,
    dirty: &Dirty,
    root: &Path,
    options: &CaptureOptions,
) -> Result<AllMoved> {
    let mut all = AllMoved::new();
    for (to, names) in &dirty.renamed {
        let Ok(there) = fs::symlink_metadata(root.join(to)) else { continue };
        let born = there.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let is_older = born.is_some_and(|born| born.as_nanos() < state.began.max(0) as u128);
        if !there.is_dir() || !is_older {
            continue;
        }
        for from in names {
            let seen = [from, to].map(|path| options.seen_as(root).join(path));
            let depends =
                |dir: &PathBuf| secret_files::depends_on(dir) || options.secrets.depend_on(dir);
            if seen.iter().any(depends) {
                continue;
            }
            if let Some(moved) = known(state, objects, from, to, there.ino())? {
                all.insert(to.clone(), moved);
                break;
            }
        }
    }
    Ok(all)
}

/// The directory that was called `from`, if it has this inode and may be looked at as the same one at `to`.
fn known(
    state: &mut State,
    objects: &dyn Objects,
    from: &Path,
    to: &Path,
    ino: u64,
) -> Result<Option<Moved>> {
    let [parents, now] = [from, to].map(|path| path.parent().unwrap_or(path));
    let common = parents.iter().zip(now).take_while(|(a, b)| a == b).count();
    let (before, depth) = (from.iter().count(), to.iter().count());
    if state.deepest + depth.saturating_sub(before) + 1 >= MAX_DEPTH {
        return Ok(None);
    }
    let (mut tree, mut ignored) = (state.trees.load(objects, state.tree)?, false);
    for (above, name) in from.iter().enumerate() {
        let has_rules = || RULES_BELOW.iter().any(|it| tree.entry(it.as_bytes()).is_some());
        if above > common && has_rules() {
            return Ok(None);
        }
        let entry = tree.entry(name.as_encoded_bytes()).filter(|entry| entry.is_dir());
        let Some((former, id)) = entry.and_then(|entry| Some((entry.clone(), entry.id?))) else {
            return Ok(None);
        };
        if above + 1 == before {
            let node = Node::default();
            let from = from.to_owned();
            let moved = Moved { from, former, ino, ignored, common, node, noted: None };
            return Ok((state.inodes.get(&id) == Some(&ino)).then_some(moved));
        }
        ignored |= former.ignored;
        tree = state.trees.load(objects, id)?;
    }
    Ok(None)
}

/// Takes what is known of these directories out of `state`, which keeps it by their old names.
pub(super) fn take(state: &mut State, all: &mut AllMoved, dirty: &Dirty) {
    let mut by_old_name: Vec<_> = all.iter_mut().collect();
    // One that lay in another goes first.
    by_old_name.sort_by(|(_, a), (_, b)| b.from.cmp(&a.from));
    for (to, moved) in by_old_name {
        moved.node = dirty.root.at(to).cloned().unwrap_or_default();
        moved.noted = Some(state.take_below(&moved.from));
        state.rules.forget_below(&moved.from);
        state.moved.insert(moved.from.clone());
    }
}

/// Where a path of the last capture leads now.
pub(super) fn present(all: &AllMoved, former: &Path) -> PathBuf {
    let holds = |(_, moved): &(&PathBuf, &Moved)| former.starts_with(&moved.from);
    let nearest = all.iter().filter(holds).max_by_key(|(_, moved)| moved.from.iter().count());
    nearest.map_or_else(|| former.to_owned(), |(to, moved)| renamed(former, &moved.from, to))
}

/// Where a path led at the last capture, if what it leads to now was there.
pub(super) fn former(all: &AllMoved, now: &Path) -> PathBuf {
    let nearest = now.ancestors().find_map(|above| Some((above, all.get(above)?)));
    nearest.map_or_else(|| now.to_owned(), |(to, moved)| renamed(now, to, &moved.from))
}

impl Walk<'_> {
    /// The tree object of the directory at `path`, and whether tools make it again, if it is one that was renamed and can be
    /// captured as such.
    pub(super) fn moved_here(
        &mut self,
        parent: &File,
        stat: &FileStat,
        path: &Path,
        place: Place<'_>,
    ) -> Result<Option<(ObjectId, bool)>> {
        let Some(mut moved) = self.moved.remove(path) else { return Ok(None) };
        let Some((dir, id)) = self.same_as_before(&moved, parent, stat, path, place)? else {
            self.give_up(&moved)?;
            return Ok(None);
        };
        let before = self.state.trees.load(self.reader.sink.objects(), id)?;
        if let Some(noted) = moved.noted.take() {
            self.state.put(noted, path);
        }
        let (depth, ignored) = (place.depth + 1, place.ignored || moved.former.ignored);
        let inside = Place { path, depth, ignored, kept: place.kept };
        let before = Before { tree: &before, path: &moved.from };
        let id = self.update(&dir, before, &moved.node, inside)?;
        if id.is_some() {
            self.state.renamed.names.push((moved.from, path.to_owned()));
        } else {
            self.give_up(&moved)?;
            self.state.forget_below(path);
        }
        Ok(id.map(|id| (id, moved.former.ignored)))
    }

    /// The directory, opened, and its former tree object; none where it is another, or rules may say something else of it.
    fn same_as_before(
        &mut self,
        moved: &Moved,
        parent: &File,
        stat: &FileStat,
        path: &Path,
        place: Place<'_>,
    ) -> Result<Option<(File, ObjectId)>> {
        let rules = &self.state.rules;
        if moved.ino != stat.st_ino
            || moved.common > place.kept
            || moved.ignored != place.ignored
            || !rules.same_for([&moved.from, path], moved.common)
        {
            return Ok(None);
        }
        let name = path.file_name().unwrap_or_default();
        let (Ok(dir), Some(id)) = (dir::open(parent, name, true), moved.former.id) else {
            return Ok(None);
        };
        let Ok(names) = dir::list(&dir) else { return Ok(None) };
        let seen = self.seen_as.join(path);
        let derived = rules.git_ignores_dir(&seen) || is_derived(&dir, &seen, &names);
        let before = self.state.trees.load(self.reader.sink.objects(), id)?;
        let is_same = (derived && !place.ignored) == moved.former.ignored
            && !has_other_rights(&dir, &self.root.join(path), &before.meta)?;
        Ok(is_same.then_some((dir, id)))
    }

    /// Takes directories out of the totals that were renamed, and could not be captured as such.
    pub(super) fn give_up_moved(&mut self) -> Result<()> {
        mem::take(&mut self.moved).values().try_for_each(|moved| self.give_up(moved))
    }

    /// Takes a directory out of the totals. Whoever comes to its old name, before or after that, does not.
    fn give_up(&mut self, moved: &Moved) -> Result<()> {
        self.state.moved.remove(&moved.from);
        self.state.subtract(self.reader.sink.objects(), &moved.former, &moved.from)?;
        self.state.moved.insert(moved.from.clone());
        Ok(())
    }
}
