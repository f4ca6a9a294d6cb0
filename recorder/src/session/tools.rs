//! Which processes a tool call led to.
//!
//! Between a call and its result the agent's process starts programs. Where one of their arguments is one of the call's own, or has
//! it in it, that is recorded as a fact. Else it is concluded where only one call is open, and left open where several are.

use std::collections::HashMap;

use agentrec_trace::event::{Certainty, Link, Payload, ProcessExec, ProcessFork};
use agentrec_trace::{Bytes, ProcId, Seq, Value};

use super::Session;

/// Calls without a result, and processes that were started meanwhile.
#[derive(Debug, Default)]
pub(super) struct Tools {
    open: Vec<Open>,
    /// Who started those that have not executed anything yet.
    starters: HashMap<ProcId, ProcId>,
}

#[derive(Debug)]
struct Open {
    call: Seq,
    /// The agent's process.
    proc: ProcId,
    texts: Texts,
}

/// Texts of a call's arguments.
#[derive(Debug)]
pub(super) struct Texts(Vec<Vec<u8>>);

/// Open calls that are remembered: an agent may never say what came of some.
const MAX_OPEN: usize = 256;
/// Texts of one call's arguments that are compared.
const MAX_TEXTS: usize = 64;
/// Shorter ones are in many command lines.
const MIN_TEXT: usize = 4;

impl Tools {
    pub(super) fn began(&mut self, call: Seq, proc: Option<ProcId>, arguments: &Payload) {
        let Some(proc) = proc else { return };
        let texts = Texts::of(arguments);
        if self.open.len() >= MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push(Open { call, proc, texts });
    }

    pub(super) fn ended(&mut self, call: Seq) {
        self.open.retain(|open| open.call != call);
        if self.open.is_empty() {
            self.starters.clear();
        }
    }

    pub(super) fn forked(&mut self, parent: Option<ProcId>, fork: &ProcessFork) {
        if let Some(parent) = parent
            && self.open.iter().any(|open| open.proc == parent)
        {
            self.starters.insert(fork.child, parent);
        }
    }

    /// The call that the first program of a process belongs to.
    pub(super) fn executed(
        &mut self,
        proc: Option<ProcId>,
        exec: &ProcessExec<'_>,
    ) -> Option<(Seq, Certainty)> {
        if exec.errno.is_some() {
            return None;
        }
        let starter = self.starters.remove(&proc?)?;
        let of_starter: Vec<&Open> = self.open.iter().filter(|open| open.proc == starter).collect();
        let named: Vec<_> = of_starter.iter().filter(|open| open.names(exec)).collect();
        match (&named[..], &of_starter[..]) {
            ([one], _) => Some((one.call, Certainty::Recorded)),
            ([], [only]) => Some((only.call, Certainty::Inferred)),
            _ => None,
        }
    }
}

impl Open {
    fn names(&self, exec: &ProcessExec<'_>) -> bool {
        self.texts.are_in(exec.argv.iter().map(Bytes::as_slice))
    }
}

impl Texts {
    pub(super) fn of(arguments: &Payload) -> Self {
        let mut texts = Vec::new();
        if let Payload::Inline(value) = arguments {
            collect(value, 0, &mut texts);
        }
        Self(texts)
    }

    /// Whether one of the arguments of a program is one of them, or has it in it.
    pub(super) fn are_in<'a>(&self, argv: impl Iterator<Item = &'a [u8]> + Clone) -> bool {
        let has =
            |text: &Vec<u8>| argv.clone().any(|arg| memchr::memmem::find(arg, text).is_some());
        self.0.iter().any(has)
    }
}

/// The texts in a value; arguments that came as JSON in a text are that text's.
fn collect(value: &Value, depth: u32, texts: &mut Vec<Vec<u8>>) {
    if depth > 16 || texts.len() >= MAX_TEXTS {
        return;
    }
    match value {
        Value::String(text) if text.as_bytes().len() >= MIN_TEXT => {
            texts.push(text.as_bytes().trim_ascii().to_vec());
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, depth + 1, texts)),
        Value::Map(fields) => fields.iter().for_each(|(_, item)| collect(item, depth + 1, texts)),
        _ => {}
    }
}

impl Session {
    /// Ties a program that was executed to the call that led to it.
    pub(super) fn tie_to_call(&mut self, tie: Option<(Seq, Certainty)>, exec: Option<Seq>) {
        if let (Some((from, certainty)), Some(to)) = (tie, exec) {
            self.note(Link { from, to, kind: "call-process".into(), certainty });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> Payload {
        Payload::Inline(Value::Map(vec![("command".into(), text.into())]))
    }

    fn run(tools: &mut Tools, child: u32, argv: &[&str]) -> Option<(Seq, Certainty)> {
        let fork = ProcessFork { child: ProcId(child), ..ProcessFork::default() };
        tools.forked(Some(ProcId(1)), &fork);
        let argv = argv.iter().map(|arg| arg.as_bytes().to_vec().into()).collect();
        tools.executed(Some(ProcId(child)), &ProcessExec { argv, ..ProcessExec::default() })
    }

    #[test]
    fn a_process_belongs_to_the_call_that_its_command_line_names() {
        let mut tools = Tools::default();
        tools.began(Seq(10), Some(ProcId(1)), &call("make test"));
        let certain = Some((Seq(10), Certainty::Recorded));
        assert_eq!(run(&mut tools, 2, &["bash", "-c", "make test"]), certain);
        assert_eq!(run(&mut tools, 3, &["git", "status"]), Some((Seq(10), Certainty::Inferred)));
        tools.began(Seq(11), Some(ProcId(1)), &call("npm install"));
        assert_eq!(
            run(&mut tools, 4, &["sh", "-c", "cd x && npm install"]),
            Some((Seq(11), Certainty::Recorded))
        );
        assert_eq!(run(&mut tools, 5, &["git", "status"]), None, "either may have done it");
        tools.ended(Seq(10));
        tools.ended(Seq(11));
        assert_eq!(run(&mut tools, 6, &["make", "test"]), None);
    }
}
