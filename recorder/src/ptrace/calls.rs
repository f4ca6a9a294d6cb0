//! Covered calls from their entry to their exit.

use super::decode::Entry;
use super::syscalls::{self, Row, Shape};
use super::threads::Undo;
use super::tracee::{Stopped, SyscallInfo, Vanished};
use super::{Tracer, filter, memory, output};
use crate::observation::{Call, Loss, Tid};
use crate::source::Report;

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// A covered call begins.
    pub(super) fn entry(&mut self, stopped: Stopped) -> Result<(), Vanished> {
        let tid = stopped.tid();
        let SyscallInfo::Seccomp { arch, number, args, data } = stopped.syscall_info()? else {
            return stopped.resume(0);
        };
        if arch != filter::NATIVE_ARCH || data == filter::FOREIGN {
            // Calls of no architecture end here too: x32 numbers and -1, which is nothing.
            if number as u32 != u32::MAX {
                self.lost(tid, Loss::ForeignArch);
            }
            return stopped.resume(0);
        }
        let Some(row) = syscalls::row(data, number) else { return stopped.resume(0) };
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
            Shape::Clone | Shape::Clone3 => return self.cloning(stopped, row, args),
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
                let argv = output::arguments(tid, args[usize::from(argv)]);
                return self.observe(tid, Call::ExecFailed { at, argv: &argv }, result);
            }
            (Shape::Write { buffers }, Ok(count)) if count > 0 => {
                if let Some(stream) = self.model.output(tid, args[0] as i32) {
                    self.output(tid, stream, buffers, args, count);
                }
            }
            (Shape::Move { from, offset, to }, Ok(count)) if count > 0 => {
                let arg = |arg: u8| args[usize::from(arg)];
                if let Some(stream) = self.model.output(tid, arg(to) as i32) {
                    self.moved_output(tid, stream, arg(from) as i32, arg(offset), count);
                }
            }
            (Shape::Messages { .. }, Ok(count)) => {
                match output::message_bytes(tid, args[1], count) {
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
    fn output(
        &mut self,
        tid: Tid,
        stream: i32,
        buffers: syscalls::Buffers,
        args: &[u64; 6],
        count: u64,
    ) {
        let mut data = std::mem::take(&mut self.scratch);
        let mut pieces = output::Pieces::new(tid, buffers, args, count);
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
    fn moved_output(&mut self, tid: Tid, stream: i32, from: i32, offset: u64, count: u64) {
        // A tracee that serves the source's file system may be waiting for us.
        let source = match self.kernel.serves_files {
            true => None,
            false => output::Moved::new(tid, from, offset, count),
        };
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
    fn cloning(&mut self, stopped: Stopped, row: &Row, args: [u64; 6]) -> Result<(), Vanished> {
        let tid = stopped.tid();
        const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;
        let flags = match row.shape {
            Shape::Clone => args[0],
            _ => {
                let Ok(flags) = memory::read_words(tid, args[0], 1) else {
                    return stopped.resume(0);
                };
                flags[0]
            }
        };
        let undo = if flags & UNTRACED == 0 {
            None
        } else if matches!(row.shape, Shape::Clone) {
            Some(Undo::first_argument(&stopped, flags & !UNTRACED)?)
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
