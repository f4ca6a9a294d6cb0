//! Finds objects in a trace and carries out their recipes, in bounded memory and a bounded number of steps.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::ObjectId;
use crate::codec::{self, Head, ObjectRecord, Part, Record};
use crate::container::{Frame, Input, Seal};
use crate::error::{Error, Result};
use crate::limits::{MAX_COPY_DEPTH, MAX_OBJECT, MAX_RECIPE_STEPS};
use crate::msgpack::Cursor;
use crate::reader::OpenFrame;

/// Decompressed frames that are kept for the next chunk, in bytes.
const CACHED_BYTES: usize = 16 << 20;
/// Parts of recipes that are kept.
const CACHED_PARTS: usize = 1 << 18;

/// The frames to look in.
pub(crate) struct View<'a> {
    pub(crate) input: &'a Input,
    /// Frames with events and objects.
    pub(crate) data: &'a [Frame],
    /// Frames with the index.
    pub(crate) index: &'a [Frame],
    /// The seal, in a complete trace.
    pub(crate) seal: Option<&'a Seal>,
}

/// The numbers of the first event, object and chunk of every frame; one entry more at the end.
pub(crate) type Starts = Vec<[u64; 3]>;

/// Where everything is.
#[derive(Default)]
struct Index {
    starts: Arc<Starts>,
    /// Numbers and addresses of the objects, in order.
    order: Vec<(u64, ObjectId)>,
    numbers: HashMap<ObjectId, u64>,
    /// Frames that it covers.
    frames: usize,
}

/// The records of a frame that hold content.
struct FrameData {
    offset: u64,
    head: Head,
    records: Vec<u8>,
    /// Each chunk's bytes.
    chunks: Vec<Range<usize>>,
    /// Each object's record.
    objects: Vec<Range<usize>>,
}

/// A recipe that was checked: its parts add up to its length.
struct Recipe {
    number: u64,
    len: u64,
    parts: Vec<Part>,
    /// Where each part ends in the object.
    ends: Vec<u64>,
}

/// Reads objects, keeping what the next one probably needs.
#[derive(Default)]
pub(crate) struct ObjectReader {
    index: Option<Index>,
    frames: VecDeque<(usize, Rc<FrameData>)>,
    recipes: HashMap<u64, Rc<Recipe>>,
    cached_parts: usize,
}

impl ObjectReader {
    /// The content of `id`, if the trace has it.
    pub(crate) fn content(&mut self, view: &View<'_>, id: &ObjectId) -> Result<Option<Vec<u8>>> {
        let Some(number) = self.index(view)?.numbers.get(id).copied() else { return Ok(None) };
        let (record, offset) = self.record(view, number)?;
        if record.id != *id {
            return Err(Error::damaged(offset, format!("object {number} is not {id}")));
        }
        let recipe = self.recipe(view, number)?;
        let mut out = Vec::new();
        let mut steps = 0;
        self.expand(view, &recipe, 0..recipe.len, 0, &mut steps, &mut out)
            .map_err(|e| e.at(offset))?;
        if ObjectId::of(&out) != *id {
            let what = format!("the content of object {id} has another hash");
            return Err(Error::damaged(offset, what));
        }
        Ok(Some(out))
    }

    /// Whether the trace has `id`.
    pub(crate) fn contains(&mut self, view: &View<'_>, id: &ObjectId) -> Result<bool> {
        Ok(self.index(view)?.numbers.contains_key(id))
    }

    /// All addresses, in order.
    pub(crate) fn ids(&mut self, view: &View<'_>) -> Result<Vec<ObjectId>> {
        Ok(self.index(view)?.order.iter().map(|(_, id)| *id).collect())
    }

    /// The earlier object that most of `id` is copied from; none where nothing is.
    pub(crate) fn base(&mut self, view: &View<'_>, id: &ObjectId) -> Result<Option<ObjectId>> {
        let Some(number) = self.index(view)?.numbers.get(id).copied() else { return Ok(None) };
        let mut copied: HashMap<u64, u64> = HashMap::new();
        for part in &self.recipe(view, number)?.parts {
            if let Part::Copy { object, len, .. } = part {
                *copied.entry(*object).or_default() += len;
            }
        }
        let Some((most, _)) = copied.into_iter().max_by_key(|(object, len)| (*len, *object)) else {
            return Ok(None);
        };
        let order = &self.index(view)?.order;
        let place = order.binary_search_by_key(&most, |(number, _)| *number).ok();
        Ok(place.map(|place| order[place].1))
    }

    /// The first numbers of every frame.
    pub(crate) fn starts(&mut self, view: &View<'_>) -> Result<Arc<Starts>> {
        Ok(Arc::clone(&self.index(view)?.starts))
    }

    /// The index, brought up to the frames that there are.
    fn index(&mut self, view: &View<'_>) -> Result<&Index> {
        let index = match self.index.take() {
            Some(index) if index.frames == view.data.len() => index,
            Some(index) => scan(view, index)?,
            None => match view.seal {
                Some(seal) => load(view, seal)?,
                None => scan(view, Index::default())?,
            },
        };
        Ok(self.index.insert(index))
    }

    /// The frame that holds the `number`th of a `column` of the index.
    fn frame_with(&mut self, view: &View<'_>, column: usize, number: u64) -> Result<Rc<FrameData>> {
        let starts = &self.index(view)?.starts;
        let position = starts.partition_point(|start| start[column] <= number);
        let Some(position) = position.checked_sub(1).filter(|at| *at < view.data.len()) else {
            return Err(Error::decode("recipe", "it refers to something that is not there"));
        };
        if let Some(cached) = self.frames.iter().position(|(at, _)| *at == position)
            && let Some(entry) = self.frames.remove(cached)
        {
            self.frames.push_back(entry);
        } else {
            let data = Rc::new(read_frame(view.input, view.data[position])?);
            self.frames.push_back((position, data));
        }
        let mut total: usize = self.frames.iter().map(|(_, data)| data.records.len()).sum();
        while total > CACHED_BYTES
            && self.frames.len() > 1
            && let Some((_, oldest)) = self.frames.pop_front()
        {
            total -= oldest.records.len();
        }
        let newest = self.frames.back().map(|(_, data)| Rc::clone(data));
        newest.ok_or_else(|| Error::decode("recipe", "no frame"))
    }

    /// The record of the `number`th object, and the offset of its frame.
    fn record(&mut self, view: &View<'_>, number: u64) -> Result<(ObjectRecord, u64)> {
        let data = self.frame_with(view, 1, number)?;
        let record = number
            .checked_sub(data.head.object)
            .and_then(|position| data.objects.get(usize::try_from(position).ok()?))
            .ok_or_else(|| Error::damaged(data.offset, format!("object {number} is not here")))?;
        match codec::decode_record(&data.records[record.clone()]) {
            Ok(Record::Object(object)) => Ok((object, data.offset)),
            Ok(_) => Err(Error::damaged(data.offset, "not an object")),
            Err(e) => Err(e.at(data.offset)),
        }
    }

    /// The checked recipe of the `number`th object.
    fn recipe(&mut self, view: &View<'_>, number: u64) -> Result<Rc<Recipe>> {
        if let Some(recipe) = self.recipes.get(&number) {
            return Ok(Rc::clone(recipe));
        }
        let (record, offset) = self.record(view, number)?;
        let recipe = Rc::new(Recipe::check(number, record).map_err(|e| e.at(offset))?);
        if self.cached_parts + recipe.parts.len() > CACHED_PARTS {
            self.recipes.clear();
            self.cached_parts = 0;
        }
        self.cached_parts += recipe.parts.len();
        self.recipes.insert(number, Rc::clone(&recipe));
        Ok(recipe)
    }

    /// Appends the bytes `range` of an object to `out`.
    fn expand(
        &mut self,
        view: &View<'_>,
        recipe: &Recipe,
        range: Range<u64>,
        depth: usize,
        steps: &mut u64,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if depth > MAX_COPY_DEPTH {
            return Err(Error::decode("recipe", "objects copy from each other too deeply"));
        }
        let mut position = recipe.ends.partition_point(|end| *end <= range.start);
        let mut from = range.start;
        while from < range.end && position < recipe.parts.len() {
            *steps += 1;
            if *steps > MAX_RECIPE_STEPS {
                return Err(Error::decode("recipe", "it takes too many steps"));
            }
            let begin = if position == 0 { 0 } else { recipe.ends[position - 1] };
            let to = range.end.min(recipe.ends[position]);
            let (skip, len) = (from - begin, to - from);
            match recipe.parts[position] {
                Part::Chunk { chunk, at, .. } => {
                    self.append_chunk(view, chunk, at + skip, len, out)?;
                }
                Part::Copy { object, at, .. } => {
                    if object >= recipe.number {
                        return Err(Error::decode(
                            "recipe",
                            "it copies from itself or a later one",
                        ));
                    }
                    let base = self.recipe(view, object)?;
                    let wanted = at + skip..at + skip + len;
                    if wanted.end > base.len {
                        return Err(Error::decode("recipe", "a copy ends beyond its object"));
                    }
                    self.expand(view, &base, wanted, depth + 1, steps, out)?;
                }
            }
            from = to;
            position += 1;
        }
        Ok(())
    }

    fn append_chunk(
        &mut self,
        view: &View<'_>,
        chunk: u64,
        at: u64,
        len: u64,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let data = self.frame_with(view, 2, chunk)?;
        let bytes = chunk
            .checked_sub(data.head.chunk)
            .and_then(|position| data.chunks.get(usize::try_from(position).ok()?))
            .ok_or_else(|| Error::damaged(data.offset, format!("chunk {chunk} is not here")))?;
        let bytes = &data.records[bytes.clone()];
        let wanted = usize::try_from(at).ok().zip(usize::try_from(at + len).ok());
        let wanted = wanted.and_then(|(from, to)| bytes.get(from..to));
        out.extend_from_slice(
            wanted.ok_or_else(|| Error::decode("recipe", "a range ends beyond its chunk"))?,
        );
        Ok(())
    }
}

impl Recipe {
    fn check(number: u64, record: ObjectRecord) -> Result<Self> {
        if record.len > MAX_OBJECT {
            let (size, limit) = (record.len, MAX_OBJECT);
            return Err(Error::TooLarge { what: "an object", size, limit });
        }
        let mut end = 0u64;
        let mut ends = Vec::with_capacity(record.parts.len());
        for part in &record.parts {
            let (Part::Chunk { at, len, .. } | Part::Copy { at, len, .. }) = *part;
            // Neither sum can overflow once both are known to be small.
            if at > MAX_OBJECT || len > MAX_OBJECT || end + len > record.len {
                return Err(Error::decode("recipe", "its parts are longer than the object"));
            }
            end += len;
            ends.push(end);
        }
        if end != record.len {
            return Err(Error::decode("recipe", "its parts are shorter than the object"));
        }
        Ok(Self { number, len: record.len, parts: record.parts, ends })
    }
}

fn read_frame(input: &Input, frame: Frame) -> Result<FrameData> {
    let mut open = OpenFrame::new()?;
    let head = open.open(input, frame)?;
    let mut data = FrameData {
        offset: frame.offset,
        head,
        records: Vec::new(),
        chunks: Vec::new(),
        objects: Vec::new(),
    };
    let mut position = open.position;
    while position < open.records.len() {
        let record = codec::next_record(&mut Cursor::new(&open.records[position..]))
            .map_err(|e| e.at(frame.offset))?;
        let end = position + record.len();
        if !codec::is_event(record) {
            match codec::decode_record(record).map_err(|e| e.at(frame.offset))? {
                // A chunk's record is its key and its bytes, which are the last of it.
                Record::Chunk(bytes) => data.chunks.push(end - bytes.len()..end),
                Record::Object(_) => data.objects.push(position..end),
                _ => {}
            }
        }
        position = end;
    }
    data.records = open.records;
    Ok(data)
}

/// Reads the index of a complete trace.
fn load(view: &View<'_>, seal: &Seal) -> Result<Index> {
    let mut next = [1u64; 3];
    let mut starts = vec![next];
    let mut order = Vec::new();
    let room = view.input.len()? / 32;
    let mut frame = OpenFrame::new()?;
    for place in view.index {
        frame.open(view.input, *place)?;
        let mut records = Cursor::new(&frame.records[frame.position..]);
        while !records.is_empty() {
            let record = codec::next_record(&mut records).map_err(|e| e.at(place.offset))?;
            match codec::decode_record(record).map_err(|e| e.at(place.offset))? {
                Record::FrameIndex(rows) => {
                    if starts.len() + rows.len() > view.data.len() + 1 {
                        return Err(Error::damaged(
                            place.offset,
                            "the index lists too many frames",
                        ));
                    }
                    for row in rows {
                        for (next, count) in next.iter_mut().zip(row) {
                            *next = next.saturating_add(count);
                        }
                        starts.push(next);
                    }
                }
                Record::ObjectIndex(ids) => {
                    for id in ids.as_chunks::<32>().0 {
                        order.push((order.len() as u64 + 1, ObjectId(*id)));
                    }
                    // An address is 32 bytes that don't compress: there can't be more than the file has room for.
                    if order.len() as u64 > room {
                        return Err(Error::damaged(
                            place.offset,
                            "the index lists too many objects",
                        ));
                    }
                }
                _ => {}
            }
        }
    }
    let totals = [seal.events, seal.objects, seal.chunks].map(|total| total.saturating_add(1));
    let fits =
        starts.len() == view.data.len() + 1 && next == totals && order.len() as u64 == seal.objects;
    if !fits {
        return Err(Error::damaged(seal.bytes, "the index and the seal don't agree"));
    }
    let numbers = order.iter().map(|(number, id)| (*id, *number)).collect();
    Ok(Index { starts: Arc::new(starts), order, numbers, frames: view.data.len() })
}

/// Builds the index from the frames, from where `index` ends. Frames that can't be read are left out.
fn scan(view: &View<'_>, mut index: Index) -> Result<Index> {
    let room = view.input.len()? / 32;
    let mut starts = Arc::unwrap_or_clone(std::mem::take(&mut index.starts));
    let mut next = starts.pop().unwrap_or([1; 3]);
    for place in &view.data[index.frames.min(view.data.len())..] {
        let mut frame = OpenFrame::new()?;
        if let Ok(head) = frame.open(view.input, *place) {
            next = [head.seq, head.object, head.chunk];
            starts.push(next);
            count_records(&frame, &mut next, &mut index);
        } else {
            starts.push(next);
        }
        if index.order.len() as u64 > room {
            return Err(Error::damaged(place.offset, "more objects than the file has room for"));
        }
    }
    starts.push(next);
    index.starts = Arc::new(starts);
    index.frames = view.data.len();
    Ok(index)
}

fn count_records(frame: &OpenFrame, next: &mut [u64; 3], index: &mut Index) {
    let mut records = Cursor::new(&frame.records[frame.position..]);
    while let Ok(record) = codec::next_record(&mut records) {
        if codec::is_event(record) {
            next[0] = next[0].saturating_add(1);
            continue;
        }
        match codec::decode_record(record) {
            Ok(Record::Object(object)) => {
                index.order.push((next[1], object.id));
                index.numbers.insert(object.id, next[1]);
                next[1] = next[1].saturating_add(1);
            }
            Ok(Record::Chunk(_)) => next[2] = next[2].saturating_add(1),
            _ => {}
        }
    }
}
