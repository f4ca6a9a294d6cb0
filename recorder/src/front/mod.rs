//! The front: what the shell started. It forks the recorder and the command, forwards signals, waits, and returns
//! the command's status.
//!
//! It has one thread and does nothing but wait, so it can stop and go on with the command (Ctrl-Z), and reap orphans
//! where it is process 1. The recorder is a process of its own because it has to stay behind for descendants that
//! outlive the command.

mod descriptors;
mod signals;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use agentrec_launch as launch;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, Pid, fork};

use self::signals::Signals;
use crate::error::{Error, Result};
use crate::gate;
use crate::link::{FromFront, FromRecorder, Link};
use crate::options::{Attached, Engine, Options, Outcome, Progress, Recording};
use crate::recorder::Begin;
use crate::setup::Setup;
use crate::source::ExitStatus;
use crate::target::Target;
use crate::watch::Watch;
use crate::{privileges, ptrace};

pub(crate) use descriptors::{detach, exit, standard_fds};

/// Records a command from its start to its end; returns when the command ended and its trace is closed.
///
/// Forks, so the calling process must not have threads yet. Inside of a recorded tree the command is not recorded a
/// second time: this process becomes the command.
///
/// # Errors
/// [`Error::Launch`] where the command could not be run, [`Error::Recorder`] where it could not be recorded (and was
/// not run), [`Error::RecorderKilled`].
pub fn run(options: Options) -> Result<Outcome> {
    if crate::nested::inside_of_recording() {
        return Err(Error::Launch(options.plan.prepare()?.exec()));
    }
    only_thread()?;
    let setup = Setup::new(options)?;
    let prepared = setup.options.plan.prepare()?;
    let filter = ptrace::Filter::new(&setup.source);
    let refused = |e| Error::io("give up privileges", e);
    if setup.options.engine == Some(Engine::Ptrace) {
        privileges::drop_all().map_err(refused)?;
    }
    let signals = Signals::block()?;

    let socket_pair = || UnixStream::pair().map_err(|e| Error::io("make a socket pair", e));
    let (front_end, recorder_end) = socket_pair()?;
    let (child_gate, recorder_gate) = gate::pair()?;
    let callbacks = Callbacks::new(&setup.options);
    // SAFETY: this process has no other thread (checked above), so the child may go on like any process.
    let recorder = match unsafe { fork() }.map_err(|e| Error::io("start the recorder", e))? {
        ForkResult::Child => {
            drop((front_end, child_gate));
            signals.ignore_all();
            crate::recorder::main(setup, Link::new(recorder_end), Begin::Command(recorder_gate))
        }
        ForkResult::Parent { child } => child,
    };
    drop((recorder_end, recorder_gate));
    privileges::drop_all().map_err(refused)?;

    let link = Link::new(front_end);
    let mut front = Front { recorder, link, callbacks, state: State::default(), signals: &signals };
    if let Some(ended) = front.begin()? {
        return Ok(ended);
    }
    let by_ptrace = front.state.ready == Some(Engine::Ptrace);
    let hook = || {
        signals.restore();
        ptrace::permit_tracer(recorder.as_raw() as u32);
        child_gate.pass()?;
        if by_ptrace { install(&filter) } else { Ok(()) }
    };
    // SAFETY: this process has no other thread, so the hook may do what it likes.
    let child = unsafe { prepared.spawn_with(hook) }?;
    // The child holds the other end now: when it dies the recorder sees it.
    drop(child_gate);
    let outcome = front.wait_for_agent(child);
    // A recorder that was killed could not clean up.
    let is_closed = outcome.as_ref().is_ok_and(|outcome| outcome.recording.is_some());
    setup.trust.iter().filter(|_| !is_closed).for_each(|trust| trust.remove_bundle());
    outcome
}

/// Records a process that runs already, with its threads and descendants, until it ends or somebody asks to end it. It goes
/// on then, as it does where this process or the recorder is killed.
///
/// Forks, so the calling process must not have threads yet.
///
/// # Errors
/// [`Error::Recorder`] where it could not be recorded.
pub fn attach(options: Options, target: Target) -> Result<Outcome> {
    only_thread()?;
    match options.engine {
        Some(Engine::Ebpf) => as_root("attach by BPF programs")?,
        // Where they don't load after all, the tracer says it.
        None if privileges::may_attach() => {}
        _ => target.refuse_traced()?,
    }
    record_running(Setup::attach(options, target)?, Begin::Attach, None)
}

/// Records whom a watch looks for, until it is over or somebody asks to end it. Nobody is stopped or ended by it.
///
/// Forks, so the calling process must not have threads yet.
///
/// # Errors
/// [`Error::Recorder`] where it could not be recorded.
pub fn watch(mut options: Options, watch: Watch) -> Result<Outcome> {
    only_thread()?;
    as_root("watch")?;
    options.engine = Some(Engine::Ebpf);
    let duration = watch.duration;
    record_running(Setup::watch(options, watch)?, Begin::Watch, duration)
}

/// Records what was there before and goes on afterwards.
fn record_running(setup: Setup, begin: Begin, duration: Option<Duration>) -> Result<Outcome> {
    let signals = Signals::block()?;
    let pair = UnixStream::pair().map_err(|e| Error::io("make a socket pair", e));
    let (front_end, recorder_end) = pair?;
    let callbacks = Callbacks::new(&setup.options);
    // SAFETY: this process has no other thread (checked above), so the child may go on like any process.
    let recorder = match unsafe { fork() }.map_err(|e| Error::io("start the recorder", e))? {
        ForkResult::Child => {
            drop(front_end);
            signals.ignore_all();
            crate::recorder::main(setup, Link::new(recorder_end), begin)
        }
        ForkResult::Parent { child } => child,
    };
    drop(recorder_end);
    let link = Link::new(front_end);
    let mut front = Front { recorder, link, callbacks, state: State::default(), signals: &signals };
    match front.begin()? {
        Some(ended) => Ok(ended),
        None => front.wait_for_detaching(duration),
    }
}

/// Whoever sees others' processes has to be allowed to.
fn as_root(what: &str) -> Result<()> {
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => Err(Error::Recorder {
            message: format!("cannot {what}: only root may"),
            hint: Some("run as root, or with sudo".into()),
        }),
    }
}

/// Puts the filter into force, last thing before exec.
fn install(filter: &ptrace::Filter) -> std::result::Result<(), Errno> {
    match filter.install() {
        Ok(_) => Ok(()),
        Err(error) => Err(error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)),
    }
}

/// Fails where the process has more threads than one.
fn only_thread() -> Result<()> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(|e| Error::io("read /proc", e))?;
    if tasks.count() == 1 { Ok(()) } else { Err(Error::Threads) }
}

/// Who is told of what the recorder says meanwhile.
#[derive(Clone, Copy)]
struct Callbacks {
    progress: Option<fn(Option<Progress>)>,
    fell_back: Option<fn(&str)>,
    attached: Option<fn(Attached)>,
}

impl Callbacks {
    fn new(options: &Options) -> Self {
        let Options { progress, fell_back, attached, .. } = *options;
        Self { progress, fell_back, attached }
    }
}

struct Front<'a> {
    recorder: Pid,
    link: Link<FromFront, FromRecorder>,
    callbacks: Callbacks,
    signals: &'a Signals,
    state: State,
}

/// What the front has heard so far.
#[derive(Default)]
struct State {
    agent: Option<Pid>,
    agent_status: Option<ExitStatus>,
    agent_stopped: bool,
    /// Signals for the command, of which the recorder was asked whether it has them already.
    asked: VecDeque<signals::Info>,
    /// The wait status of the recorder process.
    recorder_status: Option<ExitStatus>,
    /// How the command is watched, once it may start.
    ready: Option<Engine>,
    failed: Option<Error>,
    recording: Option<Recording>,
    /// The recorder hung up: nothing more will come.
    hung_up: bool,
    launch_error: Option<launch::Error>,
}

impl Front<'_> {
    /// Until the recorder is ready; what there is to return where it ends before that.
    fn begin(&mut self) -> Result<Option<Outcome>> {
        let waited = self.wait_for_recorder();
        if let Some(show) = self.callbacks.progress {
            show(None);
        }
        let killed = |signal| ExitStatus::Signal { signal, core: false };
        let outcome = |status| Outcome { status, detached: false, recording: None, cut_off: None };
        Ok(waited?.map(killed).map(outcome))
    }

    /// Until the trace is open. A signal before that ends it all: its number.
    fn wait_for_recorder(&mut self) -> Result<Option<i32>> {
        while self.state.ready.is_none() {
            let (signals, link, _) = self.poll(None)?;
            if link {
                self.receive();
            }
            if self.state.hung_up {
                return Err(self.recorder_error());
            }
            if signals {
                while let Some(info) = self.signals.read() {
                    match info.signal {
                        libc::SIGCHLD => self.reap(),
                        // The link closes with this process's end, and the recorder throws away what it has.
                        libc::SIGINT
                        | libc::SIGTERM
                        | libc::SIGHUP
                        | libc::SIGQUIT
                        | libc::SIGALRM => {
                            return Ok(Some(info.signal));
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(None)
    }

    /// Until the command ended and its trace is closed.
    fn wait_for_agent(mut self, child: launch::Child) -> Result<Outcome> {
        let agent = child.pid();
        self.state.agent = Some(agent);
        let mut starting = Some(child);
        loop {
            let (signals, link, started) = self.poll(starting.as_ref())?;
            if let Some(child) = started.then(|| starting.take()).flatten() {
                self.state.launch_error = child.started().err();
            }
            if signals {
                self.handle_signals(agent);
            }
            if link {
                self.receive();
            }
            let closed = self.state.recording.is_some() || self.state.hung_up;
            if starting.is_none()
                && closed
                && let Some(status) = self.state.agent_status
            {
                // A recorder that has nobody to stay behind for is about to end; but its BPF programs take seconds to go.
                let quick = self.state.ready == Some(Engine::Ptrace);
                if quick && self.state.recording.as_ref().is_some_and(|r| r.left_running == 0) {
                    signals::wait_for(self.recorder);
                }
                return self.finish(status);
            }
        }
    }

    /// Until what was attached to has ended or was let go: after this time by itself.
    fn wait_for_detaching(mut self, duration: Option<Duration>) -> Result<Outcome> {
        let mut end = duration.and_then(|duration| Instant::now().checked_add(duration));
        while self.state.recording.is_none() && !self.state.hung_up {
            if end.take_if(|end| Instant::now() >= *end).is_some() {
                self.link.send(&FromFront::Close).ok();
            }
            let (signals, link, _) = self.poll_until(None, end)?;
            while let Some(info) = signals.then(|| self.signals.read()).flatten() {
                match info.signal {
                    libc::SIGCHLD => self.reap(),
                    libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => {
                        self.link.send(&FromFront::Close).ok();
                    }
                    // Ctrl-Z and its kin: the recording goes on meanwhile.
                    libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => {
                        self.signals.stop_by(info.signal);
                    }
                    _ => {}
                }
            }
            if link {
                self.receive();
            }
        }
        if self.state.recording.is_none() {
            return Err(match self.recorder_error() {
                Error::RecorderKilled { signal } => Error::Recorder {
                    message: format!(
                        "the recorder was killed (signal {signal}); the trace ends there, and what it recorded goes on"
                    ),
                    hint: None,
                },
                error => error,
            });
        }
        // Who sees us end may rely on it that nothing is traced any more. BPF programs take seconds to go, and hold nobody.
        if self.state.ready == Some(Engine::Ptrace) {
            signals::wait_for(self.recorder);
        }
        let status = self.state.agent_status;
        Ok(Outcome {
            status: status.unwrap_or(ExitStatus::Code(0)),
            detached: status.is_none(),
            recording: self.state.recording.take(),
            cut_off: None,
        })
    }

    fn finish(mut self, status: ExitStatus) -> Result<Outcome> {
        if let Some(error) = self.state.failed.take() {
            return Err(error);
        }
        let mut cut_off = None;
        if self.state.recording.is_none()
            && let killed @ Error::RecorderKilled { signal } = self.recorder_error()
        {
            // A tracer takes its tracees along; BPF programs only go.
            if self.state.ready != Some(Engine::Ebpf) {
                return Err(killed);
            }
            cut_off = Some(signal);
        }
        let recording = self.state.recording.take();
        match self.state.launch_error.take() {
            Some(error) => Err(error.into()),
            None => Ok(Outcome { status, detached: false, recording, cut_off }),
        }
    }

    /// Waits for signals, for the recorder, or for the child's exec.
    fn poll(&self, starting: Option<&launch::Child>) -> Result<(bool, bool, bool)> {
        self.poll_until(starting, None)
    }

    /// The same, and no longer than to `end`.
    fn poll_until(
        &self,
        starting: Option<&launch::Child>,
        end: Option<Instant>,
    ) -> Result<(bool, bool, bool)> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if !self.state.hung_up {
            fds.push(PollFd::new(self.link.as_fd(), PollFlags::POLLIN));
        }
        if let Some(child) = starting {
            fds.push(PollFd::new(child.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, so as not to look again and again within the last millisecond.
        let left = |end: Instant| end.saturating_duration_since(Instant::now()).as_millis() + 1;
        let timeout = end.map_or(PollTimeout::NONE, |end| {
            PollTimeout::try_from(left(end)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            // Stopped and continued.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::io("wait for the command", errno)),
        }
        let ready = |fd: Option<&PollFd>| fd.and_then(PollFd::any).unwrap_or(false);
        let link = usize::from(!self.state.hung_up);
        Ok((
            ready(fds.first()),
            link == 1 && ready(fds.get(1)),
            starting.is_some() && ready(fds.get(1 + link)),
        ))
    }

    fn receive(&mut self) {
        let Some(messages) = self.link.receive() else {
            self.state.hung_up = true;
            (0..self.state.asked.len()).for_each(|_| self.answered(false));
            return;
        };
        for message in messages {
            match message {
                FromRecorder::Progress(progress) => {
                    if let Some(show) = self.callbacks.progress {
                        show(Some(progress));
                    }
                }
                FromRecorder::Ready(engine) => self.state.ready = Some(engine),
                FromRecorder::FellBack(reason) => {
                    if let Some(show) = self.callbacks.fell_back {
                        show(&reason);
                    }
                }
                FromRecorder::Failed { message, hint } => {
                    self.state.failed = Some(Error::Recorder { message, hint });
                }
                FromRecorder::Attached(found) => {
                    if let Some(show) = self.callbacks.attached {
                        show(found);
                    }
                }
                FromRecorder::WasSent(was_sent) => self.answered(was_sent),
                FromRecorder::Closed(recording, status) => {
                    self.state.recording = Some(*recording);
                    // Of a command that is our child we know more: it may have ended after the recording.
                    self.state.agent_status =
                        self.state.agent_status.or(status.filter(|_| self.state.agent.is_none()));
                }
            }
        }
    }

    fn handle_signals(&mut self, agent: Pid) {
        while let Some(info) = self.signals.read() {
            match (info.signal, self.state.agent_status) {
                (libc::SIGCHLD, _) => self.reap(),
                // Word of the recorder that the command goes on, which was not stopped any more.
                (libc::SIGCONT, _) if info.sender == self.recorder => {}
                // A terminal that hangs up tells the leader of its session alone, which the command would be without us.
                (libc::SIGHUP | libc::SIGCONT, None)
                    if info.from_terminal && signals::leads_session() =>
                {
                    self.forward(agent, info);
                }
                // The terminal sent it to the whole foreground group: the agent has it already.
                _ if info.from_terminal => {}
                (_, None) => self.forward(agent, info),
                // Only descendants are left, and somebody is tired of waiting for them.
                (libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT, Some(_)) => {
                    self.link.send(&FromFront::Close).ok();
                }
                _ => {}
            }
        }
    }

    /// Hands a signal on to the command, which may have it already where it was sent to the whole group: a tracer holds back
    /// the second one, and BPF programs tell that there was a first.
    fn forward(&mut self, agent: Pid, info: signals::Info) {
        if self.state.ready == Some(Engine::Ptrace) {
            return signals::forward(agent, &info);
        }
        let question = FromFront::Signalled(info.signal);
        if info.is_of_process() && !self.state.hung_up && self.link.send(&question).is_ok() {
            return self.state.asked.push_back(info);
        }
        signals::hand_on(agent, &info);
    }

    /// The command was sent the first of the signals that the recorder was asked about, or was not.
    fn answered(&mut self, was_sent: bool) {
        let info = self.state.asked.pop_front();
        let agent = self.state.agent.filter(|_| self.state.agent_status.is_none());
        if let (Some(info), Some(agent), false) = (info, agent, was_sent) {
            signals::hand_on(agent, &info);
        }
    }

    /// Takes the news of all children; also of orphans that were handed to us as process 1. Stops with the command.
    fn reap(&mut self) {
        let mut stop = self.take_changes();
        while let (Some(agent), Some(signal)) = (self.state.agent, stop) {
            stop = self.stop_with(agent, signal);
        }
    }

    /// The signal that the command stands stopped by, where that is news.
    fn take_changes(&mut self) -> Option<i32> {
        let mut stop = None;
        while let Some((pid, change)) = signals::next_child_change() {
            let agent = self.state.agent == Some(pid);
            if agent {
                stop = None;
                self.state.agent_stopped = false;
            }
            match change {
                signals::Change::Ended(status) if agent => self.state.agent_status = Some(status),
                signals::Change::Ended(status) if pid == self.recorder => {
                    self.state.recorder_status = Some(status);
                }
                signals::Change::Stopped(signal) if agent => {
                    self.state.agent_stopped = true;
                    stop = Some(signal);
                }
                _ => {}
            }
        }
        stop
    }

    /// Stops until somebody continues us, or the command, in which case the recorder tells us; both go on then. Gives the
    /// signal by which we have to stop again.
    fn stop_with(&mut self, agent: Pid, signal: i32) -> Option<i32> {
        let continued_by = self.signals.stop_by(signal);
        if let Some(again) = self.take_changes() {
            return Some(again);
        }
        if !self.state.agent_stopped {
            return None;
        }
        if continued_by == Some(self.recorder) {
            // Late word of an earlier stop.
            return Some(signal);
        }
        // The shell continued us alone.
        signals::send(agent, libc::SIGCONT);
        None
    }

    /// The recorder hung up without a closed trace: why.
    fn recorder_error(&mut self) -> Error {
        if let Some(error) = self.state.failed.take() {
            return error;
        }
        while self.state.recorder_status.is_none() {
            match signals::wait_for(self.recorder) {
                Some(status) => self.state.recorder_status = Some(status),
                None => break,
            }
        }
        match self.state.recorder_status {
            Some(ExitStatus::Signal { signal, .. }) => Error::RecorderKilled { signal },
            _ => Error::Recorder { message: "the recorder ended early".into(), hint: None },
        }
    }
}
