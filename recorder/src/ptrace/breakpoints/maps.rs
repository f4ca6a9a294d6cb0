//! Which files a process has mapped to execute (`maps` in proc_pid_maps(5)).

use std::fs;
use std::ops::Range;

use crate::observation::Tid;

/// A piece of a file in a process's memory, private to it, that it can execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) memory: Range<u64>,
    /// Where in the file it begins.
    pub(super) offset: u64,
    /// Device number. File systems with several devices show another one than stat(2).
    pub(super) dev: u64,
    pub(super) ino: u64,
    /// As the kernel prints it: newlines as `\012`, and ` (deleted)` behind what is.
    pub(super) path: Vec<u8>,
}

/// What a process has mapped to execute.
pub(super) fn executable(tid: Tid) -> Vec<Mapping> {
    let text = fs::read(format!("/proc/{tid}/maps")).unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter_map(mapping).collect()
}

fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|&byte| byte == b' ')?;
        let (field, behind) = rest.split_at(end);
        rest = &behind[1..];
        std::str::from_utf8(field).ok()
    };
    let (start, end) = field()?.split_once('-')?;
    let permissions = field()?;
    if permissions.get(2..) != Some("xp") {
        return None;
    }
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let memory = hex(start)?..hex(end)?;
    let offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let dev = libc::makedev(hex(major)? as u32, hex(minor)? as u32);
    let ino = field()?.parse().ok()?;
    let path = rest.trim_ascii_start();
    path.starts_with(b"/").then(|| Mapping { memory, offset, dev, ino, path: path.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_code_of_files() {
        let code =
            b"7fde1a240000-7fde1a243000 r-xp 00001000 fd:01 1234  /lib/with a space.so (deleted)";
        let expected = Mapping {
            memory: 0x7fde_1a24_0000..0x7fde_1a24_3000,
            offset: 0x1000,
            dev: libc::makedev(0xfd, 1),
            ino: 1234,
            path: b"/lib/with a space.so (deleted)".to_vec(),
        };
        assert_eq!(mapping(code), Some(expected));
        for line in [
            &b"7fde1a240000-7fde1a243000 r--p 00001000 fd:01 1234 /lib/a.so"[..],
            b"7fde1a240000-7fde1a243000 r-xs 00001000 fd:01 1234 /lib/a.so",
            b"7fde1a240000-7fde1a243000 r-xp 00000000 00:00 0 ",
            b"7fff6d5c7000-7fff6d5c9000 r-xp 00000000 00:00 0 [vdso]",
            b"",
        ] {
            assert_eq!(mapping(line), None);
        }
    }

    #[test]
    fn this_program_is_among_them() {
        let own = std::env::current_exe().unwrap().canonicalize().unwrap();
        let own = own.into_os_string().into_encoded_bytes();
        let function = only_private_code_of_files as fn() as usize as u64;
        let found = executable(std::process::id() as Tid);
        assert!(found.iter().any(|it| it.path == own && it.memory.contains(&function)));
    }
}
