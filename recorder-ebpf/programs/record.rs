//! Records while they are made: in a scratch of this CPU, from where they are copied into the ring buffer at their true
//! length.

use core::ffi::c_void;

use agentrec_recorder_ebpf::{
    CHUNK, CONTROL, Head, MAX_ADDRESS, MAX_CONTROL, MAX_LIST, MAX_VECTOR, OUTPUT_CHUNKS, Part,
    Plain, UNREADABLE, kind,
};
use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_loop, bpf_probe_read_kernel_str,
    bpf_probe_read_user, bpf_probe_read_user_str, bpf_ringbuf_output, bpf_ringbuf_query,
};

use crate::maps::{RECORDS, SCRATCH, lose};
use crate::walk::Walk;

/// Where a piece can begin, and how long it can be: both are less than this.
const HALF: usize = 2 * CHUNK;
const MASK: u64 = HALF as u64 - 1;

/// A record in the making, with room for one more piece of the largest size behind it.
#[repr(C, align(8))]
pub struct Scratch {
    record: [u8; 2 * HALF],
    /// How many bytes of the record are there. Not on the stack: of that the verifier knows every value, and would follow each
    /// length that a piece can have by itself.
    len: u64,
    chunks: Chunks,
    vector: Vector,
    pub walk: Walk,
}

/// Bytes in the ring buffer from which on the recorder is woken up at once instead of at its next look.
const HURRY: u64 = 1 << 20;
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;
const BPF_RB_RING_SIZE: u64 = 1;
/// Bytes of the ring buffer that are kept for what tells who lives: without it nobody would know when the tree has ended.
const RESERVED: u64 = 2 << 20;

/// The record in the making.
pub struct Record {
    scratch: *mut Scratch,
}

impl Record {
    /// One with room for its fixed part, which has to be set.
    #[inline(always)]
    pub fn new<T>() -> Option<Self> {
        let mut record = Self { scratch: core::ptr::from_mut(scratch()?) };
        record.resume(size_of::<T>() as u64);
        Some(record)
    }

    /// Goes on with one of which so many bytes are there.
    #[inline(always)]
    pub fn resume(&mut self, len: u64) {
        // SAFETY: nobody else's, see `fixed`.
        unsafe { (&raw mut (*self.scratch).len).write_volatile(len) };
    }

    /// How many bytes are there.
    #[inline(always)]
    pub fn len(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.scratch).len).read_volatile() }
    }

    #[inline(always)]
    fn base(&self) -> *mut u8 {
        self.scratch.cast()
    }

    /// Its fixed part. Programs of ours don't interrupt each other on a CPU, so that it is nobody else's.
    #[inline(always)]
    pub fn fixed<T>(&mut self) -> &mut T {
        // SAFETY: the scratch is larger than any `T` here, aligned, and any bytes are a `T`.
        unsafe { &mut *self.base().cast::<T>() }
    }

    #[inline(always)]
    fn end(&self) -> *mut c_void {
        // SAFETY: the mask keeps it in the scratch, with room for a piece behind it.
        unsafe { self.base().add((self.len() & MASK) as usize).cast() }
    }

    /// Appends a text of user space with its NUL: its length, or that it can't be read.
    #[inline(always)]
    pub fn user_text(&mut self, address: u64, max: u32) -> u32 {
        // SAFETY: `max` bytes fit behind the end.
        let len = unsafe { bpf_probe_read_user_str(self.end(), max, address as *const c_void) };
        self.grow(len)
    }

    /// The same of the kernel.
    #[inline(always)]
    pub fn kernel_text(&mut self, address: u64, max: u32) -> u32 {
        // SAFETY: as above.
        let len = unsafe { bpf_probe_read_kernel_str(self.end(), max, address as *const c_void) };
        self.grow(len)
    }

    #[inline(always)]
    fn grow(&mut self, len: i64) -> u32 {
        if len < 0 {
            return UNREADABLE;
        }
        self.resume(self.len() + (len as u64 & MASK));
        len as u32
    }

    /// Appends so many bytes of user space, no more than a chunk.
    #[inline(always)]
    pub fn user_bytes(&mut self, address: u64, len: u64) -> u32 {
        if len == 0 {
            return 0;
        }
        let len = if len > CHUNK as u64 { CHUNK as u64 } else { len };
        // SAFETY: a chunk fits behind the end.
        let done = unsafe { bpf_probe_read_user(self.end(), len as u32, address as *const c_void) };
        if done != 0 {
            return UNREADABLE;
        }
        self.resume(self.len() + len);
        len as u32
    }

    /// Puts it into the ring buffer, or counts it as lost; whether it is told. `now` wakes the recorder.
    #[inline(always)]
    pub fn emit(self, now: bool) -> bool {
        // SAFETY: every record begins with one.
        let kind = unsafe { &*self.base().cast::<Head>() }.kind;
        let Some(flags) = wakeup(kind, now) else { return false };
        let len = self.len() & (2 * HALF as u64 - 1);
        // SAFETY: so many bytes of the scratch are set: by this record, or an earlier one.
        let told = unsafe { bpf_ringbuf_output(ring(), self.base().cast(), len, flags) } == 0;
        if !told {
            lose(kind);
        }
        told
    }
}

/// The flags with which a record goes into the ring buffer; none where it finds no room, and is counted as lost. `now` wakes the
/// recorder.
#[inline(always)]
pub fn wakeup(kind: u16, now: bool) -> Option<u64> {
    // SAFETY: queries of numbers.
    let (waiting, size) = unsafe {
        (bpf_ringbuf_query(ring(), BPF_RB_AVAIL_DATA), bpf_ringbuf_query(ring(), BPF_RB_RING_SIZE))
    };
    let vital = matches!(kind, kind::FORK | kind::EXEC | kind::EXIT);
    if !vital && waiting + RESERVED > size {
        lose(kind);
        return None;
    }
    Some(if now || waiting > HURRY { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

/// Puts a whole record into the ring buffer that lies on the stack, and wakes the recorder.
#[inline(always)]
pub fn emit_from_stack<T: Plain>(record: &T, kind: u16) {
    let data = core::ptr::from_ref(record).cast_mut().cast();
    // SAFETY: a `Plain` is so many bytes, all of them set.
    let done =
        unsafe { bpf_ringbuf_output(ring(), data, size_of::<T>() as u64, BPF_RB_FORCE_WAKEUP) };
    if done != 0 {
        lose(kind);
    }
}

/// Bytes of user space on their way out in chunks.
///
/// The loops below are the kernel's (bpf_loop), since the verifier follows one of our own round by round and gives up. What
/// they change lies in the scratch for the same reason: of the stack the verifier knows every value, and so takes each
/// round for another one.
#[repr(C)]
struct Chunks {
    /// In words: else the compiler copies it byte by byte, in a loop of its own.
    head: [u64; HEAD_WORDS],
    what: u64,
    address: u64,
    left: u64,
    total: u64,
    socket: u64,
    offset: u64,
}

/// Buffers of user space on their way out.
#[repr(C)]
struct Vector {
    /// The next `struct iovec`, and how many there are.
    at: u64,
    count: u64,
    left: u64,
}

const HEAD_WORDS: usize = size_of::<Head>() / 8;

/// Copies a head.
#[inline(always)]
pub fn copy_head(from: *const u64, to: *mut u64) {
    const { assert!(HEAD_WORDS == 4) };
    // SAFETY: both are so many words.
    unsafe {
        to.write_volatile(from.read_volatile());
        to.add(1).write_volatile(from.add(1).read_volatile());
        to.add(2).write_volatile(from.add(2).read_volatile());
        to.add(3).write_volatile(from.add(3).read_volatile());
    }
}

/// What the chunks are of: see [`Part`].
#[derive(Clone, Copy)]
pub struct Of {
    pub what: u32,
    pub socket: u64,
    pub offset: u64,
}

impl Of {
    /// Of what is no connection.
    #[inline(always)]
    pub fn just(what: u32) -> Self {
        Self { what, socket: 0, offset: 0 }
    }
}

/// Puts bytes of user space into the ring buffer, in so many chunks at most.
#[inline(always)]
pub fn emit_chunks(head: &Head, of: Of, address: u64, total: u64, most: u32) {
    if let Some(scratch) = scratch() {
        copy_head(core::ptr::from_ref(head).cast(), scratch.chunks.head.as_mut_ptr());
        begin(&mut scratch.chunks, of, total);
        emit_range(&mut scratch.chunks, address, total, most);
    }
}

#[inline(always)]
fn begin(chunks: &mut Chunks, of: Of, total: u64) {
    (chunks.what, chunks.total) = (u64::from(of.what), total);
    (chunks.socket, chunks.offset) = (of.socket, of.offset);
}

#[inline(always)]
fn emit_range(chunks: &mut Chunks, address: u64, len: u64, most: u32) {
    (chunks.address, chunks.left) = (address, len);
    // SAFETY: the callback uses nothing that it is given.
    unsafe { bpf_loop(most, emit_chunk as *mut c_void, core::ptr::null_mut(), 0) };
}

/// One round: 0 to go on, 1 for the end.
#[inline(never)]
unsafe extern "C" fn emit_chunk(_round: u64, _context: *mut c_void) -> u64 {
    let Some(scratch) = scratch() else { return 1 };
    let chunks = &mut scratch.chunks;
    let left = chunks.left;
    if left == 0 {
        return 1;
    }
    let Some(mut record) = Record::new::<Part>() else { return 1 };
    let len = record.user_bytes(chunks.address, left);
    let part: &mut Part = record.fixed();
    copy_head(chunks.head.as_ptr(), (&raw mut part.head).cast());
    part.what = chunks.what as u32;
    part.len = len;
    part.total = if chunks.socket == 0 { chunks.total } else { left };
    part.socket = chunks.socket;
    part.offset = chunks.offset;
    record.emit(false);
    if len > CHUNK as u32 {
        return 1;
    }
    chunks.offset += u64::from(len);
    chunks.address += u64::from(len);
    chunks.left = left - u64::from(len);
    0
}

/// The same of an array of `struct iovec`, of which `left` bytes were moved.
#[inline(always)]
pub fn emit_vector(head: &Head, of: Of, at: u64, count: u64, left: u64) {
    if let Some(scratch) = scratch() {
        copy_head(core::ptr::from_ref(head).cast(), scratch.chunks.head.as_mut_ptr());
        begin(&mut scratch.chunks, of, left);
        scratch.vector = Vector { at, count, left };
        // SAFETY: as above.
        unsafe { bpf_loop(MAX_VECTOR, emit_buffer as *mut c_void, core::ptr::null_mut(), 0) };
    }
}

#[inline(never)]
unsafe extern "C" fn emit_buffer(_round: u64, _context: *mut c_void) -> u64 {
    let Some(scratch) = scratch() else { return 1 };
    let vector = &mut scratch.vector;
    if vector.count == 0 || vector.left == 0 {
        return 1;
    }
    let mut buffer = [0_u64; 2];
    // SAFETY: writes an address and a length, or zeros.
    unsafe { bpf_probe_read_user((&raw mut buffer).cast(), 16, vector.at as *const c_void) };
    let len = if buffer[1] < vector.left { buffer[1] } else { vector.left };
    vector.left -= len;
    vector.count -= 1;
    vector.at += 16;
    emit_range(&mut scratch.chunks, buffer[0], len, OUTPUT_CHUNKS as u32);
    0
}

/// Puts addresses and control data of so many `struct mmsghdr` into the ring buffer, a part each.
#[inline(always)]
pub fn emit_messages(head: &Head, at: u64, count: u64) {
    if let Some(scratch) = scratch() {
        copy_head(core::ptr::from_ref(head).cast(), scratch.chunks.head.as_mut_ptr());
        scratch.vector = Vector { at, count, left: 0 };
        // SAFETY: as above.
        unsafe { bpf_loop(MAX_VECTOR, emit_message as *mut c_void, core::ptr::null_mut(), 0) };
    }
}

#[inline(never)]
unsafe extern "C" fn emit_message(_round: u64, _context: *mut c_void) -> u64 {
    let Some(scratch) = scratch() else { return 1 };
    if scratch.vector.count == 0 {
        return 1;
    }
    // recvmsg(2), struct msghdr: name and its length come first, control data and its length behind the vector.
    let mut header = [0_u64; 6];
    // SAFETY: writes words, or zeros.
    unsafe {
        bpf_probe_read_user(
            (&raw mut header).cast(),
            size_of_val(&header) as u32,
            scratch.vector.at as *const c_void,
        );
    }
    scratch.vector.at += MMSGHDR;
    scratch.vector.count -= 1;
    emit_beside(0, header[0], header[1] & 0xffff_ffff, MAX_ADDRESS);
    emit_beside(CONTROL, header[4], header[5], MAX_CONTROL);
    0
}

/// `sizeof(struct mmsghdr)`.
const MMSGHDR: u64 = 64;

#[inline(always)]
fn emit_beside(what: u32, address: u64, len: u64, most: u32) {
    if address == 0 || len == 0 {
        return;
    }
    let Some(scratch) = scratch() else { return };
    let Some(mut record) = Record::new::<Part>() else { return };
    let len = if len > u64::from(most) { u64::from(most) } else { len };
    let len = record.user_bytes(address, len);
    let part: &mut Part = record.fixed();
    copy_head(scratch.chunks.head.as_ptr(), (&raw mut part.head).cast());
    part.what = what;
    part.len = len;
    part.total = u64::from(len);
    (part.socket, part.offset) = (0, 0);
    record.emit(false);
}

/// Puts the strings of an argument list into the ring buffer, a part for each chunk of each, until there are more bytes than
/// anybody keeps.
#[inline(always)]
pub fn emit_list(head: &Head, at: u64) {
    if let Some(scratch) = scratch() {
        copy_head(core::ptr::from_ref(head).cast(), scratch.chunks.head.as_mut_ptr());
        (scratch.chunks.address, scratch.chunks.total) = (0, 0);
        scratch.vector = Vector { at, count: 0, left: 0 };
        // SAFETY: as above.
        unsafe { bpf_loop(MAX_LIST, emit_string as *mut c_void, core::ptr::null_mut(), 0) };
    }
}

/// The next chunk: of the string at `chunks.address`, or where that is 0, of the next one in the list.
#[inline(never)]
unsafe extern "C" fn emit_string(_round: u64, _context: *mut c_void) -> u64 {
    let Some(scratch) = scratch() else { return 1 };
    let mut string = scratch.chunks.address;
    if string == 0 {
        // SAFETY: writes a pointer, or zeros.
        unsafe {
            bpf_probe_read_user((&raw mut string).cast(), 8, scratch.vector.at as *const c_void);
        }
        scratch.vector.at += 8;
    }
    if string == 0 || scratch.chunks.total > u64::from(MAX_LIST) {
        return 1;
    }
    let Some(mut record) = Record::new::<Part>() else { return 1 };
    let mut len = record.user_text(string, CHUNK as u32);
    scratch.chunks.address = 0;
    // The NUL behind a chunk that is full is the helper's own.
    if len == CHUNK as u32 {
        len -= 1;
        scratch.chunks.address = string + u64::from(len);
    }
    let part: &mut Part = record.fixed();
    copy_head(scratch.chunks.head.as_ptr(), (&raw mut part.head).cast());
    part.what = 1;
    part.len = len;
    part.total = u64::from(len);
    (part.socket, part.offset) = (0, 0);
    if len != UNREADABLE {
        scratch.chunks.total += u64::from(len);
    }
    record.emit(false);
    0
}

/// This CPU's scratch.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: gives a number.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let scratch = SCRATCH.get_ptr_mut(cpu)?;
    // SAFETY: programs of ours don't interrupt each other on a CPU, so that it is nobody else's.
    Some(unsafe { &mut *scratch })
}

/// CLOCK_BOOTTIME, nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: gives a number.
    unsafe { bpf_ktime_get_boot_ns() }
}

#[inline(always)]
fn ring() -> *mut c_void {
    (&raw const RECORDS).cast_mut().cast()
}
