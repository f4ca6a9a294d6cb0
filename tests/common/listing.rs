//! What a directory looks like, to compare it with itself at another time.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Everything below a directory: path, kind, mode, time, content or target, and which names are one file.
pub fn listing(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, lines: &mut Vec<String>) {
        let mut entries: Vec<_> =
            fs::read_dir(dir).expect("there").map(|e| e.expect("readable").path()).collect();
        entries.sort();
        for path in entries {
            let metadata = path.symlink_metadata().expect("there");
            let content = match metadata.file_type() {
                kind if kind.is_symlink() => {
                    format!("-> {}", fs::read_link(&path).expect("a link").display())
                }
                kind if kind.is_dir() => "/".to_owned(),
                _ => String::from_utf8_lossy(&fs::read(&path).expect("readable")).into_owned(),
            };
            lines.push(format!(
                "{} {:o} {}.{:09} x{} {content:?}",
                path.strip_prefix(root).expect("below").display(),
                metadata.mode(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                if metadata.is_dir() { 0 } else { metadata.nlink() },
            ));
            if metadata.is_dir() {
                walk(root, &path, lines);
            }
        }
    }
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines
}
