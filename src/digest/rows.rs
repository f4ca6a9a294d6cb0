//! The steps of a session, as the folded screen shows them: the command, its direct children, tool calls, messages.

use std::collections::{BTreeMap, HashMap};

use agentrec_trace::{ProcId, Seq};

use super::effects::Effects;
use super::processes::Process;
use super::{Call, Digest};

/// A step.
#[derive(Clone, Debug)]
pub struct Row {
    /// CLOCK_BOOTTIME, nanoseconds.
    pub ts: u64,
    /// What it is about.
    pub kind: RowKind,
    /// What it did: of a process with all that descend from it, of the command alone, of a tool call inside of the
    /// process that told of it.
    pub effects: Effects,
    /// Direct children of the command that a tool call started, with their effects.
    pub nested: Vec<(ProcId, Effects)>,
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// The command, or a direct child of it.
    Process(ProcId),
    /// A tool call, by its position in [`Digest::calls`].
    Call(usize),
    /// A message, by its position in [`Digest::messages`].
    Message(usize),
}

/// To what an act is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Process(ProcId),
    Call(Seq),
}

impl Digest {
    /// The steps in the order in which they began. `existed` says whether a path was there when the session started.
    pub fn rows(&self, existed: impl Fn(&[u8]) -> Option<bool>) -> Vec<Row> {
        let branches = self.branches();
        let mut told_by: HashMap<ProcId, Vec<&Call>> = HashMap::new();
        for call in &self.calls {
            told_by.entry(call.proc.unwrap_or_default()).or_default().push(call);
        }
        let group = |proc: ProcId| branches.get(&proc).map(|branch| Group::Process(*branch));
        let act = |proc: ProcId, ts: u64| {
            let mut open = told_by.get(&proc)?.iter().filter(|call| call.is_open_at(ts));
            match (open.next(), open.next()) {
                (Some(call), None) => Some(Group::Call(call.seq)),
                _ => None,
            }
        };
        let mut by_call: HashMap<Seq, Effects> = HashMap::new();
        let mut nested: HashMap<Seq, Vec<(ProcId, Effects)>> = HashMap::new();
        let mut rows = Vec::new();
        for (group, effects) in self.effects(group, act, existed) {
            let id = match group {
                Group::Process(id) => id,
                Group::Call(call) => {
                    by_call.insert(call, effects);
                    continue;
                }
            };
            let Some(process) = self.processes.get(id) else { continue };
            match self.caller(process) {
                Some(call) => nested.entry(call).or_default().push((id, effects)),
                None => rows.push(Row {
                    ts: process.started,
                    kind: RowKind::Process(id),
                    effects,
                    nested: Vec::new(),
                }),
            }
        }
        rows.extend(self.calls.iter().enumerate().map(|(i, call)| Row {
            ts: call.ts,
            kind: RowKind::Call(i),
            effects: by_call.remove(&call.seq).unwrap_or_default(),
            nested: nested.remove(&call.seq).unwrap_or_default(),
        }));
        rows.extend(self.messages.iter().enumerate().map(|(i, message)| Row {
            ts: message.ts,
            kind: RowKind::Message(i),
            effects: Effects::default(),
            nested: Vec::new(),
        }));
        // Stable: the command stays before what happened at the same moment.
        rows.sort_by_key(|row| row.ts);
        rows
    }
}

impl Digest {
    /// Every process by the branch that it belongs to: a direct child of a root, or a root itself.
    fn branches(&self) -> BTreeMap<ProcId, ProcId> {
        let mut branches = BTreeMap::new();
        for root in self.processes.roots() {
            branches.insert(root.id, root.id);
            for &child in &root.children {
                let subtree = self.processes.subtree(child);
                branches.extend(subtree.into_iter().map(|(_, process)| (process.id, child)));
            }
        }
        branches
    }

    /// The one tool call that started a process.
    fn caller(&self, process: &Process) -> Option<Seq> {
        match self.callers(process).as_slice() {
            [call] => Some(*call),
            _ => None,
        }
    }

    /// The tool calls that may have started a process.
    pub fn callers(&self, process: &Process) -> Vec<Seq> {
        let (Some(_), Some(fork)) = (process.parent, process.fork) else { return Vec::new() };
        let found = self.attribute(process.id, fork, process.started);
        found.map(|found| found.calls.iter().map(|call| call.seq).collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;

    fn changed(effects: &Effects) -> Vec<String> {
        effects.changes.iter().map(|change| change.path.escape_ascii().to_string()).collect()
    }

    #[test]
    fn children_stand_alone_and_count_their_descendants() {
        let mut script = Script::new("/w");
        script.exec(1, &["sh"]).create(1, "/w/own").fork(1, 2).fork(2, 3).create(3, "/w/deep");
        let rows = script.digest().rows(|_| None);
        let kinds: Vec<_> = rows.iter().map(|row| row.kind).collect();
        assert_eq!(kinds, [RowKind::Process(ProcId(1)), RowKind::Process(ProcId(2))]);
        assert_eq!(changed(&rows[0].effects), ["/w/own"]);
        assert_eq!(changed(&rows[1].effects), ["/w/deep"]);
    }

    #[test]
    fn a_call_takes_its_children_and_what_was_done_inside_of_the_agent() {
        let mut script = Script::new("/w");
        script.exec(1, &["agent"]).create(1, "/w/before").call(1, "tool").fork(1, 2);
        script.create(2, "/w/child").create(1, "/w/inside").result(1, "tool").create(1, "/w/after");
        let rows = script.digest().rows(|_| None);
        assert_eq!(rows.len(), 2);
        assert_eq!(changed(&rows[0].effects), ["/w/after", "/w/before"]);
        assert_eq!(rows[1].kind, RowKind::Call(0));
        assert_eq!(changed(&rows[1].effects), ["/w/inside"]);
        assert_eq!(rows[1].nested.len(), 1);
        assert_eq!(rows[1].nested[0].0, ProcId(2));
        assert_eq!(changed(&rows[1].nested[0].1), ["/w/child"]);
    }

    #[test]
    fn what_two_open_calls_could_have_done_is_counted_to_neither() {
        let mut script = Script::new("/w");
        script.exec(1, &["agent"]).call(1, "a").call(1, "b").fork(1, 2).create(1, "/w/x");
        script.result(1, "a").result(1, "b");
        let digest = script.digest();
        let rows = digest.rows(|_| None);
        assert_eq!(changed(&rows[0].effects), ["/w/x"]);
        assert_eq!(rows.len(), 4, "two calls, and the child on its own");
        let child = digest.processes.get(ProcId(2)).expect("forked");
        assert_eq!(digest.callers(child).len(), 2);
    }
}
