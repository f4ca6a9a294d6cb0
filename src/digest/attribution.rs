//! Which tool call stands behind an act of a process: recorded where the trace says so, else concluded from time.

use std::collections::HashMap;

use agentrec_trace::event::Certainty;
use agentrec_trace::{Data, Event, ProcId, Seq};

use super::{Call, Digest};

/// Edges that the trace itself holds.
#[derive(Debug, Default)]
pub struct Edges {
    /// From an event to the one that led to it.
    causes: HashMap<Seq, (Seq, Certainty)>,
}

impl Edges {
    /// Takes the next event.
    pub fn add(&mut self, event: &Event<'_>) {
        if let Some(cause) = event.cause {
            self.causes.insert(event.seq, (cause, Certainty::Recorded));
        }
        // `call-process`: from the tool call to the event with which the process began.
        if let Data::Link(link) = &event.data
            && link.kind == "call-process"
        {
            self.causes.insert(link.to, (link.from, link.certainty));
        }
    }
}

/// The tool calls that may stand behind something.
#[derive(Clone, Debug)]
pub struct Attribution<'d> {
    /// One, or several that were open at the same time.
    pub calls: Vec<&'d Call>,
    /// Whether the trace says so, or it follows from the times.
    pub certainty: Certainty,
}

impl Digest {
    /// The tool calls behind what `proc` did at `ts` with event `seq`; none where no call was open.
    pub fn attribute(&self, proc: ProcId, seq: Seq, ts: u64) -> Option<Attribution<'_>> {
        self.recorded(proc, seq, ts).or_else(|| self.open_calls(proc, ts, |_| true))
    }

    /// The call that edges in the trace lead to, from the event or from how one of its processes began. A process that serves
    /// calls began for one, and works for others: there the times say more.
    fn recorded(&self, proc: ProcId, seq: Seq, ts: u64) -> Option<Attribution<'_>> {
        let edge = |from: Seq| {
            let (cause, certainty) = self.edges.causes.get(&from)?;
            let call = self.call(*cause)?;
            Some(Attribution { calls: vec![self.whole(call)], certainty: *certainty })
        };
        if let Some(found) = edge(seq) {
            return Some(found);
        }
        let mut moment = ts;
        let lineage = self.processes.get(proc).into_iter().chain(self.processes.ancestors(proc));
        for process in lineage {
            if let Some(found) = self.open_in(process.id, moment, |call| call.server.is_some()) {
                return Some(found);
            }
            let execs = process.execs.iter().rev().map(|exec| exec.seq);
            let mut beginnings = execs.filter(|exec| *exec <= seq).chain(process.fork);
            if let Some(found) = beginnings.find_map(edge) {
                return Some(found);
            }
            moment = process.started;
        }
        None
    }

    /// The calls that were open in the process that told of them when control left it: at the act itself, or when it
    /// forked the child that led to the act.
    fn open_calls(
        &self,
        proc: ProcId,
        ts: u64,
        wanted: impl Fn(&Call) -> bool,
    ) -> Option<Attribution<'_>> {
        let mut moment = ts;
        let mut process = self.processes.get(proc)?;
        loop {
            if let Some(found) = self.open_in(process.id, moment, &wanted) {
                return Some(found);
            }
            moment = process.started;
            process = self.processes.get(process.parent?)?;
        }
    }

    /// The calls that a process worked on at a time.
    fn open_in(
        &self,
        proc: ProcId,
        ts: u64,
        wanted: impl Fn(&Call) -> bool,
    ) -> Option<Attribution<'_>> {
        let open = self.calls.iter().filter(|call| call.is_of(proc) && call.is_open_at(ts));
        let mut calls: Vec<&Call> = Vec::new();
        for call in open.filter(|call| wanted(call)).map(|call| self.whole(call)) {
            if !calls.iter().any(|known| known.seq == call.seq) {
                calls.push(call);
            }
        }
        let certainty = Certainty::Inferred;
        (!calls.is_empty()).then_some(Attribution { calls, certainty })
    }

    fn call(&self, seq: Seq) -> Option<&Call> {
        self.calls.iter().find(|call| call.seq == seq)
    }

    /// The call that another one carries out, or that one.
    fn whole<'d>(&'d self, call: &'d Call) -> &'d Call {
        call.carries_out.and_then(|seq| self.call(seq)).unwrap_or(call)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;
    use agentrec_trace::event::Link;

    fn names(attribution: Option<Attribution<'_>>) -> Vec<&str> {
        attribution
            .map(|a| a.calls.iter().map(|call| call.name.as_str()).collect())
            .unwrap_or_default()
    }

    #[test]
    fn a_process_belongs_to_the_call_that_was_open_when_it_was_forked() {
        let mut script = Script::new("/w");
        script.call(1, "shell").fork(1, 2).fork(2, 3).result(1, "shell").call(1, "other");
        script.unlink(3, "/w/a");
        let digest = script.digest();
        let action = &digest.files.actions()[0];
        let found = digest.attribute(action.proc, action.seq, action.ts);
        assert_eq!(found.as_ref().map(|a| a.certainty), Some(Certainty::Inferred));
        assert_eq!(names(found), ["shell"]);
    }

    #[test]
    fn parallel_calls_are_all_named() {
        let mut script = Script::new("/w");
        script.call(1, "a").call(1, "b").fork(1, 2).result(1, "b").result(1, "a").unlink(2, "/w/a");
        script.unlink(1, "/w/b");
        let digest = script.digest();
        let [by_child, by_agent] = digest.files.actions() else { panic!("two acts") };
        assert_eq!(names(digest.attribute(by_child.proc, by_child.seq, by_child.ts)), ["a", "b"]);
        assert_eq!(names(digest.attribute(by_agent.proc, by_agent.seq, by_agent.ts)), [""; 0]);
    }

    #[test]
    fn a_recorded_edge_wins() {
        let mut script = Script::new("/w");
        let call = script.push(
            Some(1),
            agentrec_trace::event::ToolCall { name: "right".into(), ..Default::default() },
        );
        script.call(1, "wrong");
        script.fork(1, 2);
        let to = Seq(call.0 + 2);
        script.push(None, Link { from: call, to, kind: "call-process".into(), ..Link::default() });
        script.unlink(2, "/w/a");
        let digest = script.digest();
        let action = &digest.files.actions()[0];
        let found = digest.attribute(action.proc, action.seq, action.ts);
        assert_eq!(found.as_ref().map(|a| a.certainty), Some(Certainty::Recorded));
        assert_eq!(names(found), ["right"]);
    }
}
