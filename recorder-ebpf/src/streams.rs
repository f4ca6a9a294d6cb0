//! What the programs and the recorder say to each other of connections and of TLS libraries.

use crate::Head;
#[allow(unused_imports, reason = "for the documentation")]
use crate::{Part, kind};

/// In [`Head::flags`] of [`kind::STREAM`]: it was written; else read.
pub const WRITTEN: u16 = 1;
/// In [`Head::flags`] of [`kind::STREAM`]: there is no more to read.
pub const NO_MORE: u16 = 2;
/// In [`Head::flags`] of [`kind::STREAM`]: the peer reset it.
pub const WAS_RESET: u16 = 4;
/// In [`Head::flags`] of [`kind::PLAINTEXT`]: the library's object is gone.
pub const CLOSED: u16 = 8;

/// Sizes of the records that plaintext is put into, bytes: the smallest that fits is taken.
pub const PLAINTEXT_PIECES: [usize; 3] = [512, 4096, 16 * 1024];
/// Records that one call's plaintext takes at most: 1 GiB.
pub const PLAINTEXT_CHUNKS: u32 = 1 << 16;
/// Calls of TLS libraries at a time.
pub const TLS_CALLS: u32 = 1 << 14;

/// Executable files that need not be told again.
pub const OBJECTS: u32 = 1 << 12;

abi! {
    /// What an executable file is known by. A number is used again for another file, which has another generation.
    pub struct Object {
        /// Its inode's number.
        pub number: u64,
        /// Bytes.
        pub size: u64,
        /// Of its file system, as the kernel has it.
        pub device: u32,
        /// Its inode's generation.
        pub generation: u32,
    }
}

abi! {
    /// An executable file was mapped, whose name came before, under the number in the head.
    pub struct Mapped {
        /// Who, and when.
        pub head: Head,
        /// What to know it by.
        pub object: Object,
    }
}

abi! {
    /// A call of a TLS library that has not returned.
    pub struct TlsKey {
        /// The stack pointer at its beginning.
        pub stack: u64,
        /// The thread.
        pub tid: u32,
        /// 0.
        pub reserved: u32,
    }
}

abi! {
    /// What it does.
    pub struct TlsCall {
        /// See [`Part::socket`].
        pub stream: u64,
        /// Of its bytes, or of those that are still to be told.
        pub address: u64,
        /// Where it will say how many they are, with [`tls::AT`].
        pub count_at: u64,
        /// Bits of [`tls`].
        pub what: u64,
        /// Bytes that are still to be told.
        pub left: u64,
        /// How many went before them that way.
        pub offset: u64,
        /// When it returned.
        pub ts: u64,
    }
}

/// What a function of a TLS library does: the cookie of its uprobes.
pub mod tls {
    /// It writes; else reads.
    pub const WRITES: u64 = 1;
    /// Its bytes are nowhere in the process's memory.
    pub const UNSEEN: u64 = 2;
    /// How it says how many it moved.
    pub const COUNT: u64 = 0b1100;
    /// In its result, an `int`.
    pub const INT: u64 = 0b0000;
    /// In its result, an `ssize_t`.
    pub const LONG: u64 = 0b0100;
    /// In the `size_t` that an argument points to, where its result is 1.
    pub const AT: u64 = 0b1000;
    /// Which argument.
    pub const ARGUMENT: u64 = 0b1_0000;
    /// The fourth; else the fifth.
    pub const FOURTH: u64 = 0b1_0000;
    /// It ends its stream.
    pub const OVER: u64 = 0b10_0000;
}

/// In [`Part::socket`], beside an inode number: a pipe, of which the two ways are two streams.
pub const PIPE: u64 = 1 << 62;
/// With [`PIPE`]: the way in which it is written to.
pub const INTO_PIPE: u64 = 1 << 63;

abi! {
    /// A connection, by the inode number of its socket; or one way of a [`PIPE`].
    pub struct Stream {
        /// Bytes that were read.
        pub read: u64,
        /// Bytes that were written.
        pub written: u64,
        /// Not 0: its bytes are not wanted.
        pub unwanted: u64,
    }
}
