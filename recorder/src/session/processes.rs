//! Which processes are in the tree: who speaks on the socket, and who is left at the end.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::path::Path;
use std::sync::Arc;

use agentrec_trace::{Data, Event, ProcId};

use crate::tls::{self, FileId};

/// A process that ended this long ago may still have lines on the way; its pid is not given to another one so soon.
/// Nanoseconds.
const GRACE: u64 = 2_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Process {
    id: ProcId,
    ended: Option<u64>,
}

/// The processes of the tree by pid.
#[derive(Debug, Default)]
pub(super) struct Processes {
    by_pid: HashMap<u32, Process>,
    pids: HashMap<ProcId, u32>,
    /// The programs of those that live.
    programs: HashMap<ProcId, Arc<Path>>,
    /// Of executables, whose TLS they bring along.
    own_tls: HashMap<FileId, Option<tls::Own>>,
    command: Option<u32>,
    alive: u32,
}

impl Processes {
    /// The command's own process.
    pub(super) fn command(&mut self, pid: u32) {
        self.command = Some(pid);
        self.add(pid, ProcId(1));
    }

    /// The command's pid.
    pub(super) fn command_pid(&self) -> Option<u32> {
        self.command
    }

    pub(super) fn observe(&mut self, event: &Event<'_>) {
        match &event.data {
            Data::ProcessFork(fork) => {
                self.add(fork.pid, fork.child);
                if let Some(program) = event.proc.and_then(|parent| self.programs.get(&parent)) {
                    self.programs.insert(fork.child, Arc::clone(program));
                }
            }
            Data::ProcessExec(exec) if exec.errno.is_none() => {
                event.proc.map(|id| self.programs.insert(id, exec.path.as_path().into()));
            }
            Data::ProcessExit(_) => self.end(event),
            _ => {}
        }
    }

    fn add(&mut self, pid: u32, id: ProcId) {
        self.alive += 1;
        self.pids.insert(id, pid);
        self.by_pid.insert(pid, Process { id, ended: None });
    }

    fn end(&mut self, event: &Event<'_>) {
        let Some(pid) = event.proc.and_then(|id| self.pids.remove(&id)) else { return };
        event.proc.map(|id| self.programs.remove(&id));
        self.alive = self.alive.saturating_sub(1);
        if let Some(process) = self.by_pid.get_mut(&pid).filter(|p| Some(p.id) == event.proc) {
            process.ended = Some(event.ts);
        }
        // Pids come back at the latest when all others were used: the table stays as small as the pid space.
        if self.by_pid.len() > 2 * self.pids.len() + 1024 {
            let now = event.ts;
            self.by_pid
                .retain(|_, p| p.ended.is_none_or(|ended| now.saturating_sub(ended) < GRACE));
        }
    }

    /// The process of the tree that `pid` names at the time `now`.
    pub(super) fn find(&self, pid: u32, now: u64) -> Option<ProcId> {
        let process = self.by_pid.get(&pid)?;
        let gone = process.ended.is_some_and(|ended| now.saturating_sub(ended) >= GRACE);
        (!gone).then_some(process.id)
    }

    /// The name of the program that a live process runs, without directories.
    pub(super) fn program(&self, id: Option<ProcId>) -> Option<Arc<str>> {
        let name = self.programs.get(&id?)?.file_name()?;
        Some(name.to_string_lossy().into())
    }

    /// Whose TLS the program that a process runs, or just ran, brings along.
    pub(super) fn own_tls(&mut self, id: ProcId) -> Option<tls::Own> {
        let running = self.pids.get(&id).map(|pid| File::open(format!("/proc/{pid}/exe")));
        let ran = || File::open(self.programs.get(&id)?).ok();
        let file = running.and_then(Result::ok).or_else(ran)?;
        let known = FileId::from(&file.metadata().ok().filter(Metadata::is_file)?);
        *self.own_tls.entry(known).or_insert_with(|| tls::own(&file).ok().flatten())
    }

    /// Pids of those that live.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.pids.values().copied()
    }

    /// How many are alive.
    pub(super) fn alive(&self) -> u32 {
        self.alive
    }
}

#[cfg(test)]
mod tests {
    use agentrec_trace::Source;
    use agentrec_trace::event::{ProcessExit, ProcessFork};

    use super::*;

    fn event(ts: u64, proc: u32, data: impl Into<Data<'static>>) -> Event<'static> {
        Event { proc: Some(ProcId(proc)), ..Event::new(ts, Source::Kernel, data) }
    }

    #[test]
    fn a_pid_names_its_process_for_a_while_after_its_end_and_then_the_next_one() {
        let mut processes = Processes::default();
        processes.command(10);
        processes.observe(&event(
            1,
            1,
            ProcessFork { child: ProcId(2), pid: 11, ..ProcessFork::default() },
        ));
        assert_eq!((processes.find(11, 5), processes.alive()), (Some(ProcId(2)), 2));
        processes.observe(&event(100, 2, ProcessExit::default()));
        assert_eq!((processes.find(11, 101), processes.alive()), (Some(ProcId(2)), 1));
        assert_eq!(processes.find(11, 100 + GRACE), None);
        processes.observe(&event(
            200,
            1,
            ProcessFork { child: ProcId(3), pid: 11, ..ProcessFork::default() },
        ));
        assert_eq!(processes.find(11, 100 + GRACE), Some(ProcId(3)));
        assert_eq!(processes.find(12, 5), None);
    }
}
