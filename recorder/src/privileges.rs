//! With whose rights things are done (capabilities(7)).
//!
//! Everything is done as the user who started us. What the eBPF engine needs beyond that are capabilities that lie ready in the
//! permitted set, from sudo or from the file (`agentrec setup`), and are in force while its programs are loaded, in the
//! recorder alone. The command has none of them.

use std::env;
use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl::set_dumpable;
use nix::unistd::{Uid, User, geteuid, initgroups, setresgid, setresuid};

use crate::observation::split_nul;

/// What it takes to load the programs and to attach them: CAP_NET_ADMIN for those that lead connections, CAP_DAC_READ_SEARCH to read
/// tracefs, CAP_SYS_ADMIN to mount it where it is not, and for functions of TLS libraries.
const FOR_LOADING: [Capability; 5] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SYS_ADMIN,
];

/// What a recorder keeps ready: a library's functions are probed when a process maps it, which took CAP_PERFMON at first and takes
/// CAP_SYS_ADMIN since a probe inside of an instruction was found to change what a program does (kernel/events/core.c,
/// `perf_uprobe_event_init`).
const WHILE_RECORDING: [Capability; 3] =
    [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN];

/// What of that is in force: before Linux 5.19 who only looks into maps needs it (kernel/bpf/syscall.c, `__sys_bpf`).
const IN_FORCE: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];

/// Where a file's capabilities are (capabilities(7)).
const ATTRIBUTE: &str = "security.capability";

/// The names of the capabilities that [`give_to_file`] gives.
pub fn of_file() -> Vec<String> {
    FOR_LOADING.iter().map(ToString::to_string).collect()
}

/// Gives a program's file what the eBPF engine needs: permitted, and not in force before [`with_rights`].
///
/// # Errors
/// Where this process is not root, or the file system keeps no extended attributes.
pub fn give_to_file(program: &Path) -> io::Result<()> {
    /// `struct vfs_cap_data` (include/uapi/linux/capability.h), without its flag for "in force at once".
    const VFS_CAP_REVISION_2: u32 = 0x0200_0000;
    let permitted: u64 = FOR_LOADING.iter().map(Capability::bitmask).sum();
    let (low, high) = (permitted as u32, (permitted >> 32) as u32);
    let data = [VFS_CAP_REVISION_2, low, 0, high, 0].map(u32::to_le_bytes);
    xattr::set(program, ATTRIBUTE, data.as_flattened())
}

/// Takes them away again; fine where it has none.
///
/// # Errors
/// Where this process is not root.
pub fn take_from_file(program: &Path) -> io::Result<()> {
    match xattr::remove(program, ATTRIBUTE) {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(()),
        done => done,
    }
}

/// Who called sudo, where this process is root by it.
pub fn caller() -> Option<User> {
    let uid = env::var("SUDO_UID").ok()?.parse().map(Uid::from_raw).ok()?;
    if !geteuid().is_root() || uid.is_root() {
        return None;
    }
    User::from_uid(uid).ok().flatten()
}

/// Becomes that user for good, with the groups that belong to it; what the eBPF engine needs lies ready.
///
/// # Errors
/// Where the kernel refuses, as in a container without the right to change users.
pub fn become_user(user: &User) -> io::Result<()> {
    let name = CString::new(user.name.as_bytes())?;
    let kept = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    caps::securebits::set_keepcaps(true).map_err(io::Error::other)?;
    initgroups(&name, user.gid)?;
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    caps::securebits::set_keepcaps(false).map_err(io::Error::other)?;
    // The change of the user has emptied the effective set.
    permit(&kept.intersection(&FOR_LOADING.into()).copied().collect())
}

/// Where this process has capabilities that its user has not, puts them aside.
///
/// # Errors
/// Where the kernel does not say what it has.
pub fn settle() -> io::Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    if permitted.is_empty() {
        return Ok(());
    }
    enforce(&CapsHashSet::new())?;
    permit(&permitted.intersection(&FOR_LOADING.into()).copied().collect())
}

/// Whether the eBPF engine's programs may load, as far as rights go.
pub fn may_load() -> bool {
    // Who is root in a user namespace alone may not (user_namespaces(7)).
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return false;
    }
    let has = |capability| caps::has_cap(None, CapSet::Permitted, capability).unwrap_or(false);
    has(Capability::CAP_BPF) && has(Capability::CAP_PERFMON) || has(Capability::CAP_SYS_ADMIN)
}

/// The same, to watch what runs already. Others' processes are shown to root alone.
pub(crate) fn may_attach() -> bool {
    geteuid().is_root() && may_load()
}

/// The environment that this process was started with. A program with capabilities of its own is not given all of it
/// (ld.so(8), "Secure-execution mode"), but its children shall have it.
pub fn environment() -> Vec<(OsString, OsString)> {
    let privileged = !geteuid().is_root() && may_load();
    let whole = if privileged { with_rights(|| fs::read("/proc/self/environ")).ok() } else { None };
    let Some(whole) = whole else { return env::vars_os().collect() };
    let pair = |variable: &[u8]| {
        let at = variable.iter().skip(1).position(|&byte| byte == b'=')? + 1;
        let (name, value) = (variable[..at].to_vec(), variable[at + 1..].to_vec());
        Some((OsString::from_vec(name), OsString::from_vec(value)))
    };
    split_nul(&whole).filter_map(pair).collect()
}

/// Calls `work` with all rights that lie ready.
pub(crate) fn with_rights<T>(work: impl FnOnce() -> T) -> T {
    // Root has them in force.
    if geteuid().is_root() {
        return work();
    }
    let in_force = caps::read(None, CapSet::Effective).unwrap_or_default();
    // Where they can't be had, `work` finds out, and says so better.
    let _ = caps::read(None, CapSet::Permitted).map(|all| enforce(&all));
    let done = work();
    let _ = enforce(&in_force);
    done
}

/// Keeps of the rights what a recorder needs whose programs are loaded.
pub(crate) fn keep_while_recording() -> io::Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let kept = permitted.intersection(&WHILE_RECORDING.into()).copied().collect();
    let in_force = permitted.intersection(&IN_FORCE.into()).copied().collect();
    // None may be in force that is not permitted.
    enforce(&in_force)?;
    permit(&kept)
}

/// Gives up what the user has not: from here on this is a process like any of theirs, which they may look at and trace.
pub(crate) fn drop_all() -> io::Result<()> {
    let had = !geteuid().is_root()
        && !caps::read(None, CapSet::Permitted).map_err(io::Error::other)?.is_empty();
    if !had {
        return Ok(());
    }
    enforce(&CapsHashSet::new())?;
    permit(&CapsHashSet::new())?;
    // Not to be looked into is who changed users, or has a file's capabilities (prctl(2), PR_SET_DUMPABLE).
    Ok(set_dumpable(true)?)
}

fn enforce(set: &CapsHashSet) -> io::Result<()> {
    caps::set(None, CapSet::Effective, set).map_err(io::Error::other)
}

fn permit(set: &CapsHashSet) -> io::Result<()> {
    caps::set(None, CapSet::Permitted, set).map_err(io::Error::other)
}
