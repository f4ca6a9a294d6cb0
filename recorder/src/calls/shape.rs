//! What system calls do, and where in their arguments it stands.

use super::memory::Word;

/// Position of an argument, from 0.
pub(crate) type Arg = u8;

/// Where a call says what it means to touch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// A name, relative to the working directory.
    Name(Arg),
    /// A name, relative to a directory descriptor.
    NameAt { dir: Arg, name: Arg },
    /// The same, or the descriptor itself, where the name is absent, or empty with this bit in this argument.
    NameOrFd { dir: Arg, name: Arg, empty: Option<(Arg, u32)> },
    /// What a descriptor names.
    Fd(Arg),
}

/// Where the bytes of a transfer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// At this address.
    Flat(Arg),
    /// The same; where they go is a `struct sockaddr` of this address and length.
    To { data: Arg, address: Arg, len: Arg },
    /// In an array of `struct iovec`, and their number.
    Vector(Arg, Arg),
    /// In the vector of a `struct msghdr`.
    Message(Arg),
}

/// How times are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "newer architectures lack the oldest calls")
)]
pub(crate) enum Times {
    /// `struct timespec[2]`, with UTIME_NOW and UTIME_OMIT.
    Nanoseconds,
    /// `struct timeval[2]`.
    Microseconds,
    /// `struct utimbuf`.
    Seconds,
}

/// What a call does, and with which arguments.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "newer architectures lack the oldest calls")
)]
pub(crate) enum Shape {
    Open {
        at: Place,
        flags: Arg,
        mode: Arg,
    },
    Creat {
        at: Place,
        mode: Arg,
    },
    OpenHow {
        at: Place,
        how: Arg,
        size: Arg,
    },
    /// open_by_handle_at(2): what was opened only the descriptor tells.
    OpenHandle {
        flags: Arg,
    },
    Close,
    CloseRange,
    Dup,
    Dup2,
    Dup3,
    Fcntl,
    Ioctl,
    Unshare,
    Read {
        buffers: Buffers,
    },
    /// The flags may say that nothing is taken out (MSG_PEEK). Descriptors can only come with a `struct msghdr`.
    Receive {
        flags: Arg,
        message: Option<Arg>,
    },
    Write {
        buffers: Buffers,
    },
    /// sendmmsg(2), recvmmsg(2): the bytes of each message stand in its header.
    Messages {
        write: bool,
    },
    /// Inside the kernel; `offset` points to where in `from` to begin, or is null for its own position.
    Move {
        from: Arg,
        offset: Arg,
        to: Arg,
    },
    /// vmsplice(2): to a pipe from memory, or the other way, by the end that the descriptor is.
    SpliceMemory,
    /// tee(2): from one pipe to another.
    Tee,
    Rename {
        from: Place,
        to: Place,
        flags: Option<Arg>,
    },
    Unlink {
        at: Place,
    },
    /// unlinkat(2), which is rmdir(2) with AT_REMOVEDIR.
    UnlinkAt {
        at: Place,
        flags: Arg,
    },
    Mkdir {
        at: Place,
        mode: Arg,
    },
    Rmdir {
        at: Place,
    },
    Link {
        from: Place,
        to: Place,
    },
    Symlink {
        target: Arg,
        at: Place,
    },
    Mknod {
        at: Place,
        mode: Arg,
        dev: Arg,
    },
    Truncate {
        at: Place,
        length: Arg,
    },
    Fallocate,
    Chmod {
        at: Place,
        mode: Arg,
    },
    Chown {
        at: Place,
        uid: Arg,
        gid: Arg,
    },
    Utime {
        at: Place,
        times: Arg,
        form: Times,
    },
    SetXattr {
        at: Place,
        name: Arg,
        size: Arg,
    },
    /// setxattrat(2): the size stands in a `struct xattr_args`.
    SetXattrAt {
        at: Place,
        name: Arg,
        args: Arg,
    },
    RemoveXattr {
        at: Place,
        name: Arg,
    },
    Mmap,
    Chdir {
        at: Place,
    },
    Mount,
    Umount {
        at: Place,
    },
    PivotRoot,
    Chroot {
        at: Place,
    },
    SetNs,
    /// open_tree(2), open_tree_attr(2)
    OpenTree {
        at: Place,
    },
    MoveMount {
        from: Place,
        to: Place,
    },
    FsOpen,
    FsConfig,
    FsMount,
    FsPick {
        at: Place,
    },
    /// mount_setattr(2): the new flags stand first in a `struct mount_attr`.
    MountSetAttr {
        at: Place,
        attr: Arg,
    },
    Socket,
    SocketPair,
    Connect,
    Bind,
    Listen,
    Accept {
        flags: Option<Arg>,
    },
    Shutdown,
    PidfdGetFd,
    Exec {
        at: Place,
        argv: Arg,
    },
    Clone,
    Clone3,
    /// No event: what the thread sees must not be a loan.
    Affinity,
    Ptrace,
    IoUring,
    Seccomp,
    Prctl,
}

impl Shape {
    /// Whether the call's result decides what it meant.
    pub(crate) fn needs_result(self) -> bool {
        !matches!(
            self,
            Self::Close | Self::CloseRange | Self::Clone | Self::Clone3 | Self::Affinity
        )
    }

    /// A call that can't be told from covered ones by one argument, and that matters to nobody.
    pub(crate) fn is_pointless(self, args: &[u64; 6]) -> bool {
        match self {
            Self::Mmap => {
                args[2] as i32 & libc::PROT_WRITE == 0 || args[3] as i32 & libc::MAP_ANONYMOUS != 0
            }
            _ => false,
        }
    }

    /// Arguments that are names, in the order of the decoder.
    pub(crate) fn names(self) -> [Option<Arg>; 3] {
        match self {
            Self::Open { at, .. }
            | Self::Creat { at, .. }
            | Self::OpenHow { at, .. }
            | Self::Unlink { at }
            | Self::UnlinkAt { at, .. }
            | Self::Mkdir { at, .. }
            | Self::Rmdir { at }
            | Self::Mknod { at, .. }
            | Self::Truncate { at, .. }
            | Self::Chmod { at, .. }
            | Self::Chown { at, .. }
            | Self::Utime { at, .. }
            | Self::Chdir { at }
            | Self::Chroot { at }
            | Self::Umount { at }
            | Self::OpenTree { at }
            | Self::FsPick { at }
            | Self::MountSetAttr { at, .. }
            | Self::Exec { at, .. } => [at.name(), None, None],
            Self::Rename { from, to, .. }
            | Self::Link { from, to }
            | Self::MoveMount { from, to } => [from.name(), to.name(), None],
            Self::Symlink { target, at } => [at.name(), Some(target), None],
            Self::SetXattr { at, name, .. }
            | Self::SetXattrAt { at, name, .. }
            | Self::RemoveXattr { at, name } => [at.name(), Some(name), None],
            Self::Mount => [Some(1), Some(0), Some(2)],
            Self::PivotRoot => [Some(0), Some(1), None],
            Self::FsOpen => [Some(0), None, None],
            Self::FsConfig => [Some(2), Some(3), None],
            _ => [None, None, None],
        }
    }

    /// A structure to read at entry: its address and size.
    pub(crate) fn block(self, args: &[u64; 6], word: Word) -> Option<(u64, usize)> {
        let arg = |arg: Arg| args[usize::from(arg)];
        let (address, size) = match self {
            // `struct open_how` can only grow, and its fields of today come first.
            Self::OpenHow { how, size, .. } => (arg(how), arg(size).min(24)),
            Self::Ioctl if arg(1) as u32 == libc::FICLONERANGE as u32 => (arg(2), 8),
            Self::Connect | Self::Bind => (arg(1), address_len(arg(2))),
            Self::Write { buffers: Buffers::To { address, len, .. } } => {
                (arg(address), address_len(arg(len)))
            }
            // How much room there is for the address, which the kernel overwrites with how much it would take.
            Self::Accept { .. } if arg(1) != 0 => (arg(2), 4),
            Self::Utime { times, form, .. } => {
                let words = if form == Times::Seconds { 2 } else { 4 };
                (arg(times), words * word.size())
            }
            Self::SetXattrAt { args, .. } => (arg(args), 16),
            Self::MountSetAttr { attr, .. } => (arg(attr), 8),
            Self::Clone3 => (arg(0), 8),
            _ => return None,
        };
        (address != 0 && size != 0).then_some((address, size as usize))
    }
}

/// How much of a `struct sockaddr` of this length is looked at: no longer than the kernel takes (`struct
/// sockaddr_storage`).
pub(crate) fn address_len(len: u64) -> u64 {
    u64::from(len as u32).min(128)
}

impl Place {
    pub(crate) fn name(self) -> Option<Arg> {
        match self {
            Self::Name(name) | Self::NameAt { name, .. } | Self::NameOrFd { name, .. } => {
                Some(name)
            }
            Self::Fd(_) => None,
        }
    }
}
