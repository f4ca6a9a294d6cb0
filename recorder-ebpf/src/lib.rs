//! What the BPF programs and the recorder say to each other: records in the ring buffer, plans and settings in maps.
//!
//! Records are a [`Head`], the fields of their kind, and then bytes whose lengths stand in those fields. All numbers are
//! the machine's own. BPF's "pid" is `tid` here and its "tgid" is `pid`, both as the recorder's PID namespace has them: they
//! are converted nowhere else.
//!
//! Everything is made by [`abi!`], which refuses to compile a struct with padding: the verifier would refuse it as well, since
//! padding on a BPF stack is memory that was never written, and the recorder would read what nobody meant to send.

#![no_std]

#[macro_use]
mod abi;
mod diversion;
mod offsets;
mod streams;

pub use abi::Plain;
pub use diversion::*;
pub use offsets::Offsets;
pub use streams::*;

/// Longest text that is copied, with its NUL: a path (PATH_MAX).
pub const TEXT: usize = 4096;
/// Longest structure that is copied.
pub const BLOCK: usize = 4096;
/// Bytes of a chunk of output, arguments or environment.
pub const CHUNK: usize = 16 * 1024;
/// Chunks of the arguments of one exec: more than anybody keeps of them.
pub const ARGUMENT_CHUNKS: usize = 8;
/// Chunks of the environment of one exec: more than a process can have (fs/exec.c, bprm_stack_limits: three quarters of 8 MiB).
pub const ENVIRONMENT_CHUNKS: usize = 384;
/// Chunks of one write to an output.
pub const OUTPUT_CHUNKS: usize = 1024;
/// Bytes of the arguments of an exec that failed, and so their number: more than anybody keeps of them.
pub const MAX_LIST: u32 = 80 * 1024;
/// Buffers of one call (UIO_MAXIOV).
pub const MAX_VECTOR: u32 = 1024;
/// What a call points to, at most.
pub const PIECES: usize = 3;
/// System call numbers that can have a plan.
pub const PLANS: u32 = 512;
/// Processes that are followed at a time.
pub const PROCESSES: u32 = 100_000;
/// Marks for processes that may be followed: one for all whose ids give the same remainder ([`mark`]).
pub const MARKS: u32 = 1 << 15;
/// Descriptors with sums at a time.
pub const SUMS: u32 = 1 << 20;
/// Connections at a time whose bytes are counted; of more, those that were still for longest are taken for new ones.
pub const STREAMS: u32 = 1 << 16;
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
    /// A [`Part`](super::Part) with the names of a path, of what the next record of this thread speaks of.
    pub const PLACE: u16 = 9;
    /// A [`Part`](super::Part) of one of the messages of the call that comes next for this thread: its address or its
    /// control data.
    pub const MESSAGE: u16 = 10;
    /// A [`Socket`](super::Socket), which the call that comes next for this thread speaks of.
    pub const SOCKET: u16 = 11;
    /// A [`Head`](super::Head): the thread is told that its terminal has another size, whose columns are its `flags` and whose
    /// rows its `number`.
    pub const RESIZE: u16 = 12;
    /// A [`Signal`](super::Signal) is sent to the command, or to the front.
    pub const SIGNAL: u16 = 13;
    /// A [`Head`](super::Head): a process was found that is [looked for](super::Watch), and is followed from now on; its
    /// directories came before.
    pub const FOUND: u16 = 14;
    /// A [`Part`](super::Part) of what went over a connection.
    pub const STREAM: u16 = 15;
    /// A [`Part`](super::Part) of what went through a TLS library.
    pub const PLAINTEXT: u16 = 16;
    /// A [`Head`](super::Head): the file at the descriptor that is its `number` was mapped to be executed; its path came before.
    pub const MAPPED: u16 = 17;
    /// How many there are: one counter of losses each.
    pub const COUNT: u32 = 18;
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
        /// The id that the calling thread had before; 0 where nobody knows (in a PID namespace).
        pub former: u32,
        /// Bytes of the name as it was given, which follows.
        pub name: u32,
        /// The epoch that ended: what went through descriptors in it is settled.
        pub before: u64,
        /// Bytes of arguments, however many of them came.
        pub arguments: u64,
        /// The same of the environment.
        pub environment: u64,
        /// The program's file.
        pub object: Object,
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
        /// Of output 1 or 2; of a terminal the settings (`c_lflag`); of a connection the descriptor.
        pub what: u32,
        /// How many follow.
        pub len: u32,
        /// How many there are in all; of a connection, how many of this buffer there were with them.
        pub total: u64,
        /// Of a connection: the inode number of its socket; of plaintext a number that its process and the library's object make.
        pub socket: u64,
        /// Of a connection: how many went before them that way, since the first that were seen.
        pub offset: u64,
    }
}

/// In [`Part::what`] of [`kind::PLACE`], whose names come with a NUL each, the last one first: no descriptor, but this.
pub mod place {
    /// The working directory.
    pub const CWD: u32 = u32::MAX;
    /// The root directory.
    pub const ROOT: u32 = u32::MAX - 1;
    /// The program.
    pub const EXE: u32 = u32::MAX - 2;
}

/// In [`Part::what`] of [`kind::MESSAGE`]: it is control data, not an address.
pub const CONTROL: u32 = 1;
/// Longest control data that is copied: descriptors come first in what programs send.
pub const MAX_CONTROL: u32 = 2048;
/// Longest address that is copied (`struct sockaddr_storage`).
pub const MAX_ADDRESS: u32 = 128;

/// In [`Head::flags`] of [`kind::EXEC`]: a program of 32 bits, whose calls no tracepoint tells.
pub const NARROW: u16 = 1;
/// In [`Head::flags`] of [`kind::EXEC`]: named by a descriptor, of which the kernel made a name (execveat(2)).
pub const BY_DESCRIPTOR: u16 = 2;

abi! {
    /// What a socket is, and who is at its ends.
    pub struct Socket {
        /// Who, and when.
        pub head: Head,
        /// The descriptor.
        pub fd: i32,
        /// As given to socket(2).
        pub family: u32,
        /// As given to socket(2), without flags.
        pub kind: u32,
        /// Whether it listens.
        pub listens: u32,
        /// Who listened at the other end of a unix connection, or connected; 0 where there is none.
        pub peer_pid: u32,
        /// Bytes of `local`.
        pub local_len: u32,
        /// Bytes of `peer`.
        pub peer_len: u32,
        /// 0.
        pub reserved: u32,
        /// Where its connection was led to the proxy, what it is known by (SO_COOKIE); else 0.
        pub diverted: u64,
        /// A `struct sockaddr`.
        pub local: [u64; ADDRESS_WORDS],
        /// The same of the other end.
        pub peer: [u64; ADDRESS_WORDS],
    }
}

/// Room for the longest address, in words.
pub const ADDRESS_WORDS: usize = 16;

/// In [`Head::flags`] of [`kind::PLACE`]: it has no name any more.
pub const DELETED: u16 = 1;

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
        /// Into it; or [`UNTOLD_OPEN`] or [`UNTOLD_CLOSE`].
        pub written: u64,
    }
}

/// In [`Sum::written`]: that the descriptor came into being was lost. The same goes for its close then, of which nobody would
/// know what it closes.
pub const UNTOLD_OPEN: u64 = 1 << 63;
/// In [`Sum::written`]: that the descriptor was closed was lost.
pub const UNTOLD_CLOSE: u64 = 1 << 62;

abi! {
    /// A process that is followed.
    pub struct Process {
        /// See [`Head::epoch`].
        pub epoch: u64,
        /// [`ROOT`], [`COMMAND`], [`FOUND`] and [`UNTOLD`].
        pub flags: u32,
        /// With [`FOUND`]: a bit for each of its standard descriptors that is an output.
        pub outputs: u32,
    }
}

/// In [`Process::flags`]: its next exec is the command's own; its standard descriptors are the outputs.
pub const ROOT: u32 = 1;
/// In [`Process::flags`]: it ran already. Its outputs are to be known by what they lead to, before it changes them.
pub const FOUND: u32 = 4;
/// In [`Process::flags`]: it is the command.
pub const COMMAND: u32 = 2;
/// In [`Process::flags`]: some of its descriptors may bear [`UNTOLD_OPEN`] or [`UNTOLD_CLOSE`].
pub const UNTOLD: u32 = 8;

/// In [`Head::flags`] of [`kind::SIGNAL`]: to all processes of a group.
pub const GROUP: u16 = 1;
/// In [`Head::flags`] of [`kind::SIGNAL`]: the same waits already, and is not queued again (signal(7)).
pub const WAITING: u16 = 2;

abi! {
    /// A signal on its way to the command, or to the front.
    pub struct Signal {
        /// To whom, and when; its `number` is the signal's.
        pub head: Head,
        /// The process that sends it, or 0.
        pub sender: u32,
        /// 0.
        pub reserved: u32,
    }
}

abi! {
    /// What is watched by a `struct file`, or the inode of a pipe; by [`TERMINAL`] the terminal's `tty_struct`.
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
        /// With [`role::FAILURE`]: the argument that is an argument list.
        pub list: u8,
        /// It has one of these bits.
        pub bits: u32,
        /// Its low half is one of these.
        pub values: [u32; 6],
        /// Bits of [`tells`].
        pub tells: u16,
        /// The argument with flags of recv(2): what is only looked at moves nothing. [`ANY`] for none.
        pub peek: u16,
        /// What it points to, in the recorder's order.
        pub pieces: [Piece; PIECES],
    }
}

/// Key of [`Watched`], which is no address: its inode is the `tty_struct` of the command's terminal.
pub const TERMINAL: u64 = 1;

/// In [`Plan::when`]: all calls of this number.
pub const ANY: u8 = u8::MAX;

/// [`Plan::tells`]: what is told before the call, where it succeeded.
pub mod tells {
    /// The working directory.
    pub const CWD: u16 = 1;
    /// The root directory.
    pub const ROOT: u16 = 2;
    /// The path of the new descriptor, where that is a directory.
    pub const DIRECTORY: u16 = 4;
    /// The path of the new descriptor.
    pub const OPENED: u16 = 8;
    /// What goes beside the bytes of an array of messages.
    pub const MESSAGES: u16 = 16;
    /// The socket at the first argument.
    pub const SOCKET: u16 = 32;
    /// The socket at the new descriptor.
    pub const ACCEPTED: u16 = 64;
}

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
    /// The bytes of the result were read through the first argument.
    pub const READ: u8 = 5;
    /// They were written.
    pub const WRITE: u8 = 6;
    /// The same as [`READ`], into an array of `struct iovec`.
    pub const READ_VECTOR: u8 = 7;
    /// The same as [`WRITE`], from an array of `struct iovec`.
    pub const WRITE_VECTOR: u8 = 8;
    /// The same, that stands in a `struct msghdr`.
    pub const WRITE_MESSAGE: u8 = 9;
    /// The same of [`READ_VECTOR`].
    pub const READ_MESSAGE: u8 = 10;
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
        /// The inode number of the recorder's PID namespace (namespaces(7)), or 0 for the initial one.
        pub pid_namespace: u32,
        /// The process that hands signals on to the command; 0 for none.
        pub front: u32,
    }
}

abi! {
    /// Who is followed though nobody who is followed started it; looked at when a process starts another one, or executes a
    /// program.
    pub struct Watch {
        /// One of [`watch`].
        pub who: u32,
        /// With [`watch::USER`]: the user's id in the initial namespace.
        pub user: u32,
        /// With [`watch::GROUP`]: the control group's id.
        pub group: u64,
        /// With [`watch::NAME`]: the name as the kernel has it, padded with NULs.
        pub name: [u64; 2],
        /// Processes that are never found.
        pub spared: [u32; 2],
    }
}

/// [`Watch::who`].
pub mod watch {
    /// Nobody.
    pub const NOBODY: u32 = 0;
    /// Everybody.
    pub const ALL: u32 = 1;
    /// The processes of a user.
    pub const USER: u32 = 2;
    /// Those whose thread has a name (`comm` in proc(5)).
    pub const NAME: u32 = 3;
    /// Those of a control group and of the groups below it.
    pub const GROUP: u32 = 4;
}

/// In [`Head::flags`] of [`kind::FOUND`]: it executes a program just now, of which the next [`kind::EXEC`] tells.
pub const BY_EXEC: u16 = 1;

/// The index of a process's mark.
#[must_use]
pub const fn mark(pid: u32) -> u32 {
    pid % MARKS
}
