//! Which directories are as an earlier capture found them, with all that is in them: they keep their tree objects.
//!
//! Each is opened from the root by its path, through no link and no mount, and is as it was where its own times are, and
//! those of all its files. What decides about other names (ignore files, what marks a virtual environment) must be as it
//! was on the whole way down. Nothing is read, so that it costs one call for each file, on as many threads as there are
//! processors.

use std::ffi::CStr;
use std::fs::File;
use std::num::NonZero;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstat, fstatat};

use super::dir;
use super::rules::RULE_FILES;
use super::{CaptureOptions, FileId, file_id};
use crate::cache::{Folder, Folders, Moment, TOO_FRESH};
use crate::tree::Kind;

/// Directories that a thread takes at a time.
const SHARE: usize = 32;

/// Threads, at most: more of them wait for each other in the kernel.
const THREADS: usize = 4;

/// Directories for which a further thread is worth its start.
const WORTH: usize = 256;

/// What became of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It is as it was, leaving aside the directories in it.
    Same,
    /// Something in it changed, but nothing that decides about what lies below.
    Changed,
    /// Everything below has to be looked at too.
    Rules,
}

/// The directories that are as they were, each with everything below it, by their numbers in the cache.
#[derive(Debug, Default)]
pub(super) struct Still {
    whole: Vec<bool>,
    /// Their objects may be gone.
    check: bool,
}

impl Still {
    /// Looks at all directories that an earlier capture of the same root noted.
    pub(super) fn find(root: &File, folders: &Folders, options: &CaptureOptions) -> Self {
        let looks = look_at_all(root, folders, options);
        let parents: Vec<_> = (0..folders.len()).map(|n| parent(folders, n)).collect();
        let mut governed = vec![false; folders.len()];
        let mut whole = vec![false; folders.len()];
        // A directory stands behind the one that it is in.
        for (index, look) in looks.iter().enumerate() {
            let above = parents[index].map_or(index == 0, |above| governed[above]);
            governed[index] = above && *look != Look::Rules;
            whole[index] = above && *look == Look::Same;
        }
        let mut inside = vec![0; folders.len()];
        for index in (0..folders.len()).rev() {
            let folder = folders.get(index);
            whole[index] &= folder.is_some_and(|folder| folder.directories == inside[index]);
            if let Some(above) = parents[index].filter(|_| whole[index]) {
                inside[above] += 1;
            }
        }
        Self { whole, check: false }
    }

    /// From now on whoever takes a directory has to see whether its objects are there.
    pub(super) fn check_objects(&mut self) {
        self.check = true;
    }

    pub(super) fn checks_objects(&self) -> bool {
        self.check
    }

    /// Whether this directory and all below it are as they were.
    pub(super) fn is_whole(&self, index: usize) -> bool {
        self.whole.get(index).is_some_and(|whole| *whole)
    }
}

/// The number of the directory that one is in; none for the root.
fn parent(folders: &Folders, index: usize) -> Option<usize> {
    let path = folders.path(index);
    let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
    (!path.is_empty()).then(|| folders.find(&path[..end])).flatten()
}

fn look_at_all(root: &File, folders: &Folders, options: &CaptureOptions) -> Vec<Look> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found: Vec<(Range<usize>, Vec<Look>)> = Vec::new();
        loop {
            let from = next.fetch_add(SHARE, Ordering::Relaxed);
            if from >= folders.len() {
                return found;
            }
            let share = from..folders.len().min(from + SHARE);
            let looks = share.clone().map(|index| look_at(root, folders, index, options));
            found.push((share.clone(), looks.collect()));
        }
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let helpers = processors.min(THREADS).min(folders.len() / WORTH + 1) - 1;
    let mut looks = vec![Look::Rules; folders.len()];
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("looks".into()).spawn_scoped(scope, work);
        // Where there can be no more threads, this one does it all.
        let helpers: Vec<_> = (0..helpers).map_while(|n| spawn(n).ok()).collect();
        let mut found = work();
        for helper in helpers {
            found.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        for (share, taken) in found {
            looks[share].copy_from_slice(&taken);
        }
    });
    looks
}

fn look_at(root: &File, folders: &Folders, index: usize, options: &CaptureOptions) -> Look {
    let Some(folder) = folders.get(index) else { return Look::Rules };
    let Ok(dir) = open(root, folder.path) else { return Look::Rules };
    let Ok(stat) = fstat(&dir) else { return Look::Rules };
    let now = Moment::of(&stat);
    if (now.dev, now.ino) != (folder.moment.dev, folder.moment.ino) || is_special(options, &stat) {
        return Look::Rules;
    }
    let is_same =
        folder.is_settled() && now == folder.moment && is_as_it_was(&dir, &folder, options);
    // Where the directory is the same, so are its names, and the rules are among what was compared.
    match (is_same, same_rules(&dir, &folder, is_same)) {
        (true, true) => Look::Same,
        (false, true) => Look::Changed,
        (_, false) => Look::Rules,
    }
}

/// Whether everything in the directory is as it was, leaving aside the directories.
fn is_as_it_was(dir: &OwnedFd, folder: &Folder<'_>, options: &CaptureOptions) -> bool {
    let mut items = folder.items();
    let same = items.by_ref().all(|item| {
        item.kind == Kind::Dir
            || lstat(dir, item.name).is_some_and(|stat| {
                Moment::of(&stat) == item.moment
                    && dir::kind(&stat) == item.kind
                    && !is_special(options, &stat)
            })
    });
    same && items.is_whole()
}

/// Whether the files that decide about names below are as they were. `is_same`: all names and files are.
fn same_rules(dir: &OwnedFd, folder: &Folder<'_>, is_same: bool) -> bool {
    if folder.exclude.is_some_and(|known| exclude(dir) != known) {
        return false;
    }
    is_same
        || RULE_FILES.iter().all(|name| {
            let mut with_end = name.as_bytes().to_vec();
            with_end.push(0);
            let name = CStr::from_bytes_with_nul(&with_end).expect("no name has a NUL in it");
            match (folder.item(name.to_bytes()), lstat(dir, name)) {
                (None, None) => true,
                (Some(item), Some(stat)) => {
                    dir::kind(&stat) == item.kind
                        && (item.kind == Kind::Dir || Moment::of(&stat) == item.moment)
                }
                _ => false,
            }
        })
}

/// `.git/info/exclude` in a directory, to be noted there: [`Moment::NEVER`] where it changed after `until`.
pub(super) fn exclude_until(dir: &File, until: i64) -> Moment {
    let found = exclude(dir);
    if found.ctime <= until { found } else { Moment::NEVER }
}

/// The default where there is none.
fn exclude(dir: impl AsFd) -> Moment {
    open(&dir, b".git/info")
        .ok()
        .and_then(|info| lstat(info, c"exclude"))
        .map_or_else(Moment::default, |stat| Moment::of(&stat))
}

/// Files of the recorder, and those whose times don't tell.
fn is_special(options: &CaptureOptions, stat: &FileStat) -> bool {
    let has =
        |set: &std::collections::HashSet<FileId>| !set.is_empty() && set.contains(&file_id(stat));
    has(&options.own) || has(&options.distrust)
}

/// Opens a directory for what is in it: through no link and no mount on the way.
fn open(root: impl AsFd, path: &[u8]) -> nix::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_BENEATH,
        );
    openat2(root, path, how)
}

fn lstat(dir: impl AsFd, name: &CStr) -> Option<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
}

/// What changed later than this is too fresh to be noted by a capture that begins now, nanoseconds since 1970.
pub(super) fn believed_until(now: i64) -> i64 {
    now.saturating_sub(TOO_FRESH)
}

/// How a path relative to the root stands in the cache; none where it is too long to be opened.
pub(super) fn noted(path: &Path) -> Option<&[u8]> {
    use std::os::unix::ffi::OsStrExt;

    // PATH_MAX counts the NUL.
    Some(path.as_os_str().as_bytes()).filter(|path| path.len() < 4096)
}
