//! Objects in files of their own, as earlier versions stored all of them: still read, checked and collected, no longer
//! written.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use agentrec_trace::ObjectId;

use crate::error::{Context, Error, Result};

/// The directory that they lie in, and which of its shards there are.
#[derive(Debug)]
pub(crate) struct Loose {
    dir: PathBuf,
    shards: Vec<u8>,
}

impl Loose {
    /// Those in `dir`: no shard is added later.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        let mut shards = Vec::new();
        for entry in fs::read_dir(&dir).context("list", &dir)? {
            let name = entry.context("list", &dir)?.file_name();
            shards.extend(name.to_str().and_then(shard_number));
        }
        Ok(Self { dir, shards })
    }

    /// The object's file, if there may be one.
    pub(crate) fn path(&self, id: &ObjectId) -> Option<PathBuf> {
        self.shards.contains(&id.0[0]).then(|| {
            let name = id.to_string();
            self.dir.join(&name[..2]).join(&name[2..])
        })
    }

    pub(crate) fn contains(&self, id: &ObjectId) -> Result<bool> {
        let Some(path) = self.path(id) else { return Ok(false) };
        path.try_exists().context("look for", &path)
    }

    /// Writes the content to `out`; none where it is not there.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it is not the one that the address names.
    pub(crate) fn copy_checked(&self, id: &ObjectId, out: &mut dyn Write) -> Result<Option<u64>> {
        let Some(path) = self.path(id) else { return Ok(None) };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.context("open", &path)?,
        };
        let decoder = zstd::Decoder::with_buffer(BufReader::new(file)).context("read", &path)?;
        let mut decoder = decoder.single_frame();
        let mut buffer = vec![0; 128 << 10];
        let mut hasher = blake3::Hasher::new();
        let mut len = 0;
        loop {
            // zstd reports damage as an I/O error of kind `Other` or as an early end.
            let n = decoder.read(&mut buffer).map_err(|_| Error::Corrupt(*id))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            out.write_all(&buffer[..n]).context("copy", &path)?;
            len += n as u64;
        }
        if hasher.finalize().as_bytes() == &id.0 { Ok(Some(len)) } else { Err(Error::Corrupt(*id)) }
    }

    /// All of them, with their files; what is no object in a shard goes to `foreign`.
    pub(crate) fn list(&self, foreign: &mut Vec<PathBuf>) -> Result<Vec<(ObjectId, PathBuf)>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = self.dir.join(format!("{shard:02x}"));
            if !shard.is_dir() {
                foreign.push(shard);
                continue;
            }
            for entry in fs::read_dir(&shard).context("list", &shard)? {
                let path = entry.context("list", &shard)?.path();
                match object_id(&path) {
                    Some(id) => found.push((id, path)),
                    None => foreign.push(path),
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn shard_number(name: &str) -> Option<u8> {
    let number = u8::from_str_radix(name, 16).ok()?;
    (format!("{number:02x}") == name).then_some(number)
}

fn object_id(path: &Path) -> Option<ObjectId> {
    let shard = path.parent()?.file_name()?.to_str()?;
    let name = format!("{shard}{}", path.file_name()?.to_str()?);
    let id: ObjectId = name.parse().ok()?;
    (id.to_string() == name).then_some(id)
}
