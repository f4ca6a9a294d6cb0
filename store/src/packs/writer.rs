//! Writes objects into packs: compressed one by one, on a thread of its own where there are many.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use agentrec_trace::ObjectId;
use zstd::bulk::Compressor;

use super::format::{self, Body, Entry, Header, MAGIC};
use crate::error::{Context, Error, Result};
use crate::staging::Staging;

/// Level of zstd: snapshots wait for it, and most of what is stored is small text.
const LEVEL: i32 = 1;

/// A pack that has reached this length is closed, bytes.
const PACK_LEN: usize = 32 << 20;

/// What is written at once, bytes.
const BUFFER: usize = 512 << 10;

/// From this many bytes of contents on a batch has a thread that compresses.
const ALONE: usize = 1 << 20;

/// Contents go to the thread in parcels of this many bytes, at least.
const PARCEL: usize = 256 << 10;

/// Parcels that may wait for the thread. Who has another one waits: with the largest objects that is 10 MiB.
const WAITING: usize = 8;

/// An object on its way.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) id: ObjectId,
    pub(crate) body: Body,
    /// Bytes of the content: of a recipe, what its chunks add up to.
    pub(crate) len: u64,
    /// What is compressed: a content or a recipe.
    pub(crate) bytes: Vec<u8>,
}

/// A pack that is on the disk, under a temporary name.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) path: PathBuf,
    pub(crate) entries: Vec<Entry>,
}

/// Where a batch puts its objects.
#[derive(Debug)]
pub(crate) enum Sink {
    /// Few so far.
    Alone(Box<PackWriter>, usize),
    /// Many: a thread takes them.
    Thread {
        to: SyncSender<Vec<Object>>,
        thread: JoinHandle<Result<PackWriter>>,
        parcel: Vec<Object>,
        bytes: usize,
    },
    /// It failed, which was told.
    Failed,
}

impl Sink {
    pub(crate) fn new(staging: Arc<Staging>) -> Result<Self> {
        Ok(Self::Alone(Box::new(PackWriter::new(staging)?), 0))
    }

    pub(crate) fn put(&mut self, object: Object) -> Result<()> {
        match self {
            Self::Alone(writer, bytes) => {
                *bytes += object.bytes.len();
                writer.put(&object)?;
                if *bytes < ALONE {
                    return Ok(());
                }
                let Self::Alone(writer, _) = std::mem::replace(self, Self::Failed) else {
                    unreachable!("it is alone")
                };
                *self = Self::thread(*writer)?;
                Ok(())
            }
            Self::Thread { to, parcel, bytes, .. } => {
                *bytes += object.bytes.len();
                parcel.push(object);
                if *bytes < PARCEL {
                    return Ok(());
                }
                *bytes = 0;
                if to.send(std::mem::take(parcel)).is_ok() {
                    return Ok(());
                }
                // It ended early, with an error.
                std::mem::replace(self, Self::Failed).into_writer().map(drop)
            }
            Self::Failed => Ok(()),
        }
    }

    /// Everything on the disk, under temporary names.
    pub(crate) fn finish(self) -> Result<Vec<Finished>> {
        self.into_writer()?.finish()
    }

    fn thread(mut writer: PackWriter) -> Result<Self> {
        let dir = writer.staging.path().to_owned();
        let (to, from): (_, Receiver<Vec<Object>>) = sync_channel(WAITING);
        let work = move || {
            for object in from.into_iter().flatten() {
                writer.put(&object)?;
            }
            Ok(writer)
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(work);
        let thread = thread.context("start a thread for", &dir)?;
        Ok(Self::Thread { to, thread, parcel: Vec::new(), bytes: 0 })
    }

    fn into_writer(self) -> Result<PackWriter> {
        match self {
            Self::Alone(writer, _) => Ok(*writer),
            Self::Thread { to, thread, parcel, .. } => {
                // Where it does not take them, it has an error to tell.
                let _ = to.send(parcel);
                drop(to);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
            Self::Failed => Err(Error::Unfinished),
        }
    }
}

/// Fills packs in the staging directory, one after the other.
pub(crate) struct PackWriter {
    staging: Arc<Staging>,
    compressor: Compressor<'static>,
    open: Option<Open>,
    finished: Vec<Finished>,
    /// What the compressor made last.
    stored: Vec<u8>,
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter").field("finished", &self.finished).finish_non_exhaustive()
    }
}

/// A pack that is being filled.
struct Open {
    path: PathBuf,
    file: File,
    /// What is not in the file yet.
    buffer: Vec<u8>,
    len: usize,
    entries: Vec<Entry>,
}

impl PackWriter {
    pub(crate) fn new(staging: Arc<Staging>) -> Result<Self> {
        let compressor = Compressor::new(LEVEL).context("compress for", staging.path())?;
        Ok(Self { staging, compressor, open: None, finished: Vec::new(), stored: Vec::new() })
    }

    pub(crate) fn put(&mut self, object: &Object) -> Result<()> {
        let bound = zstd::zstd_safe::compress_bound(object.bytes.len());
        self.stored.clear();
        self.stored.reserve(bound);
        self.compressor
            .compress_to_buffer(&object.bytes, &mut self.stored)
            .context("compress for", self.staging.path())?;
        let stored = u32::try_from(self.stored.len()).unwrap_or(u32::MAX);
        if stored > format::MAX_BODY {
            return Err(Error::TooLarge(object.id));
        }
        let body = std::mem::take(&mut self.stored);
        let Object { id, body: kind, len, .. } = *object;
        let added = self.add(Header { id, body: kind, len, stored }, &body);
        self.stored = body;
        added
    }

    /// Adds a record whose body is compressed already.
    pub(crate) fn add(&mut self, header: Header, body: &[u8]) -> Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::create(self.staging.next_path())?),
        };
        let at = u32::try_from(open.len).expect("a pack is closed long before that");
        open.entries.push(Entry { id: header.id, at, stored: header.stored });
        open.write(&header.encode())?;
        open.write(body)?;
        if open.len >= PACK_LEN { self.close() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> Result<Vec<Finished>> {
        self.close()?;
        Ok(std::mem::take(&mut self.finished))
    }

    fn close(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.finished.push(open.close()?);
        }
        Ok(())
    }
}

impl Open {
    fn create(path: PathBuf) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.context("create", &path)?;
        let mut open =
            Self { path, file, buffer: Vec::with_capacity(BUFFER), len: 0, entries: Vec::new() };
        open.write(MAGIC)?;
        Ok(open)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.len += bytes.len();
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() > BUFFER {
            return self.file.write_all(bytes).context("write", &self.path);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.buffer).context("write", &self.path)?;
        self.buffer.clear();
        Ok(())
    }

    fn close(mut self) -> Result<Finished> {
        let at = u32::try_from(self.len).expect("a pack is closed long before that");
        let end = format::encode_end(&mut self.entries, at);
        self.write(&end)?;
        self.flush()?;
        self.file.sync_data().context("sync", &self.path)?;
        Ok(Finished {
            path: std::mem::take(&mut self.path),
            entries: std::mem::take(&mut self.entries),
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a temporary file that nobody wants; one that was kept has no name here any more. What can't be removed goes
/// with the staging directory.
fn remove(path: &Path) {
    if !path.as_os_str().is_empty() {
        let _ = fs::remove_file(path);
    }
}
