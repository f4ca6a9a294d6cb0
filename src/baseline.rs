//! Which paths were there when the session started, from the tree of its first snapshot.

use std::cell::RefCell;
use std::collections::HashMap;

use agentrec_replay::Sources;
use agentrec_store::{Store, Tree};
use agentrec_trace::{ObjectId, Reader};

use crate::digest::{Digest, suffix_below};

/// The trees of the first snapshot, loaded as they are asked for.
pub struct Baseline<'a> {
    sources: Sources<'a>,
    roots: Vec<(Vec<u8>, ObjectId)>,
    trees: RefCell<HashMap<ObjectId, Option<Tree>>>,
}

impl<'a> Baseline<'a> {
    /// Of the session that `digest` analysed.
    pub fn new(reader: &'a Reader, store: Option<&'a Store>, digest: &Digest) -> Self {
        let roots = digest.snapshots.first().map(|snapshot| &snapshot.created.roots);
        let roots =
            roots.into_iter().flatten().map(|root| (root.path.to_vec(), root.tree)).collect();
        Self { sources: Sources::new(reader, store), roots, trees: RefCell::default() }
    }

    /// Whether `path` was there; none outside the roots and where a tree is not at hand.
    pub fn existed(&self, path: &[u8]) -> Option<bool> {
        self.find(path).map(|found| !matches!(found, Found::No))
    }

    /// Whether the snapshot says that the file at `path` holds secrets.
    pub fn is_secret(&self, path: &[u8]) -> bool {
        matches!(self.find(path), Some(Found::Yes { secret: true, .. }))
    }

    /// What the symbolic link at `path` holds.
    pub fn link(&self, path: &[u8]) -> Option<Vec<u8>> {
        match self.find(path) {
            Some(Found::Yes { target, .. }) => target,
            _ => None,
        }
    }

    /// What was at `path`; none outside the roots and where a tree is not at hand.
    fn find(&self, path: &[u8]) -> Option<Found> {
        let inside =
            |(root, tree): &(Vec<u8>, ObjectId)| Some((suffix_below(path, root)?.to_vec(), *tree));
        // One root lies in another where something is mounted.
        let (rest, mut tree) =
            self.roots.iter().filter_map(inside).min_by_key(|(rest, _)| rest.len())?;
        let mut names = rest.split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            let found = self.entry(tree, name)?;
            match (found, names.peek()) {
                (Found::No | Found::Yes { .. }, Some(_)) => return Some(Found::No),
                (Found::Directory(id), Some(_)) => tree = id,
                (Found::LeftOut, Some(_)) => return None,
                (found, None) => return Some(found),
            }
        }
        Some(Found::Directory(tree))
    }

    fn entry(&self, tree: ObjectId, name: &[u8]) -> Option<Found> {
        let mut trees = self.trees.borrow_mut();
        let tree =
            trees.entry(tree).or_insert_with(|| Tree::load(&self.sources, tree).ok()).as_ref()?;
        Some(match tree.entry(name) {
            None => Found::No,
            Some(entry) if entry.kind != agentrec_store::Kind::Dir => Found::Yes {
                secret: entry.secret,
                target: entry.target.as_ref().map(|target| target.to_vec()),
            },
            Some(entry) => entry.id.map_or(Found::LeftOut, Found::Directory),
        })
    }
}

enum Found {
    No,
    Yes { secret: bool, target: Option<Vec<u8>> },
    Directory(ObjectId),
    LeftOut,
}
