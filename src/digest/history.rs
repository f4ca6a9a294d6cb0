//! The history of one path: every act that made it what it is, followed back through renames.

use super::files::{Action, ActionKind, Files};
use super::paths::suffix_below;

/// An act in the history of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The act.
    pub action: Action,
    /// The name that the file had after it.
    pub name: Vec<u8>,
    /// For a rename, the other name.
    pub other: Option<Vec<u8>>,
    /// Bytes that were written.
    pub written: Option<u64>,
}

/// What was done to `path`, the last act first. What was written after an open that created or cut the file counts as
/// part of that act. A rename of the file or of a directory above it leads on to its
/// earlier name.
pub fn history(files: &Files, path: &[u8]) -> Vec<Step> {
    let mut names = vec![path.to_vec()];
    let mut steps = Vec::new();
    for action in files.actions().iter().rev() {
        let acted_on = files.path(action.path);
        let mut earlier = None;
        for name in &names {
            let Some(rest) = suffix_below(name, acted_on) else { continue };
            let moved = |other| [files.path(other), rest].concat();
            let other = match action.kind {
                ActionKind::RenamedFrom(other) => {
                    earlier = Some(moved(other));
                    earlier.clone()
                }
                ActionKind::RenamedTo(other) | ActionKind::Exchanged(other) => Some(moved(other)),
                ActionKind::LinkedFrom(other) | ActionKind::ClonedFrom(other) => {
                    Some(files.path(other).to_vec())
                }
                _ => None,
            };
            let renames = matches!(
                action.kind,
                ActionKind::RenamedFrom(_) | ActionKind::RenamedTo(_) | ActionKind::Exchanged(_)
            );
            if let Some(writing) = writing_of(&mut steps, action) {
                writing.action = action.clone();
                break;
            }
            let written = match action.kind {
                ActionKind::Written { bytes, .. } => Some(bytes),
                _ => None,
            };
            // Of what is done to a directory above, only a rename touches the path.
            if rest.is_empty() || renames {
                steps.push(Step { action: action.clone(), name: name.clone(), other, written });
                break;
            }
        }
        if let Some(earlier) = earlier
            && !names.contains(&earlier)
        {
            names.push(earlier);
        }
    }
    // The far end of a rename that is followed under both names says the same once more.
    steps.dedup_by(|later, earlier| later.action.seq == earlier.action.seq);
    steps
}

/// The step that wrote through the descriptor which `open` made, where that created or cut the file.
fn writing_of<'s>(steps: &'s mut [Step], open: &Action) -> Option<&'s mut Step> {
    if !matches!(open.kind, ActionKind::Created | ActionKind::Truncated) {
        return None;
    }
    steps.iter_mut().find(|step| {
        matches!(step.action.kind, ActionKind::Written { open: Some(seq), .. } if seq == open.seq)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;

    fn kinds(script: &Script, path: &str) -> Vec<(String, ActionKind)> {
        let digest = script.digest();
        let steps = history(&digest.files, path.as_bytes());
        steps
            .into_iter()
            .map(|s| (String::from_utf8_lossy(&s.name).into_owned(), s.action.kind))
            .collect()
    }

    #[test]
    fn the_last_act_comes_first() {
        let mut script = Script::new("/w");
        script.create(1, "/w/a").modify(2, "/w/a").unlink(3, "/w/a").create(1, "/w/b");
        let kinds = kinds(&script, "/w/a");
        assert_eq!(kinds[0], ("/w/a".into(), ActionKind::Deleted));
        assert_eq!(kinds.last(), Some(&("/w/a".into(), ActionKind::Created)));
        let acts: Vec<_> = kinds.iter().map(|(_, kind)| *kind).collect();
        assert_eq!(acts, [ActionKind::Deleted, ActionKind::Truncated, ActionKind::Created]);
    }

    #[test]
    fn renames_lead_to_earlier_names() {
        let mut script = Script::new("/w");
        script.create(1, "/w/.tmp").rename(1, "/w/.tmp", "/w/d/f").rename(1, "/w/d", "/w/e");
        let kinds = kinds(&script, "/w/e/f");
        let names: Vec<_> = kinds.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["/w/e/f", "/w/d/f", "/w/.tmp"]);
        assert_eq!(kinds[2].1, ActionKind::Created);
    }

    #[test]
    fn a_directory_above_that_is_deleted_or_made_is_no_step() {
        let mut script = Script::new("/w");
        script.mkdir(1, "/w/d").create(1, "/w/d/f").rmdir(1, "/w/d");
        assert_eq!(kinds(&script, "/w/d/f").len(), 1);
    }
}
