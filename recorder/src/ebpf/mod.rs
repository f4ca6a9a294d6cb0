//! The eBPF engine: programs in the kernel report what the ptrace engine learns from stops.
//!
//! A record's way: a program copies it into the ring buffer; one thread here looks there every few milliseconds, makes of
//! each record what the call meant (the same [tables](crate::calls) as with ptrace), and tells the
//! [model](crate::model). Nobody is stopped and nothing waits: where the ring buffer is full, records are lost, counted
//! where they were made, and told as `lost`.

mod attach;
mod decode;
mod diversion;
mod error;
mod followed;
mod keeping;
mod losses;
pub mod object;
mod offsets;
mod plans;
mod records;
mod running;
mod signals;
mod streams;
mod subject;
mod sums;
mod tls;
mod told;
pub mod tracefs;

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentrec_recorder_ebpf::{COMMAND, Mapped, NARROW, Process, ROOT, Watch, Watched, place};
use aya::maps::{Array, HashMap as BpfMap, MapData, RingBuf};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::calls::decode::Entry;
use crate::keep::Keeper;
use crate::mailbox::Outbox;
use crate::model::Model;
use crate::observation::{Call, Loss, Observation, Tid};
use crate::proxy::Proxy;
use crate::source::{Config, Control, Report, Request};
use crate::{privileges, proc};
use attach::{Abi, Attached};
pub(crate) use diversion::control_groups;
pub use diversion::try_to_divert;
pub use error::Error;
use followed::Followed;
use losses::Losses;
use records::Record;
pub use running::Found;
use running::Running;
use signals::Signals;
use streams::Streams;
use sums::Sums;
use tls::Objects;
use told::Told;

/// Where the programs would be hooked in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// How many tracepoints this kernel has of those that are wanted.
    pub found: usize,
    /// Those that it has not: it lacks their system calls.
    pub missing: Vec<String>,
}

/// Loads the programs and lets them go: whether [`Watcher::new`] would find that they load, and where they would be hooked in.
///
/// # Errors
/// Where the kernel refuses, see [`Error`].
pub fn try_to_load() -> Result<Hooks, Error> {
    privileges::with_rights(|| {
        attach::load(0, None, 0)?.load_programs()?;
        attach::hooks()
    })
}

/// How long nobody looks into the ring buffer: at first, and at most where nothing comes.
const LOOK: Duration = Duration::from_millis(2);
const MAX_LOOK: Duration = Duration::from_millis(16);
/// How often the kernel is asked whether programs were not run.
const ASK: Duration = Duration::from_secs(1);

/// After how many records a request is looked for that can't wait until none come.
const ATTENTION: usize = 1024;

/// A watcher of one tree.
pub struct Watcher<I> {
    root: Tid,
    model: Model,
    kernel: Told,
    reports: Outbox<I>,
    control: Control,
    bell: Arc<EventFd>,
    epoll: Epoll,
    /// None while its records are handled.
    ring: Option<RingBuf<MapData>>,
    followed: Followed,
    sums: Sums,
    streams: Streams,
    objects: Objects,
    /// Where connections are led to.
    proxy: Option<Arc<Proxy>>,
    watched: BpfMap<MapData, u64, Abi<Watched>>,
    wanted: Array<MapData, Abi<Watch>>,
    /// More may come when nobody is left.
    endless: bool,
    losses: Losses,
    /// Programs stay attached as long as this lives.
    attached: Option<Attached>,
    /// Processes of the tree that have not ended.
    live: HashSet<Tid>,
    /// Of those, who ran before and was not told yet.
    running: Running,
    /// Whom the recording follows goes on without it.
    lets_go: bool,
    /// Ready once the command has ended.
    pidfd: Option<OwnedFd>,
    /// What the command was sent by itself.
    signals: Signals,
    keeper: Option<Keeper>,
    silent: bool,
    killing: bool,
    /// Whether ends of processes may have been lost.
    uncertain: bool,
    /// Arguments and environment of execs that are being told.
    parts: std::collections::HashMap<Tid, [Vec<u8>; 2]>,
    /// Output and input of which more comes.
    contents: std::collections::HashMap<Tid, decode::Content>,
    /// Addresses and control data of messages that are being told.
    messages: Vec<(Tid, u32, Vec<u8>)>,
    entry: Entry,
    seen: Vec<Report>,
}

impl<I: From<Report> + Send + 'static> Watcher<I> {
    /// Loads the programs and attaches them, also those that lead connections where there are `groups` to hang them on; nobody is
    /// followed yet. The programs go when this does, however it ends.
    ///
    /// # Errors
    /// Where the kernel refuses, see [`Error`].
    pub fn new(
        config: &Config,
        groups: Option<&Path>,
        reports: Outbox<I>,
    ) -> Result<(Self, Control), Error> {
        let outputs = config.outputs.iter().map(|&fd| 1_u32 << fd).sum();
        let failed = |what| move |errno: nix::Error| Error::Io(what, errno.into());
        let mut loaded = attach::load(outputs, config.reserved_fd, config.front)?;
        let ring = loaded.ring()?;
        groups.map(|groups| loaded.divert(groups)).transpose()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("make an epoll"))?;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let bell = Arc::new(bell.map_err(failed("make an eventfd"))?);
        // Edge-triggered: what lies in the ring buffer must not wake us, only who finds it filling up.
        let hurry = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        epoll.add(ring.as_fd(), hurry).map_err(failed("watch the ring buffer"))?;
        let rung = EpollEvent::new(EpollFlags::EPOLLIN, 1);
        epoll.add(bell.as_fd(), rung).map_err(failed("watch an eventfd"))?;
        let control = Control::default();
        let watcher = Self {
            root: 0,
            model: Model::new(0, config),
            kernel: Told::default(),
            reports,
            control: control.clone(),
            bell,
            epoll,
            ring: Some(ring),
            followed: Followed::new(&mut loaded)?,
            sums: Sums::new(&mut loaded)?,
            streams: Streams::new(&mut loaded)?,
            objects: Objects::new(&mut loaded)?,
            proxy: None,
            watched: loaded.map("WATCHED")?,
            wanted: loaded.array("WATCH")?,
            endless: false,
            losses: Losses::new(&mut loaded)?,
            attached: Some(loaded.attach()?),
            live: HashSet::new(),
            running: Running::default(),
            lets_go: false,
            pidfd: None,
            signals: Signals::default(),
            keeper: None,
            silent: false,
            killing: false,
            uncertain: false,
            parts: std::collections::HashMap::new(),
            contents: std::collections::HashMap::new(),
            messages: Vec::new(),
            entry: Entry::default(),
            seen: Vec::new(),
        };
        Ok((watcher, control))
    }

    /// Follows `pid`, which is about to execute the command, and all that it starts; after one tree also a next one,
    /// whose outputs and reserved descriptor have the same numbers.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn follow(&mut self, pid: Tid, config: &Config) -> Result<(), Error> {
        self.begin(pid, config)?;
        self.live.insert(pid);
        self.kernel.starting(pid);
        let process = Process { epoch: 1, flags: ROOT | COMMAND, outputs: 0 };
        self.followed.remove(pid);
        self.followed.follow(pid, process).map(drop)
    }

    /// Forgets an earlier tree.
    fn begin(&mut self, root: Tid, config: &Config) -> Result<(), Error> {
        self.root = root;
        self.model = Model::new(root, config);
        self.warm_up_probes();
        // Functions are probed once their library is mapped, which takes a while.
        self.model.join_tls();
        self.kernel = Told::default();
        (self.silent, self.killing, self.uncertain) = (false, false, false);
        (self.endless, self.lets_go) = (false, false);
        self.live.clear();
        self.pidfd = proc::pidfd(root);
        self.parts.clear();
        self.messages.clear();
        self.contents.clear();
        let before: Vec<u64> = self.watched.keys().flatten().collect();
        for file in before {
            self.watched.remove(&file).map_err(|e| Error::Map("WATCHED", e))?;
        }
        let nobody = Abi(Watch::default());
        self.wanted.set(0, nobody, 0).map_err(|e| Error::Map("WATCH", e))?;
        let ring_bell = Arc::clone(&self.bell);
        self.control.answer_with(Some(Box::new(move || ring_bell.write(1).map_or((), |_| ()))));
        Ok(())
    }

    /// Watches until nothing of the tree is left, or nobody wants to know any more. Waits where the channel is full.
    ///
    /// # Errors
    /// Where the kernel does not let us wait.
    pub fn run(mut self) -> Result<(), Error> {
        self.watch()?;
        // Takes seconds: nobody waits for it.
        drop(self.attached.take());
        Ok(())
    }

    /// The same, and the programs stay attached: [`follow`](Self::follow) can be told of another tree.
    ///
    /// # Errors
    /// Where the kernel does not let us wait.
    pub fn watch(&mut self) -> Result<(), Error> {
        self.tell_running();
        let mut pause = LOOK;
        let mut asked = Instant::now();
        loop {
            let began = Instant::now();
            let seen = self.drain();
            if let Some(proxy) = &self.proxy {
                proxy.looked(began);
            }
            self.uncertain |= self.losses.tell(&self.reports);
            if self.uncertain && seen == 0 {
                self.forget_lost()?;
            }
            if asked.elapsed() > ASK {
                asked = Instant::now();
                self.tell_missed();
            }
            self.reports.flush();
            self.answer_requests();
            // Of descendants nobody wants to know any more; the command's end is waited for. Whose connections go through us
            // can't go on without us.
            let awaited = self.live.contains(&self.root) && !self.lets_go;
            let unwatched = self.silent && !self.killing && !awaited && self.proxy.is_none();
            if (self.live.is_empty() && !self.endless) || unwatched {
                break;
            }
            pause = if seen > 0 { LOOK } else { (2 * pause).min(MAX_LOOK) };
            let timeout = EpollTimeout::try_from(pause).unwrap_or(EpollTimeout::ZERO);
            match self.epoll.wait(&mut [EpollEvent::empty(); 2], timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(Error::Io("wait for records", errno.into())),
            }
            let _ = self.bell.read();
        }
        self.tell_missed();
        self.save_tls();
        self.control.answer_with(None);
        self.report(Report::TreeEnded);
        Ok(())
    }

    fn tell_missed(&mut self) {
        if let Some(attached) = &self.attached {
            self.losses.tell_missed(attached.missed(), &self.reports);
        }
    }

    /// Handles all that lies in the ring buffer; how much it was.
    fn drain(&mut self) -> usize {
        let mut seen = 0;
        // A fence is answered between two records at most, never inside of one.
        let Some(mut ring) = self.ring.take() else { return 0 };
        while let Some(record) = ring.next() {
            self.handle(&record);
            seen += 1;
            if seen % ATTENTION == 0 && self.control.take_again() {
                self.retell();
            }
        }
        self.ring = Some(ring);
        seen
    }

    fn handle(&mut self, bytes: &[u8]) {
        match Record::parse(bytes) {
            Some(Record::Call(call, pieces)) => {
                self.called(&call, &pieces);
                self.kernel.forget(call.head.tid as Tid);
            }
            Some(Record::Message(part, data)) => {
                self.messages.push((part.head.tid as Tid, part.what, data.to_vec()));
            }
            Some(Record::Resize(head)) => {
                let tid = head.tid as Tid;
                let size = (head.flags, head.number as u16);
                // The kernel signals before it sets the size (drivers/tty/tty_io.c, tty_do_resize): who was quicker is asked.
                if self.model.terminal_size() != Some(size) {
                    self.kernel.resized(tid, size.0, size.1);
                }
                self.observe(tid, head.ts, Call::Resize { fd: None }, Ok(0));
                self.kernel.forget(tid);
            }
            Some(Record::Found(head)) => self.found_one(&head),
            Some(Record::Socket(socket)) => self.kernel.socket_told(&socket),
            Some(Record::Place(part, names)) => self.kernel.place(&part, names),
            Some(Record::Close(close)) => {
                let (tid, ts) = (close.head.tid as Tid, close.head.ts);
                self.moved(tid, ts, close.fd, close.sum);
                if close.replaced == 0 {
                    self.observe(tid, ts, Call::Close { fd: close.fd }, Ok(0));
                }
            }
            Some(Record::Fork(fork)) => {
                let flags = decode::clone_flags(&fork);
                if fork.process != fork.head.pid {
                    self.live.insert(fork.process as Tid);
                    if self.killing {
                        kill(fork.process as Tid);
                    }
                }
                let call = Call::Fork { child: fork.child as Tid, flags };
                self.observe(fork.head.tid as Tid, fork.head.ts, call, Ok(0));
            }
            Some(Record::Arguments(part, data)) => self.part(part.head.tid, 0, data),
            Some(Record::Environment(part, data)) => self.part(part.head.tid, 1, data),
            Some(Record::Exec(exec, name)) => {
                self.executed(&exec, name);
                self.kernel.forget(exec.head.tid as Tid);
            }
            Some(Record::Exit(exit)) => self.exited(&exit),
            Some(Record::Signal(sent)) => {
                if sent.head.number as i32 == libc::SIGCONT && sent.head.pid as Tid == self.root {
                    self.report(Report::CommandContinued);
                }
                self.signals.note(&sent, self.root);
            }
            Some(Record::Data(part, data)) => self.data(&part, data),
            Some(Record::Stream(part, data)) => self.streamed(&part, data),
            Some(Record::Plaintext(part, data)) => self.plaintext(&part, data),
            Some(Record::Mapped(Mapped { head, object })) => {
                if let Some(path) = self.kernel.told(head.tid as Tid, head.number) {
                    self.mapped((head.pid as Tid, head.tid as Tid, head.ts), &path, Some(object));
                }
                self.kernel.forget(head.tid as Tid);
            }
            None => tracing::error!("a record that no program writes"),
        }
    }

    fn part(&mut self, tid: u32, which: usize, data: &[u8]) {
        self.parts.entry(tid as Tid).or_default()[which].extend_from_slice(data);
    }

    fn executed(&mut self, exec: &agentrec_recorder_ebpf::Exec, name: &[u8]) {
        let (tid, ts) = (exec.head.tid as Tid, exec.head.ts);
        // All others had to end before.
        let former = match exec.former {
            0 => self.model.only_thread_of(exec.head.pid as Tid).unwrap_or(tid),
            former => former as Tid,
        };
        self.settle(former, exec.head.pid, exec.before, ts);
        let [arguments, env] = self.parts.remove(&tid).unwrap_or_default();
        let argv = decode::argument_list(arguments, exec.arguments);
        let exe = self.kernel.told(tid, place::EXE).or_else(|| proc::program(tid));
        self.expect_objects(exec.head.pid as Tid);
        if let Some(exe) = &exe
            && !self.objects.is_known(exec.object)
        {
            self.mapped((exec.head.pid as Tid, tid, ts), exe, Some(exec.object));
        }
        let at = decode::executed_at(exec, name);
        let call = Call::Exec { former, at, argv: &argv, env: &env, exe: exe.as_deref() };
        self.observe(tid, ts, call, Ok(0));
        if exec.head.flags & NARROW != 0 {
            self.observe(tid, ts, Call::Lost { loss: Loss::ForeignArch }, Ok(0));
        }
    }

    fn exited(&mut self, exit: &agentrec_recorder_ebpf::Exit) {
        let (tid, pid, ts) = (exit.head.tid as Tid, exit.head.pid as Tid, exit.head.ts);
        self.tell_content(tid);
        if exit.last != 0 {
            self.settle(tid, exit.head.pid, exit.head.epoch, ts);
        }
        self.observe(tid, ts, Call::ThreadExit, Ok(0));
        self.kernel.ended(tid);
        if exit.last == 0 {
            return;
        }
        self.live.remove(&pid);
        let status = decode::status(exit.status);
        self.observe(pid, ts, Call::Exit { status, usage: decode::usage(exit) }, Ok(0));
        if pid == self.root {
            self.wait_until_told();
            self.report(Report::CommandExited(status));
        }
    }

    /// Until the parent of the command can hear of its end, of which the programs tell a little before.
    fn wait_until_told(&self) {
        /// A thread that hangs in the kernel keeps its process from ending.
        const PATIENCE: u16 = 1000;
        let Some(pidfd) = &self.pidfd else { return };
        let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        while poll(&mut ended, PollTimeout::from(PATIENCE)) == Err(Errno::EINTR) {}
    }

    /// Waits no longer for the ends of processes that were lost: who is in no map any more, and of whose end nothing lies
    /// in the ring buffer.
    fn forget_lost(&mut self) -> Result<(), Error> {
        let mut lost = Vec::new();
        for &pid in &self.live {
            if !self.followed.contains(pid)? {
                lost.push(pid);
            }
        }
        self.drain();
        for pid in lost {
            // Its number may be another's by now.
            if self.live.contains(&pid) && !self.followed.contains(pid)? {
                self.live.remove(&pid);
                if pid == self.root {
                    return Err(Error::EndLost);
                }
            }
        }
        Ok(())
    }

    fn observe(&mut self, tid: Tid, ts: u64, call: Call<'_>, result: Result<u64, i32>) {
        if self.silent {
            return;
        }
        let seen = Observation { tid, ts, call, result };
        let mut reports = std::mem::take(&mut self.seen);
        self.model.observe(&seen, &mut self.kernel, &mut reports);
        for report in reports.drain(..) {
            if let Report::Event(captured) = &report {
                self.keep_what_is_left(tid, captured);
            }
            let _ = self.reports.defer(report);
        }
        self.seen = reports;
    }

    /// Whether the command was sent a signal as well as the front, which asks when it has it. To a group it is sent one by one:
    /// the command may come a little later.
    fn was_sent(&mut self, signal: i32) -> bool {
        const PATIENCE: Duration = Duration::from_millis(2);
        std::thread::sleep(PATIENCE);
        self.drain();
        self.signals.both(signal)
    }

    fn report(&self, report: Report) {
        let _ = self.reports.send(report);
    }

    fn answer_requests(&mut self) {
        for request in self.control.take() {
            match request {
                Request::Kill => {
                    self.killing = true;
                    self.live.iter().copied().for_each(kill);
                }
                Request::Silence => self.silent = true,
                // Nobody is held to wait for one.
                Request::Tunnel { .. } => {}
                Request::WasSent { signal, answer } => {
                    let _ = answer.send(self.was_sent(signal));
                }
                Request::Again => self.retell(),
                Request::Fence(token) => {
                    self.drain();
                    self.report(Report::Fence(token));
                }
            }
        }
    }
}

fn kill(pid: Tid) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
}
