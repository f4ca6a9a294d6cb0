//! What the BPF programs and the recorder say to each other: records in the ring buffer, plans and settings in maps.
//!
//! Records are a [`Head`], the fields of their kind, and then bytes whose lengths stand in those fields. All numbers are
//! the machine's own. BPF's "pid" is `tid` here and its "tgid" is `pid`, both of the initial namespace: they are converted
//! nowhere else.
//!
//! Everything is made by [`abi!`], which refuses to compile a struct with padding: the verifier would refuse it as well, since
//! padding on a BPF stack is memory that was never written, and the recorder would read what nobody meant to send.

#![no_std]

mod abi;

pub use abi::Plain;

/// Longest text that is copied, with its NUL: a path (PATH_MAX).
pub const TEXT: usize = 4096;
/// Longest structure that is copied.
pub const BLOCK: usize = 4096;
/// Bytes of a chunk of output, arguments or environment.
pub const CHUNK: usize = 16 * 1024;
/// Chunks of the arguments and of the environment of one exec, each.
pub const CHUNKS: usize = 16;
/// Chunks of one write to an output.
pub const OUTPUT_CHUNKS: usize = 64;
/// Arguments of an exec that failed.
pub const MAX_LIST: u32 = 4096;
/// Buffers of one call (UIO_MAXIOV).
pub const MAX_VECTOR: u32 = 1024;
/// What a call points to, at most.
pub const PIECES: usize = 3;
/// System call numbers that can have a plan.
pub const PLANS: u32 = 512;
/// Processes that are followed at a time.
pub const PROCESSES: u32 = 100_000;
/// Descriptors with sums at a time.
pub const SUMS: u32 = 1 << 20;
/// Outputs and terminals that are watched at a time.
pub const WATCHED: u32 = 1024;
/// In place of a piece's length: it could not be read.
pub const UNREADABLE: u32 = u32::MAX;
/// In place of a piece's length: the pointer is null, or the call has no such piece.
pub const ABSENT: u32 = u32::MAX - 1;

/// What a record tells: [`Head::kind`].
pub mod kind {
    /// A [`Call`](super::Call) is over.
    pub const CALL: u16 = 1;
    /// A [`Close`](super::Close) begins: of a descriptor by close(2), or of one that dup2(2) takes.
    pub const CLOSE: u16 = 2;
    /// A [`Fork`](super::Fork).
    pub const FORK: u16 = 3;
    /// A [`Part`](super::Part) of the arguments of the exec that comes next for this thread.
    pub const ARGUMENTS: u16 = 4;
    /// A [`Part`](super::Part) of its environment.
    pub const ENVIRONMENT: u16 = 5;
    /// An [`Exec`](super::Exec) succeeded.
    pub const EXEC: u16 = 6;
    /// A thread [ended](super::Exit), and perhaps its process.
    pub const EXIT: u16 = 7;
    /// A [`Part`](super::Part) of what was written to an output, or read from a terminal.
    pub const DATA: u16 = 8;
    /// A [`Part`](super::Part) with a path of what comes next for this thread.
    pub const PATH: u16 = 9;
    /// How many there are: one counter of losses each.
    pub const COUNT: u32 = 10;
}

abi! {
    /// First in every record.
    pub struct Head {
        /// One of [`kind`].
        pub kind: u16,
        /// Bits of that kind.
        pub flags: u16,
        /// Thread.
        pub tid: u32,
        /// Its process.
        pub pid: u32,
        /// The number of a system call, or 0.
        pub number: u32,
        /// CLOCK_BOOTTIME, nanoseconds.
        pub ts: u64,
        /// When the process's descriptors were last let go all at once: with the pid and a descriptor, the key of [`Sum`].
        pub epoch: u64,
    }
}

abi! {
    /// A system call that is over; its pieces follow.
    pub struct Call {
        /// Who, and when.
        pub head: Head,
        /// As they stood in the registers.
        pub args: [u64; 6],
        /// As the kernel returned it: negative for an error.
        pub result: i64,
        /// Of each piece that follows, in bytes (texts with their NUL), or [`UNREADABLE`], or [`ABSENT`].
        pub pieces: [u32; PIECES],
        /// Of an open call: `struct file`'s `f_mode`.
        pub mode: u32,
    }
}

/// In [`Call::mode`]: this call created the file (FMODE_CREATED in include/linux/fs.h).
pub const MODE_CREATED: u32 = 0x10_0000;

abi! {
    /// A descriptor is about to be closed.
    pub struct Close {
        /// Who, and when.
        pub head: Head,
        /// The descriptor.
        pub fd: i32,
        /// 0 for close(2); 1 where the descriptor is given another meaning.
        pub replaced: u32,
        /// What went through it.
        pub sum: Sum,
    }
}

abi! {
    /// A thread or process was started, seen from its parent before the child runs.
    pub struct Fork {
        /// Who, and when.
        pub head: Head,
        /// The child's thread id.
        pub child: u32,
        /// Its process.
        pub process: u32,
        /// The first argument of the call that did it; the flags of clone3(2) where that was it.
        pub flags: u64,
    }
}

abi! {
    /// A program was executed. Parts with its arguments and environment came before.
    pub struct Exec {
        /// Who, and when.
        pub head: Head,
        /// The id that the calling thread had before.
        pub former: u32,
        /// Bytes of the name as it was given, which follows.
        pub name: u32,
        /// The epoch that ended: what went through descriptors in it is settled.
        pub before: u64,
        /// Bytes of arguments, however many of them came.
        pub arguments: u64,
        /// The same of the environment.
        pub environment: u64,
    }
}

abi! {
    /// A thread is about to be gone.
    pub struct Exit {
        /// Who, and when.
        pub head: Head,
        /// As wait(2) gives it: of the process, where this was the last of its threads.
        pub status: i32,
        /// Whether it was the last of its threads.
        pub last: u32,
        /// Time on a CPU, nanoseconds.
        pub run: u64,
        /// User time as the ticks had it, nanoseconds.
        pub utime: u64,
        /// System time, the same.
        pub stime: u64,
        /// Peak resident set, pages.
        pub pages: u64,
    }
}

abi! {
    /// Bytes that follow, of something longer.
    pub struct Part {
        /// Who, and when.
        pub head: Head,
        /// Of output 1 or 2; of a terminal the settings (`c_lflag`).
        pub what: u32,
        /// How many follow.
        pub len: u32,
        /// How many there are in all.
        pub total: u64,
    }
}

/// In [`Part::what`] of [`kind::PATH`], whose bytes are the names from the last to the first, each with its NUL.
pub mod path {
    /// The working directory after the call.
    pub const DIRECTORY: u32 = 0;
    /// The executed file.
    pub const PROGRAM: u32 = 1;
    /// What the new descriptor names.
    pub const DESCRIPTOR: u32 = 2;
}

/// Names of a path that is told; with more it is not.
pub const MAX_NAMES: u32 = 512;

/// In [`Head::flags`] of [`kind::DATA`]: it was read from a terminal, not written to an output.
pub const INPUT: u16 = 1;

abi! {
    /// A descriptor of a process, in one epoch of it.
    pub struct Descriptor {
        /// See [`Head::epoch`].
        pub epoch: u64,
        /// The process.
        pub pid: u32,
        /// The descriptor.
        pub fd: i32,
    }
}

abi! {
    /// What went through a descriptor, bytes.
    pub struct Sum {
        /// Out of it.
        pub read: u64,
        /// Into it.
        pub written: u64,
    }
}

abi! {
    /// A process that is followed.
    pub struct Process {
        /// See [`Head::epoch`].
        pub epoch: u64,
        /// [`ROOT`].
        pub flags: u32,
        /// 0.
        pub reserved: u32,
    }
}

/// In [`Process::flags`]: its next exec is the command's own; its standard descriptors are the outputs.
pub const ROOT: u32 = 1;

abi! {
    /// What is watched by a `struct file`.
    pub struct Watched {
        /// Its inode: another file may come to lie where this one was.
        pub inode: u64,
        /// 1 or 2 for an output, 0 for none.
        pub stream: u32,
        /// Whether it is the terminal.
        pub terminal: u32,
    }
}

abi! {
    /// What to do with a system call, by its number.
    pub struct Plan {
        /// One of [`role`]; 0 for a call that is not covered.
        pub role: u8,
        /// Which argument [`Plan::values`] or [`Plan::bits`] speak of; [`ANY`] for none.
        pub when: u8,
        /// How many of the values count.
        pub values_used: u8,
        /// With [`role::FAILURE`]: the argument that is an argument list. With [`role::OPEN`]: 1 where the call has no name.
        pub list: u8,
        /// It has one of these bits.
        pub bits: u32,
        /// Its low half is one of these.
        pub values: [u32; 6],
        /// What it points to, in the recorder's order.
        pub pieces: [Piece; PIECES],
    }
}

/// In [`Plan::when`]: all calls of this number.
pub const ANY: u8 = u8::MAX;

/// [`Plan::role`].
pub mod role {
    /// Only told.
    pub const TELL: u8 = 1;
    /// The result is a new descriptor of an opened file.
    pub const OPEN: u8 = 2;
    /// Told only where it failed: its success is seen elsewhere (execve).
    pub const FAILURE: u8 = 3;
    /// All of the descriptors are let go, or many (close_range): a new epoch begins.
    pub const EPOCH: u8 = 4;
    /// The working directory changes.
    pub const DIRECTORY: u8 = 5;
    /// The bytes of the result were read through the first argument. This and what follows are transfers.
    pub const READ: u8 = 6;
    /// They were written.
    pub const WRITE: u8 = 7;
    /// The same as [`READ`], into an array of `struct iovec`.
    pub const READ_VECTOR: u8 = 8;
    /// The same as [`WRITE`], from an array of `struct iovec`.
    pub const WRITE_VECTOR: u8 = 9;
}

abi! {
    /// Something that a call points to.
    pub struct Piece {
        /// One of [`piece`].
        pub kind: u8,
        /// The argument that is the address.
        pub arg: u8,
        /// The argument that is the length.
        pub len_arg: u8,
        /// 0.
        pub reserved: u8,
        /// The length, or the most of it.
        pub len: u32,
    }
}

/// [`Piece::kind`].
pub mod piece {
    /// There is none.
    pub const NONE: u8 = 0;
    /// Up to a NUL.
    pub const TEXT: u8 = 1;
    /// So many bytes.
    pub const FIXED: u8 = 2;
    /// As many as an argument says, and no more than `len`.
    pub const SIZED: u8 = 3;
    /// As many as stand at an argument (`socklen_t *`), and no more than `len`.
    pub const AT: u8 = 4;
    /// At the address, and as many as the length, that stand in a `struct msghdr`, at `len_arg` in it, one after the
    /// other; no more than `len`.
    pub const VIA: u8 = 5;
    /// As many times `len` as the result says.
    pub const COUNTED: u8 = 6;
}

abi! {
    /// What the programs have to know of this recording: one of it.
    pub struct Settings {
        /// Bit 1 for descriptor 1, bit 2 for descriptor 2: those of the command that give output.
        pub outputs: u32,
        /// The descriptor whose transfers are not told, or -1.
        pub reserved_fd: i32,
    }
}

abi! {
    /// Where the fields of the running kernel's structures are, in bytes (its BTF says).
    pub struct Offsets {
        /// `task_struct`: pid.
        pub task_pid: u32,
        /// `task_struct`: tgid.
        pub task_tgid: u32,
        /// `task_struct`: group_leader.
        pub task_group_leader: u32,
        /// `task_struct`: exit_code.
        pub task_exit_code: u32,
        /// `task_struct`: signal.
        pub task_signal: u32,
        /// `task_struct`: mm.
        pub task_mm: u32,
        /// `task_struct`: files.
        pub task_files: u32,
        /// `task_struct`: utime.
        pub task_utime: u32,
        /// `task_struct`: stime.
        pub task_stime: u32,
        /// `task_struct`: run.
        pub task_run: u32,
        /// `signal_struct`: live.
        pub signal_live: u32,
        /// `signal_struct`: flags.
        pub signal_flags: u32,
        /// `signal_struct`: exit_code.
        pub signal_exit_code: u32,
        /// `signal_struct`: maxrss.
        pub signal_maxrss: u32,
        /// `signal_struct`: utime.
        pub signal_utime: u32,
        /// `signal_struct`: stime.
        pub signal_stime: u32,
        /// `signal_struct`: run.
        pub signal_run: u32,
        /// `signal_struct`: tty.
        pub signal_tty: u32,
        /// `mm_struct`: arg_start.
        pub mm_arg_start: u32,
        /// `mm_struct`: arg_end.
        pub mm_arg_end: u32,
        /// `mm_struct`: env_start.
        pub mm_env_start: u32,
        /// `mm_struct`: env_end.
        pub mm_env_end: u32,
        /// `linux_binprm`: filename.
        pub bprm_filename: u32,
        /// `files_struct`: fdt.
        pub files_fdt: u32,
        /// `fdtable`: max_fds.
        pub fdt_max_fds: u32,
        /// `fdtable`: fd.
        pub fdt_fd: u32,
        /// `file`: inode.
        pub file_inode: u32,
        /// `file`: mode.
        pub file_mode: u32,
        /// `file`: private.
        pub file_private: u32,
        /// `inode`: mode.
        pub inode_mode: u32,
        /// `inode`: rdev.
        pub inode_rdev: u32,
        /// `tty`: private_tty.
        pub tty_private_tty: u32,
        /// `tty`: lflag.
        pub tty_lflag: u32,
        /// `task_struct`: fs.
        pub task_fs: u32,
        /// `fs_struct`: pwd.
        pub fs_pwd: u32,
        /// `mm_struct`: exe_file.
        pub mm_exe_file: u32,
        /// `file`: f_path.
        pub file_path: u32,
        /// `path`: mnt.
        pub path_mnt: u32,
        /// `path`: dentry.
        pub path_dentry: u32,
        /// `vfsmount`: mnt_root.
        pub mnt_root: u32,
        /// `mount`: mnt.
        pub mount_mnt: u32,
        /// `mount`: mnt_parent.
        pub mount_parent: u32,
        /// `mount`: mnt_mountpoint.
        pub mount_mountpoint: u32,
        /// `dentry`: d_parent.
        pub dentry_parent: u32,
        /// `dentry`: d_name.name.
        pub dentry_name: u32,
    }
}
