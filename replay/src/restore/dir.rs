//! An open directory, and what can be done with a single name in it without ever following a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, mkfifoat, symlinkat, unlinkat};

/// An open directory. Every name that is given to it is a single component.
#[derive(Debug)]
pub(crate) struct Dir(File);

impl Dir {
    /// The directory that a user named: links on the way are the user's business.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(openat(AT_FDCWD, path, flags, Mode::empty())?.into()))
    }

    /// A directory in this one.
    pub(crate) fn sub(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self(openat(&self.0, name, flags, Mode::empty())?.into()))
    }

    /// The directory at a relative path, component by component.
    pub(crate) fn descend(&self, path: &Path) -> io::Result<Self> {
        let mut dir = Self(self.0.try_clone()?);
        for component in path.components() {
            let Component::Normal(name) = component else {
                return Err(io::Error::from(Errno::EINVAL));
            };
            dir = dir.sub(name)?;
        }
        Ok(dir)
    }

    /// The directory itself, for its attributes.
    pub(crate) fn file(&self) -> &File {
        &self.0
    }

    /// Makes a directory that only its owner may enter.
    pub(crate) fn make(&self, name: &OsStr) -> io::Result<Self> {
        mkdirat(&self.0, name, Mode::S_IRWXU)?;
        self.sub(name)
    }

    /// Creates a file with at most this mode; it must not exist.
    pub(crate) fn create(&self, name: &OsStr, mode: Mode) -> io::Result<File> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&self.0, name, flags, mode)?.into())
    }

    /// Opens a file or directory for its attributes.
    pub(crate) fn open_for_attributes(&self, name: &OsStr) -> io::Result<File> {
        // O_NONBLOCK: a FIFO without a writer must not hold us up.
        let flags = OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::empty())?.into())
    }

    pub(crate) fn symlink(&self, target: &OsStr, name: &OsStr) -> io::Result<()> {
        Ok(symlinkat(target, &self.0, name)?)
    }

    pub(crate) fn read_link(&self, name: &OsStr) -> io::Result<std::ffi::OsString> {
        Ok(readlinkat(&self.0, name)?)
    }

    pub(crate) fn fifo(&self, name: &OsStr) -> io::Result<()> {
        Ok(mkfifoat(&self.0, name, Mode::S_IRUSR | Mode::S_IWUSR)?)
    }

    /// Gives the file `from_name` in `from` another name here.
    pub(crate) fn link(&self, from: &Self, from_name: &OsStr, name: &OsStr) -> io::Result<()> {
        // Without AT_SYMLINK_FOLLOW a link is linked itself.
        Ok(linkat(&from.0, from_name, &self.0, name, AtFlags::empty())?)
    }

    /// lstat(2); none where there is no such name.
    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<Option<FileStat>> {
        match fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves a name onto another one here, replacing what has it.
    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes a name that is no directory.
    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes an empty directory.
    pub(crate) fn rmdir(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::RemoveDir)?)
    }
}
