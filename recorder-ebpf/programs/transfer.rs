//! Bytes that go through descriptors: summed up in the kernel, and copied where they are output, or typed.

use core::ffi::c_void;

use agentrec_recorder_ebpf::{
    ANY, Descriptor, Head, INPUT, INTO_PIPE, NO_MORE, OUTPUT_CHUNKS, PIPE, Part, Process, Stream,
    Sum, TERMINAL, UNREADABLE, UNTOLD, UNTOLD_CLOSE, UNTOLD_OPEN, WAS_RESET, WRITTEN, Watched,
    kind, role,
};

use crate::calls::{NUMBER, VALUES, argument, arguments, at, followed, user};
use crate::kernel::{self, S_IFCHR, S_IFIFO, S_IFSOCK, offset};
use crate::maps::{PLANS_BY_NUMBER, SETTINGS, STREAMS, SUMS, WATCHED, lose};
use crate::record::{Of, Record, emit_chunks, emit_vector, now};
use crate::socket;

/// Urgent data, which is no part of the stream (recv(2)).
const MSG_OOB: u64 = 1;
/// The bytes stay where they are.
const MSG_PEEK: u64 = 2;
/// The bytes of a stream are thrown away (tcp(7)).
const MSG_TRUNC: u64 = 0x20;
const ECONNRESET: i64 = 104;

/// A transfer is over.
#[inline(always)]
pub fn over(ctx: *mut c_void) -> Option<()> {
    let (pid, tid, process) = followed()?;
    let result: i64 = at(ctx, VALUES);
    let number: u32 = at(ctx, NUMBER);
    let plan = PLANS_BY_NUMBER.get(number)?;
    let write = matches!(plan.role, role::WRITE | role::WRITE_VECTOR | role::WRITE_MESSAGE);
    let ends = (result == 0 && !write) || result == -ECONNRESET;
    if result <= 0 && !ends {
        return None;
    }
    let args = arguments();
    let asked = match plan.peek == u16::from(ANY) {
        true => 0,
        false => argument(&args, plan.peek as u8),
    };
    if asked & (MSG_PEEK | MSG_OOB) != 0 {
        return None;
    }
    let fd = args[0] as i32;
    // SAFETY: a static that nobody writes.
    if write && fd == unsafe { core::ptr::read_volatile(&raw const SETTINGS.reserved_fd) } {
        return None;
    }
    let file = kernel::file(kernel::current(), fd);
    let inode: u64 = kernel::read(file, offset!(file_inode));
    let epoch = process.epoch;
    // Most transfers are only summed up, and need no clock.
    let head = |kind, flags| Head { kind, flags, tid, pid, number, ts: now(), epoch };
    if ends {
        // Who asks for nothing gets that at any time.
        let asks = plan.role != role::READ || args[2] != 0;
        if !asks {
            return None;
        }
        let (socket, offset) = stream(file, inode, write, 0, 0)?;
        let flags = if result == 0 { NO_MORE } else { WAS_RESET };
        let of = Of { what: fd as u32, socket, offset };
        return tell_without_bytes(head(kind::STREAM, flags), of, 0, 0);
    }
    let bytes = result as u64;
    add(Descriptor { epoch, pid, fd }, write, bytes);
    let (kind, flags, of) = match watched(file, inode, write) {
        Some((flags, what)) => (kind::DATA, flags, Of::just(what)),
        None => {
            // A vector begins with the address of its first buffer. Messages go through sockets alone.
            let begin = match plan.role {
                role::READ_VECTOR | role::WRITE_VECTOR => 1,
                _ => 0,
            };
            let (socket, offset) = stream(file, inode, write, bytes, args[1] | begin << VECTOR)?;
            let flags = if write { WRITTEN } else { 0 };
            let of = Of { what: fd as u32, socket, offset };
            if asked & MSG_TRUNC != 0 {
                return tell_without_bytes(head(kind::STREAM, flags), of, UNREADABLE, bytes);
            }
            (kind::STREAM, flags, of)
        }
    };
    let head = head(kind, flags);
    let (at, count) = match plan.role {
        role::READ_VECTOR | role::WRITE_VECTOR => (args[1], args[2]),
        // recvmsg(2), struct msghdr: the vector and its length come behind the name and its length.
        role::READ_MESSAGE | role::WRITE_MESSAGE => {
            (user(args[1].wrapping_add(16)), user(args[1].wrapping_add(24)))
        }
        _ => {
            emit_chunks(&head, of, args[1], bytes, OUTPUT_CHUNKS as u32);
            return None;
        }
    };
    emit_vector(&head, of, at, count, bytes);
    Some(())
}

/// What is to be told of a transfer through an output or the terminal: flags of its record, and what it is.
#[inline(always)]
fn watched(file: u64, inode: u64, write: bool) -> Option<(u16, u32)> {
    // SAFETY: only read, at once.
    let watched = unsafe { WATCHED.get(file) }?;
    if watched.inode != inode {
        return None;
    }
    match write {
        true if watched.stream != 0 => Some((0, watched.stream)),
        false if watched.terminal != 0 => Some((INPUT, local_flags(file))),
        _ => None,
    }
}

/// In the address of what a transfer moved: it is that of a vector. No address of a process has this bit.
const VECTOR: u32 = 63;

/// The number of a connection, or of a pipe with messages, and how many bytes went over it that way before these. `begin` is where
/// they are.
#[inline(always)]
fn stream(file: u64, inode: u64, write: bool, bytes: u64, begin: u64) -> Option<(u64, u64)> {
    let mut number: u64 = kernel::read(inode, offset!(inode_number));
    match kernel::file_kind(inode) {
        S_IFSOCK if socket::is_stream(file) => {}
        S_IFIFO => number |= if write { PIPE | INTO_PIPE } else { PIPE },
        _ => return None,
    }
    let stream = match STREAMS.get_ptr_mut(number) {
        Some(stream) => stream,
        None => {
            if number & PIPE != 0 && !begins(begin, bytes) {
                return None;
            }
            let _ = STREAMS.insert(number, Stream { read: 0, written: 0, unwanted: 0 }, 0);
            STREAMS.get_ptr_mut(number)?
        }
    };
    // SAFETY: the map keeps it; two threads at once that go the same way are told in no certain order anyhow.
    unsafe {
        if (*stream).unwanted != 0 {
            return None;
        }
        let counter = if write { &raw mut (*stream).written } else { &raw mut (*stream).read };
        let offset = *counter;
        add_atomically(counter, bytes);
        Some((number, offset))
    }
}

/// Whether bytes may be the beginning of a JSON-RPC message: an object whose first field is one of its six. The recorder looks
/// closer; this keeps what other pipes carry from being copied.
#[inline(always)]
fn begins(begin: u64, bytes: u64) -> bool {
    if bytes == 0 {
        return false;
    }
    let address = begin & !(1 << VECTOR);
    let address = if begin >> VECTOR != 0 { user::<u64>(address) } else { address };
    let text = user::<u64>(address).to_le_bytes();
    if text[0] != b'{' || bytes < 3 {
        return text[0] == b'{';
    }
    // jsonrpc, method, result, id, error, params.
    text[1] == b'"' && matches!(text[2], b'j' | b'm' | b'r' | b'i' | b'e' | b'p')
}

/// Tells what became of a connection, or of bytes that nobody has.
#[inline(always)]
fn tell_without_bytes(head: Head, of: Of, len: u32, total: u64) -> Option<()> {
    let mut record = Record::new::<Part>()?;
    let Of { what, socket, offset } = of;
    *record.fixed() = Part { head, what, len, total, socket, offset };
    record.emit(false);
    Some(())
}

#[inline(always)]
fn add(key: Descriptor, write: bool, bytes: u64) {
    if let Some(sum) = SUMS.get_ptr_mut(key) {
        // SAFETY: the map keeps it; two threads at once are what atomics are for.
        unsafe {
            let field = if write { &raw mut (*sum).written } else { &raw mut (*sum).read };
            add_atomically(field, bytes);
        }
        return;
    }
    let sum = match write {
        true => Sum { read: 0, written: bytes },
        false => Sum { read: bytes, written: 0 },
    };
    if SUMS.insert(key, sum, 0).is_err() {
        lose(0);
    }
}

/// Marks a descriptor whose open or close is lost.
#[inline(always)]
pub fn untold(process: &mut Process, key: Descriptor, mark: u64) {
    process.flags |= UNTOLD;
    let _ = SUMS.insert(key, Sum { read: 0, written: mark }, 0);
}

/// What the descriptor names now was told.
#[inline(always)]
pub fn begin_anew(key: Descriptor) {
    // SAFETY: only read, at once.
    if let Some(sum) = unsafe { SUMS.get(key) }
        && sum.written & (UNTOLD_OPEN | UNTOLD_CLOSE) != 0
    {
        let _ = SUMS.remove(key);
    }
}

/// # Safety
/// `to` can be written to.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn add_atomically(to: *mut u64, value: u64) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: see above.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(to, value) };
}

/// What other targets check instead.
///
/// # Safety
/// `to` can be written to.
#[cfg(not(target_arch = "bpf"))]
unsafe fn add_atomically(to: *mut u64, value: u64) {
    use core::sync::atomic::{AtomicU64, Ordering};
    // SAFETY: see above.
    unsafe { AtomicU64::from_ptr(to) }.fetch_add(value, Ordering::Relaxed);
}

/// `c_lflag` of the terminal behind a file.
#[inline(always)]
fn local_flags(file: u64) -> u32 {
    let private: u64 = kernel::read(file, offset!(file_private));
    let tty: u64 = kernel::read(private, offset!(tty_private_tty));
    kernel::read(tty, offset!(tty_lflag))
}

/// The `tty_struct` behind a file; 0 where it is no terminal.
#[inline(always)]
fn tty(file: u64) -> u64 {
    let inode: u64 = kernel::read(file, offset!(file_inode));
    if kernel::file_kind(inode) != S_IFCHR {
        return 0;
    }
    // The device number's upper bits are its major: pseudo-terminals, terminals and consoles have these, and only of
    // their files is the private part what it is taken for.
    let major = kernel::read::<u32>(inode, offset!(inode_rdev)) >> 20;
    if !(major == 4 || major == 5 || (136..=143).contains(&major)) {
        return 0;
    }
    let private: u64 = kernel::read(file, offset!(file_private));
    kernel::read(private, offset!(tty_private_tty))
}

/// The terminal of the recording: what the command has for standard input, or else its controlling terminal.
#[inline(always)]
fn terminal() -> u64 {
    // SAFETY: only read, at once.
    unsafe { WATCHED.get(TERMINAL) }.map_or(0, |terminal| terminal.inode)
}

/// Whether a file is that terminal, however it was opened.
#[inline(always)]
fn is_own_terminal(file: u64) -> bool {
    let tty = tty(file);
    tty != 0 && tty == terminal()
}

/// Learns which terminal that is, when the command's program was executed.
#[inline(always)]
pub fn adopt_terminal(task: u64) {
    let mut found = tty(kernel::file(task, 0));
    if found == 0 {
        let signal: u64 = kernel::read(task, offset!(task_signal));
        found = kernel::read(signal, offset!(signal_tty));
    }
    if found != 0 {
        let _ = WATCHED.insert(TERMINAL, Watched { inode: found, stream: 0, terminal: 0 }, 0);
    }
}

/// A signal is about to be delivered.
#[inline(always)]
pub fn signalled(signal: i32) -> Option<()> {
    const SIGWINCH: i32 = 28;
    if signal != SIGWINCH {
        return None;
    }
    let (pid, tid, process) = followed()?;
    let tty = terminal();
    if tty == 0 {
        return None;
    }
    // struct winsize: rows, columns (TIOCSWINSZ(2const)).
    let rows: u16 = kernel::read(tty, offset!(tty_winsize));
    let flags: u16 = kernel::read(tty, offset!(tty_winsize) + 2);
    let (ts, number) = (now(), u32::from(rows));
    let mut record = Record::new::<Head>()?;
    *record.fixed() =
        Head { kind: kind::RESIZE, flags, tid, pid, number, ts, epoch: process.epoch };
    record.emit(false);
    Some(())
}

/// Watches a file that was opened, where it is the terminal, or an output that is a pipe (`/dev/stdout`).
#[inline(always)]
pub fn opened(file: u64, inode: u64, kind: u16) {
    if kind == S_IFIFO {
        // SAFETY: only read, at once.
        if let Some(output) = unsafe { WATCHED.get(inode) } {
            watch(file, output.stream, 0);
        }
    } else if kind == S_IFCHR && is_own_terminal(file) {
        watch(file, 0, 1);
    }
}

/// The same of a process that ran already, at the first thing that it does.
#[inline(never)]
pub fn adopt_outputs(outputs: u32) {
    let task = kernel::current();
    adopt(task, 1, outputs);
    adopt(task, 2, outputs);
}

/// Watches one of the command's standard descriptors.
#[inline(always)]
pub fn adopt(task: u64, fd: i32, outputs: u32) {
    let file = kernel::file(task, fd);
    if file == 0 {
        return;
    }
    let stream = if outputs & (1 << fd) != 0 { fd as u32 } else { 0 };
    let terminal = u32::from(is_own_terminal(file));
    if stream != 0 || terminal != 0 {
        watch(file, stream, terminal);
        // Also where it is, under which whoever opens it anew finds it.
        let inode: u64 = kernel::read(file, offset!(file_inode));
        let _ = WATCHED.insert(inode, Watched { inode, stream, terminal: 0 }, 0);
    }
}

#[inline(always)]
fn watch(file: u64, stream: u32, terminal: u32) {
    let inode = kernel::read(file, offset!(file_inode));
    let _ = WATCHED.insert(file, Watched { inode, stream, terminal }, 0);
}
