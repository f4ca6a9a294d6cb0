//! Which files the tree changed outside of its roots: only their number is told, when the session ends.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_trace::{Bytes, Data, Event, open_flags};

use crate::source::OpenId;

/// Not files of anybody's: devices, and the kernel's own.
const NOT_FILES: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Changes outside the roots.
#[derive(Debug)]
pub(super) struct Outside {
    roots: Vec<PathBuf>,
    /// Paths of descriptions that are open for writing.
    open: HashMap<u64, Bytes<'static>>,
    changed: HashSet<Bytes<'static>>,
    /// Made during the session: when they are deleted again, nothing has changed.
    created: HashSet<Bytes<'static>>,
}

impl Outside {
    pub(super) fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots, open: HashMap::new(), changed: HashSet::new(), created: HashSet::new() }
    }

    /// Files that were written to, renamed, made or deleted.
    pub(super) fn count(&self) -> u64 {
        self.changed.len() as u64
    }

    /// Whether the tree changed this file, or may be about to.
    pub(super) fn changed_at(&self, path: &Path) -> bool {
        let path = Bytes::from(path.as_os_str().as_bytes());
        self.changed.contains(&path) || self.open.values().any(|open| *open == path)
    }

    /// Takes note of an event whose `file.close.open` is still the model's number.
    pub(super) fn observe(&mut self, event: &Event<'_>, opens: Option<OpenId>) {
        match &event.data {
            Data::FileOpen(open) if open.errno.is_none() => {
                let number = opens.map(|id| u64::from(id.0));
                let writable = open.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32;
                // A file without a name (O_TMPFILE) is nobody's until it has one.
                let unnamed = open.flags & open_flags::TMPFILE == open_flags::TMPFILE;
                if !writable || unnamed || !self.is_outside(&open.path) {
                    number.and_then(|number| self.open.remove(&number));
                    return;
                }
                if open.created {
                    self.created(&open.path);
                } else if open.flags & libc::O_TRUNC as u32 != 0 {
                    self.changed(&open.path);
                }
                if let Some(number) = number {
                    self.open.insert(number, open.path.clone().into_owned());
                }
            }
            Data::FileClose(close) => {
                let opened = close.open.and_then(|open| self.open.remove(&open.0));
                if close.written == 0 {
                    return;
                }
                match (opened, &close.path) {
                    (Some(path), _) => drop(self.changed.insert(path)),
                    // One that was open before.
                    (None, Some(path)) if path.starts_with(b"/") => self.changed(path),
                    _ => {}
                }
            }
            Data::FileRename(rename) if rename.errno.is_none() => {
                self.deleted(&rename.from);
                self.changed(&rename.to);
            }
            Data::FileUnlink(unlink) if unlink.errno.is_none() => self.deleted(&unlink.path),
            Data::FileLink(link) if link.errno.is_none() => {
                self.created(&link.to);
                if let Some(open) = link.open.filter(|_| self.is_outside(&link.to)) {
                    self.open.insert(open.0, link.to.clone().into_owned());
                }
            }
            Data::FileSymlink(link) if link.errno.is_none() => self.created(&link.path),
            Data::FileMknod(node) if node.errno.is_none() => self.created(&node.path),
            Data::FileTruncate(file) if file.errno.is_none() => self.changed(&file.path),
            Data::FileChmod(file) if file.errno.is_none() => self.changed(&file.path),
            Data::FileChown(file) if file.errno.is_none() => self.changed(&file.path),
            _ => {}
        }
    }

    fn is_outside(&self, path: &Bytes<'_>) -> bool {
        let path = path.as_path();
        !self.roots.iter().map(PathBuf::as_path).any(|root| path.starts_with(root))
            && !NOT_FILES.iter().any(|dir| path.starts_with(Path::new(dir)))
    }

    fn created(&mut self, path: &Bytes<'_>) {
        if self.is_outside(path) && self.changed.insert(path.clone().into_owned()) {
            self.created.insert(path.clone().into_owned());
        }
    }

    fn changed(&mut self, path: &Bytes<'_>) {
        if path.starts_with(b"/") && self.is_outside(path) {
            self.changed.insert(path.clone().into_owned());
        }
    }

    fn deleted(&mut self, path: &Bytes<'_>) {
        let path = path.clone().into_owned();
        if self.created.remove(&path) {
            self.changed.remove(&path);
        } else {
            self.changed(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use agentrec_trace::event::{FileClose, FileOpen, FileRename, FileUnlink};
    use agentrec_trace::{Seq, Source};

    use super::*;

    fn observe(outside: &mut Outside, data: impl Into<Data<'static>>, opens: Option<u32>) {
        outside.observe(&Event::new(0, Source::Kernel, data), opens.map(OpenId));
    }

    fn open(path: &'static str, flags: i32, created: bool) -> FileOpen<'static> {
        FileOpen { path: path.into(), flags: flags as u32, created, ..FileOpen::default() }
    }

    fn close(open: u64, written: u64) -> FileClose<'static> {
        FileClose { open: Some(Seq(open)), written, ..FileClose::default() }
    }

    #[test]
    fn only_what_differs_outside_the_roots_counts() {
        let mut outside = Outside::new(vec!["/home/u/p".into()]);
        let o = &mut outside;
        observe(o, open("/home/u/p/x", libc::O_WRONLY, true), Some(0));
        observe(o, close(0, 5), None);
        observe(o, open("/dev/null", libc::O_WRONLY | libc::O_TRUNC, false), Some(0));
        observe(o, close(0, 5), None);
        observe(o, open("/home/u/read", libc::O_RDWR, false), Some(0));
        observe(o, close(0, 0), None);
        observe(o, open("/tmp/t", libc::O_WRONLY, true), Some(1));
        observe(o, close(1, 9), None);
        observe(o, FileUnlink { path: "/tmp/t".into(), errno: None }, None);
        assert_eq!(o.count(), 0);
        observe(o, open("/home/u/.npmrc", libc::O_WRONLY, false), Some(1));
        observe(o, close(1, 9), None);
        assert_eq!(o.count(), 1);
        let (from, to) = ("/home/u/a".into(), "/home/u/b".into());
        observe(o, FileRename { from, to, ..FileRename::default() }, None);
        assert_eq!(o.count(), 3);
        observe(o, FileUnlink { path: "/home/u/c".into(), errno: Some(2) }, None);
        assert_eq!(o.count(), 3);
    }
}
