//! The process tree: who started whom, what each executed, how each ended.

use std::collections::BTreeMap;

use agentrec_trace::{Bytes, Data, Event, ProcId, Seq};

/// A program that a process executed.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The event.
    pub seq: Seq,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub ts: u64,
    /// Arguments.
    pub argv: Vec<Bytes<'static>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// CLOCK_BOOTTIME, nanoseconds.
    pub ts: u64,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// User and system CPU time, nanoseconds.
    pub cpu: u64,
    /// Peak resident set, bytes.
    pub max_rss: u64,
}

/// A process of the session.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its index in the session.
    pub id: ProcId,
    /// The kernel's pid; 0 where no event told it.
    pub pid: u32,
    /// Who started it.
    pub parent: Option<ProcId>,
    /// The `process.fork` that started it.
    pub fork: Option<Seq>,
    /// CLOCK_BOOTTIME of its first event, nanoseconds.
    pub started: u64,
    /// Programs, in order.
    pub execs: Vec<Exec>,
    /// How it ended; none while it runs, or where the trace ends before it.
    pub exit: Option<Exit>,
    /// In the order in which they were started.
    pub children: Vec<ProcId>,
}

/// All processes of a session.
#[derive(Debug, Default)]
pub struct Processes {
    all: BTreeMap<ProcId, Process>,
}

impl Processes {
    /// The command that was recorded.
    pub const COMMAND: ProcId = ProcId(1);

    /// Takes the next event.
    pub fn add(&mut self, event: &Event<'_>) {
        if let Data::SessionStart(start) = &event.data
            && start.watch.is_some()
        {
            // Nothing else tells of it: the recorder stands where else the command is.
            let argv = start.argv.iter().map(|arg| arg.clone().into_owned()).collect();
            let exec = Exec { seq: event.seq, ts: event.ts, argv };
            self.entry(Self::COMMAND, event.ts).execs.push(exec);
        }
        let Some(id) = event.proc else { return };
        self.entry(id, event.ts);
        match &event.data {
            Data::ProcessFork(fork) => self.forked(event, id, fork.child, fork.pid),
            Data::ProcessExec(exec) if exec.errno.is_none() => {
                let process = self.entry(id, event.ts);
                if exec.pid != 0 {
                    process.pid = exec.pid;
                }
                process.execs.push(Exec {
                    seq: event.seq,
                    ts: event.ts,
                    argv: exec.argv.iter().map(|arg| arg.clone().into_owned()).collect(),
                });
            }
            Data::ProcessExit(exit) => {
                self.entry(id, event.ts).exit = Some(Exit {
                    ts: event.ts,
                    code: exit.code,
                    signal: exit.signal,
                    cpu: exit.utime.saturating_add(exit.stime),
                    max_rss: exit.max_rss,
                });
            }
            _ => {}
        }
    }

    fn entry(&mut self, id: ProcId, ts: u64) -> &mut Process {
        self.all.entry(id).or_insert_with(|| Process { id, started: ts, ..Process::default() })
    }

    fn forked(&mut self, event: &Event<'_>, parent: ProcId, child: ProcId, pid: u32) {
        let cycle = child == parent || self.ancestors(parent).any(|ancestor| ancestor.id == child);
        let process = self.entry(child, event.ts);
        if process.parent.is_some() || cycle {
            return;
        }
        process.pid = pid;
        process.parent = Some(parent);
        process.fork = Some(event.seq);
        self.entry(parent, event.ts).children.push(child);
    }

    /// The process.
    pub fn get(&self, id: ProcId) -> Option<&Process> {
        self.all.get(&id)
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.all.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The parent of `id`, its parent, and so on.
    pub fn ancestors(&self, id: ProcId) -> impl Iterator<Item = &Process> {
        std::iter::successors(self.get(id), |process| self.get(process.parent?)).skip(1)
    }

    /// `id` and all that descend from it, parents first, with their depth below `id`.
    pub fn subtree(&self, id: ProcId) -> Vec<(usize, &Process)> {
        let mut found = Vec::new();
        let mut stack = vec![(0, id)];
        while let Some((depth, id)) = stack.pop() {
            if let Some(process) = self.get(id) {
                found.push((depth, process));
                stack.extend(process.children.iter().rev().map(|&child| (depth + 1, child)));
            }
        }
        found
    }

    /// Processes that none of the others started: the command, and what was there before.
    pub fn roots(&self) -> impl Iterator<Item = &Process> {
        self.iter().filter(|process| process.parent.is_none())
    }

    /// The arguments of what `id` executed last before `ts`; those of its parent where it only forked.
    pub fn argv_at(&self, id: ProcId, ts: u64) -> &[Bytes<'static>] {
        let with_ancestors = self.get(id).into_iter().chain(self.ancestors(id));
        with_ancestors
            .filter_map(|process| process.execs.iter().rev().find(|exec| exec.ts <= ts))
            .map(|exec| exec.argv.as_slice())
            .next()
            .unwrap_or_default()
    }

    /// The arguments of the last program of `id`.
    pub fn argv(&self, id: ProcId) -> &[Bytes<'static>] {
        self.argv_at(id, u64::MAX)
    }

    /// Whether `id` executed a program of its own, rather than going on as a copy of its parent.
    pub fn executed(&self, id: ProcId) -> bool {
        self.get(id).is_some_and(|process| !process.execs.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;

    #[test]
    fn arguments_of_a_fork_are_its_parents_until_it_executes() {
        let mut script = Script::new("/w");
        script.exec(1, &["bash"]).fork(1, 2);
        let before = script.now();
        script.exec(2, &["rm", "-rf"]);
        let processes = script.digest().processes;
        assert_eq!(processes.argv_at(ProcId(2), before)[0].as_slice(), b"bash");
        assert_eq!(processes.argv(ProcId(2))[0].as_slice(), b"rm");
    }

    #[test]
    fn subtrees_come_parents_first() {
        let mut script = Script::new("/w");
        script.fork(1, 2).fork(2, 4).fork(1, 3);
        let processes = script.digest().processes;
        let order: Vec<_> =
            processes.subtree(ProcId(1)).iter().map(|(d, p)| (*d, p.id.0)).collect();
        assert_eq!(order, [(0, 1), (1, 2), (2, 4), (1, 3)]);
    }

    #[test]
    fn a_cycle_of_parents_is_refused() {
        let mut script = Script::new("/w");
        script.fork(2, 3).fork(3, 2).fork(4, 4);
        let processes = script.digest().processes;
        assert_eq!(processes.get(ProcId(2)).and_then(|p| p.parent), None);
        assert_eq!(processes.ancestors(ProcId(3)).count(), 1);
        assert_eq!(processes.ancestors(ProcId(4)).count(), 0);
    }
}
