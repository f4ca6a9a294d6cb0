//! A look at a file that stands before its change: what it is, where it really is, and what it holds.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use agentrec_trace::Bytes;
use agentrec_trace::event::FileKept;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;

use super::{Change, bytes};
use crate::observation::Tid;

/// Where a call says that a file is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    /// The thread; None where nobody stands still.
    pub(crate) tid: Option<Tid>,
    /// Absolute, as the process meant it.
    pub(crate) path: &'p [u8],
    /// How much of the path is the thread's root, in bytes.
    pub(crate) root: usize,
    /// The descriptor that names it, where no name does.
    pub(crate) fd: Option<RawFd>,
    /// A link of that name is followed.
    pub(crate) follow: bool,
    /// The same path means the same to most processes of the tree.
    pub(crate) is_plain: bool,
}

impl<'p> Place<'p> {
    /// A name as the recorder sees it.
    pub(super) fn named(path: &'p [u8]) -> Self {
        Self { tid: None, path, root: 0, fd: None, follow: false, is_plain: true }
    }

    /// What is there, at the least cost; None where only [`find`] can tell.
    pub(super) fn glance(&self) -> Option<Option<Metadata>> {
        let path = Path::new(OsStr::from_bytes(self.path));
        if !self.is_plain || self.fd.is_some() {
            return None;
        }
        match if self.follow { path.metadata() } else { path.symlink_metadata() } {
            Ok(meta) => Some(Some(meta)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(None),
            Err(_) => None,
        }
    }

    pub(super) fn is_symlink(&self) -> bool {
        let path = Path::new(OsStr::from_bytes(self.path));
        path.symlink_metadata().map_or(true, |found| found.is_symlink())
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    Char,
    Block,
}

impl Kind {
    fn of(meta: &Metadata) -> Self {
        let kind = meta.file_type();
        match () {
            () if kind.is_dir() => Self::Dir,
            () if kind.is_symlink() => Self::Symlink,
            () if kind.is_fifo() => Self::Fifo,
            () if kind.is_socket() => Self::Socket,
            () if kind.is_char_device() => Self::Char,
            () if kind.is_block_device() => Self::Block,
            () => Self::File,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Char => "char",
            Self::Block => "block",
        }
    }
}

/// A file that is there.
#[derive(Debug)]
pub(super) struct Found {
    /// Opened as a place alone: neither read nor waited for (O_PATH).
    handle: File,
    pub(super) meta: Metadata,
    pub(super) kind: Kind,
    /// Its path without links.
    pub(super) real: PathBuf,
}

/// What is there; None where nothing is, or nothing that the thread could reach.
///
/// # Errors
/// Where that can't be told, such as for want of descriptors.
pub(super) fn find(place: &Place<'_>) -> Result<Option<Found>, Errno> {
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    if let (Some(tid), Some(fd)) = (place.tid, place.fd) {
        return found(open(&*link(tid, fd), flags, Mode::empty()));
    }
    flags.set(OFlag::O_NOFOLLOW, !place.follow);
    let whole = OsStr::from_bytes(place.path);
    let plain = || open(whole, flags, Mode::empty());
    let Some(tid) = place.tid else { return found(plain()) };
    // Links are followed as the thread would, from its own root.
    let root = format!("/proc/{tid}/root");
    let root = match open(&*root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(_) if place.is_plain => return found(plain()),
        root => root?,
    };
    let inside = OsStr::from_bytes(place.path.get(place.root..).unwrap_or_default());
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    found(match openat2(&root, inside, how) {
        // Before Linux 5.6; something on a way with `..` was renamed meanwhile.
        Err(Errno::ENOSYS | Errno::EAGAIN) => plain(),
        other => other,
    })
}

/// What a descriptor of a thread that stands still is open for.
pub(super) fn opened(tid: Tid, fd: RawFd) -> Option<Metadata> {
    std::fs::metadata(link(tid, fd)).ok()
}

fn found(opened: nix::Result<OwnedFd>) -> Result<Option<Found>, Errno> {
    use Errno::{EACCES, EBADF, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR};
    match opened {
        Ok(opened) => Ok(Found::of(opened.into())),
        Err(ENOENT | ENOTDIR | EACCES | ELOOP | ENAMETOOLONG | EBADF) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn link(tid: Tid, fd: RawFd) -> String {
    format!("/proc/{tid}/fd/{fd}")
}

impl Found {
    fn of(handle: File) -> Option<Self> {
        let meta = handle.metadata().ok()?;
        let real = std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).ok()?;
        let kind = Kind::of(&meta);
        (real.is_absolute() && meta.nlink() > 0).then_some(Self { handle, meta, kind, real })
    }

    /// Opens it for reading, or says why not. A regular file or a directory: opening waits for nobody.
    pub(super) fn open(&self) -> Result<File, &'static str> {
        let path = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // For the owner alone: recording should not move access times where that can be had.
        let opened = match open(&*path, flags | OFlag::O_NOATIME, Mode::empty()) {
            Err(Errno::EPERM) => open(&*path, flags, Mode::empty()),
            other => other,
        };
        opened.map(File::from).map_err(|errno| match errno {
            Errno::EACCES | Errno::EPERM => "unreadable",
            Errno::EWOULDBLOCK => "busy",
            _ => "failed",
        })
    }

    /// What there is to say of it beside its content.
    pub(super) fn describe(&self, path: &[u8], change: Change) -> FileKept<'static> {
        let meta = &self.meta;
        let is_link = self.kind == Kind::Symlink;
        let target = is_link.then(|| readlinkat(&self.handle, "").ok()).flatten();
        FileKept {
            path: Bytes::from(path.to_vec()),
            real: (self.real.as_os_str().as_bytes() != path).then(|| bytes(&self.real)),
            change: change.as_str().into(),
            kind: Cow::Borrowed(self.kind.as_str()),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
            size: if self.kind == Kind::File { meta.size() } else { 0 },
            links: meta.nlink(),
            target: target.map(|target| Bytes::from(target.into_vec())),
            ..FileKept::default()
        }
    }

    /// Not on one of the file systems by which the kernel shows itself: what is read there is made at that moment, and
    /// reading it may do something.
    pub(super) fn is_of_a_disk(&self) -> bool {
        let Ok(found) = fstatfs(&self.handle) else { return false };
        let magic = found.filesystem_type().0 as u64 & 0xffff_ffff;
        !MADE_UP.contains(&magic)
    }
}

/// Magic numbers of such file systems (include/uapi/linux/magic.h).
const MADE_UP: [u64; 17] = [
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinux
    0x4341_5d53, // smack
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0x4249_4e4d, // binfmt_misc
    0x0000_1cd1, // devpts
    0x0765_5821, // resctrl
    0x6e73_6673, // nsfs
];

/// Attributes that can be given back.
pub(super) fn xattrs(file: &File, path: &Path) -> Vec<(Bytes<'static>, Bytes<'static>)> {
    let pairs = agentrec_store::restorable_xattrs(file, path).into_iter();
    pairs.map(|(name, value)| (name.into_vec().into(), value.into_vec().into())).collect()
}

/// Whether this is `dir` or below it.
pub(super) fn is_below(path: &[u8], dir: &str) -> bool {
    let rest = path.strip_prefix(dir.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}
