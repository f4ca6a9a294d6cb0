//! The ptrace engine: seizes a process, follows everything that it starts, and reports what the covered calls did.
//!
//! One thread does it all, since the kernel lets nobody else touch a tracee: it waits for a stop, reads what it has to,
//! tells the [model](crate::model), and resumes. Everything here needs no privilege beyond tracing one's own processes.

mod attach;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_breakpoints.rs")]
mod breakpoints;
mod calls;
mod diversion;
mod doorbell;
mod exec;
mod filter;
mod keeping;
mod lending;
pub(crate) mod memory;
mod messages;
mod objects;
mod output;
mod pulse;
mod refusal;
mod registers;
mod restart;
mod rights;
mod signals;
mod streams;
mod sums;
mod threads;
mod tracee;
mod turns;

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::calls::decode::Entry;
use crate::handed_on::Direct;
use crate::keep::Keeper;
use crate::mailbox::Outbox;
use crate::model::Model;
use crate::observation::{Call, Loss, Observation, Tid, Usage};
use crate::proc::{self, Proc};
use crate::source::{Config, Control, Report, Request};
pub use attach::Found;
use attach::Frozen;
use breakpoints::Breakpoints;
use diversion::Diversion;
use doorbell::Doorbell;
pub use filter::{Filter, NoNewPrivs, permit_tracer};
use lending::Desk;
use pulse::Pulse;
use sums::Sums;
use threads::{Orphan, Thread, Threads, Undo};
use tracee::{Ended, Follow, Stop, Stopped, Vanished, Waited};
use turns::Turns;

/// The tree can't be traced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel lets us trace nobody.
    #[error("cannot trace: {why}")]
    Refused {
        /// As far as that can be seen.
        why: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused PTRACE_SEIZE: EPERM where the process is not ours to trace or is traced already.
    #[error("cannot trace process {pid}")]
    Seize {
        /// The process.
        pid: Tid,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process that other threads wake the tracer by could not be started.
    #[error("cannot start the tracer's doorbell process")]
    Doorbell(#[source] io::Error),
    /// The thread beside the tracer could not be started.
    #[error("cannot start the tracer's pulse")]
    Pulse(#[source] io::Error),
    /// waitpid(2) failed other than for want of tracees.
    #[error("cannot wait for traced processes")]
    Wait(#[source] io::Error),
}

impl Error {
    /// A refusal, explained; or whatever else it is.
    fn refused(source: io::Error, other: impl FnOnce(io::Error) -> Self) -> Self {
        match refusal::explain(&source) {
            Some(why) => Self::Refused { why, source },
            None => other(source),
        }
    }
}

/// A tracer with its tree. Stays on the thread that made it.
pub struct Tracer<I> {
    root: Tid,
    threads: Threads,
    turns: Turns,
    model: Model,
    kernel: Proc,
    reports: Outbox<I>,
    control: Control,
    reserved_fd: Option<RawFd>,
    bell: Option<Doorbell>,
    desk: Arc<Desk>,
    pulse: Pulse,
    sums: Sums,
    breakpoints: Breakpoints,
    diversion: Option<Diversion>,
    keeper: Option<Keeper>,
    direct: Direct,
    /// No events any more.
    silent: bool,
    /// Everything of the tree is to end.
    killing: bool,
    /// Set-uid programs and their kin run without their right because of us.
    rights_lost: bool,
    /// There is no filter: the tree ran before. Each call stops at its entry and at its exit.
    every_call: bool,
    /// All tracees are let go, each at its next stop.
    detaching: bool,
    /// What was attached to, until it is let run.
    frozen: Option<Frozen>,
    /// Stops since orphans were looked for, while there may be any.
    unadopted: u32,
    /// Entries whose buffers can be used again.
    spare: Vec<Entry>,
    seen: Vec<Report>,
    scratch: Vec<u8>,
}

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// Makes the calling thread the tracer of `pid`, which must not have started anything yet and is to install the
    /// [`Filter`] before its exec. If this program ends, however it ends, so does the tree.
    ///
    /// # Errors
    /// Where the kernel refuses, see [`Error`].
    pub fn seize(pid: Tid, config: &Config, reports: Outbox<I>) -> Result<(Self, Control), Error> {
        let bell = Doorbell::new().map_err(|error| Error::refused(error, Error::Doorbell))?;
        tracee::seize(pid, Follow::Started)
            .map_err(|error| Error::refused(error, |source| Error::Seize { pid, source }))?;
        let (mut tracer, control) = Self::new(pid, config, bell, reports)?;
        tracer.threads.insert(pid, Thread { started: true, ..Thread::new(pid, None) });
        Ok((tracer, control))
    }

    /// A tracer without tracees.
    fn new(
        root: Tid,
        config: &Config,
        bell: Doorbell,
        reports: Outbox<I>,
    ) -> Result<(Self, Control), Error> {
        let desk = Arc::new(Desk::new());
        let pulse = Pulse::start(reports.clone(), Arc::clone(&desk)).map_err(Error::Pulse)?;
        let control = Control::default();
        let bell_tid = bell.tid();
        control.answer_with(Some(Box::new(move || Doorbell::ring(bell_tid))));
        let tracer = Self {
            root,
            threads: Threads::new(),
            turns: Turns::default(),
            model: Model::new(root, config),
            kernel: Proc::default(),
            reports,
            control: control.clone(),
            reserved_fd: config.reserved_fd,
            bell: Some(bell),
            desk,
            pulse,
            sums: Sums::default(),
            breakpoints: Breakpoints::default(),
            diversion: None,
            keeper: None,
            direct: Direct::default(),
            silent: false,
            killing: false,
            rights_lost: rights::are_lost(root),
            every_call: false,
            detaching: false,
            frozen: None,
            unadopted: 0,
            spare: Vec::new(),
            seen: Vec::new(),
            scratch: Vec::new(),
        };
        Ok((tracer, control))
    }

    /// Nothing looks into TLS libraries.
    pub(crate) fn ignore_tls(&mut self) {
        self.breakpoints.are_off = true;
    }

    /// Traces until nothing of the tree is left. Waits where the channel is full.
    ///
    /// # Errors
    /// [`Error::Wait`]; the tree ends with this program then.
    pub fn run(mut self) -> Result<(), Error> {
        if let Some(frozen) = self.frozen.take() {
            self.thaw(frozen);
        }
        while self.step(true)? {
            if self.threads.is_empty() {
                self.hang_up();
            }
        }
        self.hang_up();
        self.report(Report::TreeEnded);
        Ok(())
    }

    /// Handles one stop or end; false when there was none.
    fn step(&mut self, block: bool) -> Result<bool, Error> {
        let waited = self.wait(block).map_err(Error::Wait)?;
        let bell = self.bell.as_ref().map(Doorbell::tid);
        match waited {
            Waited::Nothing | Waited::Quiet => return Ok(false),
            Waited::Stopped(stopped, _) if Some(stopped.tid()) == bell => {
                // Resumed first: a ring from here on stops it again.
                let _ = stopped.resume(0);
                self.answer_requests()?;
            }
            Waited::Ended(ended) if Some(ended.tid) == bell => self.replace_bell(),
            waited => self.handle(waited),
        }
        Ok(true)
    }

    /// Waits. Orphans are looked for, which takes many looks into /proc, when nothing else happens; and now and then.
    fn wait(&mut self, block: bool) -> io::Result<Waited> {
        const NOW_AND_THEN: u32 = 256;
        if self.threads.early.is_empty() {
            return self.turns.next(block, self.sums.ends());
        }
        self.unadopted += 1;
        if self.unadopted < NOW_AND_THEN {
            match self.turns.next(false, self.sums.ends())? {
                Waited::Quiet if block => {}
                waited => return Ok(waited),
            }
        }
        self.unadopted = 0;
        self.adopt_orphans();
        self.turns.next(block, self.sums.ends())
    }

    /// What happened to a tracee.
    fn handle(&mut self, waited: Waited) {
        match waited {
            Waited::Stopped(stopped, stop) => match self.stopped(stopped, stop) {
                Ok(()) | Err(Vanished) => {}
            },
            Waited::Ended(ended) => self.ended(ended),
            Waited::Quiet | Waited::Nothing => {}
        }
    }

    fn stopped(&mut self, stopped: Stopped, stop: Stop) -> Result<(), Vanished> {
        let tid = stopped.tid();
        self.pulse.stopped();
        // Who goes on without us must not keep a loan, however we end.
        if !self.silent
            && !self.every_call
            && let Some(thread) = self.threads.get_mut(tid)
        {
            self.desk.stopped(tid, &mut thread.pace, now());
        }
        self.moved(tid);
        if let Some(diversion) = self.diversion.as_mut().filter(|_| stop == Stop::Exit) {
            diversion.forget(tid);
        }
        if !self.threads.started(tid) && matches!(stop, Stop::Trap | Stop::Group(_)) {
            return self.first_stop(stopped, stop);
        }
        match stop {
            Stop::Seccomp => self.entry(stopped),
            Stop::Syscall => self.unfiltered(stopped),
            Stop::Fork => self.forked(stopped),
            Stop::Exec => self.executed(stopped),
            Stop::Exit => {
                self.exiting(tid);
                self.resume(stopped, 0)
            }
            // Stays stopped, and still says when SIGCONT comes (ptrace(2), group-stop). Who is detached from does, too.
            Stop::Group(_) if !self.detaching => stopped.listen(),
            Stop::Signal(libc::SIGTRAP) if self.passes_breakpoint(&stopped)? => {
                self.resume(stopped, 0)
            }
            Stop::Signal(signal) => {
                let signal = self.delivered(&stopped, signal)?;
                self.resume(stopped, signal)
            }
            Stop::Trap if self.detaching => {
                restart::interrupted(&stopped)?;
                self.resume(stopped, 0)
            }
            Stop::Trap if tid == self.root => {
                self.report(Report::CommandContinued);
                self.resume(stopped, 0)
            }
            Stop::Group(_) | Stop::Trap | Stop::Other => self.resume(stopped, 0),
        }
    }

    /// Resumes it to the exit of its call, where one is waited for.
    fn resume(&mut self, stopped: Stopped, signal: i32) -> Result<(), Vanished> {
        if self.detaching {
            return self.detach(stopped, signal);
        }
        if self.every_call || self.threads.get(stopped.tid()).is_some_and(Thread::in_call) {
            stopped.resume_to_exit(signal)
        } else {
            stopped.resume(signal)
        }
    }

    /// A process or thread was started; it may have stopped before this.
    fn forked(&mut self, stopped: Stopped) -> Result<(), Vanished> {
        let tid = stopped.tid();
        let child = stopped.event_message()? as Tid;
        self.desk.born(tid, child);
        let thread = self.threads.get(tid);
        let flags = threads::clone_flags(&stopped, thread, child)?;
        let undo = thread.and_then(|thread| thread.undo);
        self.born(tid, child, flags, undo);
        self.resume(stopped, 0)
    }

    fn born(&mut self, parent: Tid, child: Tid, flags: u64, undo: Option<Undo>) {
        if self.threads.get(child).is_some() {
            return;
        }
        let process = match flags & libc::CLONE_THREAD as u64 {
            0 => child,
            _ => self.threads.get(parent).map_or(child, |parent| parent.process),
        };
        let stillborn = self.threads.stillborn(child);
        // Also when silent: the model answers for the tree later.
        self.observe(parent, Call::Fork { child, flags }, Ok(0));
        if let Some(status) = stillborn {
            self.observe(child, Call::ThreadExit, Ok(0));
            if process == child {
                self.observe(child, Call::Exit { status, usage: Usage::default() }, Ok(0));
            }
            return;
        }
        let creator = self.threads.get(parent).map(|parent| parent.process);
        self.threads.insert(child, Thread::new(process, undo));
        if let Some(creator) = creator.filter(|&creator| creator != process) {
            self.threads.started_with(creator, process, flags);
            self.breakpoints.forked(creator, process, flags);
        }
        if self.killing {
            kill(process);
        }
        if let Some((stopped, stop)) = self.threads.early.remove(&child) {
            let _ = self.first_stop(stopped, stop);
        }
    }

    /// A new thread stands at its beginning. Before its parent's event it has to wait: what it does comes after.
    fn first_stop(&mut self, stopped: Stopped, stop: Stop) -> Result<(), Vanished> {
        let tid = stopped.tid();
        let Some(thread) = self.threads.get_mut(tid) else {
            self.threads.early.insert(tid, (stopped, stop));
            return Ok(());
        };
        thread.started = true;
        if let Some(undo) = thread.undo.take() {
            undo.apply(&stopped)?;
        }
        match stop {
            Stop::Group(_) if !self.detaching => stopped.listen(),
            _ => self.resume(stopped, 0),
        }
    }

    /// Children whose parent was killed before it could tell of them would wait for ever.
    fn adopt_orphans(&mut self) {
        if self.threads.early.is_empty() {
            return;
        }
        for Orphan { child, parent, is_thread } in self.threads.orphans() {
            let flags = if is_thread { threads::THREAD_FLAGS } else { 0 };
            self.born(parent.unwrap_or(0), child, flags, None);
            if !self.silent {
                self.lost(child, Loss::Orphan);
            }
        }
    }

    fn exiting(&mut self, tid: Tid) {
        let Some(thread) = self.threads.get_mut(tid).filter(|thread| !thread.exiting) else {
            return;
        };
        thread.exiting = true;
        let process = thread.process;
        if self.threads.left(process) == 0 && !self.silent {
            let usage = proc::usage(process);
            self.threads.set_usage(process, usage);
        }
        self.observe(tid, Call::ThreadExit, Ok(0));
    }

    fn ended(&mut self, mut ended: Ended) {
        let Ended { tid, status, .. } = ended;
        self.threads.early.remove(&tid);
        self.desk.ended(tid);
        // Killed at a stop, it takes our resuming from there for that from its exit stop. It can still be asked.
        self.moved(tid);
        self.sums.forget(tid);
        self.breakpoints.thread_ended(tid);
        self.may_have_changed(tid);
        if let Some(diversion) = &mut self.diversion {
            diversion.forget(tid);
        }
        if let Some(thread) = self.threads.get(tid) {
            let process = thread.process;
            if !thread.exiting {
                self.threads.left(process);
                self.observe(tid, Call::ThreadExit, Ok(0));
            }
            if let Some(entry) = self.threads.remove(tid).and_then(|thread| thread.entry) {
                self.spare.push(entry);
            }
            if tid == process {
                let usage = self.threads.end_process(process);
                self.breakpoints.ended(process);
                let usage = usage.unwrap_or_else(|| proc::usage(tid));
                // Its parent first: the front must not hear from us that the command is gone while it still looks stopped.
                ended.release();
                self.observe(tid, Call::Exit { status, usage }, Ok(0));
                if tid == self.root {
                    self.report(Report::CommandExited(status));
                }
            }
        } else {
            self.threads.ended_unknown(tid, status);
        }
    }

    fn lost(&mut self, tid: Tid, loss: Loss) {
        self.observe(tid, Call::Lost { loss }, Ok(0));
    }

    fn observe(&mut self, tid: Tid, call: Call<'_>, result: Result<u64, i32>) {
        let seen = Observation { tid, ts: now(), call, result };
        let mut reports = std::mem::take(&mut self.seen);
        self.model.observe(&seen, &mut self.kernel, &mut reports);
        for report in reports.drain(..) {
            if let (Some(keeper), Report::Event(captured)) = (&mut self.keeper, &report) {
                keeper.told(captured, tid);
            }
            if !self.silent && self.reports.defer(report).is_err() {
                self.deserted();
            }
        }
        self.seen = reports;
    }

    fn report(&mut self, report: Report) {
        if self.reports.send(report).is_err() {
            self.deserted();
        }
    }

    /// The session is gone; the tree's filter is not.
    fn deserted(&mut self) {
        self.silent = true;
    }

    fn answer_requests(&mut self) -> Result<(), Error> {
        for request in self.control.take() {
            match request {
                // Only a watch asks.
                Request::Again => {}
                Request::Silence if self.every_call => self.begin_detaching(),
                Request::Silence => {
                    self.silent = true;
                    self.breakpoints.are_off = true;
                    self.desk.give_all_back();
                }
                // Only asked of who can't hold a signal back.
                Request::WasSent { .. } => {}
                Request::Tunnel { tid, ticket, tunnel } => self.tunnel_given(tid, ticket, tunnel),
                Request::Kill => {
                    self.killing = true;
                    self.threads.processes().for_each(kill);
                }
                Request::Fence(token) => {
                    // What had happened by now has stopped by now; each thread stands at one stop at most, and
                    // going round more often could go on for ever.
                    let mut turns = self.turns.take(self.sums.ends()).map_err(Error::Wait)?;
                    while turns > 0 && self.step(false)? {
                        turns -= 1;
                    }
                    self.report(Report::Fence(token));
                }
            }
        }
        Ok(())
    }

    /// Something killed the doorbell.
    fn replace_bell(&mut self) {
        // It is waited for already: nothing is left to end.
        if let Some(bell) = self.bell.take() {
            bell.forget();
        }
        match Doorbell::new() {
            Ok(bell) => {
                let tid = bell.tid();
                self.control.answer_with(Some(Box::new(move || Doorbell::ring(tid))));
                // For requests whose ring was not heard.
                Doorbell::ring(tid);
                self.bell = Some(bell);
            }
            Err(error) => {
                tracing::error!(%error, "the tracer can no longer be interrupted");
                self.control.answer_with(None);
            }
        }
    }

    fn hang_up(&mut self) {
        if let Some(bell) = self.bell.take() {
            self.control.answer_with(None);
            drop(bell);
        }
    }
}

fn kill(process: Tid) {
    // SAFETY: no memory effects. The process is a tracee that was not waited for, so the id is still its own.
    unsafe { libc::kill(process, libc::SIGKILL) };
}

/// CLOCK_BOOTTIME in nanoseconds: goes on while the machine sleeps.
fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    time.map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
