//! What truly happened to a directory, and what a trace says of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agentrec_trace::{Data, ProcId, Reader};

/// What stands under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Dir,
    File { mode: u32, content: Vec<u8> },
    Symlink(PathBuf),
}

/// Everything below `root`, by its path relative to it.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let found = if meta.is_dir() {
                dirs.push(path.clone());
                Entry::Dir
            } else if meta.is_symlink() {
                Entry::Symlink(fs::read_link(&path).unwrap())
            } else {
                Entry::File { mode: meta.permissions().mode(), content: fs::read(&path).unwrap() }
            };
            entries.insert(path.strip_prefix(root).unwrap().to_owned(), found);
        }
    }
    entries
}

/// The paths at which two trees differ.
pub fn differences(
    before: &BTreeMap<PathBuf, Entry>,
    after: &BTreeMap<PathBuf, Entry>,
) -> BTreeSet<PathBuf> {
    before
        .keys()
        .chain(after.keys())
        .filter(|path| before.get(*path) != after.get(*path))
        .cloned()
        .collect()
}

/// A change as a trace tells it: path below the root, what was done to it, and by which program.
pub type Change = (PathBuf, &'static str, String);

/// Every change below `root` that succeeded.
pub fn changes(trace: &Reader, root: &Path) -> BTreeSet<Change> {
    let mut programs: HashMap<ProcId, String> = HashMap::new();
    let mut changes = BTreeSet::new();
    trace
        .for_each(|event| {
            if let (Some(parent), Data::ProcessFork(fork)) = (event.proc, &event.data) {
                let program = programs.get(&parent).cloned().unwrap_or_default();
                programs.insert(fork.child, program);
            }
            let Some(proc) = event.proc else { return };
            if let Data::ProcessExec(exec) = &event.data
                && exec.errno.is_none()
            {
                let name = exec.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
                programs.insert(proc, String::from_utf8_lossy(name).into_owned());
            }
            for (path, what) in changed(&event.data) {
                if let Ok(path) = path.strip_prefix(root) {
                    let program = programs.get(&proc).cloned().unwrap_or_default();
                    changes.insert((path.to_owned(), what, program));
                }
            }
        })
        .unwrap();
    changes
}

/// The paths that an event says were changed, and how.
fn changed(data: &Data<'_>) -> Vec<(PathBuf, &'static str)> {
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    match data {
        // O_WRONLY and O_RDWR.
        Data::FileOpen(open) if open.errno.is_none() && open.flags & 3 != 0 => {
            vec![(path(&open.path), "open")]
        }
        Data::FileRename(rename) if rename.errno.is_none() => {
            vec![(path(&rename.from), "rename-from"), (path(&rename.to), "rename-to")]
        }
        Data::FileUnlink(unlink) if unlink.errno.is_none() => vec![(path(&unlink.path), "unlink")],
        Data::FileMkdir(mkdir) if mkdir.errno.is_none() => vec![(path(&mkdir.path), "mkdir")],
        Data::FileSymlink(link) if link.errno.is_none() => vec![(path(&link.path), "symlink")],
        Data::FileChmod(chmod) if chmod.errno.is_none() => vec![(path(&chmod.path), "chmod")],
        _ => Vec::new(),
    }
}
