//! Reading a stopped tracee's memory: several pieces with one call, and /proc/PID/mem where that is refused.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::calls::memory::{Found, Memory, Piece, Unreadable};
use crate::observation::Tid;

/// The memory of a thread that stands still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracee(pub(crate) Tid);

/// Linux's smallest page: memory is readable or not in units of at least this.
const PAGE: u64 = 4096;
/// Most names are shorter.
const FIRST_CHUNK: u64 = 256;

/// What to read at once: a text not over the page's end, which may be the end of what is readable.
fn first_len(piece: Piece) -> usize {
    match piece {
        Piece::Text { address, max } => (FIRST_CHUNK.min(PAGE - address % PAGE) as usize).min(max),
        Piece::Block { len, .. } => len,
    }
}

impl Memory for Tracee {
    /// With one call where they are short and readable.
    fn read_pieces(&self, pieces: &[Piece], buffer: &mut Vec<u8>) -> Found {
        let mut found = [Err(Unreadable); 3];
        let start = buffer.len();
        let lens = pieces.iter().map(|piece| first_len(*piece));
        buffer.resize(start + lens.clone().sum::<usize>(), 0);
        let mut remote = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 3];
        for ((remote, piece), len) in remote.iter_mut().zip(pieces).zip(lens) {
            *remote = libc::iovec { iov_base: piece.address() as *mut _, iov_len: len };
        }
        let count = pieces.len().min(3);
        let whole = process_vm_read(self.0, &remote[..count], &mut buffer[start..])
            .is_ok_and(|read| read == buffer.len() - start);
        if !whole {
            // One of them is not readable: find out which.
            buffer.truncate(start);
            for (found, piece) in found.iter_mut().zip(pieces) {
                *found = self.read_piece(*piece, buffer);
            }
            return found;
        }
        let mut at = start;
        for (found, piece) in found.iter_mut().zip(pieces) {
            let end = at + first_len(*piece);
            *found = Ok((at, end));
            if let Piece::Text { max, .. } = *piece {
                match buffer[at..end].iter().position(|&byte| byte == 0) {
                    Some(len) => *found = Ok((at, at + len)),
                    None if end - at == max => {}
                    // Longer: once more, at the end of the buffer.
                    None => *found = self.read_piece(*piece, buffer),
                }
            }
            at = end;
        }
        found
    }

    fn read_text(&self, address: u64, max: usize, buffer: &mut Vec<u8>) -> Result<(), Unreadable> {
        let start = buffer.len();
        let mut address = address;
        loop {
            let left = max - (buffer.len() - start);
            let len = ((PAGE - address % PAGE) as usize).min(left);
            let at = buffer.len();
            self.read_block(address, len, buffer)?;
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

    fn read_block(&self, address: u64, len: usize, buffer: &mut Vec<u8>) -> Result<(), Unreadable> {
        let start = buffer.len();
        buffer.resize(start + len, 0);
        let remote = [libc::iovec { iov_base: address as *mut _, iov_len: len }];
        let read = match process_vm_read(self.0, &remote, &mut buffer[start..]) {
            Ok(read) if read == len => return Ok(()),
            // Refused (a process that is not dumpable, or a sandbox's own filter): the tracer may still use this file.
            Err(error) if error.raw_os_error() != Some(libc::EFAULT) => {
                File::open(format!("/proc/{}/mem", self.0))
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
