//! A trace that is written from another one: under a name of its own until it is whole, and then in its place at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use agentrec_trace::event::Lost;
use agentrec_trace::{Data, Event, Reader, Rewriter, Seal, Source, Status, TraceFile, verify};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::error::{Context, Error, Result};

/// Where a new trace goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its name.
    pub path: &'a Path,
    /// A file of that name is replaced, once the new one is whole.
    pub replace: bool,
}

/// A trace that grows under the name `<target>.partial`. Unless it is finished, it goes with this value.
pub(crate) struct NewTrace<'a> {
    target: Target<'a>,
    partial: PathBuf,
    pub(crate) rewriter: Rewriter<TraceFile>,
    done: bool,
}

impl<'a> NewTrace<'a> {
    /// Begins one that holds what `reader` has, or something like it.
    ///
    /// # Errors
    /// Where `reader` is being recorded or damaged, or the target is there and not to be replaced.
    pub(crate) fn begin(reader: &Reader, target: Target<'a>) -> Result<Self> {
        let path = target.path;
        match fs::symlink_metadata(path) {
            Ok(_) if !target.replace => return Err(Error::OutputExists { path: path.to_owned() }),
            Ok(there) if !there.is_file() => {
                return Err(agentrec_trace::Error::NotAFile(path.to_owned()).into());
            }
            _ => {}
        }
        check_source(reader)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        let partial = PathBuf::from(name);
        // One that nobody holds was left by a process that was killed.
        let file = TraceFile::create(&partial, true)?;
        let rewriter = Rewriter::new(reader, file).inspect_err(|_| drop(fs::remove_file(&partial)));
        Ok(Self { target, partial, rewriter: rewriter?, done: false })
    }

    /// Seals the trace, checks it and gives it its name.
    pub(crate) fn finish(mut self, reader: &Reader) -> Result<Seal> {
        let seal = self.seal(reader)?;
        self.publish()?;
        Ok(seal)
    }

    /// Where it is until it is finished.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Seals the trace and checks it.
    pub(crate) fn seal(&mut self, reader: &Reader) -> Result<Seal> {
        if let Status::Incomplete { reason, .. } = reader.status() {
            // A seal would say that nothing is missing.
            let reason = format!("the recording was not ended: {reason}");
            let lost = Lost { place: "recorder".into(), reason: reason.into(), ..Lost::default() };
            let last = reader.tail(1)?.first().map_or(0, |event| event.ts);
            let event = Event::new(last, Source::Recorder, Data::Lost(lost));
            self.rewriter.writer().append(&event)?;
        }
        let seal = self.rewriter.writer().seal()?;
        self.rewriter.writer().get_ref().sync()?;
        let report = verify(&self.partial)?;
        if let Some(problem) = report.problem {
            return Err(Error::NotWritten { path: self.partial.clone(), problem });
        }
        Ok(seal)
    }

    /// Gives the sealed trace its name.
    pub(crate) fn publish(mut self) -> Result<()> {
        self.name_it().context("rename to", self.target.path)?;
        self.done = true;
        let dir = self.target.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).context("sync", dir)
    }

    /// The one step that others see.
    fn name_it(&self) -> io::Result<()> {
        let (from, to) = (&self.partial, self.target.path);
        if self.target.replace {
            return fs::rename(from, to);
        }
        // A file that came there meanwhile is not ours to replace.
        match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
            // Some file systems don't know the flag.
            Err(nix::Error::EINVAL | nix::Error::ENOSYS) => {
                fs::hard_link(from, to).and_then(|()| fs::remove_file(from))
            }
            renamed => renamed.map_err(io::Error::from),
        }
    }
}

impl Drop for NewTrace<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Where it can't be removed, the next one of that name replaces it.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// What is damaged can't be written again: the numbers of what follows would be others.
fn check_source(reader: &Reader) -> Result<()> {
    let path = || reader.path().unwrap_or(Path::new("the trace")).to_owned();
    match reader.status() {
        Status::Recording => Err(agentrec_trace::Error::Recording(path()).into()),
        Status::Incomplete { .. } => Ok(()),
        Status::Complete(_) => {
            let Some(path) = reader.path() else { return Ok(()) };
            match verify(path)?.problem {
                Some(problem) => Err(Error::DamagedTrace { path: path.to_owned(), problem }),
                None => Ok(()),
            }
        }
    }
}
