//! Writes a trace: numbers the events, groups records into frames, closes with index, seal and seek table.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::codec::{self, Head};
use crate::container::{self, Compressor, Seal, SeekTable};
use crate::error::{Error, Result};
use crate::event::{Content, Event, Payload, Value};
use crate::event_codec::{self, Running};
use crate::recipe::{ObjectHint, Recipes};
use crate::{ObjectId, Seq};

/// Bytes before compression from which on a frame is no short one.
const SHORT: usize = 64 << 10;

/// How a trace is written.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Compression level of zstd.
    pub level: i32,
    /// The level for frames that are closed because they are old, with less than 64 KiB. Little happens then, so
    /// that there is time; and short frames need it more, as each begins without what the one before has seen.
    pub level_of_short: i32,
    /// A frame is closed when its records are this long, in bytes before compression.
    pub frame_bytes: usize,
    /// A frame is closed when its first record is this old: what a `kill -9` can lose at most.
    pub frame_interval: Duration,
    /// The wall clock, nanoseconds since 1970.
    pub wall_clock: fn() -> i64,
    /// For what was recorded before: what the wall clock was ahead of the events' clock, nanoseconds. Then frames bear the time
    /// of their events, and `wall_clock` is not asked.
    pub wall_ahead: Option<i64>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            level: 3,
            level_of_short: 9,
            frame_bytes: 256 << 10,
            frame_interval: Duration::from_millis(250),
            wall_clock: system_wall_clock,
            wall_ahead: None,
        }
    }
}

impl WriterOptions {
    /// The wall clock when the events' clock said `ts`.
    fn wall(&self, ts: u64) -> i64 {
        match self.wall_ahead {
            Some(ahead) => ahead.saturating_add_unsigned(ts),
            None => (self.wall_clock)(),
        }
    }
}

fn system_wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Records that wait for their frame to close.
#[derive(Debug, Default)]
struct Pending {
    records: Vec<u8>,
    /// Events, objects and chunks among them.
    counts: [u64; 3],
    /// Time of the first of them.
    ts: u64,
    /// The writer's time when it came; later than that of an event that was told late.
    begun: u64,
    wall: i64,
}

impl Pending {
    /// Empties it and keeps its memory.
    fn clear(&mut self) {
        self.records.clear();
        self.counts = [0; 3];
    }
}

/// What is already in the file.
struct Written {
    bytes: u64,
    /// BLAKE3 of the last frame.
    prev: [u8; 32],
    hasher: blake3::Hasher,
    /// Length and content length of every frame.
    frames: Vec<(u32, u32)>,
    /// Events, objects and chunks of every zstd frame.
    counts: Vec<[u64; 3]>,
    totals: [u64; 3],
}

/// Writes a trace to `W`, frame by frame, each with one `write`.
///
/// A failed write loses nothing: what was accepted waits for the next one.
pub struct Writer<W: Write> {
    sink: W,
    options: WriterOptions,
    compressor: Compressor,
    short_compressor: Compressor,
    events: Pending,
    objects: Pending,
    recipes: Recipes,
    written: Written,
    running: Running,
    /// Time of the last event, nanoseconds.
    ts: u64,
    /// The latest time of which the writer heard, nanoseconds.
    now: u64,
    sealed: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a trace: writes the header.
    pub fn new(mut sink: W, options: WriterOptions) -> Result<Self> {
        let header = container::encode_header();
        sink.write_all(&header).map_err(|source| Error::Io {
            action: "write",
            offset: 0,
            source,
        })?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header);
        Ok(Self {
            sink,
            compressor: Compressor::new(options.level)?,
            short_compressor: Compressor::new(options.level_of_short)?,
            options,
            events: Pending::default(),
            objects: Pending::default(),
            recipes: Recipes::default(),
            written: Written {
                bytes: header.len() as u64,
                prev: *blake3::hash(&header).as_bytes(),
                hasher,
                frames: vec![(header.len() as u32, 0)],
                counts: Vec::new(),
                totals: [0; 3],
            },
            running: Running { seq: 1, ..Running::default() },
            ts: 0,
            now: 0,
            sealed: false,
        })
    }

    /// Accepts an event and returns its number; `event.seq` is not looked at. An error means that it was not accepted.
    pub fn append(&mut self, event: &Event<'_>) -> Result<Seq> {
        self.tick(event.ts)?;
        let first = self.events.records.is_empty();
        let mut running = self.running;
        if first {
            running.ts = event_codec::micros(event.ts);
            running.proc = None;
        }
        event_codec::encode_event(&mut self.events.records, event, &mut running)?;
        self.running = running;
        if first {
            self.events.ts = event.ts;
            self.events.begun = self.now;
            self.events.wall = self.options.wall(event.ts);
        }
        self.ts = event.ts;
        self.events.counts[0] += 1;
        Ok(Seq(running.seq - 1))
    }

    /// How many events were accepted; the number of the last one.
    pub fn events(&self) -> u64 {
        self.written.totals[0] + self.events.counts[0]
    }

    /// Bytes in the file so far.
    pub fn bytes_written(&self) -> u64 {
        self.written.bytes
    }

    /// Puts `content` into the trace, once however often it is put, and returns its address.
    pub fn put_object(&mut self, content: &[u8], hint: ObjectHint) -> Result<ObjectId> {
        if self.sealed {
            return Err(Error::Sealed);
        }
        let id = ObjectId::of(content);
        if self.recipes.touch(&id) {
            return Ok(id);
        }
        let mut recipe = self.recipes.begin(content, hint)?;
        while let Some(chunk) = self.recipes.next_chunk(&mut recipe, content) {
            self.open_objects();
            codec::encode_chunk(&mut self.objects.records, chunk)?;
            self.objects.counts[2] += 1;
            if self.objects.records.len() >= self.options.frame_bytes {
                self.write_frames(false)?;
            }
        }
        let record = recipe.record(id, content);
        self.open_objects();
        codec::encode_object(&mut self.objects.records, &record)?;
        self.objects.counts[1] += 1;
        self.recipes.finish(id, recipe, content);
        Ok(id)
    }

    /// Whether the object is in the trace.
    pub fn has_object(&self, id: &ObjectId) -> bool {
        self.recipes.contains(id)
    }

    /// `value` as it stands in an event: in the record, or in an object when it is long.
    pub fn payload(&mut self, value: Value, hint: ObjectHint) -> Result<Payload> {
        self.payload_beyond(Payload::MAX_INLINE, value, hint)
    }

    /// The same, in an object where it is longer than `inline` bytes: for what other events are going to repeat.
    pub fn payload_beyond(
        &mut self,
        inline: usize,
        value: Value,
        hint: ObjectHint,
    ) -> Result<Payload> {
        let encoded = codec::encode_value(&value)?;
        if encoded.len() <= inline {
            return Ok(Payload::Inline(value));
        }
        let id = self.put_object(&encoded, hint)?;
        Ok(Payload::Object { id, len: encoded.len() as u64 })
    }

    /// `bytes` as they stand in an event: in the record, or in an object when they are long.
    pub fn content<'a>(&mut self, bytes: &'a [u8], hint: ObjectHint) -> Result<Content<'a>> {
        if bytes.len() <= Payload::MAX_INLINE {
            return Ok(Content::Inline(bytes.into()));
        }
        let id = self.put_object(bytes, hint)?;
        Ok(Content::Object { id, len: bytes.len() as u64 })
    }

    /// Closes the open frame if it is large or, at the time `now` (CLOCK_BOOTTIME, nanoseconds), old enough.
    pub fn tick(&mut self, now: u64) -> Result<()> {
        if self.sealed {
            return Err(Error::Sealed);
        }
        self.now = self.now.max(now);
        let (now, interval) = (self.now, self.options.frame_interval.as_nanos() as u64);
        let due = |pending: &Pending, limit: usize| {
            !pending.records.is_empty()
                && (pending.records.len() >= limit || now - pending.begun >= interval)
        };
        if due(&self.events, self.options.frame_bytes) || due(&self.objects, usize::MAX) {
            self.write_frames(true)?;
        }
        Ok(())
    }

    /// Closes the open frame and writes it.
    pub fn flush(&mut self) -> Result<()> {
        if self.sealed {
            return Err(Error::Sealed);
        }
        self.write_frames(true)
    }

    /// Whether everything that was given to it is in the sink.
    pub fn is_flushed(&self) -> bool {
        self.events.records.is_empty() && self.objects.records.is_empty()
    }

    /// Ends the trace: index, seal, seek table. Nothing can be added after it.
    pub fn seal(&mut self) -> Result<Seal> {
        self.flush()?;
        let index = self.written.counts.len() as u64;
        for records in self.index_records()? {
            let mut pending = Pending { records, ts: self.ts, ..Pending::default() };
            pending.wall = self.options.wall(self.ts);
            let (events, objects) = (Pending::default(), pending);
            self.write_all_of(&objects, &events)?;
        }
        let [events, objects, chunks] = self.written.totals;
        let seal = Seal {
            hash: *self.written.hasher.finalize().as_bytes(),
            bytes: self.written.bytes,
            frames: self.written.counts.len() as u64,
            index,
            events,
            objects,
            chunks,
        };
        let mut out = container::encode_seal(&seal)?;
        let mut table = SeekTable::new();
        for (len, content) in &self.written.frames {
            table.push(*len, *content)?;
        }
        table.push(out.len() as u32, 0)?;
        out.extend_from_slice(&table.encode());
        self.put(&out)?;
        self.written.bytes += out.len() as u64;
        self.sealed = true;
        Ok(seal)
    }

    /// What the trace is written to.
    pub fn get_ref(&self) -> &W {
        &self.sink
    }

    /// What the trace was written to; records that wait for their frame are lost.
    pub fn into_inner(self) -> W {
        self.sink
    }

    /// The time of the objects' frame is that of its first object.
    fn open_objects(&mut self) {
        if self.objects.records.is_empty() {
            self.objects.ts = self.ts;
            self.objects.begun = self.now;
            self.objects.wall = self.options.wall(self.ts);
        }
    }

    /// Writes the objects that wait and, with `all`, the events after them: no event precedes its objects.
    fn write_frames(&mut self, all: bool) -> Result<()> {
        let mut objects = std::mem::take(&mut self.objects);
        let mut events = if all { std::mem::take(&mut self.events) } else { Pending::default() };
        let result = self.write_all_of(&objects, &events);
        if result.is_ok() {
            objects.clear();
            events.clear();
        }
        // On success the buffers are used again, on failure their records are tried again.
        self.objects = objects;
        if all {
            self.events = events;
        }
        result
    }

    /// Writes them with one `write`: in one frame where they have room in it, since an event often repeats what an object before
    /// it holds; else in one for each.
    fn write_all_of(&mut self, objects: &Pending, events: &Pending) -> Result<()> {
        let parts =
            [objects, events].map(|pending| (!pending.records.is_empty()).then_some(pending));
        let in_one = objects.records.len() + events.records.len() <= self.options.frame_bytes;
        let groups = match parts {
            [Some(_), Some(_)] if in_one => vec![vec![objects, events]],
            parts => parts.into_iter().flatten().map(|pending| vec![pending]).collect(),
        };
        let mut out = Vec::new();
        let mut frames = Vec::new();
        let mut prev = self.written.prev;
        let mut totals = self.written.totals;
        for group in groups {
            // The first event's time counts from the head's.
            let last = group[group.len() - 1];
            let head = Head {
                frame: (self.written.counts.len() + frames.len()) as u64,
                seq: totals[0] + 1,
                object: totals[1] + 1,
                chunk: totals[2] + 1,
                ts: event_codec::micros(last.ts),
                wall: last.wall / 1_000,
                prev,
            };
            let len: usize = group.iter().map(|pending| pending.records.len()).sum();
            let mut records = Vec::with_capacity(len + 128);
            codec::encode_head(&mut records, &head)?;
            let mut counts = [0; 3];
            for pending in group {
                records.extend_from_slice(&pending.records);
                for (sum, count) in counts.iter_mut().zip(pending.counts) {
                    *sum += count;
                }
            }
            let start = out.len();
            let short = len < self.options.frame_bytes.min(SHORT);
            let compressor = if short { &mut self.short_compressor } else { &mut self.compressor };
            let len = compressor.append(&records, &mut out)?;
            prev = *blake3::hash(&out[start..]).as_bytes();
            frames.push((len as u32, records.len() as u32, counts));
            for (total, count) in totals.iter_mut().zip(counts) {
                *total += count;
            }
        }
        if out.is_empty() {
            return Ok(());
        }
        self.put(&out)?;
        let written = &mut self.written;
        written.hasher.update(&out);
        written.bytes += out.len() as u64;
        written.prev = prev;
        written.totals = totals;
        for (len, content, counts) in frames {
            written.frames.push((len, content));
            written.counts.push(counts);
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let offset = self.written.bytes;
        let io = |source| Error::Io { action: "write", offset, source };
        self.sink.write_all(bytes).map_err(io)?;
        self.sink.flush().map_err(io)
    }

    /// The records of the index, one batch a frame.
    fn index_records(&self) -> Result<Vec<Vec<u8>>> {
        const FRAMES: usize = 1 << 14;
        const IDS: usize = 1 << 12;
        let mut batches = Vec::new();
        for frames in self.written.counts.chunks(FRAMES) {
            let mut records = Vec::new();
            codec::encode_frame_index(&mut records, frames)?;
            batches.push(records);
        }
        for ids in self.recipes.ids().chunks(IDS) {
            let mut records = Vec::new();
            codec::encode_object_index(&mut records, ids)?;
            batches.push(records);
        }
        Ok(batches)
    }
}
