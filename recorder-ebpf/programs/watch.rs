//! Who is followed though nobody followed started it: whom a watch looks for, found when it starts a process or a program.

use agentrec_recorder_ebpf::{BY_EXEC, Head, Process, Watch, kind, place, watch};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid,
};

use crate::calls::followed;
use crate::kernel::{self, offset};
use crate::maps::{self, WATCH, lose};
use crate::record::{Record, now};
use crate::walk;

/// The current process, where it is followed, or else is one that is looked for, and is followed from now on.
#[inline(always)]
pub fn followed_or_found(by_exec: bool) -> Option<(u32, u32, &'static mut Process)> {
    match followed() {
        None if find(by_exec) => followed(),
        found => found,
    }
}

/// Whether the current process is one that is looked for; follows it then, and tells of it.
#[inline(never)]
fn find(by_exec: bool) -> bool {
    let Some(watch) = WATCH.get(0) else { return false };
    if watch.who == watch::NOBODY {
        return false;
    }
    let Some((pid, tid)) = kernel::current_ids() else { return false };
    if pid == watch.spared[0] || pid == watch.spared[1] || !is_wanted(watch) {
        return false;
    }
    let ts = now();
    let process = Process { epoch: ts, flags: 0, outputs: 0 };
    match maps::follow(pid, process, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        // Another of its threads was first.
        Err(EEXIST) => return true,
        Err(_) => {
            lose(kind::FOUND);
            return false;
        }
    }
    let flags = if by_exec { BY_EXEC } else { 0 };
    let head = Head { kind: kind::FOUND, flags, tid, pid, number: 0, ts, epoch: ts };
    walk::tell_directory(&head, place::CWD);
    walk::tell_directory(&head, place::ROOT);
    let Some(mut record) = Record::new::<Head>() else { return true };
    *record.fixed() = head;
    record.emit(false);
    true
}

const EEXIST: i32 = -17;

/// Levels of the tree of control groups that are looked at.
const LEVELS: i32 = 32;

#[inline(always)]
fn is_wanted(watch: &Watch) -> bool {
    // Threads of the kernel have no memory of their own.
    if kernel::read::<u64>(kernel::current(), offset!(task_mm)) == 0 {
        return false;
    }
    match watch.who {
        watch::ALL => true,
        watch::USER => {
            // SAFETY: gives a number, whose low half is the user.
            let user = unsafe { bpf_get_current_uid_gid() } as u32;
            user == watch.user
        }
        watch::NAME => {
            let mut name = [0_u64; 2];
            // SAFETY: writes so many bytes, padded with NULs.
            unsafe { bpf_get_current_comm((&raw mut name).cast(), 16) };
            name[0] == watch.name[0] && name[1] == watch.name[1]
        }
        watch::GROUP => {
            let group = watch.group;
            let mut level = 0;
            while level < LEVELS {
                // SAFETY: gives a number; 0 below the process's own group.
                if unsafe { bpf_get_current_ancestor_cgroup_id(level) } == group {
                    return true;
                }
                level += 1;
            }
            false
        }
        _ => false,
    }
}
