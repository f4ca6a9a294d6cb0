//! What the programs share with each other and with the recorder. Sizes that depend on the machine or on the user are set
//! when they are loaded.

use agentrec_recorder_ebpf::{
    DIVERTED as MAX_DIVERTED, Descriptor, Detour, Diverted, Endpoint, LISTENING as MAX_LISTENING,
    MARKS as MAX_MARKS, OBJECTS as MAX_OBJECTS, Object, Offsets, PLANS, PROCESSES as MAX_PROCESSES,
    Plan, Process, STREAMS as MAX_STREAMS, SUMS as MAX_SUMS, Settings, Stream, Sum,
    TLS_CALLS as MAX_TLS_CALLS, TlsCall, TlsKey, UNREACHED as MAX_UNREACHED,
    WATCHED as MAX_WATCHED, Watch, Watched, kind, mark,
};
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};

use crate::record::Scratch;

/// The way out.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

/// Who is followed, by process; through [`follow`] and [`process`].
#[map]
pub static PROCESSES: HashMap<u32, Process> =
    HashMap::with_max_entries(MAX_PROCESSES, BPF_F_NO_PREALLOC);

/// Not zero where a process with that [`mark`] is or was followed: whoever is not pays for no look into [`PROCESSES`], since the
/// kernel looks into an array without a call. Set before the process is put there, and never taken back.
#[map]
pub static MARKS: Array<u32> = Array::with_max_entries(MAX_MARKS, 0);

/// Who else is: one entry.
#[map]
pub static WATCH: Array<Watch> = Array::with_max_entries(1, 0);

/// What to do with each system call.
#[map]
pub static PLANS_BY_NUMBER: Array<Plan> = Array::with_max_entries(PLANS, 0);

/// What went through each descriptor that is open.
#[map]
pub static SUMS: HashMap<Descriptor, Sum> = HashMap::with_max_entries(MAX_SUMS, BPF_F_NO_PREALLOC);

/// Connections, by the inode numbers of their sockets, which are never used again.
#[map]
pub static STREAMS: LruHashMap<u64, Stream> = LruHashMap::with_max_entries(MAX_STREAMS, 0);

/// Executable files that the recorder has looked into: it puts them here.
#[map]
pub static OBJECTS: LruHashMap<Object, u32> = LruHashMap::with_max_entries(MAX_OBJECTS, 0);

/// Calls of TLS libraries that have not returned. Some never do, of threads that are killed in them.
#[map]
pub static TLS_CALLS: LruHashMap<TlsKey, TlsCall> = LruHashMap::with_max_entries(MAX_TLS_CALLS, 0);

/// The command's outputs and its terminal, by `struct file`.
#[map]
pub static WATCHED: HashMap<u64, Watched> =
    HashMap::with_max_entries(MAX_WATCHED, BPF_F_NO_PREALLOC);

/// Where connections are led to: one entry.
#[map]
pub static DETOUR: Array<Detour> = Array::with_max_entries(1, 0);

/// Connections that were led there, by what their sockets are known by (SO_COOKIE), which is never used again.
#[map]
pub static DIVERTED: LruHashMap<u64, Diverted> = LruHashMap::with_max_entries(MAX_DIVERTED, 0);

/// The same, by where they come from: the proxy takes them out.
#[map]
pub static COMING: LruHashMap<Endpoint, u64> = LruHashMap::with_max_entries(MAX_DIVERTED, 0);

/// Ports on which the tree listens, and with how many sockets.
#[map]
pub static LISTENING: HashMap<u32, u32> =
    HashMap::with_max_entries(MAX_LISTENING, BPF_F_NO_PREALLOC);

/// Destinations that the proxy did not reach, and until when (CLOCK_BOOTTIME) they are left to their clients: it puts them here.
#[map]
pub static UNREACHED: LruHashMap<Endpoint, u64> = LruHashMap::with_max_entries(MAX_UNREACHED, 0);

/// Records that found no room, by kind; the first counts sums that found none.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(kind::COUNT, 0);

/// Where records are put together: one for each CPU, where no two programs of ours run at a time.
#[map]
pub static SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// Set at load.
#[unsafe(no_mangle)]
// SAFETY: all of it is numbers.
pub static OFFSETS: Offsets = unsafe { core::mem::zeroed() };

/// Set at load.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings =
    Settings { outputs: 0, reserved_fd: -1, pid_namespace: 0, front: 0 };

/// Counts something that is lost.
#[inline(always)]
pub fn lose(kind: u16) {
    if let Some(count) = LOST.get_ptr_mut(u32::from(kind)) {
        // SAFETY: it is this CPU's own, and programs of ours don't interrupt each other.
        unsafe { *count += 1 };
    }
}

/// Follows a process from now on.
///
/// # Errors
/// Where there is no room, or, with `BPF_NOEXIST`, where it is followed already.
#[inline(always)]
pub fn follow(pid: u32, process: Process, flags: u64) -> Result<(), i32> {
    if let Some(mark) = MARKS.get_ptr_mut(mark(pid)) {
        // SAFETY: whoever writes there writes the same.
        unsafe { mark.write_volatile(1) };
    }
    PROCESSES.insert(pid, process, flags)
}

/// A process that is followed.
#[inline(always)]
pub fn process(pid: u32) -> Option<*mut Process> {
    if *MARKS.get(mark(pid))? == 0 { None } else { PROCESSES.get_ptr_mut(pid) }
}
