//! Names made comparable: what is random in them, and what leads to the same file.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Names that are longer, as no file's can be (PATH_MAX), are cut by strace and by recorders, not all at one place.
pub const LONGEST_NAME: usize = 4000;

/// Bytes as text that shows every one of them, but for names that are too long to be any.
pub fn text(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(LONGEST_NAME)].escape_ascii().to_string()
}

/// A part of a name that programs choose at random.
struct Random {
    /// What stands before it.
    before: &'static str,
    /// How many characters of letters, digits and `_` it has; 0 for any number of digits.
    length: usize,
}

/// Names that differ from run to run, whoever records them. Nothing else may be made equal.
const RANDOM: &[Random] = &[
    // gcc's temporary files: /tmp/ccXXXXXX.s
    Random { before: "/cc", length: 6 },
    // git's objects, packs and indices before they get their names.
    Random { before: "/tmp_obj_", length: 6 },
    Random { before: "/tmp_pack_", length: 6 },
    Random { before: "/tmp_idx_", length: 6 },
    Random { before: "/tmp_rev_", length: 6 },
    // git names the process that is to keep a pack.
    Random { before: "fetch-pack ", length: 0 },
    // The kernel's numbers of what has no name.
    Random { before: "pipe:[", length: 0 },
    Random { before: "socket:[", length: 0 },
    // git tries whether the file system has links.
    Random { before: "/.git/t", length: 6 },
    // Python's tempfile: named by it, and the file by which it tries a directory.
    Random { before: "/tmp", length: 8 },
    Random { before: "/tmp/", length: 8 },
    // Python writes a module's cache beside itself, named by an address (importlib's _write_atomic).
    Random { before: ".pyc.", length: 0 },
    // pip, which writes what belongs to a package beside itself, too.
    Random { before: "/pip-build-tracker-", length: 8 },
    Random { before: "/pip-build-tracker-*/", length: 56 },
    Random { before: "/pip-ephem-wheel-cache-", length: 8 },
    Random { before: "/pip-install-", length: 8 },
    Random { before: "/pip-unpack-", length: 8 },
    Random { before: ".dist-info/INSTALLER", length: 8 },
    Random { before: ".dist-info/RECORD", length: 8 },
    Random { before: ".dist-info/REQUESTED", length: 8 },
];

/// `text` without what is random in it.
pub fn stable(text: &str) -> String {
    let mut text = text.to_owned();
    for Random { before, length } in RANDOM {
        let mut from = 0;
        while let Some(at) = text[from..].find(before) {
            let start = from + at + before.len();
            let rest = &text[start..];
            let belongs = |c: char| match length {
                0 => c.is_ascii_digit(),
                _ => c.is_ascii_alphanumeric() || c == '_',
            };
            let len = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
            if len > 0 && (*length == 0 || len == *length) {
                text.replace_range(start..start + len, "*");
            }
            from = start;
        }
    }
    text
}

/// The path that a name means in a directory: as the process meant it, links not followed. A `..` takes away what
/// is before it where that is no symbolic link, since only then it leads there.
pub fn absolute(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = if name.starts_with(b"/") { Vec::new() } else { directory.to_vec() };
    if path == b"/" {
        path.clear();
    }
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if path.ends_with(b"/..") || is_link(&path) => path.extend(b"/.."),
            b".." => path.truncate(path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            _ => path.extend([b"/", part].concat()),
        }
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

fn is_link(path: &[u8]) -> bool {
    fs::symlink_metadata(OsStr::from_bytes(path)).is_ok_and(|found| found.is_symlink())
}

/// What a path leads to, links followed. A descriptor's name is that, a name that it was opened by need not be: where
/// both can name the same file, both are compared in this form. As of now, which is after the run.
pub fn physical(path: &[u8]) -> Vec<u8> {
    let path = Path::new(OsStr::from_bytes(path));
    // Of what is no longer there, as much as is.
    let found = path.ancestors().find_map(|ancestor| {
        let rest = path.strip_prefix(ancestor).expect("it is an ancestor");
        let found = ancestor.canonicalize().ok()?;
        Some(if rest.as_os_str().is_empty() { found } else { found.join(rest) })
    });
    found.unwrap_or_else(|| path.to_owned()).into_os_string().into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_random_goes() {
        assert_eq!(stable("open /tmp/ccA1b2C3.s w"), "open /tmp/cc*.s w");
        assert_eq!(stable("/usr/libexec/gcc/cc1 /ccompiler"), "/usr/libexec/gcc/cc1 /ccompiler");
        assert_eq!(stable("/o/tmp_obj_a1B2c3 /o/tmp_obj_list"), "/o/tmp_obj_* /o/tmp_obj_list");
        assert_eq!(stable("/tmp/tmpab_d3f9h/x"), "/tmp/tmp*/x");
    }

    #[test]
    fn names_are_seen_from_their_directory() {
        let seen = |name: &str| text(&absolute(b"/w", name.as_bytes()));
        assert_eq!(seen("a/./b//c"), "/w/a/b/c");
        assert_eq!(seen("../x"), "/x");
        assert_eq!(seen("/etc/../x"), "/x");
        assert_eq!(seen("../../.."), "/");
        // A link on every Linux.
        assert_eq!(seen("/proc/self/../x"), "/proc/self/../x");
    }
}
