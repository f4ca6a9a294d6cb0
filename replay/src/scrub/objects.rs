//! The objects of a trace without the pattern, by what they are: bytes, values, trees. Each is written once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use agentrec_store::{Entry, Error as StoreError, Kind, Objects, Tree, TreeBudget};
use agentrec_trace::event::Payload;
use agentrec_trace::{ObjectId, Reader, Rewriter, SnapshotIndex, TraceFile};

use super::pattern::{Pattern, Replaced};
use super::value;
use crate::error::Result;
use crate::sources::Sources;

/// A name in a directory is no longer, bytes.
const MAX_NAME: usize = 255;
/// What a symbolic link holds is shorter, bytes.
const MAX_TARGET: usize = 4096;

/// What became of an object that is bytes.
#[derive(Clone, Copy)]
pub(super) struct Moved {
    pub(super) id: ObjectId,
    pub(super) len: u64,
    pub(super) changed: bool,
}

/// What became of a tree.
#[derive(Clone, Copy)]
pub(super) struct MovedTree {
    pub(super) id: ObjectId,
    /// How much longer its files are now.
    pub(super) grown: i64,
}

/// What was found on the way.
#[derive(Default)]
pub(super) struct Noted {
    /// Objects that are others now: bytes and values.
    pub(super) objects: BTreeMap<ObjectId, ObjectId>,
    /// Trees that are others now.
    pub(super) trees: BTreeMap<ObjectId, ObjectId>,
    /// Files whose content or name had it, as they are called now, with the first snapshot that names them.
    pub(super) files: BTreeMap<PathBuf, SnapshotIndex>,
    /// Objects of this machine's store that have it.
    pub(super) in_store: BTreeSet<ObjectId>,
    /// What is nowhere, so that nobody could look.
    pub(super) unseen: BTreeSet<PathBuf>,
}

/// The objects on their way into the new trace.
pub(super) struct Scrubber<'a> {
    pub(super) reader: &'a Reader,
    pub(super) sources: &'a Sources<'a>,
    pub(super) pattern: &'a Pattern,
    pub(super) noted: Noted,
    /// The snapshot whose trees are walked.
    pub(super) snapshot: SnapshotIndex,
    bytes: HashMap<ObjectId, Moved>,
    values: HashMap<ObjectId, Payload>,
    trees: HashMap<ObjectId, MovedTree>,
    budget: TreeBudget,
}

impl<'a> Scrubber<'a> {
    pub(super) fn new(reader: &'a Reader, sources: &'a Sources<'a>, pattern: &'a Pattern) -> Self {
        Self {
            reader,
            sources,
            pattern,
            noted: Noted::default(),
            snapshot: SnapshotIndex(0),
            bytes: HashMap::new(),
            values: HashMap::new(),
            trees: HashMap::new(),
            budget: TreeBudget::default(),
        }
    }

    /// Where an object is now, whatever it is.
    pub(super) fn new_id(&self, id: &ObjectId) -> ObjectId {
        let noted = &self.noted;
        noted.objects.get(id).or_else(|| noted.trees.get(id)).copied().unwrap_or(*id)
    }

    fn put(
        &self,
        to: &mut Rewriter<TraceFile>,
        original: &ObjectId,
        content: &[u8],
    ) -> Result<ObjectId> {
        Ok(to.put(original, content, |base| self.new_id(base))?)
    }

    /// An object that is bytes: a body, or the content of a file. None where it is nowhere.
    pub(super) fn bytes(
        &mut self,
        to: &mut Rewriter<TraceFile>,
        id: &ObjectId,
    ) -> Result<Option<Moved>> {
        if let Some(moved) = self.bytes.get(id) {
            return Ok(Some(*moved));
        }
        let Some(content) = self.content(id)? else { return Ok(None) };
        let moved = match self.pattern.replace(&content) {
            Some(replaced) => {
                let new = self.put(to, id, &replaced.bytes)?;
                self.noted.objects.insert(*id, new);
                self.note_store(id)?;
                let len = replaced.bytes.len() as u64;
                Moved { id: new, len, changed: true }
            }
            None => {
                // What is in the store alone stays there.
                if self.reader.has_object(id)? {
                    self.put(to, id, &content)?;
                }
                Moved { id: *id, len: content.len() as u64, changed: false }
            }
        };
        self.bytes.insert(*id, moved);
        Ok(Some(moved))
    }

    /// What was replaced in an object that is bytes. It is done again: to keep it all would take too much memory.
    pub(super) fn replaced(&self, id: &ObjectId) -> Result<Option<Replaced>> {
        Ok(self.content(id)?.and_then(|content| self.pattern.replace(&content)))
    }

    /// An object that is a value. None where it is nowhere.
    pub(super) fn value(
        &mut self,
        to: &mut Rewriter<TraceFile>,
        payload: &Payload,
    ) -> Result<Option<Payload>> {
        let Payload::Object { id, len } = payload else { return Ok(None) };
        if let Some(moved) = self.values.get(id) {
            return Ok(Some(moved.clone()));
        }
        if !self.reader.has_object(id)? {
            return Ok(None);
        }
        let mut value = self.reader.payload(payload)?;
        let moved = if value::scrub(self.pattern, &mut value, &|id| self.new_id(id)) {
            let moved = to.put_value(id, value, |base| self.new_id(base))?;
            if let Payload::Object { id: new, .. } = moved {
                self.noted.objects.insert(*id, new);
            }
            moved
        } else {
            let content = self.reader.object(id)?.ok_or(agentrec_trace::Error::NoObject(*id))?;
            self.put(to, id, &content)?;
            Payload::Object { id: *id, len: *len }
        };
        self.values.insert(*id, moved.clone());
        Ok(Some(moved))
    }

    /// The tree of a root. One that is nowhere stays as it is.
    pub(super) fn root(
        &mut self,
        to: &mut Rewriter<TraceFile>,
        tree: ObjectId,
        path: &Path,
    ) -> Result<MovedTree> {
        self.budget = TreeBudget::default();
        self.tree(to, tree, path, 0)
    }

    fn tree(
        &mut self,
        to: &mut Rewriter<TraceFile>,
        id: ObjectId,
        path: &Path,
        depth: usize,
    ) -> Result<MovedTree> {
        if let Some(moved) = self.trees.get(&id) {
            return Ok(*moved);
        }
        let mut tree = match self.budget.load(self.sources, id, depth) {
            // What is in the trace and no tree is searched as bytes.
            Err(
                StoreError::Missing(_) | StoreError::Corrupt(_) | StoreError::InvalidTree { .. },
            ) => {
                self.noted.unseen.insert(path.to_owned());
                return Ok(MovedTree { id, grown: 0 });
            }
            tree => tree?,
        };
        let mut grown = 0i64;
        let mut changed = self.attributes(&mut tree.meta.xattrs);
        let mut had_it = changed;
        for entry in &mut tree.entries {
            let before = entry.clone();
            had_it |= self.name(entry);
            let path = path.join(entry.os_name());
            grown = grown.saturating_add(self.contents(to, entry, &path, depth)?);
            let same_tree = entry.kind == Kind::Dir && before.id != entry.id;
            if *entry != before {
                changed = true;
                let only_below = Entry { id: before.id, ..entry.clone() } == before && same_tree;
                if !only_below {
                    self.noted.files.entry(path).or_insert(self.snapshot);
                }
            }
        }
        let moved = if changed {
            settle_names(&mut tree);
            let new = self.put(to, &id, &tree.encode())?;
            self.noted.trees.insert(id, new);
            if had_it {
                self.note_store(&id)?;
            }
            MovedTree { id: new, grown }
        } else {
            if let Some(content) = self.reader.object(&id)? {
                self.put(to, &id, &content)?;
            }
            MovedTree { id, grown: 0 }
        };
        self.trees.insert(id, moved);
        Ok(moved)
    }

    /// What an entry says beside its content. Returns whether it had the pattern.
    fn name(&mut self, entry: &mut Entry) -> bool {
        let mut had_it = self.attributes(&mut entry.meta.xattrs);
        if let Some(name) = self.short(&entry.name, MAX_NAME) {
            entry.name = name.into();
            had_it = true;
        }
        let target = entry.target.as_deref();
        if let Some(target) = target.and_then(|target| self.short(target, MAX_TARGET - 1)) {
            entry.target = Some(target.into());
            had_it = true;
        }
        had_it
    }

    /// A text of which only so much has room: the rest of it goes too, rather than the mark.
    fn short(&self, text: &[u8], max: usize) -> Option<Vec<u8>> {
        let mut bytes = self.pattern.replace(text)?.bytes;
        bytes.truncate(max);
        Some(bytes)
    }

    fn attributes(&self, xattrs: &mut [(serde_bytes::ByteBuf, serde_bytes::ByteBuf)]) -> bool {
        let mut had_it = false;
        for text in xattrs.iter_mut().flat_map(|(name, value)| [name, value]) {
            if let Some(replaced) = self.pattern.replace(text) {
                *text = replaced.bytes.into();
                had_it = true;
            }
        }
        had_it
    }

    /// What an entry names. Returns by how much it is longer.
    fn contents(
        &mut self,
        to: &mut Rewriter<TraceFile>,
        entry: &mut Entry,
        path: &Path,
        depth: usize,
    ) -> Result<i64> {
        let Some(id) = entry.id else { return Ok(0) };
        if entry.kind == Kind::Dir {
            let moved = self.tree(to, id, path, depth + 1)?;
            entry.id = Some(moved.id);
            return Ok(moved.grown);
        }
        if entry.secret && !self.reader.has_object(&id)? {
            self.secret(to, &id)?;
            return Ok(0);
        }
        let Some(moved) = self.bytes(to, &id)? else {
            self.noted.unseen.insert(path.to_owned());
            return Ok(0);
        };
        if !moved.changed {
            return Ok(0);
        }
        let grown = moved.len.saturating_sub(entry.size) as i64
            - entry.size.saturating_sub(moved.len) as i64;
        (entry.id, entry.size) = (Some(moved.id), moved.len);
        Ok(grown)
    }

    /// The content of a secret file: it is in the store, to stay there, unless somebody bundled it. Returns where it is now.
    pub(super) fn secret(
        &mut self,
        to: &mut Rewriter<TraceFile>,
        id: &ObjectId,
    ) -> Result<Option<ObjectId>> {
        if self.reader.has_object(id)? {
            return Ok(self.bytes(to, id)?.map(|moved| moved.id));
        }
        if self.content(id)?.is_some_and(|content| self.pattern.is_in(&content)) {
            self.note_store(id)?;
        }
        Ok(None)
    }

    fn content(&self, id: &ObjectId) -> Result<Option<Vec<u8>>> {
        match self.sources.get(id) {
            Err(StoreError::Corrupt(_)) => Ok(None),
            content => Ok(content?),
        }
    }

    fn note_store(&mut self, id: &ObjectId) -> Result<()> {
        if self.sources.is_own(id)? {
            self.noted.in_store.insert(*id);
        }
        Ok(())
    }
}

/// Puts names in order again; two that became one get numbers.
fn settle_names(tree: &mut Tree) {
    let mut taken: BTreeSet<Vec<u8>> = BTreeSet::new();
    for entry in &mut tree.entries {
        let name = entry.name.to_vec();
        let numbered = |n: usize| match n {
            1 => name.clone(),
            _ => {
                let end = format!("~{n}");
                let room = name.len().min(MAX_NAME - end.len());
                [&name[..room], end.as_bytes()].concat()
            }
        };
        let free = (1..).map(numbered).find(|name| !taken.contains(name)).unwrap_or_default();
        taken.insert(free.clone());
        entry.name = free.into();
    }
    tree.entries.sort_by(|a, b| a.name.cmp(&b.name));
}
