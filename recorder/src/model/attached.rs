//! Processes that ran already when the recording began, or whose birth was not told: what they are, and what they have open.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::RawFd;
use std::sync::Arc;

use agentrec_trace::event::{FdInitial, ProcessExec, ProcessFork};
use agentrec_trace::{Event, ProcId, Source};

use super::files::{Description, FileTable, Kind};
use super::mounts::Fs;
use super::{Kernel, Model, Process, Scribe, Task, describe};
use crate::observation::{ArgList, Tid};
use crate::source::{Captured, Report};

/// [`Call::Found`](crate::observation::Call::Found).
pub(super) struct Found<'a> {
    pub(super) parent: Option<Tid>,
    pub(super) threads: &'a [Tid],
    pub(super) argv: &'a ArgList,
    pub(super) env: &'a [u8],
    pub(super) exe: Option<&'a [u8]>,
}

impl Model {
    /// Takes a process in. Its threads are taken to share one table and one directory, as nearly all do; what two
    /// processes share is a description of its own in each, since only the sums by process are told.
    pub(super) fn found(
        &mut self,
        pid: Tid,
        found: &Found<'_>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let Some(&thread) = found.threads.first() else { return };
        let task = self.task_of_found(pid, found);
        let fs = self.fs.get_mut(task.fs);
        if let Some(path) = kernel.working_directory(thread) {
            fs.cwd = path;
        }
        fs.namespace = kernel.mount_namespace(thread);
        fs.set_root(kernel.root(thread).unwrap_or_default());
        let cwd = fs.cwd.clone();
        let parent_env = match found.parent {
            Some(parent) => self.processes.get(&parent).map(|process| process.env.clone()),
            None => self.processes.get(&pid).map(|process| process.env.clone()),
        };
        let changes = describe::env_changes(&parent_env.unwrap_or_default(), found.env);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.env = found.env.into();
        let proc = process.id;
        if let Some(parent) = found.parent
            && let Some(starter) = self.processes.get(&parent).map(|process| process.id)
        {
            self.processes.entry(pid).and_modify(|process| process.parent = starter);
            let data = ProcessFork { child: proc, pid: pid as u32, flags: 0, initial: true };
            let mut scribe = Scribe { ts: scribe.ts, tid: parent, out: scribe.out };
            scribe.write(parent, starter, data);
        }
        // Who is found while it executes a program has that told next.
        if found.exe.is_some() || !found.argv.bytes.is_empty() {
            let data = ProcessExec {
                path: found.exe.unwrap_or_default().to_vec().into(),
                argv: found.argv.iter().map(|arg| arg.to_vec().into()).collect(),
                argv_len: found.argv.cut,
                cwd: cwd.into(),
                env: changes,
                exe: None,
                pid: pid as u32,
                errno: None,
                initial: true,
            };
            scribe.write(pid, proc, data);
        }
        for (fd, path) in kernel.descriptors(thread) {
            let flags = kernel.descriptor_flags(thread, fd).unwrap_or(0);
            let kind = match self.is_output(pid, fd, &path) {
                true => Kind::Output(fd),
                false => self.found_kind(thread, fd, &path, kernel),
            };
            let data = FdInitial { fd, path: path.clone().into(), flags };
            let id = self.descriptions.insert(Description::new(path, kind, false));
            let cloexec = flags & libc::O_CLOEXEC as u32 != 0;
            self.files.get_mut(task.files).set(fd, id, cloexec, false);
            self.descriptions.get_mut(id).tables = 1;
            scribe.write_opening(pid, proc, data, Some(id));
        }
    }

    /// A process whose parent was gone before it could tell.
    pub(super) fn adopt(&mut self, child: Tid, kernel: &mut impl Kernel, scribe: &mut Scribe<'_>) {
        if self.tasks.contains_key(&child) {
            return;
        }
        let files = self.files.insert(FileTable::default().inherit());
        let path = kernel.working_directory(child).unwrap_or_else(|| b"/".to_vec());
        let mut fs = Fs::new(path);
        fs.namespace = kernel.mount_namespace(child);
        fs.set_root(kernel.root(child).unwrap_or_default());
        let fs = self.fs.insert(fs);
        let task = Task { process: child, files, fs };
        self.tasks.insert(child, task);
        self.last_proc += 1;
        let id = ProcId(self.last_proc);
        let process = Process {
            id,
            parent: ProcId(0),
            env: Arc::default(),
            tasks: 1,
            lost: BTreeSet::new(),
            handed_over: BTreeSet::new(),
            tls: HashMap::new(),
        };
        self.processes.insert(child, process);
        for (fd, link) in kernel.descriptors(child) {
            let kind = self.found_kind(child, fd, &link, kernel);
            let id = self.descriptions.insert(Description::new(link, kind, false));
            self.files.get_mut(files).set(fd, id, false, false);
            self.descriptions.get_mut(id).tables = 1;
            self.check_terminal(child, fd, id, kernel);
        }
        let data = ProcessFork { child: id, pid: child as u32, flags: 0, initial: false };
        let event = Event::new(scribe.ts, Source::Kernel, data);
        scribe.out.push(Report::Event(Captured { event, opens: None, held: false }));
    }

    /// Tables for a process that was found, shared by its threads. The root has its own already.
    fn task_of_found(&mut self, pid: Tid, found: &Found<'_>) -> Task {
        let task = self.tasks.remove(&pid).unwrap_or_else(|| Task {
            process: pid,
            files: self.files.insert(FileTable::default()),
            fs: self.fs.insert(Fs::new(b"/".to_vec())),
        });
        let users = found.threads.len() as u32;
        self.files.get_mut(task.files).users = users;
        self.fs.get_mut(task.fs).users = users;
        self.tasks.extend(found.threads.iter().map(|&tid| (tid, task)));
        self.root_started = true;
        let last = &mut self.last_proc;
        let process = self.processes.entry(pid).or_insert_with(|| {
            *last += 1;
            Process {
                id: ProcId(*last),
                parent: ProcId(0),
                env: Default::default(),
                tasks: 0,
                lost: Default::default(),
                handed_over: Default::default(),
                tls: HashMap::new(),
            }
        });
        process.tasks = users;
        task
    }

    /// Whether this is an output of the root's, where a process has it at the same number: descendants inherit it.
    fn is_output(&self, pid: Tid, fd: RawFd, path: &[u8]) -> bool {
        let inherited = || {
            let root = self.tasks.values().find(|task| task.process == self.root)?;
            let description = self.files.get(root.files).get(fd)?;
            (self.descriptions.get(description).path == path).then_some(())
        };
        self.outputs.contains(&fd) && (pid == self.root || inherited().is_some())
    }
}
