//! Mounts, roots and namespaces: what decides which file a path leads to.

use std::os::fd::RawFd;

use agentrec_trace::event::Mount;

use super::files::{Description, Kind};
use super::{Kernel, Model, Scribe, Task, paths};
use crate::observation::{At, Call, Observation, Tid};

/// Root and working directory, physical, as the recorder sees them; shared by tasks with CLONE_FS (fs_struct in the
/// kernel). A mount namespace goes with them: no two tasks share these and are in different ones (clone(2), setns(2)).
#[derive(Debug)]
pub(super) struct Fs {
    pub(super) cwd: Vec<u8>,
    /// What absolute paths start with: empty, where the recorder's root is this one too.
    pub(super) root: Vec<u8>,
    /// Number of the mount namespace, where the kernel told.
    pub(super) namespace: Option<u64>,
    /// Tasks that hold it.
    pub(super) users: u32,
}

impl Fs {
    /// For one task.
    pub(super) fn new(cwd: Vec<u8>) -> Self {
        Self { cwd, root: Vec::new(), namespace: None, users: 1 }
    }

    /// For one task more, which doesn't share it.
    pub(super) fn copy(&self) -> Self {
        Self { cwd: self.cwd.clone(), root: self.root.clone(), namespace: self.namespace, users: 1 }
    }

    /// `path`, relative to `base` or to the working directory.
    pub(super) fn absolute(
        &self,
        tid: Tid,
        base: Option<&[u8]>,
        path: &[u8],
        kernel: &mut impl Kernel,
    ) -> Vec<u8> {
        let is_symlink = |name: &[u8]| self.is_symlink(tid, name, kernel);
        paths::absolute(&self.root, base.unwrap_or(&self.cwd), path, is_symlink)
    }

    pub(super) fn is_symlink(&self, tid: Tid, name: &[u8], kernel: &mut impl Kernel) -> bool {
        match name.strip_prefix(&*self.root) {
            Some(inside) => kernel.is_symlink(tid, inside),
            // Not to be reached from the root: its `..` stays.
            None => true,
        }
    }

    pub(super) fn set_root(&mut self, mut root: Vec<u8>) {
        if root == b"/" {
            root.clear();
        }
        self.root = root;
    }
}

/// What a descriptor of the mount calls stands for (fsopen(2), fsmount(2)).
#[derive(Clone, Debug, Default)]
pub(super) struct MountFd {
    source: Vec<u8>,
    fstype: Vec<u8>,
}

impl Model {
    /// The calls that change what paths mean, and those that prepare one.
    pub(super) fn mounts(
        &mut self,
        task: Task,
        seen: &Observation<'_>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let tid = seen.tid;
        let errno = seen.result.err();
        let done = errno.is_none();
        let mut path = |at| self.path(tid, task, at, kernel).unwrap_or_default();
        let event = match seen.call {
            Call::Mount { source, target, fstype, flags } => {
                let moves = flags & libc::MS_MOVE != 0;
                let is_path = moves || flags & libc::MS_BIND != 0;
                let source = match source {
                    Some(source) if is_path => path(At::Path { dir: None, path: source }),
                    source => source.unwrap_or_default().to_vec(),
                };
                let target = path(target);
                if done && moves {
                    self.moved_mounts(task, kernel);
                }
                mount("mount", source, target, fstype, flags)
            }
            Call::Umount { target, flags } => {
                let target = path(target);
                if done {
                    self.moved_mounts(task, kernel);
                }
                mount("umount", Vec::new(), target, b"", flags)
            }
            Call::PivotRoot { new, old } => {
                let (new, old) = (path(new), path(old));
                if done {
                    self.moved_mounts(task, kernel);
                }
                mount("pivot_root", new, old, b"", 0)
            }
            Call::MoveMount { from, to, flags } => {
                let described = match from {
                    At::Descriptor(fd) => self.mount_fd(task, fd).map(|(_, mount)| mount.clone()),
                    At::Path { .. } | At::InRoot { .. } | At::Known(_) => None,
                };
                let mut path = |at| self.path(tid, task, at, kernel).unwrap_or_default();
                let MountFd { source, fstype } =
                    described.unwrap_or_else(|| MountFd { source: path(from), fstype: Vec::new() });
                let target = path(to);
                if done {
                    self.moved_mounts(task, kernel);
                }
                mount("move_mount", source, target, &fstype, flags)
            }
            Call::MountSetAttr { at, flags } => {
                mount("mount_setattr", Vec::new(), path(at), b"", flags)
            }
            Call::Reconfigure { fd } => {
                mount("fsconfig", Vec::new(), path(At::Descriptor(fd)), b"", 0)
            }
            Call::Chroot { at } => {
                let target = path(at);
                if done {
                    let root = kernel.root(tid).unwrap_or_else(|| target.clone());
                    self.fs.get_mut(task.fs).set_root(root);
                }
                mount("chroot", Vec::new(), target, b"", 0)
            }
            Call::Unshare { flags } => {
                if done {
                    self.fs.get_mut(task.fs).namespace = kernel.mount_namespace(tid);
                }
                mount("unshare", Vec::new(), Vec::new(), b"", flags)
            }
            Call::SetNs { fd, flags } => {
                let namespace = kernel.mount_namespace(tid);
                let fs = self.fs.get(task.fs);
                if flags & libc::CLONE_NEWNS as u32 == 0 && namespace == fs.namespace {
                    return;
                }
                let source = self.path(tid, task, At::Descriptor(fd), kernel).unwrap_or_default();
                if done {
                    self.fs.get_mut(task.fs).namespace = namespace;
                    self.ask(tid, task.fs, kernel);
                }
                mount("setns", source, Vec::new(), b"", u64::from(flags))
            }
            Call::OpenTree { at, cloexec } => {
                let Ok(fd) = seen.result else { return };
                let path = path(at);
                return self.mount_fd_opened(task, fd, path, None, cloexec, scribe);
            }
            Call::FsOpen { fstype, cloexec } => {
                let Ok(fd) = seen.result else { return };
                let mount = MountFd { source: Vec::new(), fstype: fstype.to_vec() };
                return self.mount_fd_opened(task, fd, Vec::new(), Some(mount), cloexec, scribe);
            }
            Call::FsSource { fd, source } => {
                if let Some((_, mount)) = self.mount_fd(task, fd).filter(|_| done) {
                    mount.source = source.to_vec();
                }
                return;
            }
            Call::FsMount { fd, cloexec } => {
                let Ok(new) = seen.result else { return };
                let mount = self.mount_fd(task, fd).map(|(_, mount)| mount.clone());
                return self.mount_fd_opened(task, new, Vec::new(), mount, cloexec, scribe);
            }
            _ => return,
        };
        scribe.write(task.process, self.proc(task), Mount { errno, ..event });
    }

    fn mount_fd_opened(
        &mut self,
        task: Task,
        fd: u64,
        path: Vec<u8>,
        mount: Option<MountFd>,
        cloexec: bool,
        scribe: &mut Scribe<'_>,
    ) {
        let mut description = Description::new(path, Kind::File, false);
        description.mount = mount.map(Box::new);
        let id = self.descriptions.insert(description);
        self.install(task, fd as RawFd, id, cloexec, true, scribe);
    }

    fn mount_fd(&mut self, task: Task, fd: RawFd) -> Option<(u32, &mut MountFd)> {
        let id = self.files.get(task.files).get(fd)?;
        Some((id, self.descriptions.get_mut(id).mount.as_deref_mut()?))
    }

    /// Mounts have other places now, and with them the directories of everybody in that namespace (pivot_root(2) says
    /// even that it moves the roots of others).
    fn moved_mounts(&mut self, task: Task, kernel: &mut impl Kernel) {
        for description in self.descriptions.iter_mut() {
            description.base = None;
        }
        let namespace = self.fs.get(task.fs).namespace;
        let mut asked = Vec::new();
        let others: Vec<(Tid, u32)> =
            self.tasks.iter().map(|(&tid, task)| (tid, task.fs)).collect();
        for (tid, fs) in others {
            if !asked.contains(&fs) && self.fs.get(fs).namespace == namespace {
                asked.push(fs);
                self.ask(tid, fs, kernel);
            }
        }
    }

    /// Takes root and working directory as the kernel has them.
    fn ask(&mut self, tid: Tid, fs: u32, kernel: &mut impl Kernel) {
        let fs: &mut Fs = self.fs.get_mut(fs);
        if let Some(root) = kernel.root(tid) {
            fs.set_root(root);
        }
        if let Some(cwd) = kernel.working_directory(tid) {
            fs.cwd = cwd;
        }
    }
}

fn mount(
    op: &'static str,
    source: Vec<u8>,
    target: Vec<u8>,
    fstype: &[u8],
    flags: u64,
) -> Mount<'static> {
    Mount {
        op: op.into(),
        source: source.into(),
        target: target.into(),
        fstype: fstype.to_vec().into(),
        flags,
        errno: None,
    }
}
