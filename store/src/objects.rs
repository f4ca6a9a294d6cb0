//! Contents by their BLAKE3 hash: each a zstd frame in a file of its own, complete or not there at all.
//!
//! An object appears under its name only after its bytes are on the disk (temporary file, sync, rename), so whoever
//! finds it there may rely on it, however its writer ended. Several processes may write at once: the same content has
//! the same name and the same bytes.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use agentrec_trace::ObjectId;
use zstd::zstd_safe::DCtx;

use crate::Home;
use crate::error::{Context, Error, Result};
use crate::home::create_private_dir;
use crate::staging::Staging;

/// Level of zstd: snapshots wait for it, and most of what is stored is small text.
const LEVEL: i32 = 1;

/// Contents up to this length are held in memory, in bytes: hashed first and compressed only when they are new.
const IN_MEMORY: u64 = 1 << 20;

/// From this many new objects on one syncfs(2) is cheaper than an fsync(2) for each.
const SYNC_ALL_FROM: usize = 16;

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
    staging: OnceLock<Staging>,
    /// Objects that were seen to exist.
    known: Mutex<HashSet<ObjectId>>,
    /// What decompression works with, for the next object: to make it takes longer than to read a small one.
    spare: Mutex<Option<Decompression>>,
}

/// zstd's state, and room for what comes out of it.
struct Decompression {
    context: DCtx<'static>,
    buffer: Vec<u8>,
}

impl Decompression {
    fn new() -> Self {
        Self { context: DCtx::create(), buffer: vec![0; 128 * 1024] }
    }
}

impl std::fmt::Debug for Decompression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decompression")
    }
}

impl Store {
    /// Opens the store of `home`, whose directories are created where they are missing.
    pub fn open(home: &Home) -> Result<Self> {
        home.create()?;
        Ok(Self {
            dir: home.objects(),
            data: home.data().to_owned(),
            staging: OnceLock::new(),
            known: Mutex::default(),
            spare: Mutex::default(),
        })
    }

    /// Stores one content and returns when it is on the disk. For more than one there is [`Store::batch`].
    pub fn put(&self, content: &[u8]) -> Result<ObjectId> {
        let mut batch = self.batch();
        let id = batch.put(content)?;
        batch.commit()?;
        Ok(id)
    }

    /// Begins to store many contents with one sync.
    pub fn batch(&self) -> Batch<'_> {
        Batch { store: self, staged: Vec::new(), ids: HashSet::new() }
    }

    /// The directory of the objects.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory that the store is part of: captures leave it out.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The file of an object.
    pub(crate) fn path(&self, id: &ObjectId) -> PathBuf {
        let name = id.to_string();
        self.dir.join(&name[..2]).join(&name[2..])
    }

    fn known(&self) -> MutexGuard<'_, HashSet<ObjectId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staging(&self) -> Result<&Staging> {
        if let Some(staging) = self.staging.get() {
            return Ok(staging);
        }
        let parent = self.dir.join("tmp");
        create_private_dir(&parent)?;
        let staging = Staging::create(&parent)?;
        Ok(self.staging.get_or_init(|| staging))
    }
}

impl Objects for Store {
    fn copy_to(&self, id: &ObjectId, out: &mut dyn Write) -> Result<Option<u64>> {
        let path = self.path(id);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.context("open", &path)?,
        };
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        // After an error it is in the middle of a frame, and not put back.
        let mut work = spare.unwrap_or_else(Decompression::new);
        let Decompression { context, buffer } = &mut work;
        let mut decoder = zstd::Decoder::with_context(BufReader::new(file), context).single_frame();
        let mut hasher = blake3::Hasher::new();
        let mut len = 0;
        loop {
            // zstd reports damage as an I/O error of kind `Other` or as an early end.
            let n = decoder.read(buffer).map_err(|_| Error::Corrupt(*id))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            out.write_all(&buffer[..n]).context("copy", &path)?;
            len += n as u64;
        }
        drop(decoder);
        if hasher.finalize().as_bytes() != &id.0 {
            return Err(Error::Corrupt(*id));
        }
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
        Ok(Some(len))
    }

    fn contains(&self, id: &ObjectId) -> Result<bool> {
        if self.known().contains(id) {
            return Ok(true);
        }
        let path = self.path(id);
        let found = path.try_exists().context("look for", &path)?;
        if found {
            self.known().insert(*id);
        }
        Ok(found)
    }
}

/// Contents on their way into the store. Nothing of it can be read before [`Batch::commit`].
#[derive(Debug)]
pub struct Batch<'s> {
    store: &'s Store,
    staged: Vec<(PathBuf, ObjectId)>,
    ids: HashSet<ObjectId>,
}

/// A content that was read and hashed but is not yet part of a batch; dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    /// Its address.
    pub id: ObjectId,
    /// Its length in bytes.
    pub len: u64,
    /// Its first bytes, at most [`crate::secret_files::HEAD_LEN`].
    pub head: Vec<u8>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Short enough to be compressed when it turns out to be new.
    Memory(Vec<u8>),
    /// Already compressed.
    File(TempFile),
}

/// A temporary file that goes when nobody wants it.
#[derive(Debug)]
struct TempFile(PathBuf);

impl TempFile {
    fn create(path: PathBuf) -> Result<(Self, File)> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .context("create", &path)?;
        Ok((Self(path), file))
    }

    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Otherwise it goes with the staging directory.
            let _ = fs::remove_file(&self.0);
        }
    }
}

impl Batch<'_> {
    /// Adds one content.
    pub fn put(&mut self, content: &[u8]) -> Result<ObjectId> {
        let id = ObjectId::of(content);
        if !self.contains(&id)? {
            self.write(id, content)?;
        }
        Ok(id)
    }

    /// Reads one content to its end, whatever its length, without making it part of the batch. Where `reader` fails the
    /// error is [`Error::Source`], which names `path`.
    pub fn stage(&self, reader: &mut dyn Read, path: &Path) -> Result<Staged> {
        let unreadable = |source| Error::Source { path: path.to_owned(), source };
        let mut start = Vec::new();
        reader.take(IN_MEMORY + 1).read_to_end(&mut start).map_err(unreadable)?;
        let head = start[..start.len().min(crate::secret_files::HEAD_LEN)].to_vec();
        if start.len() as u64 <= IN_MEMORY {
            let (id, len) = (ObjectId::of(&start), start.len() as u64);
            return Ok(Staged { id, len, head, body: Body::Memory(start) });
        }
        let (temp, file) = TempFile::create(self.store.staging()?.next_path())?;
        let mut encoder = zstd::Encoder::new(file, LEVEL).context("write", &temp.0)?;
        let mut hasher = blake3::Hasher::new();
        let mut len = 0;
        let mut chunk = start;
        while !chunk.is_empty() {
            hasher.update(&chunk);
            encoder.write_all(&chunk).context("write", &temp.0)?;
            len += chunk.len() as u64;
            chunk.clear();
            reader.take(IN_MEMORY).read_to_end(&mut chunk).map_err(unreadable)?;
        }
        encoder.finish().context("write", &temp.0)?;
        let id = ObjectId(*hasher.finalize().as_bytes());
        Ok(Staged { id, len, head, body: Body::File(temp) })
    }

    /// Makes a staged content part of the batch.
    pub fn keep(&mut self, staged: Staged) -> Result<ObjectId> {
        if !self.contains(&staged.id)? {
            match staged.body {
                Body::Memory(content) => self.write(staged.id, &content)?,
                Body::File(temp) => self.add(temp, staged.id),
            }
        }
        Ok(staged.id)
    }

    /// Whether the content is in the store or in this batch.
    pub fn contains(&self, id: &ObjectId) -> Result<bool> {
        Ok(self.ids.contains(id) || self.store.contains(id)?)
    }

    /// Puts everything under its name and returns how many objects were new, once they are on the disk.
    pub fn commit(mut self) -> Result<usize> {
        let staged = std::mem::take(&mut self.staged);
        if staged.is_empty() {
            return Ok(0);
        }
        let staging = self.store.staging()?;
        let all = staged.len() >= SYNC_ALL_FROM;
        if all {
            nix::unistd::syncfs(staging.handle()).context("sync", &self.store.dir)?;
        }
        let mut shards = HashSet::new();
        for (temp, id) in &staged {
            if !all {
                File::open(temp).and_then(|file| file.sync_data()).context("sync", temp)?;
            }
            let path = self.store.path(id);
            let shard = path.parent().expect("an object lies in a shard").to_owned();
            if !shards.contains(&shard) {
                create_private_dir(&shard)?;
            }
            fs::rename(temp, &path).context("rename to", &path)?;
            shards.insert(shard);
        }
        if all {
            nix::unistd::syncfs(staging.handle()).context("sync", &self.store.dir)?;
        } else {
            shards.insert(self.store.dir.clone());
            for dir in &shards {
                File::open(dir).and_then(|dir| dir.sync_all()).context("sync", dir)?;
            }
        }
        self.store.known().extend(self.ids.iter());
        Ok(staged.len())
    }

    fn write(&mut self, id: ObjectId, content: &[u8]) -> Result<()> {
        let (temp, mut file) = TempFile::create(self.store.staging()?.next_path())?;
        let compressed = zstd::bulk::compress(content, LEVEL).context("compress", &temp.0)?;
        file.write_all(&compressed).context("write", &temp.0)?;
        self.add(temp, id);
        Ok(())
    }

    fn add(&mut self, temp: TempFile, id: ObjectId) {
        self.staged.push((temp.keep(), id));
        self.ids.insert(id);
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for (temp, _) in &self.staged {
            // Otherwise it goes with the staging directory.
            let _ = fs::remove_file(temp);
        }
    }
}
