//! Where the paths that a program with private mounts sees really are.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::PrivateMount;

/// Maps paths as the program sees them to where they are for everybody else.
///
/// The recorder stays outside the program's mount namespace, so every path from an event goes through here before
/// it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathMap {
    /// Visible and real path, deepest visible path first.
    mounts: Vec<(PathBuf, PathBuf)>,
}

impl PathMap {
    /// The map of a plan's mounts.
    pub fn new(mounts: &[PrivateMount]) -> Self {
        let mut mounts: Vec<_> =
            mounts.iter().map(|mount| (mount.target.clone(), mount.source.clone())).collect();
        mounts.sort_by_key(|(visible, _)| std::cmp::Reverse(visible.components().count()));
        Self { mounts }
    }

    /// Where `visible` really is.
    pub fn real<'a>(&self, visible: &'a Path) -> Cow<'a, Path> {
        for (target, source) in &self.mounts {
            if let Ok(rest) = visible.strip_prefix(target) {
                // `join("")` would add a slash, which means "must be a directory" to the kernel.
                return if rest.as_os_str().is_empty() {
                    Cow::Owned(source.clone())
                } else {
                    Cow::Owned(source.join(rest))
                };
            }
        }
        Cow::Borrowed(visible)
    }

    /// Whether all paths are what they seem.
    pub fn is_identity(&self) -> bool {
        self.mounts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, target: &str) -> PrivateMount {
        PrivateMount { source: source.into(), target: target.into() }
    }

    #[test]
    fn the_deepest_mount_wins_and_only_whole_components_count() {
        let map = PathMap::new(&[mount("/copy/a", "/home/u/a"), mount("/copy/b", "/home/u/a/b")]);
        let real =
            |path: &str| map.real(Path::new(path)).into_owned().into_os_string().into_string();
        assert_eq!(real("/home/u/a"), Ok("/copy/a".into()));
        assert_eq!(real("/home/u/a/x"), Ok("/copy/a/x".into()));
        assert_eq!(real("/home/u/a/b/x"), Ok("/copy/b/x".into()));
        assert_eq!(real("/home/u/ab"), Ok("/home/u/ab".into()));
    }
}
