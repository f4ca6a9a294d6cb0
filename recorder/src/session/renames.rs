//! Directories that were renamed since the last snapshot: by which names what lies in them was, and is, to be found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// So many renames are followed, and so many names of one path. Where there are more, what was renamed is looked at as something new.
pub(super) const MAX_RENAMES: usize = 1000;

type Ways = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// All renames since the last snapshot, in whatever order they were made: two processes that rename at the same time are not
/// always told of in the kernel's order, so any name counts that one of them may have led to.
#[derive(Debug, Default)]
pub(super) struct Renames {
    later: Ways,
    earlier: Ways,
    count: usize,
}

impl Renames {
    /// Adds one, by real paths.
    pub(super) fn add(&mut self, from: PathBuf, to: PathBuf) {
        self.count += 1;
        if self.count <= MAX_RENAMES {
            self.later.entry(from.clone()).or_default().insert(to.clone());
            self.earlier.entry(to).or_default().insert(from);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The names that what was called `path` at some time may have had after that, itself among them.
    ///
    /// None where there are too many.
    pub(super) fn later(&self, path: &Path) -> Option<BTreeSet<PathBuf>> {
        self.names(&self.later, path)
    }

    /// The names that what is called `path` at some time may have had before that, itself among them.
    ///
    /// None where there are too many.
    pub(super) fn earlier(&self, path: &Path) -> Option<BTreeSet<PathBuf>> {
        self.names(&self.earlier, path)
    }

    /// Every directory that was renamed, by each name that it may have now, and the names that it may have had.
    ///
    /// None where there are too many.
    pub(super) fn all(&self) -> Option<BTreeMap<PathBuf, BTreeSet<PathBuf>>> {
        let mut all = BTreeMap::new();
        for to in self.earlier.keys() {
            for now in self.later(to)? {
                let before = self.earlier(&now)?;
                all.insert(now, before);
            }
        }
        Some(all)
    }

    fn names(&self, ways: &Ways, path: &Path) -> Option<BTreeSet<PathBuf>> {
        if self.count > MAX_RENAMES {
            return None;
        }
        let mut names = BTreeSet::from([path.to_owned()]);
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            for above in path.ancestors() {
                let rest = path.strip_prefix(above).expect("it is above");
                for other in ways.get(above).into_iter().flatten() {
                    let name: PathBuf = other.components().chain(rest.components()).collect();
                    if names.insert(name.clone()) {
                        open.push(name);
                    }
                }
            }
            // Directories that were moved into each other in turn have names without end.
            if names.len() > MAX_RENAMES {
                return None;
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renames(all: &[(&str, &str)]) -> Renames {
        let mut renames = Renames::default();
        all.iter().for_each(|(from, to)| renames.add(from.into(), to.into()));
        renames
    }

    fn text(names: BTreeSet<PathBuf>) -> String {
        names.iter().map(|name| name.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_path_is_followed_through_all_names_of_what_it_lies_in() {
        let renames = renames(&[("/a", "/b"), ("/b/c", "/b/d"), ("/b", "/e")]);
        assert_eq!(
            text(renames.later(Path::new("/a/c/x")).unwrap()),
            "/a/c/x /b/c/x /b/d/x /e/c/x /e/d/x"
        );
        assert_eq!(text(renames.later(Path::new("/e/x")).unwrap()), "/e/x");
        let all = renames.all().unwrap();
        assert_eq!(text(all[Path::new("/e")].clone()), "/a /b /e");
        assert_eq!(text(all[Path::new("/e/d")].clone()), "/a/c /a/d /b/c /b/d /e/d");
    }

    #[test]
    fn names_without_end_are_given_up() {
        let circle = renames(&[("/a", "/b/a"), ("/b", "/a/b")]);
        assert!(circle.later(Path::new("/a/x")).is_none() && circle.all().is_none());
        let mut many = Renames::default();
        (0..=MAX_RENAMES).for_each(|n| many.add(format!("/{n}").into(), "/to".into()));
        assert!(many.all().is_none());
    }
}
