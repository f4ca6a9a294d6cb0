//! Covered calls from their entry to their exit.

use std::os::fd::RawFd;

use super::memory::Tracee;
use super::threads::Undo;
use super::tracee::{Stopped, SyscallInfo, Vanished};
use super::{Tracer, filter, output, registers};
use crate::calls::abi::Abi;
use crate::calls::decode::Entry;
use crate::calls::memory::{Memory, Unreadable, Word};
use crate::calls::shape::{Buffers, Shape};
use crate::calls::table::Row;
use crate::model::{Interest, Kernel};
use crate::observation::{At, Call, Direction, Loss, Tid};
use crate::proc;
use crate::source::Report;

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// The filter stopped a covered call.
    pub(super) fn entry(&mut self, stopped: Stopped) -> Result<(), Vanished> {
        let tid = stopped.tid();
        let SyscallInfo::Seccomp { arch, number, args, data } = stopped.syscall_info()? else {
            return stopped.resume(0);
        };
        let Some(abi) = Abi::of(arch, number) else {
            self.lost(tid, Loss::ForeignArch);
            return stopped.resume(0);
        };
        let Some(index) = filter::row_number(data) else {
            // Without a tracer the kernel answers ENOSYS to what a filter gives to one.
            registers::skip_call(&stopped)?;
            return stopped.resume(0);
        };
        let called =
            abi.row(index, number).and_then(|row| row.called(&Tracee(tid), args, self.reserved_fd));
        match called {
            Some((row, args)) => self.begin(stopped, abi, row, args),
            None => stopped.resume(0),
        }
    }

    /// A call begins or ends that no filter has looked at: what is not covered goes on at once.
    pub(super) fn unfiltered(&mut self, stopped: Stopped) -> Result<(), Vanished> {
        if !self.every_call {
            return self.exit(stopped);
        }
        let SyscallInfo::Entry { arch, number, args } = stopped.syscall_info()? else {
            return if self.detaching {
                self.exit_before_detaching(stopped)
            } else {
                self.exit(stopped)
            };
        };
        if self.silent {
            return self.go_on(stopped);
        }
        let tid = stopped.tid();
        let Some(abi) = Abi::of(arch, number) else {
            self.lost(tid, Loss::ForeignArch);
            return self.go_on(stopped);
        };
        match abi
            .covered(number, &args)
            .and_then(|row| row.called(&Tracee(tid), args, self.reserved_fd))
        {
            Some((row, args)) => self.begin(stopped, abi, row, args),
            None => self.go_on(stopped),
        }
    }

    /// Resumes a thread the exit of whose call is not waited for.
    fn go_on(&mut self, stopped: Stopped) -> Result<(), Vanished> {
        if self.every_call { self.resume(stopped, 0) } else { stopped.resume(0) }
    }

    /// A covered call begins.
    fn begin(
        &mut self,
        stopped: Stopped,
        abi: Abi,
        row: &'static Row,
        args: [u64; 6],
    ) -> Result<(), Vanished> {
        let tid = stopped.tid();
        let mut looks = false;
        match row.shape {
            Shape::Affinity if self.silent || self.every_call => return self.go_on(stopped),
            Shape::Affinity => {
                self.looks_at_sets(tid);
                return stopped.resume_to_exit(0);
            }
            Shape::Exec { .. } => self.desk.give_back(tid),
            Shape::Close => self.closes(&stopped, args[0] as RawFd),
            Shape::Prctl if is_hiding(&args) => self.hides(&stopped),
            Shape::Read { .. } | Shape::Move { .. } if self.desk.is_out() => {
                looks = self.reads_status(tid, row.shape, &args);
                if looks {
                    self.looks_at_sets(tid);
                }
            }
            _ => {}
        }
        match row.shape {
            Shape::Read { .. } | Shape::Write { .. } | Shape::Receive { .. }
                if !self.silent && self.lets_go(tid, row, &args) =>
            {
                return if looks { stopped.resume_to_exit(0) } else { self.go_on(stopped) };
            }
            Shape::Clone | Shape::Clone3 => return self.cloning(stopped, abi, row, args),
            _ if self.silent || row.shape.is_pointless(&args) => return self.go_on(stopped),
            _ => {}
        }
        let mut entry = self.spare.pop().unwrap_or_default();
        entry.read(row, args, &Tracee(tid));
        entry.look_for(|at| self.kernel.exists(tid, at));
        self.kernel.serves_files |= entry.opens_fuse();
        if row.shape.needs_result() {
            let destination = self.destination(tid, &entry);
            let before = self.before(tid, &entry);
            if let Some(thread) = self.threads.get_mut(tid) {
                thread.entry = Some(entry);
                thread.before = before;
            }
            return match destination {
                Some(to) => self.divert(stopped, to),
                None => stopped.resume_to_exit(0),
            };
        }
        if let Some(call) = entry.call(Ok(0)) {
            self.observe(tid, call, Ok(0));
        }
        self.spare.push(entry);
        self.go_on(stopped)
    }

    /// A thread goes into a call that shows or changes sets of CPUs, and stops behind it.
    fn looks_at_sets(&mut self, tid: Tid) {
        if let Some(thread) = self.threads.get_mut(tid) {
            self.desk.asked(tid, &mut thread.pace);
        }
    }

    /// proc(5) shows a thread's CPUs in `status`; it is made when it is read, whenever it was opened.
    fn reads_status(&self, tid: Tid, shape: Shape, args: &[u64; 6]) -> bool {
        let from = match shape {
            Shape::Move { from, .. } => args[usize::from(from)],
            _ => args[0],
        };
        self.model.file(tid, from as i32).is_some_and(|path| path.ends_with(b"/status"))
    }

    /// A thread goes into a transfer: whether its exit matters to nobody.
    fn lets_go(&mut self, tid: Tid, row: &Row, args: &[u64; 6]) -> bool {
        let fd = args[0] as RawFd;
        let direction = match row.shape {
            Shape::Write { .. } => Direction::Write,
            _ => Direction::Read,
        };
        match self.model.interest(tid, fd) {
            Interest::None => true,
            // What is written is there already, so that its exit need not be waited for.
            Interest::Begin => match row.shape {
                Shape::Write { buffers } => {
                    !self.begins((tid, direction), row.word, buffers, args, u64::MAX)
                }
                Shape::Read { .. } => false,
                _ => true,
            },
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
        let (entry, before, undo) = thread.map_or((None, None, None), |thread| {
            (thread.entry.take(), thread.before.take(), thread.undo.take())
        });
        if let Some(undo) = undo {
            undo.apply(&stopped)?;
        }
        if let Some(entry) = entry {
            if let SyscallInfo::Exit { result } = stopped.syscall_info()?
                && !self.silent
            {
                self.changed(tid, before, result.is_ok());
                self.finished(tid, &entry, result);
                self.change_told();
            }
            self.spare.push(entry);
        }
        self.go_on(stopped)
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
        self.streamed(tid, row, args, result);
        match (row.shape, result) {
            (Shape::Write { buffers }, Ok(count)) if count > 0 => {
                if let Some(stream) = self.model.output(tid, args[0] as i32) {
                    let pieces = output::Pieces::new(tid, row.word, buffers, args, count);
                    self.output(tid, stream, pieces);
                }
            }
            (Shape::SpliceMemory, Ok(count)) if count > 0 => {
                if let Some(stream) = self.model.output(tid, args[0] as i32) {
                    let buffers = Buffers::Vector(1, 2);
                    let pieces = output::Pieces::new(tid, row.word, buffers, args, count);
                    self.output(tid, stream, pieces);
                }
            }
            (Shape::Tee, Ok(count)) if count > 0 => {
                if let Some(stream) = self.model.output(tid, args[1] as i32) {
                    self.moved_output(tid, stream, None, count);
                }
            }
            (Shape::OpenHandle { flags }, _) => {
                let opened = result.ok().and_then(|fd| self.kernel.descriptor(tid, fd as RawFd));
                let at = At::Known(opened.as_deref().unwrap_or_default());
                let flags = args[usize::from(flags)] as u32;
                let call = Call::Open { at, flags, mode: 0, created: false };
                return self.observe(tid, call, result);
            }
            (Shape::Read { buffers }, Ok(count))
                if count > 0 && self.model.terminal(tid, args[0] as i32) =>
            {
                let pieces = output::Pieces::new(tid, row.word, buffers, args, count);
                self.input(tid, args[0] as i32, pieces, count);
            }
            (Shape::Move { from, offset, to }, Ok(count)) if count > 0 => {
                let arg = |arg: u8| args[usize::from(arg)];
                if self.model.terminal(tid, arg(from) as i32) {
                    self.lost(tid, Loss::MovedInput);
                }
                if let Some(stream) = self.model.output(tid, arg(to) as i32) {
                    let source =
                        self.moved_from(tid, row.word, (arg(from) as i32, arg(offset)), count);
                    self.moved_output(tid, stream, source, count);
                }
            }
            (Shape::Messages { .. }, Ok(count)) => {
                match output::message_bytes(tid, row.word, args[1], count) {
                    Ok(bytes) => result = Ok(bytes),
                    Err(Unreadable) => return self.lost(tid, Loss::Memory),
                }
            }
            _ => {}
        }
        if let Some(call) = entry.call(result) {
            self.opened(tid, call, result);
            let shared = (self.threads.get(tid))
                .is_some_and(|thread| self.threads.memory_is_shared(thread.process));
            if shared {
                self.observe_checked(tid, entry, call, result);
            } else {
                self.observe(tid, call, result);
            }
        }
        if matches!(row.shape, Shape::Connect) {
            self.connected(tid, args[0] as RawFd, result);
        }
        if matches!(row.shape, Shape::Prctl) && is_hiding(args) && proc::environment(tid).is_err() {
            self.lost(tid, Loss::Hidden);
        }
    }

    /// What a thread called whose memory others write to: the kernel may have read another name than we did. What was
    /// opened the descriptor tells. Elsewhere the name is read again; one that was changed and changed back is not seen.
    fn observe_checked(
        &mut self,
        tid: Tid,
        entry: &Entry,
        call: Call<'_>,
        result: Result<u64, i32>,
    ) {
        let (Call::Open { at: at @ At::Path { .. }, flags, .. }, Ok(fd)) = (call, result) else {
            self.observe(tid, call, result);
            if entry.changed(&Tracee(tid), &mut self.scratch) {
                self.lost(tid, Loss::NameChanged);
            }
            return;
        };
        match self.replaced(tid, entry, at, fd as i32, flags) {
            None => self.observe(tid, call, result),
            Some(opened) => {
                let Call::Open { flags, mode, created, .. } = call else { return };
                let at = At::Known(&opened);
                self.observe(tid, Call::Open { at, flags, mode, created }, result);
                self.lost(tid, Loss::NameReplaced);
            }
        }
    }

    /// The path of what was opened as `fd`, where `at` doesn't lead there.
    fn replaced(
        &mut self,
        tid: Tid,
        entry: &Entry,
        at: At<'_>,
        fd: i32,
        flags: u32,
    ) -> Option<Vec<u8>> {
        let opened = self.kernel.descriptor(tid, fd)?;
        let named = self.model.path_of(tid, at, &mut self.kernel)?;
        // Deleted since: proc_pid_fd(5). An unnamed file is in the directory that was named.
        let is_named = |opened: &[u8]| match flags & TMPFILE {
            TMPFILE => opened.starts_with(&named),
            _ => opened == named || opened.strip_suffix(b" (deleted)") == Some(&named),
        };
        if is_named(&opened) {
            return None;
        }
        // A link on the way, or indeed another file. What is in these directories depends on who asks.
        let given = if let At::Path { path, .. } = at { path } else { b"" };
        let depends = [&b"/proc/"[..], b"/dev/"]
            .iter()
            .any(|dir| named.starts_with(dir) || given.starts_with(dir));
        let is_the_same = if depends {
            !entry.changed(&Tracee(tid), &mut self.scratch)
        } else {
            self.kernel.is_open_as(tid, fd, at, flags & libc::O_NOFOLLOW as u32 == 0)
                || (self.kernel.serves_files && !entry.changed(&Tracee(tid), &mut self.scratch))
        };
        (!is_the_same).then_some(opened)
    }

    /// What a write to one of the command's outputs wrote.
    fn output(&mut self, tid: Tid, stream: i32, mut pieces: output::Pieces) {
        let mut data = std::mem::take(&mut self.scratch);
        loop {
            data.clear();
            match pieces.next(&mut data) {
                Ok(true) => self.observe(tid, Call::Output { stream, data: &data }, Ok(0)),
                Ok(false) => break,
                Err(Unreadable) => {
                    self.lost(tid, Loss::Memory);
                    break;
                }
            }
        }
        self.scratch = data;
    }

    /// What a process read from the session's terminal. Where the terminal may not have shown it, it is not looked at.
    fn input(&mut self, tid: Tid, fd: RawFd, mut pieces: output::Pieces, count: u64) {
        if self.kernel.terminal_state(tid, fd).is_none_or(|state| state.hides) {
            return self.observe(tid, Call::Input { data: &[], hidden: count }, Ok(0));
        }
        let mut data = std::mem::take(&mut self.scratch);
        data.clear();
        // A terminal hands out at most a page at a time.
        match pieces.next(&mut data) {
            Ok(_) => self.observe(tid, Call::Input { data: &data, hidden: 0 }, Ok(0)),
            Err(Unreadable) => self.lost(tid, Loss::Memory),
        }
        self.scratch = data;
    }

    /// What the kernel moved to one of the command's outputs: read again from where it came.
    fn moved_output(&mut self, tid: Tid, stream: i32, source: Option<output::Moved>, count: u64) {
        let tell = |this: &mut Self, data: &[u8]| {
            this.observe(tid, Call::Output { stream, data }, Ok(0));
        };
        if self.read_again(source, tell) < count {
            self.lost(tid, Loss::MovedOutput);
        }
    }

    /// From where the kernel moved bytes. None where they can't be read again: a tracee that serves the file's file system may be
    /// waiting for us.
    pub(super) fn moved_from(
        &self,
        tid: Tid,
        word: Word,
        (from, offset): (i32, u64),
        count: u64,
    ) -> Option<output::Moved> {
        (!self.kernel.serves_files).then(|| output::Moved::new(tid, word, from, offset, count))?
    }

    /// Tells what can be read of it, in pieces; returns how many bytes that were.
    pub(super) fn read_again(
        &mut self,
        source: Option<output::Moved>,
        tell: impl Fn(&mut Self, &[u8]),
    ) -> u64 {
        let mut data = std::mem::take(&mut self.scratch);
        let mut bytes = 0;
        if let Some(mut source) = source {
            data.clear();
            while let Ok(true) = source.next(&mut data) {
                tell(self, &data);
                bytes += data.len() as u64;
                data.clear();
            }
        }
        self.scratch = data;
        bytes
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
                let Ok(flags) = Tracee(tid).read_words(Word::Eight, args[0], 1) else {
                    return self.go_on(stopped);
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
        let Some(thread) = self.threads.get_mut(tid) else { return self.go_on(stopped) };
        thread.clone3_flags = flags;
        thread.undo = undo;
        self.resume(stopped, 0)
    }
}

/// Whether prctl(2) closes the process's memory to tracers without privileges.
fn is_hiding(args: &[u64; 6]) -> bool {
    args[0] as i32 == libc::PR_SET_DUMPABLE && args[1] == 0
}

/// O_TMPFILE is O_DIRECTORY and a bit of its own.
const TMPFILE: u32 = libc::O_TMPFILE as u32;
