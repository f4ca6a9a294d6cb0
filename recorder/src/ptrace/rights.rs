//! Programs that are more than who starts them (set-uid, set-gid, file capabilities), and whether they can be here.
//!
//! The kernel gives no such right to a process with NO_NEW_PRIVS, which a filter needs where its installer lacks
//! CAP_SYS_ADMIN (seccomp(2)), nor to one whose tracer lacks CAP_SYS_PTRACE (execve(2); security/commoncap.c,
//! cap_bprm_creds_from_file).

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::observation::Tid;
use crate::proc::{field, number};

pub(super) const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

/// Whether programs that `tid` starts lose their rights because the calling thread records it.
pub(super) fn are_lost(tid: Tid) -> bool {
    let tracer = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let capabilities =
        field(&tracer, "CapEff:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let has = |capability: u32| capabilities.is_some_and(|mask| mask >> capability & 1 == 1);
    let tracee = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let had_none = number(&tracee, "NoNewPrivs:") == Some(1);
    let lacks_one = !has(CAP_SYS_PTRACE) || !has(CAP_SYS_ADMIN);
    lacks_one && !had_none
}

/// Whether the program that `tid` runs would be more than its user.
pub(super) fn would_be_more(tid: Tid) -> bool {
    let program = format!("/proc/{tid}/exe");
    let Ok(file) = fs::metadata(&program) else { return false };
    let set_uid = file.mode() & libc::S_ISUID != 0;
    // Without the right to execute, the bit stands for mandatory locks.
    let set_gid = file.mode() & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP;
    if !set_uid && !set_gid && !has_capabilities(&program) {
        return false;
    }
    if statvfs(program.as_str()).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOSUID)) {
        return false;
    }
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let effective = |name| status.lines().find_map(|line| line.strip_prefix(name)).and_then(second);
    let (uid, gid) = (effective("Uid:"), effective("Gid:"));
    (set_uid && uid != Some(file.uid()))
        || (set_gid && gid != Some(file.gid()))
        || (!set_uid && !set_gid && uid != Some(0))
}

/// Real, effective, saved, file system.
fn second(ids: &str) -> Option<u32> {
    ids.split_whitespace().nth(1)?.parse().ok()
}

fn has_capabilities(program: &str) -> bool {
    let Ok(program) = CString::new(program) else { return false };
    // SAFETY: both strings end with a NUL; nothing is written to a buffer of length 0 (getxattr(2)).
    let length = unsafe {
        libc::getxattr(program.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0)
    };
    length > 0
}
