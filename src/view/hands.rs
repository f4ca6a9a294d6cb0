//! Whose hands a file went through: the processes that changed a path between two events, each with its tool call.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentrec_trace::Seq;

use super::by;
use crate::digest::{Action, ActionKind, Digest};

/// The acts of a session by path.
pub struct Hands<'d> {
    digest: &'d Digest,
    acts: HashMap<&'d [u8], Vec<&'d Action>>,
}

impl<'d> Hands<'d> {
    /// Of an analysed trace.
    pub fn new(digest: &'d Digest) -> Self {
        let mut acts: HashMap<&[u8], Vec<&Action>> = HashMap::new();
        for action in digest.files.actions() {
            acts.entry(digest.files.path(action.path)).or_default().push(action);
        }
        Self { digest, acts }
    }

    /// The acts that changed `path` after the first event and not after the second, renames of directories above it included.
    pub fn acts(&self, path: &Path, between: (Seq, Seq)) -> Vec<&'d Action> {
        let within = |action: &&&Action| action.seq > between.0 && action.seq <= between.1;
        let on = |path: &Path| self.acts.get(path.as_os_str().as_bytes()).into_iter().flatten();
        let is_rename = |action: &&&Action| {
            matches!(
                action.kind,
                ActionKind::RenamedFrom(_) | ActionKind::RenamedTo(_) | ActionKind::Exchanged(_)
            )
        };
        let above = path.ancestors().skip(1).flat_map(on).filter(is_rename);
        on(path).chain(above).filter(within).copied().collect()
    }

    /// Who that was, each once: `sh 4180 <- t5 Bash`.
    pub fn between(&self, path: &Path, between: (Seq, Seq)) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for action in self.acts(path, between) {
            let name = by(self.digest, action.proc, action.seq, action.ts);
            if !found.contains(&name) {
                found.push(name);
            }
        }
        found
    }
}

/// `by sh 4180 <- t5 Bash, sed 4183 <- t6 Bash`, or that nobody was seen.
pub fn hands_in_words(by: &[String]) -> String {
    const SHOWN: usize = 3;
    match by {
        [] => "not by a recorded process".to_owned(),
        by if by.len() > SHOWN => {
            format!("by {} and {} more", by[..SHOWN].join(", "), by.len() - SHOWN)
        }
        by => format!("by {}", by.join(", ")),
    }
}
