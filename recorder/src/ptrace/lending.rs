//! Lending: threads that stop again and again run on the tracer's CPU, and the tracer stays there.
//!
//! A stop is a switch from tracee to tracer and back. Across CPUs each is a wake-up by interrupt, which costs several
//! times a switch on the same CPU; and a tracee that is resumed while the tracer holds its CPU is moved away by the
//! scheduler, so that it is across CPUs even where only one thread runs. What stops that often waits for the tracer most
//! of the time, so sharing its CPU takes nothing away; what computes for a while in between keeps its own.
//!
//! A thread that is alone, whose stops nobody else's come between, takes nothing away from another one either, and gets a
//! loan more easily: as the gaps between stops across CPUs are long themselves where a CPU is virtual and idles (a
//! millisecond), it would never be seen to be quick. Where its loan ends since it computes, the tracer stays where it is:
//! the thread will stop there.
//!
//! A thread's set of CPUs is its own business, so a loan must not be seen and must not outlast the stops:
//! - it is given back before the thread executes a program, before anybody in the tree reads or changes such a set or
//!   reads a file `status` (proc(5) shows the set there), and after [`PERIOD`] without a stop;
//! - nothing is lent while somebody is inside of such a call, which may take its time;
//! - what a thread starts while it is on loan inherits the narrow set, and gets the wide one at its birth;
//! - a set that somebody else changed meanwhile is left alone.
//!
//! Where the recorder is killed the tree ends with it.
//!
//! [`PERIOD`]: super::pulse::PERIOD

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libc::cpu_set_t;

use crate::observation::Tid;

/// Stops in quick succession before it is worth it.
const STOPS: u8 = 8;
/// More of them than this are not remembered.
const MAX_STOPS: u8 = 16;
/// What a stop that comes late takes away from them.
const LATE: u8 = 4;
/// Nanoseconds between two stops in quick succession at most, and what every borrower adds: they wait for each other.
const QUICK: u64 = 500_000;
const QUICK_EACH: u64 = 50_000;
/// Nanoseconds at most for a thread that is alone. Less than a time slice: what shares the CPU with others is late.
const QUICK_ALONE: u64 = 2_500_000;
/// Stops in a row after which a thread is alone.
const ALONE: u32 = 4;

/// What a thread's stops are like. One for each thread.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When its last stop was, CLOCK_BOOTTIME in nanoseconds.
    last: u64,
    /// Stops in quick succession, or what is left of them.
    quick: u8,
    /// The loan that it has, or had.
    loan: Option<Arc<Loan>>,
    /// It went into a call that shows or changes such sets.
    asks: bool,
}

/// Who borrows; shared by the tracer and the pulse.
#[derive(Debug)]
pub(super) struct Desk {
    /// The tracer's thread, and its own set.
    tracer: Tid,
    own: Option<cpu_set_t>,
    /// How many loans are out.
    out: AtomicUsize,
    /// Who stopped last, and how often since anybody else did. Only the tracer changes them.
    last: AtomicI32,
    in_a_row: AtomicU32,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    out: HashMap<Tid, Arc<Loan>>,
    /// The last loan of each thread that had one.
    terms: HashMap<Tid, Terms>,
    /// Who is inside of a call that shows or changes such sets.
    askers: HashSet<Tid>,
    /// The tracer has one CPU.
    stays: bool,
}

#[derive(Debug)]
struct Loan {
    out: AtomicBool,
    /// The thread stopped since the pulse looked.
    used: AtomicBool,
}

/// What a thread's set of CPUs is, and the only CPU that it has for the length of a loan.
#[derive(Clone, Copy, Debug)]
struct Terms {
    own: cpu_set_t,
    cpu: usize,
}

impl Pace {
    fn is_out(&self) -> bool {
        self.loan.as_ref().is_some_and(|loan| loan.out.load(Ordering::Acquire))
    }
}

impl Desk {
    /// For the calling thread, the tracer.
    pub(super) fn new() -> Self {
        // SAFETY: gives a number.
        let tracer = unsafe { libc::gettid() };
        let own = get(tracer).ok();
        let (out, last, in_a_row) = Default::default();
        Self { tracer, own, out, last, in_a_row, ledger: Mutex::default() }
    }

    /// Whether any loan is out.
    pub(super) fn is_out(&self) -> bool {
        self.out.load(Ordering::Acquire) > 0
    }

    /// `tid` stopped, at `now`: lends, or gives back.
    pub(super) fn stopped(&self, tid: Tid, pace: &mut Pace, now: u64) {
        if std::mem::take(&mut pace.asks) {
            self.lock().askers.remove(&tid);
        }
        let gap = now.saturating_sub(std::mem::replace(&mut pace.last, now));
        let borrowers = self.out.load(Ordering::Relaxed) as u64;
        let out = pace.is_out();
        let alone = self.is_alone(tid);
        if pace.loan.is_some() && !out {
            // It paused.
            (pace.loan, pace.quick) = (None, 0);
            if alone && self.lock().askers.is_empty() {
                (pace.loan, pace.quick) = (self.lend(tid), STOPS);
                return;
            }
        }
        let quick = if alone { QUICK_ALONE } else { QUICK + borrowers * QUICK_EACH };
        if gap > quick {
            pace.quick = pace.quick.saturating_sub(LATE);
            if out && pace.quick == 0 {
                self.give_back(tid);
            }
            return;
        }
        pace.quick = (pace.quick + 1).min(MAX_STOPS);
        match &pace.loan {
            Some(loan) => loan.used.store(true, Ordering::Relaxed),
            // Soon.
            None if pace.quick == STOPS && !self.lock().askers.is_empty() => pace.quick -= 1,
            None if pace.quick == STOPS => pace.loan = self.lend(tid),
            None => {}
        }
    }

    /// `tid` stopped: whether it did so several times in a row.
    fn is_alone(&self, tid: Tid) -> bool {
        if self.last.swap(tid, Ordering::Relaxed) != tid {
            let before = self.in_a_row.swap(0, Ordering::Relaxed);
            if before >= ALONE && !self.is_out() {
                self.let_tracer_go(&mut self.lock());
            }
            return false;
        }
        self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= ALONE
    }

    fn lend(&self, tid: Tid) -> Option<Arc<Loan>> {
        let tracers = self.own?;
        let own = get(tid).ok()?;
        // The tracer stays on its CPU while there are borrowers.
        // SAFETY: gives a number.
        let cpu = usize::try_from(unsafe { libc::sched_getcpu() }).ok()?;
        let mut ledger = self.lock();
        if !contains(&own, cpu) || !contains(&tracers, cpu) {
            return None;
        }
        // Refused for some kinds of threads (SCHED_DEADLINE), and for those of another user.
        set(tid, &only(cpu)).ok()?;
        if !ledger.stays {
            ledger.stays = set(self.tracer, &only(cpu)).is_ok();
        }
        let loan = Arc::new(Loan { out: true.into(), used: true.into() });
        ledger.terms.insert(tid, Terms { own, cpu });
        ledger.out.insert(tid, Arc::clone(&loan));
        self.out.store(ledger.out.len(), Ordering::Release);
        Some(loan)
    }

    /// `tid` goes into a call that shows or changes such sets, and is to stop behind it: no loans until then.
    pub(super) fn asked(&self, tid: Tid, pace: &mut Pace) {
        pace.asks = true;
        self.lock().askers.insert(tid);
        self.give_all_back();
    }

    /// Ends the loan of `tid`, where it has one.
    pub(super) fn give_back(&self, tid: Tid) {
        if self.is_out() {
            self.end(|borrower, _| borrower == tid, false);
        }
    }

    /// Ends all loans.
    pub(super) fn give_all_back(&self) {
        if self.is_out() {
            self.end(|_, _| true, false);
        }
    }

    /// Ends the loans that were not used since the last time. For the pulse.
    pub(super) fn give_unused_back(&self) {
        if self.is_out() {
            let alone = self.in_a_row.load(Ordering::Relaxed) >= ALONE;
            self.end(|_, loan| !loan.used.swap(false, Ordering::Relaxed), alone);
        }
    }

    fn end(&self, ended: impl Fn(Tid, &Loan) -> bool, stay: bool) {
        let mut ledger = self.lock();
        let Ledger { out, terms, .. } = &mut *ledger;
        out.retain(|&tid, loan| {
            if !ended(tid, loan) {
                return true;
            }
            if let Some(terms) = terms.get(&tid)
                && terms.hold_for(tid)
            {
                // It may be gone.
                set(tid, &terms.own).unwrap_or_default();
            }
            loan.out.store(false, Ordering::Release);
            false
        });
        self.out.store(out.len(), Ordering::Release);
        if out.is_empty() && !stay {
            self.let_tracer_go(&mut ledger);
        }
    }

    /// The tracer may run anywhere again.
    fn let_tracer_go(&self, ledger: &mut Ledger) {
        if let Some(own) = self.own.filter(|_| std::mem::take(&mut ledger.stays)) {
            set(self.tracer, &own).unwrap_or_default();
        }
    }

    /// `parent` started `child`, which has not run yet and has its set: that of a loan is not meant for it.
    pub(super) fn born(&self, parent: Tid, child: Tid) {
        let ledger = self.lock();
        let Some(terms) = ledger.terms.get(&parent) else { return };
        // A set that the parent has without a loan is its own choice.
        let chosen = !ledger.out.contains_key(&parent) && terms.hold_for(parent);
        if !chosen && terms.hold_for(child) {
            set(child, &terms.own).unwrap_or_default();
        }
    }

    /// The thread is gone.
    pub(super) fn ended(&self, tid: Tid) {
        self.give_back(tid);
        let mut ledger = self.lock();
        ledger.terms.remove(&tid);
        ledger.askers.remove(&tid);
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Stops of `tid` in quick succession.
    fn stop(desk: &Desk, tid: Tid, pace: &mut Pace, count: u8) {
        for _ in 0..count {
            let soon = pace.last + 1;
            desk.stopped(tid, pace, soon);
        }
    }

    #[test]
    fn lends_after_quick_stops_and_gives_back() {
        // SAFETY: gives a number.
        let tracer = unsafe { libc::gettid() };
        let cpus = count(tracer);
        assert!(cpus > 1, "nothing can be lent on one CPU");
        with_thread(|tid| {
            let (desk, mut pace) = (Desk::new(), Pace::default());
            stop(&desk, tid, &mut pace, STOPS - 1);
            assert_eq!((count(tid), desk.is_out()), (cpus, false));
            stop(&desk, tid, &mut pace, 1);
            assert_eq!((count(tid), count(tracer), desk.is_out()), (1, 1, true));
            // Another one's calls that must not see it.
            desk.give_all_back();
            assert_eq!((count(tid), count(tracer), desk.is_out()), (cpus, cpus, false));
            // It is alone.
            stop(&desk, tid, &mut pace, 1);
            assert!(desk.is_out());
            // The pulse: used since the last look, and not.
            desk.give_unused_back();
            assert!(desk.is_out());
            desk.give_unused_back();
            assert_eq!((count(tid), desk.is_out()), (cpus, false));
            // Stops that come late.
            stop(&desk, tid, &mut pace, STOPS);
            assert!(desk.is_out());
            for _ in 0..MAX_STOPS.div_ceil(LATE) {
                let late = pace.last + 10 * QUICK;
                desk.stopped(tid, &mut pace, late);
            }
            assert!(!desk.is_out());
            stop(&desk, tid, &mut pace, 2 * STOPS);
            desk.ended(tid);
            assert_eq!((count(tracer), desk.is_out()), (cpus, false));
        });
    }

    #[test]
    fn who_is_alone_may_take_longer() {
        // SAFETY: gives a number.
        let tracer = unsafe { libc::gettid() };
        let cpus = count(tracer);
        let slowly = |desk: &Desk, tid, pace: &mut Pace, count: u8| {
            for _ in 0..count {
                let later = pace.last + 4 * QUICK;
                desk.stopped(tid, pace, later);
            }
        };
        with_thread(|one| {
            with_thread(|other| {
                let (desk, mut pace, mut others) = (Desk::new(), Pace::default(), Pace::default());
                for _ in 0..3 * STOPS {
                    slowly(&desk, one, &mut pace, 1);
                    slowly(&desk, other, &mut others, 1);
                }
                assert_eq!((count(one), count(other)), (cpus, cpus));
                slowly(&desk, one, &mut pace, 2 * STOPS);
                assert_eq!((count(one), count(tracer)), (1, 1));
                // It computes: it has its own set back, and the tracer waits for it where it was.
                desk.give_unused_back();
                desk.give_unused_back();
                assert_eq!((count(one), count(tracer), desk.is_out()), (cpus, 1, false));
                let later = pace.last + 100 * QUICK;
                desk.stopped(one, &mut pace, later);
                assert_eq!((count(one), desk.is_out()), (1, true));
                // Another one's stop: the tracer goes where it likes.
                desk.give_unused_back();
                desk.give_unused_back();
                stop(&desk, other, &mut others, 1);
                assert_eq!((count(one), count(tracer)), (cpus, cpus));
                // Somebody looks.
                slowly(&desk, one, &mut pace, 2 * STOPS);
                desk.give_unused_back();
                desk.give_unused_back();
                desk.asked(other, &mut others);
                let later = pace.last + 100 * QUICK;
                desk.stopped(one, &mut pace, later);
                assert_eq!((count(one), desk.is_out()), (cpus, false));
            });
        });
    }

    #[test]
    fn nothing_is_lent_while_somebody_looks() {
        with_thread(|one| {
            with_thread(|other| {
                let (desk, mut asker, mut pace) = (Desk::new(), Pace::default(), Pace::default());
                let cpus = count(one);
                stop(&desk, one, &mut pace, STOPS);
                desk.asked(other, &mut asker);
                assert_eq!(count(one), cpus);
                stop(&desk, one, &mut pace, 3 * STOPS);
                assert_eq!((count(one), desk.is_out()), (cpus, false));
                stop(&desk, other, &mut asker, 1);
                stop(&desk, one, &mut pace, 1);
                assert!(desk.is_out());
                // Killed inside of its call.
                desk.asked(other, &mut asker);
                desk.ended(other);
                stop(&desk, one, &mut pace, STOPS);
                assert!(desk.is_out());
                desk.give_all_back();
            });
        });
    }

    #[test]
    fn the_tracer_stays_until_the_last_borrower_is_gone() {
        // SAFETY: gives a number.
        let tracer = unsafe { libc::gettid() };
        let cpus = count(tracer);
        with_thread(|one| {
            with_thread(|other| {
                let desk = Desk::new();
                stop(&desk, one, &mut Pace::default(), STOPS);
                stop(&desk, other, &mut Pace::default(), STOPS);
                assert_eq!((count(one), count(other), count(tracer)), (1, 1, 1));
                desk.give_back(one);
                assert_eq!((count(one), count(other), count(tracer)), (cpus, 1, 1));
                desk.give_back(other);
                assert_eq!((count(other), count(tracer)), (cpus, cpus));
            });
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
            let desk = Desk::new();
            stop(&desk, tid, &mut Pace::default(), STOPS);
            let lent = (0..).find(|&cpu| contains(&get(tid).unwrap(), cpu)).unwrap();
            set(tid, &others(lent)).unwrap();
            desk.give_back(tid);
            assert!(!contains(&get(tid).unwrap(), lent));
        });
    }

    #[test]
    fn children_get_the_set_that_is_no_loan() {
        with_thread(|parent| {
            with_thread(|child| {
                let cpus = count(child);
                let desk = Desk::new();
                stop(&desk, parent, &mut Pace::default(), STOPS);
                let lent = get(parent).unwrap();
                set(child, &lent).unwrap();
                desk.born(parent, child);
                assert_eq!((count(parent), count(child)), (1, cpus));
                // Given back between its birth and its parent's word.
                set(child, &lent).unwrap();
                desk.give_back(parent);
                desk.born(parent, child);
                assert_eq!(count(child), cpus);
                // Its parent's own choice.
                set(parent, &lent).unwrap();
                set(child, &lent).unwrap();
                desk.born(parent, child);
                assert_eq!(count(child), 1);
            });
        });
    }
}
