//! How objects are cut: ranges copied from an earlier object, and chunks shared between all of them.
//!
//! A request to a model repeats the whole conversation, so the next body of a series is nearly always the one before
//! with something put in near its end. Prefix and suffix against that one find this exactly, behind a few bytes where a list has
//! its length; chunks cut by content find the rest.

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
/// What differs at the beginning of a series' contents, at most: the length of a list in MessagePack takes 5 bytes.
const MAX_HEAD: usize = 5;
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
    pieces: Vec<Piece>,
    /// The first piece that can be a cut.
    next: usize,
    depth: usize,
    keep: bool,
}

/// A piece of a content.
enum Piece {
    /// Copied from an earlier object, which has it in these chunks.
    Copied {
        part: Part,
        leaves: Vec<Leaf>,
    },
    /// A range that was not looked up among the chunks yet.
    Cut(Range<usize>),
    Chunk(Leaf),
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
        let mut recipe = Recipe { pieces: Vec::new(), next: 0, depth: 0, keep };
        match base {
            Some(base) => recipe.copy_from(base, content),
            None => recipe.cut(content, 0..content.len()),
        }
        Ok(recipe)
    }

    /// The next chunk that is not in the trace yet. The caller writes it; it has its number already.
    pub(crate) fn next_chunk<'c>(
        &mut self,
        recipe: &mut Recipe,
        content: &'c [u8],
    ) -> Option<&'c [u8]> {
        while let Some(piece) = recipe.pieces.get_mut(recipe.next) {
            recipe.next += 1;
            let Piece::Cut(cut) = piece else { continue };
            let bytes = &content[cut.clone()];
            let next = self.chunks.len() as u64 + 1;
            let number = *self.chunks.entry(*blake3::hash(bytes).as_bytes()).or_insert(next);
            *piece = Piece::Chunk(Leaf { chunk: number, at: 0, len: bytes.len() as u64 });
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
        let common = Common::of(content, &base.content);
        let prefix = common.head..common.head + common.prefix;
        let suffix = content.len() - common.suffix;
        self.cut(content, 0..prefix.start);
        self.copy(base, common.base_head, prefix.len());
        self.cut(content, prefix.end..suffix);
        self.copy(base, base.content.len() - common.suffix, common.suffix);
        if common.prefix + common.suffix > 0 {
            self.depth = base.depth + 1;
        }
        if self.depth > FLATTEN_AT {
            self.depth = 0;
        }
    }

    fn copy(&mut self, base: &Kept, at: usize, len: usize) {
        if len > 0 {
            let part = Part::Copy { object: base.number, at: at as u64, len: len as u64 };
            self.pieces.push(Piece::Copied { part, leaves: base.leaves_of(at..at + len) });
        }
    }

    fn cut(&mut self, content: &[u8], range: Range<usize>) {
        let cuts = FastCDC::new(&content[range.clone()], CHUNK[0], CHUNK[1], CHUNK[2]);
        self.pieces.extend(cuts.map(|cut| {
            let at = range.start + cut.offset;
            Piece::Cut(at..at + cut.length)
        }));
    }

    fn all_leaves(&self) -> Vec<Leaf> {
        let mut all = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Copied { leaves, .. } => {
                    leaves.iter().for_each(|leaf| push_leaf(&mut all, *leaf));
                }
                Piece::Chunk(leaf) => push_leaf(&mut all, *leaf),
                Piece::Cut(_) => unreachable!("every cut has become a chunk"),
            }
        }
        all
    }

    /// The record of the object.
    pub(crate) fn record(&self, id: ObjectId, content: &[u8]) -> ObjectRecord {
        let parts = match self.depth {
            // Nothing is copied, or copies would nest too deep.
            0 => self.all_leaves().iter().map(chunk_part).collect(),
            _ => self.pieces.iter().map(Piece::part).collect(),
        };
        ObjectRecord { id, len: content.len() as u64, parts }
    }
}

impl Piece {
    fn part(&self) -> Part {
        match self {
            Self::Copied { part, .. } => *part,
            Self::Chunk(leaf) => chunk_part(leaf),
            Self::Cut(_) => unreachable!("every cut has become a chunk"),
        }
    }
}

/// What a content has in common with the one before in its series.
#[derive(Default)]
struct Common {
    /// Bytes before the prefix: there a list says how many it has, and what follows is the same all the same.
    head: usize,
    base_head: usize,
    prefix: usize,
    suffix: usize,
}

impl Common {
    /// Matches that are long enough to be copied.
    fn of(content: &[u8], base: &[u8]) -> Self {
        let begins = |(head, base_head): &(usize, usize)| {
            let begin = content.get(*head..head + MIN_COPY);
            begin.is_some() && begin == base.get(*base_head..base_head + MIN_COPY)
        };
        let of_sum = |sum: usize| (0..=sum).map(move |head| (head, sum - head));
        let Some((head, base_head)) = (0..=2 * MAX_HEAD).flat_map(of_sum).find(begins) else {
            return Self { suffix: long_enough(common_suffix(content, base)), ..Self::default() };
        };
        let prefix = common_prefix(&content[head..], &base[base_head..]);
        let suffix = long_enough(common_suffix(&content[head + prefix..], base));
        Self { head, base_head, prefix, suffix }
    }
}

/// The length of a match, or 0 where a copy does not pay.
fn long_enough(len: usize) -> usize {
    if len >= MIN_COPY { len } else { 0 }
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

fn chunk_part(leaf: &Leaf) -> Part {
    Part::Chunk { chunk: leaf.chunk, at: leaf.at, len: leaf.len }
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
