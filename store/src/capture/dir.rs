//! Opening, listing and describing files relative to an open directory, never through a symbolic link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstatat};
use serde_bytes::ByteBuf;
use xattr::FileExt;

use crate::cache::nanoseconds;
use crate::tree::{Kind, Meta};

/// Names in a directory, in byte order.
pub(super) fn list(dir: &File) -> nix::Result<Vec<OsString>> {
    // A duplicate would share its position with `dir`, so the directory is opened again.
    let mut stream = Dir::openat(
        dir,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut names = Vec::new();
    for entry in stream.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// lstat(2) of a name in `dir`; none where it is gone.
pub(super) fn stat(dir: &File, name: &OsStr) -> nix::Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a name in `dir` for reading: not through a link (ELOOP), not across a mount point (EXDEV).
pub(super) fn open(dir: &File, name: &OsStr, directory: bool) -> nix::Result<File> {
    // O_NONBLOCK: the name may have become a FIFO since it was seen as a file.
    let mut flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    if directory {
        flags |= OFlag::O_DIRECTORY;
    }
    // O_NOATIME is for the owner alone (EPERM): recording should not move access times where that can be had.
    match open_within(dir, name, flags | OFlag::O_NOATIME) {
        Err(Errno::EPERM) => open_within(dir, name, flags),
        other => other,
    }
}

fn open_within(dir: &File, name: &OsStr, flags: OFlag) -> nix::Result<File> {
    let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    match openat2(dir, name, OpenHow::new().flags(flags).resolve(resolve)) {
        // Before Linux 5.6, and under seccomp filters older than that. The name is a single component, so only
        // mounts on the same device go unnoticed.
        Err(Errno::ENOSYS) => openat(dir, name, flags, Mode::empty()).map(File::from),
        other => other.map(File::from),
    }
}

/// Whether a mount point lies between an absolute path and a directory below it.
pub(super) fn is_beyond_mount(dir: &Path, rest: &Path) -> bool {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV);
    File::open(dir)
        .is_ok_and(|dir| openat2(dir, rest, how).is_err_and(|error| error == Errno::EXDEV))
}

/// The kind that the type bits of stat(2) name.
pub(super) fn kind(stat: &FileStat) -> Kind {
    match stat.st_mode & libc_mode::S_IFMT {
        libc_mode::S_IFDIR => Kind::Dir,
        libc_mode::S_IFLNK => Kind::Symlink,
        libc_mode::S_IFIFO => Kind::Fifo,
        libc_mode::S_IFSOCK => Kind::Socket,
        libc_mode::S_IFCHR => Kind::Char,
        libc_mode::S_IFBLK => Kind::Block,
        _ => Kind::File,
    }
}

/// The type bits of stat(2).
mod libc_mode {
    use nix::sys::stat::SFlag;

    pub(super) const S_IFMT: u32 = SFlag::S_IFMT.bits();
    pub(super) const S_IFDIR: u32 = SFlag::S_IFDIR.bits();
    pub(super) const S_IFLNK: u32 = SFlag::S_IFLNK.bits();
    pub(super) const S_IFIFO: u32 = SFlag::S_IFIFO.bits();
    pub(super) const S_IFSOCK: u32 = SFlag::S_IFSOCK.bits();
    pub(super) const S_IFCHR: u32 = SFlag::S_IFCHR.bits();
    pub(super) const S_IFBLK: u32 = SFlag::S_IFBLK.bits();
}

/// Attributes as stat(2) gives them; extended attributes are not among them.
pub(super) fn meta(stat: &FileStat) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        uid: stat.st_uid,
        gid: stat.st_gid,
        xattrs: Vec::new(),
    }
}

/// The extended attributes that a restore can bring back; the others (security labels) belong to the machine.
pub(super) fn xattrs(file: &File, path: &Path) -> Vec<(ByteBuf, ByteBuf)> {
    let mut attributes = Vec::new();
    if let Err(error) = read_xattrs(file, &mut attributes) {
        tracing::warn!(path = %path.display(), %error, "extended attributes are not in the snapshot");
    }
    attributes.sort();
    attributes
}

fn read_xattrs(file: &File, attributes: &mut Vec<(ByteBuf, ByteBuf)>) -> io::Result<()> {
    let names = match file.list_xattr() {
        Err(error) if error.raw_os_error() == Some(Errno::ENOTSUP as i32) => return Ok(()),
        other => other?,
    };
    for name in names.filter(|name| is_kept(name.as_bytes())) {
        // None: removed since it was listed.
        if let Some(value) = file.get_xattr(&name)? {
            attributes.push((ByteBuf::from(name.into_encoded_bytes()), ByteBuf::from(value)));
        }
    }
    Ok(())
}

/// Whether an error says something of the one file and not of this process, so that the capture goes on without it.
pub(super) fn is_of_the_file(error: Errno) -> bool {
    !matches!(error, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)
}

fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}
