//! Objects that are written to the store by a thread of their own, so that nobody waits for the disk.
//!
//! Until an object is there it is held in memory, and read from there. What a power loss or a kill may take is what
//! waits: callers give only what they have written, or will write, to a trace as well.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use agentrec_trace::ObjectId;

use crate::error::{Context, Error, Result};
use crate::objects::{Objects, Store};

/// So many bytes wait at most; who adds more waits too.
const MAX_WAITING: usize = 32 << 20;

/// A store to which some objects come later.
pub struct Later {
    shared: Arc<Shared>,
    /// Ends before this does, and what it has open with it.
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    store: Arc<Store>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: HashMap<ObjectId, Arc<Vec<u8>>>,
    /// Those that nobody is writing yet.
    queue: Vec<ObjectId>,
    bytes: usize,
    failure: Option<Error>,
    closed: bool,
}

impl Later {
    /// Begins the thread, which ends with this value once everything is written.
    ///
    /// # Errors
    /// Where there can't be another thread.
    pub fn new(store: Arc<Store>) -> Result<Self> {
        let shared = Arc::new(Shared { store, state: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("objects".into())
            .spawn(move || writer.run())
            .context("start a thread for", Path::new("the store"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes an object over. What can't be written is told by the next [`Later::check`] or [`Later::flush`].
    pub(crate) fn put(&self, id: ObjectId, content: Vec<u8>) {
        let mut state = self.shared.lock();
        while state.bytes > MAX_WAITING && state.failure.is_none() {
            state = self.shared.wait(state);
        }
        state.bytes += content.len();
        if let Some(former) = state.waiting.insert(id, Arc::new(content)) {
            state.bytes -= former.len();
        } else {
            state.queue.push(id);
        }
        self.shared.changed.notify_all();
    }

    /// Whether an object waits.
    pub(crate) fn holds(&self, id: &ObjectId) -> bool {
        self.shared.lock().waiting.contains_key(id)
    }

    /// Says once what could not be written.
    ///
    /// # Errors
    /// The first failure since this was asked last. Those objects are not in the store.
    pub fn check(&self) -> Result<()> {
        self.shared.lock().failure.take().map_or(Ok(()), Err)
    }

    /// Returns when all that was given is on the disk.
    ///
    /// # Errors
    /// As [`Later::check`].
    pub fn flush(&self) -> Result<()> {
        let mut state = self.shared.lock();
        while !state.waiting.is_empty() {
            state = self.shared.wait(state);
        }
        state.failure.take().map_or(Ok(()), Err)
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.flush().ok();
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // One that panicked has told so.
            thread.join().ok();
        }
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

impl Objects for Later {
    fn copy_to(&self, id: &ObjectId, out: &mut dyn Write) -> Result<Option<u64>> {
        let waiting = self.shared.lock().waiting.get(id).cloned();
        match waiting {
            Some(content) => {
                out.write_all(&content).context("copy", Path::new("an object"))?;
                Ok(Some(content.len() as u64))
            }
            None => self.shared.store.copy_to(id, out),
        }
    }

    fn contains(&self, id: &ObjectId) -> Result<bool> {
        Ok(self.holds(id) || self.shared.store.contains(id)?)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let mut state = self.lock();
            while state.queue.is_empty() && !state.closed {
                state = self.wait(state);
            }
            if state.queue.is_empty() {
                return;
            }
            let ids = std::mem::take(&mut state.queue);
            let contents: Vec<_> =
                ids.iter().filter_map(|id| state.waiting.get(id).cloned()).collect();
            drop(state);
            let written = self.write(&contents);
            let mut state = self.lock();
            for id in &ids {
                if let Some(content) = state.waiting.remove(id) {
                    state.bytes -= content.len();
                }
            }
            if let Err(error) = written {
                state.failure.get_or_insert(error);
            }
            self.changed.notify_all();
        }
    }

    fn write(&self, contents: &[Arc<Vec<u8>>]) -> Result<()> {
        let batch = self.store.batch();
        for content in contents {
            batch.put(content)?;
        }
        batch.commit().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Home;

    #[test]
    fn the_thread_ends_before_its_owner_does_and_writes_all_that_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&Home::new(dir.path())).unwrap());
        for round in 0..50_u32 {
            let later = Later::new(Arc::clone(&store)).unwrap();
            let content = round.to_le_bytes();
            let id = ObjectId::of(&content);
            // One that never had anything to do has to be woken, too.
            if round % 2 == 0 {
                later.put(id, content.to_vec());
            }
            drop(later);
            // The thread has one as long as it lives.
            assert_eq!(Arc::strong_count(&store), 1, "round {round}");
            assert_eq!(store.contains(&id).unwrap(), round % 2 == 0);
        }
    }
}
