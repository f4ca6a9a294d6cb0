//! The store, kept from being cleared while something is about to name what is in it.

use agentrec_store::{Hold, Store};

/// The store, held from before objects are asked for until the event that names them is in the file: `store gc` removes
/// nothing meanwhile.
#[derive(Default)]
pub(super) struct Held {
    hold: Option<Hold>,
    /// The event is written, if not yet to the file.
    named: bool,
}

impl Held {
    pub(super) fn begin(&mut self, store: &Store) {
        self.named = false;
        match store.hold() {
            Ok(hold) => self.hold = Some(hold),
            // Then it can't be written to either, which is told.
            Err(error) => tracing::warn!(%error, "the store is not held"),
        }
    }

    /// To be called when the event that names the objects is written.
    pub(super) fn is_named(&mut self) {
        self.named = true;
    }

    /// To be called when all events are in the file.
    pub(super) fn release_if_named(&mut self) {
        if self.named {
            self.hold = None;
        }
    }
}
