//! The kernel's structures, whose layout its BTF tells the recorder, and the recorder us.

use core::ffi::c_void;

use agentrec_recorder_ebpf::Offsets;
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel,
};

use crate::maps::{OFFSETS, SETTINGS};

/// Offset of a field.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a static that nobody writes; volatile, since the compiler must not know its value.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::OFFSETS.$field) }
    };
}
pub(crate) use offset;

/// A field of the structure at an address; zero where it can't be read.
#[inline(always)]
pub fn read<T: Copy + Default>(address: u64, offset: u32) -> T {
    let mut value = T::default();
    // SAFETY: the helper writes a whole `T`, which is made of numbers, or zeros.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            (address + u64::from(offset)) as *const c_void,
        );
    }
    value
}

/// The current `task_struct`.
#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: gives a number.
    unsafe { bpf_get_current_task() }
}

/// PID namespaces inside of each other that are searched for the recorder's.
const LEVELS: u32 = 8;
/// `sizeof(struct upid)`: a number, and a pointer behind it.
const UPID: u32 = 16;

/// The number of the recorder's PID namespace, or 0 for the initial one.
#[inline(always)]
fn pid_namespace() -> u32 {
    // SAFETY: a static that nobody writes.
    unsafe { core::ptr::read_volatile(&raw const SETTINGS.pid_namespace) }
}

/// Whether the recorder lives in the initial PID namespace, whose numbers the kernel's own events have.
#[inline(always)]
pub fn is_initial() -> bool {
    pid_namespace() == 0
}

/// Process and thread of the current task, as the recorder's PID namespace has them; none where it is not in there.
#[inline(always)]
pub fn current_ids() -> Option<(u32, u32)> {
    if pid_namespace() != 0 {
        return ids(current());
    }
    // SAFETY: gives a number.
    let ids = unsafe { bpf_get_current_pid_tgid() };
    Some(((ids >> 32) as u32, ids as u32))
}

/// The same of another task.
#[inline(always)]
pub fn ids(task: u64) -> Option<(u32, u32)> {
    if pid_namespace() == 0 {
        return Some((read(task, offset!(task_tgid)), read(task, offset!(task_pid))));
    }
    let leader: u64 = read(task, offset!(task_group_leader));
    let pid = number(read(leader, offset!(task_thread_pid)))?;
    Some((pid, number(read(task, offset!(task_thread_pid)))?))
}

/// The number of a `struct pid` in the recorder's namespace.
#[inline(always)]
pub fn number(pid: u64) -> Option<u32> {
    let wanted = pid_namespace();
    let first = offset!(pid_numbers);
    if wanted == 0 {
        return Some(read(pid, first + offset!(upid_nr)));
    }
    let deepest: u32 = read(pid, offset!(pid_level));
    let mut level = 0;
    while level < LEVELS {
        if level <= deepest {
            let upid = first + level * UPID;
            let namespace: u64 = read(pid, upid + offset!(upid_ns));
            if read::<u32>(namespace, offset!(pid_namespace_inum)) == wanted {
                return Some(read(pid, upid + offset!(upid_nr)));
            }
        }
        level += 1;
    }
    None
}

/// The `struct file` of a descriptor; 0 where there is none.
#[inline(always)]
pub fn file(task: u64, fd: i32) -> u64 {
    let files: u64 = read(task, offset!(task_files));
    if files == 0 {
        return 0;
    }
    let table: u64 = read(files, offset!(files_fdt));
    let max: u32 = read(table, offset!(fdt_max_fds));
    if fd < 0 || fd as u32 >= max {
        return 0;
    }
    let slots: u64 = read(table, offset!(fdt_fd));
    read(slots + 8 * fd as u64, 0)
}

/// What kind of file something is (inode(7)).
pub const S_IFMT: u16 = 0o170_000;
pub const S_IFDIR: u16 = 0o040_000;
pub const S_IFCHR: u16 = 0o020_000;
pub const S_IFIFO: u16 = 0o010_000;
pub const S_IFSOCK: u16 = 0o140_000;

/// The kind of an inode.
#[inline(always)]
pub fn file_kind(inode: u64) -> u16 {
    read::<u16>(inode, offset!(inode_mode)) & S_IFMT
}

#[allow(dead_code, reason = "names the type of the static that the macro reads")]
const _: &Offsets = &OFFSETS;
