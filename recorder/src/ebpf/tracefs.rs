//! Where the kernel tells the numbers of its tracepoints: tracefs, which is not mounted everywhere.

use std::path::Path;
use std::{io, panic, thread};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where it belongs, and where it was before Linux 4.1 (Documentation/trace/ftrace.rst).
pub const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Calls `work` where tracefs can be seen.
///
/// Where nobody mounted it (containers, small images) it is mounted for `work` alone, which then runs on a thread with a
/// mount namespace of its own.
pub fn within<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if is_mounted() {
        return Ok(work());
    }
    let on_its_own = || -> io::Result<T> {
        mount_for_this_thread()?;
        Ok(work())
    };
    thread::scope(|scope| match scope.spawn(on_its_own).join() {
        Ok(done) => done,
        Err(panicked) => panic::resume_unwind(panicked),
    })
}

/// Whether it can be seen as it is.
pub(crate) fn is_mounted() -> bool {
    PLACES.iter().any(|place| Path::new(place).join("events").exists())
}

fn mount_for_this_thread() -> nix::Result<()> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Else the mount would spread to everybody whose mounts are shared with ours (mount_namespaces(7)).
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
    mount(Some("tracefs"), PLACES[0], Some("tracefs"), MsFlags::empty(), nothing)
}
