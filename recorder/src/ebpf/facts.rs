//! What the model may ask of the kernel: told with the record where the programs could, else asked of /proc, when the thread
//! may have gone on.

use std::collections::HashMap;
use std::os::fd::RawFd;

use agentrec_recorder_ebpf::path;

use crate::model::{Kernel, SocketFacts, TerminalState};
use crate::observation::Tid;
use crate::proc::Proc;

/// Paths that were told of what comes next for a thread.
#[derive(Debug, Default)]
pub(super) struct Told {
    directory: Option<Vec<u8>>,
    program: Option<Vec<u8>>,
    descriptor: Option<Vec<u8>>,
}

/// [`Kernel`] for threads that run on.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) proc: Proc,
    told: HashMap<Tid, Told>,
}

impl Facts {
    /// Keeps a path for the record that comes next: names from the last to the first.
    pub(super) fn tell(&mut self, tid: Tid, what: u32, names: &[u8]) {
        let told = self.told.entry(tid).or_default();
        let place = match what {
            path::DIRECTORY => &mut told.directory,
            path::PROGRAM => &mut told.program,
            _ => &mut told.descriptor,
        };
        *place = Some(joined(names));
    }

    /// The program that a thread executes.
    pub(super) fn program(&mut self, tid: Tid) -> Option<Vec<u8>> {
        let mut path = self.told.get_mut(&tid)?.program.take()?;
        // As /proc has it: such a file has no name anywhere.
        if path.starts_with(b"/memfd:") {
            path.extend_from_slice(b" (deleted)");
        }
        Some(path)
    }

    /// What the descriptor names that a thread's call gave it.
    pub(super) fn opened(&mut self, tid: Tid) -> Option<Vec<u8>> {
        self.told.get_mut(&tid)?.descriptor.take()
    }

    /// The record is handled: what was told of it is old.
    pub(super) fn forget(&mut self, tid: Tid) {
        self.told.remove(&tid);
    }
}

/// A path of names that each end with a NUL, the last name first.
fn joined(names: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(names.len() + 1);
    let names = names.strip_suffix(b"\0").unwrap_or(names);
    for name in names.rsplit(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

impl Kernel for Facts {
    fn working_directory(&mut self, tid: Tid) -> Option<Vec<u8>> {
        let told = self.told.get_mut(&tid).and_then(|told| told.directory.take());
        told.or_else(|| self.proc.working_directory(tid))
    }

    fn descriptor(&mut self, tid: Tid, fd: RawFd) -> Option<Vec<u8>> {
        self.proc.descriptor(tid, fd)
    }

    fn root(&mut self, tid: Tid) -> Option<Vec<u8>> {
        self.proc.root(tid)
    }

    fn mount_namespace(&mut self, tid: Tid) -> Option<u64> {
        self.proc.mount_namespace(tid)
    }

    fn is_symlink(&mut self, tid: Tid, path: &[u8]) -> bool {
        self.proc.is_symlink(tid, path)
    }

    fn link(&mut self, tid: Tid, fd: RawFd) -> Option<Vec<u8>> {
        self.proc.link(tid, fd)
    }

    fn directory(&mut self, tid: Tid, path: &[u8]) -> Option<Vec<u8>> {
        self.proc.directory(tid, path)
    }

    fn descriptors(&mut self, tid: Tid) -> Vec<(RawFd, Vec<u8>)> {
        self.proc.descriptors(tid)
    }

    fn descriptor_flags(&mut self, tid: Tid, fd: RawFd) -> Option<u32> {
        self.proc.descriptor_flags(tid, fd)
    }

    fn pidfd(&mut self, tid: Tid, fd: RawFd) -> Option<Tid> {
        self.proc.pidfd(tid, fd)
    }

    fn socket(&mut self, tid: Tid, fd: RawFd) -> Option<SocketFacts> {
        self.proc.socket(tid, fd)
    }

    fn terminal(&mut self, tid: Tid, fd: RawFd) -> Option<u32> {
        self.proc.terminal(tid, fd)
    }

    fn controlling_terminal(&mut self, tid: Tid) -> Option<u32> {
        self.proc.controlling_terminal(tid)
    }

    fn terminal_state(&mut self, tid: Tid, fd: RawFd) -> Option<TerminalState> {
        self.proc.terminal_state(tid, fd)
    }

    fn program(&mut self, pid: Tid) -> Option<Vec<u8>> {
        Kernel::program(&mut self.proc, pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_together_from_their_end() {
        assert_eq!(joined(b""), b"/");
        assert_eq!(joined(b"a\0"), b"/a");
        assert_eq!(joined(b"file\0b\0a\0"), b"/a/b/file");
    }
}
