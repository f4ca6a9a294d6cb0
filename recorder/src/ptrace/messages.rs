//! What goes beside the bytes of socket calls: addresses, and descriptors in control messages (cmsg(3), unix(7)).
//!
//! Looked at when the call is over, and only for sockets for which the model has a use for it.

use std::os::fd::RawFd;

use super::Tracer;
use super::memory::Tracee;
use crate::calls::control::descriptors;
use crate::calls::decode::{Entry, RESTARTS};
use crate::calls::memory::{Memory, Unreadable, Word};
use crate::calls::shape::{Arg, Buffers, Shape, address_len};
use crate::calls::table::Row;
use crate::observation::{Call, Loss, Tid};
use crate::source::Report;

/// `sizeof(struct msghdr)` and `sizeof(struct mmsghdr)` in words.
const MSGHDR_WORDS: usize = 7;
const MMSGHDR_WORDS: u64 = 8;
/// Most messages that one call takes (UIO_MAXIOV).
const MAX_MESSAGES: u64 = 1024;
/// Control data longer than this is cut: descriptors come first in what programs send, and the kernel passes at most
/// 253 of them with a message (SCM_MAX_FD).
const MAX_CONTROL: u64 = 16 * 1024;

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// A socket call ended that had to do with more than its bytes.
    pub(super) fn message(
        &mut self,
        tid: Tid,
        entry: &Entry,
        row: &Row,
        args: &[u64; 6],
        result: Result<u64, i32>,
    ) {
        if result.is_err_and(|errno| RESTARTS.contains(&errno)) {
            return;
        }
        let arg = |arg: Arg| args[usize::from(arg)];
        let fd = args[0] as RawFd;
        let word = row.word;
        let done = match row.shape {
            Shape::Write { buffers: Buffers::To { .. } } => entry.block().map(|address| {
                if !address.is_empty() && self.model.messages(tid, fd).addressed {
                    self.observe(tid, Call::SendTo { fd, address }, result);
                }
            }),
            Shape::Write { buffers: Buffers::Message(header) } => {
                self.sent(tid, word, fd, arg(header), result)
            }
            Shape::Messages { write: true } => {
                let count = result.unwrap_or(1).min(MAX_MESSAGES);
                (0..count).try_for_each(|index| {
                    self.sent(tid, word, fd, nth_message(word, args[1], index), result)
                })
            }
            Shape::Receive { flags, message: Some(header) } => {
                self.received(tid, word, fd, arg(header), arg(flags), result)
            }
            Shape::Messages { write: false } => {
                let count = result.unwrap_or(0).min(MAX_MESSAGES);
                (0..count).try_for_each(|index| {
                    self.received(tid, word, fd, nth_message(word, args[1], index), args[3], result)
                })
            }
            Shape::Accept { flags } => {
                let cloexec =
                    flags.is_some_and(|flags| arg(flags) as i32 & libc::SOCK_CLOEXEC != 0);
                self.accepted(tid, entry, args, cloexec, result)
            }
            Shape::SocketPair => self.paired(tid, args, result),
            _ => Ok(()),
        };
        // Of a call that failed, an address that can't be read is why.
        if done.is_err() && result.is_ok() {
            self.lost(tid, Loss::Memory);
        }
    }

    fn sent(
        &mut self,
        tid: Tid,
        word: Word,
        fd: RawFd,
        header: u64,
        result: Result<u64, i32>,
    ) -> Result<(), Unreadable> {
        let wanted = self.model.messages(tid, fd);
        if !wanted.addressed && !wanted.descriptors {
            return Ok(());
        }
        let header = Header::read(tid, word, header)?;
        let mut data = Vec::new();
        if wanted.addressed && header.name.0 != 0 && header.name.1 != 0 {
            Tracee(tid).read_block(header.name.0, header.name.1 as usize, &mut data)?;
            self.observe(tid, Call::SendTo { fd, address: &data }, result);
        }
        if wanted.descriptors && result.is_ok() {
            let fds = header.descriptors(tid, word)?;
            if !fds.is_empty() {
                self.observe(tid, Call::Pass { fds: &fds }, result);
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "the arguments of one call")]
    fn received(
        &mut self,
        tid: Tid,
        word: Word,
        fd: RawFd,
        header: u64,
        flags: u64,
        result: Result<u64, i32>,
    ) -> Result<(), Unreadable> {
        if result.is_err() || !self.model.messages(tid, fd).descriptors {
            return Ok(());
        }
        let fds = Header::read(tid, word, header)?.descriptors(tid, word)?;
        if !fds.is_empty() {
            let has = |flag: i32| flags as i32 & flag != 0;
            let (cloexec, peeked) = (has(libc::MSG_CMSG_CLOEXEC), has(libc::MSG_PEEK));
            self.observe(tid, Call::Receive { fds: &fds, cloexec, peeked }, result);
        }
        Ok(())
    }

    fn accepted(
        &mut self,
        tid: Tid,
        entry: &Entry,
        args: &[u64; 6],
        cloexec: bool,
        result: Result<u64, i32>,
    ) -> Result<(), Unreadable> {
        if result.is_err() {
            return Ok(());
        }
        let mut data = Vec::new();
        // What can't be read here the model asks the kernel for.
        if let Some(room) = entry.block().ok().and_then(|block| <[u8; 4]>::try_from(block).ok()) {
            let len = address_len(u32::from_ne_bytes(room).into());
            let _ = Tracee(tid).read_block(args[1], len as usize, &mut data);
        }
        let call = Call::Accept { fd: args[0] as RawFd, address: &data, cloexec };
        self.observe(tid, call, result);
        Ok(())
    }

    fn paired(
        &mut self,
        tid: Tid,
        args: &[u64; 6],
        result: Result<u64, i32>,
    ) -> Result<(), Unreadable> {
        if result.is_err() {
            return Ok(());
        }
        let mut data = Vec::new();
        Tracee(tid).read_block(args[3], 8, &mut data)?;
        let fd = |at: usize| RawFd::from_ne_bytes(data[at..at + 4].try_into().expect("4 bytes"));
        let fds = [fd(0), fd(4)];
        let call = Call::SocketPair { fds, family: args[0] as i32, kind: args[1] as i32 };
        self.observe(tid, call, result);
        Ok(())
    }
}

pub(super) fn nth_message(word: Word, array: u64, index: u64) -> u64 {
    array.wrapping_add(index * word.size() * MMSGHDR_WORDS)
}

/// What of a `struct msghdr` is of interest: address and length of each.
struct Header {
    name: (u64, u64),
    control: (u64, u64),
}

impl Header {
    fn read(tid: Tid, word: Word, address: u64) -> Result<Self, Unreadable> {
        let words = Tracee(tid).read_words(word, address, MSGHDR_WORDS)?;
        Ok(Self {
            name: (words[0], address_len(words[1])),
            control: (words[4], words[5].min(MAX_CONTROL)),
        })
    }

    /// The descriptors in its control messages.
    fn descriptors(&self, tid: Tid, word: Word) -> Result<Vec<RawFd>, Unreadable> {
        let (address, len) = self.control;
        if address == 0 || len == 0 {
            return Ok(Vec::new());
        }
        let mut control = Vec::new();
        Tracee(tid).read_block(address, len as usize, &mut control)?;
        Ok(descriptors(&control, word.size() as usize))
    }
}
