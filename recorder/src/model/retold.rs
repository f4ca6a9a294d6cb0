//! What lives, told once more: for a trace that begins in the middle of a recording and must not need the one before.

use std::collections::HashMap;

use agentrec_trace::ProcId;
use agentrec_trace::event::{FdInitial, ProcessExec, ProcessFork};

use super::files::Kind;
use super::{Kernel, Model, Scribe, Task, address, describe};
use crate::observation::{ArgList, Tid};
use crate::source::Report;

impl Model {
    /// Tells every process and what it has open, as if it had just been found; `program` says what it runs. Processes keep
    /// their numbers. What is closed later names its path instead of an event that is in the other trace.
    pub fn retell(
        &mut self,
        ts: u64,
        kernel: &mut impl Kernel,
        mut program: impl FnMut(Tid) -> (ArgList, Option<Vec<u8>>),
        out: &mut Vec<Report>,
    ) {
        let mut tasks: HashMap<Tid, (Tid, Task)> = HashMap::new();
        for (&tid, &task) in &self.tasks {
            let leader = tid == task.process;
            tasks
                .entry(task.process)
                .and_modify(|known| *known = if leader { (tid, task) } else { *known })
                .or_insert((tid, task));
        }
        let mut living: Vec<(ProcId, Tid)> =
            self.processes.iter().map(|(&pid, process)| (process.id, pid)).collect();
        living.sort_unstable();
        let pids: HashMap<ProcId, Tid> = living.iter().copied().collect();
        for (id, pid) in living {
            let Some(&(thread, task)) = tasks.get(&pid).filter(|_| pid != self.root) else {
                continue;
            };
            let Some(process) = self.processes.get(&pid) else { continue };
            let parent = process.parent;
            let (parent, starter) = match pids.get(&parent) {
                Some(&pid) => (parent, pid),
                None => (ProcId(1), self.root),
            };
            let env = describe::env_changes(&[], &process.env);
            let mut scribe = Scribe { ts, tid: starter, out };
            let fork = ProcessFork { child: id, pid: pid as u32, flags: 0, initial: true };
            scribe.write(starter, parent, fork);
            scribe.tid = pid;
            let (argv, exe) = program(thread);
            // One that has ended can't be asked any more; its end comes next.
            if exe.is_some() || !argv.bytes.is_empty() {
                let data = ProcessExec {
                    path: exe.unwrap_or_default().into(),
                    argv: argv.iter().map(|arg| arg.to_vec().into()).collect(),
                    argv_len: argv.cut,
                    cwd: self.fs.get(task.fs).cwd.clone().into(),
                    env,
                    exe: None,
                    pid: pid as u32,
                    errno: None,
                    initial: true,
                };
                scribe.write(pid, id, data);
            }
            self.retell_descriptors(pid, id, (thread, task), kernel, &mut scribe);
        }
    }

    fn retell_descriptors(
        &mut self,
        pid: Tid,
        proc: ProcId,
        (thread, task): (Tid, Task),
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let open: Vec<_> = self.files.get(task.files).iter().collect();
        for (fd, id) in open {
            let description = self.descriptions.get_mut(id);
            let named = description.path.clone();
            if let (Kind::Socket(socket), true) = (&mut description.kind, description.has_event) {
                let peer = kernel.socket(thread, fd).map(|facts| facts.peer).unwrap_or_default();
                let peer = match &peer[..] {
                    [] => address::nameless(socket.family),
                    peer => address::decode(peer),
                };
                socket.peer.get_or_insert(peer);
            }
            description.has_event = false;
            let path = match named.is_empty() {
                true => kernel.link(thread, fd).unwrap_or_default(),
                false => named,
            };
            let flags = kernel.descriptor_flags(thread, fd).unwrap_or(0);
            let data = FdInitial { fd, path: path.into(), flags };
            scribe.write_opening(pid, proc, data, Some(id));
        }
    }
}
