//! Bytes that go through descriptors: summed up in the kernel, and copied where they are output, or typed.

use core::ffi::c_void;

use agentrec_recorder_ebpf::{Descriptor, Head, INPUT, OUTPUT_CHUNKS, Sum, Watched, kind, role};

use crate::calls::{NUMBER, VALUES, arguments, at, followed};
use crate::kernel::{self, offset};
use crate::maps::{PLANS_BY_NUMBER, SETTINGS, SUMS, WATCHED, lose};
use crate::record::{emit_chunks, emit_vector, now};

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
    let fd = args[0] as i32;
    let write = plan.role == role::WRITE || plan.role == role::WRITE_VECTOR;
    let vector = plan.role == role::WRITE_VECTOR || plan.role == role::READ_VECTOR;
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
    match vector {
        false => emit_chunks(&head, what, args[1], bytes, OUTPUT_CHUNKS as u32),
        true => emit_vector(&head, what, args[1], args[2], bytes),
    }
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

/// The kind of a file in its inode's mode (inode(7)).
const S_IFMT: u16 = 0o170_000;

/// `c_lflag` of the terminal behind a file.
#[inline(always)]
fn local_flags(file: u64) -> u32 {
    let private: u64 = kernel::read(file, offset!(file_private));
    let tty: u64 = kernel::read(private, offset!(tty_private_tty));
    kernel::read(tty, offset!(tty_lflag))
}

/// Whether a file is the controlling terminal of the current process's session, however it was opened.
#[inline(always)]
fn is_own_terminal(file: u64) -> bool {
    const S_IFCHR: u16 = 0o020_000;
    let inode: u64 = kernel::read(file, offset!(file_inode));
    let mode: u16 = kernel::read(inode, offset!(inode_mode));
    if mode & S_IFMT != S_IFCHR {
        return false;
    }
    let signal: u64 = kernel::read(kernel::current(), offset!(task_signal));
    let own: u64 = kernel::read(signal, offset!(signal_tty));
    // The device number's upper bits are its major: pseudo-terminals, terminals and consoles have these, and only of
    // their files is the private part what it is taken for.
    let major = kernel::read::<u32>(inode, offset!(inode_rdev)) >> 20;
    if own == 0 || !(major == 4 || major == 5 || (136..=143).contains(&major)) {
        return false;
    }
    let private: u64 = kernel::read(file, offset!(file_private));
    kernel::read::<u64>(private, offset!(tty_private_tty)) == own
}

/// Whether a file is a directory.
#[inline(always)]
pub fn is_directory(file: u64) -> bool {
    const S_IFDIR: u16 = 0o040_000;
    let inode: u64 = kernel::read(file, offset!(file_inode));
    kernel::read::<u16>(inode, offset!(inode_mode)) & S_IFMT == S_IFDIR
}

/// Watches a file that was opened, where it is the terminal.
#[inline(always)]
pub fn opened(file: u64) {
    if file != 0 && is_own_terminal(file) {
        watch(file, 0, 1);
    }
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
    }
}

#[inline(always)]
fn watch(file: u64, stream: u32, terminal: u32) {
    let inode = kernel::read(file, offset!(file_inode));
    let _ = WATCHED.insert(file, Watched { inode, stream, terminal }, 0);
}
