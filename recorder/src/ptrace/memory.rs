//! Reading a stopped tracee's memory: several pieces with one call, and /proc/PID/mem where that is refused.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::observation::Tid;

/// Memory at an address could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// The size of a pointer and of a `long` in a tracee's memory: what a call points to is laid out by its ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    #[cfg(target_arch = "x86_64")]
    Four,
    Eight,
}

impl Word {
    /// In bytes.
    pub(super) const fn size(self) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// One of these as a signed number.
    pub(super) fn signed(self, value: u64) -> i64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Four => i64::from(value as i32),
            Self::Eight => value as i64,
        }
    }
}

/// Linux's smallest page: memory is readable or not in units of at least this.
const PAGE: u64 = 4096;
/// Most names are shorter.
const FIRST_CHUNK: u64 = 256;

/// A string or a block to read: filled by [`read_pieces`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    /// Up to a NUL, or `max` bytes.
    Text { address: u64, max: usize },
    /// So many bytes.
    Block { address: u64, len: usize },
}

impl Piece {
    fn address(self) -> u64 {
        match self {
            Self::Text { address, .. } | Self::Block { address, .. } => address,
        }
    }

    /// What to read at once: a text not over the page's end, which may be the end of what is readable.
    fn first_len(self) -> usize {
        match self {
            Self::Text { address, max } => {
                (FIRST_CHUNK.min(PAGE - address % PAGE) as usize).min(max)
            }
            Self::Block { len, .. } => len,
        }
    }
}

/// Reads up to three pieces, with one call where they are short and readable. Appends each to `buffer` and gives
/// the range where it stands there; texts without their NUL.
pub(super) fn read_pieces(
    tid: Tid,
    pieces: &[Piece],
    buffer: &mut Vec<u8>,
) -> [Result<(usize, usize), Unreadable>; 3] {
    let mut found = [Err(Unreadable); 3];
    let start = buffer.len();
    let lens = pieces.iter().map(|piece| piece.first_len());
    buffer.resize(start + lens.clone().sum::<usize>(), 0);
    let mut remote = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 3];
    for ((remote, piece), len) in remote.iter_mut().zip(pieces).zip(lens) {
        *remote = libc::iovec { iov_base: piece.address() as *mut _, iov_len: len };
    }
    let count = pieces.len().min(3);
    let whole = process_vm_read(tid, &remote[..count], &mut buffer[start..])
        .is_ok_and(|read| read == buffer.len() - start);
    if !whole {
        // One of them is not readable: find out which.
        buffer.truncate(start);
        for (found, piece) in found.iter_mut().zip(pieces) {
            *found = read_piece(tid, *piece, buffer);
        }
        return found;
    }
    let mut at = start;
    for (found, piece) in found.iter_mut().zip(pieces) {
        let end = at + piece.first_len();
        *found = Ok((at, end));
        if let Piece::Text { max, .. } = *piece {
            match buffer[at..end].iter().position(|&byte| byte == 0) {
                Some(len) => *found = Ok((at, at + len)),
                None if end - at == max => {}
                // Longer: once more, at the end of the buffer.
                None => *found = read_piece(tid, *piece, buffer),
            }
        }
        at = end;
    }
    found
}

fn read_piece(tid: Tid, piece: Piece, buffer: &mut Vec<u8>) -> Result<(usize, usize), Unreadable> {
    let start = buffer.len();
    match piece {
        Piece::Text { address, max } => read_text(tid, address, max, buffer)?,
        Piece::Block { address, len } => read_block(tid, address, len, buffer)?,
    }
    Ok((start, buffer.len()))
}

/// Appends the text at `address` without its NUL; at most `max` bytes.
pub(super) fn read_text(
    tid: Tid,
    address: u64,
    max: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), Unreadable> {
    let start = buffer.len();
    let mut address = address;
    loop {
        let left = max - (buffer.len() - start);
        let len = ((PAGE - address % PAGE) as usize).min(left);
        let at = buffer.len();
        read_block(tid, address, len, buffer)?;
        if let Some(end) = buffer[at..].iter().position(|&byte| byte == 0) {
            buffer.truncate(at + end);
            return Ok(());
        }
        if len == left {
            return Ok(());
        }
        address = address.checked_add(len as u64).ok_or(Unreadable)?;
    }
}

/// Appends `len` bytes at `address`; all of them or none.
pub(super) fn read_block(
    tid: Tid,
    address: u64,
    len: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), Unreadable> {
    let start = buffer.len();
    buffer.resize(start + len, 0);
    let remote = [libc::iovec { iov_base: address as *mut _, iov_len: len }];
    let read = match process_vm_read(tid, &remote, &mut buffer[start..]) {
        Ok(read) if read == len => return Ok(()),
        // Refused (a process that is not dumpable, or a sandbox's own filter): the tracer may still use this file.
        Err(error) if error.raw_os_error() != Some(libc::EFAULT) => {
            File::open(format!("/proc/{tid}/mem"))
                .and_then(|memory| memory.read_exact_at(&mut buffer[start..], address))
                .map(|()| len)
                .unwrap_or(0)
        }
        _ => 0,
    };
    if read == len {
        return Ok(());
    }
    buffer.truncate(start);
    Err(Unreadable)
}

/// Words of an array.
pub(super) fn read_words(
    tid: Tid,
    word: Word,
    address: u64,
    count: usize,
) -> Result<Vec<u64>, Unreadable> {
    let mut bytes = Vec::new();
    read_block(tid, address, count * word.size() as usize, &mut bytes)?;
    Ok(words(word, &bytes).collect())
}

/// The words of a block.
pub(super) fn words(word: Word, bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(word.size() as usize).map(|bytes| match bytes {
        &[a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        bytes => u64::from_ne_bytes(bytes.try_into().expect("8 bytes")),
    })
}

fn process_vm_read(tid: Tid, remote: &[libc::iovec], local: &mut [u8]) -> io::Result<usize> {
    let into = libc::iovec { iov_base: local.as_mut_ptr().cast(), iov_len: local.len() };
    // SAFETY: `into` covers exactly the slice that is borrowed mutably for this call; `remote` are addresses in
    // another process, which the kernel checks there.
    let read = unsafe {
        libc::process_vm_readv(tid, &into, 1, remote.as_ptr(), remote.len() as libc::c_ulong, 0)
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}
