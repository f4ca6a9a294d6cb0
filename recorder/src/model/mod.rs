//! What the kernel keeps for the tree (working directories, descriptors, descriptions), folded from observations
//! into events with absolute paths. The same code for every engine.
//!
//! A `file.close` stands where the last descriptor of a process for a description goes: for the process that
//! opened it always, for one that only inherited it when it moved bytes through it. What was not opened in the
//! recording (the command's standard descriptors) is named by path and likewise silent without bytes.

mod address;
mod arrivals;
mod attached;
mod describe;
mod files;
mod handover;
mod kernel;
mod mounts;
mod paths;
mod pipes;
mod questions;
mod retold;
mod slab;
mod sockets;
mod streams;
mod tables;
mod terminal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use agentrec_trace::event::{Data, Lost, ProcessExec, ProcessExit, ProcessFork, TermOutput};
use agentrec_trace::{Event, ProcId, Source};

use crate::observation::{ArgList, At, Call, Direction, Loss, Observation, Tid, Usage, split_nul};
use crate::source::{Captured, Config, ExitStatus, OpenId, Report};
use arrivals::InFlight;
use attached::Found;
use files::{Description, DescriptionId, FileTable};
pub use kernel::{Kernel, SocketFacts, TerminalState};
use mounts::Fs;
pub use questions::Interest;
use slab::Slab;
use streams::TlsStream;
use terminal::Terminal;

/// What is of interest in the messages of a socket, beside their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// The addresses that they are sent to.
    pub addressed: bool,
    /// The descriptors that come and go with them.
    pub descriptors: bool,
}

/// A thread.
#[derive(Clone, Copy, Debug)]
struct Task {
    process: Tid,
    files: u32,
    /// Root and working directory.
    fs: u32,
}

#[derive(Debug)]
struct Process {
    id: ProcId,
    /// Who started it; 0 where nobody said so.
    parent: ProcId,
    /// Environment of its last exec, or inherited: strings, each followed by a NUL.
    env: Arc<[u8]>,
    tasks: u32,
    /// What was reported once already.
    lost: BTreeSet<Loss>,
    handed_over: BTreeSet<(&'static str, Option<Tid>)>,
    /// Streams of TLS libraries, by the addresses of their objects.
    tls: HashMap<u64, TlsStream>,
}

/// The state of the tree. Pure: asks the kernel only through [`Kernel`].
#[derive(Debug)]
pub struct Model {
    tasks: HashMap<Tid, Task>,
    processes: HashMap<Tid, Process>,
    files: Slab<FileTable>,
    fs: Slab<Fs>,
    descriptions: Slab<Description>,
    last_proc: u32,
    root: Tid,
    root_started: bool,
    reserved_fd: Option<RawFd>,
    socket: Option<Vec<u8>>,
    outputs: Vec<RawFd>,
    in_flight: InFlight,
    terminal: Option<Terminal>,
    last_tls: u32,
    last_pipe: u32,
    /// What went through a TLS library before its functions were probed was not seen.
    tls_is_joined: bool,
}

/// Who an event belongs to and when it was; gathers what comes of one observation.
struct Scribe<'o> {
    ts: u64,
    tid: Tid,
    out: &'o mut Vec<Report>,
}

impl Scribe<'_> {
    fn write(&mut self, process: Tid, proc: ProcId, data: impl Into<Data<'static>>) {
        self.write_opening(process, proc, data, None);
    }

    fn write_opening(
        &mut self,
        process: Tid,
        proc: ProcId,
        data: impl Into<Data<'static>>,
        opens: Option<DescriptionId>,
    ) {
        self.push(process, proc, data, opens, false);
    }

    /// A close: `held` where others have the description still.
    fn write_closing(
        &mut self,
        process: Tid,
        proc: ProcId,
        data: impl Into<Data<'static>>,
        held: bool,
    ) {
        self.push(process, proc, data, None, held);
    }

    fn push(
        &mut self,
        process: Tid,
        proc: ProcId,
        data: impl Into<Data<'static>>,
        opens: Option<DescriptionId>,
        held: bool,
    ) {
        let mut event = Event::new(self.ts, Source::Kernel, data);
        event.proc = Some(proc);
        event.tid = (self.tid != process).then_some(self.tid as u32);
        self.out.push(Report::Event(Captured { event, opens: opens.map(OpenId), held }));
    }
}

impl Model {
    /// A tree of one process, `root`, which becomes `p1`.
    pub fn new(root: Tid, config: &Config) -> Self {
        let mut env = Vec::new();
        for (name, value) in &config.env {
            env.extend_from_slice(name.as_bytes());
            env.push(b'=');
            env.extend_from_slice(value.as_bytes());
            env.push(0);
        }
        let mut files = Slab::new();
        let mut fs_slab = Slab::new();
        let table = files.insert(FileTable::default().inherit());
        let fs = fs_slab.insert(Fs::new(config.cwd.as_os_str().as_bytes().to_vec()));
        let process = Process {
            id: ProcId(1),
            parent: ProcId(0),
            env: env.into(),
            tasks: 1,
            lost: BTreeSet::new(),
            handed_over: BTreeSet::new(),
            tls: HashMap::new(),
        };
        Self {
            tasks: HashMap::from([(root, Task { process: root, files: table, fs })]),
            processes: HashMap::from([(root, process)]),
            files,
            fs: fs_slab,
            descriptions: Slab::new(),
            last_proc: 1,
            root,
            root_started: false,
            reserved_fd: config.reserved_fd,
            socket: config.socket.clone().map(|path| path.into_os_string().into_vec()),
            outputs: config.outputs.clone(),
            in_flight: InFlight::default(),
            terminal: None,
            last_tls: 0,
            last_pipe: 0,
            tls_is_joined: false,
        }
    }

    /// The absolute path of `at`, where it has one.
    pub fn path_of(&mut self, tid: Tid, at: At<'_>, kernel: &mut impl Kernel) -> Option<Vec<u8>> {
        let task = *self.tasks.get(&tid)?;
        self.path(tid, task, at, kernel)
    }

    /// Folds one observation in and adds what comes of it to `out`. Observations of threads that the model does
    /// not know are ignored, except that a child of such a one is known by what the kernel says of it.
    pub fn observe(
        &mut self,
        seen: &Observation<'_>,
        kernel: &mut impl Kernel,
        out: &mut Vec<Report>,
    ) {
        let mut scribe = Scribe { ts: seen.ts, tid: seen.tid, out };
        // An exec by another thread than the leader: the caller has the leader's id from here on.
        if let Call::Exec { former, .. } = seen.call {
            self.take_over(seen.tid, former, &mut scribe);
        }
        if let Call::Found { parent, threads, argv, env, exe } = seen.call {
            let found = Found { parent, threads, argv, env, exe };
            return self.found(seen.tid, &found, kernel, &mut scribe);
        }
        if let Call::Exit { status, usage } = seen.call {
            return self.exit(seen.tid, status, usage, &mut scribe);
        }
        let Some(&task) = self.tasks.get(&seen.tid) else {
            // A thread of a process that is gone has nothing more to tell.
            if let Call::Fork { child, flags } = seen.call
                && flags & libc::CLONE_THREAD as u64 == 0
            {
                self.adopt(child, kernel, &mut scribe);
            }
            return;
        };
        match seen.call {
            Call::Fork { child, flags } => self.fork(task, child, flags, kernel, &mut scribe),
            Call::Exec { at, argv, env, exe, .. } => {
                self.exec(task, at, argv, env, exe, kernel, &mut scribe)
            }
            Call::ThreadExit => self.leave(seen.tid, &mut scribe),
            Call::Exit { .. } | Call::Found { .. } => unreachable!("handled above"),
            Call::Close { fd } => {
                let released = self.files.get_mut(task.files).close(fd);
                self.release(task, released, &mut scribe);
            }
            Call::CloseRange { first, last, flags } => {
                self.close_range(seen.tid, first, last, flags, &mut scribe)
            }
            Call::Dup { fd, cloexec } => {
                if let Ok(new) = seen.result {
                    self.dup(task, fd, new as RawFd, cloexec, &mut scribe);
                }
            }
            Call::SetCloexec { fd, on } => {
                if seen.result.is_ok() {
                    self.files.get_mut(task.files).set_cloexec(fd, on);
                }
            }
            Call::Unshare { flags } => {
                if seen.result.is_ok() {
                    self.unshare(seen.tid, flags);
                }
                if flags & libc::CLONE_NEWNS as u64 != 0
                    && let Some(&task) = self.tasks.get(&seen.tid)
                {
                    self.mounts(task, seen, kernel, &mut scribe);
                }
            }
            Call::Transfer { fd, direction } => {
                if let Ok(bytes) = seen.result {
                    self.files.get_mut(task.files).transferred(fd, direction, bytes);
                }
            }
            Call::Flow { fd, direction, flow } => {
                self.flowed(task, fd, direction, flow, &mut scribe);
            }
            Call::Reset { fd } => {
                if let Some(id) = self.files.get(task.files).get(fd) {
                    self.stream_over(id, true, &mut scribe);
                }
            }
            Call::Plaintext { stream, direction, flow } => {
                self.plaintext(task, stream, direction, flow, &mut scribe);
            }
            Call::PlaintextOver { stream } => self.plaintext_over(task, stream, &mut scribe),
            Call::Move { from, to } => {
                if let Ok(bytes) = seen.result {
                    let files = self.files.get_mut(task.files);
                    files.transferred(from, Direction::Read, bytes);
                    files.transferred(to, Direction::Write, bytes);
                }
            }
            Call::Output { stream, data } => {
                let data = TermOutput {
                    fd: stream,
                    data: agentrec_trace::event::Content::Inline(data.to_vec().into()),
                };
                scribe.write(task.process, self.proc(task), data);
            }
            Call::Input { data, hidden } => self.input(task, data, hidden, &mut scribe),
            Call::Resize { fd } => self.resize(task, seen, fd, kernel, &mut scribe),
            Call::Lost { loss } => self.lost(task, loss, &mut scribe),
            Call::Mount { .. }
            | Call::Umount { .. }
            | Call::PivotRoot { .. }
            | Call::Chroot { .. }
            | Call::SetNs { .. }
            | Call::OpenTree { .. }
            | Call::FsOpen { .. }
            | Call::FsSource { .. }
            | Call::FsMount { .. }
            | Call::MoveMount { .. }
            | Call::Reconfigure { .. }
            | Call::MountSetAttr { .. } => self.mounts(task, seen, kernel, &mut scribe),
            Call::Socket { .. }
            | Call::SocketPair { .. }
            | Call::Connect { .. }
            | Call::Bind { .. }
            | Call::Listen { .. }
            | Call::Accept { .. }
            | Call::Shutdown { .. }
            | Call::SendTo { .. } => self.sockets(task, seen, kernel, &mut scribe),
            Call::Pass { .. } | Call::Receive { .. } | Call::Fetch { .. } => {
                self.arrivals(task, seen, kernel, &mut scribe)
            }
            _ => self.describe(task, seen, kernel, &mut scribe),
        }
    }

    fn proc(&self, task: Task) -> ProcId {
        self.processes.get(&task.process).map_or(ProcId(0), |process| process.id)
    }

    fn fork(
        &mut self,
        parent: Task,
        child: Tid,
        flags: u64,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        if self.tasks.contains_key(&child) {
            return;
        }
        let has = |flag: i32| flags & flag as u32 as u64 != 0;
        let files = if has(libc::CLONE_FILES) {
            self.files.get_mut(parent.files).users += 1;
            parent.files
        } else {
            self.copy_files(parent.files)
        };
        let fs = if has(libc::CLONE_FS) {
            self.fs.get_mut(parent.fs).users += 1;
            parent.fs
        } else {
            let mut fs = self.fs.get(parent.fs).copy();
            if has(libc::CLONE_NEWNS) {
                fs.namespace = kernel.mount_namespace(child);
            }
            self.fs.insert(fs)
        };
        if has(libc::CLONE_THREAD) {
            self.tasks.insert(child, Task { process: parent.process, files, fs });
            if let Some(process) = self.processes.get_mut(&parent.process) {
                process.tasks += 1;
            }
            return;
        }
        self.tasks.insert(child, Task { process: child, files, fs });
        self.last_proc += 1;
        let id = ProcId(self.last_proc);
        let starter = self.proc(parent);
        let env = match self.processes.get(&parent.process) {
            Some(process) => Arc::clone(&process.env),
            None => Arc::default(),
        };
        self.processes.insert(
            child,
            Process {
                id,
                parent: starter,
                env,
                tasks: 1,
                lost: BTreeSet::new(),
                handed_over: BTreeSet::new(),
                tls: HashMap::new(),
            },
        );
        let data = ProcessFork { child: id, pid: child as u32, flags, initial: false };
        scribe.write(parent.process, starter, data);
    }

    /// The other threads are gone, and the one that called execve(2) is the leader.
    fn take_over(&mut self, leader: Tid, former: Tid, scribe: &mut Scribe<'_>) {
        let Some(caller) = self.tasks.get(&former).copied() else { return };
        let alone = self.processes.get(&caller.process).is_none_or(|process| process.tasks == 1);
        if !alone {
            let others: Vec<Tid> = self
                .tasks
                .iter()
                .filter(|&(&tid, task)| task.process == caller.process && tid != former)
                .map(|(&tid, _)| tid)
                .collect();
            for tid in others {
                self.leave(tid, scribe);
            }
        }
        self.tasks.remove(&former);
        self.tasks.insert(leader, caller);
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one observation")]
    fn exec(
        &mut self,
        task: Task,
        at: At<'_>,
        argv: &ArgList,
        env: &[u8],
        exe: Option<&[u8]>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let tid = scribe.tid;
        let path = self.path(tid, task, at, kernel);
        // The kernel gives the program a table of its own (unshare_files in begin_new_exec).
        self.unshare(tid, libc::CLONE_FILES as u64);
        let Some(&task) = self.tasks.get(&tid) else { return };
        if self.root_started {
            for released in self.files.get_mut(task.files).close_on_exec() {
                self.release(task, Some(released), scribe);
            }
        } else if task.process == self.root {
            self.root_started = true;
            self.adopt_descriptors(tid, task, kernel);
            let fs = self.fs.get_mut(task.fs);
            fs.namespace = kernel.mount_namespace(tid);
            fs.set_root(kernel.root(tid).unwrap_or_default());
        }
        let cwd = self.fs.get(task.fs).cwd.clone();
        let Some(process) = self.processes.get_mut(&task.process) else { return };
        Self::end_tls(process, task.process, scribe);
        let changes = describe::env_changes(&process.env, env);
        if !changes.is_empty() {
            process.env = env.into();
        }
        let exe = exe.filter(|&exe| path.as_deref() != Some(exe)).or(match &path {
            None => exe,
            Some(_) => None,
        });
        let data = ProcessExec {
            path: path.unwrap_or_default().into(),
            argv: argv.iter().map(|arg| arg.to_vec().into()).collect(),
            argv_len: argv.cut,
            cwd: cwd.into(),
            env: changes,
            exe: exe.map(|exe| exe.to_vec().into()),
            pid: task.process as u32,
            errno: None,
            initial: false,
        };
        let client = handover::by_client(&data.path, argv);
        scribe.write(task.process, self.proc(task), data);
        if let Some(taker) = client {
            self.handed_over(task, taker, None, scribe);
        }
    }

    fn exit(&mut self, pid: Tid, status: ExitStatus, usage: Usage, scribe: &mut Scribe<'_>) {
        let Some(process) = self.processes.get(&pid) else { return };
        if process.tasks > 0 {
            let rest: Vec<Tid> = self
                .tasks
                .iter()
                .filter(|(_, task)| task.process == pid)
                .map(|(&tid, _)| tid)
                .collect();
            for tid in rest {
                self.leave(tid, scribe);
            }
        }
        let Some(mut process) = self.processes.remove(&pid) else { return };
        Self::end_tls(&mut process, pid, scribe);
        let (code, signal, core) = match status {
            ExitStatus::Code(code) => (Some(code), None, false),
            ExitStatus::Signal { signal, core } => (None, Some(signal), core),
        };
        let Usage { utime, stime, max_rss } = usage;
        scribe.write(pid, process.id, ProcessExit { code, signal, core, utime, stime, max_rss });
    }

    /// A task lets go of its tables.
    fn leave(&mut self, tid: Tid, scribe: &mut Scribe<'_>) {
        let Some(task) = self.tasks.remove(&tid) else { return };
        self.drop_files(task, scribe);
        self.drop_fs(task.fs);
        if let Some(process) = self.processes.get_mut(&task.process) {
            process.tasks -= 1;
        }
    }

    fn lost(&mut self, task: Task, loss: Loss, scribe: &mut Scribe<'_>) {
        let Some(process) = self.processes.get_mut(&task.process) else { return };
        if loss.once() && !process.lost.insert(loss) {
            return;
        }
        let data = Lost {
            count: (!loss.once()).then_some(1),
            place: loss.place().into(),
            reason: loss.reason().into(),
            peer_pid: None,
        };
        let id = process.id;
        scribe.write(task.process, id, data);
    }
}
