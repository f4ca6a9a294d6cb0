//! What differs between two trees, entry by entry. Equal directories are recognised by their hash and not opened.

use std::path::{Path, PathBuf};

use agentrec_trace::ObjectId;

use crate::error::Result;
use crate::objects::Objects;
use crate::tree::{Entry, Kind, Meta, Tree, TreeBudget};

/// How an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Deleted,
    /// It is of another kind: a file has become a link, say.
    Type,
    /// A file's content or a link's target.
    Content,
    /// Mode, owner or extended attributes, and not the content.
    Attributes,
    /// The modification time alone.
    Time,
    /// The content was left out of at least one of the trees, so nobody can tell.
    Unknown,
}

/// One difference between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Relative to the root; empty for the root itself.
    pub path: PathBuf,
    /// How it differs.
    pub kind: ChangeKind,
    /// In the first tree. A directory has its own attributes here.
    pub before: Option<Entry>,
    /// In the second tree. A directory has its own attributes here.
    pub after: Option<Entry>,
}

impl Change {
    /// The entry of the second tree, or of the first where there is no second.
    pub fn entry(&self) -> &Entry {
        self.after.as_ref().or(self.before.as_ref()).expect("a change has one of the two")
    }
}

/// The differences between two trees in path order, what is inside a directory after the directory itself.
///
/// A directory that only one tree has is listed with everything in it. The modification times of directories are not
/// compared: they follow from the rest.
pub fn diff_trees(objects: &dyn Objects, before: ObjectId, after: ObjectId) -> Result<Vec<Change>> {
    let mut diff = Diff { objects, changes: Vec::new(), budget: TreeBudget::default() };
    let root = |id| Entry { kind: Kind::Dir, id: Some(id), ..Entry::default() };
    if before != after {
        diff.entry(Path::new(""), 0, Some(root(before)), Some(root(after)))?;
    }
    Ok(diff.changes)
}

struct Diff<'a> {
    objects: &'a dyn Objects,
    changes: Vec<Change>,
    budget: TreeBudget,
}

impl Diff<'_> {
    fn entry(
        &mut self,
        path: &Path,
        depth: usize,
        before: Option<Entry>,
        after: Option<Entry>,
    ) -> Result<()> {
        if let (Some(before), Some(after)) = (&before, &after)
            && before.kind == Kind::Dir
            && after.kind == Kind::Dir
            && before.id.is_some()
            && before.id == after.id
        {
            return Ok(());
        }
        let (before, tree_before) = self.open(before, depth)?;
        let (after, tree_after) = self.open(after, depth)?;
        if let Some(kind) = compare(before.as_ref(), after.as_ref()) {
            self.changes.push(Change {
                path: path.to_owned(),
                kind,
                before: before.clone(),
                after: after.clone(),
            });
        }
        // What is below a directory that the other tree left out, nobody can compare.
        let left_out =
            |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.left_out.is_some());
        if left_out(&before) || left_out(&after) {
            return Ok(());
        }
        let mut before = tree_before.unwrap_or_default().entries.into_iter().peekable();
        let mut after = tree_after.unwrap_or_default().entries.into_iter().peekable();
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(before), Some(after)) => before.name.cmp(&after.name),
            };
            let first = if order.is_le() { before.next() } else { None };
            let second = if order.is_ge() { after.next() } else { None };
            if first == second {
                continue;
            }
            let name = first.as_ref().or(second.as_ref()).map(Entry::os_name).unwrap_or_default();
            let path = path.join(name);
            self.entry(&path, depth + 1, first, second)?;
        }
    }

    /// The entry with a directory's own attributes, and its tree.
    fn open(
        &mut self,
        entry: Option<Entry>,
        depth: usize,
    ) -> Result<(Option<Entry>, Option<Tree>)> {
        let Some(mut entry) = entry else { return Ok((None, None)) };
        let Some(id) = entry.id.filter(|_| entry.kind == Kind::Dir) else {
            return Ok((Some(entry), None));
        };
        let mut tree = self.budget.load(self.objects, id, depth)?;
        entry.meta = std::mem::take(&mut tree.meta);
        Ok((Some(entry), Some(tree)))
    }
}

/// How two entries of the same name differ; none where they don't.
fn compare(before: Option<&Entry>, after: Option<&Entry>) -> Option<ChangeKind> {
    let (before, after) = match (before, after) {
        (Some(before), Some(after)) => (before, after),
        (None, Some(_)) => return Some(ChangeKind::Added),
        (Some(_), None) => return Some(ChangeKind::Deleted),
        (None, None) => return None,
    };
    let left_out = before.left_out.is_some() || after.left_out.is_some();
    if before.kind != after.kind {
        return Some(if left_out { ChangeKind::Unknown } else { ChangeKind::Type });
    }
    let is_dir = before.kind == Kind::Dir;
    if left_out && (is_dir || before.size != after.size || before.meta.mtime != after.meta.mtime) {
        // A directory that both left out may have changed inside.
        return (!is_dir || before.left_out != after.left_out).then_some(ChangeKind::Unknown);
    }
    let content_differs = !is_dir && !left_out && before.id != after.id;
    if content_differs || before.target != after.target {
        return Some(ChangeKind::Content);
    }
    let attributes = |meta: &Meta| (meta.mode, meta.uid, meta.gid);
    if attributes(&before.meta) != attributes(&after.meta)
        || before.meta.xattrs != after.meta.xattrs
    {
        return Some(ChangeKind::Attributes);
    }
    (!is_dir && before.meta.mtime != after.meta.mtime).then_some(ChangeKind::Time)
}
