//! The one way into the session: a bounded channel whose items travel in batches, since each send may wake the session.
//!
//! The order of an [`Outbox`] is the order of its [`Inbox`], whoever sends and however: what waits goes first. Where
//! the channel is full, whoever sends waits.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec;

/// Items that wait for each other at most.
const BATCH: usize = 64;
/// Batches that wait for the receiver at most.
const CAPACITY: usize = 16;

/// The receiver is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Makes both ends.
pub fn mailbox<I>() -> (Outbox<I>, Inbox<I>) {
    let (channel, batches) = sync_channel(CAPACITY);
    let outbox = Outbox(Arc::new(Shared { waiting: Mutex::default(), channel }));
    (outbox, Inbox { batches, batch: RefCell::default() })
}

/// The sending end; any number of threads can share it.
pub struct Outbox<I>(Arc<Shared<I>>);

struct Shared<I> {
    /// Held while a batch is sent: the next one can't overtake it.
    waiting: Mutex<Vec<I>>,
    channel: SyncSender<Vec<I>>,
}

impl<I> Clone for Outbox<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I> Outbox<I> {
    /// Sends `item`, after all that waits.
    ///
    /// # Errors
    /// [`Closed`]: `item` is dropped.
    pub fn send(&self, item: impl Into<I>) -> Result<(), Closed> {
        let mut waiting = self.lock();
        waiting.push(item.into());
        self.release(&mut waiting)
    }

    /// Lets `item` wait until there is a batch, or for somebody to [`flush`](Self::flush) or send.
    ///
    /// # Errors
    /// [`Closed`], where that was noticed: `item` is dropped.
    pub fn defer(&self, item: impl Into<I>) -> Result<(), Closed> {
        let mut waiting = self.lock();
        if waiting.capacity() == 0 {
            waiting.reserve_exact(BATCH);
        }
        waiting.push(item.into());
        if waiting.len() < BATCH { Ok(()) } else { self.release(&mut waiting) }
    }

    /// Sends all that waits.
    pub fn flush(&self) {
        // Who defers next hears of a receiver that is gone.
        self.release(&mut self.lock()).unwrap_or_default();
    }

    fn release(&self, waiting: &mut Vec<I>) -> Result<(), Closed> {
        if waiting.is_empty() {
            return Ok(());
        }
        self.0.channel.send(std::mem::take(waiting)).map_err(|_| Closed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<I>> {
        // A thread that panicked while holding the lock left at worst an item out.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiving end.
pub struct Inbox<I> {
    batches: Receiver<Vec<I>>,
    batch: RefCell<vec::IntoIter<I>>,
}

impl<I> Inbox<I> {
    /// Waits for the next item.
    ///
    /// # Errors
    /// Where no sender is left.
    pub fn recv(&self) -> Result<I, RecvError> {
        self.next(|| self.batches.recv())
    }

    /// Waits for the next item, no longer than this.
    ///
    /// # Errors
    /// Where none came, or no sender is left.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<I, RecvTimeoutError> {
        self.next(|| self.batches.recv_timeout(timeout))
    }

    /// All items until no sender is left.
    pub fn iter(&self) -> impl Iterator<Item = I> {
        std::iter::from_fn(|| self.recv().ok())
    }

    fn next<E>(&self, receive: impl Fn() -> Result<Vec<I>, E>) -> Result<I, E> {
        let mut batch = self.batch.borrow_mut();
        loop {
            match batch.next() {
                Some(item) => return Ok(item),
                None => *batch = receive()?.into_iter(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_goes_first() {
        let (outbox, inbox) = mailbox::<u32>();
        outbox.defer(1u32).unwrap();
        outbox.defer(2u32).unwrap();
        assert_eq!(inbox.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        outbox.clone().send(3u32).unwrap();
        outbox.defer(4u32).unwrap();
        outbox.flush();
        drop(outbox);
        assert_eq!(inbox.iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_batch_goes_by_itself() {
        let (outbox, inbox) = mailbox::<usize>();
        (0..=BATCH).for_each(|item| outbox.defer(item).unwrap());
        for item in 0..BATCH {
            assert_eq!(inbox.recv_timeout(Duration::ZERO), Ok(item));
        }
        assert_eq!(inbox.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    }

    #[test]
    fn senders_hear_of_a_receiver_that_is_gone() {
        let (outbox, inbox) = mailbox::<u32>();
        drop(inbox);
        assert_eq!(outbox.send(1u32), Err(Closed));
        assert!((0..BATCH as u32).any(|item| outbox.defer(item).is_err()));
    }
}
