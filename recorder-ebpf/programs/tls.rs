//! Plaintext of TLS libraries: where their functions are entered and where they return, by uprobes.
//!
//! Unlike the others, these programs can be preempted, by each other too (kernel/events/uprobes.c calls them so). So nothing of
//! theirs lies in this CPU's scratch: a call's state is an entry of a map, and its bytes are put into the ring buffer at once.

use core::ffi::c_void;

use agentrec_recorder_ebpf::{
    CLOSED, Head, Mapped, Object, PLAINTEXT_CHUNKS, PLAINTEXT_PIECES, Part, Stream, TlsCall,
    TlsKey, UNREADABLE, WRITTEN, kind, tls,
};
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{bpf_get_attach_cookie, bpf_loop, bpf_probe_read_user};

use crate::calls::{VALUES, arguments, at, followed, user};
use crate::kernel::{self, offset};
use crate::maps::{OBJECTS, RECORDS, STREAMS, TLS_CALLS, lose};
use crate::record::{Record, now, wakeup};
use crate::walk;

const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;

/// What a `struct file` is known by.
#[inline(always)]
pub fn object(file: u64) -> Object {
    let inode: u64 = kernel::read(file, offset!(file_inode));
    let super_block: u64 = kernel::read(inode, offset!(inode_sb));
    Object {
        number: kernel::read(inode, offset!(inode_number)),
        size: kernel::read(inode, offset!(inode_size)),
        device: kernel::read(super_block, offset!(sb_dev)),
        generation: kernel::read(inode, offset!(inode_generation)),
    }
}

/// `sys_exit_mmap`: an object may be mapped that holds such functions. The recorder is woken, since it has to look before they are
/// called; once for each object.
#[inline(always)]
pub fn mapped(ctx: *mut c_void) -> Option<()> {
    let (pid, tid, process) = followed()?;
    let address: i64 = at(ctx, VALUES);
    let [_, _, protection, flags, fd, _] = arguments();
    let fails = (-4095..0).contains(&address);
    if fails || protection & PROT_EXEC == 0 || flags & MAP_ANONYMOUS != 0 {
        return None;
    }
    let (fd, epoch) = (fd as u32, process.epoch);
    let file = kernel::file(kernel::current(), fd as i32);
    let object = object(file);
    if OBJECTS.get_ptr(object).is_some() {
        return None;
    }
    let head = Head { kind: kind::MAPPED, flags: 0, tid, pid, number: fd, ts: now(), epoch };
    walk::tell_file(&head, fd, file);
    let mut record = Record::new::<Mapped>()?;
    *record.fixed() = Mapped { head, object };
    record.emit(true);
    Some(())
}

/// Where a stream's number has its process, of whose ids the kernel makes no longer ones (PID_MAX_LIMIT, 22 bits).
const PID_SHIFT: u32 = 42;

/// The number of a stream: greater than any inode number, so that both can be keys of one map. Of an address, whose last 4 bits are
/// 0 as libraries allocate, 42 bits are enough: the one above them says on which side of the address space it is.
#[inline(always)]
fn stream_number(pid: u32, address: u64) -> u64 {
    u64::from(pid) << PID_SHIFT | address >> 4 & ((1 << PID_SHIFT) - 1)
}

/// A function begins.
#[inline(always)]
pub fn entered(ctx: *mut c_void) -> Option<()> {
    let (pid, tid, _) = followed()?;
    // SAFETY: the context of a uprobe is the registers, and the helper gives a number.
    let (regs, what) = unsafe { (&*ctx.cast::<pt_regs>(), bpf_get_attach_cookie(ctx)) };
    // Both are read here: of one address or the other the verifier would not know that it is in the context.
    // SAFETY: as above.
    let (fourth, fifth) =
        unsafe { ((&raw const regs.rcx).read_volatile(), (&raw const regs.r8).read_volatile()) };
    let number = stream_number(pid, regs.rdi);
    let count_at = match what & tls::ARGUMENT {
        tls::FOURTH => fourth,
        _ => fifth,
    };
    let call =
        TlsCall { stream: number, address: regs.rsi, count_at, what, left: 0, offset: 0, ts: 0 };
    let _ = TLS_CALLS.insert(TlsKey { stack: regs.rsp, tid, reserved: 0 }, call, 0);
    Some(())
}

/// A function returns.
#[inline(always)]
pub fn returned(ctx: *mut c_void) -> Option<()> {
    let (_, tid, _) = followed()?;
    // SAFETY: as above.
    let regs = unsafe { &*ctx.cast::<pt_regs>() };
    // What was on the stack at the entry is gone: the address to return to.
    let key = TlsKey { stack: regs.rsp.wrapping_sub(8), tid, reserved: 0 };
    let call = TLS_CALLS.get_ptr_mut(key)?;
    // SAFETY: the map keeps it, and it is this thread's own.
    let call = unsafe { &mut *call };
    let result = regs.rax as i64;
    let bytes = match call.what & tls::COUNT {
        tls::INT if result as i32 > 0 => result as i32 as u64,
        tls::LONG if result > 0 => result as u64,
        tls::AT if result as i32 == 1 => user::<u64>(call.count_at),
        _ => 0,
    };
    if bytes > 0 {
        let written = call.what & tls::WRITES != 0;
        if let Some(offset) = advance(call.stream, written, bytes) {
            (call.left, call.offset, call.ts) = (bytes, offset, now());
            if call.what & tls::UNSEEN != 0 {
                tell(call, tid, UNREADABLE);
            } else {
                // SAFETY: the callback uses the key alone.
                unsafe {
                    let key = (&raw const key).cast_mut().cast();
                    bpf_loop(PLAINTEXT_CHUNKS, emit_piece as *mut c_void, key, 0);
                }
            }
        }
    }
    let _ = TLS_CALLS.remove(key);
    Some(())
}

/// A stream is let go.
#[inline(always)]
pub fn over(ctx: *mut c_void) -> Option<()> {
    let (pid, tid, _) = followed()?;
    // SAFETY: as above.
    let regs = unsafe { &*ctx.cast::<pt_regs>() };
    end(tid, stream_number(pid, regs.rdi))
}

/// A stream was made: what had its address before is over.
#[inline(always)]
pub fn began(ctx: *mut c_void) -> Option<()> {
    let (pid, tid, _) = followed()?;
    // SAFETY: as above.
    let regs = unsafe { &*ctx.cast::<pt_regs>() };
    end(tid, stream_number(pid, regs.rax))
}

#[inline(always)]
fn end(tid: u32, stream: u64) -> Option<()> {
    STREAMS.get_ptr_mut(stream)?;
    let _ = STREAMS.remove(stream);
    let what = tls::OVER;
    let call = TlsCall { stream, address: 0, count_at: 0, what, left: 0, offset: 0, ts: now() };
    tell(&call, tid, 0);
    Some(())
}

/// How many bytes went through a stream that way before these; none where they are not wanted.
#[inline(always)]
fn advance(number: u64, written: bool, bytes: u64) -> Option<u64> {
    let stream = match STREAMS.get_ptr_mut(number) {
        Some(stream) => stream,
        None => {
            let _ = STREAMS.insert(number, Stream { read: 0, written: 0, unwanted: 0 }, 0);
            STREAMS.get_ptr_mut(number)?
        }
    };
    // SAFETY: the map keeps it; libraries don't let two threads write to one stream at once.
    let stream = unsafe { &mut *stream };
    if stream.unwanted != 0 {
        return None;
    }
    let counter = if written { &mut stream.written } else { &mut stream.read };
    let offset = *counter;
    *counter += bytes;
    Some(offset)
}

/// The next piece of a call: 0 to go on, 1 for the end.
#[inline(never)]
unsafe extern "C" fn emit_piece(_round: u64, key: *mut c_void) -> u64 {
    // SAFETY: it is the key of the call that returns.
    let key = unsafe { *key.cast::<TlsKey>() };
    let Some(call) = TLS_CALLS.get_ptr_mut(key) else { return 1 };
    // SAFETY: the map keeps it, and it is this thread's own.
    let call = unsafe { &mut *call };
    let left = call.left;
    let taken = match left {
        0 => return 1,
        left if left <= room(PLAINTEXT_PIECES[0]) => {
            put::<{ PLAINTEXT_PIECES[0] }>(call, key.tid, left)
        }
        left if left <= room(PLAINTEXT_PIECES[1]) => {
            put::<{ PLAINTEXT_PIECES[1] }>(call, key.tid, left)
        }
        left => put::<{ PLAINTEXT_PIECES[2] }>(call, key.tid, left),
    };
    if taken == 0 || taken > left {
        return 1;
    }
    call.address += taken;
    call.offset += taken;
    call.left = left - taken;
    0
}

/// How many bytes a piece of that size holds.
const fn room(size: usize) -> u64 {
    (size - size_of::<Part>()) as u64
}

/// Puts as many bytes as it holds into a piece: how many were told, or else lost.
#[inline(always)]
fn put<const SIZE: usize>(call: &TlsCall, tid: u32, left: u64) -> u64 {
    let len = if left > room(SIZE) { room(SIZE) } else { left };
    let Some(flags) = wakeup(kind::PLAINTEXT, false) else { return len };
    let Some(mut piece) = RECORDS.reserve::<Piece<SIZE>>(0) else {
        lose(kind::PLAINTEXT);
        return len;
    };
    let to = piece.as_mut_ptr();
    // SAFETY: the piece has room for a part and as many bytes behind it.
    let done = unsafe {
        let bytes = to.cast::<u8>().add(size_of::<Part>());
        bpf_probe_read_user(bytes.cast(), len as u32, call.address as *const c_void)
    };
    let told = if done == 0 { len as u32 } else { UNREADABLE };
    // SAFETY: as above.
    unsafe { *to.cast::<Part>() = part(call, tid, told, if done == 0 { len } else { left }) };
    piece.submit(flags);
    if done == 0 { len } else { 0 }
}

/// A piece of the ring buffer.
#[repr(C, align(8))]
struct Piece<const SIZE: usize>([u8; SIZE]);

/// Tells of a call without its bytes.
#[inline(always)]
fn tell(call: &TlsCall, tid: u32, len: u32) {
    let Some(flags) = wakeup(kind::PLAINTEXT, false) else { return };
    match RECORDS.reserve::<Part>(0) {
        Some(mut record) => {
            record.write(part(call, tid, len, call.left));
            record.submit(flags);
        }
        None => lose(kind::PLAINTEXT),
    }
}

#[inline(always)]
fn part(call: &TlsCall, tid: u32, len: u32, total: u64) -> Part {
    let flags = match call.what {
        tls::OVER => CLOSED,
        what if what & tls::WRITES != 0 => WRITTEN,
        _ => 0,
    };
    let pid = (call.stream >> PID_SHIFT) as u32;
    let head = Head { kind: kind::PLAINTEXT, flags, tid, pid, number: 0, ts: call.ts, epoch: 0 };
    Part { head, what: 0, len, total, socket: call.stream, offset: call.offset }
}
