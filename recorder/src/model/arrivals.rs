//! Descriptors that come from other processes: with a message (SCM_RIGHTS) or fetched (pidfd_getfd(2)).

use std::collections::VecDeque;
use std::os::fd::RawFd;

use super::files::{Description, DescriptionId, Kind};
use super::{Kernel, Model, Scribe, Task};
use crate::observation::{Call, Observation, Tid};

/// Most descriptors on their way that are remembered: of more, the oldest are taken for never received.
const MAX_IN_FLIGHT: usize = 256;

/// Descriptions that were sent and not received yet. Nobody tells of those that never are.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// What /proc calls them, by which they are known again, and their numbers; the oldest first.
    sent: VecDeque<(Vec<u8>, DescriptionId)>,
}

impl Model {
    pub(super) fn arrivals(
        &mut self,
        task: Task,
        seen: &Observation<'_>,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        match seen.call {
            Call::Pass { fds } => {
                for &fd in fds {
                    self.pass(task, fd, kernel, scribe);
                }
            }
            Call::Receive { fds, cloexec, peeked } => {
                for &fd in fds {
                    let link = kernel.link(scribe.tid, fd);
                    let sent = link.as_deref().and_then(|link| self.sent(link));
                    match sent {
                        Some((_, id)) => self.install(task, fd, id, cloexec, false, scribe),
                        None => self.arrived(task, fd, link, cloexec, kernel, scribe),
                    }
                    if let Some((at, id)) = sent.filter(|_| !peeked) {
                        self.in_flight.sent.remove(at);
                        self.let_go(id, scribe);
                    }
                }
            }
            Call::Fetch { pidfd, fd } => {
                let Ok(new) = seen.result else { return };
                let new = new as RawFd;
                let theirs = kernel.pidfd(scribe.tid, pidfd).and_then(|pid| {
                    let owner = self.tasks.get(&pid)?;
                    self.files.get(owner.files).get(fd)
                });
                // The new descriptor is close-on-exec (pidfd_getfd(2)).
                match theirs {
                    Some(id) => self.install(task, new, id, true, false, scribe),
                    None => {
                        let link = kernel.link(scribe.tid, new);
                        self.arrived(task, new, link, true, kernel, scribe);
                    }
                }
            }
            _ => {}
        }
    }

    fn pass(&mut self, task: Task, fd: RawFd, kernel: &mut impl Kernel, scribe: &mut Scribe<'_>) {
        let Some(id) = self.files.get(task.files).get(fd) else { return };
        let Some(link) = kernel.link(scribe.tid, fd) else { return };
        self.descriptions.get_mut(id).tables += 1;
        self.in_flight.sent.push_back((link, id));
        if self.in_flight.sent.len() > MAX_IN_FLIGHT
            && let Some((_, oldest)) = self.in_flight.sent.pop_front()
        {
            self.let_go(oldest, scribe);
        }
    }

    fn sent(&self, link: &[u8]) -> Option<(usize, DescriptionId)> {
        let at = self.in_flight.sent.iter().position(|(sent, _)| sent == link)?;
        Some((at, self.in_flight.sent[at].1))
    }

    /// A descriptor that nobody of the tree opened. What has neither path nor peer is not followed, as if it had been
    /// made here.
    fn arrived(
        &mut self,
        task: Task,
        fd: RawFd,
        link: Option<Vec<u8>>,
        cloexec: bool,
        kernel: &mut impl Kernel,
        scribe: &mut Scribe<'_>,
    ) {
        let tid: Tid = scribe.tid;
        let link = link.unwrap_or_default();
        let description = match self.found_kind(tid, fd, &link, kernel) {
            Kind::File => kernel.descriptor(tid, fd).map(|path| (path, Kind::File)),
            kind => Some((link, kind)),
        };
        if let Some((path, kind)) = description {
            let id = self.descriptions.insert(Description::new(path, kind, false));
            self.install(task, fd, id, cloexec, false, scribe);
            self.check_terminal(tid, fd, id, kernel);
        }
    }
}
