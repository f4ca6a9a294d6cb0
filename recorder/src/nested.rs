//! A recording inside of a recording: the inner command is part of the outer session, so it is only run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::control::Client;
use crate::setup::SOCKET;

/// Whether this process belongs to the tree of a session that is being recorded.
///
/// The variable alone says little: it may be left over from a session that has ended, or have been handed on to a
/// process outside of the tree. Where it is gone (`env -i`), but a recorder traces us, its own sockets are asked.
pub(crate) fn inside_of_recording() -> bool {
    let own = std::env::var_os(SOCKET).map(PathBuf::from);
    own.is_some_and(|socket| is_inside(&socket))
        || sockets_of_tracer().unwrap_or_default().iter().any(|socket| is_inside(socket))
}

fn is_inside(socket: &Path) -> bool {
    Client::connect(socket).and_then(|mut client| client.status()).is_ok_and(|status| status.inside)
}

/// The sockets of sessions that our tracer listens on, as far as we may see them; none where nobody traces us.
fn sockets_of_tracer() -> Option<Vec<PathBuf>> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim();
    if tracer == "0" {
        return None;
    }
    let links = fs::read_dir(format!("/proc/{tracer}/fd")).ok()?.flatten();
    let targets: Vec<_> = links.filter_map(|link| fs::read_link(link.path()).ok()).collect();
    // Num RefCount Protocol Flags Type St Inode Path (unix(7)).
    let listed = fs::read_to_string(format!("/proc/{tracer}/net/unix")).ok()?;
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
