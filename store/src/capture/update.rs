//! The walk over what may have changed: only directories on the way there are opened, and the rest keeps its objects.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use agentrec_trace::ObjectId;
use nix::sys::stat::fstat;

use super::dir;
use super::dirty::{Node, Touch};
use super::file::SIDE_SUFFIXES;
use super::tracked::has_other_rights;
use super::walk::{Place, Walk};
use crate::error::{Context, Result};
use crate::tree::{Entry, Kind, Tree};

/// A directory as the last capture found it.
#[derive(Clone, Copy)]
pub(super) struct Before<'b> {
    pub(super) tree: &'b Tree,
    /// Where it lay, relative to the root.
    pub(super) path: &'b Path,
}

impl Walk<'_> {
    /// Captures a directory that was captured before, and of which only `node` may differ; none where all of it has to
    /// be walked.
    pub(super) fn update(
        &mut self,
        dir: &File,
        before: Before<'_>,
        node: &Node,
        place: Place<'_>,
    ) -> Result<Option<ObjectId>> {
        let Before { tree: before, path: lay } = before;
        let full = self.root.join(place.path);
        let stat = fstat(dir).context("read", &full)?;
        let mut meta = dir::meta(&stat);
        let mut node = node.clone();
        if meta.mtime != before.meta.mtime {
            // Names that nobody told of: by processes outside of the recording.
            compare_names(&dir::list(dir).context("list", &full)?, before, &mut node);
        }
        if node.changes_rules() {
            return Ok(None);
        }
        add_databases(before, &mut node.children);
        meta.xattrs = dir::xattrs(dir, &full);
        let seen = self.seen_as.join(place.path);
        self.state.rules.enter(dir, &seen, |name| before.entry(name.as_bytes()).is_some());
        self.reader.cache.open(&stat);
        let mut entries = before.entries.clone();
        let mut early = HashMap::new();
        for (name, child) in &node.children {
            let (path, lay) = (place.path.join(name), lay.join(name));
            let former = before.entry(name.as_bytes());
            let entry = if let Some(content) = early.remove(name) {
                self.forget(former, &path, &lay)?;
                Some(self.file_entry(name, &path, content).entry)
            } else if let Some(entry) = self.known_directory(dir, (former, &lay), child, place)? {
                Some(entry)
            } else {
                self.forget(former, &path, &lay)?;
                self.entry(dir, name, place, &mut early)?.map(|seen| seen.entry)
            };
            replace(&mut entries, name, entry);
        }
        for (name, content) in early {
            let path = place.path.join(&name);
            self.forget(before.entry(name.as_bytes()), &path, &lay.join(&name))?;
            let entry = self.file_entry(&name, &path, content).entry;
            replace(&mut entries, &name, Some(entry));
        }
        self.state.rules.leave();
        let tree = Tree { meta, entries };
        let id = self.reader.sink.put(tree.encode(), place.ignored)?;
        self.state.inodes.insert(id, stat.st_ino);
        self.state.deepest = self.state.deepest.max(place.depth);
        self.state.trees.add(id, Arc::new(tree));
        Ok(Some(id))
    }

    /// A directory that is the same as before; none where it has to be walked.
    fn known_directory(
        &mut self,
        dir: &File,
        (former, lay): (Option<&Entry>, &Path),
        node: &Node,
        place: Place<'_>,
    ) -> Result<Option<Entry>> {
        let Some(former) = former.filter(|former| former.is_dir() && node.touch < Touch::Name)
        else {
            return Ok(None);
        };
        let (Some(id), name) = (former.id, former.os_name()) else { return Ok(None) };
        let path = place.path.join(name);
        let Ok(Some(stat)) = dir::stat(dir, name) else { return Ok(None) };
        let kind = dir::kind(&stat);
        if kind != Kind::Dir || self.refusal(&stat, &path, kind, place.depth).is_some() {
            return Ok(None);
        }
        let Ok(sub) = dir::open(dir, name, true) else { return Ok(None) };
        let before = self.state.trees.load(self.reader.sink.objects(), id)?;
        if has_other_rights(&sub, &self.root.join(&path), &before.meta)? {
            return Ok(None);
        }
        let kept = place.kept + usize::from(place.kept == place.depth);
        let inside = Place {
            path: &path,
            depth: place.depth + 1,
            ignored: place.ignored || former.ignored,
            kept,
        };
        self.state.inodes.remove(&id);
        let before = Before { tree: &before, path: lay };
        let id = self.update(&sub, before, node, inside)?;
        Ok(id.map(|id| Entry { id: Some(id), ..former.clone() }))
    }

    /// Takes back what was noted of what lay at `lay` by the last capture, and of what lies at `path` now.
    pub(super) fn forget(&mut self, former: Option<&Entry>, path: &Path, lay: &Path) -> Result<()> {
        let Some(former) = former else { return Ok(()) };
        self.state.subtract(self.reader.sink.objects(), former, lay)?;
        self.state.forget_below(path);
        Ok(())
    }
}

/// Adds the names that came or went.
fn compare_names(now: &[OsString], before: &Tree, node: &mut Node) {
    for name in now {
        if before.entry(name.as_bytes()).is_none() {
            node.children.entry(name.clone()).or_insert_with(Node::name).touch = Touch::Name;
        }
    }
    for entry in &before.entries {
        let name = entry.os_name();
        if now.binary_search_by(|found| found.as_os_str().cmp(name)).is_err() {
            node.children.entry(name.to_owned()).or_insert_with(Node::name).touch = Touch::Name;
        }
    }
}

/// Adds the database of a file that belongs to one, and the files that belong to a database: they are read together.
fn add_databases(before: &Tree, children: &mut BTreeMap<OsString, Node>) {
    let mut more = Vec::new();
    for name in children.keys() {
        let bytes = name.as_bytes();
        let base = SIDE_SUFFIXES.iter().find_map(|suffix| bytes.strip_suffix(suffix.as_bytes()));
        let base = base.unwrap_or(bytes);
        let sides = SIDE_SUFFIXES.iter().map(|suffix| [base, suffix.as_bytes()].concat());
        let known = sides.chain([base.to_vec()]).filter(|name| before.entry(name).is_some());
        more.extend(known.map(|name| OsStr::from_bytes(&name).to_owned()));
    }
    for name in more {
        children.entry(name).or_insert_with(Node::content);
    }
}

/// Puts an entry in the place of the one of that name.
fn replace(entries: &mut Vec<Entry>, name: &OsStr, entry: Option<Entry>) {
    let found = entries.binary_search_by(|known| known.name.as_slice().cmp(name.as_bytes()));
    match (found, entry) {
        (Ok(at), Some(entry)) => entries[at] = entry,
        (Ok(at), None) => drop(entries.remove(at)),
        (Err(at), Some(entry)) => entries.insert(at, entry),
        (Err(_), None) => {}
    }
}
