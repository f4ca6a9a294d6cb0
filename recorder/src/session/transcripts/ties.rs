//! Which programs a call of a transcript led to: it is read when they run already, so they are remembered until its result is.

use std::collections::{HashMap, VecDeque};

use agentrec_trace::event::{Payload, ProcessExec};
use agentrec_trace::{Data, Event, ProcId, Seq};

use crate::session::tools::Texts;

/// Calls without a result, and programs that agents started.
#[derive(Debug, Default)]
pub(super) struct Ties {
    calls: HashMap<String, Call>,
    /// Who started those that have not executed anything yet.
    starters: HashMap<ProcId, ProcId>,
    programs: VecDeque<Program>,
}

#[derive(Debug)]
struct Call {
    seq: Seq,
    proc: ProcId,
    ts: u64,
    texts: Texts,
}

/// The first program that a child of an agent executed.
#[derive(Debug)]
pub(in crate::session) struct Program {
    /// Its `process.exec`, once that is written.
    seq: Option<Seq>,
    starter: ProcId,
    ts: u64,
    argv: Vec<Vec<u8>>,
}

/// Calls, and programs, that are remembered.
const MAX: usize = 256;

/// Bytes of a program's arguments that are compared.
const MAX_ARGV: usize = 64 << 10;

impl Ties {
    /// Takes note of what `is_agent`s start. A program is to be given back when it was written.
    pub(super) fn observe(
        &mut self,
        event: &Event<'_>,
        is_agent: impl Fn(ProcId) -> bool,
    ) -> Option<Program> {
        let proc = event.proc?;
        match &event.data {
            Data::ProcessFork(fork) if is_agent(proc) && self.starters.len() < MAX => {
                self.starters.insert(fork.child, proc);
            }
            Data::ProcessExec(exec) if exec.errno.is_none() => {
                let starter = self.starters.remove(&proc)?;
                return Some(Program { seq: None, starter, ts: event.ts, argv: argv(exec) });
            }
            Data::ProcessExit(_) => drop(self.starters.remove(&proc)),
            _ => {}
        }
        None
    }

    /// A program was written.
    pub(super) fn executed(&mut self, program: Program, seq: Option<Seq>) {
        if self.programs.len() >= MAX {
            self.programs.pop_front();
        }
        self.programs.push_back(Program { seq, ..program });
    }

    /// A call was told.
    pub(super) fn called(
        &mut self,
        id: String,
        seq: Seq,
        (proc, ts): (Option<ProcId>, u64),
        arguments: &Payload,
    ) {
        let Some(proc) = proc else { return };
        if self.calls.len() >= MAX {
            self.calls.clear();
        }
        let texts = Texts::of(arguments);
        self.calls.insert(id, Call { seq, proc, ts, texts });
    }

    /// Its result is known, and came at `until`: the call, and the programs whose command lines name it. None that another call
    /// of that time may have meant.
    pub(super) fn returned(&mut self, id: &str, until: u64) -> Vec<(Seq, Seq)> {
        let Some(call) = self.calls.remove(id) else { return Vec::new() };
        let others: Vec<&Call> = self.calls.values().collect();
        let mut found = Vec::new();
        self.programs.retain(|program| {
            let is_its = |call: &Call| {
                call.proc == program.starter
                    && call.ts <= program.ts
                    && call.texts.are_in(program.argv.iter().map(Vec::as_slice))
            };
            let ties = program.ts <= until && is_its(&call) && !others.iter().any(|it| is_its(it));
            if ties {
                found.extend(program.seq.map(|seq| (call.seq, seq)));
            }
            !ties
        });
        found
    }
}

fn argv(exec: &ProcessExec<'_>) -> Vec<Vec<u8>> {
    let mut left = MAX_ARGV;
    let argument = |argument: &[u8]| {
        let taken = &argument[..argument.len().min(left)];
        left -= taken.len();
        taken.to_vec()
    };
    exec.argv.iter().map(agentrec_trace::Bytes::as_slice).map(argument).collect()
}

#[cfg(test)]
mod tests {
    use agentrec_trace::Source;
    use agentrec_trace::event::ProcessFork;

    use super::*;

    fn run(ties: &mut Ties, ts: u64, child: u32, command: &str) -> Seq {
        let event = |proc: u32, data: Data<'static>| Event {
            proc: Some(ProcId(proc)),
            ..Event::new(ts, Source::Kernel, data)
        };
        let is_agent = |proc| proc == ProcId(1);
        let fork = ProcessFork { child: ProcId(child), ..ProcessFork::default() };
        assert!(ties.observe(&event(1, fork.into()), is_agent).is_none());
        let argv = ["sh", "-c", command].map(|arg| arg.as_bytes().to_vec().into()).into();
        let exec = ProcessExec { argv, ..ProcessExec::default() };
        let program =
            ties.observe(&event(child, exec.into()), is_agent).expect("it is the agent's");
        ties.executed(program, Some(Seq(ts)));
        Seq(ts)
    }

    fn call(ties: &mut Ties, id: &str, seq: u64, ts: u64, text: &str) {
        ties.called(id.into(), Seq(seq), (Some(ProcId(1)), ts), &Payload::Inline(text.into()));
    }

    #[test]
    fn programs_that_ran_before_the_call_was_read_are_tied_to_it() {
        let mut ties = Ties::default();
        run(&mut ties, 5, 2, "make test");
        let first = run(&mut ties, 15, 3, "cd x && make test");
        run(&mut ties, 16, 4, "git status");
        let second = run(&mut ties, 25, 5, "make test");
        call(&mut ties, "a", 100, 10, "make test");
        assert_eq!(ties.returned("a", 20), [(Seq(100), first)]);
        call(&mut ties, "b", 101, 21, "make test");
        assert_eq!(ties.returned("b", 30), [(Seq(101), second)]);
        assert_eq!(ties.returned("b", 30), []);
    }

    #[test]
    fn what_either_of_two_calls_may_have_meant_is_tied_to_none() {
        let mut ties = Ties::default();
        run(&mut ties, 15, 2, "make test");
        let only = run(&mut ties, 16, 3, "make install");
        call(&mut ties, "a", 100, 10, "make test");
        call(&mut ties, "b", 101, 10, "make test");
        call(&mut ties, "c", 102, 10, "make install");
        assert_eq!(ties.returned("a", 20), []);
        assert_eq!(ties.returned("c", 20), [(Seq(102), only)]);
    }
}
