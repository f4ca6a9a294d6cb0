//! What runs already: followed from now on, and never stopped.
//!
//! First everybody is put into the map of who is followed, then what they are is read from /proc, and then the records that
//! came meanwhile are handled. So nothing that happens after a process got into the map is missing; what it did in
//! between, within milliseconds, is told although /proc showed its result already.

use std::collections::HashMap;
use std::os::fd::RawFd;

use agentrec_recorder_ebpf::{BY_EXEC, FOUND, Head, Process};

use super::attach::Abi;
use super::{Error, Watcher};
use crate::model::Kernel;
use crate::observation::{ArgList, Call, Loss, Tid};
use crate::proc;
use crate::session::boottime;
use crate::source::{Config, Report};
use crate::watch::Subject;

/// Processes that were there before, until they are told.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// CLOCK_BOOTTIME before the first of them was followed: no record of theirs is older.
    since: u64,
    /// With their parents, parents first.
    processes: Vec<(Tid, Tid)>,
}

/// How many a watcher attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Processes, the root among them.
    pub processes: usize,
    /// Threads of all of them.
    pub threads: usize,
}

impl<I: From<Report> + Send + 'static> Watcher<I> {
    /// Follows a process that runs already, with its descendants, and all that they start. None of them is stopped, now or
    /// later, and they go on when this watcher ends, however it ends.
    ///
    /// # Errors
    /// Where the kernel refuses, or there is no such process.
    pub fn attach(&mut self, pid: Tid, config: &Config) -> Result<Found, Error> {
        self.begin(pid, config)?;
        self.lets_go = true;
        let outputs = Outputs::of(pid, &config.outputs);
        self.follow_running(|| proc::tree(pid), |pid| outputs.of_descendant(pid))?;
        if !self.live.contains(&pid) {
            return Err(Error::Gone(pid));
        }
        Ok(self.found())
    }

    fn found(&self) -> Found {
        let processes = &self.running.processes;
        let threads = processes.iter().map(|&(pid, _)| proc::threads(pid).len()).sum();
        Found { processes: processes.len(), threads }
    }

    /// Follows all whom `list` lists, again until it lists nobody new: who is followed has its children followed by the
    /// programs, so that only those can be new whose parent was not followed yet.
    pub(super) fn follow_running(
        &mut self,
        list: impl Fn() -> Vec<(Tid, Tid)>,
        outputs: impl Fn(Tid) -> u32,
    ) -> Result<(), Error> {
        self.running = Running { since: boottime(), processes: Vec::new() };
        loop {
            let mut more = false;
            for (pid, parent) in list() {
                if self.follow_one(pid, outputs(pid))? {
                    self.running.processes.push((pid, parent));
                    more = true;
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Whether it was not followed yet, and can be.
    fn follow_one(&mut self, pid: Tid, outputs: u32) -> Result<bool, Error> {
        let process = Process { epoch: self.running.since, flags: FOUND, outputs };
        if !self.followed.follow(pid, process)? {
            return Ok(false);
        }
        // Whose end was told before it was followed would be followed for ever.
        if proc::is_ending(pid) {
            self.followed.remove(pid);
            return Ok(false);
        }
        self.live.insert(pid);
        Ok(true)
    }

    /// Follows those whom a watch looks for: who runs, and from now on who comes; with all that they start.
    ///
    /// # Errors
    /// Where the kernel refuses, or there is no such process or control group.
    pub fn look_for(
        &mut self,
        subject: &Subject,
        spared: [u32; 2],
        config: &Config,
    ) -> Result<Found, Error> {
        // Nobody has this id: the watch itself is the first of its processes, of whom nothing is told.
        self.begin(0, config)?;
        let told = subject.for_programs(spared).map_err(|e| Error::Io("find that", e))?;
        self.wanted.set(0, Abi(told), 0).map_err(|e| Error::Map("WATCH", e))?;
        self.lets_go = true;
        self.endless = !matches!(subject, Subject::Tree(_));
        self.follow_running(|| subject.running(spared), |_| 0)?;
        match subject {
            Subject::Tree(pid) if !self.live.contains(pid) => Err(Error::Gone(*pid)),
            _ => Ok(self.found()),
        }
    }

    /// The programs found somebody.
    pub(super) fn found_one(&mut self, head: &Head) {
        let (tid, pid) = (head.tid as Tid, head.pid as Tid);
        self.live.insert(pid);
        let by_exec = head.flags & BY_EXEC != 0;
        // What was told of it was told of this thread.
        let mut threads = vec![tid];
        let (mut argv, mut env, mut exe) = (ArgList::default(), Vec::new(), None);
        if !by_exec {
            threads.extend(proc::threads(pid).into_iter().filter(|&other| other != tid));
            argv = proc::arguments(tid).unwrap_or_default();
            env = proc::environment(tid).unwrap_or_default();
            exe = proc::program(tid);
        }
        self.kernel.executed = by_exec.then_some(tid);
        let (parent, exe) = (Some(self.root), exe.as_deref());
        let call = Call::Found { parent, threads: &threads, argv: &argv, env: &env, exe };
        self.observe(pid, head.ts, call, Ok(0));
        self.kernel.executed = None;
        self.kernel.forget(tid);
    }

    /// Tells all that lives once more, for a trace that begins here.
    pub(super) fn retell(&mut self) {
        self.report(Report::Again);
        let program = |tid| (proc::arguments(tid).unwrap_or_default(), proc::program(tid));
        let mut reports = Vec::new();
        self.model.retell(boottime(), &mut self.kernel, program, &mut reports);
        for report in reports {
            let _ = self.reports.defer(report);
        }
        self.report(Report::Told);
    }

    /// Tells what was found, before the first record is handled.
    pub(super) fn tell_running(&mut self) {
        let Running { since, processes } = std::mem::take(&mut self.running);
        for &(pid, parent) in &processes {
            let known = processes.iter().any(|(other, _)| *other == parent);
            let parent = (pid != self.root).then_some(if known { parent } else { self.root });
            let threads = proc::threads(pid);
            let Some(&thread) = threads.first() else {
                let loss = Call::Lost { loss: Loss::Vanished };
                self.observe(parent.unwrap_or(pid), since, loss, Ok(0));
                continue;
            };
            if let Some(root) = self.kernel.proc.root(thread) {
                self.kernel.set_root(thread, root);
            }
            let argv = proc::arguments(thread).unwrap_or_default();
            let env = proc::environment(thread).unwrap_or_default();
            let exe = proc::program(thread);
            let exe = exe.as_deref();
            let call = Call::Found { parent, threads: &threads, argv: &argv, env: &env, exe };
            self.observe(pid, since, call, Ok(0));
            self.mapped_before(pid, thread, since);
        }
    }
}

/// What the root's outputs lead to. A descendant that has the same at the same number inherited it (as
/// [`Model`](crate::model::Model) takes it).
struct Outputs {
    root: Tid,
    paths: HashMap<RawFd, Vec<u8>>,
}

impl Outputs {
    fn of(root: Tid, fds: &[RawFd]) -> Self {
        let mut proc = proc::Proc::default();
        let paths = fds.iter().filter_map(|&fd| Some((fd, proc.link(root, fd)?))).collect();
        Self { root, paths }
    }

    /// A bit for each of its descriptors that is one.
    fn of_descendant(&self, pid: Tid) -> u32 {
        let mut proc = proc::Proc::default();
        let mut same = |fd, path: &Vec<u8>| {
            pid == self.root || proc.link(pid, fd).is_some_and(|its| its == *path)
        };
        self.paths.iter().filter(|&(&fd, path)| same(fd, path)).map(|(fd, _)| 1 << fd).sum()
    }
}
