//! Who did it: the processes of a trace with what they run at the moment, in bounded memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use agentrec_trace::{Data, Event, ProcId, Seq};

use crate::output::{command_line, fit};

/// Processes that are known by name.
const MAX_PROCESSES: usize = 100_000;

/// Columns of a command line that are kept.
const COMMAND_COLUMNS: usize = 200;

/// Bytes of the same: some characters take no column.
const COMMAND_BYTES: usize = 1000;

/// A process at a moment.
#[derive(Clone, Debug)]
pub struct Who {
    /// Its index in the session; 0 where no process is named.
    pub id: ProcId,
    /// The kernel's pid; 0 where no event told it.
    pub pid: u32,
    /// What it runs, printable and cut.
    pub command: Arc<str>,
    /// The event with which it began.
    pub began: Seq,
    ended: bool,
}

/// All processes.
#[derive(Debug, Default)]
pub struct People {
    all: BTreeMap<ProcId, Who>,
    pids: HashSet<u32>,
    /// Processes that there was no room for.
    pub beyond: u64,
}

impl People {
    /// Takes the next event.
    pub fn add(&mut self, event: &Event<'_>) {
        let Some(id) = event.proc else { return };
        match &event.data {
            Data::ProcessFork(fork) => {
                let command = self.who(Some(id)).command;
                let began = event.seq;
                self.enter(Who { id: fork.child, pid: fork.pid, command, began, ended: false });
            }
            Data::ProcessExec(exec) if exec.errno.is_none() => {
                let line = if exec.argv.is_empty() {
                    command_line(&[&*exec.path])
                } else {
                    command_line(&exec.argv)
                };
                let cut = line.floor_char_boundary(COMMAND_BYTES);
                let command = fit(&line[..cut], COMMAND_COLUMNS).into();
                match self.all.get_mut(&id) {
                    Some(who) => who.command = command,
                    None => self.enter(Who {
                        id,
                        pid: exec.pid,
                        command,
                        began: event.seq,
                        ended: false,
                    }),
                }
            }
            Data::ProcessExit(_) => {
                if let Some(who) = self.all.get_mut(&id) {
                    who.ended = true;
                }
            }
            _ => {}
        }
    }

    fn enter(&mut self, who: Who) {
        if self.all.len() >= MAX_PROCESSES {
            self.beyond += 1;
            return;
        }
        self.pids.insert(who.pid);
        self.all.entry(who.id).or_insert(who);
    }

    /// Whoever that is now.
    pub fn who(&self, id: Option<ProcId>) -> Who {
        let id = id.unwrap_or_default();
        self.all.get(&id).cloned().unwrap_or_else(|| Who {
            id,
            pid: 0,
            command: "".into(),
            began: Seq(0),
            ended: false,
        })
    }

    /// Whether a recorded process had this pid.
    pub fn has_pid(&self, pid: u32) -> bool {
        self.pids.contains(&pid)
    }

    /// Those of which the trace tells no end.
    pub fn running(&self) -> impl Iterator<Item = &Who> {
        self.all.values().filter(|who| !who.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::testing::Script;

    #[test]
    fn a_command_line_is_cut_also_where_it_takes_no_columns() {
        let mut script = Script::new("/w");
        script.exec(1, &["a", &"\u{301}".repeat(100_000)]).fork(1, 2).exec(2, &["b"]);
        let mut people = People::default();
        script.events().iter().for_each(|event| people.add(event));
        assert!(people.who(Some(ProcId(1))).command.len() <= COMMAND_BYTES + "…".len());
        assert_eq!(&*people.who(Some(ProcId(2))).command, "b");
        assert_eq!(people.running().count(), 2);
    }
}
