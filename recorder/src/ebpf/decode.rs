//! What records mean to the model.

use agentrec_recorder_ebpf::{
    BY_DESCRIPTOR, CONTROL, Call as CallRecord, Exec, Exit, Fork, INPUT, MODE_CREATED, Part,
    UNREADABLE,
};

use super::Watcher;
use super::records::Captured;
use crate::calls::abi::Abi;
use crate::calls::control::descriptors;
use crate::calls::shape::{Buffers, Shape};
use crate::observation::{ArgList, At, Call, Direction, Flow, Loss, Tid, Usage};
use crate::proc;
use crate::source::{ExitStatus, Report};

/// Errors are the negative numbers down to this (include/linux/err.h, MAX_ERRNO).
const MAX_ERRNO: i64 = 4095;

impl<I: From<Report> + Send + 'static> Watcher<I> {
    /// A system call is over.
    pub(super) fn called(&mut self, call: &CallRecord, pieces: &Captured<'_>) {
        let (tid, ts, args) = (call.head.tid as Tid, call.head.ts, &call.args);
        let Some(row) = Abi::Native.covered(u64::from(call.head.number), args) else { return };
        let result = match call.result {
            errno if (-MAX_ERRNO..0).contains(&errno) => Err(-errno as i32),
            value => Ok(value as u64),
        };
        let mut entry = std::mem::take(&mut self.entry);
        entry.read(row, *args, pieces);
        entry.set_created(call.mode & MODE_CREATED != 0);
        self.kernel.proc.serves_files |= entry.opens_fuse();
        let fd = args[0] as i32;
        use Shape::{Creat, Open, OpenHandle, OpenHow};
        if let (Open { .. } | OpenHow { .. } | Creat { .. } | OpenHandle { .. }, Ok(fd)) =
            (row.shape, result)
        {
            self.made(tid, ts, fd as i32);
        }
        match row.shape {
            _ if row.shape.is_pointless(args) => {}
            Shape::CloseRange => {
                if result.is_ok() {
                    self.settle(tid, call.head.pid, call.head.epoch, ts);
                }
                if let Some(call) = entry.call(Ok(0)) {
                    self.observe(tid, ts, call, Ok(0));
                }
            }
            Shape::Exec { at, .. } => {
                let [arguments, _] = self.parts.remove(&tid).unwrap_or_default();
                if let (Ok(at), Err(_)) = (entry.at(at, 0), result) {
                    let argv = argument_list(arguments, 0);
                    self.observe(tid, ts, Call::ExecFailed { at, argv: &argv }, result);
                }
            }
            Shape::OpenHandle { flags } => {
                let path = result.ok().and_then(|fd| {
                    crate::model::Kernel::descriptor(&mut self.kernel, tid, fd as i32)
                });
                let at = At::Known(path.as_deref().unwrap_or_default());
                let flags = args[usize::from(flags)] as u32;
                let created = false;
                self.observe(tid, ts, Call::Open { at, flags, mode: 0, created }, result);
            }
            Shape::Accept { flags } if result.is_ok() => {
                let flags = flags.map_or(0, |flags| args[usize::from(flags)] as i32);
                let cloexec = flags & libc::SOCK_CLOEXEC != 0;
                let address = pieces.bytes(0).unwrap_or_default();
                self.observe(tid, ts, Call::Accept { fd, address, cloexec }, result);
            }
            Shape::SocketPair if result.is_ok() => {
                if let Ok(&[a, b, c, d, e, f, g, h]) = pieces.bytes(0) {
                    let fds = [[a, b, c, d], [e, f, g, h]].map(i32::from_ne_bytes);
                    let (family, kind) = (args[0] as i32, args[1] as i32);
                    self.observe(tid, ts, Call::SocketPair { fds, family, kind }, result);
                }
            }
            Shape::Write { buffers } => self.sent(tid, ts, fd, buffers, pieces, result),
            Shape::Receive { flags, .. } => {
                let fds = pieces.bytes(0).map(|control| descriptors(control, 8));
                let flags = args[usize::from(flags)] as i32;
                if let (Ok(fds), Ok(_)) = (fds, result)
                    && !fds.is_empty()
                {
                    let cloexec = flags & libc::MSG_CMSG_CLOEXEC != 0;
                    let peeked = flags & libc::MSG_PEEK != 0;
                    self.observe(tid, ts, Call::Receive { fds: &fds, cloexec, peeked }, result);
                }
            }
            Shape::Messages { write } => {
                self.beside(tid, ts, args, write, result);
                // The length that each of them had stands behind its header, at 56.
                let messages = pieces.bytes(0).unwrap_or_default().chunks_exact(64);
                let len = |message: &[u8]| {
                    u32::from_ne_bytes(message[56..60].try_into().unwrap_or_default())
                };
                let bytes = messages.map(|message| u64::from(len(message))).sum();
                // Their bytes are not copied: nobody sends messages in arrays over a connection.
                if result.is_ok() && bytes > 0 && self.model.stream(tid, fd) {
                    let direction = if write { Direction::Write } else { Direction::Read };
                    let flow = Flow::Missing(bytes);
                    self.observe(tid, ts, Call::Flow { fd, direction, flow }, Ok(0));
                }
                if let (Some(call), Ok(_)) = (entry.call(Ok(bytes)), result) {
                    self.observe(tid, ts, call, Ok(bytes));
                }
            }
            Shape::Ioctl if args[1] as u32 as libc::Ioctl == libc::TIOCSWINSZ => {
                if let (Ok(&[a, b, c, d, ..]), Ok(_)) = (pieces.bytes(0), result) {
                    let [rows, cols] = [[a, b], [c, d]].map(u16::from_ne_bytes);
                    self.kernel.resized(tid, cols, rows);
                    self.observe(tid, ts, Call::Resize { fd: Some(fd) }, result);
                }
            }
            Shape::Tee => {
                let output = self.model.output(tid, args[1] as i32);
                if output.is_some() && result.is_ok_and(|bytes| bytes > 0) {
                    self.observe(tid, ts, Call::Lost { loss: Loss::MovedOutput }, Ok(0));
                }
                if let Some(call) = entry.call(result) {
                    self.observe(tid, ts, call, result);
                }
            }
            Shape::Move { from, to, .. } => {
                if result.is_ok_and(|bytes| bytes > 0)
                    && self.model.terminal(tid, args[usize::from(from)] as i32)
                {
                    self.observe(tid, ts, Call::Lost { loss: Loss::MovedInput }, Ok(0));
                }
                for (fd, direction) in [(from, Direction::Read), (to, Direction::Write)] {
                    let fd = args[usize::from(fd)] as i32;
                    if let (Ok(bytes @ 1..), true) = (result, self.model.stream(tid, fd)) {
                        let flow = Flow::Missing(bytes);
                        self.observe(tid, ts, Call::Flow { fd, direction, flow }, Ok(0));
                    }
                }
                let stream = self.model.output(tid, args[usize::from(to)] as i32);
                if stream.is_some() && result.is_ok_and(|bytes| bytes > 0) {
                    self.observe(tid, ts, Call::Lost { loss: Loss::MovedOutput }, Ok(0));
                }
                if let Some(call) = entry.call(result) {
                    self.observe(tid, ts, call, result);
                }
            }
            _ => {
                if let Some(call) = entry.call(result) {
                    self.observe(tid, ts, call, result);
                }
            }
        }
        self.entry = entry;
        if let Shape::Connect = row.shape {
            self.connected(tid, ts, fd);
        }
        // Names relative to it will be asked for when it may have moved.
        if let (Shape::Open { .. } | Shape::OpenHow { .. }, Ok(fd)) = (row.shape, result)
            && let Some(path) = self.kernel.told(tid, fd as u32)
        {
            self.model.set_directory(tid, fd as i32, path);
        }
    }

    /// What went beside the bytes of several messages.
    fn beside(
        &mut self,
        tid: Tid,
        ts: u64,
        args: &[u64; 6],
        write: bool,
        result: Result<u64, i32>,
    ) {
        let fd = args[0] as i32;
        for (_, what, data) in
            self.messages.extract_if(.., |told| told.0 == tid).collect::<Vec<_>>()
        {
            let wanted = self.model.messages(tid, fd);
            let fds = if what == CONTROL { descriptors(&data, 8) } else { Vec::new() };
            let call = match write {
                true if what != CONTROL && wanted.addressed => Call::SendTo { fd, address: &data },
                true if wanted.descriptors && !fds.is_empty() => Call::Pass { fds: &fds },
                false if wanted.descriptors && !fds.is_empty() => {
                    let has = |flag: i32| args[3] as i32 & flag != 0;
                    let (cloexec, peeked) = (has(libc::MSG_CMSG_CLOEXEC), has(libc::MSG_PEEK));
                    Call::Receive { fds: &fds, cloexec, peeked }
                }
                _ => continue,
            };
            self.observe(tid, ts, call, result);
        }
    }

    /// What went beside the bytes of a message.
    fn sent(
        &mut self,
        tid: Tid,
        ts: u64,
        fd: i32,
        buffers: Buffers,
        pieces: &Captured<'_>,
        result: Result<u64, i32>,
    ) {
        let wanted = self.model.messages(tid, fd);
        let address = pieces.bytes(0).unwrap_or_default();
        if wanted.addressed && !address.is_empty() {
            self.observe(tid, ts, Call::SendTo { fd, address }, result);
        }
        if let (Buffers::Message(_), Ok(control), Ok(_)) = (buffers, pieces.bytes(1), result) {
            let fds = descriptors(control, 8);
            if wanted.descriptors && !fds.is_empty() {
                self.observe(tid, ts, Call::Pass { fds: &fds }, result);
            }
        }
    }
}

/// Largest piece of output that is told at once, as with ptrace.
const MAX_PIECE: usize = 1 << 20;

/// What one call wrote to an output, or read from the terminal, as far as it has come.
#[derive(Debug)]
pub(super) struct Content {
    ts: u64,
    source: ContentSource,
    data: Vec<u8>,
    /// How much of it is to come.
    left: u64,
}

#[derive(Clone, Copy, Debug)]
enum ContentSource {
    Output(i32),
    Input { hides: bool },
}

impl ContentSource {
    fn new(part: &Part) -> Self {
        if part.head.flags & INPUT == 0 {
            return Self::Output(part.what as i32);
        }
        // As `proc::terminal` has it: a program that reads lines and wants none shown reads a password.
        Self::Input { hides: part.what & libc::ICANON != 0 && part.what & libc::ECHO == 0 }
    }

    fn call(self, data: &[u8]) -> Call<'_> {
        match self {
            Self::Output(stream) => Call::Output { stream, data },
            Self::Input { hides: true } => Call::Input { data: &[], hidden: data.len() as u64 },
            Self::Input { hides: false } => Call::Input { data, hidden: 0 },
        }
    }
}

impl<I: From<Report> + Send + 'static> Watcher<I> {
    /// Output, or what was typed: told at once, however many buffers the call had.
    pub(super) fn data(&mut self, part: &Part, data: &[u8]) {
        let (tid, ts) = (part.head.tid as Tid, part.head.ts);
        if self.contents.get(&tid).is_some_and(|content| content.ts != ts) {
            self.tell_content(tid);
        }
        let source = ContentSource::new(part);
        let new = || Content { ts, source, data: Vec::new(), left: part.total };
        let content = self.contents.entry(tid).or_insert_with(new);
        content.data.extend_from_slice(data);
        content.left = content.left.saturating_sub(data.len() as u64);
        if content.left == 0 || part.len == UNREADABLE {
            self.tell_content(tid);
        } else if content.data.len() >= MAX_PIECE {
            let data = std::mem::take(&mut content.data);
            self.observe(tid, ts, source.call(&data), Ok(0));
        }
    }

    /// Tells what there is of what a thread moved: the rest of it does not come.
    pub(super) fn tell_content(&mut self, tid: Tid) {
        let Some(Content { ts, source, data, left }) = self.contents.remove(&tid) else { return };
        if !data.is_empty() {
            self.observe(tid, ts, source.call(&data), Ok(0));
        }
        if left > 0 {
            self.observe(tid, ts, Call::Lost { loss: Loss::Memory }, Ok(0));
        }
    }
}

/// The arguments of an exec, `total` bytes of them where that is known to be more.
pub(super) fn argument_list(mut bytes: Vec<u8>, total: u64) -> ArgList {
    let total = total.max(bytes.len() as u64);
    // As many as with ptrace.
    bytes.truncate(proc::MAX_ARGS);
    let cut = (total > bytes.len() as u64).then_some(total);
    ArgList { bytes, cut }
}

/// What was executed: the kernel makes a name of a descriptor.
pub(super) fn executed_at<'a>(exec: &Exec, name: &'a [u8]) -> At<'a> {
    let descriptor = name.strip_prefix(b"/dev/fd/").and_then(|fd| str::from_utf8(fd).ok());
    match descriptor.and_then(|fd| fd.parse().ok()) {
        Some(fd) if exec.head.flags & BY_DESCRIPTOR != 0 => At::Descriptor(fd),
        _ => At::Path { dir: None, path: name },
    }
}

/// The flags of the call that made a child, as [`Call::Fork`] has them.
pub(super) fn clone_flags(fork: &Fork) -> u64 {
    let flags = match i64::from(fork.head.number) {
        libc::SYS_clone | libc::SYS_clone3 => fork.flags,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_vfork => (libc::CLONE_VFORK | libc::CLONE_VM) as u64,
        _ => 0,
    };
    // Whatever the registers held, this is known.
    match fork.process == fork.head.pid {
        true => flags | libc::CLONE_THREAD as u64,
        false => flags & !(libc::CLONE_THREAD as u64),
    }
}

/// A status of wait(2).
pub(super) fn status(status: i32) -> ExitStatus {
    match status & 0x7f {
        0 => ExitStatus::Code(status >> 8 & 0xff),
        signal => ExitStatus::Signal { signal, core: status & 0x80 != 0 },
    }
}

/// The exact run time, shared out as its ticks are (kernel/sched/cputime.c, cputime_adjust).
pub(super) fn usage(exit: &Exit) -> Usage {
    let ticks = exit.utime.saturating_add(exit.stime);
    let utime = match ticks {
        0 => exit.run,
        _ => (u128::from(exit.run) * u128::from(exit.utime) / u128::from(ticks)) as u64,
    };
    Usage { utime, stime: exit.run - utime.min(exit.run), max_rss: exit.pages * page_size() }
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as u64
}
