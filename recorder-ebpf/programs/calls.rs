//! System calls, by their plans: copied when they are over, since what they point to may not be in memory before
//! (a page that nobody touched yet), and the kernel has just read it.

use core::ffi::c_void;

use agentrec_recorder_ebpf::{
    ABSENT, ANY, BLOCK, Call, Close, Descriptor, FOUND, Head, PIECES, Piece, Plan, Process, Sum,
    TEXT, UNTOLD, UNTOLD_CLOSE, UNTOLD_OPEN, kind, piece, place, role, tells,
};
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs,
};

use crate::kernel::{self, offset};
use crate::maps::{self, PLANS_BY_NUMBER, SUMS, lose};
use crate::record::{Record, emit_list, emit_messages, now};
use crate::{socket, transfer, walk};

/// Where the context of a call's tracepoint has its number, and what comes then: the result, or the arguments
/// (/sys/kernel/tracing/events/syscalls/…/format).
pub const NUMBER: usize = 8;
pub const VALUES: usize = 16;

/// A connection is being made: the socket's ends are known.
const EINPROGRESS: i64 = -115;

/// A value of a tracepoint's context.
#[inline(always)]
pub fn at<T: Copy>(ctx: *mut c_void, offset: usize) -> T {
    // SAFETY: the contexts of these tracepoints have it there; the verifier checks the bounds.
    unsafe { core::ptr::read_volatile(ctx.cast::<u8>().add(offset).cast()) }
}

/// The current process and thread, where the process is followed.
#[inline(always)]
pub fn followed() -> Option<(u32, u32, &'static mut Process)> {
    let (pid, tid) = kernel::current_ids()?;
    let process = maps::process(pid)?;
    // SAFETY: the map keeps it; threads of the process that change it write the same things.
    let process = unsafe { &mut *process };
    if process.flags & FOUND != 0 {
        process.flags &= !FOUND;
        transfer::adopt_outputs(process.outputs);
    }
    Some((pid, tid, process))
}

/// The arguments as they stood in the registers when the current call was made. The kernel changes none of these.
#[inline(always)]
pub fn arguments() -> [u64; 6] {
    // SAFETY: the helpers give this thread's saved registers, which the verifier lets us read.
    unsafe {
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs;
        [(*regs).rdi, (*regs).rsi, (*regs).rdx, (*regs).r10, (*regs).r8, (*regs).r9]
    }
}

/// One of the arguments.
#[inline(always)]
pub fn argument(args: &[u64; 6], index: u8) -> u64 {
    // Compared instead of indexed: on the BPF stack an index has to be known to the verifier.
    match index {
        0 => args[0],
        1 => args[1],
        2 => args[2],
        3 => args[3],
        4 => args[4],
        _ => args[5],
    }
}

/// Whether the plan is for a call with these arguments.
#[inline(always)]
fn admits(plan: &Plan, args: &[u64; 6]) -> bool {
    if plan.when == ANY {
        return true;
    }
    let value = argument(args, plan.when) as u32;
    if plan.values_used == 0 {
        return value & plan.bits != 0;
    }
    let mut index = 0;
    while index < plan.values.len() {
        if index < usize::from(plan.values_used) && plan.values[index] == value {
            return true;
        }
        index += 1;
    }
    false
}

/// Appends what one piece of a plan says, and notes its length.
#[inline(always)]
fn copy(record: &mut Record, index: usize, plan: &Plan, args: &[u64; 6], result: i64) {
    let len = append(record, &plan.pieces[index], args, result);
    let call: &mut Call = record.fixed();
    // SAFETY: a field of it. Volatile, so that it comes from the record when it is looked at: a value that the verifier has seen
    // would have it follow all that comes then once more.
    unsafe { (&raw mut call.pieces[index]).write_volatile(len) };
}

#[inline(always)]
fn append(record: &mut Record, piece: &Piece, args: &[u64; 6], result: i64) -> u32 {
    let mut address = match piece.kind {
        piece::NONE => 0,
        _ => argument(args, piece.arg),
    };
    if address == 0 {
        return ABSENT;
    }
    let most = if piece.len > BLOCK as u32 { BLOCK as u64 } else { u64::from(piece.len) };
    let len = match piece.kind {
        piece::TEXT => return record.user_text(address, TEXT as u32),
        piece::FIXED => most,
        piece::SIZED => argument(args, piece.len_arg) & 0xffff_ffff,
        piece::AT => u64::from(user::<u32>(argument(args, piece.len_arg))),
        piece::COUNTED => {
            let count = if result > 0 { result as u64 } else { 0 };
            return record
                .user_bytes(address, if count > 64 { BLOCK as u64 } else { count * most });
        }
        _ => {
            let field = address + u64::from(piece.len_arg);
            address = user(field);
            if address == 0 {
                return ABSENT;
            }
            // The length of a name has four bytes, and whatever lies behind it is no part of it.
            let len: u64 = user(field + 8);
            if piece.len_arg == 0 { len & 0xffff_ffff } else { len }
        }
    };
    let len = if len > most { most } else { len };
    if len == 0 { ABSENT } else { record.user_bytes(address, len) }
}

/// A number in user space; zero where it can't be read.
#[inline(always)]
pub fn user<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: the helper writes a whole `T`, which is a number, or zeros.
    unsafe {
        bpf_probe_read_user(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            address as *const c_void,
        );
    }
    value
}

/// A covered call is over.
#[inline(always)]
pub fn over(ctx: *mut c_void) -> Option<()> {
    let (pid, tid, process) = followed()?;
    let number: u32 = at(ctx, NUMBER);
    let result: i64 = at(ctx, VALUES);
    let plan = PLANS_BY_NUMBER.get(number)?;
    if plan.role == role::FAILURE && result >= 0 {
        return None;
    }
    let args = arguments();
    if !admits(plan, &args) {
        return None;
    }
    let (mut file, mut mode, mut is_directory) = (0, 0, false);
    if plan.role == role::OPEN && result >= 0 {
        file = kernel::file(kernel::current(), result as i32);
        mode = kernel::read(file, offset!(file_mode));
        let inode = kernel::read(file, offset!(file_inode));
        let file_kind = kernel::file_kind(inode);
        is_directory = file_kind == kernel::S_IFDIR;
        transfer::opened(file, inode, file_kind);
    }
    let ts = now();
    let head = Head { kind: kind::CALL, flags: 0, tid, pid, number, ts, epoch: process.epoch };
    if plan.role == role::FAILURE {
        emit_list(&Head { kind: kind::ARGUMENTS, ..head }, argument(&args, plan.list));
    } else if plan.tells != 0 && (result >= 0 || result == EINPROGRESS) {
        let file = if is_directory || plan.tells & tells::OPENED != 0 { file } else { 0 };
        besides(plan.tells, &head, &args, result, file);
    }
    let mut record = Record::new::<Call>()?;
    copy(&mut record, 0, plan, &args, result);
    copy(&mut record, 1, plan, &args, result);
    copy(&mut record, 2, plan, &args, result);
    let call: &mut Call = record.fixed();
    // Of a transfer only what goes beside its bytes is told here.
    if plan.role >= role::READ && call.pieces == [ABSENT; PIECES] {
        return None;
    }
    if plan.role == role::EPOCH && result >= 0 {
        process.epoch = ts;
    }
    (call.head, call.args, call.result, call.mode) = (head, args, result, mode);
    let told = record.emit(false);
    let key = Descriptor { epoch: head.epoch, pid, fd: result as i32 };
    if plan.role == role::OPEN && result >= 0 && !told {
        transfer::untold(process, key, UNTOLD_OPEN);
    } else if process.flags & UNTOLD != 0 && result >= 0 {
        transfer::begin_anew(key);
    }
    Some(())
}

/// Tells what a call's record has no room for, before it; `file` is what was opened, where its path is wanted.
#[inline(always)]
fn besides(what: u16, head: &Head, args: &[u64; 6], result: i64, file: u64) {
    if what & tells::MESSAGES != 0 {
        return emit_messages(&Head { kind: kind::MESSAGE, ..*head }, args[1], result as u64);
    }
    if what & (tells::SOCKET | tells::ACCEPTED) != 0 {
        let accepted = what & tells::ACCEPTED != 0;
        return socket::tell(head, if accepted { result as i32 } else { args[0] as i32 });
    }
    if what & tells::CWD != 0 {
        walk::tell_directory(head, place::CWD);
    }
    if what & tells::ROOT != 0 {
        walk::tell_directory(head, place::ROOT);
    }
    if what & (tells::OPENED | tells::DIRECTORY) != 0 {
        walk::tell_file(head, result as u32, file);
    }
}

/// A call begins that closes its first argument, whatever it answers.
#[inline(always)]
pub fn closing(ctx: *mut c_void) -> Option<()> {
    let who = followed()?;
    tell_close(ctx, who, at::<u64>(ctx, VALUES) as i32, false)
}

/// A call begins that may give its second argument another meaning.
#[inline(always)]
pub fn replacing(ctx: *mut c_void) -> Option<()> {
    let who = followed()?;
    let (from, to) = (at::<u64>(ctx, VALUES) as i32, at::<u64>(ctx, VALUES + 8) as i32);
    if from == to { None } else { tell_close(ctx, who, to, true) }
}

#[inline(always)]
fn tell_close(
    ctx: *mut c_void,
    (pid, tid, process): (u32, u32, &'static mut Process),
    fd: i32,
    replaced: bool,
) -> Option<()> {
    let key = Descriptor { epoch: process.epoch, pid, fd };
    let mut sum = Sum { read: 0, written: 0 };
    // SAFETY: the entry is copied at once; who adds to it now does so after the descriptor was let go.
    if let Some(found) = unsafe { SUMS.get(key) } {
        sum = *found;
        if sum.written & UNTOLD_CLOSE != 0 {
            // It was closed before, and is nothing that is followed.
            return None;
        }
        if sum.written & UNTOLD_OPEN != 0 {
            lose(kind::CLOSE);
            transfer::untold(process, key, UNTOLD_CLOSE);
            return None;
        }
        let _ = SUMS.remove(key);
    } else if replaced {
        return None;
    }
    let mut record = Record::new::<Close>()?;
    let number = at(ctx, NUMBER);
    let head =
        Head { kind: kind::CLOSE, flags: 0, tid, pid, number, ts: now(), epoch: process.epoch };
    *record.fixed() = Close { head, fd, replaced: u32::from(replaced), sum };
    if !record.emit(false) && !replaced {
        transfer::untold(process, key, UNTOLD_CLOSE);
    }
    Some(())
}
