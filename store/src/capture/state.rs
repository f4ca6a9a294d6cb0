//! What a capture leaves for the next one: totals, lists by path, and which names are one file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentrec_trace::ObjectId;

use super::Omission;
use super::rules::Rules;
use crate::cache::Folder;
use crate::error::Result;
use crate::objects::Objects;
use crate::tree::{Entry, Kind, LeftOut, Tree};

/// Entries of tree objects that are kept decoded, some 250 bytes each.
const CACHED_ENTRIES: usize = 40_000;

/// What is known of a tree that was captured. It grows with what is out of the ordinary in the tree, not with its files.
pub(super) struct State {
    pub(super) tree: ObjectId,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) left_out: BTreeMap<PathBuf, (LeftOut, u64)>,
    pub(super) torn: BTreeSet<PathBuf>,
    pub(super) secrets: BTreeSet<PathBuf>,
    pub(super) ignored: BTreeSet<PathBuf>,
    pub(super) links: Links,
    pub(super) rules: Rules,
    pub(super) trees: Trees,
    /// The inode of each directory that was captured, by its tree object; of one, where several are the same.
    pub(super) inodes: HashMap<ObjectId, u64>,
    /// How deep the deepest directory ever lay.
    pub(super) deepest: usize,
    /// When the last capture began, by the clock that files are stamped with: nanoseconds since 1970.
    pub(super) began: i64,
    /// Where directories lay that were taken elsewhere, along with what is known of them.
    pub(super) moved: BTreeSet<PathBuf>,
    pub(super) renamed: Renamed,
    /// Something was left out because of the limit for the tree: what else fits depends on the order of the walk.
    pub(super) capped: bool,
}

impl State {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            tree: ObjectId::default(),
            files: 0,
            bytes: 0,
            left_out: BTreeMap::new(),
            torn: BTreeSet::new(),
            secrets: BTreeSet::new(),
            ignored: BTreeSet::new(),
            links: Links::default(),
            rules,
            trees: Trees::default(),
            inodes: HashMap::new(),
            deepest: 0,
            began: i64::MIN,
            moved: BTreeSet::new(),
            renamed: Renamed::default(),
            capped: false,
        }
    }

    /// Takes back what was noted of what lies at a path and below.
    pub(super) fn forget_below(&mut self, path: &Path) {
        self.take_below(path);
        self.rules.forget_below(path);
    }

    /// Takes what lay at a path out of the totals, with all below it that was not taken elsewhere.
    pub(super) fn subtract(
        &mut self,
        objects: &dyn Objects,
        entry: &Entry,
        path: &Path,
    ) -> Result<()> {
        if self.moved.contains(path) {
            return Ok(());
        }
        match (entry.kind, entry.id) {
            (Kind::File, Some(_)) => {
                self.files = self.files.saturating_sub(1);
                self.bytes = self.bytes.saturating_sub(entry.size);
            }
            (Kind::Dir, Some(id)) => {
                let tree = self.trees.load(objects, id)?;
                self.inodes.remove(&id);
                for entry in &tree.entries {
                    self.subtract(objects, entry, &path.join(entry.os_name()))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes out what is out of the ordinary at a path and below.
    pub(super) fn take_below(&mut self, path: &Path) -> Noted {
        let gone: Vec<_> = below(&self.left_out, path).map(|(path, _)| path.clone()).collect();
        let left_out = gone.into_iter().filter_map(|path| self.left_out.remove_entry(&path));
        let left_out = left_out.collect();
        let [torn, secrets, ignored] =
            [&mut self.torn, &mut self.secrets, &mut self.ignored].map(|set| {
                let below = set.range(path.to_owned()..).take_while(|p| p.starts_with(path));
                let gone: Vec<_> = below.cloned().collect();
                for path in &gone {
                    set.remove(path);
                }
                gone
            });
        let links = self.links.take_below(path);
        Noted { at: path.to_owned(), left_out, torn, secrets, ignored, links }
    }

    /// Puts back what was taken, for the same directory at `path`.
    pub(super) fn put(&mut self, noted: Noted, path: &Path) {
        let moved = |former: PathBuf| renamed(&former, &noted.at, path);
        let left_out = noted.left_out.into_iter();
        self.left_out.extend(left_out.map(|(former, why)| (moved(former), why)));
        self.torn.extend(noted.torn.into_iter().map(moved));
        self.secrets.extend(noted.secrets.into_iter().map(moved));
        self.ignored.extend(noted.ignored.into_iter().map(moved));
        for (former, ino, count) in noted.links {
            self.links.add(ino, &moved(former), count);
        }
    }

    /// Takes over what is out of the ordinary in a directory that is as it was.
    pub(super) fn note(&mut self, folder: &Folder<'_>) {
        let path = Path::new(OsStr::from_bytes(folder.path));
        self.deepest = self.deepest.max(path.components().count());
        self.inodes.insert(folder.tree, folder.moment.ino);
        if folder.is_derived() {
            self.ignored.insert(path.to_owned());
        }
        if !folder.is_special() {
            return;
        }
        for item in folder.items() {
            let path = path.join(OsStr::from_bytes(item.name.to_bytes()));
            if item.links > 1 {
                self.links.add(item.moment.ino, &path, item.links);
            }
            if item.is_secret() {
                self.secrets.insert(path);
            }
        }
    }

    pub(super) fn omissions(&self) -> Vec<Omission> {
        let omission = |(path, &(reason, size)): (&PathBuf, &(LeftOut, u64))| {
            let path = path.clone();
            Omission { path, reason, size }
        };
        self.left_out.iter().map(omission).collect()
    }
}

/// Directories that the last capture found at other names than the one before it.
#[derive(Default)]
pub(super) struct Renamed {
    /// The tree of the one before.
    pub(super) since: ObjectId,
    /// The names before, and the names now.
    pub(super) names: Vec<(PathBuf, PathBuf)>,
}

/// What is out of the ordinary at a path and below.
pub(super) struct Noted {
    at: PathBuf,
    left_out: Vec<(PathBuf, (LeftOut, u64))>,
    torn: Vec<PathBuf>,
    secrets: Vec<PathBuf>,
    ignored: Vec<PathBuf>,
    links: Vec<(PathBuf, u64, u64)>,
}

/// The path, at or below `from`, once that is called `to`.
pub(super) fn renamed(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// What stands in a map at a path and below it: paths are ordered by component.
fn below<'m, V>(
    map: &'m BTreeMap<PathBuf, V>,
    path: &'m Path,
) -> impl Iterator<Item = (&'m PathBuf, &'m V)> {
    map.range(path.to_owned()..).take_while(move |(key, _)| key.starts_with(path))
}

/// Names that share a file with others.
#[derive(Default)]
pub(super) struct Links {
    groups: HashMap<u64, Group>,
    inodes: BTreeMap<PathBuf, u64>,
}

struct Group {
    paths: BTreeSet<PathBuf>,
    /// How many names the file had when one of them was looked at last.
    count: u64,
}

impl Links {
    pub(super) fn add(&mut self, ino: u64, path: &Path, count: impl Into<u64>) {
        // A `nlink_t`, whose width depends on the architecture.
        let count = count.into();
        let group = self.groups.entry(ino);
        let group = group.or_insert_with(|| Group { paths: BTreeSet::new(), count });
        group.count = count;
        group.paths.insert(path.to_owned());
        self.inodes.insert(path.to_owned(), ino);
    }

    /// The names of a file.
    pub(super) fn names(&self, ino: u64) -> impl Iterator<Item = &PathBuf> {
        self.groups.get(&ino).into_iter().flat_map(|group| &group.paths)
    }

    /// The files with several names at a path and below it.
    pub(super) fn inodes_below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = u64> + 'a {
        below(&self.inodes, path).map(|(_, &ino)| ino)
    }

    /// The files that have names elsewhere.
    pub(super) fn with_outer_names(&self) -> impl Iterator<Item = u64> {
        let outer = |group: &Group| group.count > group.paths.len() as u64;
        self.groups.iter().filter(move |(_, group)| outer(group)).map(|(&ino, _)| ino)
    }

    /// Takes out the names at a path and below: each with its inode, and how many names the file had.
    fn take_below(&mut self, path: &Path) -> Vec<(PathBuf, u64, u64)> {
        let gone: Vec<_> =
            below(&self.inodes, path).map(|(path, &ino)| (path.clone(), ino)).collect();
        let mut taken = Vec::with_capacity(gone.len());
        for (path, ino) in gone {
            self.inodes.remove(&path);
            let Some(group) = self.groups.get_mut(&ino) else { continue };
            group.paths.remove(&path);
            taken.push((path, ino, group.count));
            if group.paths.is_empty() {
                self.groups.remove(&ino);
            }
        }
        taken
    }
}

/// Decoded tree objects: a snapshot looks at those of the one before.
#[derive(Default)]
pub(super) struct Trees {
    known: HashMap<ObjectId, Arc<Tree>>,
    entries: usize,
}

impl Trees {
    pub(super) fn load(&mut self, objects: &dyn Objects, id: ObjectId) -> Result<Arc<Tree>> {
        if let Some(tree) = self.known.get(&id) {
            return Ok(Arc::clone(tree));
        }
        let tree = Arc::new(Tree::load(objects, id)?);
        self.add(id, Arc::clone(&tree));
        Ok(tree)
    }

    pub(super) fn add(&mut self, id: ObjectId, tree: Arc<Tree>) {
        let entries = tree.entries.len();
        if self.entries + entries > CACHED_ENTRIES {
            self.known.clear();
            self.entries = 0;
        }
        if self.known.insert(id, tree).is_none() {
            self.entries += entries;
        }
    }
}
