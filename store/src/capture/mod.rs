//! Reads a directory tree into the store: contents, attributes, links, and a list of what was left out.

mod dir;
mod dirty;
mod file;
mod later;
mod moved;
mod rules;
mod single;
mod sink;
mod state;
mod still;
#[cfg(test)]
mod still_tests;
mod tracked;
mod update;
mod walk;

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentrec_trace::ObjectId;
use nix::sys::stat::FileStat;
use serde_bytes::ByteBuf;

pub use self::dirty::{Dirty, Touch};
pub use self::later::Later;
pub use self::rules::check_pattern;
pub(crate) use self::rules::pattern_error;
pub use self::single::EntryReader;
pub use self::tracked::Tracked;
use crate::cache::StatCache;
use crate::error::Result;
use crate::objects::Store;
use crate::secret_files::SecretPlaces;
use crate::tree::LeftOut;

/// A file as the kernel knows it: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

/// The extended attributes of an open file or directory that can be given back; `path` names it where they can't be read.
pub fn restorable_xattrs(file: &File, path: &Path) -> Vec<(ByteBuf, ByteBuf)> {
    dir::xattrs(file, path)
}

/// Called with the number of files so far and the sum of their lengths in bytes.
#[derive(Clone)]
pub struct ProgressFn(pub Arc<dyn Fn(u64, u64) + Send + Sync>);

impl fmt::Debug for ProgressFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressFn")
    }
}

/// How a tree is captured.
#[derive(Clone, Debug, Default)]
pub struct CaptureOptions {
    /// The root's path as the agent sees it, by which secret files are recognised; empty for the real path.
    pub seen_as: PathBuf,
    /// Patterns of what to leave out, as in a `.gitignore` at the root; they count more than `.agentrecignore` files.
    pub excludes: Vec<String>,
    /// Files that hold secrets beside those that their names tell, by their paths as the agent sees them.
    pub secrets: SecretPlaces,
    /// Files of the recorder, such as the trace: left out. The store's own directory always is.
    pub own: HashSet<FileId>,
    /// Files whose times don't tell whether they changed: those that are mapped shared and writable.
    pub distrust: HashSet<FileId>,
    /// Files that are open for writing: they are looked at with more care.
    pub busy: HashSet<FileId>,
    /// Where a capture of changes puts what goes into a trace too; without it everything is on the disk when it returns.
    pub later: Option<Arc<Later>>,
    /// Files longer than this are left out, bytes.
    pub max_file: Option<u64>,
    /// Once the contents that were kept reach this sum, the other files are left out, bytes.
    pub max_tree: Option<u64>,
    /// Called after every file.
    pub progress: Option<ProgressFn>,
}

impl CaptureOptions {
    fn seen_as<'a>(&'a self, root: &'a Path) -> &'a Path {
        if self.seen_as.as_os_str().is_empty() { root } else { &self.seen_as }
    }
}

/// Something whose content was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Omission {
    /// Relative to the root.
    pub path: PathBuf,
    /// Why.
    pub reason: LeftOut,
    /// A file's length in bytes; 0 for others.
    pub size: u64,
}

/// A captured tree. All paths are relative to the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// The tree object of the root.
    pub tree: ObjectId,
    /// Files whose content was kept.
    pub files: u64,
    /// The sum of their lengths, bytes.
    pub bytes: u64,
    /// Files that had to be read, because the cache did not know them.
    pub files_read: u64,
    /// Objects that the store did not have.
    pub objects_added: u64,
    /// What was left out.
    pub left_out: Vec<Omission>,
    /// Files that changed while they were read, each time that it was tried.
    pub torn: Vec<PathBuf>,
    /// Files with secrets.
    pub secrets: Vec<PathBuf>,
    /// Directories that tools make again: kept in the store, not to be put into a trace.
    pub ignored: Vec<PathBuf>,
    /// Every file was looked at, and not only what may have changed.
    pub walked: bool,
}

/// Captures the directory at the real path `root`.
///
/// Symbolic links are kept as such and never followed; other file systems are not entered. When it returns, all
/// objects of the tree are on the disk.
pub fn capture_tree(
    store: &Store,
    root: &Path,
    options: &CaptureOptions,
    cache: &mut StatCache,
) -> Result<Capture> {
    Tracked::new(root).capture(store, options, cache)
}

/// Whether a capture of `dir` does not reach the directory `inner`, which lies elsewhere or behind a mount point. Both are real
/// paths.
pub fn is_beyond_mount(dir: &Path, inner: &Path) -> bool {
    let Ok(rest) = inner.strip_prefix(dir) else { return true };
    let device = |path: &Path| path.metadata().ok().map(|found| found.dev());
    device(dir) != device(inner) || dir::is_beyond_mount(dir, rest)
}

fn file_id(stat: &FileStat) -> FileId {
    FileId { dev: stat.st_dev, ino: stat.st_ino }
}
