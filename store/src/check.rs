//! Whether every object of the store is what its name says, and everything is there that snapshots name.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use agentrec_trace::ObjectId;

use crate::error::{Context, Error, Result};
use crate::mark::{Marks, MissingObject};
use crate::objects::Store;
use crate::packs::{Found, format};

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
    /// Packs whose index can't be read: what is in them is not found.
    pub damaged_packs: Vec<PathBuf>,
    /// Files that are no objects.
    pub foreign: Vec<PathBuf>,
    /// Snapshots that were followed.
    pub snapshots: u64,
    /// What they name, and is neither in the store nor in their trace.
    pub missing: Vec<MissingObject>,
    /// Traces that can't be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl CheckReport {
    /// Whether nothing is broken or missing.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.damaged_packs.is_empty() && self.missing.is_empty()
    }
}

impl Store {
    /// Reads every object and compares its content with its name.
    pub fn check(&self) -> Result<CheckReport> {
        let _hold = self.hold()?;
        let damaged_packs = self.with_packs(|packs| packs.damaged.clone())?;
        let mut report = CheckReport { damaged_packs, ..CheckReport::default() };
        let mut seen = HashSet::new();
        for path in self.with_packs(|packs| packs.paths())? {
            let file = match File::open(&path) {
                // It was merged into another one since, which is listed too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.context("open", &path)?,
            };
            let entries = format::read_index(&file).context("read", &path)?.unwrap_or_default();
            report.stored_bytes += file.metadata().context("read", &path)?.len();
            for entry in entries {
                let checked = match Found::read(&file, &path, &entry) {
                    Some(found) => self.copy_found(&found, &mut io::sink()),
                    None => Err(Error::Corrupt(entry.id)),
                };
                note(&mut report, &mut seen, entry.id, checked)?;
            }
        }
        let mut foreign = std::mem::take(&mut report.foreign);
        for (id, path) in self.loose().list(&mut foreign)? {
            report.stored_bytes += path.metadata().context("read", &path)?.len();
            let checked = self.loose().copy_checked(&id, &mut io::sink());
            note(&mut report, &mut seen, id, checked.map(Option::unwrap_or_default))?;
        }
        report.foreign = foreign;
        Ok(report)
    }

    /// The same, and whether everything is there that the snapshots of these traces name.
    pub fn check_with(&self, traces: &[PathBuf]) -> Result<CheckReport> {
        let mut report = self.check()?;
        let _hold = self.hold()?;
        let mut marks = Marks::new(self);
        for trace in traces {
            match marks.trace(trace) {
                Err(Error::Trace { path, source }) => {
                    report.unreadable.push((path, source.to_string()));
                }
                other => other?,
            }
        }
        (report.snapshots, report.missing) = (marks.snapshots, marks.missing);
        Ok(report)
    }
}

/// Counts an object once, however often it is there; each of them has to be sound.
fn note(
    report: &mut CheckReport,
    seen: &mut HashSet<ObjectId>,
    id: ObjectId,
    checked: Result<u64>,
) -> Result<()> {
    let first = seen.insert(id);
    report.objects += u64::from(first);
    match checked {
        Ok(len) if first => report.content_bytes += len,
        Ok(_) => {}
        Err(Error::Corrupt(_)) => report.damaged.push(id),
        Err(error) => return Err(error),
    }
    Ok(())
}
