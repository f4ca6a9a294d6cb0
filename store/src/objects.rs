//! Contents by their BLAKE3 hash, complete or not there at all.
//!
//! An object can be found only after its bytes are on the disk (temporary file, sync, rename), so whoever finds it may
//! rely on it, however its writer ended. Several processes may write at once: what two of them store twice is the same.
//! Objects lie in packs; a long content is a recipe of chunks, each an object of its own, cut where the content says so.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use agentrec_trace::ObjectId;
use fastcdc::v2020::StreamCDC;
use zstd::bulk::Decompressor;

use crate::Home;
use crate::error::{Context, Error, Result};
use crate::home::create_private_dir;
use crate::lock::Hold;
use crate::loose::Loose;
use crate::packs::format::{Body, MAX_PLAIN};
use crate::packs::writer::{Object, Sink};
use crate::packs::{Found, Packs, Stock};
use crate::staging::Staging;

/// Contents up to this length are one object, in bytes; longer ones are cut.
const WHOLE: u64 = 1 << 20;

/// Sizes of chunks in bytes: at least, on average, at most.
const CHUNK: [usize; 3] = [64 << 10, 256 << 10, MAX_PLAIN as usize];

/// A recipe is at most this long, bytes: it names chunks of 200 GB.
const MAX_RECIPE: u64 = 32 << 20;

/// Where contents can be read from by their address: the store, a trace, or several of them in turn.
pub trait Objects {
    /// Writes the content of `id` to `out` and returns its length; none where it is not there.
    ///
    /// The content is checked against the address while it is written: on [`Error::Corrupt`] what `out` received is
    /// worthless.
    fn copy_to(&self, id: &ObjectId, out: &mut dyn Write) -> Result<Option<u64>>;

    /// Whether the content is there.
    fn contains(&self, id: &ObjectId) -> Result<bool>;

    /// The content; none where it is not there.
    fn get(&self, id: &ObjectId) -> Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        Ok(self.copy_to(id, &mut content)?.map(|_| content))
    }
}

/// The objects of one user, shared by all sessions.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    data: PathBuf,
    staging: OnceLock<Arc<Staging>>,
    packs: Mutex<Known>,
    loose: Loose,
    /// What decompression works with, for the next object: to make it takes longer than to read a small one.
    spare: Mutex<Vec<Reading>>,
}

/// Which objects there are, as of a number of removals.
#[derive(Debug)]
struct Known {
    packs: Packs,
    removals: u64,
    /// The directory of the packs has to be looked at before what is known counts.
    is_due: bool,
}

/// zstd's state, and room for what comes out of it.
struct Reading {
    zstd: Decompressor<'static>,
    content: Vec<u8>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

impl Store {
    /// Opens the store of `home`, whose directories are created where they are missing.
    pub fn open(home: &Home) -> Result<Self> {
        home.create()?;
        create_private_dir(&home.packs())?;
        Ok(Self {
            dir: home.objects(),
            data: home.data().to_owned(),
            staging: OnceLock::new(),
            packs: Mutex::new(Known {
                packs: Packs::new(home.packs()),
                removals: 0,
                is_due: false,
            }),
            loose: Loose::new(home.objects())?,
            spare: Mutex::default(),
        })
    }

    /// Stores one content and returns when it is on the disk. For more than one there is [`Store::batch`].
    pub fn put(&self, content: &[u8]) -> Result<ObjectId> {
        let batch = self.batch();
        let id = batch.put(content)?;
        batch.commit()?;
        Ok(id)
    }

    /// Begins to store many contents with one sync. From its first use on nothing is removed from the store while it lives.
    pub fn batch(&self) -> Batch<'_> {
        Batch { store: self, state: RefCell::default() }
    }

    /// Keeps all objects where they are. Who names objects holds the store from before it asks which ones are there until
    /// what names them can be read by `store gc`.
    pub fn hold(&self) -> Result<Hold> {
        let hold = Hold::shared(&self.dir)?;
        let mut known = self.known();
        if known.removals != hold.removals() {
            known.packs.forget();
            known.removals = hold.removals();
        }
        known.is_due = true;
        Ok(hold)
    }

    /// Which packs there are now. Nothing of them is read.
    pub(crate) fn stock(&self, hold: &Hold) -> Result<Stock> {
        Stock::of(&self.dir.join("packs"), hold.removals())
    }

    /// The directory of the objects.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that an object lies in, and the place of its record there; none where it is not there.
    pub fn locate(&self, id: &ObjectId) -> Result<Option<(PathBuf, u64)>> {
        if let Some(found) = self.current()?.packs.locate(id) {
            return Ok(Some(found));
        }
        let loose = self.loose.contains(id)?.then(|| self.loose.path(id)).flatten();
        Ok(loose.map(|path| (path, 0)))
    }

    /// The data directory that the store is part of: captures leave it out.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data
    }

    pub(crate) fn loose(&self) -> &Loose {
        &self.loose
    }

    /// All packs that there were when the store was held last, or more.
    pub(crate) fn with_packs<T>(&self, f: impl FnOnce(&mut Packs) -> T) -> Result<T> {
        Ok(f(&mut self.current()?.packs))
    }

    pub(crate) fn staging(&self) -> Result<&Arc<Staging>> {
        if let Some(staging) = self.staging.get() {
            return Ok(staging);
        }
        let parent = self.dir.join("tmp");
        create_private_dir(&parent)?;
        let staging = Staging::create(&parent)?;
        Ok(self.staging.get_or_init(|| Arc::new(staging)))
    }

    /// The addresses of the chunks that an object consists of; none where it is no recipe, or not there.
    pub(crate) fn chunks(&self, id: &ObjectId) -> Result<Vec<ObjectId>> {
        let header = self.known().packs.header(id);
        if header.is_none_or(|header| header.body != Body::Recipe) {
            return Ok(Vec::new());
        }
        match self.find(id)? {
            Some(found) => self.reading(|reading| reading.recipe(&found)),
            None => Ok(Vec::new()),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, with all that was there when the store was held last. To read the indexes takes time, and who finds
    /// everything as it was needs none of them.
    fn current(&self) -> Result<MutexGuard<'_, Known>> {
        let mut known = self.known();
        if known.is_due {
            known.packs.refresh()?;
            known.is_due = false;
        }
        Ok(known)
    }

    /// The object in a pack. What others added since is looked for too.
    fn find(&self, id: &ObjectId) -> Result<Option<Found>> {
        let mut known = self.known();
        match known.packs.find(id)? {
            None if known.packs.refresh()? => known.packs.find(id),
            found => Ok(found),
        }
    }

    fn reading<T>(&self, f: impl FnOnce(&mut Reading) -> Result<T>) -> Result<T> {
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = spare().pop();
        let mut reading = match taken {
            Some(reading) => reading,
            None => Reading::new().context("decompress from", &self.dir)?,
        };
        let done = f(&mut reading);
        spare().push(reading);
        done
    }

    /// Writes the content of an object in a pack.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it is not the one that the address names.
    pub(crate) fn copy_found(&self, found: &Found, out: &mut dyn Write) -> Result<u64> {
        let mut hasher = blake3::Hasher::new();
        let len = self.copy_packed(found, &mut hasher, out)?;
        let id = found.header.id;
        if hasher.finalize().as_bytes() == &id.0 { Ok(len) } else { Err(Error::Corrupt(id)) }
    }

    /// Writes the content of an object in a pack, without comparing it with its address: that is left to `hasher`.
    fn copy_packed(
        &self,
        found: &Found,
        hasher: &mut blake3::Hasher,
        out: &mut dyn Write,
    ) -> Result<u64> {
        match found.header.body {
            Body::Plain => self.reading(|reading| {
                let content = reading.content(found, MAX_PLAIN)?;
                hasher.update(content);
                out.write_all(content).context("copy from", &found.path)?;
                Ok(content.len() as u64)
            }),
            Body::Recipe => {
                let chunks = self.reading(|reading| reading.recipe(found))?;
                let mut len = 0;
                for chunk in chunks {
                    let found = self.find(&chunk)?.ok_or(Error::Corrupt(found.header.id))?;
                    if found.header.body != Body::Plain {
                        return Err(Error::Corrupt(chunk));
                    }
                    len += self.copy_packed(&found, hasher, out)?;
                }
                Ok(len)
            }
        }
    }
}

impl Reading {
    fn new() -> io::Result<Self> {
        Ok(Self { zstd: Decompressor::new()?, content: Vec::new() })
    }

    fn content(&mut self, found: &Found, max: u64) -> Result<&[u8]> {
        let id = found.header.id;
        let len = zstd::zstd_safe::get_frame_content_size(&found.body).ok().flatten();
        let len = len.filter(|len| *len <= max).ok_or(Error::Corrupt(id))?;
        self.content.clear();
        self.content.reserve(len as usize);
        let done = self.zstd.decompress_to_buffer(&found.body, &mut self.content);
        done.map_err(|_| Error::Corrupt(id))?;
        Ok(&self.content)
    }

    fn recipe(&mut self, found: &Found) -> Result<Vec<ObjectId>> {
        let bytes = self.content(found, MAX_RECIPE)?;
        let (ids, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(Error::Corrupt(found.header.id));
        }
        Ok(ids.iter().map(|id| ObjectId(*id)).collect())
    }
}

impl Objects for Store {
    fn copy_to(&self, id: &ObjectId, out: &mut dyn Write) -> Result<Option<u64>> {
        match self.find(id)? {
            Some(found) => self.copy_found(&found, out).map(Some),
            None => self.loose.copy_checked(id, out),
        }
    }

    fn contains(&self, id: &ObjectId) -> Result<bool> {
        let mut known = self.known();
        if known.packs.contains(id) || (known.packs.refresh()? && known.packs.contains(id)) {
            return Ok(true);
        }
        drop(known);
        self.loose.contains(id)
    }
}

/// Contents on their way into the store. Nothing of it can be read before [`Batch::commit`].
#[derive(Debug)]
pub struct Batch<'s> {
    store: &'s Store,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    hold: Option<Hold>,
    sink: Option<Sink>,
    ids: HashSet<ObjectId>,
}

/// A content that was read and hashed but is not yet part of a batch.
#[derive(Debug)]
pub struct Staged {
    /// Its address.
    pub id: ObjectId,
    /// Its length in bytes.
    pub len: u64,
    /// Its first bytes, at most [`crate::secret_files::HEAD_LEN`].
    pub head: Vec<u8>,
    body: Body,
    /// The content or the recipe.
    bytes: Vec<u8>,
}

impl Staged {
    /// The content itself, where it is short enough to be one object.
    pub(crate) fn into_content(self) -> std::result::Result<Vec<u8>, Self> {
        if self.body == Body::Plain { Ok(self.bytes) } else { Err(self) }
    }
}

impl Batch<'_> {
    /// Adds one content.
    pub fn put(&self, content: &[u8]) -> Result<ObjectId> {
        let staged = self.stage(&mut &*content, Path::new("a content in memory"))?;
        self.keep(staged)
    }

    /// Reads one content to its end, whatever its length, without making it part of the batch. Of a long one the chunks are
    /// stored all the same: nothing names them then. Where `reader` fails the error is [`Error::Source`], which names
    /// `path`.
    pub fn stage(&self, reader: &mut dyn Read, path: &Path) -> Result<Staged> {
        let unreadable = |source| Error::Source { path: path.to_owned(), source };
        let mut start = Vec::new();
        (&mut *reader).take(WHOLE + 1).read_to_end(&mut start).map_err(unreadable)?;
        let head = start[..start.len().min(crate::secret_files::HEAD_LEN)].to_vec();
        if start.len() as u64 <= WHOLE {
            let (id, len) = (ObjectId::of(&start), start.len() as u64);
            return Ok(Staged { id, len, head, body: Body::Plain, bytes: start });
        }
        let mut hasher = blake3::Hasher::new();
        let (mut len, mut recipe) = (0, Vec::new());
        let [min, average, max] = CHUNK;
        for chunk in StreamCDC::new(start.as_slice().chain(reader), min, average, max) {
            let chunk = chunk.map_err(|error| unreadable(error.into()))?.data;
            hasher.update(&chunk);
            len += chunk.len() as u64;
            let id = ObjectId::of(&chunk);
            recipe.extend_from_slice(&id.0);
            self.add(Object { id, body: Body::Plain, len: chunk.len() as u64, bytes: chunk })?;
        }
        let id = ObjectId(*hasher.finalize().as_bytes());
        Ok(Staged { id, len, head, body: Body::Recipe, bytes: recipe })
    }

    /// Makes a staged content part of the batch.
    pub fn keep(&self, staged: Staged) -> Result<ObjectId> {
        let Staged { id, len, body, bytes, .. } = staged;
        self.add(Object { id, body, len, bytes })?;
        Ok(id)
    }

    /// Whether the content is in the store or in this batch. What others stored since the batch began is not looked for: to
    /// store it again does no harm.
    pub fn contains(&self, id: &ObjectId) -> Result<bool> {
        self.state.borrow_mut().contains(self.store, id)
    }

    /// Which packs there are; from now on nothing is removed from them.
    pub(crate) fn stock(&self) -> Result<Stock> {
        self.store.stock(self.state.borrow_mut().hold(self.store)?)
    }

    /// Makes everything readable and returns how many objects were new, once they are on the disk.
    pub fn commit(self) -> Result<usize> {
        let State { sink, ids, hold } = self.state.into_inner();
        let Some(sink) = sink else { return Ok(0) };
        let finished = sink.finish()?;
        self.store.known().packs.add(finished)?;
        if let Err(error) = self.store.merge_small() {
            // They stay as they are, and the next one tries again.
            tracing::warn!(%error, "small packs are not merged");
        }
        drop(hold);
        Ok(ids.len())
    }

    /// [`Batch::commit`], and which packs there are then: nothing was removed from them since the batch began.
    pub(crate) fn commit_and_list(self) -> Result<(usize, Stock)> {
        let store = self.store;
        // Two may hold it: this one until the packs are listed.
        let hold = store.hold()?;
        let before = self.state.borrow_mut().hold(store)?.removals();
        debug_assert_eq!(before, hold.removals(), "nobody removes what is held");
        let added = self.commit()?;
        Ok((added, store.stock(&hold)?))
    }

    fn add(&self, object: Object) -> Result<()> {
        let mut state = self.state.borrow_mut();
        if state.contains(self.store, &object.id)? {
            return Ok(());
        }
        state.ids.insert(object.id);
        let sink = match &mut state.sink {
            Some(sink) => sink,
            none => none.insert(Sink::new(Arc::clone(self.store.staging()?))?),
        };
        sink.put(object)
    }
}

impl State {
    fn hold(&mut self, store: &Store) -> Result<&Hold> {
        match self.hold.take() {
            Some(hold) => Ok(self.hold.insert(hold)),
            None => Ok(self.hold.insert(store.hold()?)),
        }
    }

    fn contains(&mut self, store: &Store, id: &ObjectId) -> Result<bool> {
        self.hold(store)?;
        Ok(self.ids.contains(id)
            || store.current()?.packs.contains(id)
            || store.loose.contains(id)?)
    }
}
