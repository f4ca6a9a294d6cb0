//! Pipes: of those that carry messages of MCP servers, a line each, the bytes are looked at. Nothing else is known of them.
//!
//! Whether a descriptor is such a pipe is seen by what goes through it first. So nobody has to follow pipes, of which every
//! shell makes many: what is remembered goes with the descriptor, and is asked for once.

use std::os::fd::RawFd;

use agentrec_trace::event::Address;
use agentrec_wire::llm::Mcp;

use super::{Model, Scribe, Task};
use crate::observation::{Direction, Flow, Tid};
use crate::source::{Began, Stream, StreamId, Unwanted};

/// A descriptor that is not followed, through which bytes went: a pipe, an eventfd(2) and the like.
#[derive(Debug)]
pub(super) enum Pipe {
    /// What has gone through it may be the beginning of a message.
    Begins(Vec<u8>),
    /// It carries messages.
    Lines(StreamId, Unwanted),
    /// Something else went through it, so many times at its beginning.
    Other(u32),
}

/// Servers may greet with a banner before they speak the protocol: so many writes are looked at. Clients don't, so that one read is
/// enough; of reads each look costs another stop.
const TRIES: u32 = 4;

impl Pipe {
    /// Whether what goes through it next matters.
    fn is_wanted(&self) -> bool {
        match self {
            Self::Begins(_) => true,
            Self::Lines(_, unwanted) => !unwanted.is_set(),
            Self::Other(tries) => *tries < TRIES,
        }
    }
}

impl Model {
    /// Whether what goes through a descriptor that is not followed may matter.
    pub(super) fn wants_pipe(&self, task: Task, fd: RawFd) -> bool {
        let pipes = &self.files.get(task.files).pipes;
        pipes.get(&fd).is_none_or(Pipe::is_wanted)
    }

    /// Whether it is known that it carries messages, or may begin with one.
    pub(super) fn carries_lines(&self, task: Task, fd: RawFd) -> bool {
        let pipe = self.files.get(task.files).pipes.get(&fd);
        pipe.is_some_and(|pipe| !matches!(pipe, Pipe::Other(_)) && pipe.is_wanted())
    }

    /// What a transfer through a descriptor that is not followed begins with: whether its bytes are wanted.
    pub fn begins(&mut self, tid: Tid, fd: RawFd, direction: Direction, bytes: &[u8]) -> bool {
        let Some(&task) = self.tasks.get(&tid) else { return false };
        let files = self.files.get_mut(task.files);
        if files.get(fd).is_some() {
            return false;
        }
        let pipe = files.pipes.entry(fd).or_insert(Pipe::Other(0));
        if let Pipe::Other(tries) = pipe {
            if Mcp::begins(bytes) == Some(false) || bytes.is_empty() {
                *tries = match direction {
                    Direction::Read => TRIES,
                    Direction::Write => tries.saturating_add(1),
                };
                return false;
            }
            *pipe = Pipe::Begins(Vec::new());
        }
        pipe.is_wanted()
    }

    /// Bytes went through such a descriptor.
    pub(super) fn piped(
        &mut self,
        task: Task,
        fd: RawFd,
        direction: Direction,
        flow: Flow<'_>,
        scribe: &mut Scribe<'_>,
    ) {
        let proc = self.proc(task);
        let Some(pipe) = self.files.get_mut(task.files).pipes.get_mut(&fd) else { return };
        match (&mut *pipe, flow) {
            (Pipe::Begins(begin), Flow::Bytes(data)) => {
                begin.extend_from_slice(data);
                match Mcp::begins(begin) {
                    None => {}
                    Some(false) => *pipe = Pipe::Other(TRIES),
                    Some(true) => {
                        self.last_pipe += 1;
                        let id = StreamId::Pipe(self.last_pipe);
                        let (begin, unwanted) = (std::mem::take(begin), Unwanted::default());
                        *pipe = Pipe::Lines(id, unwanted.clone());
                        let peer = Address::default();
                        let began =
                            Began { role: None, peer, through: None, joined: false, unwanted };
                        scribe.stream(task.process, proc, id, Stream::Began(Box::new(began)));
                        scribe.flow(task.process, proc, id, direction, Flow::Bytes(&begin));
                    }
                }
            }
            (Pipe::Begins(_), Flow::Missing(_) | Flow::End) => *pipe = Pipe::Other(TRIES),
            (Pipe::Lines(id, unwanted), flow) if !unwanted.is_set() => {
                scribe.flow(task.process, proc, *id, direction, flow);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_looked_at_a_few_times() {
        let mut pipe = Pipe::Other(0);
        let mut looks = 0;
        while pipe.is_wanted() {
            looks += 1;
            pipe = Pipe::Other(looks);
        }
        assert_eq!(looks, TRIES);
        let unwanted = Unwanted::default();
        let lines = Pipe::Lines(StreamId::Pipe(1), unwanted.clone());
        assert!(lines.is_wanted());
        unwanted.set();
        assert!(!lines.is_wanted());
    }
}
