//! What the tree may have changed since the last snapshot, as its events tell.
//!
//! An event names a file as the process meant it. Where symbolic links lead is asked when the snapshot is taken, which is
//! right as long as none of them changed since the event; where one may have, nothing is guessed, and the whole tree is
//! looked at again. Files that are open for writing, or were mapped shared and writable, change without events: they
//! are in doubt at every snapshot.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_launch::PathMap;
use agentrec_store::Touch;
use agentrec_trace::{Bytes, Data, Event, open_flags};
use nix::unistd::Pid;

use super::renames::MAX_RENAMES;
use crate::observation::Loss;
use crate::source::Captured;

/// So many names are told apart. Where more change at once, looking at the whole tree costs little more.
const MAX_NAMES: usize = 50_000;

/// Losses after which what was seen of files is what happened to them.
const HARMLESS: [Loss; 10] = [
    Loss::MovedOutput,
    Loss::MovedInput,
    Loss::Tracer,
    Loss::Rights,
    Loss::ReservedDescriptor,
    Loss::SeccompFilter,
    Loss::NameReplaced,
    Loss::ProbedLate,
    Loss::NotProbed,
    Loss::Plaintext,
];

/// Losses that leave nothing open that nobody knows of. After any other, files may change without an event.
const PASSING: [Loss; 3] = [Loss::NameChanged, Loss::Sum, Loss::Vanished];

/// Changes since the last snapshot, and what can change at any time.
pub(super) struct Changes {
    paths: PathMap,
    pub(super) since: Since,
    held: HashMap<u64, Held>,
    mapped: Vec<Held>,
    /// What the command had open for writing from the start.
    inherited: Vec<Held>,
    /// What was open when the last snapshot was taken, and what is open now.
    open: [Vec<Held>; 2],
    /// Inodes of open files that had lost a name when the last snapshot was taken.
    renamed: Vec<u64>,
    /// Why every snapshot has to look at the whole tree.
    pub(super) always: Option<&'static str>,
    /// What was changed between two fences.
    late: Option<HashSet<Bytes<'static>>>,
}

/// What happened since the last snapshot.
#[derive(Default)]
pub(super) struct Since {
    pub(super) names: HashMap<PathBuf, Named>,
    /// Names that were, or may have been, symbolic links and are no longer what they were.
    pub(super) links: HashSet<PathBuf>,
    /// Renames of something that was gone when they were told of: its names before and after.
    pub(super) unsure: Vec<(PathBuf, PathBuf)>,
    /// Names that something other than a directory lost.
    pub(super) unlinked: HashSet<PathBuf>,
    /// What was renamed, and may be a directory: its name before, and after.
    pub(super) renames: Vec<(PathBuf, PathBuf)>,
    /// Open files that have another name now than when they were opened.
    pub(super) inodes: HashSet<u64>,
    /// Why the next snapshot has to look at the whole tree.
    pub(super) broken: Option<Cow<'static, str>>,
}

/// What happened to a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub(super) touch: Touch,
    /// A link of this name may have been followed.
    pub(super) follow: bool,
    /// When it was named first, something was there.
    pub(super) existed: bool,
}

/// A file that can change without an event: all names that it is known by.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) paths: Vec<PathBuf>,
    /// Links in them were followed.
    pub(super) resolved: bool,
}

impl Held {
    fn at(path: &Bytes<'_>) -> Self {
        Self { paths: vec![path.as_path().to_owned()], resolved: false }
    }
}

impl Since {
    fn touch(&mut self, path: &Bytes<'_>, touch: Touch, follow: bool, existed: bool) {
        let path = path.as_path();
        if let Some(known) = self.names.get_mut(path) {
            known.touch = known.touch.max(touch);
            known.follow |= follow;
        } else if self.names.len() < MAX_NAMES {
            self.names.insert(path.to_owned(), Named { touch, follow, existed });
        } else {
            self.break_with("more names changed than are kept");
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        // With one more than are followed, none is.
        if self.renames.len() <= MAX_RENAMES {
            self.renames.push((from.to_owned(), to.to_owned()));
        }
    }

    fn unsure(&mut self, from: &Path, to: &Path) {
        if self.unsure.len() < MAX_NAMES {
            self.unsure.push((from.to_owned(), to.to_owned()));
        } else {
            self.break_with("more names changed than are kept");
        }
    }

    pub(super) fn break_with(&mut self, reason: impl Into<Cow<'static, str>>) {
        if self.broken.is_none() {
            self.broken = Some(reason.into());
        }
    }

    /// Whether a link on the way to `path` is no longer what it was.
    pub(super) fn is_ambiguous(&self, path: &Path) -> bool {
        path.ancestors()
            .skip(1)
            .any(|above| self.links.contains(above) || self.unlinked.contains(above))
    }
}

impl Changes {
    pub(super) fn new(paths: PathMap) -> Self {
        Self {
            paths,
            since: Since::default(),
            held: HashMap::new(),
            mapped: Vec::new(),
            inherited: Vec::new(),
            open: Default::default(),
            renamed: Vec::new(),
            always: None,
            late: None,
        }
    }

    /// Takes note of an event whose `file.close.open` is still the model's number.
    pub(super) fn observe(&mut self, captured: &Captured) {
        let Captured { event, opens, held } = captured;
        self.note_late(event);
        let number = opens.map(|id| u64::from(id.0));
        match &event.data {
            Data::FileOpen(open) if open.errno.is_none() => {
                let has = |flag: i32| open.flags & flag as u32 != 0;
                let writes = open.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32;
                // A file without a name (O_TMPFILE) is nobody's until it has one.
                let unnamed = open.flags & open_flags::TMPFILE == open_flags::TMPFILE;
                if !unnamed && (writes || has(libc::O_TRUNC) || open.created) {
                    let touch = if has(libc::O_CREAT) { Touch::Name } else { Touch::Content };
                    self.since.touch(&open.path, touch, true, !open.created);
                }
                if let Some(number) = number {
                    if writes && !unnamed {
                        self.held.insert(number, Held::at(&open.path));
                    } else {
                        self.held.remove(&number);
                    }
                }
            }
            Data::FdInitial(fd) if fd.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32 => {
                number.map(|number| self.held.insert(number, Held::at(&fd.path)));
            }
            Data::FileClose(close) => {
                let number = close.open.map(|open| open.0);
                if let Some(known) = number.and_then(|number| self.held.get(&number)) {
                    for path in &known.paths {
                        self.since.touch(&of(path), Touch::Content, true, true);
                    }
                    if !held {
                        number.and_then(|number| self.held.remove(&number));
                    }
                } else if let Some(path) = close.path.as_ref().filter(|_| close.written > 0) {
                    self.since.touch(path, Touch::Content, true, true);
                }
            }
            Data::FileRename(rename) if rename.errno.is_none() => {
                self.renamed(rename.from.as_path(), rename.to.as_path(), rename.flags);
            }
            Data::FileUnlink(unlink) if unlink.errno.is_none() => {
                self.since.touch(&unlink.path, Touch::Name, false, true);
                self.since.unlinked.insert(unlink.path.as_path().to_owned());
            }
            Data::FileMkdir(made) if made.errno.is_none() => {
                self.since.touch(&made.path, Touch::Name, false, false);
            }
            Data::FileRmdir(gone) if gone.errno.is_none() => {
                self.since.touch(&gone.path, Touch::Name, false, true);
            }
            Data::FileLink(link) if link.errno.is_none() => {
                self.since.touch(&link.to, Touch::Name, false, false);
                let (from, to) = (link.from.as_path(), link.to.as_path());
                if let Some(open) = link.open {
                    self.held.insert(open.0, Held::at(&link.to));
                } else {
                    self.since.touch(&link.from, Touch::Content, true, true);
                    for held in self.held_mut() {
                        if held.paths.iter().any(|path| path == from) {
                            held.paths.push(to.to_owned());
                        }
                    }
                }
                if !self.is_no_link(to) {
                    self.since.links.insert(to.to_owned());
                }
            }
            Data::FileSymlink(link) if link.errno.is_none() => {
                self.since.touch(&link.path, Touch::Name, false, false);
                self.since.links.insert(link.path.as_path().to_owned());
            }
            Data::FileMknod(node) if node.errno.is_none() => {
                self.since.touch(&node.path, Touch::Name, false, false);
            }
            Data::FileTruncate(file) if file.errno.is_none() => self.changed(&file.path),
            Data::FileChmod(file) if file.errno.is_none() => self.changed(&file.path),
            Data::FileChown(file) if file.errno.is_none() => self.changed(&file.path),
            Data::FileUtime(file) if file.errno.is_none() => self.changed(&file.path),
            Data::FileXattr(file) if file.errno.is_none() => self.changed(&file.path),
            Data::FileClone(clone) if clone.errno.is_none() => self.changed(&clone.to),
            Data::FileMmap(map) if map.errno.is_none() => {
                self.changed(&map.path);
                if !self.mapped.iter().any(|held| held.paths.contains(&map.path.as_path().into())) {
                    self.mapped.push(Held::at(&map.path));
                }
            }
            // Of their own these two change no path that an event has.
            Data::Mount(mount)
                if mount.errno.is_none() && !matches!(&*mount.op, "chroot" | "unshare") =>
            {
                self.always = Some("mounts changed");
            }
            // What is done outside is found at the end.
            Data::Lost(lost) if lost.place != "outside" => {
                let is = |losses: &[Loss]| losses.iter().any(|it| it.reason() == lost.reason);
                if is(&PASSING) {
                    self.since.break_with(lost.reason.clone().into_owned());
                } else if !is(&HARMLESS) {
                    self.always = Some("files may change without events");
                }
            }
            _ => {}
        }
    }

    fn changed(&mut self, path: &Bytes<'_>) {
        self.since.touch(path, Touch::Content, true, true);
    }

    /// Whether something is there that is no symbolic link.
    fn is_no_link(&self, path: &Path) -> bool {
        let found = self.paths.real(path).symlink_metadata();
        found.is_ok_and(|found| !found.is_symlink())
    }

    fn renamed(&mut self, from: &Path, to: &Path, flags: u32) {
        self.since.touch(&of(from), Touch::Name, false, true);
        self.since.touch(&of(to), Touch::Name, false, true);
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        let ways = [Some((from, to)), exchange.then_some((to, from))];
        for (from, to) in ways.into_iter().flatten() {
            match self.paths.real(to).symlink_metadata().map(|found| found.file_type()) {
                Ok(found) if found.is_dir() => self.since.rename(from, to),
                Ok(found) if found.is_symlink() => {
                    self.since.links.extend([from.to_owned(), to.to_owned()]);
                }
                Ok(_) => {}
                // It is gone again: what it was is told by what stood at its names before.
                Err(_) => {
                    self.since.rename(from, to);
                    self.since.unsure(from, to);
                }
            }
        }
        // Held files are known by paths without links once a snapshot was taken, and this one may have some.
        let physical = |path: &Path| {
            let dir = path.parent()?.canonicalize().ok()?;
            Some(dir.join(path.file_name()?))
        };
        let is_concerned = |held: &Held| {
            held.paths
                .iter()
                .any(|path| path.components().any(|it| Some(it.as_os_str()) == from.file_name()))
        };
        let mut concerned = self
            .held
            .values_mut()
            .chain(&mut self.mapped)
            .filter(|held| is_concerned(held))
            .peekable();
        if concerned.peek().is_none() {
            return;
        }
        let mut ways = vec![(from.to_owned(), to.to_owned())];
        if let (Some(from), Some(to)) = (physical(from), physical(to)) {
            ways.push((from, to));
        }
        for held in concerned {
            for path in &mut held.paths {
                let moved = ways.iter().find_map(|(from, to)| {
                    let back = || {
                        path.strip_prefix(to)
                            .ok()
                            .filter(|_| exchange)
                            .map(|rest| under(from, rest))
                    };
                    path.strip_prefix(from).ok().map(|rest| under(to, rest)).or_else(back)
                });
                if let Some(moved) = moved {
                    *path = moved;
                }
            }
        }
    }

    /// Takes note of the files that a process has open for writing, whose descriptors the command will have too.
    pub(super) fn inherit(&mut self, pid: Pid) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return };
        for descriptor in descriptors.flatten() {
            let Ok(path) = fs::read_link(descriptor.path()) else { continue };
            let info = format!("/proc/{pid}/fdinfo/{}", descriptor.file_name().display());
            let info = fs::read_to_string(info).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
            if path.is_absolute() && flags.is_some_and(|it| it & libc::O_ACCMODE != libc::O_RDONLY)
            {
                self.inherited.push(Held { paths: vec![path], resolved: true });
            }
        }
    }

    /// Every file that can change without an event.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        self.held
            .values()
            .chain(&self.mapped)
            .chain(&self.inherited)
            .chain(self.open.iter().flatten())
    }

    pub(super) fn held_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        let events = self.held.values_mut().chain(&mut self.mapped).chain(&mut self.inherited);
        events.chain(self.open.iter_mut().flatten())
    }

    /// Takes note of what is open for writing, by paths without links, and by inode where a name was lost. Who had one open
    /// at the last snapshot may have written to it and ended since.
    pub(super) fn open_now(&mut self, paths: Vec<PathBuf>, renamed: Vec<u64>) {
        self.since.inodes.extend(self.renamed.drain(..).chain(renamed.iter().copied()));
        self.renamed = renamed;
        let [former, now] = &mut self.open;
        *former = std::mem::take(now);
        now.extend(paths.into_iter().map(|path| Held { paths: vec![path], resolved: true }));
    }

    /// Takes note of what is mapped, by paths without links.
    pub(super) fn mapped_now(&mut self, paths: Vec<PathBuf>) {
        let held = |path| Held { paths: vec![path], resolved: true };
        self.mapped = paths.into_iter().map(held).collect();
    }

    /// Files that are mapped shared and writable.
    pub(super) fn mapped(&self) -> impl Iterator<Item = &Held> {
        self.mapped.iter()
    }

    /// What is changed from now on is late for the snapshot that is being taken.
    pub(super) fn begin_late(&mut self) {
        self.late = Some(HashSet::new());
    }

    /// What was changed since [`Changes::begin_late`].
    pub(super) fn end_late(&mut self) -> HashSet<Bytes<'static>> {
        self.late.take().unwrap_or_default()
    }

    /// Looks at these again the next time.
    pub(super) fn again<'p>(&mut self, paths: impl IntoIterator<Item = &'p Bytes<'static>>) {
        paths.into_iter().for_each(|path| self.since.touch(path, Touch::Content, true, true));
    }

    fn note_late(&mut self, event: &Event<'_>) {
        let Some(late) = &mut self.late else { return };
        let mut note = |path: &Bytes<'_>| {
            late.insert(path.clone().into_owned());
        };
        match &event.data {
            Data::FileOpen(open) if open.errno.is_none() => {
                let writes = open.flags & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32;
                if writes || open.flags & libc::O_TRUNC as u32 != 0 || open.created {
                    note(&open.path);
                }
            }
            Data::FileClose(close) if close.written > 0 => {
                let known = close.open.and_then(|open| self.held.get(&open.0));
                let path = known.and_then(|held| held.paths.first()).map(|path| of(path));
                // One that was open before has a path of its own.
                if let Some(path) = path.as_ref().or(close.path.as_ref()) {
                    note(path);
                }
            }
            Data::FileRename(rename) if rename.errno.is_none() => {
                note(&rename.from);
                note(&rename.to);
            }
            Data::FileUnlink(unlink) if unlink.errno.is_none() => note(&unlink.path),
            Data::FileMkdir(mkdir) if mkdir.errno.is_none() => note(&mkdir.path),
            Data::FileRmdir(rmdir) if rmdir.errno.is_none() => note(&rmdir.path),
            Data::FileLink(link) if link.errno.is_none() => note(&link.to),
            Data::FileSymlink(link) if link.errno.is_none() => note(&link.path),
            Data::FileMknod(node) if node.errno.is_none() => note(&node.path),
            Data::FileTruncate(file) if file.errno.is_none() => note(&file.path),
            Data::FileChmod(file) if file.errno.is_none() => note(&file.path),
            Data::FileClone(file) if file.errno.is_none() => note(&file.to),
            _ => {}
        }
    }
}

fn under(dir: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) }
}

fn of(path: &Path) -> Bytes<'static> {
    Bytes::from(OsStr::as_bytes(path.as_os_str()).to_vec())
}
