//! Which files the living processes have open for writing, and which they have mapped, as the kernel tells it.
//!
//! Events name a file as it was called when it was opened; /proc names it as it is called now. It also knows of
//! descriptors that nobody saw come.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What /proc appends to the name of a file that has lost it.
const DELETED: &[u8] = b" (deleted)";

/// Files that are open for writing.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Those whose name is `wanted`.
    pub(super) paths: Vec<PathBuf>,
    /// Inodes of those that lost the name by which they were opened, and have others.
    pub(super) renamed: Vec<u64>,
}

/// The files that these processes have open for writing. A process that can't be asked has none.
pub(super) fn open_for_writing(
    pids: impl Iterator<Item = u32>,
    wanted: impl Fn(&Path) -> bool,
) -> Open {
    let mut open = Open::default();
    for pid in pids {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let link = descriptor.path();
            let Ok(path) = fs::read_link(&link) else { continue };
            if !path.is_absolute() {
                continue;
            }
            if path.as_os_str().as_bytes().ends_with(DELETED) {
                let file =
                    fs::metadata(&link).ok().filter(|file| file.is_file() && file.nlink() > 0);
                open.renamed.extend(file.map(|file| file.ino()));
            }
            if wanted(&path) && is_writable(pid, &descriptor.file_name().to_string_lossy()) {
                open.paths.push(path);
            }
        }
    }
    open.paths.sort();
    open.paths.dedup();
    open
}

fn is_writable(pid: u32, descriptor: &str) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// The files of these processes that are mapped shared and writable; none where one of them can't be asked.
pub(super) fn mapped(
    pids: impl Iterator<Item = u32>,
    wanted: impl Fn(&Path) -> bool,
) -> Option<Vec<PathBuf>> {
    let mut found = Vec::new();
    for pid in pids {
        let maps = match fs::read(format!("/proc/{pid}/maps")) {
            Ok(maps) => maps,
            // It has ended.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
        for line in maps.split(|&byte| byte == b'\n') {
            let mut fields = line.splitn(6, |&byte| byte == b' ');
            let (Some(rights), Some(path)) = (fields.nth(1), fields.nth(3)) else { continue };
            let path =
                PathBuf::from(std::ffi::OsString::from_vec(path.trim_ascii_start().to_vec()));
            if rights.starts_with(b"rw-s") && wanted(&path) && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    Some(found)
}
