//! Processes: who is followed, and what becomes of them.

use core::ffi::c_void;

use agentrec_recorder_ebpf::{
    ARGUMENT_CHUNKS, BY_DESCRIPTOR, COMMAND, ENVIRONMENT_CHUNKS, Exec, Exit, Fork, GROUP, Head,
    NARROW, Process, ROOT, Signal, TEXT, WAITING, kind, place,
};
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs,
};

use crate::calls::{arguments, followed};
use crate::kernel::{self, offset};
use crate::maps::{self, PROCESSES, SETTINGS, lose};
use crate::record::{Of, Record, emit_chunks, emit_from_stack, now};
use crate::{tls, transfer, walk, watch};

const SYS_CLONE3: u32 = 435;

/// A task was made, and does not run yet.
#[inline(always)]
pub fn forked(child: u64) -> Option<()> {
    let (pid, tid, process) = watch::followed_or_found(false)?;
    let (child_pid, child_tid) = kernel::ids(child)?;
    let ts = now();
    if child_pid != pid {
        let follow = Process { epoch: ts, flags: 0, outputs: 0 };
        if maps::follow(child_pid, follow, 0).is_err() {
            lose(kind::FORK);
        }
    }
    let ([mut flags, ..], number) = (arguments(), call_number());
    if number == SYS_CLONE3 {
        let address = flags as *const c_void;
        // SAFETY: writes eight bytes, or zeros.
        unsafe { bpf_probe_read_user((&raw mut flags).cast(), 8, address) };
    }
    let mut record = Record::new::<Fork>()?;
    let head = Head { kind: kind::FORK, flags: 0, tid, pid, number, ts, epoch: process.epoch };
    *record.fixed() = Fork { head, child: child_tid, process: child_pid, flags };
    record.emit(false);
    Some(())
}

/// The number of the call that the current task is in.
#[inline(always)]
fn call_number() -> u32 {
    // SAFETY: the helpers give this thread's saved registers, which the verifier lets us read.
    unsafe {
        let regs = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs;
        (*regs).orig_rax as u32
    }
}

/// [`GROUP`] where the current call sends a signal to a whole group (kill(2), pidfd_send_signal(2)).
#[inline(always)]
fn to_group() -> u16 {
    const KILL: u32 = 62;
    const I386_KILL: u32 = 37;
    const PIDFD_SEND_SIGNAL: u32 = 424;
    const PIDFD_SIGNAL_PROCESS_GROUP: u64 = 4;
    let [first, _, _, flags, ..] = arguments();
    let group = match call_number() {
        KILL | I386_KILL => first as i32 <= 0,
        PIDFD_SEND_SIGNAL => flags & PIDFD_SIGNAL_PROCESS_GROUP != 0,
        _ => false,
    };
    if group { GROUP } else { 0 }
}

/// Where an ELF file says how many bits it has, and that it has 32 (elf(5)).
const EI_CLASS: u32 = 4;
const ELFCLASS32: u8 = 1;

/// A program was executed: its stack holds its arguments and environment, and nobody has run in it yet.
#[inline(always)]
pub fn executed(task: u64, former: u64, bprm: u64) -> Option<()> {
    let (pid, tid, process) = watch::followed_or_found(true)?;
    // Who called has taken the leader's number; this one, its own, is of the initial namespace.
    let former = if kernel::is_initial() { former as u32 } else { 0 };
    let ts = now();
    let before = process.epoch;
    process.epoch = ts;
    let mm: u64 = kernel::read(task, offset!(task_mm));
    let arg_start: u64 = kernel::read(mm, offset!(mm_arg_start));
    let arg_end: u64 = kernel::read(mm, offset!(mm_arg_end));
    let env_start: u64 = kernel::read(mm, offset!(mm_env_start));
    let env_end: u64 = kernel::read(mm, offset!(mm_env_end));
    let head = Head { kind: kind::ARGUMENTS, flags: 0, tid, pid, number: 0, ts, epoch: ts };
    emit_chunks(
        &head,
        Of::just(0),
        arg_start,
        arg_end.wrapping_sub(arg_start),
        ARGUMENT_CHUNKS as u32,
    );
    let environment = Head { kind: kind::ENVIRONMENT, ..head };
    emit_chunks(
        &environment,
        Of::just(0),
        env_start,
        env_end.wrapping_sub(env_start),
        ENVIRONMENT_CHUNKS as u32,
    );
    if process.flags & ROOT != 0 {
        process.flags &= !ROOT;
        // SAFETY: a static that nobody writes.
        let outputs = unsafe { core::ptr::read_volatile(&raw const SETTINGS.outputs) };
        transfer::adopt_terminal(task);
        transfer::adopt(task, 0, outputs);
        transfer::adopt(task, 1, outputs);
        transfer::adopt(task, 2, outputs);
        walk::tell_directory(&head, place::ROOT);
    }
    let exe: u64 = kernel::read(mm, offset!(mm_exe_file));
    walk::tell_file(&head, place::EXE, exe);
    // For a script this is its interpreter by now.
    let class: u8 = kernel::read(bprm, offset!(bprm_buf) + EI_CLASS);
    let fdpath: u64 = kernel::read(bprm, offset!(bprm_fdpath));
    let flags =
        if class == ELFCLASS32 { NARROW } else { 0 } | if fdpath != 0 { BY_DESCRIPTOR } else { 0 };
    let mut record = Record::new::<Exec>()?;
    let name: u64 = kernel::read(bprm, offset!(bprm_filename));
    let name = record.kernel_text(name, TEXT as u32);
    *record.fixed() = Exec {
        head: Head { kind: kind::EXEC, flags, ..head },
        former,
        name,
        before,
        arguments: arg_end.wrapping_sub(arg_start),
        environment: env_end.wrapping_sub(env_start),
        object: tls::object(exe),
    };
    record.emit(false);
    Some(())
}

/// In `signal_struct`'s flags: the whole process ends (SIGNAL_GROUP_EXIT in include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 4;

/// A thread ends.
#[inline(always)]
pub fn exiting(task: u64) -> Option<()> {
    let (pid, tid, process) = followed()?;
    let signal: u64 = kernel::read(task, offset!(task_signal));
    let live: u32 = kernel::read(signal, offset!(signal_live));
    let last = live == 0;
    let flags: u32 = kernel::read(signal, offset!(signal_flags));
    let leader: u64 = kernel::read(task, offset!(task_group_leader));
    let status: i32 = match flags & SIGNAL_GROUP_EXIT {
        0 => kernel::read(leader, offset!(task_exit_code)),
        _ => kernel::read(signal, offset!(signal_exit_code)),
    };
    let both = |own: u32, dead: u32| -> u64 {
        let mut sum: u64 = kernel::read::<u64>(task, own) + kernel::read::<u64>(signal, dead);
        // A leader that ended before others waits for them, and is not among the dead yet.
        if leader != task {
            sum += kernel::read::<u64>(leader, own);
        }
        sum
    };
    let run = both(offset!(task_run), offset!(signal_run));
    let utime = both(offset!(task_utime), offset!(signal_utime));
    let stime = both(offset!(task_stime), offset!(signal_stime));
    let pages: u64 = kernel::read(signal, offset!(signal_maxrss));
    let mut record = Record::new::<Exit>()?;
    let head =
        Head { kind: kind::EXIT, flags: 0, tid, pid, number: 0, ts: now(), epoch: process.epoch };
    *record.fixed() = Exit { head, status, last: u32::from(last), run, utime, stime, pages };
    // Somebody waits for the command's end. Of others the next look is soon enough: to wake the recorder takes longer than all
    // else here.
    record.emit(last && process.flags & COMMAND != 0);
    if last {
        let _ = PROCESSES.remove(pid);
    }
    Some(())
}

/// A signal is sent to a process, and it may be the command. Interrupts send some, so that the scratch is not ours here.
#[inline(always)]
pub fn signal_sent(signal: i32, task: u64, result: i32) -> Option<()> {
    /// include/trace/events/signal.h.
    const TRACE_SIGNAL_ALREADY_PENDING: i32 = 2;
    const SIGCHLD: i32 = 17;
    if signal == SIGCHLD {
        return None;
    }
    let (pid, tid) = kernel::ids(task)?;
    // SAFETY: a static that nobody writes.
    let front = unsafe { core::ptr::read_volatile(&raw const SETTINGS.front) };
    if pid != front {
        // SAFETY: the map keeps it.
        let flags = unsafe { (*maps::process(pid)?).flags };
        if flags & COMMAND == 0 {
            return None;
        }
    }
    let sender = kernel::current_ids().map_or(0, |(pid, _)| pid);
    let (number, ts) = (signal as u32, now());
    let waiting = if result == TRACE_SIGNAL_ALREADY_PENDING { WAITING } else { 0 };
    let head =
        Head { kind: kind::SIGNAL, flags: to_group() | waiting, tid, pid, number, ts, epoch: 0 };
    emit_from_stack(&Signal { head, sender, reserved: 0 }, kind::SIGNAL);
    Some(())
}
