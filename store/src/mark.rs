//! Which objects something still names: everything that the snapshots of traces need, and whatever else an event names.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agentrec_trace::{Data, ObjectId, Reader, SnapshotIndex};

use crate::error::{Context, Result};
use crate::home::{create_private_dir, files_in};
use crate::objects::{Objects, Store};
use crate::tree::{Kind, Tree, TreeBudget};

/// An object that a snapshot names and nobody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingObject {
    /// The trace.
    pub trace: PathBuf,
    /// The snapshot.
    pub snapshot: SnapshotIndex,
    /// Where it belongs: the root and the path below it.
    pub path: PathBuf,
    /// The object.
    pub id: ObjectId,
}

impl Store {
    /// Keeps a tree for good with all that is in it, though no snapshot names it: what was saved before something was
    /// overwritten.
    pub fn pin(&self, tree: &ObjectId) -> Result<()> {
        let dir = self.pins();
        create_private_dir(&dir)?;
        let path = dir.join(tree.to_string());
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        file.and_then(|file| file.sync_all()).context("create", &path)?;
        File::open(&dir).and_then(|dir| dir.sync_all()).context("sync", &dir)
    }

    /// Every tree that is kept for good, with the time since when.
    pub fn pinned(&self) -> Result<Vec<(ObjectId, SystemTime)>> {
        let mut pinned = Vec::new();
        for path in files_in(&self.pins())? {
            let Some(id) = pinned_tree(&path) else { continue };
            let metadata = path.metadata().context("read", &path)?;
            pinned.push((id, metadata.modified().context("read", &path)?));
        }
        pinned.sort_by_key(|(_, since)| *since);
        Ok(pinned)
    }

    /// Keeps a tree no longer for its own sake.
    pub fn unpin(&self, tree: &ObjectId) -> Result<()> {
        let path = self.pins().join(tree.to_string());
        fs::remove_file(&path).context("remove", &path)
    }

    fn pins(&self) -> PathBuf {
        self.data_dir().join("saved")
    }
}

fn pinned_tree(path: &Path) -> Option<ObjectId> {
    path.file_name()?.to_str()?.parse().ok()
}

/// What was found to be named.
#[derive(Debug)]
pub(crate) struct Marks<'s> {
    store: &'s Store,
    /// Objects of the store that something names.
    pub(crate) live: HashSet<ObjectId>,
    /// Snapshots that were followed.
    pub(crate) snapshots: u64,
    /// What they name and neither the store nor their trace has.
    pub(crate) missing: Vec<MissingObject>,
}

/// Where an object is named.
struct Place<'a> {
    reader: &'a Reader,
    trace: &'a Path,
    snapshot: SnapshotIndex,
}

impl<'s> Marks<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store, live: HashSet::new(), snapshots: 0, missing: Vec::new() }
    }

    /// Marks what the trace at `path` names.
    ///
    /// # Errors
    /// [`crate::Error::Trace`] where it can't be read to its end.
    pub(crate) fn trace(&mut self, path: &Path) -> Result<()> {
        let unreadable = |source| crate::Error::Trace { path: path.to_owned(), source };
        let reader = Reader::open(path).map_err(unreadable)?;
        let mut named = HashSet::new();
        let mut snapshots = Vec::new();
        let read = reader.for_each(|event| {
            if let Data::SnapshotCreated(created) = &event.data {
                for root in &created.roots {
                    snapshots.push((created.index, root.path.as_path().to_owned(), root.tree));
                }
            }
            addresses(&event.data, &mut named);
        });
        read.map_err(unreadable)?;
        for (snapshot, root, tree) in snapshots {
            self.snapshots += 1;
            named.remove(&tree);
            let place = Place { reader: &reader, trace: path, snapshot };
            // Else somebody else's recorder read it, and its trace has what there is.
            if self.store.contains(&tree)? {
                self.tree(&place, tree, &root, 0, &mut TreeBudget::default())?;
            } else if !reader.has_object(&tree).unwrap_or(false) {
                self.miss(&place, &root, tree);
            }
        }
        for id in named {
            if self.store.contains(&id)? {
                self.object(id)?;
            }
        }
        Ok(())
    }

    /// Marks what is kept for good.
    pub(crate) fn pinned(&mut self) -> Result<()> {
        for path in files_in(&self.store.pins())? {
            if let Some(id) = pinned_tree(&path) {
                self.object(id)?;
            }
        }
        Ok(())
    }

    /// Marks whatever the bytes of a file could name: operations of undo, in a form that this need not know.
    pub(crate) fn file(&mut self, path: &Path) -> Result<()> {
        let mut named = HashSet::new();
        addresses_in(&fs::read(path).context("read", path)?, &mut named);
        for id in named {
            if self.store.contains(&id)? {
                self.object(id)?;
            }
        }
        Ok(())
    }

    /// Marks an object, and what is in it where it is a tree.
    pub(crate) fn object(&mut self, id: ObjectId) -> Result<()> {
        if !self.live.insert(id) {
            return Ok(());
        }
        self.live.extend(self.store.chunks(&id)?);
        if let Ok(tree) = Tree::load(self.store, id) {
            for entry in tree.entries.iter().filter_map(|entry| entry.id) {
                self.object(entry)?;
            }
        }
        Ok(())
    }

    fn tree(
        &mut self,
        place: &Place<'_>,
        id: ObjectId,
        path: &Path,
        depth: usize,
        budget: &mut TreeBudget,
    ) -> Result<()> {
        if !self.live.insert(id) {
            return Ok(());
        }
        self.live.extend(self.store.chunks(&id)?);
        let tree = match budget.load(self.store, id, depth) {
            Ok(tree) => tree,
            // The check of all objects names it.
            Err(crate::Error::Corrupt(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in &tree.entries {
            let Some(id) = entry.id else { continue };
            let path = path.join(entry.os_name());
            if !self.store.contains(&id)? {
                if entry.secret || !place.reader.has_object(&id).unwrap_or(false) {
                    self.miss(place, &path, id);
                }
            } else if entry.kind == Kind::Dir {
                self.tree(place, id, &path, depth + 1, budget)?;
            } else if self.live.insert(id) {
                let chunks = self.store.chunks(&id)?;
                for chunk in &chunks {
                    if !self.store.contains(chunk)? {
                        self.miss(place, &path, *chunk);
                    }
                }
                self.live.extend(chunks);
            }
        }
        Ok(())
    }

    fn miss(&mut self, place: &Place<'_>, path: &Path, id: ObjectId) {
        let (trace, snapshot, path) = (place.trace.to_owned(), place.snapshot, path.to_owned());
        self.missing.push(MissingObject { trace, snapshot, path, id });
    }
}

/// Everything in an event that could be an address: 32 bytes as MessagePack writes them. Whatever events come to be, what
/// they name is not taken for garbage.
fn addresses(data: &Data<'_>, found: &mut HashSet<ObjectId>) {
    let mut bytes = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    if data.serialize_fields(&mut serializer).is_ok() {
        addresses_in(&bytes, found);
    }
}

fn addresses_in(bytes: &[u8], found: &mut HashSet<ObjectId>) {
    const BIN8_OF_32: [u8; 2] = [0xc4, 32];
    for (at, window) in bytes.windows(2).enumerate() {
        if window == BIN8_OF_32
            && let Some(id) = bytes.get(at + 2..).and_then(|rest| rest.first_chunk())
        {
            found.insert(ObjectId(*id));
        }
    }
}
