//! Gives a resumed agent its present credentials: the old ones may have been replaced, and are in no bundle.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentrec_store::{Kind, Objects, TreeBudget};
use agentrec_trace::ObjectId;
use nix::libc::O_NOFOLLOW;

use crate::error::Result;
use crate::restore::Restored;
use crate::snapshot::Root;

/// Longer files hold more than credentials, in bytes.
const MAX_LEN: u64 = 1 << 20;

/// What a database begins with. It holds the conversations too, which are to be those of the snapshot.
const DATABASE: &[u8] = b"SQLite format 3\0";

/// Puts the files that hold secrets below `root`, as they are now, into the copy that was restored of its state. What is not there
/// any more stays as it was.
pub(crate) fn renew(
    objects: &dyn Objects,
    root: &Root,
    copy: &Path,
    restored: &mut Restored,
) -> Result<()> {
    let mut secret = Vec::new();
    find(objects, root.tree, Path::new(""), &mut TreeBudget::default(), &mut secret)?;
    for path in secret {
        // Where it can't be read or written the agent may have to log in again, and can still run.
        if let Ok(Some(content)) = present(&root.path.join(&path))
            && replace(&copy.join(&path), &content).is_ok()
        {
            restored.missing.retain(|missing| missing.path != path);
        }
    }
    Ok(())
}

/// The secret files in a tree, relative to its root.
fn find(
    objects: &dyn Objects,
    tree: ObjectId,
    path: &Path,
    budget: &mut TreeBudget,
    found: &mut Vec<PathBuf>,
) -> Result<()> {
    // What is not here was not restored either.
    let Ok(tree) = budget.load(objects, tree, path.components().count()) else { return Ok(()) };
    for entry in &tree.entries {
        let path = path.join(entry.os_name());
        match (entry.kind, entry.id) {
            (Kind::Dir, Some(id)) => find(objects, id, &path, budget, found)?,
            (Kind::File, Some(_)) if entry.secret => found.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// What stands in a file now, where that is nothing but credentials.
fn present(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Neither a link nor a FIFO, which would be waited for.
    if !path.symlink_metadata()?.is_file() {
        return Ok(None);
    }
    let mut content = Vec::new();
    File::open(path)?.take(MAX_LEN + 1).read_to_end(&mut content)?;
    Ok((content.len() as u64 <= MAX_LEN && !content.starts_with(DATABASE)).then_some(content))
}

/// Every directory on the way was made by the restore, from the same tree.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(O_NOFOLLOW);
    options.open(path)?.write_all(content)
}
