//! Paths, each kept once.

use std::collections::HashMap;
use std::sync::Arc;

/// A path of this analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u32);

impl PathId {
    /// Before all others.
    pub const MIN: Self = Self(0);
    /// After all others.
    pub const MAX: Self = Self(u32::MAX);
}

/// All paths that events named.
#[derive(Debug, Default)]
pub struct Paths {
    ids: HashMap<Arc<[u8]>, PathId>,
    list: Vec<Arc<[u8]>>,
}

impl Paths {
    /// The id of `path`, known or new.
    pub fn intern(&mut self, path: &[u8]) -> PathId {
        if let Some(&id) = self.ids.get(path) {
            return id;
        }
        let shared: Arc<[u8]> = path.into();
        // Four thousand million distinct paths would need more memory than there is before this saturates.
        let id = PathId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(Arc::clone(&shared));
        self.ids.insert(shared, id);
        id
    }

    /// The id of `path`, if an event named it.
    pub fn find(&self, path: &[u8]) -> Option<PathId> {
        self.ids.get(path).copied()
    }

    /// The path.
    pub fn get(&self, id: PathId) -> &[u8] {
        self.list.get(id.0 as usize).map_or(b"", |path| path)
    }
}

/// Whether `path` is `directory` or lies below it.
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    suffix_below(path, directory).is_some()
}

/// What follows `directory` in `path`: empty, or starting with a slash.
pub fn suffix_below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    let rest = path.strip_prefix(directory)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_counts_whole_components() {
        assert!(is_below(b"/a/b", b"/a"));
        assert!(is_below(b"/a", b"/a/"));
        assert!(is_below(b"/a", b"/"));
        assert!(!is_below(b"/ab", b"/a"));
    }
}
