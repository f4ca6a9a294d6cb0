//! Which of the signals that the front was sent the command was sent as well: those to the whole group.

use std::collections::VecDeque;

use agentrec_recorder_ebpf::{GROUP, Signal, WAITING};

use crate::observation::Tid;

/// More than this many are not remembered.
const MOST: usize = 64;

/// A signal that the front has not asked about.
#[derive(Debug)]
struct Sent {
    signal: i32,
    sender: u32,
    /// To the front alone, at least once: a signal that waits already is not queued again (signal(7)).
    alone: bool,
}

/// Signals of late, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Signals {
    front: VecDeque<Sent>,
    /// Signals and senders of those that went to the command's whole group.
    command: VecDeque<(i32, u32)>,
}

impl Signals {
    /// A signal was sent to one of the two.
    pub(super) fn note(&mut self, told: &Signal, command: Tid) {
        let (signal, sender) = (told.head.number as i32, told.sender);
        let (group, waiting) = (told.head.flags & GROUP != 0, told.head.flags & WAITING != 0);
        if told.head.pid as Tid == command {
            if group {
                self.command.push_back((signal, sender));
            }
        } else if let Some(sent) =
            self.front.iter_mut().rfind(|sent| waiting && sent.signal == signal)
        {
            sent.alone |= !group;
        } else {
            self.front.push_back(Sent { signal, sender, alone: !group });
        }
        self.front.drain(..self.front.len().saturating_sub(MOST));
        self.command.drain(..self.command.len().saturating_sub(MOST));
    }

    /// Whether the command was sent what the front has now, which takes its signals of one number in the order in which they
    /// came.
    pub(super) fn both(&mut self, signal: i32) -> bool {
        let Some(at) = self.front.iter().position(|sent| sent.signal == signal) else {
            return false;
        };
        let Some(Sent { sender, alone, .. }) = self.front.remove(at) else { return false };
        let same = self.command.iter().position(|sent| *sent == (signal, sender));
        same.and_then(|same| self.command.remove(same)).is_some() && !alone
    }
}

#[cfg(test)]
mod tests {
    use agentrec_recorder_ebpf::Head;

    use super::*;

    const COMMAND: u32 = 10;
    const FRONT: u32 = 9;

    /// Signals with whom they go to, their sender and flags.
    fn signals(all: &[(u32, u32, u32, u16)]) -> Signals {
        let mut signals = Signals::default();
        for &(pid, number, sender, flags) in all {
            let head = Head { pid, number, flags, ..Head::default() };
            signals.note(&Signal { head, sender, reserved: 0 }, COMMAND as Tid);
        }
        signals
    }

    #[test]
    fn what_was_sent_to_both_is_told_from_what_was_not() {
        let mut group = signals(&[(FRONT, 15, 1, GROUP), (COMMAND, 15, 1, GROUP)]);
        assert_eq!((group.both(10), group.both(15), group.both(15)), (false, true, false));
        assert!(!signals(&[(FRONT, 15, 1, 0), (COMMAND, 15, 1, 0)]).both(15));
        assert!(!signals(&[(FRONT, 15, 1, GROUP), (COMMAND, 15, 2, GROUP)]).both(15));
    }

    #[test]
    fn one_after_the_other_is_asked_about_in_their_order() {
        let group = [(FRONT, 15, 1, GROUP), (COMMAND, 15, 1, GROUP)];
        let mut twice = signals(&[group[0], group[1], (FRONT, 15, 1, 0)]);
        assert_eq!((twice.both(15), twice.both(15)), (true, false));
        // The front had not taken the first one: the two are one to it.
        let mut merged = signals(&[group[0], group[1], (FRONT, 15, 1, WAITING)]);
        assert!(!merged.both(15));
    }
}
