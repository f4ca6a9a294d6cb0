//! Old contents outside the tree: which are kept, and which are gone.

use std::collections::BTreeMap;

use agentrec_trace::event::FileKept;
use agentrec_trace::{Data, Event, Seq};

use super::changes::{Change, Net};
use super::paths::is_below;

/// What was told of each path before its content was changed for the first time.
#[derive(Debug, Default)]
pub struct OldContents {
    paths: BTreeMap<Vec<u8>, Old>,
}

#[derive(Clone, Copy, Debug)]
struct Old {
    seq: Seq,
    /// Something was there.
    existed: bool,
    kept: bool,
}

impl OldContents {
    /// Takes the next event.
    pub fn add(&mut self, event: &Event<'_>) {
        let Data::FileKept(e) = &event.data else { return };
        if e.change == "attributes" {
            return;
        }
        let old = Old { seq: event.seq, existed: !e.kind.is_empty(), kept: is_kept(e) };
        for path in [Some(&e.path), e.real.as_ref()].into_iter().flatten() {
            self.paths.entry(path.to_vec()).or_insert(old);
        }
    }

    /// How many paths that were.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether what stood at `path` is kept; none where nothing was told of it.
    pub fn is_kept(&self, path: &[u8]) -> Option<bool> {
        self.paths.get(path).map(|old| old.kept)
    }

    /// Whether something is known to have been at `path` before the event `seq`.
    pub fn existed(&self, path: &[u8], seq: Seq) -> bool {
        self.paths.get(path).is_some_and(|old| old.existed && old.seq < seq)
    }

    /// What became of the old content of a file outside of the tree, or of those in a directory; none where there was none, as before
    /// what the session itself has `made`.
    pub fn of(&self, change: &Change, made: impl Fn(&[u8]) -> bool) -> Option<&'static str> {
        const KEPT: &str = "old content kept";
        const LOST: &str = "old content not kept";
        if change.directory {
            let inside = self.paths.range(change.path.clone()..);
            let mut inside = inside
                .take_while(|(path, _)| path.starts_with(&change.path))
                .filter(|(path, _)| is_below(path, &change.path) && !made(path))
                .map(|(_, old)| old.kept)
                .peekable();
            inside.peek()?;
            return Some(if inside.all(|kept| kept) { KEPT } else { LOST });
        }
        if made(&change.path) {
            return None;
        }
        match self.is_kept(&change.path) {
            Some(true) => Some(KEPT),
            Some(false) => Some(LOST),
            None if change.net == Net::Deleted => Some(LOST),
            None if change.net == Net::Modified && change.written > 0 && !change.inherited => {
                Some(LOST)
            }
            None => None,
        }
    }
}

/// Whether an old content can be had again; what is no file has none.
fn is_kept(e: &FileKept<'_>) -> bool {
    e.reason.is_none() && (e.object.is_some() || e.kind != "file")
}
