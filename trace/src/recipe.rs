//! How objects are cut: ranges copied from an earlier object, and chunks shared between all of them.
//!
//! A request to a model repeats the whole conversation, so the next body of a series is nearly always the one before
//! with something put in near its end. Prefix and suffix against that one find this exactly; chunks cut by content
//! find the rest.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use fastcdc::v2020::FastCDC;

use crate::ObjectId;
use crate::codec::{ObjectRecord, Part};
use crate::error::{Error, Result};
use crate::limits::{MAX_COPY_DEPTH, MAX_OBJECT};

/// What is known of a content before it is put into a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectHint {
    /// Nothing: a file, a tool's result.
    #[default]
    Single,
    /// One of a series in which each resembles the one before, such as the requests of one conversation.
    Series {
        /// The one before, if there is one.
        after: Option<ObjectId>,
    },
}

/// Sizes of chunks in bytes: at least, on average, at most.
const CHUNK: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];
/// A copy costs about this many bytes; shorter matches are not worth one.
const MIN_COPY: usize = 64;
/// Contents that are kept to compare the next of their series with, in bytes over all series.
const KEPT_BYTES: usize = 16 << 20;
/// Depth at which a recipe names the chunks themselves again; half of what readers accept.
const FLATTEN_AT: usize = MAX_COPY_DEPTH / 2;

/// A range of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaf {
    chunk: u64,
    at: u64,
    len: u64,
}

/// A content of a series that the next one can copy from.
struct Kept {
    id: ObjectId,
    number: u64,
    depth: usize,
    content: Vec<u8>,
    leaves: Vec<Leaf>,
}

/// The objects and chunks of a trace that is being written.
#[derive(Default)]
pub(crate) struct Recipes {
    ids: Vec<ObjectId>,
    numbers: HashMap<ObjectId, u64>,
    chunks: HashMap<[u8; 32], u64>,
    kept: VecDeque<Kept>,
}

/// A recipe that is being made.
pub(crate) struct Recipe {
    /// The end of what has been cut, in the content.
    done: usize,
    /// Where the copied suffix begins.
    middle_end: usize,
    cuts: VecDeque<Range<usize>>,
    prefix: Option<Part>,
    suffix: Option<Part>,
    prefix_leaves: Vec<Leaf>,
    suffix_leaves: Vec<Leaf>,
    leaves: Vec<Leaf>,
    depth: usize,
    keep: bool,
}

impl Recipes {
    pub(crate) fn contains(&self, id: &ObjectId) -> bool {
        self.numbers.contains_key(id)
    }

    /// Whether the object is there already; if so it counts as used now.
    pub(crate) fn touch(&mut self, id: &ObjectId) -> bool {
        if let Some(position) = self.kept.iter().position(|kept| kept.id == *id)
            && let Some(kept) = self.kept.remove(position)
        {
            self.kept.push_back(kept);
        }
        self.contains(id)
    }

    /// All objects in the order of their numbers.
    pub(crate) fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    /// Finds what `content` can copy, and cuts the rest.
    pub(crate) fn begin(&self, content: &[u8], hint: ObjectHint) -> Result<Recipe> {
        let size = content.len() as u64;
        if size > MAX_OBJECT {
            return Err(Error::TooLarge { what: "an object", size, limit: MAX_OBJECT });
        }
        let (keep, base) = match hint {
            ObjectHint::Single => (false, None),
            ObjectHint::Series { after } => {
                (true, after.and_then(|id| self.kept.iter().find(|kept| kept.id == id)))
            }
        };
        let mut recipe = Recipe {
            done: 0,
            middle_end: content.len(),
            cuts: VecDeque::new(),
            prefix: None,
            suffix: None,
            prefix_leaves: Vec::new(),
            suffix_leaves: Vec::new(),
            leaves: Vec::new(),
            depth: 0,
            keep,
        };
        if let Some(base) = base {
            recipe.copy_from(base, content);
        }
        let middle = &content[recipe.done..recipe.middle_end];
        let offset = recipe.done;
        recipe.cuts = FastCDC::new(middle, CHUNK[0], CHUNK[1], CHUNK[2])
            .map(|cut| offset + cut.offset..offset + cut.offset + cut.length)
            .collect();
        Ok(recipe)
    }

    /// The next chunk that is not in the trace yet. The caller writes it; it has its number already.
    pub(crate) fn next_chunk<'c>(
        &mut self,
        recipe: &mut Recipe,
        content: &'c [u8],
    ) -> Option<&'c [u8]> {
        while let Some(cut) = recipe.cuts.pop_front() {
            let bytes = &content[cut];
            let next = self.chunks.len() as u64 + 1;
            let number = *self.chunks.entry(*blake3::hash(bytes).as_bytes()).or_insert(next);
            recipe.leaves.push(Leaf { chunk: number, at: 0, len: bytes.len() as u64 });
            if number == next {
                return Some(bytes);
            }
        }
        None
    }

    /// Remembers an object that was written.
    pub(crate) fn finish(&mut self, id: ObjectId, recipe: Recipe, content: &[u8]) {
        self.ids.push(id);
        let number = self.ids.len() as u64;
        self.numbers.insert(id, number);
        if !recipe.keep || content.len() > KEPT_BYTES / 4 {
            return;
        }
        let depth = recipe.depth;
        let leaves = recipe.all_leaves();
        self.kept.push_back(Kept { id, number, depth, content: content.to_vec(), leaves });
        let mut total: usize = self.kept.iter().map(Kept::weight).sum();
        while total > KEPT_BYTES
            && let Some(oldest) = self.kept.pop_front()
        {
            total -= oldest.weight();
        }
    }
}

impl Kept {
    fn weight(&self) -> usize {
        self.content.len() + self.leaves.len() * size_of::<Leaf>()
    }

    /// The chunks that make up the bytes `range`.
    fn leaves_of(&self, range: Range<usize>) -> Vec<Leaf> {
        let (start, end) = (range.start as u64, range.end as u64);
        let mut offset = 0;
        let mut out = Vec::new();
        for leaf in &self.leaves {
            let from = start.max(offset);
            let to = end.min(offset + leaf.len);
            if from < to {
                out.push(Leaf { chunk: leaf.chunk, at: leaf.at + from - offset, len: to - from });
            }
            offset += leaf.len;
        }
        out
    }
}

impl Recipe {
    fn copy_from(&mut self, base: &Kept, content: &[u8]) {
        let prefix = common_prefix(content, &base.content);
        let prefix = if prefix >= MIN_COPY { prefix } else { 0 };
        let suffix = common_suffix(&content[prefix..], &base.content);
        let suffix = if suffix >= MIN_COPY { suffix } else { 0 };
        let copy = |at: usize, len: usize| {
            (len > 0).then_some(Part::Copy { object: base.number, at: at as u64, len: len as u64 })
        };
        let suffix_at = base.content.len() - suffix;
        self.prefix = copy(0, prefix);
        self.suffix = copy(suffix_at, suffix);
        self.prefix_leaves = base.leaves_of(0..prefix);
        self.suffix_leaves = base.leaves_of(suffix_at..base.content.len());
        self.done = prefix;
        self.middle_end = content.len() - suffix;
        if prefix + suffix > 0 {
            self.depth = base.depth + 1;
        }
        if self.depth > FLATTEN_AT {
            self.prefix = None;
            self.suffix = None;
            self.depth = 0;
        }
    }

    fn all_leaves(&self) -> Vec<Leaf> {
        let mut all = Vec::new();
        for leaf in self.prefix_leaves.iter().chain(&self.leaves).chain(&self.suffix_leaves) {
            push_leaf(&mut all, *leaf);
        }
        all
    }

    /// The record of the object.
    pub(crate) fn record(&self, id: ObjectId, content: &[u8]) -> ObjectRecord {
        let mut parts = Vec::new();
        if self.prefix.is_none() && self.suffix.is_none() {
            parts.extend(chunk_parts(&self.all_leaves()));
        } else {
            parts.extend(self.prefix);
            parts.extend(chunk_parts(&self.leaves));
            parts.extend(self.suffix);
        }
        ObjectRecord { id, len: content.len() as u64, parts }
    }
}

/// Adds a leaf, as part of the one before where it continues that one.
fn push_leaf(leaves: &mut Vec<Leaf>, leaf: Leaf) {
    if let Some(last) = leaves.last_mut()
        && last.chunk == leaf.chunk
        && last.at + last.len == leaf.at
    {
        last.len += leaf.len;
        return;
    }
    leaves.push(leaf);
}

fn chunk_parts(leaves: &[Leaf]) -> impl Iterator<Item = Part> {
    leaves.iter().map(|leaf| Part::Chunk { chunk: leaf.chunk, at: leaf.at, len: leaf.len })
}

/// Length of the common prefix; compares a block at a time, as most of a body is equal to the one before.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 256;
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK)).take_while(|(a, b)| a == b);
    let equal = blocks.count() * BLOCK;
    equal + a[equal..].iter().zip(&b[equal..]).take_while(|(a, b)| a == b).count()
}

/// Length of the common suffix.
fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 256;
    let blocks = a.rchunks_exact(BLOCK).zip(b.rchunks_exact(BLOCK)).take_while(|(a, b)| a == b);
    let equal = blocks.count() * BLOCK;
    let (a, b) = (&a[..a.len() - equal], &b[..b.len() - equal]);
    equal + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}
