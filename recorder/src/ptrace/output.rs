//! What calls wrote and were given: buffers, vectors, message headers and argument lists in a tracee's memory, and files
//! that the kernel moved to an output.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use super::memory::Tracee;
use crate::calls::memory::{Memory, Unreadable, Word};
use crate::calls::shape::Buffers;
use crate::observation::{ArgList, Tid};
use crate::proc::{self, MAX_ARGS};

/// Largest piece of output that is handed on at once, in bytes.
const MAX_PIECE: u64 = 1 << 20;
/// What the kernel allows at most (UIO_MAXIOV).
const MAX_VECTOR: u64 = 1024;
/// `sizeof(struct mmsghdr)`, and where in it the length stands, in words: with either size of word.
const MMSGHDR_WORDS: usize = 8;
const MSG_LEN: usize = 7;

/// The bytes that a call wrote, in order, in pieces of bounded size.
#[derive(Debug)]
pub(super) struct Pieces {
    tid: Tid,
    /// Address and length of what is left, the next one last.
    buffers: Result<Vec<(u64, u64)>, Unreadable>,
    left: u64,
}

impl Pieces {
    /// The first `count` bytes of what the call's `args` point to.
    pub(super) fn new(tid: Tid, word: Word, buffers: Buffers, args: &[u64; 6], count: u64) -> Self {
        let arg = |arg: u8| args[usize::from(arg)];
        let buffers = match buffers {
            Buffers::Flat(address) | Buffers::To { data: address, .. } => {
                Ok(vec![(arg(address), count)])
            }
            Buffers::Vector(address, length) => vector(tid, word, arg(address), arg(length)),
            // struct msghdr: name and its length, then the vector and its length.
            Buffers::Message(address) => Tracee(tid)
                .read_words(word, arg(address), 4)
                .and_then(|header| vector(tid, word, header[2], header[3])),
        };
        Self { tid, buffers, left: count }
    }

    /// How many bytes are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Appends the next piece to `data`; false when there is none.
    pub(super) fn next(&mut self, data: &mut Vec<u8>) -> Result<bool, Unreadable> {
        let buffers = self.buffers.as_mut().map_err(|unreadable| *unreadable)?;
        let mut room = MAX_PIECE;
        while room > 0 && self.left > 0 {
            let Some((address, len)) = buffers.pop() else { break };
            let now = len.min(room).min(self.left);
            if now < len {
                buffers.push((address.wrapping_add(now), len - now));
            }
            Tracee(self.tid).read_block(address, now as usize, data)?;
            room -= now;
            self.left -= now;
        }
        Ok(!data.is_empty())
    }
}

/// What a call moved out of a regular file inside the kernel, in pieces of bounded size. The file is read after the call:
/// who changes it in between changes what is seen.
#[derive(Debug)]
pub(super) struct Moved {
    file: File,
    offset: u64,
    left: u64,
}

impl Moved {
    /// The last `count` bytes before where the call left off: the value at `offset`, or, where that is null, the position
    /// of `fd`. None for what is no regular file, can't be opened, or does not hold them (files in /proc have no size).
    pub(super) fn new(tid: Tid, word: Word, fd: RawFd, offset: u64, count: u64) -> Option<Self> {
        let end = match offset {
            0 => proc::position(tid, fd)?,
            _ => *Tracee(tid).read_words(word, offset, 1).ok()?.first()?,
        };
        let path = format!("/proc/{tid}/fd/{fd}");
        // Looked at before it is opened: to open a pipe or a device may do something to it.
        let meta = fs::metadata(&path).ok().filter(|meta| meta.is_file() && meta.len() >= end)?;
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).ok()?;
        // Another thread may have put something else there.
        let opened = file.metadata().ok()?;
        let same = (opened.dev(), opened.ino()) == (meta.dev(), meta.ino());
        same.then_some(Self { file, offset: end.checked_sub(count)?, left: count })
    }

    /// Appends the next piece to `data`; false when there is none, or the file has become shorter.
    pub(super) fn next(&mut self, data: &mut Vec<u8>) -> io::Result<bool> {
        let start = data.len();
        data.resize(start + self.left.min(MAX_PIECE) as usize, 0);
        let read = self.file.read_at(&mut data[start..], self.offset);
        data.truncate(start + *read.as_ref().unwrap_or(&0));
        let read = read? as u64;
        self.offset += read;
        self.left -= read;
        Ok(read > 0)
    }
}

fn vector(tid: Tid, word: Word, address: u64, count: u64) -> Result<Vec<(u64, u64)>, Unreadable> {
    let words = Tracee(tid).read_words(word, address, 2 * count.min(MAX_VECTOR) as usize)?;
    Ok(words.chunks_exact(2).rev().map(|pair| (pair[0], pair[1])).collect())
}

/// How many bytes went with the first `count` messages of an array of `struct mmsghdr`.
pub(super) fn message_bytes(
    tid: Tid,
    word: Word,
    address: u64,
    count: u64,
) -> Result<u64, Unreadable> {
    let words =
        Tracee(tid).read_words(word, address, MMSGHDR_WORDS * count.min(MAX_VECTOR) as usize)?;
    Ok(words.chunks_exact(MMSGHDR_WORDS).map(|header| u64::from(header[MSG_LEN] as u32)).sum())
}

/// The argument list of an exec that failed. What can't be read ends it: the kernel saw no more either.
pub(super) fn arguments(tid: Tid, word: Word, array: u64) -> ArgList {
    /// Pointers read at once: from an aligned array, these never reach over a page's end.
    const POINTERS: u64 = 16;
    let mut list = ArgList::default();
    let mut total = 0;
    let mut string = Vec::new();
    let mut at = array;
    'all: loop {
        let until_block_end = POINTERS - at / word.size() % POINTERS;
        let Ok(pointers) = Tracee(tid).read_words(word, at, until_block_end as usize) else {
            break;
        };
        at += word.size() * until_block_end;
        for pointer in pointers {
            string.clear();
            // MAX_ARG_STRLEN: the kernel takes no longer string.
            if pointer == 0 || Tracee(tid).read_text(pointer, 32 * 4096, &mut string).is_err() {
                break 'all;
            }
            string.push(0);
            total += string.len() as u64;
            if list.bytes.len() + string.len() <= MAX_ARGS {
                list.bytes.extend_from_slice(&string);
            } else {
                list.cut = Some(total);
            }
        }
        // ARG_MAX is 6 MiB at most (execve(2)): more is no argument list.
        if total > 8 << 20 {
            break;
        }
    }
    list.cut = list.cut.map(|_| total);
    list
}
