//! Opens a trace: whole, cut anywhere, or still growing, without trusting a byte of it.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{self, Head, Record};
use crate::container::{
    self, Decompressor, FORMAT_VERSION, Found, Frame, HEADER_LEN, Input, Seal, SeekTable, Walker,
};
use crate::cursor::{EventCursor, Events};
use crate::error::{Error, Result};
use crate::event::{Content, Event, Payload, Value, Visitor};
use crate::file::is_locked;
use crate::limits::MAX_FRAMES;
use crate::msgpack::{self, Cursor};
use crate::objects::{ObjectReader, Starts, View};
use crate::{Bytes, ObjectId, Seq};

/// How a trace ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// With a seal.
    Complete(Seal),
    /// A recorder is still writing it.
    Recording,
    /// Without a seal, and nobody is writing: the recorder died or the file was cut.
    Incomplete {
        /// Where the readable part ends, in bytes.
        offset: u64,
        /// What stands there instead of the next frame.
        reason: String,
    },
}

/// A trace that is open for reading.
pub struct Reader {
    path: Option<PathBuf>,
    input: Input,
    /// Frames of records, in order.
    frames: Vec<Frame>,
    /// How many of them hold events and objects; the index follows.
    data_frames: usize,
    status: Status,
    /// Events in the readable part.
    events: u64,
    /// Where to look for more while it grows.
    end: u64,
    objects: RefCell<ObjectReader>,
}

impl Reader {
    /// Opens the trace at `path`. Takes milliseconds with a seek table; without one, the frames are walked.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let open = |source| Error::Open { action: "open", path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        if !file.metadata().map_err(open)?.is_file() {
            return Err(Error::NotAFile(path.to_owned()));
        }
        Self::from_input(Input::File(Arc::new(file)), Some(path.to_owned()))
    }

    /// Opens a trace that is in memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        Self::from_input(Input::Bytes(bytes.into()), None)
    }

    pub(crate) fn from_input(input: Input, path: Option<PathBuf>) -> Result<Self> {
        let mut header = Vec::new();
        input.read_up_to(0, HEADER_LEN as usize, &mut header)?;
        let whole_header = container::decode_header(&header)?.is_some();
        let mut reader = Self {
            path,
            objects: RefCell::default(),
            input,
            frames: Vec::new(),
            data_frames: 0,
            status: Status::Recording,
            events: 0,
            end: if whole_header { HEADER_LEN } else { 0 },
        };
        if !whole_header {
            let reason = "the file ends inside the header".to_owned();
            reader.status = reader.unsealed(0, reason)?;
        } else if !reader.read_seek_table()? {
            reader.walk()?;
        }
        Ok(reader)
    }

    /// Takes the frames from the seek table and the numbers from the seal, if both are there and agree.
    fn read_seek_table(&mut self) -> Result<bool> {
        let Some((listed, _)) = SeekTable::read(&self.input)? else { return Ok(false) };
        let Some(last) = listed.last().copied() else { return Ok(false) };
        if listed[0].len != HEADER_LEN as u32 || listed[0].content != 0 {
            return Ok(false);
        }
        let Some(seal) = self.read_seal(last)? else { return Ok(false) };
        let frames: Vec<Frame> = listed.into_iter().filter(|frame| frame.content > 0).collect();
        let agrees = seal.bytes == last.offset
            && seal.frames == frames.len() as u64
            && seal.index <= seal.frames;
        if !agrees {
            return Ok(false);
        }
        self.data_frames = seal.index as usize;
        self.frames = frames;
        self.events = seal.events;
        self.end = last.offset;
        *self.objects.get_mut() = ObjectReader::default();
        self.status = Status::Complete(seal);
        Ok(true)
    }

    /// The seal that `frame` holds, if it is one.
    fn read_seal(&self, frame: Frame) -> Result<Option<Seal>> {
        if frame.len > container::MAX_SEAL {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.input.read(frame.offset, frame.len as usize, &mut bytes)?;
        Ok(container::decode_seal(&bytes).ok().flatten())
    }

    /// Finds the frames from `self.end` on without the seek table.
    fn walk(&mut self) -> Result<()> {
        let mut walker = Walker::new(self.input.clone());
        let known = self.frames.len();
        let mut sealed = None;
        let reason = loop {
            match walker.at(self.end)? {
                Found::Records(_) if self.frames.len() as u32 >= MAX_FRAMES => {
                    break "more frames than are accepted";
                }
                Found::Records(frame) => {
                    self.frames.push(frame);
                    self.end = frame.end();
                }
                Found::Skippable(frame) => self.end = frame.end(),
                Found::Seal(frame) => {
                    sealed = Some(self.read_seal(frame)?);
                    break match walker.at(frame.end())? {
                        Found::SeekTable => "the seek table is damaged",
                        _ => "the seek table is missing",
                    };
                }
                Found::SeekTable => break "the seal is missing",
                Found::Nothing(reason) => break reason,
            }
        };
        let mut reason = reason.to_owned();
        self.data_frames = match sealed.flatten() {
            Some(seal) if seal.index <= self.frames.len() as u64 => seal.index as usize,
            _ => self.frames.len(),
        };
        // What a crash of the machine leaves may look like a frame and hold none.
        while self.data_frames > known {
            match self.count_events(self.data_frames - 1) {
                Ok(events) => {
                    self.events = events;
                    break;
                }
                Err(e) => {
                    let frame = self.frames[self.data_frames - 1];
                    self.data_frames -= 1;
                    self.frames.truncate(self.data_frames);
                    self.end = frame.offset;
                    reason = e.to_string();
                }
            }
        }
        self.status = self.unsealed(self.end, reason)?;
        Ok(())
    }

    /// How many events there are up to the end of frame `index`.
    fn count_events(&self, index: usize) -> Result<u64> {
        let mut frame = OpenFrame::new()?;
        let head = frame.open(&self.input, self.frames[index])?;
        let mut records = Cursor::new(&frame.records[frame.position..]);
        let mut events = head.seq.saturating_sub(1);
        while !records.is_empty() {
            let record =
                codec::next_record(&mut records).map_err(|e| e.at(self.frames[index].offset))?;
            events += u64::from(codec::is_event(record));
        }
        Ok(events)
    }

    fn unsealed(&self, offset: u64, reason: String) -> Result<Status> {
        let locked = match &self.input {
            Input::File(file) => {
                is_locked(file).map_err(|source| Error::Io { action: "read", offset, source })?
            }
            Input::Bytes(_) => false,
        };
        Ok(if locked { Status::Recording } else { Status::Incomplete { offset, reason } })
    }

    /// Looks for what was written since, unless the trace is complete. Says whether anything changed.
    pub fn refresh(&mut self) -> Result<bool> {
        if matches!(self.status, Status::Complete(_)) {
            return Ok(false);
        }
        let before = (self.end, self.status.clone());
        if self.end == 0 {
            *self = Self::from_input(self.input.clone(), self.path.take())?;
        } else if !self.read_seek_table()? {
            self.walk()?;
        }
        Ok(before != (self.end, self.status.clone()))
    }

    /// How the trace ends.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The path it was opened by; `None` for one in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The version of the format.
    pub fn version(&self) -> u32 {
        FORMAT_VERSION
    }

    /// Size of the file in bytes.
    pub fn file_len(&self) -> Result<u64> {
        self.input.len()
    }

    /// Bytes of the file that hold events; the others hold objects, index and the file's structure.
    pub fn event_bytes(&self) -> Result<u64> {
        let starts = self.objects.borrow_mut().starts(&self.view())?;
        let frames = self.data_frames().iter().zip(starts.windows(2));
        Ok(frames
            .filter(|(_, start)| start[0][0] != start[1][0])
            .map(|(frame, _)| u64::from(frame.len))
            .sum())
    }

    /// Number of events, which is the number of the last one.
    pub fn len(&self) -> u64 {
        self.events
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// The event of that number; `None` where there is none.
    pub fn event(&self, seq: Seq) -> Result<Option<Event<'static>>> {
        if seq.0 == 0 || seq.0 > self.events {
            return Ok(None);
        }
        Ok(self.cursor(seq)?.next()?.map(Event::into_owned))
    }

    /// All events, detached from their frames; `cursor` and `for_each` are faster.
    pub fn iter(&self) -> Events<'_> {
        self.iter_from(Seq(1))
    }

    /// The events from number `seq` on.
    pub fn iter_from(&self, seq: Seq) -> Events<'_> {
        Events::new(self.cursor(seq))
    }

    /// The last `count` events, in order.
    pub fn tail(&self, count: u64) -> Result<Vec<Event<'static>>> {
        self.iter_from(Seq(self.events.saturating_sub(count) + 1)).collect()
    }

    /// Borrowed events from number `seq` on.
    pub fn cursor(&self, seq: Seq) -> Result<EventCursor<'_>> {
        EventCursor::new(self, seq)
    }

    /// Calls `f` with every event, the fastest way through a trace.
    pub fn for_each(&self, mut f: impl FnMut(Event<'_>)) -> Result<()> {
        let mut cursor = self.cursor(Seq(1))?;
        while let Some(event) = cursor.next()? {
            f(event);
        }
        Ok(())
    }

    /// The content of an object; `None` where the trace has none of that address.
    pub fn object(&self, id: &ObjectId) -> Result<Option<Vec<u8>>> {
        self.objects.borrow_mut().content(&self.view(), id)
    }

    /// Whether the trace has the object.
    pub fn has_object(&self, id: &ObjectId) -> Result<bool> {
        self.objects.borrow_mut().contains(&self.view(), id)
    }

    /// The addresses of all objects, in the order in which they were put.
    pub fn objects(&self) -> Result<Vec<ObjectId>> {
        self.objects.borrow_mut().ids(&self.view())
    }

    /// The earlier object that most of this one is copied from, as its recipe says; none where nothing is.
    pub fn base_of(&self, id: &ObjectId) -> Result<Option<ObjectId>> {
        self.objects.borrow_mut().base(&self.view(), id)
    }

    /// The value that `payload` stands for.
    pub fn payload(&self, payload: &Payload) -> Result<Value> {
        match payload {
            Payload::Inline(value) => Ok(value.clone()),
            Payload::Object { id, .. } => {
                let bytes = self.object(id)?.ok_or(Error::NoObject(*id))?;
                msgpack::value(&bytes)
            }
            Payload::Json { id, at, len } => {
                let bytes = self.object(id)?.ok_or(Error::NoObject(*id))?;
                let wrong = |why| Error::Decode { what: "a value inside of an object", why };
                let end = at.checked_add(*len).and_then(|end| usize::try_from(end).ok());
                let text = end.and_then(|end| bytes.get(*at as usize..end));
                let text = text.ok_or_else(|| wrong("it ends before".to_owned()))?;
                serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))
            }
        }
    }

    /// The bytes that `content` stands for.
    pub fn content<'c>(&self, content: &'c Content<'_>) -> Result<Bytes<'c>> {
        match content {
            Content::Inline(bytes) => Ok(bytes.borrowed()),
            Content::Object { id, .. } => Ok(self.object(id)?.ok_or(Error::NoObject(*id))?.into()),
        }
    }

    /// `event` with the objects that it names put in their place.
    pub fn resolve(&self, event: Event<'_>) -> Result<Event<'static>> {
        struct Resolve<'r>(&'r Reader, Result<()>);

        impl Resolve<'_> {
            fn note<T>(&mut self, result: Result<T>) -> Option<T> {
                result.map_err(|e| self.1 = Err(e)).ok()
            }
        }

        impl Visitor for Resolve<'_> {
            fn payload(&mut self, payload: &mut Payload) {
                if let Some(value) = self.note(self.0.payload(payload)) {
                    *payload = Payload::Inline(value);
                }
            }

            fn content(&mut self, content: &mut Content<'_>) {
                if let Some(bytes) = self.note(self.0.content(content).map(Bytes::into_owned)) {
                    *content = Content::Inline(bytes);
                }
            }
        }

        let mut event = event.into_owned();
        let mut resolve = Resolve(self, Ok(()));
        event.data.visit(&mut resolve);
        resolve.1.map(|()| event)
    }

    pub(crate) fn input(&self) -> &Input {
        &self.input
    }

    /// The frames that hold events and objects.
    pub(crate) fn data_frames(&self) -> &[Frame] {
        &self.frames[..self.data_frames]
    }

    fn view(&self) -> View<'_> {
        let seal = match &self.status {
            Status::Complete(seal) => Some(seal),
            _ => None,
        };
        let (data, index) = self.frames.split_at(self.data_frames);
        View { input: &self.input, data, index, seal }
    }

    /// The first numbers of every data frame and of what would follow; without an index the frames tell.
    pub(crate) fn starts(&self) -> Result<Arc<Starts>> {
        self.objects.borrow_mut().starts(&self.view())
    }

    /// The first numbers of every data frame, where a sound index tells. A damaged one costs time, not events.
    pub(crate) fn first_events(&self) -> Option<Arc<Starts>> {
        match &self.status {
            Status::Complete(_) => self.objects.borrow_mut().starts(&self.view()).ok(),
            _ => None,
        }
    }
}

/// A frame that was read and decompressed, its head decoded.
pub(crate) struct OpenFrame {
    decompressor: Decompressor,
    compressed: Vec<u8>,
    pub(crate) records: Vec<u8>,
    /// Where the next record begins.
    pub(crate) position: usize,
}

impl OpenFrame {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            decompressor: Decompressor::new()?,
            compressed: Vec::new(),
            records: Vec::new(),
            position: 0,
        })
    }

    /// Reads `frame` and its head.
    pub(crate) fn open(&mut self, input: &Input, frame: Frame) -> Result<Head> {
        self.position = 0;
        self.records.clear();
        input.read(frame.offset, frame.len as usize, &mut self.compressed)?;
        self.decompressor
            .records(&self.compressed, &mut self.records)
            .map_err(|e| e.at(frame.offset))?;
        let mut cursor = Cursor::new(&self.records);
        let record = codec::next_record(&mut cursor).map_err(|e| e.at(frame.offset))?;
        match codec::decode_record(record).map_err(|e| e.at(frame.offset))? {
            Record::Head(head) if head.seq > 0 && head.object > 0 && head.chunk > 0 => {
                self.position = record.len();
                Ok(head)
            }
            _ => Err(Error::damaged(frame.offset, "the frame does not begin with its head")),
        }
    }

    /// The frame's bytes as they are in the file.
    pub(crate) fn take_compressed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.compressed)
    }
}
