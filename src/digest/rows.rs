//! The steps of a session, as the folded screen shows them: the command, its direct children, tool calls, messages.

use std::collections::{BTreeMap, HashMap, HashSet};

use agentrec_trace::{ProcId, Seq};

use super::attribution::Attribution;
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
pub enum Actor {
    /// A process, or a branch of the tree by its first process.
    Process(ProcId),
    /// A tool call that its agent carried out in its own process.
    Call(Seq),
}

impl Digest {
    /// The steps in the order in which they began. `existed` says whether a path was there when the session started.
    pub fn rows(&self, existed: impl Fn(&[u8]) -> Option<bool>) -> Vec<Row> {
        let branches = self.branches();
        let group = |proc: ProcId| branches.get(&proc).map(|branch| Actor::Process(*branch));
        let (acting, server) = (self.acting_call(), self.server_behind());
        let act = |proc, ts| {
            let (proc, ts) = server(proc, ts).unwrap_or((proc, ts));
            acting(proc, ts)
        };
        let mut by_call: HashMap<Seq, Effects> = HashMap::new();
        let mut nested: HashMap<Seq, Vec<(ProcId, Effects)>> = HashMap::new();
        let mut rows = Vec::new();
        for (group, effects) in self.effects(group, act, existed) {
            let id = match group {
                Actor::Process(id) => id,
                Actor::Call(call) => {
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
        // What became of a call is no step of its own.
        let calls = self.calls.iter().enumerate().filter(|(_, call)| call.carries_out.is_none());
        rows.extend(calls.map(|(i, call)| Row {
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
    /// What every process did, and what tool calls did inside of the process that told of them. `existed` as for
    /// [`rows`](Self::rows).
    pub fn effects_by_actor(
        &self,
        existed: impl Fn(&[u8]) -> Option<bool>,
    ) -> BTreeMap<Actor, Effects> {
        self.effects(|proc| Some(Actor::Process(proc)), self.acting_call(), existed)
    }

    /// What these processes did together, and these tool calls inside of the process that told of them.
    pub fn effects_of(
        &self,
        procs: &HashSet<ProcId>,
        calls: &HashSet<Seq>,
        existed: impl Fn(&[u8]) -> Option<bool>,
    ) -> Effects {
        let acting = self.acting_call();
        let act = |proc, ts| match acting(proc, ts)? {
            Actor::Call(call) if calls.contains(&call) => Some(()),
            _ => None,
        };
        let group = |proc: ProcId| procs.contains(&proc).then_some(());
        self.effects(group, act, existed).remove(&()).unwrap_or_default()
    }

    /// Which tool call a process carries out itself at a time: the one that is open, where there is one.
    fn acting_call(&self) -> impl Fn(ProcId, u64) -> Option<Actor> {
        let mut told_by: HashMap<ProcId, Vec<&Call>> = HashMap::new();
        for call in &self.calls {
            for proc in [call.proc, call.served_by].into_iter().flatten() {
                told_by.entry(proc).or_default().push(call);
            }
        }
        move |proc, ts| {
            let open = told_by.get(&proc)?.iter().filter(|call| call.is_open_at(ts));
            let mut open = open.map(|call| call.whole());
            let first = open.next()?;
            open.all(|call| call == first).then_some(Actor::Call(first))
        }
    }

    /// The process that serves calls to whose work belongs what a process does at a time, itself or a program that it started
    /// for it; and when it did.
    fn server_behind(&self) -> impl Fn(ProcId, u64) -> Option<(ProcId, u64)> {
        let servers: HashSet<ProcId> =
            self.calls.iter().filter_map(|call| call.served_by).collect();
        move |proc, ts| {
            let mut at = ts;
            let lineage =
                self.processes.get(proc).into_iter().chain(self.processes.ancestors(proc));
            for process in lineage.filter(|_| !servers.is_empty()) {
                if servers.contains(&process.id) {
                    return Some((process.id, at));
                }
                at = process.started;
            }
            None
        }
    }

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
        let found = self.started_by(process);
        found.map(|found| found.calls.iter().map(|call| call.seq).collect()).unwrap_or_default()
    }

    /// The same, with how sure that is. What the trace ties to a call is often the program and not the fork before it.
    pub fn started_by(&self, process: &Process) -> Option<Attribution<'_>> {
        let (Some(_), Some(fork)) = (process.parent, process.fork) else { return None };
        let program = process.execs.first().map_or(fork, |exec| exec.seq);
        self.attribute(process.id, program, process.started)
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
    fn what_a_server_does_for_a_call_is_counted_to_the_call() {
        use agentrec_trace::event::{Link, ToolCall};
        let mut script = Script::new("/w");
        script.exec(1, &["agent"]).call(1, "early").fork(1, 2).exec(2, &["server"]);
        script.result(1, "early").call(1, "mcp__s__t");
        let call = Seq(script.events().len() as u64);
        let server = Some("s".into());
        let served =
            ToolCall { id: "mcp-1".into(), name: "t".into(), server, ..ToolCall::default() };
        let to = script.push(Some(2), served);
        let kind = "call-execution".into();
        script.push(None, Link { from: call, to, kind, ..Link::default() });
        script.create(2, "/w/made").fork(2, 3).create(3, "/w/deep").result(2, "mcp-1");
        script.create(2, "/w/after").result(1, "mcp__s__t");
        let digest = script.digest();
        let rows = digest.rows(|_| None);
        let calls: Vec<_> =
            rows.iter().filter(|row| matches!(row.kind, RowKind::Call(_))).collect();
        assert_eq!(calls.len(), 2, "the server's is none of its own");
        assert_eq!(changed(&calls[1].effects), ["/w/deep", "/w/made"]);
        assert_eq!(digest.calls[1].server.as_deref(), Some("s"));
        let names: Vec<_> = digest
            .files
            .actions()
            .iter()
            .map(|action| digest.attribute(action.proc, action.seq, action.ts))
            .map(|found| found.map_or("", |found| &*found.calls[0].name))
            .collect();
        // The server itself began for the first call.
        assert_eq!(names[..2], ["mcp__s__t", "mcp__s__t"]);
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
