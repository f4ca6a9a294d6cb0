//! Steps through the events of a trace, decoding each from the bytes of its frame.

use std::sync::Arc;

use crate::Seq;
use crate::codec;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::event_codec::{self, Running};
use crate::msgpack::Cursor;
use crate::objects::Starts;
use crate::reader::{OpenFrame, Reader};

/// A position among the events of a trace. After an error it stands at the next frame and can go on.
pub struct EventCursor<'r> {
    reader: &'r Reader,
    frame: OpenFrame,
    /// The first number of every frame, where the trace has an index that can be read; without it the heads tell.
    starts: Option<Arc<Starts>>,
    /// Position of the frame to open next.
    next_frame: usize,
    /// Byte offset of the open frame, for errors.
    offset: u64,
    /// Its `seq` is 0 while it is not known, after a frame that can't be read.
    running: Running,
}

impl<'r> EventCursor<'r> {
    pub(crate) fn new(reader: &'r Reader, seq: Seq) -> Result<Self> {
        let mut cursor = Self {
            reader,
            frame: OpenFrame::new()?,
            starts: reader.first_events(),
            next_frame: 0,
            offset: 0,
            running: Running { seq: 1, ..Running::default() },
        };
        cursor.seek(seq)?;
        Ok(cursor)
    }

    /// Moves to the event of number `seq`.
    fn seek(&mut self, seq: Seq) -> Result<()> {
        if seq.0 <= 1 {
            return Ok(());
        }
        if seq.0 > self.reader.len() {
            self.next_frame = self.reader.data_frames().len();
            self.running.seq = 0;
            return Ok(());
        }
        self.next_frame = self.frame_of(seq)?;
        self.running.seq = 0;
        if !self.open_next()? {
            return Ok(());
        }
        while self.running.seq < seq.0 && self.find_event()? {
            let rest = &self.frame.records[self.frame.position..];
            let at = |e: Error| e.at(self.offset);
            let record = codec::next_record(&mut Cursor::new(rest)).map_err(at)?;
            event_codec::skip_event(record, &mut self.running).map_err(at)?;
            self.frame.position += record.len();
        }
        Ok(())
    }

    /// The last frame whose first event is not after `seq`.
    fn frame_of(&mut self, seq: Seq) -> Result<usize> {
        let frames = self.reader.data_frames();
        if let Some(starts) = &self.starts {
            return Ok(starts.partition_point(|start| start[0] <= seq.0).saturating_sub(1));
        }
        let (mut low, mut high) = (0, frames.len());
        while low + 1 < high {
            let middle = low.midpoint(high);
            let head = self.frame.open(self.reader.input(), frames[middle])?;
            if head.seq <= seq.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.frame.records.clear();
        self.frame.position = 0;
        Ok(low)
    }

    /// The next event, which borrows from the cursor; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "an iterator can't lend its items")]
    pub fn next(&mut self) -> Result<Option<Event<'_>>> {
        match self.find_event() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(e) => {
                self.abandon_frame();
                return Err(e);
            }
        }
        let mut rest = Cursor::new(&self.frame.records[self.frame.position..]);
        match event_codec::decode_event(&mut rest, &mut self.running) {
            Ok(event) => {
                self.frame.position = self.frame.records.len() - rest.len();
                Ok(Some(event))
            }
            Err(e) => {
                // As `abandon_frame`, which can't be called while an event may borrow the frame.
                self.frame.position = self.frame.records.len();
                self.running.seq = 0;
                Err(e.at(self.offset))
            }
        }
    }

    /// Gives up the rest of the frame: what follows a record that can't be read has no number and no time.
    fn abandon_frame(&mut self) {
        self.frame.position = self.frame.records.len();
        self.running.seq = 0;
    }

    /// Moves to the next record that is an event; whether there is one.
    fn find_event(&mut self) -> Result<bool> {
        loop {
            while self.frame.position < self.frame.records.len() {
                let rest = &self.frame.records[self.frame.position..];
                if codec::is_event(rest) {
                    return Ok(true);
                }
                let record = codec::next_record(&mut Cursor::new(rest));
                self.frame.position += record.map_err(|e| e.at(self.offset))?.len();
            }
            if !self.open_next()? {
                return Ok(false);
            }
        }
    }

    fn open_next(&mut self) -> Result<bool> {
        let frames = self.reader.data_frames();
        // Frames without events hold objects; the index tells them without a look inside.
        if let Some(starts) = &self.starts {
            while self.next_frame + 1 < starts.len()
                && starts[self.next_frame][0] == starts[self.next_frame + 1][0]
            {
                self.next_frame += 1;
            }
        }
        let Some(frame) = frames.get(self.next_frame).copied() else { return Ok(false) };
        self.next_frame += 1;
        self.offset = frame.offset;
        let head = self.frame.open(self.reader.input(), frame)?;
        let expected = self.running.seq;
        if expected != 0 && head.seq != expected {
            let what = format!("event #{expected} expected, the frame begins with #{}", head.seq);
            return Err(Error::damaged(frame.offset, what));
        }
        self.running = Running { seq: head.seq, ts: head.ts, proc: None };
        Ok(true)
    }
}

/// All events from one on, detached from their frames.
pub struct Events<'r> {
    cursor: Option<EventCursor<'r>>,
    error: Option<Error>,
}

impl<'r> Events<'r> {
    pub(crate) fn new(cursor: Result<EventCursor<'r>>) -> Self {
        match cursor {
            Ok(cursor) => Self { cursor: Some(cursor), error: None },
            Err(error) => Self { cursor: None, error: Some(error) },
        }
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event<'static>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        self.cursor.as_mut()?.next().map(|event| event.map(Event::into_owned)).transpose()
    }
}
