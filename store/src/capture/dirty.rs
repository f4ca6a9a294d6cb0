//! What may have changed below a root since it was captured last: names, each with how much of it is in doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// What is in doubt at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// Nothing of its own: the path leads to something that changed.
    #[default]
    Way,
    /// Content or attributes; it is still the file or directory that it was.
    Content,
    /// The name may stand for another file or directory, or for none.
    Name,
}

/// The paths below one root that have to be looked at again, relative to the root and without symbolic links on the way.
#[derive(Clone, Debug, Default)]
pub struct Dirty {
    pub(super) root: Node,
    pub(super) inodes: BTreeSet<u64>,
    pub(super) outer_links: bool,
    /// Names to which directories may have been renamed, each with those that such a one may have had before.
    pub(super) renamed: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    paths: usize,
}

/// A name in [`Dirty`], and what is in doubt below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) touch: Touch,
    pub(super) children: BTreeMap<OsString, Node>,
}

impl Dirty {
    /// Adds a path, relative to the root; the empty one is the root itself.
    pub fn touch(&mut self, path: &Path, touch: Touch) {
        let mut node = &mut self.root;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            node = node.children.entry(name.to_owned()).or_default();
        }
        self.paths += usize::from(node.touch == Touch::Way);
        node.touch = node.touch.max(touch);
    }

    /// Adds a file by its inode on the root's device: one that was changed by a name outside of the root.
    pub fn touch_inode(&mut self, ino: u64) {
        self.inodes.insert(ino);
    }

    /// Names outside of the root went, which may have been further names of files inside.
    pub fn outer_links_changed(&mut self) {
        self.outer_links = true;
    }

    /// A directory may have been renamed to `to`, and `names` are those that it may have had since the last capture, all
    /// relative to the root. What changed in it has to be in doubt by the name that it has now.
    pub fn renamed(&mut self, to: &Path, names: impl IntoIterator<Item = PathBuf>) {
        self.renamed.entry(to.to_owned()).or_default().extend(names);
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.paths
    }

    /// Whether nothing is in doubt.
    pub fn is_empty(&self) -> bool {
        self.paths == 0 && self.inodes.is_empty() && !self.outer_links
    }

    /// Every path that is in doubt itself.
    pub(super) fn paths(&self) -> Vec<(PathBuf, Touch)> {
        let mut found = Vec::new();
        self.root.collect(&mut PathBuf::new(), &mut found);
        found
    }
}

impl Node {
    /// What is in doubt at a path and below.
    pub(super) fn at(&self, path: &Path) -> Option<&Node> {
        path.components().try_fold(self, |node, it| node.children.get(it.as_os_str()))
    }

    /// A name that may stand for anything.
    pub(super) fn name() -> Self {
        Self { touch: Touch::Name, children: BTreeMap::new() }
    }

    /// Something whose content is in doubt.
    pub(super) fn content() -> Self {
        Self { touch: Touch::Content, children: BTreeMap::new() }
    }

    pub(super) fn child(&self, name: &str) -> Option<&Node> {
        self.children.get(OsStr::new(name))
    }

    fn collect(&self, path: &mut PathBuf, found: &mut Vec<(PathBuf, Touch)>) {
        if self.touch > Touch::Way {
            found.push((path.clone(), self.touch));
        }
        for (name, child) in &self.children {
            path.push(name);
            child.collect(path, found);
            path.pop();
        }
    }
}
