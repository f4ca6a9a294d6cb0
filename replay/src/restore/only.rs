//! Which part of a tree is meant by `--only`.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::Result;

/// Globs over paths relative to a root; one that names a directory means everything in it.
#[derive(Clone, Debug)]
pub struct Only(GlobSet);

impl Only {
    /// From patterns in which `*` does not match `/`, and `**` does.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self> {
        let mut builder = GlobSetBuilder::new();
        for pattern in patterns {
            let pattern = pattern.as_ref().trim_end_matches('/');
            builder.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
        }
        Ok(Self(builder.build()?))
    }

    /// Whether the entry at `path` is meant.
    pub fn matches(&self, path: &Path) -> bool {
        path.ancestors().any(|path| !path.as_os_str().is_empty() && self.0.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_stands_for_what_is_in_it() {
        let only = Only::new(&["src/", "*.md"]).unwrap();
        for (path, expected) in [
            ("src", true),
            ("src/a/b.rs", true),
            ("README.md", true),
            ("docs/README.md", false),
            ("srcs", false),
        ] {
            assert_eq!(only.matches(Path::new(path)), expected, "{path}");
        }
    }
}
