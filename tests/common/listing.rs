//! What a directory looks like, to compare it with itself at another time.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Everything below a directory: path, kind, mode, time, content or target, and which names are one file.
pub fn listing(root: &Path) -> Vec<String> {
    type Seen = HashMap<u64, PathBuf>;
    fn walk(root: &Path, dir: &Path, seen: &mut Seen, lines: &mut Vec<String>) {
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
                // To read it would be to wait.
                kind if kind.is_fifo() => "|".to_owned(),
                _ => String::from_utf8_lossy(&fs::read(&path).expect("readable")).into_owned(),
            };
            let name = path.strip_prefix(root).expect("below");
            let first = seen.entry(metadata.ino()).or_insert_with(|| name.to_owned());
            lines.push(format!(
                "{} {:o} {}.{:09} x{} {content:?} {}",
                name.display(),
                metadata.mode(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                if metadata.is_dir() { 0 } else { metadata.nlink() },
                first.display(),
            ));
            if metadata.is_dir() {
                walk(root, &path, seen, lines);
            }
        }
    }
    let mut lines = Vec::new();
    walk(root, root, &mut HashMap::new(), &mut lines);
    lines
}
