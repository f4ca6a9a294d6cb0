//! Counters, one of each kind for each CPU.

use agentrec_recorder_ebpf::Counter;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;

#[btf_map]
static COUNTERS: PerCpuArray<u64, { Counter::COUNT as usize }> = PerCpuArray::new();

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this is the value of this CPU alone, and the kernel runs no program on a tracepoint inside of another
        // one on the same CPU (kernel/trace/bpf_trace.c, trace_call_bpf).
        unsafe { *value += 1 };
    }
}
