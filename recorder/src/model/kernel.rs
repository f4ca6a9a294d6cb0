//! What the model may ask, since no observation tells it.

use std::os::fd::RawFd;

use crate::observation::Tid;

/// What a model may ask about a thread that stands still. An engine that can't answer says None, and the model
/// goes by names alone.
pub trait Kernel {
    /// The thread's working directory.
    fn working_directory(&mut self, tid: Tid) -> Option<Vec<u8>>;
    /// The absolute path of what a descriptor names; None for what has none.
    fn descriptor(&mut self, tid: Tid, fd: RawFd) -> Option<Vec<u8>>;
    /// The thread's root directory; `/` where that is no other than the recorder's.
    fn root(&mut self, tid: Tid) -> Option<Vec<u8>>;
    /// The number of the thread's mount namespace.
    fn mount_namespace(&mut self, tid: Tid) -> Option<u64>;
    /// Whether an absolute path, taken from the thread's root, is a symbolic link.
    fn is_symlink(&mut self, tid: Tid, path: &[u8]) -> bool;
    /// What a descriptor names, as /proc/PID/fd says: also `socket:[1]` and the like.
    fn link(&mut self, tid: Tid, fd: RawFd) -> Option<Vec<u8>>;
    /// The physical path of the directory that an absolute path, taken from the thread's root, leads to.
    fn directory(&mut self, tid: Tid, path: &[u8]) -> Option<Vec<u8>>;
    /// All open descriptors with what they name, as /proc/PID/fd says.
    fn descriptors(&mut self, tid: Tid) -> Vec<(RawFd, Vec<u8>)>;
    /// The flags of an open descriptor, as /proc/PID/fdinfo says: with O_CLOEXEC.
    fn descriptor_flags(&mut self, tid: Tid, fd: RawFd) -> Option<u32>;
    /// The process that a pidfd is for.
    fn pidfd(&mut self, tid: Tid, fd: RawFd) -> Option<Tid>;
    /// What there is to know of a socket.
    fn socket(&mut self, tid: Tid, fd: RawFd) -> Option<SocketFacts>;
    /// The terminal behind a descriptor, by its device number; None for what is none.
    fn terminal(&mut self, tid: Tid, fd: RawFd) -> Option<u32>;
    /// The thread's controlling terminal, by its device number.
    fn controlling_terminal(&mut self, tid: Tid) -> Option<u32>;
    /// How the terminal behind a descriptor is set.
    fn terminal_state(&mut self, tid: Tid, fd: RawFd) -> Option<TerminalState>;
    /// The name of the program that any process runs (`comm` in proc(5)).
    fn program(&mut self, pid: Tid) -> Option<Vec<u8>>;
}

/// What the kernel knows of a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketFacts {
    /// As given to socket(2).
    pub family: i32,
    /// As given to socket(2), without flags.
    pub kind: i32,
    /// Connections can be made to it.
    pub listens: bool,
    /// A `struct sockaddr`; empty where there is none.
    pub local: Vec<u8>,
    /// The same for who is at the other end.
    pub peer: Vec<u8>,
    /// Who listened at the other end of a unix connection, or connected, or made the pair.
    pub peer_pid: Option<Tid>,
}

/// How a terminal is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalState {
    /// What is typed is not shown, neither by the terminal nor by who reads it: a password.
    pub hides: bool,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}
