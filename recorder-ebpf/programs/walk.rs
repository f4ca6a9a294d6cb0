//! Paths, from the kernel's own tree of names: exact, whatever links led there, and at this very moment. /proc would be asked
//! when the process may be elsewhere, or gone.

use core::ffi::c_void;

use agentrec_recorder_ebpf::{CHUNK, DELETED, Head, Part, kind, place};
use aya_ebpf::helpers::generated::bpf_loop;

use crate::kernel::{self, offset};
use crate::record::{Record, copy_head, scratch};

/// Where a walk up to the root is. In the scratch, as all that loops change.
#[repr(C)]
pub struct Walk {
    dentry: u64,
    mnt: u64,
    len: u64,
    /// 1 once the root was reached: what ends before is no path.
    whole: u64,
}

/// Names and mounts that are looked at, at most.
const STEPS: u32 = 4096;
/// Bytes of a path, at most: PATH_MAX limits what a call is given, not how deep a tree is.
const LONGEST: u64 = CHUNK as u64;

/// Tells the working directory or the root directory of the current task.
#[inline(always)]
pub fn tell_directory(head: &Head, what: u32) {
    let fs: u64 = kernel::read(kernel::current(), offset!(task_fs));
    let path = if what == place::CWD { offset!(fs_pwd) } else { offset!(fs_root) };
    tell(head, what, fs + u64::from(path));
}

/// Tells the path of an open file.
#[inline(always)]
pub fn tell_file(head: &Head, what: u32, file: u64) {
    if file != 0 {
        tell(head, what, file + u64::from(offset!(file_path)));
    }
}

/// Tells the path at `path`, a `struct path`. One that is too long is not told: /proc is asked for it, and has no room for it
/// either.
#[inline(always)]
fn tell(head: &Head, what: u32, path: u64) {
    let dentry: u64 = kernel::read(path, offset!(path_dentry));
    let mnt: u64 = kernel::read(path, offset!(path_mnt));
    let Some(scratch) = scratch() else { return };
    scratch.walk = Walk { dentry, mnt, len: size_of::<Part>() as u64, whole: 0 };
    // SAFETY: the callback uses nothing that it is given.
    unsafe { bpf_loop(STEPS, step as *mut c_void, core::ptr::null_mut(), 0) };
    if scratch.walk.whole == 0 {
        return;
    }
    let len = scratch.walk.len;
    let Some(mut record) = Record::new::<Part>() else { return };
    record.resume(len);
    let part: &mut Part = record.fixed();
    copy_head(core::ptr::from_ref(head).cast(), (&raw mut part.head).cast());
    part.head.kind = kind::PLACE;
    let parent: u64 = kernel::read(dentry, offset!(dentry_parent));
    let hashed: u64 = kernel::read(dentry, offset!(dentry_pprev));
    let root: u64 = kernel::read(mnt, offset!(vfsmount_root));
    part.head.flags = if hashed == 0 && (parent != dentry || root != dentry) { DELETED } else { 0 };
    part.what = what;
    part.len = (len - size_of::<Part>() as u64) as u32;
    part.total = u64::from(part.len);
    (part.socket, part.offset) = (0, 0);
    record.emit(false);
}

/// One name, or one mount: 0 to go on, 1 at the root.
#[inline(never)]
unsafe extern "C" fn step(_round: u64, _context: *mut c_void) -> u64 {
    let Some(scratch) = scratch() else { return 1 };
    let (dentry, mnt) = (scratch.walk.dentry, scratch.walk.mnt);
    let root: u64 = kernel::read(mnt, offset!(vfsmount_root));
    if dentry == root {
        let mount = mnt - u64::from(offset!(mount_mnt));
        let parent: u64 = kernel::read(mount, offset!(mount_parent));
        if parent == mount || parent == 0 {
            scratch.walk.whole = 1;
            return 1;
        }
        scratch.walk.dentry = kernel::read(mount, offset!(mount_mountpoint));
        scratch.walk.mnt = parent + u64::from(offset!(mount_mnt));
        return 0;
    }
    let Some(mut record) = Record::new::<Part>() else { return 1 };
    record.resume(scratch.walk.len);
    let name: u64 = kernel::read(dentry, offset!(dentry_name));
    record.kernel_text(name, 256);
    scratch.walk.len = record.len();
    let parent: u64 = kernel::read(dentry, offset!(dentry_parent));
    scratch.walk.dentry = parent;
    // What hangs nowhere has a name of its own (memfd_create(2)).
    if parent == dentry || parent == 0 {
        scratch.walk.whole = 1;
        return 1;
    }
    u64::from(scratch.walk.len > LONGEST)
}
