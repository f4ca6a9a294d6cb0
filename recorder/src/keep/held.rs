//! Old contents on their way from the source to the session: in memory, or as a file that is held open.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use agentrec_trace::event::FileKept;
use agentrec_trace::{Data, Event, ProcId, Source};

use super::known::Stamp;

/// Contents on their way to the session, in bytes. Beyond it the source waits.
const ON_THE_WAY: u64 = 64 << 20;

/// What the source hands to the session: the event without its object, and the content.
#[derive(Clone, Debug)]
pub struct Kept {
    /// A `file.kept`.
    pub event: Event<'static>,
    pub(crate) held: Held,
}

impl Kept {
    pub(crate) fn new(
        (data, held): (FileKept<'static>, Held),
        ts: u64,
        (proc, tid): (ProcId, Option<u32>),
    ) -> Self {
        let event = Event::new(ts, Source::Recorder, Data::FileKept(data));
        Self { event: Event { proc: Some(proc), tid, ..event }, held }
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.event == other.event
    }
}

/// A content that is held for the session.
#[derive(Clone, Debug, Default)]
pub(crate) enum Held {
    /// None, or none that can be had.
    #[default]
    Nothing,
    /// As it was read while the call waited.
    Bytes(Arc<OnTheWay>),
    /// A file that has lost its name, as it was then.
    File(Arc<File>, Stamp),
}

impl Held {
    /// The content, where there is one, and whether it changed since it was held.
    pub(crate) fn read(self) -> std::io::Result<Option<(Vec<u8>, bool)>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Bytes(mut bytes) => {
                let content = match Arc::get_mut(&mut bytes) {
                    Some(own) => std::mem::take(&mut own.content),
                    None => bytes.content.clone(),
                };
                Ok(Some((content, false)))
            }
            Self::File(file, stamp) => {
                let mut content = Vec::new();
                file.as_ref().take(stamp.size).read_to_end(&mut content)?;
                Ok(Some((content, Stamp::of(&file.metadata()?) != stamp)))
            }
        }
    }
}

/// Bytes that count until the session has dealt with them.
#[derive(Debug)]
pub(crate) struct OnTheWay {
    content: Vec<u8>,
    /// What counts, and how much.
    counted: Option<(Arc<Counter>, i64)>,
}

impl OnTheWay {
    pub(super) fn new(content: Vec<u8>) -> Self {
        Self { content, counted: None }
    }

    pub(super) fn count(&mut self, counter: &Arc<Counter>) {
        let bytes = self.content.len() as i64;
        counter.add(bytes);
        self.counted = Some((Arc::clone(counter), bytes));
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        if let Some((counter, bytes)) = &self.counted {
            counter.add(-bytes);
        }
    }
}

/// How much is on its way, in bytes.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<i64>, Condvar);

impl Counter {
    fn add(&self, bytes: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        self.1.notify_all();
    }

    pub(super) fn is_over(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) > ON_THE_WAY as i64
    }

    pub(super) fn wait(&self) {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |bytes: &mut i64| *bytes > ON_THE_WAY as i64;
        drop(self.1.wait_while(guard, over).unwrap_or_else(PoisonError::into_inner));
    }
}
