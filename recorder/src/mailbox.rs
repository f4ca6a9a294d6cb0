//! The one way into the session: a bounded channel whose items travel in batches, since each send may wake the session.
//!
//! The order of an [`Outbox`] is the order of its [`Inbox`], whoever sends and however: what waits goes first. Where
//! the channel is full, whoever sends waits. It is bounded by bytes: a program that starts makes thousands of small events
//! while the session still writes the first snapshot, and is not to wait for that.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec;

/// Items that wait for each other at most.
const BATCH: usize = 64;
/// Bytes that wait for the receiver at most; a single batch may be larger.
const ROOM: usize = 16 << 20;

/// Something of which only so much may wait.
pub trait Weigh {
    /// The bytes that it takes, about.
    fn weight(&self) -> usize;
}

/// The receiver is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Makes both ends.
pub fn mailbox<I: Weigh>() -> (Outbox<I>, Inbox<I>) {
    let (channel, batches) = channel();
    let room = Arc::<Room>::default();
    let shared = Shared {
        waiting: Mutex::default(),
        channel,
        weigh: Weigh::weight,
        room: Arc::clone(&room),
    };
    let outbox = Outbox(Arc::new(shared));
    (outbox, Inbox { batches, batch: RefCell::default(), room })
}

/// A batch and its weight.
type Batch<I> = (Vec<I>, usize);

/// How much waits for the receiver.
#[derive(Default)]
struct Room {
    taken: Mutex<Taken>,
    freed: Condvar,
}

#[derive(Default)]
struct Taken {
    bytes: usize,
    /// The receiver is gone: nobody need wait.
    closed: bool,
}

impl Room {
    fn take(&self, bytes: usize) {
        let is_full =
            |taken: &mut Taken| !taken.closed && taken.bytes > 0 && taken.bytes + bytes > ROOM;
        let taken = self.freed.wait_while(self.lock(), is_full);
        taken.unwrap_or_else(PoisonError::into_inner).bytes += bytes;
    }

    fn free(&self, bytes: usize) {
        self.lock().bytes -= bytes;
        self.freed.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending end; any number of threads can share it.
pub struct Outbox<I>(Arc<Shared<I>>);

struct Shared<I> {
    /// Held while a batch is sent: the next one can't overtake it.
    waiting: Mutex<Vec<I>>,
    channel: Sender<Batch<I>>,
    weigh: fn(&I) -> usize,
    room: Arc<Room>,
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
        let weight = waiting.iter().map(self.0.weigh).sum();
        self.0.room.take(weight);
        self.0.channel.send((std::mem::take(waiting), weight)).map_err(|_| Closed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<I>> {
        // A thread that panicked while holding the lock left at worst an item out.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiving end.
pub struct Inbox<I> {
    batches: Receiver<Batch<I>>,
    batch: RefCell<vec::IntoIter<I>>,
    room: Arc<Room>,
}

impl<I> Drop for Inbox<I> {
    fn drop(&mut self) {
        self.room.close();
    }
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

    fn next<E>(&self, receive: impl Fn() -> Result<Batch<I>, E>) -> Result<I, E> {
        let mut batch = self.batch.borrow_mut();
        loop {
            if let Some(item) = batch.next() {
                return Ok(item);
            }
            let (items, weight) = receive()?;
            self.room.free(weight);
            *batch = items.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::atomic::{AtomicBool, AtomicI32};
    use std::thread;

    use super::*;

    impl Weigh for u32 {
        fn weight(&self) -> usize {
            *self as usize
        }
    }

    impl Weigh for usize {
        fn weight(&self) -> usize {
            1
        }
    }

    /// Waits until the thread sleeps; false where it got to its end instead.
    fn sleeps(tid: &AtomicI32, is_done: &AtomicBool) -> bool {
        loop {
            let stat = fs::read_to_string(format!("/proc/self/task/{}/stat", tid.load(SeqCst)));
            let state = stat.ok().and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
            if is_done.load(SeqCst) {
                return false;
            }
            if state == Some('S') {
                return true;
            }
            thread::yield_now();
        }
    }

    #[test]
    fn who_sends_more_than_there_is_room_for_waits_for_the_receiver() {
        let (outbox, inbox) = mailbox::<u32>();
        let half = ROOM as u32 / 2;
        outbox.send(half).unwrap();
        outbox.send(half).unwrap();
        let (tid, is_done) = (AtomicI32::new(-1), AtomicBool::new(false));
        thread::scope(|scope| {
            let third = scope.spawn(|| {
                tid.store(nix::unistd::gettid().as_raw(), SeqCst);
                let sent = outbox.send(1u32);
                is_done.store(true, SeqCst);
                sent
            });
            assert!(sleeps(&tid, &is_done), "it was sent beyond what there is room for");
            assert_eq!(inbox.recv(), Ok(half));
            third.join().unwrap().unwrap();
        });
        assert_eq!(inbox.recv(), Ok(half));
        assert_eq!(inbox.recv(), Ok(1));
        // One that is larger than all room goes alone.
        outbox.send(3 * half).unwrap();
        assert_eq!(inbox.recv(), Ok(3 * half));
    }

    #[test]
    fn thousands_of_small_items_wait_for_nobody_and_no_more_than_there_is_room_for() {
        const ITEM: u32 = 512;
        let fits = ROOM as u32 / ITEM;
        let (outbox, inbox) = mailbox::<u32>();
        for _ in 0..fits {
            outbox.defer(ITEM).unwrap();
        }
        outbox.flush();
        assert_eq!(inbox.room.lock().bytes, ROOM);
        let (tid, is_done) = (AtomicI32::new(-1), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                tid.store(nix::unistd::gettid().as_raw(), SeqCst);
                for _ in 0..fits {
                    outbox.defer(ITEM).unwrap();
                }
                outbox.flush();
                is_done.store(true, SeqCst);
            });
            assert!(sleeps(&tid, &is_done), "nobody took anything");
            for _ in 0..2 * fits {
                assert_eq!(inbox.recv(), Ok(ITEM));
                assert!(inbox.room.lock().bytes <= ROOM);
            }
        });
        assert_eq!(inbox.room.lock().bytes, 0);
    }

    #[test]
    fn who_waits_for_room_hears_of_a_receiver_that_goes() {
        let (outbox, inbox) = mailbox::<u32>();
        outbox.send(ROOM as u32).unwrap();
        thread::scope(|scope| {
            let waiting =
                scope.spawn(|| std::iter::repeat_with(|| outbox.send(9u32)).find_map(Result::err));
            drop(inbox);
            assert_eq!(waiting.join().unwrap(), Some(Closed));
        });
    }

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
