//! Checks a trace from its first byte to its last, and names the first place that is not as it was written.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::ObjectId;
use crate::codec::{self, Part, Record};
use crate::container::{self, Found, Frame, HEADER_LEN, Input, Seal, SeekTable, Walker};
use crate::error::{Error, Result};
use crate::event_codec::{self, Running};
use crate::msgpack::Cursor;
use crate::reader::{OpenFrame, Reader, Status};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How the trace ends, if it could be opened.
    pub status: Option<Status>,
    /// Events that were read and found sound.
    pub events: u64,
    /// Objects whose content was rebuilt and found sound.
    pub objects: u64,
    /// Frames of records that were found sound.
    pub frames: u64,
    /// The first bad place.
    pub problem: Option<Problem>,
}

impl Report {
    /// Whether the trace is complete and as it was written.
    pub fn ok(&self) -> bool {
        self.problem.is_none() && matches!(self.status, Some(Status::Complete(_)))
    }
}

/// A place where a trace is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Byte offset in the file, of the frame or of the structure that is wrong.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "offset {}: {}", self.offset, self.what)
    }
}

/// Checks the trace at `path`. Damage is part of the report; an error means that the file could not be read.
pub fn verify(path: impl AsRef<Path>) -> Result<Report> {
    let path = path.as_ref();
    let open = |source| Error::Open { action: "open", path: path.to_owned(), source };
    let file = File::open(path).map_err(open)?;
    if !file.metadata().map_err(open)?.is_file() {
        return Err(Error::NotAFile(path.to_owned()));
    }
    check(Input::File(Arc::new(file)))
}

/// Checks a trace that is in memory.
pub fn verify_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Report> {
    check(Input::Bytes(bytes.into()))
}

fn check(input: Input) -> Result<Report> {
    let mut report = Report { status: None, events: 0, objects: 0, frames: 0, problem: None };
    let found = check_all(&input, &mut report);
    match found {
        Ok(()) => Ok(report),
        Err(Error::Damaged { offset, what }) => {
            report.problem = Some(Problem { offset, what });
            Ok(report)
        }
        Err(e @ (Error::NotATrace(_) | Error::Version(_))) => {
            report.problem = Some(Problem { offset: 0, what: e.to_string() });
            Ok(report)
        }
        Err(e) => Err(e),
    }
}

fn check_all(input: &Input, report: &mut Report) -> Result<()> {
    let mut reader = Reader::from_input(input.clone(), None)?;
    report.status = Some(reader.status().clone());
    if input.len()? < HEADER_LEN {
        return Err(Error::damaged(0, "the file ends inside the header"));
    }
    let mut check = Check::new(input)?;
    match check.frames(report)? {
        End::Sealed => {}
        // The file may have grown or been sealed since it was opened.
        End::Open(offset, reason) => {
            reader.refresh()?;
            report.status = Some(reader.status().clone());
            if *reader.status() != Status::Recording {
                return Err(Error::damaged(offset, reason));
            }
        }
    }
    for id in reader.objects()? {
        if reader.object(&id)?.is_some() {
            report.objects += 1;
        }
    }
    Ok(())
}

/// How the frames of a file end.
enum End {
    Sealed,
    /// At that offset, for that reason.
    Open(u64, &'static str),
}

/// What the frames so far add up to.
struct Check<'a> {
    input: &'a Input,
    walker: Walker,
    frame: OpenFrame,
    hasher: blake3::Hasher,
    table: SeekTable,
    /// The last frame and its hash.
    last: (Frame, [u8; 32]),
    /// Events, objects and chunks of every frame of records.
    counts: Vec<[u64; 3]>,
    totals: [u64; 3],
    ids: Vec<ObjectId>,
    /// Position of the first frame of the index.
    index: Option<usize>,
    indexed_frames: Vec<[u64; 3]>,
    indexed_ids: Vec<u8>,
}

impl<'a> Check<'a> {
    fn new(input: &'a Input) -> Result<Self> {
        let mut header = Vec::new();
        input.read(0, HEADER_LEN as usize, &mut header)?;
        let frame = Frame { offset: 0, len: header.len() as u32, content: 0 };
        let mut check = Self {
            input,
            walker: Walker::new(input.clone()),
            frame: OpenFrame::new()?,
            hasher: blake3::Hasher::new(),
            table: SeekTable::new(),
            last: (frame, [0; 32]),
            counts: Vec::new(),
            totals: [0; 3],
            ids: Vec::new(),
            index: None,
            indexed_frames: Vec::new(),
            indexed_ids: Vec::new(),
        };
        check.passed(frame, &header)?;
        Ok(check)
    }

    /// Checks all frames, then the seal and what follows it.
    fn frames(&mut self, report: &mut Report) -> Result<End> {
        loop {
            let offset = self.last.0.end();
            match self.walker.at(offset)? {
                Found::Records(frame) => {
                    self.records(frame)?;
                    report.events = self.totals[0];
                    report.frames += 1;
                }
                Found::Skippable(frame) => {
                    let mut bytes = Vec::new();
                    self.input.read(offset, frame.len as usize, &mut bytes)?;
                    self.passed(frame, &bytes)?;
                }
                Found::Seal(frame) => {
                    self.seal(frame)?;
                    return Ok(End::Sealed);
                }
                Found::SeekTable => return Ok(End::Open(offset, "the seal is missing")),
                Found::Nothing(reason) => return Ok(End::Open(offset, reason)),
            }
        }
    }

    /// Takes a frame that was found sound into account.
    fn passed(&mut self, frame: Frame, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.table.push(frame.len, frame.content)?;
        self.last = (frame, *blake3::hash(bytes).as_bytes());
        Ok(())
    }

    /// Checks a frame of records.
    fn records(&mut self, frame: Frame) -> Result<()> {
        let damaged = |what: String| Err(Error::damaged(frame.offset, what));
        let head = self.frame.open(self.input, frame)?;
        let position = self.counts.len() as u64;
        if head.frame != position {
            return damaged(format!("frame {position} is missing, frame {} is here", head.frame));
        }
        if head.prev != self.last.1 {
            let what = "these bytes are not those that the frame after them names";
            return Err(Error::damaged(self.last.0.offset, what));
        }
        if [head.seq, head.object, head.chunk] != self.totals.map(|total| total + 1) {
            return damaged(format!("event #{} expected, not #{}", self.totals[0] + 1, head.seq));
        }
        let bytes = self.frame.take_compressed();
        if !container::has_checksum(&bytes) {
            return damaged("the frame has no checksum".to_owned());
        }
        let records = std::mem::take(&mut self.frame.records);
        let before = self.totals;
        let mut running = Running { seq: head.seq, ts: head.ts, proc: None };
        let mut rest = Cursor::new(&records[self.frame.position..]);
        while !rest.is_empty() {
            let at = |e: Error| e.at(frame.offset);
            if codec::is_event(rest.rest()) {
                self.totals[0] += 1;
                event_codec::decode_event(&mut rest, &mut running).map_err(at)?;
            } else {
                let record = codec::next_record(&mut rest).map_err(at)?;
                self.other(frame, codec::decode_record(record).map_err(at)?)?;
            }
        }
        let mut counts = self.totals;
        counts.iter_mut().zip(before).for_each(|(count, before)| *count -= before);
        if self.index.is_some() && counts != [0; 3] {
            return damaged("events or objects follow the index".to_owned());
        }
        self.counts.push(counts);
        self.passed(frame, &bytes)
    }

    /// Takes a record that is not an event into account.
    fn other(&mut self, frame: Frame, record: Record<'_>) -> Result<()> {
        let damaged = |what: String| Err(Error::damaged(frame.offset, what));
        match record {
            Record::Chunk(_) => self.totals[2] += 1,
            Record::Object(object) => {
                self.totals[1] += 1;
                self.ids.push(object.id);
                let number = self.totals[1];
                let forward =
                    |part: &Part| matches!(part, Part::Copy { object, .. } if *object >= number);
                if object.parts.iter().any(forward) {
                    return damaged(format!("object {number} copies from itself or a later one"));
                }
                if self.ids.len() as u64 * 32 > self.input.len()? {
                    return damaged("more objects than the file has room for".to_owned());
                }
            }
            Record::FrameIndex(rows) => {
                self.index.get_or_insert(self.counts.len());
                self.indexed_frames.extend(rows);
            }
            Record::ObjectIndex(ids) => {
                self.index.get_or_insert(self.counts.len());
                self.indexed_ids.extend_from_slice(ids);
            }
            Record::Head(_) => return damaged("a second head".to_owned()),
            Record::Event | Record::Unknown => {}
        }
        let listed = self.indexed_ids.len() <= self.ids.len() * 32;
        if !listed || self.indexed_frames.len() > self.counts.len() {
            return damaged("the index lists more than there is".to_owned());
        }
        Ok(())
    }

    /// Checks index, seal and seek table against what the frames add up to: each is rebuilt and compared.
    fn seal(&mut self, frame: Frame) -> Result<()> {
        let index = self.index.unwrap_or(self.counts.len());
        let ids: Vec<u8> = self.ids.iter().flat_map(|id| id.0).collect();
        if self.indexed_frames != self.counts[..index] || self.indexed_ids != ids {
            let offset = self.last.0.offset;
            return Err(Error::damaged(offset, "the index is not that of the frames before it"));
        }
        let expected = container::encode_seal(&Seal {
            hash: *self.hasher.finalize().as_bytes(),
            bytes: frame.offset,
            frames: self.counts.len() as u64,
            index: index as u64,
            events: self.totals[0],
            objects: self.totals[1],
            chunks: self.totals[2],
        })?;
        let mut bytes = Vec::new();
        self.input.read(frame.offset, frame.len as usize, &mut bytes)?;
        if bytes != expected {
            let last = self.last.0.offset;
            let what =
                format!("the seal is not that of this trace (or the frame at {last} is not)");
            return Err(Error::damaged(frame.offset, what));
        }
        let mut table = std::mem::replace(&mut self.table, SeekTable::new());
        table.push(frame.len, 0)?;
        let expected = table.encode();
        self.input.read_up_to(frame.end(), expected.len() + 1, &mut bytes)?;
        match bytes.iter().zip(&expected).position(|(found, expected)| found != expected) {
            Some(at) => {
                let offset = frame.end() + at as u64;
                Err(Error::damaged(offset, "the seek table is not that of this trace"))
            }
            None if bytes.len() < expected.len() => {
                let offset = frame.end() + bytes.len() as u64;
                Err(Error::damaged(offset, "the file ends inside the seek table"))
            }
            None if bytes.len() > expected.len() => {
                let offset = frame.end() + expected.len() as u64;
                Err(Error::damaged(offset, "something follows the seek table"))
            }
            None => Ok(()),
        }
    }
}
