//! A trace that becomes several files, each readable by itself: one is sealed, the next begins with all that lives then.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use agentrec_store::{Catalogue, new_session_id};
use agentrec_trace::{Event, Source, TraceFile};

use super::host::Git;
use super::outside::Outside;
use super::processes::Processes;
use super::tools::Tools;
use super::writing::Output;
use super::{End, Session, Started, boottime, wall_clock};
use crate::error::{Error, Result, chain};
use crate::setup::Setup;
use crate::watch::Rotation;

/// The files of a recording.
#[derive(Debug)]
pub(super) struct Parts {
    rotation: Option<Rotation>,
    /// Those that are there, the present one last: sessions with their traces.
    kept: Vec<(String, PathBuf)>,
    /// How many there were in all.
    pub(super) count: u32,
    /// Session id of the first.
    first: String,
    /// The source was asked to tell all again, for the next one.
    asked: bool,
    /// Bytes that the present one had when all that lives was told in it.
    base: u64,
}

/// Where the trace of this number goes; the first of a recording that stays in one file is number 0.
pub(super) fn path_of_part(setup: &Setup, number: u32) -> Result<PathBuf> {
    let Some(path) = &setup.options.output else {
        return Ok(setup.options.home.trace(&setup.session));
    };
    let path = match number {
        0 => path.clone(),
        number => numbered(path, number),
    };
    std::path::absolute(&path).map_err(|e| Error::io(format!("find {}", path.display()), e))
}

/// `trace.0001.zst` of `trace.zst`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::new();
    match path.extension() {
        Some(extension) => {
            name.push(path.file_stem().unwrap_or_default());
            name.push(format!(".{number:04}."));
            name.push(extension);
        }
        None => {
            name.push(path.file_name().unwrap_or_default());
            name.push(format!(".{number:04}"));
        }
    }
    path.with_file_name(name)
}

impl Parts {
    pub(super) fn new(setup: &Setup, trace: &Path) -> Self {
        let rotation = setup.watch.as_ref().and_then(|watch| watch.rotation);
        Self {
            rotation,
            kept: vec![(setup.session.clone(), trace.to_owned())],
            count: 1,
            first: setup.session.clone(),
            asked: false,
            base: 0,
        }
    }

    /// The number of the present one; 0 where there is only one.
    pub(super) fn number(&self) -> u32 {
        if self.rotation.is_some() { self.count } else { 0 }
    }

    /// The first one's session, where this is another.
    pub(super) fn first(&self) -> Option<&str> {
        (self.count > 1).then_some(&self.first)
    }

    /// Whether one of so many bytes is to be the last that goes into the present one.
    fn is_full(&self, bytes: u64) -> bool {
        // What lives may take more than a file: then as much again is what happens.
        let full = |rotation: Rotation| bytes >= rotation.size.max(2 * self.base);
        !self.asked && self.rotation.is_some_and(full)
    }
}

impl Session {
    /// Asks for the next file once this one is full.
    pub(super) fn rotate_when_full(&mut self) {
        let bytes = self.output.any_writer().bytes_written();
        if self.parts.is_full(bytes)
            && self.output.failure.is_none()
            && let Some(control) = &self.control
        {
            self.parts.asked = true;
            control.tell_again();
        }
    }

    /// All that lives was told.
    pub(super) fn next_part_begun(&mut self) {
        let flushed = self.output.writer().map_or(Ok(()), agentrec_trace::Writer::flush);
        self.check(flushed);
        self.parts.asked = false;
        self.parts.base = self.output.any_writer().bytes_written();
    }

    /// Seals the present file and begins the next one: what comes now is all that lives.
    pub(super) fn rotate(&mut self) {
        if let Err(error) = self.begin_next_part() {
            let message = format!("cannot begin the next file: {}", chain(&error));
            self.end.get_or_insert(End::Failed(message));
        }
    }

    fn begin_next_part(&mut self) -> Result<()> {
        let session = new_session_id().map_err(|e| Error::io("make a session id", e))?;
        let former = std::mem::replace(&mut self.setup.session, session);
        // Before the present one is sealed: where there can't be a next one, that one has to say so.
        let next = path_of_part(&self.setup, self.parts.count + 1).and_then(|path| {
            let opened = TraceFile::create(&path, self.setup.options.overwrite)
                .and_then(Output::new)
                .map_err(crate::runtime::recorder_error)?;
            Ok((path.canonicalize().unwrap_or(path), opened))
        });
        let next_session = std::mem::replace(&mut self.setup.session, former);
        let (path, output) = next?;
        for event in self.terminal.finish(&self.redactor) {
            self.write(event);
        }
        self.seal(&End::Rotated);
        self.setup.session = next_session;
        self.trace_path = path;
        self.output = output;
        self.processes = Processes::default();
        self.outside = Outside::new(Vec::new());
        self.calls = HashMap::new();
        self.tools = Tools::default();
        self.servers.forget_events();
        self.changed.clear();
        self.started = Started { boottime: boottime(), wall: wall_clock(), command: true };
        self.parts.count += 1;
        self.parts.kept.push((self.setup.session.clone(), self.trace_path.clone()));
        let start = self.session_start(&mut Git::default(), Vec::new());
        self.write(Event::new(self.started.boottime, Source::Recorder, start));
        let entry = self.catalogue_entry();
        self.catalogue(&entry);
        self.remove_oldest();
        Ok(())
    }

    /// Removes files that this recording wrote, until no more are left than are to be kept.
    fn remove_oldest(&mut self) {
        let keep = self.parts.rotation.and_then(|rotation| rotation.keep).unwrap_or(usize::MAX);
        while self.parts.kept.len() > keep.max(1) {
            let (session, trace) = self.parts.kept.remove(0);
            if let Err(error) = std::fs::remove_file(&trace)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                let reason = format!("cannot remove {}: {error}", trace.display());
                self.lost("session", reason, None);
            }
            let catalogue = Catalogue::open(&self.setup.options.home);
            if let Err(error) = catalogue.and_then(|c| c.forget(&session)) {
                tracing::warn!(%error, "a file that was removed is in the catalogue");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_before_the_extension() {
        let numbered = |path: &str| numbered(Path::new(path), 7).display().to_string();
        assert_eq!(numbered("a/trace.zst"), "a/trace.0007.zst");
        assert_eq!(numbered("trace.tar.zst"), "trace.tar.0007.zst");
        assert_eq!(numbered("trace"), "trace.0007");
    }
}
