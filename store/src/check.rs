//! Whether every object of the store is what its name says.

use std::fs;
use std::io;
use std::path::PathBuf;

use agentrec_trace::ObjectId;

use crate::error::{Context, Error, Result};
use crate::objects::{Objects, Store};

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Objects that were read.
    pub objects: u64,
    /// Bytes that they take on the disk.
    pub stored_bytes: u64,
    /// Bytes of their contents.
    pub content_bytes: u64,
    /// Objects whose content is not the one that their name says.
    pub damaged: Vec<ObjectId>,
    /// Files that are no objects.
    pub foreign: Vec<PathBuf>,
}

impl Store {
    /// Reads every object and compares its content with its name.
    pub fn check(&self) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        for shard in list(self.dir())? {
            if shard.file_name().is_some_and(|name| name == "tmp") {
                continue;
            }
            if !shard.is_dir() {
                report.foreign.push(shard);
                continue;
            }
            for path in list(&shard)? {
                let id = object_id(&path).filter(|id| self.path(id) == path);
                let Some(id) = id else {
                    report.foreign.push(path);
                    continue;
                };
                report.objects += 1;
                report.stored_bytes += path.metadata().context("read", &path)?.len();
                match self.copy_to(&id, &mut io::sink()) {
                    Ok(len) => report.content_bytes += len.unwrap_or(0),
                    Err(Error::Corrupt(id)) => report.damaged.push(id),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(report)
    }
}

fn list(dir: &std::path::Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).context("list", dir)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .context("list", dir)?;
    paths.sort();
    Ok(paths)
}

fn object_id(path: &std::path::Path) -> Option<ObjectId> {
    let shard = path.parent()?.file_name()?.to_str()?;
    format!("{shard}{}", path.file_name()?.to_str()?).parse().ok()
}
