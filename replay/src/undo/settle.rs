//! What becomes of conflicts, and what follows for a plan as a whole.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use agentrec_store::{Entry, EntryReader, Kind, Role, Step, Store};

use super::merge::merged;
use super::present::Present;
use super::{Conflict, Plan, Settle};
use crate::error::Result;
use crate::lookup::same;
use crate::sources::Sources;

impl<'a> Plan<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self {
            steps: Vec::new(),
            conflicts: Vec::new(),
            unable: Vec::new(),
            stays: Vec::new(),
            last: HashMap::new(),
            trusted: false,
            reader: EntryReader::new(store),
        }
    }

    /// Takes directories out that would not be empty.
    pub(super) fn directories_that_stay(&mut self) {
        let goes = |step: &Step| step.role == Role::Changed && step.after.is_none();
        let mut gone: HashSet<PathBuf> =
            self.steps.iter().filter(|step| goes(step)).map(Step::full_path).collect();
        let mut directories: Vec<_> = self
            .steps
            .iter()
            .filter(|step| {
                goes(step) && step.before.as_ref().is_some_and(|entry| entry.kind == Kind::Dir)
            })
            .map(|step| (step.root.clone(), step.path.clone()))
            .collect();
        directories.sort_by_key(|(_, path)| std::cmp::Reverse(path.iter().count()));
        for (root, path) in directories {
            let full = root.join(&path);
            let names = Present::new(&mut self.reader).names(&root, &path);
            if !names.iter().all(|name| gone.contains(&full.join(name))) {
                gone.remove(&full);
                self.stays.push(full);
            }
        }
        let stays = &self.stays;
        self.steps.retain(|step| !stays.contains(&step.full_path()));
    }

    /// Whether nothing would be changed.
    pub fn is_empty(&self) -> bool {
        !self.steps.iter().any(Step::is_change)
    }

    /// Steps that change something.
    pub fn changes(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.is_change())
    }

    /// Settles the conflicts. To merge them, what is there now is stored.
    pub(super) fn settle(&mut self, sources: &Sources<'_>, how: Settle) -> Result<()> {
        let mut left = Vec::new();
        if how == Settle::Merge {
            self.reader.commit()?;
        }
        for conflict in std::mem::take(&mut self.conflicts) {
            let settled = match how {
                Settle::Mine => None,
                Settle::Theirs => Some(Some(conflict.step.clone())),
                Settle::Merge => self.merge(sources, &conflict)?,
            };
            match settled {
                Some(step) => self.steps.extend(step),
                None => left.push(conflict),
            }
        }
        self.conflicts = left;
        self.steps.sort_by(|a, b| (&a.root, &a.path).cmp(&(&b.root, &b.path)));
        Ok(())
    }

    /// Both changes in one: the step to it, which may be none. None where they can't be brought together.
    fn merge(
        &mut self,
        sources: &Sources<'_>,
        conflict: &Conflict,
    ) -> Result<Option<Option<Step>>> {
        let (Some(Some(base)), Some(mine), Some(before)) =
            (&conflict.base, &conflict.step.before, &conflict.step.after)
        else {
            return Ok(None);
        };
        let mut after = Entry { link: None, ..mine.clone() };
        if base.id != before.id {
            let Some(content) = merged(sources, base, mine, before)? else { return Ok(None) };
            (after.id, after.size) = (Some(self.reader.put(&content)?), content.len() as u64);
        }
        if mine.meta.mode == base.meta.mode {
            after.meta.mode = before.meta.mode;
        }
        if mine.meta.xattrs == base.meta.xattrs {
            after.meta.xattrs = before.meta.xattrs.clone();
        }
        if same(Some(&after), Some(mine)) {
            return Ok(Some(None));
        }
        if after.id != mine.id {
            after.meta.mtime = super::carry::now();
        } else {
            after.link = mine.link;
        }
        Ok(Some(Some(Step { after: Some(after), ..conflict.step.clone() })))
    }
}
