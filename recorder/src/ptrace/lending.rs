//! Lending: a thread that stops again and again runs on the tracer's CPU, and the tracer stays there.
//!
//! A stop is a switch from tracee to tracer and back. Across CPUs each is a wake-up by interrupt, which costs several
//! times a switch on the same CPU; and a tracee that is resumed while the tracer holds its CPU is moved away by the
//! scheduler, so that it is across CPUs even where only one thread runs.
//!
//! A thread's set of CPUs is its own business, so the loan must not be seen and must not outlast the stops:
//! - it is given back at another thread's stop, before the thread's calls that read or change such a set or execute a
//!   program, before anybody in the tree reads a file `status` (proc(5) shows the set there), and after [`PERIOD`]
//!   without a stop;
//! - what a thread starts while it is on loan inherits the narrow set, and gets the wide one at its birth;
//! - a set that somebody else changed meanwhile is left alone.
//!
//! Where the recorder is killed the tree ends with it.
//!
//! [`PERIOD`]: super::pulse::PERIOD

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libc::cpu_set_t;

use crate::observation::Tid;

/// Stops in a row of one thread before it is worth it.
const STOPS: u32 = 8;

/// Who stops how often; on the tracer's thread.
#[derive(Debug)]
pub(super) struct Lending {
    /// Whose stop was the last one.
    current: Tid,
    /// How many were its in a row.
    row: u32,
    /// A loan was out at the last stop.
    was_out: bool,
    desk: Arc<Desk>,
}

/// The loans, where the pulse finds them too.
#[derive(Debug)]
pub(super) struct Desk {
    /// The tracer's thread, and its own set.
    tracer: Tid,
    own: Option<cpu_set_t>,
    out: AtomicBool,
    loans: Mutex<Loans>,
}

#[derive(Debug, Default)]
struct Loans {
    /// Who has one.
    borrower: Option<Tid>,
    /// The last loan of each thread that had one.
    terms: HashMap<Tid, Terms>,
}

/// What a thread's set of CPUs is, and the only CPU that it has for the length of a loan.
#[derive(Clone, Copy, Debug)]
struct Terms {
    own: cpu_set_t,
    cpu: usize,
}

impl Lending {
    /// For the calling thread, the tracer.
    pub(super) fn new() -> Self {
        // SAFETY: gives a number.
        let tracer = unsafe { libc::gettid() };
        let own = get(tracer).ok();
        let desk = Desk { tracer, own, out: AtomicBool::new(false), loans: Mutex::default() };
        Self { current: 0, row: 0, was_out: false, desk: Arc::new(desk) }
    }

    /// Where the pulse gives back.
    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Whether a loan is out.
    pub(super) fn is_out(&self) -> bool {
        self.desk.out.load(Ordering::Acquire)
    }

    /// `tid` stopped: lends, or gives back.
    pub(super) fn stopped(&mut self, tid: Tid) {
        if self.current != tid {
            self.give_back();
            (self.current, self.row, self.was_out) = (tid, 1, false);
            return;
        }
        let out = self.is_out();
        if self.was_out && !out {
            // It paused.
            self.row = 0;
        }
        self.was_out = out;
        self.row = self.row.saturating_add(1);
        if self.row == STOPS {
            self.desk.lend(tid);
            self.was_out = self.is_out();
        }
    }

    /// Ends the loan, where there is one.
    pub(super) fn give_back(&mut self) {
        if self.is_out() {
            self.desk.give_back();
            (self.row, self.was_out) = (0, false);
        }
    }

    /// `parent` started `child`, which has not run yet and has its set: that of a loan is not meant for it.
    pub(super) fn born(&self, parent: Tid, child: Tid) {
        let loans = self.desk.lock();
        let Some(terms) = loans.terms.get(&parent) else { return };
        // A set that the parent has without a loan is its own choice.
        let chosen = loans.borrower != Some(parent) && terms.hold_for(parent);
        if !chosen && terms.hold_for(child) {
            set(child, &terms.own).unwrap_or_default();
        }
    }

    /// The thread is gone.
    pub(super) fn ended(&mut self, tid: Tid) {
        if self.is_out() && self.current == tid {
            self.give_back();
        }
        self.desk.lock().terms.remove(&tid);
    }
}

impl Desk {
    fn lend(&self, tid: Tid) {
        // SAFETY: gives a number.
        let cpu = usize::try_from(unsafe { libc::sched_getcpu() });
        let (Some(tracers), Ok(own), Ok(cpu)) = (self.own, get(tid), cpu) else { return };
        let terms = Terms { own, cpu };
        let mut loans = self.lock();
        // Refused for some kinds of threads (SCHED_DEADLINE), and for those of another user.
        if contains(&own, cpu) && contains(&tracers, cpu) && set(tid, &only(cpu)).is_ok() {
            set(self.tracer, &only(cpu)).unwrap_or_default();
            loans.borrower = Some(tid);
            loans.terms.insert(tid, terms);
            self.out.store(true, Ordering::Release);
        }
    }

    /// Ends the loan, where there is one. From any thread.
    pub(super) fn give_back(&self) {
        let mut loans = self.lock();
        let Some(tid) = loans.borrower.take() else { return };
        if let Some(terms) = loans.terms.get(&tid)
            && terms.hold_for(tid)
        {
            // It may be gone.
            set(tid, &terms.own).unwrap_or_default();
        }
        if let Some(own) = &self.own {
            set(self.tracer, own).unwrap_or_default();
        }
        self.out.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Loans> {
        self.loans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terms {
    /// Whether the thread's set is that of the loan: somebody else may have changed it.
    fn hold_for(&self, tid: Tid) -> bool {
        get(tid).is_ok_and(|set| {
            // SAFETY: reads a set of the size that the type has.
            (unsafe { libc::CPU_COUNT(&set) }) == 1 && contains(&set, self.cpu)
        })
    }
}

fn empty() -> cpu_set_t {
    // SAFETY: a set is an array of bits, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn only(cpu: usize) -> cpu_set_t {
    let mut set = empty();
    // SAFETY: `cpu` came from a set of this size, or is ignored behind its end (CPU_SET(3)).
    unsafe { libc::CPU_SET(cpu, &mut set) };
    set
}

fn contains(set: &cpu_set_t, cpu: usize) -> bool {
    // SAFETY: `cpu` is compared with the size first.
    cpu < 8 * size_of::<cpu_set_t>() && unsafe { libc::CPU_ISSET(cpu, set) }
}

/// A thread's CPUs. EINVAL on a machine with more than 1,024 of them: there is no lending there.
fn get(tid: Tid) -> io::Result<cpu_set_t> {
    let mut set = empty();
    // SAFETY: the set is as large as its size says.
    match unsafe { libc::sched_getaffinity(tid, size_of::<cpu_set_t>(), &mut set) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(tid: Tid, set: &cpu_set_t) -> io::Result<()> {
    // SAFETY: the set is as large as its size says.
    match unsafe { libc::sched_setaffinity(tid, size_of::<cpu_set_t>(), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    /// A thread that waits, for the length of `work`.
    fn with_thread(work: impl FnOnce(Tid)) {
        let (tell, told) = channel();
        let (end, wait) = channel::<()>();
        let thread = thread::spawn(move || {
            // SAFETY: gives a number.
            tell.send(unsafe { libc::gettid() }).unwrap();
            wait.recv().unwrap_err();
        });
        work(told.recv().unwrap());
        drop(end);
        thread.join().unwrap();
    }

    fn count(tid: Tid) -> i32 {
        // SAFETY: reads a set of the size that the type has.
        unsafe { libc::CPU_COUNT(&get(tid).unwrap()) }
    }

    #[test]
    fn lends_after_stops_in_a_row_and_gives_back() {
        // SAFETY: gives a number.
        let tracer = unsafe { libc::gettid() };
        let cpus = count(tracer);
        assert!(cpus > 1, "nothing can be lent on one CPU");
        with_thread(|tid| {
            let mut lending = Lending::new();
            (1..STOPS).for_each(|_| lending.stopped(tid));
            assert_eq!((count(tid), lending.is_out()), (cpus, false));
            lending.stopped(tid);
            assert_eq!((count(tid), count(tracer), lending.is_out()), (1, 1, true));
            // Another one's stop.
            lending.stopped(tid + 1);
            assert_eq!((count(tid), count(tracer), lending.is_out()), (cpus, cpus, false));
            // A pause: the pulse gives back, and it has to begin anew.
            (0..STOPS).for_each(|_| lending.stopped(tid));
            assert!(lending.is_out());
            lending.desk().give_back();
            assert_eq!((count(tid), count(tracer)), (cpus, cpus));
            (1..STOPS).for_each(|_| lending.stopped(tid));
            assert!(!lending.is_out());
            lending.stopped(tid);
            assert!(lending.is_out());
            lending.ended(tid);
            assert_eq!(count(tracer), cpus);
        });
    }

    #[test]
    fn a_set_that_somebody_else_changed_is_left_alone() {
        // SAFETY: gives a number.
        let cpus = get(unsafe { libc::gettid() }).unwrap();
        let others = |lent: usize| {
            let mut set = cpus;
            // SAFETY: the CPU came from a set.
            unsafe { libc::CPU_CLR(lent, &mut set) };
            set
        };
        with_thread(|tid| {
            let mut lending = Lending::new();
            (0..STOPS).for_each(|_| lending.stopped(tid));
            let lent = (0..).find(|&cpu| contains(&get(tid).unwrap(), cpu)).unwrap();
            set(tid, &others(lent)).unwrap();
            lending.give_back();
            assert!(!contains(&get(tid).unwrap(), lent));
        });
    }

    #[test]
    fn children_get_the_set_that_is_no_loan() {
        with_thread(|parent| {
            with_thread(|child| {
                let cpus = count(child);
                let mut lending = Lending::new();
                (0..STOPS).for_each(|_| lending.stopped(parent));
                let lent = get(parent).unwrap();
                set(child, &lent).unwrap();
                lending.born(parent, child);
                assert_eq!((count(parent), count(child)), (1, cpus));
                // Given back between its birth and its parent's word.
                set(child, &lent).unwrap();
                lending.give_back();
                lending.born(parent, child);
                assert_eq!(count(child), cpus);
                // Its parent's own choice.
                set(parent, &lent).unwrap();
                set(child, &lent).unwrap();
                lending.born(parent, child);
                assert_eq!(count(child), 1);
            });
        });
    }
}
