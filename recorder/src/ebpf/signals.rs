//! Which of the signals that the front was sent the command was sent as well: those to the whole group.

use std::collections::VecDeque;

use agentrec_recorder_ebpf::{GROUP, Signal};

use crate::observation::Tid;

/// More than this many are not remembered.
const MOST: usize = 64;

/// A signal, its sender, and whether it was sent to a whole group.
type Sent = (i32, u32, bool);

/// Signals of late.
#[derive(Debug, Default)]
pub(super) struct Signals {
    command: VecDeque<Sent>,
    front: VecDeque<Sent>,
}

impl Signals {
    /// A signal was sent to one of the two.
    pub(super) fn note(&mut self, told: &Signal, command: Tid) {
        let to = if told.head.pid as Tid == command { &mut self.command } else { &mut self.front };
        to.truncate(MOST - 1);
        let group = told.head.flags & GROUP != 0;
        to.push_front((told.head.number as i32, told.sender, group));
    }

    /// Whether the command was sent all of what the front was sent since it asked last: a signal that waits already is not
    /// queued again (signal(7)), so that one may be many. What was asked about is forgotten.
    pub(super) fn both(&mut self, signal: i32, sender: u32) -> bool {
        let mut alone = false;
        self.front.retain(|&(other, by, group)| {
            let same = (other, by) == (signal, sender);
            alone |= same && !group;
            !same
        });
        let before = self.command.len();
        self.command.retain(|&(other, by, group)| (other, by, group) != (signal, sender, true));
        !alone && self.command.len() < before
    }
}

#[cfg(test)]
mod tests {
    use agentrec_recorder_ebpf::Head;

    use super::*;

    #[test]
    fn what_was_sent_to_both_is_told_from_what_was_not() {
        let mut signals = Signals::default();
        let (command, front) = (10, 9);
        let mut sent = |pid, number, sender, flags| {
            let head = Head { pid, number, flags, ..Head::default() };
            signals.note(&Signal { head, sender, reserved: 0 }, command as Tid);
        };
        for pid in [command, front] {
            sent(pid, 15, 1, GROUP);
            sent(pid, 10, 1, 0);
        }
        sent(front, 1, 1, GROUP);
        sent(command, 1, 2, GROUP);
        sent(front, 2, 1, GROUP);
        sent(command, 2, 1, GROUP);
        sent(front, 2, 1, 0);
        assert!(signals.both(15, 1));
        assert!(!signals.both(15, 1), "only once");
        assert!(!signals.both(10, 1), "each by itself");
        assert!(!signals.both(1, 1), "to another group by another");
        assert!(!signals.both(2, 1), "to the group, and then to the front alone");
    }
}
