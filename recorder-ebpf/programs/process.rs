//! Processes: their birth, their programs, their end.

use agentrec_recorder_ebpf::Counter;

use crate::counters::count;

tracepoint! {
    /// `sched/sched_process_exit`: a thread ends.
    pub fn process_exit(_context) {
        count(Counter::ThreadsEnded);
    }
}
