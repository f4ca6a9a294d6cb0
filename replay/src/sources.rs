//! Where contents come from: this machine's store first, which is at hand, then the trace, also for what is damaged there.

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
        let stored = self.store.filter(|store| store.contains(id).unwrap_or(false));
        match (stored, self.reader) {
            (Some(store), Some(reader)) if reader.has_object(id).unwrap_or(false) => {
                // Held back until it is whole: what was written can't be taken back for the trace's copy.
                let mut content = Vec::new();
                match store.copy_to(id, &mut content) {
                    Ok(Some(_)) => write(reader, &content, out).map(Some),
                    Ok(None) | Err(_) => copy_from(reader, id, out),
                }
            }
            (Some(store), _) => store.copy_to(id, out),
            (None, Some(reader)) => copy_from(reader, id, out),
            (None, None) => Ok(None),
        }
    }

    fn contains(&self, id: &ObjectId) -> agentrec_store::Result<bool> {
        if self.is_own(id)? {
            return Ok(true);
        }
        match self.reader.map(|reader| reader.has_object(id)) {
            None => Ok(false),
            Some(found) => found.map_err(|_| agentrec_store::Error::Corrupt(*id)),
        }
    }
}

fn copy_from(
    reader: &Reader,
    id: &ObjectId,
    out: &mut dyn Write,
) -> agentrec_store::Result<Option<u64>> {
    match reader.object(id) {
        Ok(Some(content)) => write(reader, &content, out).map(Some),
        Ok(None) => Ok(None),
        // The trace is damaged where the object lies; the rest of it may be sound.
        Err(_) => Err(agentrec_store::Error::Corrupt(*id)),
    }
}

fn write(reader: &Reader, content: &[u8], out: &mut dyn Write) -> agentrec_store::Result<u64> {
    out.write_all(content).map_err(|source| agentrec_store::Error::Io {
        action: "copy from",
        path: reader.path().unwrap_or_else(|| "the trace".as_ref()).to_owned(),
        source,
    })?;
    Ok(content.len() as u64)
}
