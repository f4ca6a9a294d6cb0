//! What led to what: turns, tool calls, processes, files and hosts as nodes, and the edges that the trace holds or that follow from it.

use std::collections::{HashMap, HashSet, VecDeque};

use agentrec_trace::event::Certainty;
use agentrec_trace::{ProcId, Seq};

use super::network::Peer;
use super::rows::Actor;
use super::{Digest, Net};
use crate::address::TurnLabel;

/// Something that leads to others, or that others led to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// A turn.
    Turn(TurnLabel),
    /// A `tool.call`.
    Call(Seq),
    /// A process.
    Process(ProcId),
    /// A file, by its absolute path.
    File(Vec<u8>),
    /// Another end of connections.
    Host(Peer),
}

/// One node led to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// From this node
    pub from: Node,
    /// to this.
    pub to: Node,
    /// How.
    pub how: How,
    /// Whether the trace says so, or it follows from the times.
    pub certainty: Certainty,
    /// Another node may have done it instead: there is an edge from each of them.
    pub ambiguous: bool,
}

/// How one node leads to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The model's answer holds the call.
    Calls,
    /// A call's result is part of the request.
    Result,
    /// The next turn of the conversation, without a call between.
    Then,
    /// A conversation that began during the turn.
    SubAgent,
    /// A process is started.
    Starts,
    /// A file changes.
    Changes(Net),
    /// A connection is made.
    Connects,
}

impl How {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Result => "result",
            Self::Then => "then",
            Self::SubAgent => "sub-agent",
            Self::Starts => "starts",
            Self::Changes(Net::Added) => "adds",
            Self::Changes(Net::Modified) => "modifies",
            Self::Changes(Net::Deleted) => "deletes",
            Self::Connects => "connects",
        }
    }
}

/// All edges, in the order of what they come from.
#[derive(Debug, Default)]
pub struct Graph {
    /// The edges.
    pub edges: Vec<Edge>,
}

impl Graph {
    /// The graph of a session. `existed` says whether a path was there when it started.
    pub fn new(digest: &Digest, existed: impl Fn(&[u8]) -> Option<bool>) -> Self {
        let mut graph = Self::default();
        graph.conversation(digest);
        graph.processes(digest);
        graph.effects(digest, existed);
        graph
    }

    fn add(&mut self, from: Node, to: Node, how: How) {
        self.edges.push(Edge { from, to, how, certainty: Certainty::Recorded, ambiguous: false });
    }

    fn conversation(&mut self, digest: &Digest) {
        let by_seq: HashMap<Seq, &TurnLabel> =
            digest.turns.iter().map(|turn| (turn.seq, &turn.label)).collect();
        for turn in digest.turns.iter() {
            let node = || Node::Turn(turn.label.clone());
            if let Some((_, 1)) = turn.label.other {
                let main = TurnLabel { main: turn.label.main, other: None };
                self.add(Node::Turn(main), node(), How::SubAgent);
            }
            let next = turn.next_seq.and_then(|seq| by_seq.get(&seq));
            for &call in &turn.calls {
                self.add(node(), Node::Call(call), How::Calls);
                let found = digest.calls.iter().find(|found| found.seq == call);
                if let (Some(next), true) = (next, found.is_some_and(|c| c.result_seq.is_some())) {
                    self.add(Node::Call(call), Node::Turn((*next).clone()), How::Result);
                }
            }
            if let (Some(next), true) = (next, turn.calls.is_empty()) {
                self.add(node(), Node::Turn((*next).clone()), How::Then);
            }
        }
    }

    fn processes(&mut self, digest: &Digest) {
        let callers: HashMap<ProcId, Vec<Seq>> =
            digest.processes.iter().map(|process| (process.id, digest.callers(process))).collect();
        for process in digest.processes.iter() {
            let Some(parent) = process.parent else { continue };
            let node = || Node::Process(process.id);
            let own = &callers[&process.id];
            // What a call's process starts hangs below that.
            let inherited = callers.get(&parent).is_some_and(|of_parent| of_parent == own);
            if own.is_empty() || inherited {
                self.add(Node::Process(parent), node(), How::Starts);
                continue;
            }
            let found = digest.started_by(process).map(|found| found.certainty);
            for &call in own {
                self.edges.push(Edge {
                    from: Node::Call(call),
                    to: node(),
                    how: How::Starts,
                    certainty: found.unwrap_or(Certainty::Inferred),
                    ambiguous: own.len() > 1,
                });
            }
        }
    }

    fn effects(&mut self, digest: &Digest, existed: impl Fn(&[u8]) -> Option<bool>) {
        for (actor, effects) in digest.effects_by_actor(existed) {
            let (from, certainty) = match actor {
                Actor::Process(id) => (Node::Process(id), Certainty::Recorded),
                Actor::Call(call) => (Node::Call(call), Certainty::Inferred),
            };
            let changes = effects.changes.into_iter();
            let changes = changes.map(|change| (Node::File(change.path), How::Changes(change.net)));
            let made = effects.contacts.into_iter().filter(|contact| contact.made > 0);
            let made = made.map(|contact| (Node::Host(contact.peer), How::Connects));
            self.edges.extend(changes.chain(made).map(|(to, how)| Edge {
                from: from.clone(),
                to,
                how,
                certainty,
                ambiguous: false,
            }));
        }
    }

    /// Only what led to one of these nodes, directly or not.
    pub fn leading_to(self, targets: Vec<Node>) -> Self {
        let mut by_target: HashMap<&Node, Vec<&Node>> = HashMap::new();
        for edge in &self.edges {
            by_target.entry(&edge.to).or_default().push(&edge.from);
        }
        let mut found: HashSet<Node> = targets.iter().cloned().collect();
        let mut open: VecDeque<Node> = targets.into();
        while let Some(node) = open.pop_front() {
            for &from in by_target.get(&node).into_iter().flatten() {
                if found.insert(from.clone()) {
                    open.push_back(from.clone());
                }
            }
        }
        let edges = self.edges.into_iter().filter(|edge| found.contains(&edge.to)).collect();
        Self { edges }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Script;
    use super::*;

    #[test]
    fn what_a_calls_process_starts_hangs_below_it() {
        let mut script = Script::new("/w");
        script.exec(1, &["agent"]).call(1, "shell").fork(1, 2).fork(2, 3).create(3, "/w/a");
        script.create(1, "/w/inside").result(1, "shell").fork(1, 4);
        let digest = script.digest();
        let call = digest.calls[0].seq;
        let graph = Graph::new(&digest, |_| None);
        let told: Vec<_> = graph
            .edges
            .iter()
            .map(|edge| (edge.from.clone(), edge.to.clone(), edge.certainty))
            .collect();
        let process = |n| Node::Process(ProcId(n));
        let file = |path: &str| Node::File(path.into());
        let (recorded, inferred) = (Certainty::Recorded, Certainty::Inferred);
        assert_eq!(
            told,
            [
                (Node::Call(call), process(2), inferred),
                (process(2), process(3), recorded),
                (process(1), process(4), recorded),
                (process(3), file("/w/a"), recorded),
                (Node::Call(call), file("/w/inside"), inferred),
            ]
        );
        let up = Graph::new(&digest, |_| None).leading_to(vec![file("/w/a")]);
        assert_eq!(up.edges.len(), 3);
    }

    #[test]
    fn a_doubt_has_an_edge_from_each_call() {
        let mut script = Script::new("/w");
        script.exec(1, &["agent"]).call(1, "a").call(1, "b").fork(1, 2);
        script.result(1, "a").result(1, "b");
        let graph = Graph::new(&script.digest(), |_| None);
        assert_eq!(graph.edges.len(), 2);
        assert!(graph.edges.iter().all(|edge| edge.ambiguous));
    }
}
