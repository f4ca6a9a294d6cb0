//! Restores a tree into a directory that does not exist yet.
//!
//! It is built under the name `<target>.partial` and renamed when it is whole: whoever finds such a name knows that a
//! restore was interrupted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agentrec_store::{Entry, Kind, Objects, ProgressFn, Tree, TreeBudget};
use agentrec_trace::ObjectId;

use super::dir::Dir;
use super::node::NodeWriter;
use super::only::Only;
use super::{MissingReason, Restored};
use crate::error::{Context, Error, Result};
use crate::sources::Sources;

/// Restores `tree` as the new directory `target` (or an empty one), with the entries that `only` means.
pub fn restore_new(
    sources: &Sources<'_>,
    tree: ObjectId,
    target: &Path,
    only: Option<&Only>,
    progress: Option<&ProgressFn>,
) -> Result<Restored> {
    if target.symlink_metadata().is_ok() && !is_empty_dir(target) {
        return Err(Error::Exists { path: target.to_owned() });
    }
    if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).context("create", parent)?;
    }
    let partial = partial_name(target);
    match fs::create_dir(&partial) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::Partial { path: partial });
        }
        other => other.context("create", &partial)?,
    }
    let restored = write_tree(sources, tree, &partial, only, progress)?;
    fs::rename(&partial, target).context("rename to", target)?;
    Ok(restored)
}

fn write_tree(
    sources: &Sources<'_>,
    tree: ObjectId,
    partial: &Path,
    only: Option<&Only>,
    progress: Option<&ProgressFn>,
) -> Result<Restored> {
    let trusted = sources.is_own(&tree)?;
    let root = Dir::open(partial).context("open", partial)?;
    let mut fresh = Fresh {
        objects: sources,
        nodes: NodeWriter::new(sources, trusted, progress),
        budget: TreeBudget::default(),
        root: &root,
        only,
    };
    let tree = fresh.budget.load(sources, tree, 0)?;
    fresh.directory(&root, &tree, Path::new(""), 0)?;
    Ok(fresh.nodes.report)
}

/// The name under which a restore is built.
fn partial_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn is_empty_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
        && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

struct Fresh<'a> {
    objects: &'a dyn Objects,
    nodes: NodeWriter<'a>,
    budget: TreeBudget,
    root: &'a Dir,
    only: Option<&'a Only>,
}

impl Fresh<'_> {
    /// Fills an open directory; its own attributes come last, or writing would change them. Returns whether anything was
    /// put there.
    fn directory(&mut self, dir: &Dir, tree: &Tree, path: &Path, depth: usize) -> Result<bool> {
        let mut any = false;
        for entry in &tree.entries {
            let path = path.join(entry.os_name());
            any |= match entry.kind {
                Kind::Dir => self.subdirectory(dir, entry, &path, depth + 1)?,
                _ if !self.means(&path) => false,
                _ => self.node(dir, entry, &path)?,
            };
        }
        self.nodes.set_meta(dir.file(), &tree.meta, path);
        Ok(any)
    }

    fn node(&mut self, dir: &Dir, entry: &Entry, path: &Path) -> Result<bool> {
        let there = self.nodes.write(self.root, dir, entry.os_name(), entry, path)?;
        if there {
            self.nodes.written(entry, path);
        }
        Ok(there)
    }

    fn subdirectory(
        &mut self,
        dir: &Dir,
        entry: &Entry,
        path: &Path,
        depth: usize,
    ) -> Result<bool> {
        let meant = self.means(path);
        let tree = match (entry.id, entry.left_out) {
            (Some(id), _) => match self.budget.load(self.objects, id, depth) {
                Err(agentrec_store::Error::Missing(_)) => Err(MissingReason::NotHere),
                Err(agentrec_store::Error::Corrupt(_)) => Err(MissingReason::Damaged),
                other => Ok(other?),
            },
            (None, Some(reason)) => Err(MissingReason::LeftOut(reason)),
            (None, None) => Err(MissingReason::NotHere),
        };
        let tree = match tree {
            Ok(tree) => tree,
            Err(reason) => {
                if meant {
                    self.nodes.missing(path, reason);
                }
                return Ok(false);
            }
        };
        let name = entry.os_name();
        let sub = dir.make(name).context("create", path)?;
        let any = self.directory(&sub, &tree, path, depth)?;
        if !any && !meant {
            dir.rmdir(name).context("remove", path)?;
        }
        Ok(any || meant)
    }

    fn means(&self, path: &Path) -> bool {
        self.only.is_none_or(|only| only.matches(path))
    }
}
