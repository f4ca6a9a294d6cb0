//! Absolute paths out of what processes say: joined and cleaned without asking the kernel where that is safe.
//!
//! `.` and repeated slashes go. A `..` takes its predecessor with it when that is known to be a directory and no
//! symbolic link: the base is physical, so leading ones always are. After a name that is a link, `..` is kept:
//! the kernel follows the link first, so `link/../x` names another file than `x`.

use std::os::fd::RawFd;

/// `path` as seen from the directory `base` by who has `root` as root (empty where that is the recorder's); both are
/// absolute and physical. `is_symlink` is asked about names of `path` that a `..` follows.
pub(super) fn absolute(
    root: &[u8],
    base: &[u8],
    path: &[u8],
    mut is_symlink: impl FnMut(&[u8]) -> bool,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(base.len() + path.len() + 1);
    out.extend_from_slice(if path.first() == Some(&b'/') { root } else { base });
    trim_slash(&mut out);
    // What came from `base` needs no question.
    let mut physical = out.len();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                let kept = out.len() > physical && (last_name(&out) == b".." || is_symlink(&out));
                if out == root {
                    // The root's parent is the root itself (path_resolution(7)).
                } else if kept {
                    out.extend_from_slice(b"/..");
                } else {
                    out.truncate(out.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
                    physical = physical.min(out.len());
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// The descriptor that a name leads to by the kernel's own links (proc_pid_fd(5)), and what follows it in the name.
pub(super) fn descriptor(path: &[u8]) -> Option<(RawFd, &[u8])> {
    for (name, fd) in [(&b"/dev/stdin"[..], 0), (b"/dev/stdout", 1), (b"/dev/stderr", 2)] {
        if path == name {
            return Some((fd, b""));
        }
    }
    let directories = [&b"/dev/fd/"[..], b"/proc/self/fd/", b"/proc/thread-self/fd/"];
    let rest = directories.into_iter().find_map(|directory| path.strip_prefix(directory))?;
    let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    let fd = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let below = rest[end..].iter().position(|&byte| byte != b'/');
    Some((fd, below.map_or(b"", |below| &rest[end + below..])))
}

/// Whether `path` is `dir` or below it.
pub(super) fn is_within(path: &[u8], dir: &[u8]) -> bool {
    match path.strip_prefix(dir) {
        Some(rest) => rest.is_empty() || rest[0] == b'/' || dir == b"/",
        None => false,
    }
}

/// `path` after `from` became `to`; None where that doesn't touch it.
pub(super) fn renamed(path: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    is_within(path, from).then(|| [to, &path[from.len()..]].concat())
}

fn trim_slash(path: &mut Vec<u8>) {
    if path.last() == Some(&b'/') {
        path.pop();
    }
}

fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(base: &str, path: &str, links: &[&str]) -> String {
        let is_link = |name: &[u8]| links.iter().any(|link| link.as_bytes() == name);
        String::from_utf8(absolute(b"", base.as_bytes(), path.as_bytes(), is_link)).unwrap()
    }

    #[test]
    fn joins_and_cleans() {
        assert_eq!(clean("/w", "a/./b//c/", &[]), "/w/a/b/c");
        assert_eq!(clean("/w", "/etc/passwd", &[]), "/etc/passwd");
        assert_eq!(clean("/", "a", &[]), "/a");
        assert_eq!(clean("/w", ".", &[]), "/w");
        assert_eq!(clean("/w", "/", &[]), "/");
        assert_eq!(clean("/w", "/..", &[]), "/");
    }

    #[test]
    fn leading_dots_leave_the_physical_base_without_a_question() {
        assert_eq!(clean("/a/b", "../c", &["/a/b"]), "/a/c");
        assert_eq!(clean("/a/b", "../../../c", &["/a"]), "/c");
    }

    #[test]
    fn dots_after_a_link_stay() {
        assert_eq!(clean("/w", "d/../x", &[]), "/w/x");
        assert_eq!(clean("/w", "link/../x", &["/w/link"]), "/w/link/../x");
        assert_eq!(clean("/w", "link/../../x", &["/w/link"]), "/w/link/../../x");
        // Back into a part that came from `path` after having left the base.
        assert_eq!(clean("/a/b", "../link/../x", &["/a/link"]), "/a/link/../x");
    }

    #[test]
    fn another_root_stands_in_front_and_is_its_own_parent() {
        let clean = |base: &[u8], path: &[u8]| {
            String::from_utf8(absolute(b"/jail", base, path, |_| false)).unwrap()
        };
        assert_eq!(clean(b"/jail/w", b"/etc/passwd"), "/jail/etc/passwd");
        assert_eq!(clean(b"/jail/w", b"/../../x"), "/jail/x");
        assert_eq!(clean(b"/jail/w", b"../../x"), "/jail/x");
        assert_eq!(clean(b"/jail/w", b"/"), "/jail");
        // A working directory outside (chroot(2) doesn't change it).
        assert_eq!(clean(b"/home", b"../x"), "/x");
    }

    #[test]
    fn the_kernels_links_lead_to_descriptors() {
        assert_eq!(descriptor(b"/proc/self/fd/3"), Some((3, &b""[..])));
        assert_eq!(descriptor(b"/proc/thread-self/fd/12//a/b"), Some((12, &b"a/b"[..])));
        assert_eq!(descriptor(b"/dev/fd/63"), Some((63, &b""[..])));
        assert_eq!(descriptor(b"/dev/stderr"), Some((2, &b""[..])));
        assert_eq!(descriptor(b"/proc/self/fd"), None);
        assert_eq!(descriptor(b"/proc/self/fd/x"), None);
        assert_eq!(descriptor(b"/dev/stdin2"), None);
    }

    #[test]
    fn renames_reach_below_and_not_beside() {
        assert_eq!(renamed(b"/a/b/c", b"/a/b", b"/z").unwrap(), b"/z/c");
        assert_eq!(renamed(b"/a/b", b"/a/b", b"/z").unwrap(), b"/z");
        assert_eq!(renamed(b"/a/bc", b"/a/b", b"/z"), None);
    }
}
