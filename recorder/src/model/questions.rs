//! What an engine asks the model at a stop, on the path of every transfer.

use std::os::fd::RawFd;

use agentrec_trace::ProcId;

use super::Model;
use super::files::Kind;
use crate::observation::Tid;

/// What has to be known of a transfer through a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Nothing: it leads to what is not followed, such as a pipe.
    None,
    /// The same, and what it begins with is not known: [`Model::begins`] says whether it is more.
    Begin,
    /// How much it moved, at some time before the thread's next call.
    Sum,
    /// What it moved, at its end.
    Each,
}

impl Model {
    /// Which of the command's outputs a descriptor leads to: 1 or 2.
    pub fn output(&self, tid: Tid, fd: RawFd) -> Option<RawFd> {
        let task = self.tasks.get(&tid)?;
        let description = self.files.get(task.files).get(fd)?;
        match self.descriptions.get(description).kind {
            Kind::Output(stream) => Some(stream),
            _ => None,
        }
    }

    /// What has to be known of a transfer of `tid` through `fd`.
    pub fn interest(&self, tid: Tid, fd: RawFd) -> Interest {
        let Some(&task) = self.tasks.get(&tid) else { return Interest::Each };
        let files = self.files.get(task.files);
        let Some(description) = files.get(fd) else {
            return match () {
                () if self.carries_lines(task, fd) => Interest::Each,
                () if self.wants_pipe(task, fd) => Interest::Begin,
                () => Interest::None,
            };
        };
        let description = self.descriptions.get(description);
        match description.kind {
            // What is typed is recorded.
            _ if description.is_terminal => Interest::Each,
            // A socket that could not be asked: descriptors may come through it.
            Kind::File if description.path.starts_with(b"socket:") => Interest::Each,
            // With others in the table the number can mean something else before the thread stops again.
            Kind::File if files.users == 1 => Interest::Sum,
            _ => Interest::Each,
        }
    }

    /// Whom an event of a thread belongs to: its process, and the thread where that is not the process's first.
    pub fn author(&self, tid: Tid) -> Option<(ProcId, Option<u32>)> {
        let task = *self.tasks.get(&tid)?;
        Some((self.proc(task), (tid != task.process).then_some(tid as u32)))
    }

    /// How much of an absolute path of a thread is its root, in bytes; and whether the path means the same to the recorder, as far as
    /// that is known.
    pub fn root_of(&self, tid: Tid, path: &[u8]) -> (usize, bool) {
        let Some(task) = self.tasks.get(&tid) else { return (0, false) };
        let fs = self.fs.get(task.fs);
        let root = if path.starts_with(&fs.root) { fs.root.len() } else { 0 };
        (root, fs.root.is_empty() && fs.namespace.is_none())
    }

    /// Columns and rows of the session's terminal, as they were told last.
    pub fn terminal_size(&self) -> Option<(u16, u16)> {
        self.terminal?.size
    }

    /// The one thread that a process has left, where it is only one.
    pub fn only_thread_of(&self, pid: Tid) -> Option<Tid> {
        let mut threads = self.tasks.iter().filter(|(_, task)| task.process == pid);
        let (&only, _) = threads.next()?;
        threads.next().is_none().then_some(only)
    }

    /// The descriptors of a thread that are followed.
    pub fn descriptors_of(&self, tid: Tid) -> Vec<RawFd> {
        let files = self.tasks.get(&tid).map(|task| self.files.get(task.files));
        files.map_or_else(Vec::new, |files| files.iter().map(|(fd, _)| fd).collect())
    }

    /// Says what names relative to a descriptor start with, which else the kernel is asked for when there is one.
    pub fn set_directory(&mut self, tid: Tid, fd: RawFd, path: Vec<u8>) {
        let Some(task) = self.tasks.get(&tid) else { return };
        if let Some(description) = self.files.get(task.files).get(fd) {
            self.descriptions.get_mut(description).base = Some(path);
        }
    }

    /// The path of what a descriptor leads to, where it is followed and has one.
    pub fn file(&self, tid: Tid, fd: RawFd) -> Option<&[u8]> {
        let task = self.tasks.get(&tid)?;
        let description = self.files.get(task.files).get(fd)?;
        Some(&self.descriptions.get(description).path)
    }
}
