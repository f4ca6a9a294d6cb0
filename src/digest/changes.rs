//! What a set of acts comes to: files added, changed and deleted, with whole directories folded into one line.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use agentrec_trace::{ProcId, Seq};

use super::effects::is_pseudo;
use super::files::{Action, ActionKind, Files};
use super::paths::is_below;

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Net {
    /// It was not there before.
    Added,
    /// It was there before and still is.
    Modified,
    /// It is gone.
    Deleted,
}

impl Net {
    /// `+`, `~` or `-`
    pub fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Modified => '~',
            Self::Deleted => '-',
        }
    }
}

/// A path and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute path.
    pub path: Vec<u8>,
    /// What became of it.
    pub net: Net,
    /// Whether it is a directory, as far as acts tell.
    pub directory: bool,
    /// Bytes written to it, or to all files in it.
    pub written: u64,
    /// Files folded into this directory.
    pub inside: u64,
    /// Only written to through descriptors that were open when the session began, such as a redirected output.
    pub inherited: bool,
    /// Who took part.
    pub procs: BTreeSet<ProcId>,
    /// The last act.
    pub last: Seq,
}

/// The acts on one path so far.
struct Fold {
    existed: bool,
    exists: bool,
    change: Change,
}

impl Files {
    /// What the acts of each group come to, by path. `group` says to which group an act of a process at a time belongs;
    /// `existed` whether a path was there when the session started, where that is known.
    pub fn net_by<G: Ord + Copy>(
        &self,
        group: impl Fn(ProcId, u64) -> Option<G>,
        existed: impl Fn(&[u8]) -> Option<bool>,
    ) -> BTreeMap<G, Vec<Change>> {
        let mut folds: BTreeMap<(G, &[u8]), Fold> = BTreeMap::new();
        for action in self.actions() {
            let path = self.path(action.path);
            let Some(group) = group(action.proc, action.ts).filter(|_| !is_pseudo(path)) else {
                continue;
            };
            let moved = match action.kind {
                ActionKind::RenamedFrom(from) => move_away(&mut folds, group, self.path(from)),
                _ => None,
            };
            let fold = folds.entry((group, path)).or_insert_with(|| {
                let kept = || self.old_contents().existed(path, action.seq).then_some(true);
                let before = existed_before(action.kind).or_else(kept);
                Fold::new(path, action, before.or_else(|| existed(path)))
            });
            fold.take(action);
            if let Some((inside, written)) = moved {
                fold.change.directory = true;
                fold.change.inside = inside;
                fold.change.written = written;
            }
        }
        let mut changes: BTreeMap<G, Vec<Change>> = BTreeMap::new();
        for ((group, _), fold) in folds {
            changes.entry(group).or_default().extend(fold.finish());
        }
        changes
    }
}

/// What a group did below `directory` is there no more once that has another name. Returns how many files that were, and the
/// bytes written to them; none where there is nothing.
fn move_away<'p, G: Ord + Copy>(
    folds: &mut BTreeMap<(G, &'p [u8]), Fold>,
    group: G,
    directory: &'p [u8],
) -> Option<(u64, u64)> {
    let mut moved = None;
    let from = folds.range_mut((group, directory)..);
    for ((_, path), fold) in
        from.take_while(|((g, path), _)| *g == group && path.starts_with(directory))
    {
        if *path == directory || !is_below(path, directory) || !fold.exists {
            continue;
        }
        fold.exists = false;
        let (inside, written) = moved.get_or_insert((0, 0));
        *inside += u64::from(!fold.change.directory);
        *written = fold.change.written.saturating_add(*written);
    }
    if moved.is_some()
        && let Some(fold) = folds.get_mut(&(group, directory))
    {
        fold.change.directory = true;
    }
    moved
}

/// Whether a path was there before its first act; none where the act does not tell.
pub fn existed_before(kind: ActionKind) -> Option<bool> {
    match kind {
        ActionKind::Created
        | ActionKind::DirectoryCreated
        | ActionKind::LinkedFrom(_)
        | ActionKind::Symlinked
        | ActionKind::NodeCreated => Some(false),
        // rename(2) replaces silently.
        ActionKind::RenamedFrom(_) => None,
        _ => Some(true),
    }
}

impl Fold {
    fn new(path: &[u8], first: &Action, existed: Option<bool>) -> Self {
        let change = Change {
            path: path.to_vec(),
            net: Net::Modified,
            directory: false,
            written: 0,
            inside: 0,
            inherited: true,
            procs: BTreeSet::new(),
            last: first.seq,
        };
        Self { existed: existed.unwrap_or(false), exists: true, change }
    }

    fn take(&mut self, action: &Action) {
        match action.kind {
            ActionKind::Deleted | ActionKind::DirectoryDeleted | ActionKind::RenamedTo(_) => {
                self.exists = false;
            }
            // Told at the close, when the file may long be gone from this name.
            ActionKind::Written { .. } => {}
            _ => self.exists = true,
        }
        match action.kind {
            ActionKind::DirectoryCreated | ActionKind::DirectoryDeleted => {
                self.change.directory = true
            }
            ActionKind::Written { bytes, open } => {
                self.change.written = self.change.written.saturating_add(bytes);
                self.change.inherited &= open.is_none();
            }
            _ => {}
        }
        self.change.inherited &= matches!(action.kind, ActionKind::Written { .. });
        self.change.procs.insert(action.proc);
        self.change.last = action.seq;
    }

    /// None for what came and went.
    fn finish(self) -> Option<Change> {
        let net = match (self.existed, self.exists) {
            (false, true) => Net::Added,
            (true, true) => Net::Modified,
            (true, false) => Net::Deleted,
            (false, false) => return None,
        };
        Some(Change { net, ..self.change })
    }
}

/// Folds what lies in a directory that was itself added or deleted into that directory.
pub fn fold_directories(changes: Vec<Change>) -> Vec<Change> {
    let directories: HashMap<Vec<u8>, Net> = changes
        .iter()
        .filter(|change| change.directory && change.net != Net::Modified)
        .map(|change| (change.path.clone(), change.net))
        .collect();
    let mut kept: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
    let mut folded = Vec::new();
    for change in changes {
        match outermost(&directories, &change) {
            Some(directory) => folded.push((directory, change)),
            None => drop(kept.insert(change.path.clone(), change)),
        }
    }
    for (directory, change) in folded {
        if let Some(into) = kept.get_mut(&directory) {
            into.inside += u64::from(!change.directory);
            into.written = into.written.saturating_add(change.written);
            into.procs.extend(change.procs);
            into.last = into.last.max(change.last);
        }
    }
    kept.into_values().collect()
}

/// The outermost directory above `change` to which the same happened.
fn outermost(directories: &HashMap<Vec<u8>, Net>, change: &Change) -> Option<Vec<u8>> {
    let slashes = change.path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(i, _)| i);
    slashes
        .map(|end| &change.path[..end])
        .find(|above| directories.get(*above) == Some(&change.net))
        .map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;

    fn all(files: &Files, existed: impl Fn(&[u8]) -> Option<bool>) -> Vec<Change> {
        files.net_by(|_, _| Some(()), existed).remove(&()).unwrap_or_default()
    }

    fn net(script: &Script, existed: &[&str]) -> Vec<(char, String)> {
        let digest = script.digest();
        let existed = |path: &[u8]| Some(existed.iter().any(|e| e.as_bytes() == path));
        let changes = all(&digest.files, existed);
        changes
            .iter()
            .map(|c| (c.net.sign(), String::from_utf8_lossy(&c.path).into_owned()))
            .collect()
    }

    #[test]
    fn what_came_and_went_is_no_change() {
        let mut script = Script::new("/w");
        script.create(1, "/w/tmp").unlink(1, "/w/tmp");
        script.unlink(1, "/w/old").create(1, "/w/old");
        assert_eq!(net(&script, &[]), [('~', "/w/old".into())]);
    }

    #[test]
    fn a_close_after_the_name_is_gone_does_not_bring_it_back() {
        let mut script = Script::new("/w");
        let flags = libc::O_WRONLY | libc::O_CREAT;
        let temp = script.open(1, "/w/.f.tmp", flags, true);
        script.rename(1, "/w/.f.tmp", "/w/f").close(1, temp, 0, 5);
        let shared = script.open(1, "/w/shm", flags, true);
        script.unlink(1, "/w/shm").close(1, shared, 0, 5);
        assert_eq!(net(&script, &[]), [('+', "/w/f".into())]);
    }

    #[test]
    fn what_lies_in_a_directory_goes_where_that_goes() {
        let mut script = Script::new("/w");
        script.mkdir(1, "/w/d").create(1, "/w/d/x").create(1, "/w/d-not").rename(1, "/w/d", "/w/e");
        assert_eq!(net(&script, &[]), [('+', "/w/d-not".into()), ('+', "/w/e".into())]);
        let changes = all(&script.digest().files, |_| None);
        assert_eq!((changes[1].directory, changes[1].inside), (true, 1));
    }

    #[test]
    fn a_replacing_rename_modifies_what_was_there() {
        let mut script = Script::new("/w");
        script.create(1, "/w/.f.tmp").rename(1, "/w/.f.tmp", "/w/f");
        script.create(1, "/w/.g.tmp").rename(1, "/w/.g.tmp", "/w/g");
        assert_eq!(net(&script, &["/w/f"]), [('~', "/w/f".into()), ('+', "/w/g".into())]);
    }

    #[test]
    fn what_the_session_made_has_no_old_content() {
        let mut script = Script::new("/w");
        script.create(2, "/o/made").unlink(1, "/o/made").unlink(1, "/o/old");
        let digest = script.digest();
        let mut by = digest.files.net_by(|proc, _| Some(proc), |_| None);
        let gone = by.remove(&agentrec_trace::ProcId(1)).unwrap_or_default();
        let old: Vec<_> = gone.iter().map(|change| digest.files.old_content_of(change)).collect();
        assert_eq!(old, [None, Some("old content not kept")]);
    }

    #[test]
    fn directories_fold_what_happened_alike() {
        let mut script = Script::new("/w");
        script.mkdir(1, "/w/n").create(1, "/w/n/a").mkdir(1, "/w/n/m").create(2, "/w/n/m/b");
        script.create(1, "/w/n.txt").unlink(1, "/w/o/c").rmdir(1, "/w/o");
        let digest = script.digest();
        let folded = fold_directories(all(&digest.files, |_| None));
        let lines: Vec<_> = folded
            .iter()
            .map(|c| (c.net.sign(), c.path.escape_ascii().to_string(), c.inside, c.procs.len()))
            .collect();
        assert_eq!(
            lines,
            [
                ('+', "/w/n".into(), 2, 2),
                ('+', "/w/n.txt".into(), 0, 1),
                ('-', "/w/o".into(), 1, 1)
            ]
        );
    }
}
