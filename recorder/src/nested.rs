//! A recording inside of a recording: the inner command is part of the outer session, so it is only run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::control::Client;
use crate::setup::SOCKET;

/// Whether this process belongs to the tree of a session that is being recorded.
///
/// The variable alone says little: it may be left over from a session that has ended, or have been handed on to a
/// process outside of the tree. Where it is gone (`env -i`), the sockets are asked of who traces us, and of
/// recorders beside our ancestors.
pub(crate) fn inside_of_recording() -> bool {
    let own = std::env::var_os(SOCKET).map(PathBuf::from);
    own.is_some_and(|socket| is_inside(&socket))
        || tracer().into_iter().chain(recorders_above()).any(|recorder| {
            sockets_of(recorder).unwrap_or_default().iter().any(|socket| is_inside(socket))
        })
}

fn is_inside(socket: &Path) -> bool {
    Client::connect(socket).and_then(|mut client| client.status()).is_ok_and(|status| status.inside)
}

/// Who traces this process.
fn tracer() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    tracer.trim().parse().ok().filter(|&tracer| tracer != 0)
}

/// Processes that run the same program as this one, and have the same parent as an ancestor of ours: so does a recorder that
/// traces nobody, beside the command.
fn recorders_above() -> Vec<u32> {
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program(std::process::id());
    let mut found = Vec::new();
    let mut above = std::process::id();
    while let Some(parent) = parent(above).filter(|&parent| parent != 0) {
        let children = format!("/proc/{parent}/task/{parent}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        found.extend(
            children.filter(|&child| child != above && own.is_some() && program(child) == own),
        );
        above = parent;
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(") ")?;
    behind_name.split(' ').nth(1)?.parse().ok()
}

/// The sockets of sessions that a process listens on, as far as we may see them.
fn sockets_of(pid: u32) -> Option<Vec<PathBuf>> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let targets: Vec<_> = links.filter_map(|link| fs::read_link(link.path()).ok()).collect();
    // Num RefCount Protocol Flags Type St Inode Path (unix(7)).
    let listed = fs::read_to_string(format!("/proc/{pid}/net/unix")).ok()?;
    let sockets = listed.lines().filter_map(|line| {
        let (inode, path) =
            line.split_whitespace().nth(6).zip(line.split_once(" /").map(|(_, path)| path))?;
        let path = Path::new("/").join(path);
        let ours =
            targets.iter().any(|link| link.as_os_str() == OsStr::new(&format!("socket:[{inode}]")));
        (ours && path.extension() == Some(OsStr::new("sock"))).then_some(path)
    });
    Some(sockets.collect())
}
