//! Descriptor tables and directories as tasks share, copy and drop them, and the events of what is closed on the way.

use std::os::fd::RawFd;

use agentrec_trace::Seq;
use agentrec_trace::event::{FileClose, NetClose};

use super::files::{Description, DescriptionId, Kind, Released};
use super::{Kernel, Model, Scribe, Task};
use crate::observation::{Loss, Tid};

pub(super) const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
pub(super) const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

impl Model {
    /// What the command starts with.
    pub(super) fn adopt_descriptors(&mut self, tid: Tid, task: Task, kernel: &mut impl Kernel) {
        for (fd, path) in kernel.descriptors(tid) {
            let kind = match self.outputs.contains(&fd) {
                true => Kind::Output(fd),
                false => self.found_kind(tid, fd, &path, kernel),
            };
            let id = self.descriptions.insert(Description::new(path, kind, false));
            self.files.get_mut(task.files).set(fd, id, false, false);
            self.descriptions.get_mut(id).tables = 1;
        }
        self.find_terminal(tid, task, kernel);
    }

    pub(super) fn drop_fs(&mut self, index: u32) {
        let fs = self.fs.get_mut(index);
        fs.users -= 1;
        if fs.users == 0 {
            self.fs.remove(index);
        }
    }

    pub(super) fn drop_files(&mut self, task: Task, scribe: &mut Scribe<'_>) {
        let files = self.files.get_mut(task.files);
        files.users -= 1;
        if files.users == 0 {
            for released in files.close_all() {
                self.release(task, Some(released), scribe);
            }
            self.files.remove(task.files);
        }
    }

    pub(super) fn copy_files(&mut self, from: u32) -> u32 {
        let copy = self.files.get(from).inherit();
        for id in copy.descriptions() {
            self.descriptions.get_mut(id).tables += 1;
        }
        self.files.insert(copy)
    }

    pub(super) fn unshare(&mut self, tid: Tid, flags: u64) {
        let Some(&task) = self.tasks.get(&tid) else { return };
        let has = |flag: i32| flags & flag as u32 as u64 != 0;
        if has(libc::CLONE_FILES) && self.files.get(task.files).users > 1 {
            let copy = self.copy_files(task.files);
            self.files.get_mut(task.files).users -= 1;
            self.tasks.insert(tid, Task { files: copy, ..task });
        }
        // A new mount or user namespace implies a working directory of one's own (unshare(2)).
        let own_fs = has(libc::CLONE_FS) || has(libc::CLONE_NEWNS) || has(libc::CLONE_NEWUSER);
        if own_fs && self.fs.get(task.fs).users > 1 {
            let copy = self.fs.get(task.fs).copy();
            self.fs.get_mut(task.fs).users -= 1;
            let fs = self.fs.insert(copy);
            if let Some(task) = self.tasks.get_mut(&tid) {
                task.fs = fs;
            }
        }
    }

    pub(super) fn close_range(
        &mut self,
        tid: Tid,
        first: u32,
        last: u32,
        flags: u32,
        scribe: &mut Scribe<'_>,
    ) {
        if first > last || flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 {
            return;
        }
        if flags & CLOSE_RANGE_UNSHARE != 0 {
            self.unshare(tid, libc::CLONE_FILES as u64);
        }
        let Some(&task) = self.tasks.get(&tid) else { return };
        let limit = |fd: u32| RawFd::try_from(fd).unwrap_or(RawFd::MAX);
        let range = limit(first)..=limit(last);
        if flags & CLOSE_RANGE_CLOEXEC != 0 {
            self.files.get_mut(task.files).set_cloexec_range(range);
            return;
        }
        for released in self.files.get_mut(task.files).close_range(range) {
            self.release(task, Some(released), scribe);
        }
    }

    pub(super) fn dup(
        &mut self,
        task: Task,
        fd: RawFd,
        new: RawFd,
        cloexec: bool,
        scribe: &mut Scribe<'_>,
    ) {
        if fd == new {
            return;
        }
        match self.files.get(task.files).get(fd) {
            Some(description) => self.install(task, new, description, cloexec, false, scribe),
            None => {
                // A copy of what is not followed takes the place of what was.
                let released = self.files.get_mut(task.files).close(new);
                self.release(task, released, scribe);
                self.check_reserved(task, new, None, scribe);
            }
        }
    }

    /// A descriptor of the task's names `description` from here on.
    pub(super) fn install(
        &mut self,
        task: Task,
        fd: RawFd,
        description: DescriptionId,
        cloexec: bool,
        opened: bool,
        scribe: &mut Scribe<'_>,
    ) {
        let (released, first) =
            self.files.get_mut(task.files).set(fd, description, cloexec, opened);
        if first {
            self.descriptions.get_mut(description).tables += 1;
        }
        self.release(task, released, scribe);
        self.check_reserved(task, fd, Some(description), scribe);
    }

    pub(super) fn check_reserved(
        &mut self,
        task: Task,
        fd: RawFd,
        description: Option<DescriptionId>,
        scribe: &mut Scribe<'_>,
    ) {
        if self.reserved_fd != Some(fd) {
            return;
        }
        let kind = description.map(|id| &self.descriptions.get(id).kind);
        if !matches!(kind, Some(Kind::Socket(socket)) if socket.ours) {
            self.lost(task, Loss::ReservedDescriptor, scribe);
        }
    }

    /// The last descriptor of a table for a description is gone.
    pub(super) fn release(
        &mut self,
        task: Task,
        released: Option<Released>,
        scribe: &mut Scribe<'_>,
    ) {
        let Some((id, used)) = released else { return };
        let proc = self.proc(task);
        let description = self.descriptions.get(id);
        let moved = used.read > 0 || used.written > 0;
        let open = description.has_event.then_some(Seq(u64::from(id)));
        if moved || (used.opened && description.has_event) {
            match &description.kind {
                Kind::Socket(socket) if open.is_none() && socket.peer.is_none() => {}
                Kind::Socket(socket) => {
                    let peer = socket.peer.clone().filter(|_| open.is_none());
                    let data = NetClose { open, sent: used.written, received: used.read, peer };
                    scribe.write(task.process, proc, data);
                }
                Kind::File | Kind::Output(_) => {
                    let path = open.is_none().then(|| description.path.clone().into());
                    let data = FileClose { open, path, read: used.read, written: used.written };
                    scribe.write_closing(task.process, proc, data, description.tables > 1);
                }
            }
        }
        self.let_go(id, scribe);
    }

    /// One that held a description does no longer.
    pub(super) fn let_go(&mut self, id: DescriptionId, scribe: &mut Scribe<'_>) {
        let description = self.descriptions.get_mut(id);
        description.tables -= 1;
        if description.tables == 0 {
            self.stream_over(id, false, scribe);
            self.descriptions.remove(id);
        }
    }
}
