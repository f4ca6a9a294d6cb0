//! The calls that name something: each becomes an event with its absolute path, and some change the state.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use agentrec_trace::event::{
    DirChange, FileChmod, FileChown, FileClone, FileLink, FileMkdir, FileMknod, FileMmap, FileOpen,
    FileRename, FileRmdir, FileSymlink, FileTruncate, FileUnlink, FileUtime, FileXattr,
    ProcessExec,
};
use agentrec_trace::{Bytes, Seq, open_flags};

use super::files::{Description, DescriptionId, Kind};
use super::{Kernel, Model, Scribe, Task, paths, split_nul};
use crate::observation::{At, Call, Observation, Tid};

/// O_TMPFILE is O_DIRECTORY and a bit of its own.
const TMPFILE: u32 = libc::O_TMPFILE as u32;

impl Model {
    /// Every call whose event is little more than its arguments.
    pub(super) fn describe(
        &mut self,
        task: Task,
        seen: &Observation<'_>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let tid = seen.tid;
        let proc = self.proc(task);
        let errno = seen.result.err();
        let mut path = |at| self.path(tid, task, at, kernel).map(Bytes::from);
        // One descriptor without a name (a pipe, a memfd): no file is touched, so there is no event.
        macro_rules! event {
            ($data:ident { $($field:ident : $value:expr),* $(,)? }) => {
                scribe.write(task.process, proc, $data { $($field: $value,)* errno })
            };
        }
        macro_rules! named {
            ($at:expr) => {
                match path($at) {
                    Some(path) => path,
                    None => return,
                }
            };
        }
        match seen.call {
            Call::Open { at, flags, mode, created } => {
                let path = named!(at);
                let fd = seen.result.ok().map(|fd| fd as RawFd);
                let kind = self.kind_of(task, at);
                let opens = fd.map(|_| {
                    let mut description = Description::new(path.to_vec(), kind, true);
                    description.unnamed = flags & TMPFILE == TMPFILE;
                    self.descriptions.insert(description)
                });
                let given = open_flags::from_native(flags);
                let data = FileOpen { path, flags: given, mode, fd, errno, created };
                scribe.write_opening(task.process, proc, data, opens);
                if let (Some(fd), Some(id)) = (fd, opens) {
                    let cloexec = flags & libc::O_CLOEXEC as u32 != 0;
                    self.install(task, fd, id, cloexec, true, scribe);
                    self.check_terminal(tid, fd, id, kernel);
                }
            }
            Call::Rename { from, to, flags } => {
                let (from, to) = (named!(from), named!(to));
                if errno.is_none() {
                    self.renamed(tid, task, [&from, &to], flags, kernel);
                }
                event!(FileRename { from: from, to: to, flags: flags });
            }
            Call::Unlink { at } => event!(FileUnlink { path: named!(at) }),
            Call::Rmdir { at } => event!(FileRmdir { path: named!(at) }),
            Call::Mkdir { at, mode } => event!(FileMkdir { path: named!(at), mode: mode }),
            Call::Link { from, to } => {
                let (from_path, to) = (named!(from), named!(to));
                let unnamed = self.unnamed(task, from).filter(|_| errno.is_none());
                if let Some(id) = unnamed {
                    let description = self.descriptions.get_mut(id);
                    description.unnamed = false;
                    description.path = to.to_vec();
                }
                let open = unnamed.map(|id| Seq(u64::from(id)));
                event!(FileLink { from: from_path, to: to, open: open });
            }
            Call::Symlink { target, at } => {
                event!(FileSymlink { target: target.to_vec().into(), path: named!(at) });
            }
            Call::Mknod { at, mode, dev } => {
                event!(FileMknod { path: named!(at), mode: mode, dev: dev });
            }
            Call::Truncate { at, length, mode } => {
                event!(FileTruncate { path: named!(at), length: length, mode: mode });
            }
            Call::Chmod { at, mode } => event!(FileChmod { path: named!(at), mode: mode }),
            Call::Chown { at, uid, gid } => {
                event!(FileChown { path: named!(at), uid: uid, gid: gid });
            }
            Call::Utime { at, atime, mtime } => {
                event!(FileUtime { path: named!(at), atime: atime, mtime: mtime });
            }
            Call::Xattr { at, name, size } => {
                event!(FileXattr { path: named!(at), name: name.to_vec().into(), size: size });
            }
            Call::Mmap { fd, offset, length } => {
                let path = named!(At::Descriptor(fd));
                event!(FileMmap { path: path, offset: offset, length: length });
            }
            Call::CloneFile { from, to } => {
                let (from, to) = (named!(At::Descriptor(from)), named!(At::Descriptor(to)));
                event!(FileClone { from: from, to: to });
            }
            Call::Chdir { at } => {
                let path = named!(at);
                if errno.is_none() {
                    let physical = kernel.working_directory(tid).unwrap_or_else(|| path.to_vec());
                    self.fs.get_mut(task.fs).cwd = physical;
                }
                event!(DirChange { path: path });
            }
            Call::ExecFailed { at, argv } => {
                let path = named!(at);
                event!(ProcessExec {
                    path: path,
                    argv: argv.iter().map(|arg| arg.to_vec().into()).collect(),
                    argv_len: argv.cut,
                    cwd: self.fs.get(task.fs).cwd.clone().into(),
                    env: Vec::new(),
                    exe: None,
                    pid: task.process as u32,
                    initial: false,
                });
            }
            _ => {}
        }
    }

    /// The absolute path of `at`; None where a descriptor has no name. Where a directory descriptor names
    /// nothing, the path stays as given.
    pub(super) fn path(
        &mut self,
        tid: Tid,
        task: Task,
        at: At<'_>,
        kernel: &mut impl Kernel,
    ) -> Option<Vec<u8>> {
        match at {
            At::Descriptor(fd) => match self.files.get(task.files).get(fd) {
                Some(id) => {
                    let path = &self.descriptions.get(id).path;
                    path.starts_with(b"/").then(|| path.clone())
                }
                None => kernel.descriptor(tid, fd),
            },
            At::Known(path) => Some(path.to_vec()),
            At::InRoot { path: b"", .. } => Some(Vec::new()),
            At::InRoot { dir, path } => {
                let base = match dir {
                    Some(fd) => self.base(tid, task, fd, kernel),
                    None => Some(self.fs.get(task.fs).cwd.clone()),
                };
                let Some(base) = base else { return Some(path.to_vec()) };
                let fs = self.fs.get(task.fs);
                Some(paths::absolute(&base, &base, path, |name| fs.is_symlink(tid, name, kernel)))
            }
            // ENOENT, and no file: nothing to make absolute.
            At::Path { path: b"", .. } => Some(Vec::new()),
            At::Path { path, .. }
                if let Some((fd, rest)) = paths::descriptor(path)
                    && let Some(named) = self.path(tid, task, At::Descriptor(fd), kernel) =>
            {
                match rest {
                    b"" => Some(named),
                    _ => self.path(tid, task, At::Path { dir: Some(fd), path: rest }, kernel),
                }
            }
            At::Path { dir: Some(fd), path } if path[0] != b'/' => {
                let Some(base) = self.base(tid, task, fd, kernel) else {
                    return Some(path.to_vec());
                };
                Some(self.fs.get(task.fs).absolute(tid, Some(&base), path, kernel))
            }
            At::Path { path, .. } => Some(self.fs.get(task.fs).absolute(tid, None, path, kernel)),
        }
    }

    /// The open file without a name that `at` leads to.
    fn unnamed(&self, task: Task, at: At<'_>) -> Option<DescriptionId> {
        let fd = match at {
            At::Descriptor(fd) => fd,
            At::Path { path, .. } => paths::descriptor(path).filter(|(_, rest)| rest.is_empty())?.0,
            At::InRoot { .. } | At::Known(_) => return None,
        };
        let id = self.files.get(task.files).get(fd)?;
        self.descriptions.get(id).unnamed.then_some(id)
    }

    /// What a file is that is opened by this name: an output too where it is that of a descriptor (`/dev/stderr`).
    fn kind_of(&self, task: Task, at: At<'_>) -> Kind {
        let named = match at {
            At::Path { path, .. } => paths::descriptor(path).filter(|(_, rest)| rest.is_empty()),
            At::Descriptor(_) | At::InRoot { .. } | At::Known(_) => None,
        };
        let again = named.and_then(|(fd, _)| self.files.get(task.files).get(fd));
        match again.map(|id| &self.descriptions.get(id).kind) {
            Some(&Kind::Output(stream)) => Kind::Output(stream),
            _ => Kind::File,
        }
    }

    /// What names relative to a directory descriptor start with. The kernel is asked once a description, since
    /// the name it was opened by may be a link.
    fn base(
        &mut self,
        tid: Tid,
        task: Task,
        fd: RawFd,
        kernel: &mut impl Kernel,
    ) -> Option<Vec<u8>> {
        let Some(id) = self.files.get(task.files).get(fd) else {
            return kernel.descriptor(tid, fd);
        };
        let description = self.descriptions.get_mut(id);
        if description.base.is_none() {
            let asked = kernel.descriptor(tid, fd);
            description.base = Some(asked.unwrap_or_else(|| description.path.clone()));
        }
        description.base.clone().filter(|base| base.starts_with(b"/"))
    }

    /// Names at and below a renamed one lead elsewhere now. `meant` are the old and the new one as the process meant
    /// them; directories are known by their physical names.
    fn renamed(
        &mut self,
        tid: Tid,
        task: Task,
        meant: [&[u8]; 2],
        flags: u32,
        kernel: &mut impl Kernel,
    ) {
        let physical = meant.map(|path| self.physical(tid, task, path, kernel));
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        let fix = |path: &mut Vec<u8>, from: &[u8], to: &[u8]| {
            let new = paths::renamed(path, from, to);
            let new = new.or_else(|| if exchange { paths::renamed(path, to, from) } else { None });
            new.map(|new| *path = new).is_some()
        };
        let fix_physical = |path: &mut Vec<u8>| fix(path, &physical[0], &physical[1]);
        self.fs.iter_mut().for_each(|fs| {
            fix_physical(&mut fs.cwd);
            fix_physical(&mut fs.root);
        });
        for description in self.descriptions.iter_mut() {
            let path = &mut description.path;
            let _ = fix(path, meant[0], meant[1]) || fix_physical(path);
            description.base.as_mut().map(fix_physical);
        }
    }

    /// A path whose directories are no links.
    fn physical(&self, tid: Tid, task: Task, path: &[u8], kernel: &mut impl Kernel) -> Vec<u8> {
        let fs = self.fs.get(task.fs);
        let name = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let (directory, name) = path.split_at(name);
        // Most often it is there that files are moved; it needs no question.
        if directory == fs.cwd {
            return path.to_vec();
        }
        let inside = directory.strip_prefix(&*fs.root);
        match inside.and_then(|inside| kernel.directory(tid, inside)) {
            Some(root) if root == b"/" => name.to_vec(),
            Some(directory) => [&directory, name].concat(),
            None => path.to_vec(),
        }
    }
}

/// The variables of the environment block `new` that `old` has not, and, without value, the other way round.
pub(super) fn env_changes(old: &[u8], new: &[u8]) -> Vec<(Bytes<'static>, Option<Bytes<'static>>)> {
    if old == new {
        return Vec::new();
    }
    let (old, new) = (variables(old), variables(new));
    let set = new
        .iter()
        .filter(|(name, value)| old.get(*name) != Some(value))
        .map(|(name, value)| (name.to_vec().into(), Some(value.to_vec().into())));
    let removed =
        old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.to_vec().into(), None));
    set.chain(removed).collect()
}

fn variables(block: &[u8]) -> BTreeMap<&[u8], &[u8]> {
    // getenv(3) finds the first of several.
    let mut variables = BTreeMap::new();
    for entry in split_nul(block).filter(|entry| !entry.is_empty()) {
        let at = entry.iter().position(|&byte| byte == b'=').unwrap_or(entry.len());
        let (name, value) = (&entry[..at], entry.get(at + 1..).unwrap_or_default());
        variables.entry(name).or_insert(value);
    }
    variables
}
