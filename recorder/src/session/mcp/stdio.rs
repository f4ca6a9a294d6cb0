//! Servers that an agent has started, and talks with through pipes or pairs of sockets: a message is a line.
//!
//! Both ends are seen, the agent's and the server's. What counts is the server's: it knows which process works, and for how long.

use agentrec_trace::{ProcId, Seq};
use agentrec_wire::llm::{Mcp, Speaker};

use super::Servers;
use crate::observation::Direction;
use crate::session::Session;
use crate::session::http::By;
use crate::source::{Began, Stream, StreamId, Streamed, Unwanted};

/// What is read or written as lines.
pub(super) struct Lines {
    unwanted: Unwanted,
    /// Nobody has said yet whose end it is: what went each way, and how much of it was looked at.
    undecided: Option<[(Vec<u8>, usize); 2]>,
}

/// Bytes that may go over it before that is known.
const MAX_UNDECIDED: usize = 1 << 20;

impl Lines {
    fn new(unwanted: Unwanted) -> Self {
        Self { unwanted, undecided: Some(Default::default()) }
    }

    /// Takes bytes: gives those that a server read or wrote, which may be all since the beginning.
    fn take(&mut self, direction: Direction, data: Vec<u8>) -> Vec<(Direction, Vec<u8>)> {
        let Some(ways) = &mut self.undecided else { return vec![(direction, data)] };
        let (bytes, seen) = &mut ways[direction as usize];
        bytes.extend_from_slice(&data);
        let mut sender = None;
        while sender.is_none()
            && let Some(end) = memchr::memchr(b'\n', &bytes[*seen..])
        {
            sender = Mcp::sender(&bytes[*seen..*seen + end]);
            *seen += end + 1;
        }
        match sender {
            None if bytes.len() <= MAX_UNDECIDED => Vec::new(),
            Some(sender) if (sender == Speaker::Client) == (direction == Direction::Read) => {
                let ways = self.undecided.take().into_iter().flatten();
                [Direction::Read, Direction::Write]
                    .into_iter()
                    .zip(ways)
                    .map(|(direction, (bytes, _))| (direction, bytes))
                    .collect()
            }
            _ => {
                // The agent's end, or nobody knows whose.
                self.unwanted.set();
                *ways = Default::default();
                Vec::new()
            }
        }
    }
}

/// Who says what a server reads or writes.
fn speaker(direction: Direction) -> Speaker {
    match direction {
        Direction::Read => Speaker::Client,
        Direction::Write => Speaker::Server,
    }
}

impl Servers {
    fn of_process(&mut self, proc: ProcId) -> u64 {
        let next = self.last_channel + 1;
        let channel = *self.processes.entry(proc).or_insert(next);
        self.last_channel = self.last_channel.max(channel);
        channel
    }
}

impl Session {
    /// Takes what goes through pipes, and through sockets that carry messages like them; gives back the rest.
    pub(in crate::session) fn lines_streamed(&mut self, streamed: Streamed) -> Option<Streamed> {
        if let (StreamId::Pipe(_), Stream::Began(began)) = (streamed.id, &streamed.what) {
            let Began { unwanted, .. } = &**began;
            self.servers.lines.insert(streamed.id, Lines::new(unwanted.clone()));
            return None;
        }
        if !self.servers.lines.contains_key(&streamed.id) {
            let unwanted = match &streamed.what {
                Stream::Bytes { data, .. } if data.first() == Some(&b'{') => {
                    self.http.give_up_unread(streamed.id)
                }
                _ => None,
            };
            let Some(unwanted) = unwanted else { return Some(streamed) };
            self.servers.lines.insert(streamed.id, Lines::new(unwanted));
        }
        self.line_streamed(streamed);
        None
    }

    fn line_streamed(&mut self, Streamed { id, ts, proc, tid, what }: Streamed) {
        let Some(lines) = self.servers.lines.get_mut(&id) else { return };
        let by = By { proc, tid };
        match (what, proc) {
            (Stream::Bytes { direction, data }, Some(proc)) if !lines.unwanted.is_set() => {
                let taken = lines.take(direction, data);
                let channel = if taken.is_empty() { 0 } else { self.servers.of_process(proc) };
                for (direction, bytes) in taken {
                    let told = self.servers.mcp.lines(channel, speaker(direction), &bytes);
                    self.tell_of_server(told, by, (None, ts), (true, None));
                }
            }
            (Stream::Missing { direction, .. }, Some(proc)) if lines.undecided.is_none() => {
                let channel = self.servers.of_process(proc);
                self.servers.mcp.missing(channel, speaker(direction));
                self.tell_of_server(Vec::new(), by, (None, ts), (true, None));
            }
            (Stream::Over { .. }, _) => drop(self.servers.lines.remove(&id)),
            _ => {}
        }
    }

    /// A process has ended: it answers no more.
    pub(in crate::session) fn server_ended(
        &mut self,
        proc: Option<ProcId>,
        (cause, at): (Option<Seq>, u64),
    ) {
        let Some(channel) = proc.and_then(|proc| self.servers.processes.remove(&proc)) else {
            return;
        };
        let calls = self.servers.mcp.closed(channel);
        let by = By { proc, tid: None };
        self.tell_of_no_answer(calls, "the server ended without an answer", by, (cause, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n";
    const RESULT: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n";

    fn taken(pieces: &[(Direction, &[u8])]) -> (Vec<u8>, Vec<u8>, bool) {
        let mut lines = Lines::new(Unwanted::default());
        let (mut read, mut written) = (Vec::new(), Vec::new());
        for (direction, piece) in pieces {
            for (direction, bytes) in lines.take(*direction, piece.to_vec()) {
                match direction {
                    Direction::Read => read.extend(bytes),
                    Direction::Write => written.extend(bytes),
                }
            }
        }
        (read, written, lines.unwanted.is_set())
    }

    #[test]
    fn only_the_servers_end_is_taken_and_from_its_first_byte_on() {
        use Direction::{Read, Write};
        for end in 1..CALL.len() {
            let (a, b) = CALL.split_at(end);
            let server = [(Read, a), (Read, b), (Read, CALL), (Write, RESULT)];
            let expected = ([CALL, CALL].concat(), RESULT.to_vec(), false);
            assert_eq!(taken(&server), expected, "{end}");
            let agent = [(Write, a), (Write, b), (Read, RESULT)];
            assert!(taken(&agent).2, "{end}");
        }
        assert_eq!(taken(&[(Write, RESULT)]), (vec![], RESULT.to_vec(), false));
        assert!(taken(&[(Read, RESULT)]).2, "it reads answers");
        let endless = vec![b'{'; MAX_UNDECIDED + 1];
        assert!(taken(&[(Read, &endless)]).2);
    }
}
