//! The session's terminal: what the tree reads from it, and its size.

use std::os::fd::RawFd;

use agentrec_trace::event::{Content, TermInput, TermResize};

use super::files::DescriptionId;
use super::{Kernel, Model, Scribe, Task};
use crate::observation::{Observation, Tid};

/// The terminal that the command was started at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    device: u32,
    /// Columns and rows, as last told.
    pub(super) size: Option<(u16, u16)>,
}

impl Model {
    /// Whether a descriptor leads to the session's terminal.
    pub fn terminal(&self, tid: Tid, fd: RawFd) -> bool {
        if self.terminal.is_none() {
            return false;
        }
        let Some(task) = self.tasks.get(&tid) else { return false };
        let description = self.files.get(task.files).get(fd);
        description.is_some_and(|id| self.descriptions.get(id).is_terminal)
    }

    /// The session's terminal is the command's standard input; where that is none, its controlling terminal.
    pub(super) fn find_terminal(&mut self, tid: Tid, task: Task, kernel: &mut impl Kernel) {
        let open: Vec<_> = self.files.get(task.files).iter().collect();
        let may_be = |id| may_be_terminal(&self.descriptions.get(id).path);
        let terminals: Vec<_> = open
            .into_iter()
            .filter(|&(_, id)| may_be(id))
            .filter_map(|(fd, id)| Some((fd, id, kernel.terminal(tid, fd)?)))
            .collect();
        let input = terminals.iter().find(|(fd, ..)| *fd == 0).map(|&(.., device)| device);
        let Some(device) = input.or_else(|| kernel.controlling_terminal(tid)) else { return };
        let mut size = None;
        for (fd, id, _) in terminals.into_iter().filter(|terminal| terminal.2 == device) {
            self.descriptions.get_mut(id).is_terminal = true;
            let state = kernel.terminal_state(tid, fd);
            size = size.or(state.map(|state| (state.cols, state.rows)));
        }
        self.terminal = Some(Terminal { device, size });
    }

    /// A description is new: whether it is the session's terminal.
    pub(super) fn check_terminal(
        &mut self,
        tid: Tid,
        fd: RawFd,
        id: DescriptionId,
        kernel: &mut impl Kernel,
    ) {
        let Some(terminal) = self.terminal else { return };
        let description = self.descriptions.get_mut(id);
        if may_be_terminal(&description.path) {
            description.is_terminal = kernel.terminal(tid, fd) == Some(terminal.device);
        }
    }

    pub(super) fn input(&self, task: Task, data: &[u8], hidden: u64, scribe: &mut Scribe<'_>) {
        let data = Content::Inline(data.to_vec().into());
        scribe.write(task.process, self.proc(task), TermInput { data, hidden });
    }

    /// Who is told of a new size (SIGWINCH) may be many; it is written once.
    pub(super) fn resize(
        &mut self,
        task: Task,
        seen: &Observation<'_>,
        fd: Option<RawFd>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let Some(told) = self.terminal.and_then(|terminal| terminal.size) else { return };
        let is_terminal = |&(_, id): &(RawFd, DescriptionId)| self.descriptions.get(id).is_terminal;
        let mut open = self.files.get(task.files).iter().filter(is_terminal);
        let Some((fd, _)) = open.find(|&(open, _)| fd.is_none_or(|fd| fd == open)) else { return };
        let Some(state) = kernel.terminal_state(seen.tid, fd) else { return };
        let (cols, rows) = (state.cols, state.rows);
        if told != (cols, rows) {
            self.terminal = self.terminal.map(|now| Terminal { size: Some((cols, rows)), ..now });
            scribe.write(task.process, self.proc(task), TermResize { cols, rows });
        }
    }
}

/// Spares nearly all files the question.
fn may_be_terminal(path: &[u8]) -> bool {
    path.strip_prefix(b"/dev/").is_some_and(|name| {
        [&b"tty"[..], b"pts/", b"console"].iter().any(|start| name.starts_with(start))
    })
}
