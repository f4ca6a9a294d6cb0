//! Files and names, what was kept of them, mounts, working directories and descriptors.

use std::borrow::Cow;

use super::define::events;
use crate::{Bytes, ObjectId, Seq};

events! {
    /// A file was opened, or not.
    Sys "file.open" FileOpen<'a> {
        /// Absolute path as the process meant it.
        #[serde(borrow)] path: Bytes<'a>,
        /// Flags as given to open(2), numbered as on x86-64.
        flags: u32,
        /// Mode, where the call could create.
        mode: u32,
        /// The new descriptor.
        fd: Option<i32>,
        /// Error number of a failed call.
        errno: Option<i32>,
        /// The call created the file, where that is known.
        created: bool,
    }
    /// The last descriptor of this process for an open file description was closed.
    Sys "file.close" FileClose<'a> {
        /// The `file.open` whose description this is.
        open: Option<Seq>,
        /// Path, only where there is no `open`.
        #[serde(borrow)] path: Option<Bytes<'a>>,
        /// Bytes that this process read through it.
        read: u64,
        /// Bytes that this process wrote through it.
        written: u64,
    }
    /// rename(2) and its kin.
    Sys "file.rename" FileRename<'a> {
        /// Old path.
        #[serde(borrow)] from: Bytes<'a>,
        /// New path.
        #[serde(borrow)] to: Bytes<'a>,
        /// Flags of renameat2(2).
        flags: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// unlink(2).
    Sys "file.unlink" FileUnlink<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// mkdir(2).
    Sys "file.mkdir" FileMkdir<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Mode.
        mode: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// rmdir(2).
    Sys "file.rmdir" FileRmdir<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// link(2).
    Sys "file.link" FileLink<'a> {
        /// Existing path.
        #[serde(borrow)] from: Bytes<'a>,
        /// New path.
        #[serde(borrow)] to: Bytes<'a>,
        /// The `file.open` of a file that had no name (O_TMPFILE) and has this one now; `from` is its directory.
        open: Option<Seq>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// symlink(2).
    Sys "file.symlink" FileSymlink<'a> {
        /// What the link holds, verbatim.
        #[serde(borrow)] target: Bytes<'a>,
        /// The link's path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// mknod(2).
    Sys "file.mknod" FileMknod<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Mode with the type bits.
        mode: u32,
        /// Device number.
        dev: u64,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// truncate(2), ftruncate(2), fallocate(2).
    Sys "file.truncate" FileTruncate<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// New length in bytes.
        length: u64,
        /// Mode of fallocate(2).
        mode: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// chmod(2).
    Sys "file.chmod" FileChmod<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// New mode.
        mode: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// chown(2).
    Sys "file.chown" FileChown<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// New owner; absent where unchanged.
        uid: Option<u32>,
        /// New group; absent where unchanged.
        gid: Option<u32>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// utimensat(2) and its elders.
    Sys "file.utime" FileUtime<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// New access time, nanoseconds since 1970; absent where unchanged.
        atime: Option<i64>,
        /// New modification time, nanoseconds since 1970; absent where unchanged.
        mtime: Option<i64>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// setxattr(2), removexattr(2).
    Sys "file.xattr" FileXattr<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Attribute name.
        #[serde(borrow)] name: Bytes<'a>,
        /// Size of the new value in bytes; absent where it was removed.
        size: Option<u64>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// A file was mapped shared and writable: its content can change without a call.
    Sys "file.mmap" FileMmap<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Offset in the file, bytes.
        offset: u64,
        /// Bytes mapped.
        length: u64,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// Contents were cloned from another file (FICLONE, FICLONERANGE).
    Sys "file.clone" FileClone<'a> {
        /// Source path.
        #[serde(borrow)] from: Bytes<'a>,
        /// Destination path.
        #[serde(borrow)] to: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// What stood outside the snapshots' roots, told before the event that changes it. Where a call makes its file, there is none.
    Sys "file.kept" FileKept<'a> {
        /// Absolute path as the process meant it.
        #[serde(borrow)] path: Bytes<'a>,
        /// Where it really is, where links on the way or a link of that name lead elsewhere.
        #[serde(borrow)] real: Option<Bytes<'a>>,
        /// What is about to happen: `write`, `truncate`, `rename`, `unlink`, `attributes`.
        #[serde(borrow)] change: Cow<'a, str>,
        /// `file`, `dir`, `symlink`, `fifo`, `socket`, `char` or `block`; empty where nothing could be learned of it any more.
        #[serde(borrow)] kind: Cow<'a, str>,
        /// Permission bits with set-uid, set-gid and sticky, without the type.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Modification time, nanoseconds since 1970.
        mtime: i64,
        /// A file's length in bytes.
        size: u64,
        /// Names that the file has; whoever changes it under one changes it under all.
        links: u64,
        /// Extended attributes: `user.*`, access control lists and capabilities.
        #[serde(borrow)] xattrs: Vec<(Bytes<'a>, Bytes<'a>)>,
        /// What a symbolic link holds.
        #[serde(borrow)] target: Option<Bytes<'a>>,
        /// Address of the old content, where it was kept.
        object: Option<ObjectId>,
        /// The file holds secrets: its content is in the local store alone.
        secret: bool,
        /// Why a file's content was not kept: `too-large`, `limit`, `unreadable`, `busy` (leased to a process), `failed`; or
        /// `gone`, and `unseen`, where not even whether there was a file is known. Absent where it was, and where it does not change.
        #[serde(borrow)] reason: Option<Cow<'a, str>>,
        /// It was read when the process could have changed it already.
        late: bool,
    }
    /// The mount table changed, or another part of it is what a process sees.
    Sys "mount" Mount<'a> {
        /// The call: `mount`, `umount`, `pivot_root`, `move_mount`, `mount_setattr`, `fsconfig` (FSCONFIG_CMD_RECONFIGURE),
        /// `chroot`, `unshare` or `setns`.
        #[serde(borrow)] op: Cow<'a, str>,
        /// What is mounted: a path with MS_BIND and MS_MOVE, else as it was given; the new root of `pivot_root`; the
        /// namespace of `setns`.
        #[serde(borrow)] source: Bytes<'a>,
        /// Where; where the old root went to of `pivot_root`.
        #[serde(borrow)] target: Bytes<'a>,
        /// File system type.
        #[serde(borrow)] fstype: Bytes<'a>,
        /// Flags of the call; those that were set of `mount_setattr`.
        flags: u64,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// The working directory of a process changed.
    Sys "dir.change" DirChange<'a> {
        /// New directory.
        #[serde(borrow)] path: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// A descriptor that was open when the recording of its process began.
    Sys "fd.initial" FdInitial<'a> {
        /// Descriptor.
        fd: i32,
        /// What it names, as /proc/PID/fd says.
        #[serde(borrow)] path: Bytes<'a>,
        /// Flags as /proc/PID/fdinfo says, numbered as on x86-64.
        flags: u32,
    }
}
