//! What a path was before and after a span, as snapshots and kept contents tell it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use agentrec_store::{Entry, Kind, Meta, Objects};
use agentrec_trace::event::{FileKept, SnapshotCreated};
use agentrec_trace::{ObjectId, Seq};
use serde_bytes::ByteBuf;

use super::present::anchor;
use super::{Record, Touch};
use crate::error::Result;
use crate::lookup::{Found, Lookup};

/// Links on the way of one path that are followed.
const MAX_LINKS: usize = 16;

/// The states of a session.
pub(super) struct States<'a> {
    record: &'a Record<'a>,
    lookup: Lookup<'a>,
    kept: HashMap<PathBuf, Vec<(Seq, &'a FileKept<'static>)>>,
    roots: Vec<PathBuf>,
}

/// A state at a moment of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) state: Option<Entry>,
    /// The event that tells it.
    pub(super) seq: Seq,
}

/// What was there before.
pub(super) enum Before {
    At(At),
    /// The span made it, and no snapshot holds the place.
    Made,
    /// It was kept, perhaps too late.
    Late(At),
    /// The file had other names as well.
    OtherNames(At),
    /// Its content was left out.
    LeftOut(Entry),
    /// Its content was not kept.
    NotKept,
    /// Nobody knows.
    NotRecorded,
}

impl<'a> States<'a> {
    pub(super) fn new(record: &'a Record<'a>, objects: &'a dyn Objects) -> Self {
        let mut kept: HashMap<PathBuf, Vec<_>> = HashMap::new();
        for (seq, event) in record.kept {
            for path in [Some(&event.path), event.real.as_ref()].into_iter().flatten() {
                kept.entry(path.as_path().to_owned()).or_default().push((*seq, event));
            }
        }
        let mut roots: Vec<PathBuf> = Vec::new();
        for (_, snapshot) in &record.snapshots {
            for root in &snapshot.roots {
                if !roots.iter().any(|known| known == root.path.as_path()) {
                    roots.push(root.path.as_path().to_owned());
                }
            }
        }
        Self { record, lookup: Lookup::new(objects), kept, roots }
    }

    /// The root that a path lies in, and the rest of it.
    pub(super) fn split<'p>(&self, path: &'p Path) -> Option<(PathBuf, &'p Path)> {
        // One root lies in another where something is mounted.
        let roots =
            self.roots.iter().filter_map(|root| Some((root, path.strip_prefix(root).ok()?)));
        let (root, rest) = roots.min_by_key(|(_, rest)| rest.iter().count())?;
        Some((root.clone(), rest))
    }

    /// Where the path of a touch leads, as far as the snapshots around it tell of links; the last name is followed only where the
    /// acts followed it.
    pub(super) fn settle(&mut self, touch: &Touch) -> Result<PathBuf> {
        let mut path = touch.path.clone();
        if path.components().any(|component| component == Component::ParentDir)
            && let Some((above, rest)) = anchor(&path)
        {
            path = above.join(rest);
        }
        for _ in 0..MAX_LINKS {
            let Some((root, rest)) = self.split(&path) else { break };
            let rest = rest.to_owned();
            let mut link = None;
            let mut other = false;
            for tree in self.around(touch, &root) {
                match self.lookup.find(tree, &rest)? {
                    Found::Link(at, target) => link = link.or(Some((at, target))),
                    Found::Entry(entry) => match &entry.target {
                        Some(target) if touch.follows => {
                            link = link.or(Some((rest.clone(), target.to_vec())));
                        }
                        _ => other = true,
                    },
                    Found::Nothing | Found::LeftOut(_) => {}
                }
            }
            // What was a link at one time and is none at another was changed itself.
            let Some((at, target)) = link.filter(|_| !other) else { break };
            let behind = rest.strip_prefix(&at).unwrap_or(Path::new(""));
            let above = at.parent().unwrap_or(Path::new(""));
            path = plain(&root.join(above).join(OsStr::from_bytes(&target)).join(behind));
        }
        if self.split(&path).is_none()
            && let Some(all) = self.kept.get(&path)
            && let Some(real) = all
                .iter()
                .rfind(|(seq, _)| *seq < touch.first)
                .and_then(|(_, event)| event.real.as_ref())
        {
            path = plain(real.as_path());
        }
        Ok(path)
    }

    /// The state that the span found.
    pub(super) fn before(&mut self, touch: &Touch) -> Result<Before> {
        let Some((root, rest)) = self.split(&touch.path) else {
            return Ok(self.kept_before(touch));
        };
        let rest = rest.to_owned();
        let earlier = self.record.snapshots.iter().rev().filter(|(seq, _)| *seq < touch.first);
        if earlier.clone().all(|(_, snapshot)| tree(snapshot, &root).is_none()) {
            // It became a root later.
            return Ok(self.kept_before(touch));
        }
        for (seq, snapshot) in earlier {
            if is_unsure(snapshot, &touch.path) {
                continue;
            }
            let Some(tree) = tree(snapshot, &root) else { continue };
            return Ok(match self.lookup.find(tree, &rest)? {
                Found::LeftOut(entry) => Before::LeftOut(*entry),
                Found::Entry(entry) if entry.left_out.is_some() => Before::LeftOut(*entry),
                Found::Entry(entry) => Before::At(At { state: Some(bare(*entry)), seq: *seq }),
                Found::Nothing | Found::Link(..) => Before::At(At { state: None, seq: *seq }),
            });
        }
        Ok(Before::NotRecorded)
    }

    /// The state that the span left; none where that was not recorded.
    pub(super) fn after(&mut self, touch: &Touch) -> Result<Option<At>> {
        let Some((root, rest)) = self.split(&touch.path) else {
            return Ok(self.kept_after(touch));
        };
        let rest = rest.to_owned();
        for (seq, snapshot) in &self.record.snapshots {
            if *seq <= touch.last || is_unsure(snapshot, &touch.path) {
                continue;
            }
            let Some(tree) = tree(snapshot, &root) else { continue };
            return Ok(match self.lookup.find(tree, &rest)? {
                Found::LeftOut(_) => None,
                Found::Entry(entry) if entry.left_out.is_some() => None,
                Found::Entry(entry) => Some(At { state: Some(bare(*entry)), seq: *seq }),
                Found::Nothing | Found::Link(..) => Some(At { state: None, seq: *seq }),
            });
        }
        Ok(None)
    }

    /// Outside the roots: the first state that was kept when the span began to change the file.
    fn kept_before(&self, touch: &Touch) -> Before {
        if touch.existed == Some(false) {
            return Before::Made;
        }
        // It is told before the event of the change, and, where the session alone changed the file, once in a turn.
        let all = self.kept.get(&touch.path).map(Vec::as_slice).unwrap_or_default();
        let Some((seq, event)) = all.iter().rfind(|(seq, _)| *seq < touch.first) else {
            return Before::NotRecorded;
        };
        let others = (self.record.others)(&touch.path);
        if others.iter().any(|other| other > seq && *other < touch.first) {
            return Before::NotRecorded;
        }
        let Some(mut state) = entry_of(event) else { return Before::NotKept };
        if state.kind == Kind::File && state.id.is_none() {
            // At first only its attributes were about to change.
            let later = all
                .iter()
                .find(|(at, later)| at > seq && *at <= touch.last && later.object.is_some());
            state.id = later.and_then(|(_, later)| later.object);
            if later.is_none() && event.change != "attributes" {
                return Before::NotKept;
            }
        }
        let at = At { state: Some(state), seq: *seq };
        match event {
            _ if event.late => Before::Late(at),
            _ if event.links > 1 && event.kind == "file" => Before::OtherNames(at),
            _ => Before::At(at),
        }
    }

    /// Outside the roots: what was kept when somebody recorded changed the file later, if nobody else had been there in between.
    fn kept_after(&self, touch: &Touch) -> Option<At> {
        let (seq, event) = self.kept.get(&touch.path)?.iter().find(|(seq, _)| *seq > touch.last)?;
        let untouched = event.mtime <= touch.until && !event.late;
        let state = entry_of(event)
            .filter(|entry| untouched && (entry.kind != Kind::File || entry.id.is_some()))?;
        Some(At { state: Some(state), seq: *seq })
    }

    /// Paths below a directory that was there before or after the span.
    pub(super) fn below(&mut self, touch: &Touch) -> Result<Vec<PathBuf>> {
        let Some((root, rest)) = self.split(&touch.path) else { return Ok(Vec::new()) };
        let rest = rest.to_owned();
        let mut paths = Vec::new();
        for tree in self.around(touch, &root) {
            self.lookup.each_below(tree, &rest, &mut |path, _| paths.push(root.join(path)))?;
        }
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    /// All names of files that have several, in the trees before and after a span: by tree and link number.
    pub(super) fn names(&mut self, touch: &Touch) -> Result<HashMap<u64, Vec<PathBuf>>> {
        let mut names: HashMap<u64, Vec<PathBuf>> = HashMap::new();
        let Some((root, _)) = self.split(&touch.path) else { return Ok(names) };
        for tree in self.around(touch, &root) {
            self.lookup.each_below(tree, Path::new(""), &mut |path, entry| {
                if let Some(number) = entry.link {
                    names.entry(number).or_default().push(root.join(path));
                }
            })?;
        }
        for paths in names.values_mut() {
            paths.sort();
            paths.dedup();
        }
        Ok(names)
    }

    fn around(&self, touch: &Touch, root: &Path) -> Vec<ObjectId> {
        let snapshots = &self.record.snapshots;
        let before = snapshots.iter().rev().find(|(seq, _)| *seq < touch.first);
        let after = snapshots.iter().find(|(seq, _)| *seq > touch.last);
        [before, after]
            .into_iter()
            .flatten()
            .filter_map(|(_, snapshot)| tree(snapshot, root))
            .collect()
    }
}

/// The tree of a root in a snapshot.
fn tree(snapshot: &SnapshotCreated<'static>, root: &Path) -> Option<ObjectId> {
    snapshot.roots.iter().find(|r| r.path.as_path() == root).map(|r| r.tree)
}

/// Whether a path was written to while the snapshot was taken.
fn is_unsure(snapshot: &SnapshotCreated<'static>, path: &Path) -> bool {
    snapshot.late.iter().chain(&snapshot.torn).any(|late| late.as_path() == path)
}

/// A directory without its tree: what lies in it are paths of their own.
fn bare(mut entry: Entry) -> Entry {
    if entry.kind == Kind::Dir {
        entry.id = None;
    }
    entry
}

/// The entry that was kept; none where its content was not. Of a file whose attributes alone were about to change it has no content.
fn entry_of(event: &FileKept<'_>) -> Option<Entry> {
    let kind = match &*event.kind {
        "file" => Kind::File,
        "dir" => Kind::Dir,
        "symlink" => Kind::Symlink,
        "fifo" => Kind::Fifo,
        "socket" => Kind::Socket,
        "char" => Kind::Char,
        "block" => Kind::Block,
        _ => return None,
    };
    // Traces are hostile input: what a tree refuses is refused here.
    let target = event
        .target
        .as_ref()
        .map(|target| target.to_vec())
        .filter(|target| !target.is_empty() && target.len() < 4096 && !target.contains(&0));
    let no_content = kind == Kind::File && event.object.is_none() && event.reason.is_some();
    if no_content || (kind == Kind::Symlink && target.is_none()) {
        return None;
    }
    let xattrs = event.xattrs.iter();
    Some(Entry {
        kind,
        meta: Meta {
            mode: event.mode & 0o7777,
            mtime: event.mtime,
            uid: event.uid,
            gid: event.gid,
            xattrs: xattrs
                .map(|(name, value)| (name.to_vec().into(), value.to_vec().into()))
                .collect(),
        },
        size: if kind == Kind::File { event.size } else { 0 },
        id: event.object.filter(|_| kind == Kind::File),
        target: target.filter(|_| kind == Kind::Symlink).map(ByteBuf::from),
        secret: event.secret,
        ..Entry::default()
    })
}

/// A path without `.` and `..`, by text.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            component => plain.push(component),
        }
    }
    plain
}
