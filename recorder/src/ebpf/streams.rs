//! What goes through connections, as the programs copied it.

use std::collections::HashMap;
use std::os::fd::RawFd;

use agentrec_recorder_ebpf::{
    NO_MORE, PIPE, Part, STREAMS, Stream, UNREADABLE, WAS_RESET, WRITTEN,
};
use aya::maps::{self, MapData};

use super::attach::{Abi, Loaded};
use super::{Error, Watcher};
use crate::model::Model;
use crate::observation::{Call, Direction, Flow, Tid};
use crate::source::Report;

/// The connections that the programs know, and how far each was told.
pub(super) struct Streams {
    table: maps::HashMap<MapData, u64, Abi<Stream>>,
    /// By [`Part::socket`] and whether it was written: how many bytes were told or are known to be missing.
    told: HashMap<(u64, bool), u64>,
}

impl Streams {
    pub(super) fn new(loaded: &mut Loaded) -> Result<Self, Error> {
        Ok(Self { table: loaded.map("STREAMS")?, told: HashMap::new() })
    }

    /// It is gone, in the programs too.
    pub(super) fn forget(&mut self, number: u64) {
        self.told.remove(&(number, false));
        self.told.remove(&(number, true));
    }

    /// Has the programs copy no more of it.
    pub(super) fn ignore(&mut self, socket: u64) {
        let ignored = Abi(Stream { read: 0, written: 0, unwanted: 1 });
        // Where that fails they go on, and it comes here again.
        let _ = self.table.insert(socket, ignored, 0);
        self.forget(socket);
    }

    /// How many bytes are missing before a piece.
    pub(super) fn gap(&mut self, part: &Part, written: bool, len: u64) -> u64 {
        // The programs forget as many.
        if self.told.len() >= 2 * STREAMS as usize {
            self.told.clear();
        }
        let told = self.told.insert((part.socket, written), part.offset + len);
        part.offset.saturating_sub(told.unwrap_or(part.offset))
    }
}

impl<I: From<Report> + Send + 'static> Watcher<I> {
    /// A piece of what went over a connection, or its end.
    pub(super) fn streamed(&mut self, part: &Part, data: &[u8]) {
        let (tid, ts, fd) = (part.head.tid as Tid, part.head.ts, part.what as RawFd);
        let written = part.head.flags & WRITTEN != 0;
        let direction = if written { Direction::Write } else { Direction::Read };
        let is_pipe = part.socket & PIPE != 0;
        let begins = |model: &mut Model| is_pipe && model.begins(tid, fd, direction, data);
        if !self.model.stream(tid, fd) && !begins(&mut self.model) {
            return self.streams.ignore(part.socket);
        }
        if written && !is_pipe {
            self.probed_late(part, data);
        }
        let flow = |watcher: &mut Self, flow| {
            watcher.observe(tid, ts, Call::Flow { fd, direction, flow }, Ok(0));
        };
        if part.head.flags & NO_MORE != 0 {
            return flow(self, Flow::End);
        }
        if part.head.flags & WAS_RESET != 0 {
            return self.observe(tid, ts, Call::Reset { fd }, Ok(0));
        }
        let len = if part.len == UNREADABLE { part.total } else { data.len() as u64 };
        let missing = self.streams.gap(part, written, len);
        if missing > 0 {
            flow(self, Flow::Missing(missing));
        }
        match part.len {
            UNREADABLE => flow(self, Flow::Missing(part.total)),
            _ => flow(self, Flow::Bytes(data)),
        }
    }
}
