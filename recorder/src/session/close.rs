//! A session's last steps: the last snapshot, `session.stop`, the seal, the catalogue; and the survivors.

use std::time::{Duration, Instant};

use agentrec_store::{ChangeKind, Kind, State as SessionState, diff_trees};
use agentrec_trace::event::SessionStop;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;
use serde_json::json;

use super::snapshot::Wanted;
use super::{End, Input, Session, boottime};
use crate::error::chain;
use crate::mailbox::Inbox;
use crate::options::{FileCounts, Recording};
use crate::socket::{Server, State};
use crate::source::{Control, ExitStatus, Report};

/// Processes of the tree that are alive after the trace is closed. Their filter needs a tracer to the end.
pub(crate) struct Survivors {
    control: Control,
    /// The command is not among them: the front has nothing to wait for any more.
    command_ended: bool,
    /// They were only attached to: they are let go, and nobody is killed.
    attached: bool,
}

/// How long who is let go may take to stop for that. Afterwards this process ends, and the kernel lets go of the rest.
const DETACH_TIMEOUT: Duration = Duration::from_secs(5);

impl Survivors {
    /// Stays their tracer until the last of them has ended.
    pub(crate) fn wait(mut self, inputs: &Inbox<Input>) {
        let deadline = self.attached.then(|| Instant::now() + DETACH_TIMEOUT);
        loop {
            let input = match deadline {
                None => inputs.recv().ok(),
                Some(deadline) => {
                    inputs.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
                }
            };
            let Some(input) = input else { return };
            match input {
                Input::Source(Report::CommandExited(_)) => self.command_ended = true,
                Input::Source(Report::TreeEnded) | Input::SourceFailed(_) => return,
                // Killed, while the command runs.
                Input::FrontGone if !self.command_ended && !self.attached => self.control.kill(),
                _ => {}
            }
        }
    }
}

impl Session {
    /// The front stops with the command, and goes on with it.
    pub(super) fn wake_front(&self) {
        if getppid() == self.setup.front {
            kill(self.setup.front, Signal::SIGCONT).ok();
        }
    }

    /// Closes the trace. Whoever is left in the tree goes on unrecorded.
    pub(crate) fn close(
        &mut self,
        end: End,
        socket: Server,
        inputs: &Inbox<Input>,
    ) -> (Recording, Option<Survivors>) {
        // A front that was stopped along with the command has to hear that it ended.
        if self.status.is_some() {
            self.wake_front();
        }
        // Lines that were sent before the end are part of the recording.
        let server = socket.finish();
        while !self.all_lines_read() && self.end_of_source().is_none() {
            self.step(inputs, None);
        }
        drop(server);
        self.take_wanted(inputs);
        if self.setup.watch.is_some() {
            // What happened before the end was asked for may be on its way; elsewhere the last snapshot waits for it.
            self.fence(inputs);
        } else if self.takes_snapshots() && !matches!(end, End::FrontGone | End::Failed(_)) {
            let wanted = Wanted {
                description: "end".into(),
                trigger: "end",
                state: self.conversation.update(State::default()),
                proc: None,
                cause: None,
                reply: None,
                asked: boottime(),
            };
            self.take_snapshot(wanted, inputs);
        }
        let survivors = match &self.control {
            Some(control) if !self.tree_ended => {
                control.silence();
                Some(Survivors {
                    control: control.clone(),
                    command_ended: self.status.is_some(),
                    attached: self.setup.is_attached(),
                })
            }
            _ => None,
        };
        self.settle(inputs);
        self.end_streams();
        self.end_transcripts();
        for event in self.terminal.finish(&self.redactor) {
            self.write(event);
        }
        if let Err(error) = self.later.flush() {
            self.lost("snapshot", format!("an object of a snapshot: {}", chain(&error)), None);
        }
        let recording = self.seal(&end);
        if let End::Stopped(Some(reply)) = end {
            let trace = self.trace_path.to_string_lossy().into_owned();
            match &recording.failure {
                None => reply.ok(json!({"trace": trace, "seal": recording.seal})),
                Some(error) => reply.error(error.clone()),
            }
        }
        (recording, survivors)
    }

    /// Waits until what the tree sent through the proxy is on its way, and told: without us it was the kernel's to send.
    fn settle(&mut self, inputs: &Inbox<Input>) {
        const PATIENCE: Duration = Duration::from_secs(2);
        const LOOK: Duration = Duration::from_millis(5);
        let Some(proxy) = self.proxy.clone() else { return };
        let deadline = Instant::now() + PATIENCE;
        // Of descendants that go on, connections may stay open for ever.
        while self.processes.alive() == 0 && !proxy.is_settled() && Instant::now() < deadline {
            self.step(inputs, Some(Instant::now() + LOOK));
        }
    }

    /// Whether nothing more can come through the channel.
    fn end_of_source(&self) -> Option<&End> {
        self.end.as_ref().filter(|end| matches!(end, End::Failed(_)))
    }

    pub(super) fn seal(&mut self, end: &End) -> Recording {
        let (code, signal, core) = match self.status {
            None => (None, None, false),
            Some(ExitStatus::Code(code)) => (Some(code), None, false),
            Some(ExitStatus::Signal { signal, core }) => (None, Some(signal), core),
        };
        let reason = match end {
            End::Stopped(_) => "stop",
            End::Rotated => "rotate",
            End::FrontGone | End::Failed(_) => "error",
            _ if signal.is_some() => "signal",
            _ => "exit",
        };
        let duration = boottime().saturating_sub(self.started.boottime);
        let left_running = self.processes.alive();
        // A disk that was full may have room again: then the trace says what it lacks, and is whole up to there.
        if let Some(failure) = self.output.failure.take() {
            self.lost("session", failure.clone(), None);
            self.output.earlier_failure = Some(failure);
        }
        self.note(SessionStop {
            reason: reason.into(),
            code,
            signal,
            core,
            left_running,
            duration,
            lost: self.output.lost,
        });
        let sealed = match self.output.writer() {
            Some(writer) => writer.seal().map(Some),
            None => Ok(None),
        };
        let seal = match sealed {
            Ok(seal) => seal,
            Err(error) => {
                self.check(Err(error));
                None
            }
        };
        let files = self.count_files();
        if let Some(path) = &self.setup.resume_file {
            std::fs::remove_file(path).ok();
        }
        let mut entry = self.catalogue_entry();
        entry.socket = None;
        entry.recorder_pid = None;
        if matches!(end, End::Rotated) {
            // As an address it is the next one's.
            entry.name = None;
        }
        entry.duration = Some(duration);
        (entry.code, entry.signal) = (code, signal);
        entry.state =
            if seal.is_some() { SessionState::Complete } else { SessionState::Incomplete };
        entry.counts = agentrec_store::Counts {
            events: self.output.events(),
            lost: self.output.lost,
            trace_bytes: self.output.any_writer().bytes_written(),
            added: files.added,
            changed: files.changed,
            deleted: files.deleted,
        };
        self.catalogue(&entry);
        Recording {
            session: self.setup.session.clone(),
            trace: self.trace_path.clone(),
            duration: Duration::from_nanos(duration),
            files,
            events: self.output.events(),
            lost: self.output.lost,
            changed: std::mem::take(&mut self.changed),
            seal: seal.map(|seal| seal.hex()),
            left_running,
            watched: self.setup.watch.is_some(),
            snapshots: self.takes_snapshots(),
            parts: self.parts.count,
            failure: self.output.failure.take().or(self.output.earlier_failure.take()),
        }
    }

    /// What differs between the first and the last snapshot, without what tools make again.
    fn count_files(&self) -> FileCounts {
        let mut counts = FileCounts { outside: self.outside.count(), ..FileCounts::default() };
        for (start, end, ignored) in self.snapshots.start_and_end() {
            let Ok(changes) = diff_trees(&*self.later, start, end) else { continue };
            for change in changes {
                let left_out = ignored.iter().any(|dir| change.path.starts_with(dir));
                if change.entry().kind == Kind::Dir || left_out {
                    continue;
                }
                match change.kind {
                    ChangeKind::Added => counts.added += 1,
                    ChangeKind::Deleted => counts.deleted += 1,
                    ChangeKind::Time => {}
                    _ => counts.changed += 1,
                }
            }
        }
        counts
    }
}
