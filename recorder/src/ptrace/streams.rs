//! What goes through connections: copied out of the tracee's memory when the call is over.

use std::os::fd::RawFd;

use super::Tracer;
use super::output::{self, Pieces};
use crate::calls::memory::{Unreadable, Word};
use crate::calls::shape::{Buffers, Shape};
use crate::calls::table::Row;
use crate::model::Interest;
use crate::observation::{Call, Direction, Flow, Loss, Tid};
use crate::source::Report;

/// What recv(2) was asked to do.
enum Taking {
    /// The bytes are given out.
    Given,
    /// They are given out, and stay.
    Stay,
    /// They go, and are not given out (tcp(7), MSG_TRUNC).
    Discarded,
}

impl Taking {
    fn by(flags: u64) -> Self {
        match flags as i32 {
            // Urgent data is no part of the stream.
            flags if flags & (libc::MSG_PEEK | libc::MSG_OOB) != 0 => Self::Stay,
            flags if flags & libc::MSG_TRUNC != 0 => Self::Discarded,
            _ => Self::Given,
        }
    }
}

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// A covered call is over: what it moved through a connection.
    pub(super) fn streamed(
        &mut self,
        tid: Tid,
        row: &Row,
        args: &[u64; 6],
        result: Result<u64, i32>,
    ) {
        use Direction::{Read, Write};
        let fd = args[0] as RawFd;
        if let (Shape::Read { buffers }, Ok(count)) = (row.shape, result)
            && self.model.interest(tid, fd) == Interest::Begin
        {
            self.begins((tid, Read), row.word, buffers, args, count);
        }
        match row.shape {
            Shape::Write { .. }
            | Shape::Read { .. }
            | Shape::Receive { .. }
            | Shape::Messages { .. }
                if !self.model.stream(tid, fd) => {}
            _ if result == Err(libc::ECONNRESET) => self.flows_no_more(tid, row, fd),
            Shape::Write { buffers } => {
                if let Ok(count) = result {
                    self.flow(tid, fd, Write, Pieces::new(tid, row.word, buffers, args, count));
                }
            }
            Shape::Read { buffers } => self.received_bytes(tid, row.word, buffers, args, result),
            Shape::Receive { flags, message } => {
                let buffers = message.map_or(Buffers::Flat(1), Buffers::Message);
                match (Taking::by(args[usize::from(flags)]), result) {
                    (Taking::Given, _) => self.received_bytes(tid, row.word, buffers, args, result),
                    (Taking::Discarded, Ok(count)) if count > 0 => {
                        self.flows(tid, fd, Read, Flow::Missing(count));
                    }
                    _ => {}
                }
            }
            Shape::Messages { write } => {
                let direction = if write { Write } else { Read };
                // MSG_PEEK stands in the fourth argument of both.
                if let (Taking::Given, Ok(count)) = (Taking::by(args[3]), result) {
                    self.flow_of_messages(tid, row.word, args, direction, count);
                }
            }
            Shape::Move { from, offset, to } => {
                let Ok(count) = result else { return };
                let arg = |arg: u8| args[usize::from(arg)];
                let (from, to) = (arg(from) as RawFd, arg(to) as RawFd);
                if count > 0 && self.model.stream(tid, from) {
                    self.flows(tid, from, Read, Flow::Missing(count));
                }
                if count > 0 && self.model.stream(tid, to) {
                    let source = self.moved_from(tid, row.word, (from, arg(offset)), count);
                    let tell = |this: &mut Self, data: &[u8]| {
                        this.flows(tid, to, Write, Flow::Bytes(data));
                    };
                    let told = self.read_again(source, tell);
                    if told < count {
                        self.flows(tid, to, Write, Flow::Missing(count - told));
                    }
                }
            }
            _ => {}
        }
    }

    /// What goes through a descriptor of which nothing is known: whether it begins like a message.
    pub(super) fn begins(
        &mut self,
        (tid, direction): (Tid, Direction),
        word: Word,
        buffers: Buffers,
        args: &[u64; 6],
        count: u64,
    ) -> bool {
        /// More than the first of them is never needed to see that they are no message.
        const BEGIN: u64 = 16;
        let count = match buffers {
            Buffers::Flat(_) | Buffers::To { .. } => count.min(args[2]),
            Buffers::Vector(..) | Buffers::Message(_) => count,
        };
        let mut data = std::mem::take(&mut self.scratch);
        data.clear();
        // What can't be read is no message either.
        let mut pieces = Pieces::new(tid, word, buffers, args, count.min(BEGIN));
        let read = pieces.next(&mut data).is_ok();
        let begin = if read { &data[..] } else { b"" };
        let wanted = self.model.begins(tid, args[0] as RawFd, direction, begin);
        self.scratch = data;
        wanted
    }

    /// A call says that the peer reset the connection.
    fn flows_no_more(&mut self, tid: Tid, row: &Row, fd: RawFd) {
        if let Shape::Write { .. } | Shape::Read { .. } | Shape::Receive { .. } = row.shape {
            self.observe(tid, Call::Reset { fd }, Ok(0));
        }
    }

    fn received_bytes(
        &mut self,
        tid: Tid,
        word: Word,
        buffers: Buffers,
        args: &[u64; 6],
        result: Result<u64, i32>,
    ) {
        let fd = args[0] as RawFd;
        match result {
            // Who asks for nothing gets that at any time.
            Ok(0) if matches!(buffers, Buffers::Flat(_)) && args[2] == 0 => {}
            Ok(0) => self.flows(tid, fd, Direction::Read, Flow::End),
            Ok(count) => {
                let pieces = Pieces::new(tid, word, buffers, args, count);
                self.flow(tid, fd, Direction::Read, pieces);
            }
            Err(_) => {}
        }
    }

    fn flow_of_messages(
        &mut self,
        tid: Tid,
        word: Word,
        args: &[u64; 6],
        direction: Direction,
        count: u64,
    ) {
        let fd = args[0] as RawFd;
        for index in 0..count {
            let header = super::messages::nth_message(word, args[1], index);
            let Ok(len) = output::message_bytes(tid, word, header, 1) else {
                return self.lost(tid, Loss::Memory);
            };
            let args = [args[0], header, 0, 0, 0, 0];
            self.flow(tid, fd, direction, Pieces::new(tid, word, Buffers::Message(1), &args, len));
        }
    }

    /// Tells the pieces, as far as they can be read.
    fn flow(&mut self, tid: Tid, fd: RawFd, direction: Direction, mut pieces: Pieces) {
        let mut data = std::mem::take(&mut self.scratch);
        let mut left = pieces.left();
        loop {
            data.clear();
            match pieces.next(&mut data) {
                Ok(true) => self.flows(tid, fd, direction, Flow::Bytes(&data)),
                Ok(false) | Err(Unreadable) => break,
            }
            left -= data.len() as u64;
        }
        self.scratch = data;
        if left > 0 {
            self.flows(tid, fd, direction, Flow::Missing(left));
        }
    }

    fn flows(&mut self, tid: Tid, fd: RawFd, direction: Direction, flow: Flow<'_>) {
        self.observe(tid, Call::Flow { fd, direction, flow }, Ok(0));
    }
}
