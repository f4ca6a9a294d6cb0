//! Where contents come from: this machine's store first, which is at hand, then the trace.

use std::io::Write;

use agentrec_store::{Objects, Store};
use agentrec_trace::{ObjectId, Reader};

/// The objects of a trace and of a store, as one.
pub struct Sources<'a> {
    store: Option<&'a Store>,
    reader: Option<&'a Reader>,
}

impl<'a> Sources<'a> {
    /// A trace with this machine's store beside it.
    pub fn new(reader: &'a Reader, store: Option<&'a Store>) -> Self {
        Self { store, reader: Some(reader) }
    }

    /// The store alone.
    pub fn store(store: &'a Store) -> Self {
        Self { store: Some(store), reader: None }
    }

    /// Whether this machine's own store has the object: then this user's recorder once read it here.
    pub fn is_own(&self, id: &ObjectId) -> agentrec_store::Result<bool> {
        self.store.map_or(Ok(false), |store| store.contains(id))
    }
}

impl Objects for Sources<'_> {
    fn copy_to(&self, id: &ObjectId, out: &mut dyn Write) -> agentrec_store::Result<Option<u64>> {
        if let Some(store) = self.store
            && store.contains(id)?
        {
            return store.copy_to(id, out);
        }
        let Some(reader) = self.reader else { return Ok(None) };
        let content = match reader.object(id) {
            Ok(Some(content)) => content,
            Ok(None) => return Ok(None),
            // The trace is damaged where the object lies; the rest of it may be sound.
            Err(_) => return Err(agentrec_store::Error::Corrupt(*id)),
        };
        out.write_all(&content).map_err(|source| agentrec_store::Error::Io {
            action: "copy from",
            path: reader.path().unwrap_or_else(|| "the trace".as_ref()).to_owned(),
            source,
        })?;
        Ok(Some(content.len() as u64))
    }

    fn contains(&self, id: &ObjectId) -> agentrec_store::Result<bool> {
        if let Some(store) = self.store
            && store.contains(id)?
        {
            return Ok(true);
        }
        match self.reader.map(|reader| reader.has_object(id)) {
            None => Ok(false),
            Some(found) => found.map_err(|_| agentrec_store::Error::Corrupt(*id)),
        }
    }
}
