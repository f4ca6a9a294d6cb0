//! Bytes that go through descriptors: summed up in the kernel, and copied where they are output, or typed.

use core::ffi::c_void;

use agentrec_recorder_ebpf::{
    ANY, Descriptor, Head, INPUT, OUTPUT_CHUNKS, Process, Sum, TERMINAL, UNTOLD, UNTOLD_CLOSE,
    UNTOLD_OPEN, Watched, kind, role,
};

use crate::calls::{NUMBER, VALUES, argument, arguments, at, followed, user};
use crate::kernel::{self, S_IFCHR, S_IFIFO, offset};
use crate::maps::{PLANS_BY_NUMBER, SETTINGS, SUMS, WATCHED, lose};
use crate::record::{Record, emit_chunks, emit_vector, now};

/// The bytes stay where they are (recv(2)).
const MSG_PEEK: u64 = 2;

/// A transfer is over.
#[inline(always)]
pub fn over(ctx: *mut c_void) -> Option<()> {
    let (pid, tid, process) = followed()?;
    let result: i64 = at(ctx, VALUES);
    if result <= 0 {
        return None;
    }
    let number: u32 = at(ctx, NUMBER);
    let plan = PLANS_BY_NUMBER.get(number)?;
    let args = arguments();
    if plan.peek != u16::from(ANY) && argument(&args, plan.peek as u8) & MSG_PEEK != 0 {
        return None;
    }
    let fd = args[0] as i32;
    let write = matches!(plan.role, role::WRITE | role::WRITE_VECTOR | role::WRITE_MESSAGE);
    // SAFETY: a static that nobody writes.
    if write && fd == unsafe { core::ptr::read_volatile(&raw const SETTINGS.reserved_fd) } {
        return None;
    }
    let bytes = result as u64;
    add(Descriptor { epoch: process.epoch, pid, fd }, write, bytes);
    let file = kernel::file(kernel::current(), fd);
    // SAFETY: only read, at once.
    let watched = unsafe { WATCHED.get(file) }?;
    if watched.inode != kernel::read::<u64>(file, offset!(file_inode)) {
        return None;
    }
    let (flags, what) = match write {
        true => (0, watched.stream),
        false if watched.terminal != 0 => (INPUT, local_flags(file)),
        false => return None,
    };
    if write && what == 0 {
        return None;
    }
    let head = Head { kind: kind::DATA, flags, tid, pid, number, ts: now(), epoch: process.epoch };
    let (at, count) = match plan.role {
        role::READ_VECTOR | role::WRITE_VECTOR => (args[1], args[2]),
        // recvmsg(2), struct msghdr: the vector and its length come behind the name and its length.
        role::WRITE_MESSAGE => (user(args[1].wrapping_add(16)), user(args[1].wrapping_add(24))),
        _ => {
            emit_chunks(&head, what, args[1], bytes, OUTPUT_CHUNKS as u32);
            return None;
        }
    };
    emit_vector(&head, what, at, count, bytes);
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
