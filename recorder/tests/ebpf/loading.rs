//! The object loads, and its programs run.

use std::process::Command;

use agentrec_recorder::ebpf::object::OBJECT;
use agentrec_recorder::ebpf::tracefs;
use agentrec_recorder_ebpf::{COUNTERS, Counter};
use aya::Ebpf;
use aya::maps::PerCpuArray;
use aya::programs::TracePoint;

#[test]
#[ignore = "needs root"]
fn root_a_program_counts_the_threads_that_end() {
    let mut bpf = Ebpf::load(OBJECT).unwrap();
    let program: &mut TracePoint = bpf.program_mut("process_exit").unwrap().try_into().unwrap();
    program.load().unwrap();
    tracefs::within(|| program.attach("sched", "sched_process_exit")).unwrap().unwrap();
    let counters = PerCpuArray::<_, u64>::try_from(bpf.map(COUNTERS).unwrap()).unwrap();
    let ended = || counters.get(&(Counter::ThreadsEnded as u32), 0).unwrap().iter().sum::<u64>();
    let before = ended();
    for _ in 0..10 {
        assert!(Command::new("true").status().unwrap().success());
    }
    assert!(ended() >= before + 10, "{before} threads before, {} after", ended());
}
