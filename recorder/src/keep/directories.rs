//! Directories inside the roots that are no links, so that what happens there needs no look.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::look::Place;

/// Directories that are remembered. Beyond them all are forgotten, and looked at again.
const MAX_DIRECTORIES: usize = 20_000;

/// Physical paths of such directories. What processes outside of the session turn into a link meanwhile is not noticed.
#[derive(Debug, Default)]
pub(super) struct Directories(BTreeSet<Vec<u8>>);

impl Directories {
    /// Whether `place` is in one of them, and is no link that leads elsewhere.
    pub(super) fn hold(&self, place: &Place<'_>) -> bool {
        let Some(dir) = parent(place) else { return false };
        self.0.contains(dir) && (!place.follow || !place.is_symlink())
    }

    /// `place` was found at `real`, inside the roots.
    pub(super) fn add(&mut self, place: &Place<'_>, real: &Path) {
        let Some(dir) = parent(place) else { return };
        if real.as_os_str().as_bytes() == place.path && !self.0.contains(dir) {
            if self.0.len() >= MAX_DIRECTORIES {
                self.0.clear();
            }
            self.0.insert(dir.to_vec());
        }
    }

    /// Another directory, or a link, may come under this name.
    pub(super) fn forget(&mut self, path: &[u8]) {
        let below = |dir: &[u8]| {
            dir.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let from = (Bound::Included(path.to_vec()), Bound::Unbounded);
        let gone: Vec<_> =
            self.0.range(from).take_while(|dir| dir.starts_with(path)).cloned().collect();
        for dir in gone.iter().filter(|dir| below(dir)) {
            self.0.remove(dir);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The directory of a name; none where the same name may mean another one for another process.
fn parent<'p>(place: &Place<'p>) -> Option<&'p [u8]> {
    let end = place.path.iter().rposition(|&byte| byte == b'/')?;
    place.is_plain.then(|| &place.path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &'static str) -> Place<'static> {
        Place::named(path.as_bytes())
    }

    #[test]
    fn a_renamed_directory_is_forgotten_with_all_below() {
        let mut known = Directories::default();
        for path in ["/w/a/x", "/w/a/b/x", "/w/ab/x"] {
            known.add(&place(path), Path::new(path));
        }
        known.add(&place("/w/link/x"), Path::new("/w/real/x"));
        assert!(known.hold(&place("/w/a/y")) && known.hold(&place("/w/a/b/y")));
        assert!(!known.hold(&place("/w/link/y")));
        known.forget(b"/w/a");
        assert!(!known.hold(&place("/w/a/y")) && !known.hold(&place("/w/a/b/y")));
        assert!(known.hold(&place("/w/ab/y")));
    }
}
