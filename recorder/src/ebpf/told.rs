//! What the model asks of the kernel: told by the programs where they could, since /proc is asked late, when the thread may
//! be elsewhere, or gone.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentrec_recorder_ebpf::{ADDRESS_WORDS, DELETED, Part, Socket, place};

use crate::model::{Kernel, SocketFacts, TerminalState};
use crate::observation::Tid;
use crate::proc::Proc;

const CLOEXEC: u32 = libc::O_CLOEXEC as u32;

/// Descriptors with what they name.
type Open = Vec<(RawFd, Vec<u8>)>;

/// What was told of the record that comes next for a thread.
#[derive(Debug, Default)]
struct Facts {
    places: Vec<(u32, Vec<u8>)>,
    socket: Option<(RawFd, SocketFacts)>,
    /// What that one is known by (SO_COOKIE), where its connection was led to the proxy.
    diverted: Option<u64>,
    /// Columns and rows of the terminal.
    size: Option<(u16, u16)>,
}

/// [`Kernel`] for threads that run on.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) proc: Proc,
    facts: HashMap<Tid, Facts>,
    /// What the command's process had open before it could execute anything.
    initial: Option<(Tid, Open)>,
    /// A process that was found when it executed a program, and what it has open is asked for.
    pub(super) executed: Option<Tid>,
    /// Of threads that have another root directory than the recorder.
    roots: HashMap<Tid, Vec<u8>>,
}

impl Told {
    /// The path whose names come here belongs to the next record of its thread.
    pub(super) fn place(&mut self, part: &Part, names: &[u8]) {
        let tid = part.head.tid as Tid;
        let mut path = path(names);
        // A program that is gone is named so in /proc as well.
        if part.what == place::EXE && part.head.flags & DELETED != 0 {
            path.extend_from_slice(b" (deleted)");
        }
        if part.what == place::ROOT {
            self.set_root(tid, path.clone());
        }
        self.facts.entry(tid).or_default().places.push((part.what, path));
    }

    /// The socket that the next record of its thread speaks of.
    pub(super) fn socket_told(&mut self, socket: &Socket) {
        let bytes = |words: &[u64; ADDRESS_WORDS], len: u32| {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            bytes.truncate(len as usize);
            bytes
        };
        let facts = SocketFacts {
            family: socket.family as i32,
            kind: socket.kind as i32,
            listens: socket.listens != 0,
            local: bytes(&socket.local, socket.local_len),
            peer: bytes(&socket.peer, socket.peer_len),
            peer_pid: Some(socket.peer_pid as Tid).filter(|&pid| pid != 0),
        };
        let told = self.facts.entry(socket.head.tid as Tid).or_default();
        told.socket = Some((socket.fd, facts));
        told.diverted = Some(socket.diverted).filter(|&cookie| cookie != 0);
    }

    /// What the socket is known by that was told of, where its connection was led to the proxy.
    pub(super) fn diverted(&self, tid: Tid, fd: RawFd) -> Option<u64> {
        let facts = self.facts.get(&tid)?;
        facts.diverted.filter(|_| facts.socket.as_ref().is_some_and(|socket| socket.0 == fd))
    }

    /// The size of the terminal that the next record, or this one, speaks of.
    pub(super) fn resized(&mut self, tid: Tid, cols: u16, rows: u16) {
        self.facts.entry(tid).or_default().size = Some((cols, rows));
    }

    /// The command's process waits to be followed.
    pub(super) fn starting(&mut self, pid: Tid) {
        let mut open = self.proc.descriptors(pid);
        let mut stays = |fd| self.proc.descriptor_flags(pid, fd).unwrap_or(0) & CLOEXEC == 0;
        open.retain(|&(fd, _)| stays(fd));
        self.initial = Some((pid, open));
        self.roots.clear();
        self.facts.clear();
    }

    /// The root directory of a thread that ran before.
    pub(super) fn set_root(&mut self, tid: Tid, root: Vec<u8>) {
        match &root[..] {
            b"/" => drop(self.roots.remove(&tid)),
            _ => drop(self.roots.insert(tid, root)),
        }
    }

    /// The record of which something was told was handled.
    pub(super) fn forget(&mut self, tid: Tid) {
        if self.facts.is_empty() {
            return;
        }
        self.facts.remove(&tid);
    }

    /// The thread is gone.
    pub(super) fn ended(&mut self, tid: Tid) {
        self.forget(tid);
        self.roots.remove(&tid);
    }

    /// What was told of a thread: of a descriptor, or one of [`place`].
    pub(super) fn told(&self, tid: Tid, what: u32) -> Option<Vec<u8>> {
        let places = &self.facts.get(&tid)?.places;
        places.iter().find(|(told, _)| *told == what).map(|(_, path)| path.clone())
    }
}

/// Whether a process has any descriptor, which one that has ended has not.
fn has_descriptors(pid: Tid) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut open| open.next().is_some())
}

/// A path of its names, the last of them first.
fn path(names: &[u8]) -> Vec<u8> {
    let names = names.strip_suffix(b"\0").unwrap_or(names);
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in names.rsplit(|&byte| byte == 0) {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

impl Kernel for Told {
    fn working_directory(&mut self, tid: Tid) -> Option<Vec<u8>> {
        self.told(tid, place::CWD).or_else(|| self.proc.working_directory(tid))
    }

    fn descriptor(&mut self, tid: Tid, fd: RawFd) -> Option<Vec<u8>> {
        self.told(tid, fd as u32).or_else(|| self.proc.descriptor(tid, fd))
    }

    fn root(&mut self, tid: Tid) -> Option<Vec<u8>> {
        self.told(tid, place::ROOT).or_else(|| self.proc.root(tid))
    }

    fn mount_namespace(&mut self, tid: Tid) -> Option<u64> {
        self.proc.mount_namespace(tid)
    }

    fn is_symlink(&mut self, tid: Tid, path: &[u8]) -> bool {
        // Asked first: who is still there then was there when it was looked at.
        if self.proc.is_symlink(tid, path) {
            return true;
        }
        if fs::exists(format!("/proc/{tid}/root/.")).is_ok_and(|there| there) {
            return false;
        }
        // Gone: most have seen what we see.
        let mut seen = self.roots.get(&tid).cloned().unwrap_or_default();
        seen.extend_from_slice(path);
        let seen = Path::new(OsStr::from_bytes(&seen));
        !self.proc.serves_files && seen.symlink_metadata().is_ok_and(|found| found.is_symlink())
    }

    fn link(&mut self, tid: Tid, fd: RawFd) -> Option<Vec<u8>> {
        self.proc.link(tid, fd)
    }

    fn directory(&mut self, tid: Tid, path: &[u8]) -> Option<Vec<u8>> {
        self.proc.directory(tid, path)
    }

    fn descriptors(&mut self, tid: Tid) -> Vec<(RawFd, Vec<u8>)> {
        let mut open = self.proc.descriptors(tid);
        // What the command opened since is told in its turn; only the standard ones may have been set at the last moment.
        if let Some((_, before)) = self.initial.take_if(|(pid, _)| *pid == tid) {
            // Who ends lets go of all at once: what was found until then is not all.
            match has_descriptors(tid) {
                true => open.retain(|open| open.0 <= libc::STDERR_FILENO || before.contains(open)),
                false => open = before,
            }
        }
        if self.executed == Some(tid) {
            // The exec closed those: they were opened since, and that is told in its turn.
            let mut closes = |fd| self.proc.descriptor_flags(tid, fd).unwrap_or(0) & CLOEXEC != 0;
            open.retain(|&(fd, _)| !closes(fd));
        }
        open
    }

    fn descriptor_flags(&mut self, tid: Tid, fd: RawFd) -> Option<u32> {
        self.proc.descriptor_flags(tid, fd)
    }

    fn pidfd(&mut self, tid: Tid, fd: RawFd) -> Option<Tid> {
        self.proc.pidfd(tid, fd)
    }

    fn socket(&mut self, tid: Tid, fd: RawFd) -> Option<SocketFacts> {
        let told = self.facts.get(&tid).and_then(|facts| facts.socket.as_ref());
        let told = told.filter(|told| told.0 == fd).map(|(_, facts)| facts.clone());
        told.or_else(|| self.proc.socket(tid, fd))
    }

    fn terminal(&mut self, tid: Tid, fd: RawFd) -> Option<u32> {
        self.proc.terminal(tid, fd)
    }

    fn controlling_terminal(&mut self, tid: Tid) -> Option<u32> {
        self.proc.controlling_terminal(tid)
    }

    fn terminal_state(&mut self, tid: Tid, fd: RawFd) -> Option<TerminalState> {
        match self.facts.get(&tid).and_then(|facts| facts.size) {
            Some((cols, rows)) => Some(TerminalState { cols, rows, ..TerminalState::default() }),
            None => self.proc.terminal_state(tid, fd),
        }
    }

    fn program(&mut self, pid: Tid) -> Option<Vec<u8>> {
        self.proc.program(pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_a_path() {
        assert_eq!(path(b"c\0b\0a\0"), b"/a/b/c");
        assert_eq!(path(b""), b"/");
    }
}
