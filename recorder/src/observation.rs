//! What an engine saw: one call of one thread, decoded, with its result and with what had to be read from memory.
//!
//! An engine fills these in and knows nothing of sessions; the [model](crate::model) folds them into events and
//! knows nothing of registers. Everything is borrowed from the engine's buffers.

use std::os::fd::RawFd;

use crate::source::ExitStatus;

/// A thread in the recorder's pid namespace (the kernel's "tid"; the leader's is the process id).
pub type Tid = i32;

/// One call, or one thing that happened to a thread.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Who.
    pub tid: Tid,
    /// CLOCK_BOOTTIME in nanoseconds.
    pub ts: u64,
    /// What.
    pub call: Call<'a>,
    /// What the kernel answered: a value of 0 or more, or an error number. `Ok(0)` for what is no call.
    pub result: Result<u64, i32>,
}

/// Where a call points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At<'a> {
    /// A name, relative to the directory that `dir` names, or to the working directory.
    Path {
        /// Directory descriptor.
        dir: Option<RawFd>,
        /// As the process gave it, without the NUL.
        path: &'a [u8],
    },
    /// What a descriptor names.
    Descriptor(RawFd),
    /// The same where that directory is the root, as far as the call goes (openat2(2), RESOLVE_IN_ROOT).
    InRoot {
        /// Directory descriptor.
        dir: Option<RawFd>,
        /// As the process gave it, without the NUL.
        path: &'a [u8],
    },
    /// An absolute path as the recorder sees it.
    Known(&'a [u8]),
}

/// Which way bytes went through a descriptor, as the process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the process.
    Read,
    /// Out of it.
    Write,
}

/// What went one way over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow<'a> {
    /// These bytes, after those that came before.
    Bytes(&'a [u8]),
    /// So many bytes, which could not be read.
    Missing(u64),
    /// No more.
    End,
}

/// Processor time and memory that a process used, without its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User CPU time, nanoseconds.
    pub utime: u64,
    /// System CPU time, nanoseconds.
    pub stime: u64,
    /// Peak resident set, bytes.
    pub max_rss: u64,
}

/// The calls that matter to the model. Named after the kernel's; several system calls share one variant.
#[derive(Clone, Copy, Debug)]
#[allow(
    missing_docs,
    reason = "the fields are the arguments of the calls, named as in their man pages"
)]
pub enum Call<'a> {
    /// clone(2) and its kin, seen from the parent; `child` is a thread of the caller with CLONE_THREAD.
    Fork {
        child: Tid,
        flags: u64,
    },
    /// A process that ran already when the recording began, with all of its threads; seen from its leader. `parent` is
    /// None for the root.
    Found {
        parent: Option<Tid>,
        threads: &'a [Tid],
        argv: &'a ArgList,
        env: &'a [u8],
        exe: Option<&'a [u8]>,
    },
    /// execve(2) succeeded; `former` is the thread that called it, which is now the leader.
    Exec {
        former: Tid,
        at: At<'a>,
        argv: &'a ArgList,
        env: &'a [u8],
        exe: Option<&'a [u8]>,
    },
    /// execve(2) failed.
    ExecFailed {
        at: At<'a>,
        argv: &'a ArgList,
    },
    /// The thread ended: it uses no table any more.
    ThreadExit,
    /// The whole process ended.
    Exit {
        status: ExitStatus,
        usage: Usage,
    },
    Open {
        at: At<'a>,
        flags: u32,
        mode: u32,
        created: bool,
    },
    /// Seen before it happens: close(2) frees the descriptor whatever it answers.
    Close {
        fd: RawFd,
    },
    CloseRange {
        first: u32,
        last: u32,
        flags: u32,
    },
    /// dup(2), dup2(2), dup3(2), fcntl(2) F_DUPFD: the result is the new descriptor.
    Dup {
        fd: RawFd,
        cloexec: bool,
    },
    SetCloexec {
        fd: RawFd,
        on: bool,
    },
    Unshare {
        flags: u64,
    },
    /// Bytes went through a descriptor: as many as the result says.
    Transfer {
        fd: RawFd,
        direction: Direction,
    },
    /// What went through a descriptor of a connection (see `Model::stream`).
    Flow {
        fd: RawFd,
        direction: Direction,
        flow: Flow<'a>,
    },
    /// A connection was reset: a call through this descriptor says so.
    Reset {
        fd: RawFd,
    },
    /// What went through a TLS library, before it was encrypted or after it was decrypted. `stream` is the address of the
    /// library's object (`SSL *`, `gnutls_session_t`).
    Plaintext {
        stream: u64,
        direction: Direction,
        flow: Flow<'a>,
    },
    /// That object is gone: its address may be another's next.
    PlaintextOver {
        stream: u64,
    },
    /// Bytes went from one descriptor to another: as many as the result says.
    Move {
        from: RawFd,
        to: RawFd,
    },
    /// What a process wrote to one of the command's outputs (see `Model::output`).
    Output {
        stream: RawFd,
        data: &'a [u8],
    },
    /// What a process read from the session's terminal (see `Model::terminal`), or, where the terminal did not show it,
    /// how much.
    Input {
        data: &'a [u8],
        hidden: u64,
    },
    /// The size of a terminal may have changed: of that at a descriptor, or of the session's.
    Resize {
        fd: Option<RawFd>,
    },
    Rename {
        from: At<'a>,
        to: At<'a>,
        flags: u32,
    },
    Unlink {
        at: At<'a>,
    },
    Mkdir {
        at: At<'a>,
        mode: u32,
    },
    Rmdir {
        at: At<'a>,
    },
    Link {
        from: At<'a>,
        to: At<'a>,
    },
    Symlink {
        target: &'a [u8],
        at: At<'a>,
    },
    Mknod {
        at: At<'a>,
        mode: u32,
        dev: u64,
    },
    /// truncate(2), ftruncate(2) with `mode` 0; fallocate(2), where `length` is the end of the range.
    Truncate {
        at: At<'a>,
        length: u64,
        mode: u32,
    },
    Chmod {
        at: At<'a>,
        mode: u32,
    },
    Chown {
        at: At<'a>,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    /// Times in nanoseconds since 1970; None where unchanged.
    Utime {
        at: At<'a>,
        atime: Option<i64>,
        mtime: Option<i64>,
    },
    /// `size` is None where the attribute was removed.
    Xattr {
        at: At<'a>,
        name: &'a [u8],
        size: Option<u64>,
    },
    /// A mapping that is shared and writable.
    Mmap {
        fd: RawFd,
        offset: u64,
        length: u64,
    },
    /// FICLONE, FICLONERANGE.
    CloneFile {
        from: RawFd,
        to: RawFd,
    },
    Chdir {
        at: At<'a>,
    },
    /// `source` is a path only where the flags say so (MS_BIND, MS_MOVE).
    Mount {
        source: Option<&'a [u8]>,
        target: At<'a>,
        fstype: &'a [u8],
        flags: u64,
    },
    Umount {
        target: At<'a>,
        flags: u64,
    },
    PivotRoot {
        new: At<'a>,
        old: At<'a>,
    },
    Chroot {
        at: At<'a>,
    },
    SetNs {
        fd: RawFd,
        flags: u32,
    },
    /// open_tree(2), fspick(2): the result is a descriptor for what is mounted there.
    OpenTree {
        at: At<'a>,
        cloexec: bool,
    },
    /// The result is a descriptor for a file system of this type to be.
    FsOpen {
        fstype: &'a [u8],
        cloexec: bool,
    },
    /// fsconfig(2) named what is to be mounted.
    FsSource {
        fd: RawFd,
        source: &'a [u8],
    },
    /// The result is a descriptor for a mount that is nowhere yet.
    FsMount {
        fd: RawFd,
        cloexec: bool,
    },
    MoveMount {
        from: At<'a>,
        to: At<'a>,
        flags: u64,
    },
    /// fsconfig(2) changed the options of what is mounted.
    Reconfigure {
        fd: RawFd,
    },
    /// `flags` are those that were set.
    MountSetAttr {
        at: At<'a>,
        flags: u64,
    },
    /// The result is the new descriptor.
    Socket {
        family: i32,
        kind: i32,
        protocol: i32,
    },
    /// The result says whether there are two new descriptors.
    SocketPair {
        fds: [RawFd; 2],
        family: i32,
        kind: i32,
    },
    /// `address` is a `struct sockaddr` as the process gave it.
    Connect {
        fd: RawFd,
        address: &'a [u8],
    },
    Bind {
        fd: RawFd,
        address: &'a [u8],
    },
    Listen {
        fd: RawFd,
    },
    /// The result is the new descriptor; `address` is its peer's, as far as the process let itself be told.
    Accept {
        fd: RawFd,
        address: &'a [u8],
        cloexec: bool,
    },
    Shutdown {
        fd: RawFd,
        how: i32,
    },
    /// A message was sent to an address, or could not be.
    SendTo {
        fd: RawFd,
        address: &'a [u8],
    },
    /// Descriptors went out with a message (SCM_RIGHTS in unix(7)).
    Pass {
        fds: &'a [RawFd],
    },
    /// Descriptors came in with a message. A message that was only looked at gives them out again.
    Receive {
        fds: &'a [RawFd],
        cloexec: bool,
        peeked: bool,
    },
    /// pidfd_getfd(2): the result is the new descriptor.
    Fetch {
        pidfd: RawFd,
        fd: RawFd,
    },
    /// Something of what the thread did is not known.
    Lost {
        loss: Loss,
    },
}

/// What an engine could not see, and why. Reported once a process, except where each one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Loss {
    /// Memory that a call pointed to could not be read.
    Memory,
    /// Output was moved inside the kernel, from what could not be read again.
    MovedOutput,
    /// Input was moved inside the kernel.
    MovedInput,
    /// io_uring works without system calls.
    IoUring,
    /// A process traces, or tried to trace, another.
    Tracer,
    /// A program runs without the right that it has of itself (set-uid, set-gid, file capabilities).
    Rights,
    /// A system call of an architecture that has no table (32-bit on aarch64) was not decoded.
    ForeignArch,
    /// The reserved descriptor holds something else than the session's socket.
    ReservedDescriptor,
    /// A process was killed before it could be asked how much its last read or write moved.
    Sum,
    /// The process hides its memory from an unprivileged tracer.
    Hidden,
    /// The process has a seccomp filter of its own.
    SeccompFilter,
    /// The same, whose answers another process gives.
    SeccompSupervisor,
    /// Another thread changed the name that a call pointed to while the call was made.
    NameChanged,
    /// The same, and what was opened is known.
    NameReplaced,
    /// A TLS library was in use before its functions were probed.
    ProbedLate,
    /// The functions of a TLS library can't be probed.
    NotProbed,
    /// How a process was started was not seen, because its parent was killed at that moment.
    Orphan,
    /// A descendant of the process that was attached to could not be attached to.
    NotAttached,
    /// Plaintext of a TLS library is not seen, since no breakpoint can be set in its code.
    Plaintext,
    /// A process ended while it was attached to, before it could be looked at.
    Vanished,
    /// Old contents outside of the roots are no longer kept: a look at a file could have to wait for the process.
    NotKept,
}

impl Loss {
    /// Where, for `lost.place`.
    pub fn place(self) -> &'static str {
        match self {
            Self::Memory | Self::Hidden | Self::Orphan | Self::NotAttached | Self::Sum => "ptrace",
            Self::Vanished | Self::ProbedLate | Self::NotProbed => "ebpf",
            Self::MovedOutput => "output",
            Self::MovedInput => "input",
            Self::IoUring
            | Self::Tracer
            | Self::Rights
            | Self::ForeignArch
            | Self::SeccompFilter
            | Self::SeccompSupervisor
            | Self::NameChanged
            | Self::NameReplaced
            | Self::NotKept => "process",
            Self::ReservedDescriptor => "socket",
            Self::Plaintext => "tls",
        }
    }

    /// Why, for `lost.reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Memory => {
                "an argument of a system call could not be read from the process's memory"
            }
            Self::MovedOutput => {
                "output was moved inside the kernel (splice, sendfile, copy_file_range) from what can't be read again"
            }
            Self::MovedInput => {
                "input was moved inside the kernel (splice, sendfile), where it can't be read"
            }
            Self::IoUring => "the process set up io_uring, whose operations are not system calls",
            Self::Tracer => {
                "the process tried to trace another process, which a recorded process cannot be"
            }
            Self::Rights => {
                "the program runs without its set-uid, set-gid or file capabilities, \
                 which the kernel gives to nobody whom an unprivileged recorder traces"
            }
            Self::ForeignArch => {
                "the process made system calls of another architecture, which are not decoded"
            }
            Self::ReservedDescriptor => {
                "the descriptor that is kept for the session's socket, and not watched, holds something else"
            }
            Self::NotAttached => {
                "a process that this one had started could not be attached to: the kernel does not permit it"
            }
            Self::NotKept => "old contents are kept no longer: the session serves a file system",
            Self::Vanished => {
                "a process ended in the moment in which its recording began: what it did last is missing"
            }
            Self::Sum => {
                "the process was killed before it could be asked how much its last read or write moved; the sum of its file lacks it"
            }
            Self::Plaintext => {
                "a TLS library of the process can't be listened to, at least in part: its code is not as its file has it, can't be changed (any more), or is of a kind that no breakpoint fits"
            }
            Self::Hidden => {
                "the process's memory is closed to an unprivileged recorder (PR_SET_DUMPABLE, or a program that may not be read): names and contents that its calls point to are not known"
            }
            Self::SeccompFilter => {
                "the process installed a seccomp filter of its own: calls that it answers itself are not recorded, and do nothing"
            }
            Self::SeccompSupervisor => {
                "the process installed a seccomp filter whose answers another process gives: what that one does on its behalf is recorded only where it is part of the session"
            }
            Self::NameChanged => {
                "another thread changed a name while a call used it: the event before has the name as it was when the call began"
            }
            Self::NameReplaced => {
                "another thread changed a name while open(2) used it: the event before has the name of what was opened"
            }
            Self::NotProbed => {
                "the kernel did not let the process's TLS library be looked into: what goes through it is missing"
            }
            Self::ProbedLate => {
                "the process began to encrypt before its TLS library could be looked into: what it said first may be missing"
            }
            Self::Orphan => {
                "the process's parent was killed while starting it; its parent and inherited descriptors are a guess"
            }
        }
    }

    /// Whether one report a process is enough.
    pub fn once(self) -> bool {
        !matches!(
            self,
            Self::Memory
                | Self::MovedOutput
                | Self::MovedInput
                | Self::NameChanged
                | Self::NameReplaced
                | Self::NotAttached
                | Self::Vanished
        )
    }
}

/// An argument list as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArgList {
    /// The arguments, each followed by a NUL.
    pub bytes: Vec<u8>,
    /// Length of the whole list in bytes, NULs included, where `bytes` is not all of it.
    pub cut: Option<u64>,
}

impl ArgList {
    /// Each argument.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        split_nul(&self.bytes)
    }
}

/// The strings of a block in which each is followed by a NUL; a last one without NUL counts too.
pub(crate) fn split_nul(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split_inclusive(|&byte| byte == 0).map(|item| item.strip_suffix(&[0]).unwrap_or(item))
}
