//! Becoming the tracer of a tree that runs already, and leaving it again.
//!
//! All of its threads are stopped before anything is read of them, so that what is read fits together and nobody is
//! missed: a thread that stands still starts no child that we don't know (a child of a tracee is a tracee from birth).

use std::collections::HashSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::threads::Thread;
use super::tracee::{self, Ends, Follow, Stop, Stopped, Vanished, Waited};
use super::{Doorbell, Error, Tracer, restart};
use crate::mailbox::Outbox;
use crate::observation::{Call, Loss, Tid};
use crate::proc;
use crate::source::{Config, Control, Report};

/// How long threads may take to stop. Who takes longer (a hung file system) stops once it can.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often threads are looked at that have not stopped yet.
const GLANCE: Duration = Duration::from_micros(200);

/// A tree whose threads are seized and, as far as they could, have stopped.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    /// Processes with their parents, parents first.
    processes: Vec<(Tid, Tid)>,
    /// Seized threads with their processes.
    threads: Vec<(Tid, Tid)>,
    /// Of those, whose stop is not in `news`.
    awaited: HashSet<Tid>,
    /// What happened to them since, in order.
    news: Vec<Waited>,
    /// Parents of processes that the kernel does not let us trace.
    refused: HashSet<(Tid, Tid)>,
}

/// How many a tracer attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Processes, the root among them.
    pub processes: usize,
    /// Threads of all of them.
    pub threads: usize,
}

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// Makes the calling thread the tracer of a process that runs already, with all of its threads and descendants. They
    /// stand still until [`Tracer::run`]. They get no filter, so each of their calls stops twice; and they go on when this
    /// program ends, however it ends.
    ///
    /// # Errors
    /// Where the kernel refuses, see [`Error`].
    pub fn attach(
        pid: Tid,
        config: &Config,
        reports: Outbox<I>,
    ) -> Result<(Self, Control, Found), Error> {
        let frozen = Frozen::new(pid)?;
        let found = Found { processes: frozen.processes.len(), threads: frozen.threads.len() };
        let bell = Doorbell::new().map_err(|error| Error::refused(error, Error::Doorbell))?;
        let (mut tracer, control) = Self::new(pid, config, bell, reports)?;
        tracer.frozen = Some(frozen);
        Ok((tracer, control, found))
    }

    /// Tells what was found, and lets it run.
    pub(super) fn thaw(&mut self, frozen: Frozen) {
        let Frozen { processes, threads, news, refused, .. } = frozen;
        self.every_call = true;
        // A recorder that is killed would leave them behind, and nobody to lead threads past them.
        self.breakpoints.are_off = true;
        for &(tid, process) in &threads {
            self.threads.insert(tid, Thread { started: true, ..Thread::new(process, None) });
        }
        for &(pid, parent) in &processes {
            let of_process = threads.iter().filter(|(_, process)| *process == pid);
            let tids: Vec<Tid> = of_process.map(|&(tid, _)| tid).collect();
            let Some(&thread) = tids.first() else { continue };
            let known = processes.iter().any(|(other, _)| *other == parent);
            let parent = (pid != self.root).then_some(if known { parent } else { self.root });
            let argv = proc::arguments(thread).unwrap_or_default();
            let env = proc::environment(thread).unwrap_or_default();
            let exe = proc::program(thread);
            let exe = exe.as_deref();
            let call = Call::Found { parent, threads: &tids, argv: &argv, env: &env, exe };
            self.observe(pid, call, Ok(0));
        }
        for (_, parent) in refused {
            self.lost(parent, Loss::NotAttached);
        }
        for waited in news {
            self.handle(waited);
        }
    }

    /// Begins to let go of all tracees: each at its next stop.
    pub(super) fn begin_detaching(&mut self) {
        self.silent = true;
        self.detaching = true;
        for tid in self.threads.tids() {
            tracee::interrupt(tid);
        }
    }

    /// A call ends that our interruption may have ended. Whether it is made again is decided behind this stop, which took the
    /// place of the one that was asked for (kernel/signal.c, ptrace_stop): asks once more.
    pub(super) fn exit_before_detaching(&mut self, stopped: Stopped) -> Result<(), Vanished> {
        let tid = stopped.tid();
        if let Some(undo) = self.threads.get_mut(tid).and_then(|thread| thread.undo.take()) {
            undo.apply(&stopped)?;
        }
        tracee::interrupt(tid);
        stopped.resume(0)
    }

    /// Lets go of a tracee at one of its stops, unless something in it has to be put back first.
    pub(super) fn detach(&mut self, stopped: Stopped, signal: i32) -> Result<(), Vanished> {
        let tid = stopped.tid();
        if self.threads.get(tid).is_some_and(|thread| thread.undo.is_some()) {
            return stopped.resume_to_exit(signal);
        }
        self.threads.forget(tid);
        stopped.detach(signal)
    }
}

impl Frozen {
    fn new(root: Tid) -> Result<Self, Error> {
        let mut frozen = Self::default();
        loop {
            let more = frozen.seize_tree(root)?;
            frozen.wait_for_stops().map_err(Error::Wait)?;
            if !more {
                break;
            }
        }
        if frozen.threads.iter().any(|&(_, process)| process == root) {
            return Ok(frozen);
        }
        Err(Error::Seize { pid: root, source: io::Error::from_raw_os_error(libc::ESRCH) })
    }

    /// Seizes who is not seized yet; whether there were any.
    fn seize_tree(&mut self, root: Tid) -> Result<bool, Error> {
        let mut more = false;
        for (pid, parent) in proc::tree(root) {
            for tid in proc::threads(pid) {
                if self.threads.iter().any(|&(seized, _)| seized == tid) {
                    continue;
                }
                match tracee::seize(tid, Follow::Running) {
                    Ok(()) => {
                        tracee::interrupt(tid);
                        self.threads.push((tid, pid));
                        self.awaited.insert(tid);
                        more = true;
                    }
                    // Born as a tracee of ours, or as good as dead: whose end needs no telling.
                    Err(_) if proc::is_traced_by_us(tid) || !proc::may_stop(tid) => {}
                    Err(source) if pid == root => return Err(Error::Seize { pid, source }),
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(_) => {
                        self.refused.insert((pid, parent));
                    }
                }
            }
            let seized = self.threads.iter().any(|&(_, process)| process == pid);
            if seized && !self.processes.iter().any(|&(known, _)| known == pid) {
                self.processes.push((pid, parent));
            }
        }
        Ok(more)
    }

    /// Waits until all seized threads stand still, but for those that sleep where nothing wakes them: such as in vfork(2),
    /// until its child, which stands still, goes on.
    fn wait_for_stops(&mut self) -> io::Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while !self.awaited.is_empty() {
            match tracee::wait(false, Ends::Taken)? {
                Waited::Nothing => break,
                Waited::Quiet => {
                    self.awaited.retain(|&tid| proc::may_stop(tid) && !proc::sleeps_deeply(tid));
                    if Instant::now() > give_up {
                        break;
                    }
                    thread::sleep(GLANCE);
                }
                Waited::Stopped(stopped, stop) => {
                    self.awaited.remove(&stopped.tid());
                    if stop == Stop::Trap {
                        let _ = restart::interrupted(&stopped);
                    }
                    self.news.push(Waited::Stopped(stopped, stop));
                }
                Waited::Ended(mut ended) => {
                    ended.release();
                    self.awaited.remove(&ended.tid);
                    match self.threads.iter().position(|&(seized, _)| seized == ended.tid) {
                        Some(at) => drop(self.threads.remove(at)),
                        None => self.news.push(Waited::Ended(ended)),
                    }
                }
            }
        }
        self.processes.retain(|&(pid, _)| self.threads.iter().any(|&(_, process)| process == pid));
        Ok(())
    }
}
