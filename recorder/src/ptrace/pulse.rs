//! What has to be done though no tracee stops: the tracer sleeps in waitpid(2) then, without a limit.
//!
//! A thread that looks up every [`PERIOD`] while there are stops, and sleeps while there are none.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::lending::Desk;
use crate::mailbox::Outbox;

/// How long reports wait for others at most, and a loan for the next stop: between one and two periods.
pub(super) const PERIOD: Duration = Duration::from_millis(2);
/// Periods without a stop after which it sleeps until the next one.
const PATIENCE: u32 = 10;

/// The thread. Ends when dropped, after a last look.
pub(super) struct Pulse {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stops: AtomicU64,
    asleep: AtomicBool,
    ended: AtomicBool,
}

impl Pulse {
    /// Starts the thread, which flushes `outbox` and gives back what `desk` lent.
    pub(super) fn start<I: Send + 'static>(outbox: Outbox<I>, desk: Arc<Desk>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let beating = Arc::clone(&shared);
        let beat = move || beat(&beating, &outbox, &desk);
        let thread = thread::Builder::new().name("pulse".into()).spawn(beat)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// There was a stop.
    pub(super) fn stopped(&self) {
        // Only the tracer counts.
        let stops = self.shared.stops.load(Ordering::Relaxed) + 1;
        self.shared.stops.store(stops, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.wake();
        // A panic in there leaves nothing undone that matters now.
        self.thread.take().map(JoinHandle::join);
    }
}

fn beat<I>(shared: &Shared, outbox: &Outbox<I>, desk: &Desk) {
    let mut seen = 0;
    let mut idle = 0;
    loop {
        let ended = shared.ended.load(Ordering::SeqCst);
        let stops = shared.stops.load(Ordering::SeqCst);
        idle = if stops == seen { idle + 1 } else { 0 };
        seen = stops;
        outbox.flush();
        if ended {
            return desk.give_all_back();
        }
        desk.give_unused_back();
        if idle < PATIENCE {
            thread::sleep(PERIOD);
            continue;
        }
        shared.asleep.store(true, Ordering::SeqCst);
        // A stop before the store saw nobody asleep; one after it wakes.
        while shared.stops.load(Ordering::SeqCst) == seen && !shared.ended.load(Ordering::SeqCst) {
            thread::park();
        }
        shared.asleep.store(false, Ordering::SeqCst);
    }
}
