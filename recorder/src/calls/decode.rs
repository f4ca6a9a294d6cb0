//! A system call's registers and memory, decoded into the model's terms.
//!
//! What a call points to is read at its entry, where it is what the kernel will see; the call is made of it at the
//! exit, once the result is known.

use std::os::fd::RawFd;

use super::memory::{Memory, Piece, Unreadable, Word, words};
use super::shape::{Arg, Place, Shape, Times};
use super::table::{FSCONFIG_CMD_RECONFIGURE, Row};
use crate::observation::{At, Call, Direction, Loss};

/// A call between its entry and its exit. The buffer is used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    row: Option<&'static Row>,
    args: [u64; 6],
    buffer: Vec<u8>,
    names: [Text; 3],
    block: Text,
    existed: bool,
}

/// What an argument points to: a range of the buffer.
#[derive(Clone, Copy, Debug, Default)]
enum Text {
    /// The pointer is null, or there is no such argument.
    #[default]
    Absent,
    Unreadable,
    Read(usize, usize),
}

/// What the kernel restarts by itself or turns into EINTR; the program never sees these (include/linux/errno.h).
pub(crate) const RESTARTS: std::ops::RangeInclusive<i32> = 512..=516;

/// The directory is the root for this one call (openat2(2)).
const RESOLVE_IN_ROOT: u64 = libc::RESOLVE_IN_ROOT;

/// The slot of the structure, behind those of the names.
const BLOCK: usize = 3;

/// What a call points to, in which slot each goes, and how many there are.
fn pointed_to(row: &Row, args: &[u64; 6]) -> ([Piece; 3], [usize; 3], usize) {
    let mut pieces = [Piece::Block { address: 0, len: 0 }; 3];
    let mut slots = [0; 3];
    let mut count = 0;
    for (slot, arg) in row.shape.names().into_iter().enumerate() {
        let address = arg.map_or(0, |arg| args[usize::from(arg)]);
        if address != 0 {
            pieces[count] = Piece::Text { address, max: libc::PATH_MAX as usize };
            slots[count] = slot;
            count += 1;
        }
    }
    if let Some((address, len)) = row.shape.block(args, row.word) {
        pieces[count] = Piece::Block { address, len };
        slots[count] = BLOCK;
        count += 1;
    }
    (pieces, slots, count)
}

impl Entry {
    /// Reads what the call points to.
    pub(crate) fn read(&mut self, row: &'static Row, args: [u64; 6], memory: &impl Memory) {
        self.row = Some(row);
        self.args = args;
        self.buffer.clear();
        self.names = [Text::Absent; 3];
        self.block = Text::Absent;
        let (pieces, slots, count) = pointed_to(row, &args);
        if count > 0 {
            let found = memory.read_pieces(&pieces[..count], &mut self.buffer);
            for (slot, found) in slots[..count].iter().zip(found) {
                let text = found.map_or(Text::Unreadable, |(start, end)| Text::Read(start, end));
                match *slot {
                    BLOCK => self.block = text,
                    name => self.names[name] = text,
                }
            }
        }
        self.existed = false;
    }

    /// Tells of an open call, before it is made, whether its file is there: `exists` says so of a name, and None where that
    /// is not to be asked.
    pub(crate) fn look_for(&mut self, exists: impl FnOnce(At<'_>) -> Option<bool>) {
        if !self.creates() {
            return;
        }
        let in_root = matches!(self.row.map(|row| row.shape), Some(Shape::OpenHow { .. }))
            && self.word(2) & RESOLVE_IN_ROOT != 0;
        let at = self.first_place().and_then(|at| self.at(at, 0).ok());
        // The name that it has there, as far as no link is on the way.
        let at = at.map(|at| match at {
            At::Path { dir, path } if in_root => {
                let below = path.iter().position(|byte| !b"/.".contains(byte));
                At::Path { dir, path: below.map_or(b".", |below| &path[below..]) }
            }
            at => at,
        });
        // Not known is not created.
        self.existed = at.and_then(exists).unwrap_or(true);
    }

    /// The same, where it is known after the call.
    pub(crate) fn set_created(&mut self, created: bool) {
        self.existed = !created;
    }

    /// Whether what the call points to is not any more what was read at its entry.
    pub(crate) fn changed(&self, memory: &impl Memory, scratch: &mut Vec<u8>) -> bool {
        let Some(row) = self.row else { return false };
        let (pieces, slots, count) = pointed_to(row, &self.args);
        if count == 0 || row.shape.names() == [None; 3] {
            return false;
        }
        scratch.clear();
        let found = memory.read_pieces(&pieces[..count], scratch);
        slots[..count].iter().zip(found).any(|(&slot, found)| {
            let before = if slot == BLOCK { self.block } else { self.names[slot] };
            match (before, found) {
                (Text::Read(start, end), Ok((again, until))) => {
                    self.buffer[start..end] != scratch[again..until]
                }
                (before, Err(_)) => !matches!(before, Text::Unreadable),
                (_, Ok(_)) => true,
            }
        })
    }

    /// The row and arguments of a call that was read.
    pub(crate) fn row(&self) -> Option<(&'static Row, &[u64; 6])> {
        self.row.map(|row| (row, &self.args))
    }

    /// An open call that may create its file and doesn't insist on it.
    fn creates(&self) -> bool {
        let flags = match self.row.map(|row| row.shape) {
            Some(Shape::Open { flags, .. }) => self.arg(flags),
            Some(Shape::Creat { .. }) => libc::O_CREAT as u64,
            Some(Shape::OpenHow { .. }) => self.word(0),
            _ => 0,
        };
        flags as i32 & libc::O_CREAT != 0 && flags as i32 & libc::O_EXCL == 0
    }

    /// An open of the device by which a process serves a file system (fuse(4)).
    pub(crate) fn opens_fuse(&self) -> bool {
        self.first_place().is_some() && self.name(0) == Ok(b"/dev/fuse")
    }

    pub(crate) fn first_place(&self) -> Option<Place> {
        match self.row?.shape {
            Shape::Open { at, .. } | Shape::Creat { at, .. } | Shape::OpenHow { at, .. } => {
                Some(at)
            }
            _ => None,
        }
    }

    /// The call in the model's terms; None where nothing came of it. Unreadable arguments of a call that succeeded
    /// are a loss; of one that failed they are why it failed (EFAULT).
    pub(crate) fn call(&self, result: Result<u64, i32>) -> Option<Call<'_>> {
        if result.is_err_and(|errno| RESTARTS.contains(&errno)) {
            return None;
        }
        match self.decode(result) {
            Ok(call) => call,
            Err(Unreadable) if result.is_ok() => Some(Call::Lost { loss: Loss::Memory }),
            Err(Unreadable) => None,
        }
    }

    fn decode(&self, result: Result<u64, i32>) -> Result<Option<Call<'_>>, Unreadable> {
        let Some(row) = self.row else { return Ok(None) };
        Ok(Some(match row.shape {
            Shape::Open { at, flags, mode } => {
                self.open(at, self.arg(flags), self.arg(mode), result)?
            }
            Shape::Creat { at, mode } => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                self.open(at, flags as u64, self.arg(mode), result)?
            }
            Shape::OpenHow { at, .. } => {
                let call = self.open(at, self.word(0), self.word(1), result)?;
                match call {
                    Call::Open { at: At::Path { dir, path }, flags, mode, created }
                        if self.word(2) & RESOLVE_IN_ROOT != 0 =>
                    {
                        Call::Open { at: At::InRoot { dir, path }, flags, mode, created }
                    }
                    call => call,
                }
            }
            Shape::SpliceMemory => Call::Transfer { fd: self.fd(0), direction: Direction::Write },
            Shape::Tee => Call::Move { from: self.fd(0), to: self.fd(1) },
            Shape::Close => Call::Close { fd: self.fd(0) },
            Shape::CloseRange => Call::CloseRange {
                first: self.arg(0) as u32,
                last: self.arg(1) as u32,
                flags: self.arg(2) as u32,
            },
            Shape::Dup | Shape::Dup2 => Call::Dup { fd: self.fd(0), cloexec: false },
            Shape::Dup3 => {
                let cloexec = self.arg(2) as i32 & libc::O_CLOEXEC != 0;
                Call::Dup { fd: self.fd(0), cloexec }
            }
            Shape::Fcntl => match self.arg(1) as i32 {
                libc::F_SETFD => {
                    let on = self.arg(2) as i32 & libc::FD_CLOEXEC != 0;
                    Call::SetCloexec { fd: self.fd(0), on }
                }
                command => {
                    let cloexec = command == libc::F_DUPFD_CLOEXEC;
                    Call::Dup { fd: self.fd(0), cloexec }
                }
            },
            Shape::Ioctl => {
                let request = self.arg(1) as u32 as libc::Ioctl;
                match request {
                    libc::FIOCLEX | libc::FIONCLEX => {
                        Call::SetCloexec { fd: self.fd(0), on: request == libc::FIOCLEX }
                    }
                    libc::TIOCSWINSZ => Call::Resize { fd: Some(self.fd(0)) },
                    libc::FICLONE => Call::CloneFile { from: self.fd(2), to: self.fd(0) },
                    _ => {
                        self.block()?;
                        Call::CloneFile { from: self.word(0) as RawFd, to: self.fd(0) }
                    }
                }
            }
            Shape::Unshare => Call::Unshare { flags: self.arg(0) },
            Shape::Read { .. } => Call::Transfer { fd: self.fd(0), direction: Direction::Read },
            Shape::Receive { flags, .. } => {
                if self.arg(flags) as i32 & libc::MSG_PEEK != 0 {
                    return Ok(None);
                }
                Call::Transfer { fd: self.fd(0), direction: Direction::Read }
            }
            Shape::Write { .. } => Call::Transfer { fd: self.fd(0), direction: Direction::Write },
            Shape::Messages { write } => {
                let direction = if write { Direction::Write } else { Direction::Read };
                Call::Transfer { fd: self.fd(0), direction }
            }
            Shape::Move { from, to, .. } => Call::Move { from: self.fd(from), to: self.fd(to) },
            Shape::Rename { from, to, flags } => Call::Rename {
                from: self.at(from, 0)?,
                to: self.at(to, 1)?,
                flags: flags.map_or(0, |flags| self.arg(flags) as u32),
            },
            Shape::Unlink { at } => Call::Unlink { at: self.at(at, 0)? },
            Shape::UnlinkAt { at, flags } => match self.arg(flags) as i32 & libc::AT_REMOVEDIR {
                0 => Call::Unlink { at: self.at(at, 0)? },
                _ => Call::Rmdir { at: self.at(at, 0)? },
            },
            Shape::Mkdir { at, mode } => {
                Call::Mkdir { at: self.at(at, 0)?, mode: self.arg(mode) as u32 }
            }
            Shape::Rmdir { at } => Call::Rmdir { at: self.at(at, 0)? },
            Shape::Link { from, to } => Call::Link { from: self.at(from, 0)?, to: self.at(to, 1)? },
            Shape::Symlink { at, .. } => {
                Call::Symlink { target: self.name(1)?, at: self.at(at, 0)? }
            }
            Shape::Mknod { at, mode, dev } => Call::Mknod {
                at: self.at(at, 0)?,
                mode: self.arg(mode) as u32,
                dev: self.arg(dev) as u32 as u64,
            },
            Shape::Truncate { at, length } => {
                Call::Truncate { at: self.at(at, 0)?, length: self.arg(length), mode: 0 }
            }
            Shape::Fallocate => Call::Truncate {
                at: At::Descriptor(self.fd(0)),
                length: self.arg(2).saturating_add(self.arg(3)),
                mode: self.arg(1) as u32,
            },
            Shape::Chmod { at, mode } => {
                Call::Chmod { at: self.at(at, 0)?, mode: self.arg(mode) as u32 }
            }
            Shape::Chown { at, uid, gid } => {
                let id = |arg| Some(self.arg(arg) as u32).filter(|&id| id != u32::MAX);
                Call::Chown { at: self.at(at, 0)?, uid: id(uid), gid: id(gid) }
            }
            Shape::Utime { at, form, .. } => {
                let [atime, mtime] = self.times(form)?;
                Call::Utime { at: self.at(at, 0)?, atime, mtime }
            }
            Shape::SetXattr { at, size, .. } => {
                Call::Xattr { at: self.at(at, 0)?, name: self.name(1)?, size: Some(self.arg(size)) }
            }
            Shape::SetXattrAt { at, .. } => {
                self.block()?;
                let size = Some(self.word(1) as u32 as u64);
                Call::Xattr { at: self.at(at, 0)?, name: self.name(1)?, size }
            }
            Shape::RemoveXattr { at, .. } => {
                Call::Xattr { at: self.at(at, 0)?, name: self.name(1)?, size: None }
            }
            Shape::Mmap => Call::Mmap { fd: self.fd(4), offset: self.arg(5), length: self.arg(1) },
            Shape::Chdir { at } => Call::Chdir { at: self.at(at, 0)? },
            Shape::Mount => Call::Mount {
                source: self.optional_name(1)?,
                target: self.at(Place::Name(1), 0)?,
                fstype: self.optional_name(2)?.unwrap_or_default(),
                flags: self.arg(3),
            },
            Shape::Umount { at } => Call::Umount { target: self.at(at, 0)?, flags: self.arg(1) },
            Shape::PivotRoot => Call::PivotRoot {
                new: self.at(Place::Name(0), 0)?,
                old: self.at(Place::Name(1), 1)?,
            },
            Shape::Chroot { at } => Call::Chroot { at: self.at(at, 0)? },
            Shape::SetNs => Call::SetNs { fd: self.fd(0), flags: self.arg(1) as u32 },
            Shape::OpenTree { at } => {
                let cloexec = self.arg(2) as i32 & libc::O_CLOEXEC != 0;
                Call::OpenTree { at: self.at(at, 0)?, cloexec }
            }
            Shape::MoveMount { from, to } => {
                Call::MoveMount { from: self.at(from, 0)?, to: self.at(to, 1)?, flags: self.arg(4) }
            }
            // FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC and FSPICK_CLOEXEC are 1 (include/uapi/linux/mount.h).
            Shape::FsOpen => Call::FsOpen { fstype: self.name(0)?, cloexec: self.arg(1) & 1 != 0 },
            Shape::FsMount => Call::FsMount { fd: self.fd(0), cloexec: self.arg(1) & 1 != 0 },
            Shape::FsPick { at } => {
                Call::OpenTree { at: self.at(at, 0)?, cloexec: self.arg(2) & 1 != 0 }
            }
            Shape::FsConfig if self.arg(1) as u32 == FSCONFIG_CMD_RECONFIGURE => {
                Call::Reconfigure { fd: self.fd(0) }
            }
            // The source is the one parameter that says what is mounted.
            Shape::FsConfig if self.name(0)? == b"source" => {
                Call::FsSource { fd: self.fd(0), source: self.name(1)? }
            }
            Shape::FsConfig => return Ok(None),
            Shape::MountSetAttr { at, .. } => {
                self.block()?;
                Call::MountSetAttr { at: self.at(at, 0)?, flags: self.word(0) }
            }
            Shape::Socket => Call::Socket {
                family: self.arg(0) as i32,
                kind: self.arg(1) as i32,
                protocol: self.arg(2) as i32,
            },
            Shape::Connect => Call::Connect { fd: self.fd(0), address: self.block()? },
            Shape::Bind => Call::Bind { fd: self.fd(0), address: self.block()? },
            Shape::Listen => Call::Listen { fd: self.fd(0) },
            Shape::Shutdown => Call::Shutdown { fd: self.fd(0), how: self.arg(1) as i32 },
            Shape::PidfdGetFd => Call::Fetch { pidfd: self.fd(0), fd: self.fd(1) },
            Shape::Ptrace => Call::Lost { loss: Loss::Tracer },
            Shape::Seccomp if result.is_ok() => {
                let listens = self.arg(0) as u32 == libc::SECCOMP_SET_MODE_FILTER
                    && self.arg(1) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0;
                let loss = if listens { Loss::SeccompSupervisor } else { Loss::SeccompFilter };
                Call::Lost { loss }
            }
            Shape::Prctl if result.is_ok() && self.arg(0) as i32 == libc::PR_SET_SECCOMP => {
                Call::Lost { loss: Loss::SeccompFilter }
            }
            Shape::IoUring if result.is_ok() => Call::Lost { loss: Loss::IoUring },
            // Read at the exit, see `messages`.
            Shape::Accept { .. } | Shape::SocketPair => return Ok(None),
            // The tracer's own business.
            Shape::IoUring
            | Shape::OpenHandle { .. }
            | Shape::Seccomp
            | Shape::Prctl
            | Shape::Exec { .. }
            | Shape::Clone
            | Shape::Clone3
            | Shape::Affinity => return Ok(None),
        }))
    }

    fn open(
        &self,
        at: Place,
        flags: u64,
        mode: u64,
        result: Result<u64, i32>,
    ) -> Result<Call<'_>, Unreadable> {
        // Without the part that it shares with O_DIRECTORY.
        const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
        let given = flags as i32;
        let mode = if given & (libc::O_CREAT | TMPFILE) != 0 { mode as u32 } else { 0 };
        let created = result.is_ok() && given & libc::O_CREAT != 0 && !self.existed;
        Ok(Call::Open { at: self.at(at, 0)?, flags: flags as u32, mode, created })
    }

    fn times(&self, form: Times) -> Result<[Option<i64>; 2], Unreadable> {
        let now = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |now| now.as_nanos() as i64)
        };
        if matches!(self.block, Text::Absent) {
            return Ok([Some(now()); 2]);
        }
        let word = self.row.map_or(Word::Eight, |row| row.word);
        let mut values = [0; 4];
        for (value, found) in values.iter_mut().zip(words(word, self.block()?)) {
            *value = word.signed(found);
        }
        let nanoseconds = |seconds: i64, rest: i64| {
            Some(seconds.saturating_mul(1_000_000_000).saturating_add(rest))
        };
        Ok([0, 1].map(|which| match form {
            Times::Seconds => nanoseconds(values[which], 0),
            Times::Microseconds => {
                nanoseconds(values[2 * which], values[2 * which + 1].saturating_mul(1000))
            }
            // Programs of 32 bits leave the upper half of these undefined (kernel/time/time.c, get_timespec64).
            Times::Nanoseconds => match values[2 * which + 1] & 0xffff_ffff {
                libc::UTIME_NOW => Some(now()),
                libc::UTIME_OMIT => None,
                rest => nanoseconds(values[2 * which], rest),
            },
        }))
    }

    /// Whether the call follows a link of the name that it is given first.
    pub(crate) fn follows(&self) -> bool {
        let Some(row) = self.row else { return true };
        let flags = match row.shape {
            Shape::Unlink { .. } | Shape::UnlinkAt { .. } | Shape::Rename { .. } => return false,
            Shape::Open { flags, .. } => return self.arg(flags) as i32 & libc::O_NOFOLLOW == 0,
            Shape::OpenHow { .. } => return self.word(0) as i32 & libc::O_NOFOLLOW == 0,
            Shape::Chmod { at, .. }
            | Shape::Chown { at, .. }
            | Shape::Utime { at, .. }
            | Shape::SetXattr { at, .. }
            | Shape::SetXattrAt { at, .. }
            | Shape::RemoveXattr { at, .. } => match at {
                Place::NameOrFd { empty: Some((flags, _)), .. } => flags,
                // lchown(2), lsetxattr(2), lremovexattr(2)
                _ => return !row.name.starts_with('l'),
            },
            _ => return true,
        };
        self.arg(flags) as i32 & libc::AT_SYMLINK_NOFOLLOW == 0
    }

    /// What `place` means; `index` is the place of its name among the names.
    pub(crate) fn at(&self, place: Place, index: usize) -> Result<At<'_>, Unreadable> {
        let directory = |arg| Some(self.fd(arg)).filter(|&fd| fd != libc::AT_FDCWD);
        Ok(match place {
            Place::Fd(fd) => At::Descriptor(self.fd(fd)),
            Place::Name(_) => At::Path { dir: None, path: self.name(index)? },
            Place::NameAt { dir, .. } => At::Path { dir: directory(dir), path: self.name(index)? },
            Place::NameOrFd { dir, empty, .. } => {
                let empty = empty.is_some_and(|(arg, bit)| self.arg(arg) as u32 & bit != 0);
                let itself = match self.names[index] {
                    Text::Absent => true,
                    _ => empty && self.name(index)?.is_empty(),
                };
                match (itself, directory(dir)) {
                    (true, Some(fd)) => At::Descriptor(fd),
                    (true, None) => At::Path { dir: None, path: b"." },
                    (false, dir) => At::Path { dir, path: self.name(index)? },
                }
            }
        })
    }

    fn name(&self, index: usize) -> Result<&[u8], Unreadable> {
        match self.names[index] {
            Text::Read(start, end) => Ok(&self.buffer[start..end]),
            Text::Absent | Text::Unreadable => Err(Unreadable),
        }
    }

    /// A name that may be a null pointer.
    fn optional_name(&self, index: usize) -> Result<Option<&[u8]>, Unreadable> {
        match self.names[index] {
            Text::Absent => Ok(None),
            _ => self.name(index).map(Some),
        }
    }

    pub(crate) fn block(&self) -> Result<&[u8], Unreadable> {
        match self.block {
            Text::Read(start, end) => Ok(&self.buffer[start..end]),
            Text::Absent => Ok(&[]),
            Text::Unreadable => Err(Unreadable),
        }
    }

    /// Eight bytes of the block; 0 behind its end. (Structures made for all ABIs have fields of that size.)
    pub(crate) fn word(&self, index: usize) -> u64 {
        let block = self.block().unwrap_or_default();
        words(Word::Eight, block).nth(index).unwrap_or(0)
    }

    fn arg(&self, arg: Arg) -> u64 {
        self.args[usize::from(arg)]
    }

    fn fd(&self, arg: Arg) -> RawFd {
        self.arg(arg) as RawFd
    }
}
