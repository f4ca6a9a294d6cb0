//! Two changes to one file, brought together where they touch different lines.

use agentrec_store::{Entry, Kind, Objects};

use crate::error::Result;

/// Longer contents are not merged, bytes.
const MAX: u64 = 4 << 20;

/// What `mine` becomes when the change from `base` to `before` is made in it; none where that can't be done without a choice.
pub(super) fn merged(
    objects: &dyn Objects,
    base: &Entry,
    mine: &Entry,
    before: &Entry,
) -> Result<Option<Vec<u8>>> {
    let mut contents = Vec::new();
    for entry in [base, mine, before] {
        let Some(id) = entry.id.filter(|_| entry.kind == Kind::File && entry.size <= MAX) else {
            return Ok(None);
        };
        match objects.get(&id)? {
            Some(content) if !content.contains(&0) => contents.push(content),
            _ => return Ok(None),
        }
    }
    Ok(diffy::merge_bytes(&contents[0], &contents[1], &contents[2]).ok())
}
