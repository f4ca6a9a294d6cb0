//! Where a capture puts what it reads: into the store at once, or into memory on the way there.

use std::io::Read;
use std::path::Path;

use agentrec_trace::ObjectId;

use super::later::Later;
use crate::error::Result;
use crate::objects::{Batch, Objects, Staged, Store};
use crate::packs::Stock;

/// The objects of one capture.
pub(super) struct Sink<'a> {
    store: &'a Store,
    batch: Batch<'a>,
    later: Option<&'a Later>,
    added: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(store: &'a Store, later: Option<&'a Later>) -> Self {
        Self { store, batch: store.batch(), later, added: 0 }
    }

    /// What one puts into a batch of its own.
    pub(super) fn of(store: &'a Store, batch: Batch<'a>) -> Self {
        Self { store, batch, later: None, added: 0 }
    }

    /// The batch, with what was put into it.
    pub(super) fn into_batch(self) -> Batch<'a> {
        self.batch
    }

    /// What earlier captures stored.
    pub(super) fn objects(&self) -> &'a dyn Objects {
        match self.later {
            Some(later) => later,
            None => self.store,
        }
    }

    pub(super) fn contains(&self, id: &ObjectId) -> Result<bool> {
        Ok(self.later.is_some_and(|later| later.holds(id)) || self.batch.contains(id)?)
    }

    pub(super) fn stage(&self, reader: &mut dyn Read, path: &Path) -> Result<Staged> {
        self.batch.stage(reader, path)
    }

    /// Takes a content; `local` where no trace will have it.
    pub(super) fn keep(&mut self, staged: Staged, local: bool) -> Result<()> {
        if self.contains(&staged.id)? {
            return Ok(());
        }
        match self.later.filter(|_| !local) {
            None => self.batch.keep(staged).map(drop),
            Some(later) => {
                let id = staged.id;
                match staged.into_content() {
                    Ok(content) => {
                        self.added += 1;
                        later.put(id, content);
                        Ok(())
                    }
                    Err(staged) => self.batch.keep(staged).map(drop),
                }
            }
        }
    }

    /// Takes the encoding of a tree; `local` where no trace will have it.
    pub(super) fn put(&mut self, content: Vec<u8>, local: bool) -> Result<ObjectId> {
        let Some(later) = self.later.filter(|_| !local) else { return self.batch.put(&content) };
        let id = ObjectId::of(&content);
        if !self.contains(&id)? {
            self.added += 1;
            later.put(id, content);
        }
        Ok(id)
    }

    /// Which packs the store has; from now on nothing is removed from them.
    pub(super) fn stock(&self) -> Result<Stock> {
        self.batch.stock()
    }

    /// [`Sink::commit`], and which packs the store has then.
    pub(super) fn commit_and_list(self) -> Result<(usize, Stock)> {
        let (added, stock) = self.batch.commit_and_list()?;
        Ok((self.added + added, stock))
    }

    /// Puts on the disk what does not go there later; returns how many objects were new.
    pub(super) fn commit(self) -> Result<usize> {
        Ok(self.added + self.batch.commit()?)
    }
}
