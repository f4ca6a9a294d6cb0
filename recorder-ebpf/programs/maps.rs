//! What the programs share with each other and with the recorder. Sizes that depend on the machine or on the user are set
//! when they are loaded.

use agentrec_recorder_ebpf::{
    Descriptor, Offsets, PLANS, PROCESSES as MAX_PROCESSES, Plan, Process, SUMS as MAX_SUMS,
    Settings, Sum, WATCHED as MAX_WATCHED, Watch, Watched, kind,
};
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};

use crate::record::Scratch;

/// The way out.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

/// Who is followed, by process.
#[map]
pub static PROCESSES: HashMap<u32, Process> =
    HashMap::with_max_entries(MAX_PROCESSES, BPF_F_NO_PREALLOC);

/// Who else is: one entry.
#[map]
pub static WATCH: Array<Watch> = Array::with_max_entries(1, 0);

/// What to do with each system call.
#[map]
pub static PLANS_BY_NUMBER: Array<Plan> = Array::with_max_entries(PLANS, 0);

/// What went through each descriptor that is open.
#[map]
pub static SUMS: HashMap<Descriptor, Sum> = HashMap::with_max_entries(MAX_SUMS, BPF_F_NO_PREALLOC);

/// The command's outputs and its terminal, by `struct file`.
#[map]
pub static WATCHED: HashMap<u64, Watched> =
    HashMap::with_max_entries(MAX_WATCHED, BPF_F_NO_PREALLOC);

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
