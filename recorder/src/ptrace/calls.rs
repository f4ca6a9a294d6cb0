//! Covered calls from their entry to their exit.

use std::os::fd::RawFd;

use super::abi::Abi;
use super::decode::Entry;
use super::memory::Word;
use super::syscalls::{Buffers, Row, Shape};
use super::threads::Undo;
use super::tracee::{Stopped, SyscallInfo, Vanished};
use super::{Tracer, memory, output};
use crate::model::Interest;
use crate::observation::{Call, Direction, Loss, Tid};
use crate::source::Report;

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// A covered call begins.
    pub(super) fn entry(&mut self, stopped: Stopped) -> Result<(), Vanished> {
        let tid = stopped.tid();
        let SyscallInfo::Seccomp { arch, number, args, data } = stopped.syscall_info()? else {
            return stopped.resume(0);
        };
        let Some(abi) = Abi::of(arch, number) else {
            self.lost(tid, Loss::ForeignArch);
            return stopped.resume(0);
        };
        let called = abi.row(data, number).and_then(|row| row.called(tid, args, self.reserved_fd));
        let Some((row, args)) = called else { return stopped.resume(0) };
        match row.shape {
            Shape::Affinity => {
                self.lending.give_back();
                return stopped.resume(0);
            }
            Shape::Exec { .. } => self.lending.give_back(),
            Shape::Read | Shape::Move { .. } if self.lending.is_out() => {
                self.lend_unseen(tid, row.shape, &args);
            }
            _ => {}
        }
        match row.shape {
            Shape::Read | Shape::Write { .. } | Shape::Receive { .. } if !self.silent => {
                let direction = match row.shape {
                    Shape::Write { .. } => Direction::Write,
                    _ => Direction::Read,
                };
                if self.lets_go(tid, args[0] as RawFd, direction) {
                    return stopped.resume(0);
                }
            }
            Shape::Clone | Shape::Clone3 => return self.cloning(stopped, abi, row, args),
            _ if self.silent || pointless(row.shape, &args) => return stopped.resume(0),
            _ => {}
        }
        let mut entry = self.spare.pop().unwrap_or_default();
        entry.read(tid, row, args, &self.kernel);
        self.kernel.serves_files |= entry.opens_fuse();
        if row.shape.needs_result() {
            if let Some(thread) = self.threads.get_mut(tid) {
                thread.entry = Some(entry);
            }
            return stopped.resume_to_exit(0);
        }
        if let Some(call) = entry.call(Ok(0)) {
            self.observe(tid, call, Ok(0));
        }
        self.spare.push(entry);
        stopped.resume(0)
    }

    /// proc(5) shows a thread's CPUs in `status`; it is made when it is read, whenever it was opened.
    fn lend_unseen(&mut self, tid: Tid, shape: Shape, args: &[u64; 6]) {
        let from = match shape {
            Shape::Move { from, .. } => args[usize::from(from)],
            _ => args[0],
        };
        if self.model.file(tid, from as i32).is_some_and(|path| path.ends_with(b"/status")) {
            self.lending.give_back();
        }
    }

    /// A thread goes into a transfer: whether its exit matters to nobody.
    fn lets_go(&mut self, tid: Tid, fd: RawFd, direction: Direction) -> bool {
        match self.model.interest(tid, fd) {
            Interest::None => true,
            Interest::Sum => {
                let moving = self.sums.begin(tid, fd, direction);
                if let Some(thread) = self.threads.get_mut(tid) {
                    thread.moving = moving;
                }
                moving.is_some()
            }
            Interest::Each => false,
        }
    }

    /// A thread stopped, or ended: what came of the transfer that was let go.
    pub(super) fn moved(&mut self, tid: Tid) {
        self.sums.stopped();
        let moving = self.threads.get_mut(tid).and_then(|thread| thread.moving.take());
        let Some(moving) = moving else { return };
        match self.sums.end(tid, moving) {
            Some(0) => {}
            Some(bytes) => {
                let call = Call::Transfer { fd: moving.fd, direction: moving.direction };
                self.observe(tid, call, Ok(bytes));
            }
            None => self.lost(tid, Loss::Sum),
        }
    }

    /// A covered call ends.
    pub(super) fn exit(&mut self, stopped: Stopped) -> Result<(), Vanished> {
        let tid = stopped.tid();
        let thread = self.threads.get_mut(tid);
        let (entry, undo) =
            thread.map_or((None, None), |thread| (thread.entry.take(), thread.undo.take()));
        if let Some(undo) = undo {
            undo.apply(&stopped)?;
        }
        if let Some(entry) = entry {
            if let SyscallInfo::Exit { result } = stopped.syscall_info()?
                && !self.silent
            {
                self.finished(tid, &entry, result);
            }
            self.spare.push(entry);
        }
        stopped.resume(0)
    }

    fn finished(&mut self, tid: Tid, entry: &Entry, result: Result<u64, i32>) {
        let Some((row, args)) = entry.row() else { return };
        let mut result = result;
        match (row.shape, result) {
            (Shape::Exec { at, argv }, Err(_)) => {
                let Ok(at) = entry.at(at, 0) else { return };
                let argv = output::arguments(tid, row.word, args[usize::from(argv)]);
                return self.observe(tid, Call::ExecFailed { at, argv: &argv }, result);
            }
            (Shape::Write { buffers: Buffers::To { .. } | Buffers::Message(_) }, _)
            | (Shape::Receive { message: Some(_), .. } | Shape::Messages { .. }, _)
            | (Shape::Accept { .. } | Shape::SocketPair, _) => {
                self.message(tid, entry, row, args, result);
            }
            _ => {}
        }
        match (row.shape, result) {
            (Shape::Write { buffers }, Ok(count)) if count > 0 => {
                if let Some(stream) = self.model.output(tid, args[0] as i32) {
                    let pieces = output::Pieces::new(tid, row.word, buffers, args, count);
                    self.output(tid, stream, pieces);
                }
            }
            (Shape::Move { from, offset, to }, Ok(count)) if count > 0 => {
                let arg = |arg: u8| args[usize::from(arg)];
                if let Some(stream) = self.model.output(tid, arg(to) as i32) {
                    // A tracee that serves the source's file system may be waiting for us.
                    let (from, offset) = (arg(from) as i32, arg(offset));
                    let source = match self.kernel.serves_files {
                        true => None,
                        false => output::Moved::new(tid, row.word, from, offset, count),
                    };
                    self.moved_output(tid, stream, source, count);
                }
            }
            (Shape::Messages { .. }, Ok(count)) => {
                match output::message_bytes(tid, row.word, args[1], count) {
                    Ok(bytes) => result = Ok(bytes),
                    Err(memory::Unreadable) => return self.lost(tid, Loss::Memory),
                }
            }
            _ => {}
        }
        if let Some(call) = entry.call(result) {
            self.observe(tid, call, result);
        }
    }

    /// What a write to one of the command's outputs wrote.
    fn output(&mut self, tid: Tid, stream: i32, mut pieces: output::Pieces) {
        let mut data = std::mem::take(&mut self.scratch);
        loop {
            data.clear();
            match pieces.next(&mut data) {
                Ok(true) => self.observe(tid, Call::Output { stream, data: &data }, Ok(0)),
                Ok(false) => break,
                Err(memory::Unreadable) => {
                    self.lost(tid, Loss::Memory);
                    break;
                }
            }
        }
        self.scratch = data;
    }

    /// What the kernel moved to one of the command's outputs: read again from where it came.
    fn moved_output(&mut self, tid: Tid, stream: i32, source: Option<output::Moved>, count: u64) {
        let mut data = std::mem::take(&mut self.scratch);
        let mut left = count;
        if let Some(mut source) = source {
            loop {
                data.clear();
                match source.next(&mut data) {
                    Ok(true) => self.observe(tid, Call::Output { stream, data: &data }, Ok(0)),
                    Ok(false) | Err(_) => break,
                }
                left -= data.len() as u64;
            }
        }
        if left > 0 {
            self.lost(tid, Loss::MovedOutput);
        }
        self.scratch = data;
    }

    /// clone(2) with CLONE_UNTRACED, or clone3(2), whose flags stand in memory: no child escapes.
    fn cloning(
        &mut self,
        stopped: Stopped,
        abi: Abi,
        row: &Row,
        args: [u64; 6],
    ) -> Result<(), Vanished> {
        let tid = stopped.tid();
        const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;
        let flags = match row.shape {
            Shape::Clone => args[0],
            _ => {
                let Ok(flags) = memory::read_words(tid, Word::Eight, args[0], 1) else {
                    return stopped.resume(0);
                };
                flags[0]
            }
        };
        let undo = if flags & UNTRACED == 0 {
            None
        } else if matches!(row.shape, Shape::Clone) {
            Some(Undo::first_argument(&stopped, abi, flags & !UNTRACED)?)
        } else {
            stopped.poke(args[0], flags & !UNTRACED)?;
            Some(Undo::Memory { address: args[0], value: flags })
        };
        let Some(thread) = self.threads.get_mut(tid) else { return stopped.resume(0) };
        thread.clone3_flags = flags;
        thread.undo = undo;
        self.resume(stopped, 0)
    }
}

/// Calls that the filter can't tell from covered ones, and that matter to nobody.
fn pointless(shape: Shape, args: &[u64; 6]) -> bool {
    match shape {
        Shape::Mmap => {
            args[2] as i32 & libc::PROT_WRITE == 0 || args[3] as i32 & libc::MAP_ANONYMOUS != 0
        }
        _ => false,
    }
}
