//! The walk over a tree: one directory after the other, deepest first, each ending in a tree object.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use agentrec_trace::ObjectId;
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, fstat};
use serde_bytes::ByteBuf;

use super::file::{Content, FileReader, Manner, Outcome};
use super::rules;
use super::sink::Sink;
use super::state::State;
use super::{Capture, CaptureOptions, FileId, dir, file_id};
use crate::cache::StatCache;
use crate::error::{Context, Result};
use crate::objects::Store;
use crate::secret_files;
use crate::tree::{Entry, Kind, LeftOut, MAX_DEPTH, Meta, Tree};

/// One walk.
pub(super) struct Walk<'a> {
    pub(super) reader: FileReader<'a, 'a>,
    pub(super) root: &'a Path,
    pub(super) seen_as: &'a Path,
    dev: u64,
    data_dir: Option<FileId>,
    options: &'a CaptureOptions,
    pub(super) state: State,
    files_read: u64,
}

/// A directory on the way: where it lies and what holds there.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    /// Relative to the root.
    pub(super) path: &'p Path,
    pub(super) depth: usize,
    pub(super) ignored: bool,
}

impl Place<'_> {
    /// The root.
    pub(super) fn root() -> Self {
        Self { path: Path::new(""), depth: 0, ignored: false }
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        (store, cache): (&'a Store, &'a mut StatCache),
        root: &'a Path,
        dir: &File,
        options: &'a CaptureOptions,
        state: State,
    ) -> Result<Self> {
        let dev = dir.metadata().context("read", root)?.dev();
        let data_dir = fs::metadata(store.data_dir()).ok();
        let sink = Sink::new(store, None);
        Ok(Self {
            reader: FileReader { sink, cache, busy: None },
            root,
            seen_as: options.seen_as(root),
            dev,
            data_dir: data_dir.map(|data| FileId { dev: data.dev(), ino: data.ino() }),
            options,
            state,
            files_read: 0,
        })
    }

    /// Walks from the root on.
    pub(super) fn root(&mut self, dir: &File) -> Result<()> {
        let names = dir::list(dir).context("list", self.root)?;
        self.state.tree = self.directory(dir, names, Place::root())?.0;
        Ok(())
    }

    /// Gives up.
    pub(super) fn into_cache(self) -> &'a mut StatCache {
        self.reader.cache
    }

    /// Puts everything on the disk.
    pub(super) fn finish(self, walked: bool) -> Result<(Capture, State)> {
        let added = self.reader.sink.commit()?;
        let state = self.state;
        let list = |set: &BTreeSet<PathBuf>| set.iter().cloned().collect();
        let capture = Capture {
            tree: state.tree,
            files: state.files,
            bytes: state.bytes,
            files_read: self.files_read,
            objects_added: added as u64,
            left_out: state.omissions(),
            torn: list(&state.torn),
            secrets: list(&state.secrets),
            ignored: list(&state.ignored),
            walked,
        };
        Ok((capture, state))
    }

    /// Captures an open directory with these names in it; returns its tree object and whether it is one that tools make again.
    pub(super) fn directory(
        &mut self,
        dir: &File,
        names: Vec<OsString>,
        place: Place<'_>,
    ) -> Result<(ObjectId, bool)> {
        let full = self.root.join(place.path);
        let stat = fstat(dir).context("read", &full)?;
        let mut meta = dir::meta(&stat);
        meta.xattrs = dir::xattrs(dir, &full);
        let seen = self.seen_as.join(place.path);
        // Before its own rules are taken up: whether git ignores a directory is said above it.
        let git_ignores = self.state.rules.git_ignores_dir(&seen);
        self.state.rules.enter(dir, &seen, |name| names.iter().any(|found| found == name));
        let derived = place.depth > 0
            && !place.ignored
            && (git_ignores || rules::is_derived(dir, &seen, &names));
        if derived {
            self.state.ignored.insert(place.path.to_owned());
        }
        let place = Place { ignored: place.ignored || derived, ..place };
        let mut entries = Vec::with_capacity(names.len());
        // Files that were read together with a database before their turn came.
        let mut early = HashMap::new();
        for name in names {
            if let Some(content) = early.remove(&name) {
                entries.push(self.file_entry(&name, &place.path.join(&name), content));
            } else if let Some(entry) = self.entry(dir, &name, place, &mut early)? {
                entries.push(entry);
            }
        }
        for (name, content) in early {
            entries.push(self.file_entry(&name, &place.path.join(&name), content));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.state.rules.leave();
        let id = self.reader.sink.put(Tree { meta, entries }.encode(), place.ignored)?;
        Ok((id, derived))
    }

    /// Captures one name; none where it is gone by now.
    pub(super) fn entry(
        &mut self,
        dir: &File,
        name: &OsStr,
        place: Place<'_>,
        early: &mut HashMap<OsString, Content>,
    ) -> Result<Option<Entry>> {
        let path = place.path.join(name);
        let full = self.root.join(&path);
        let stat = match dir::stat(dir, name) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok(None),
            // The directory was closed since it was listed: the names are all that can be had.
            Err(error) if dir::is_of_the_file(error) => {
                let name = ByteBuf::from(name.as_bytes().to_vec());
                let mut entry = Entry { name, ..Entry::default() };
                self.leave_out(&mut entry, path, LeftOut::Unreadable);
                return Ok(Some(entry));
            }
            Err(error) => return Err(error).context("read", &full),
        };
        let kind = dir::kind(&stat);
        let mut entry = Entry {
            name: ByteBuf::from(name.as_bytes().to_vec()),
            kind,
            meta: dir::meta(&stat),
            size: if kind == Kind::File { stat.st_size.unsigned_abs() } else { 0 },
            link: link_group(&stat),
            ..Entry::default()
        };
        if let Some(ino) = entry.link {
            self.state.links.add(ino, &path, stat.st_nlink);
        }
        if let Some(reason) = self.refusal(&stat, &path, kind, place.depth) {
            self.leave_out(&mut entry, path, reason);
            return Ok(Some(entry));
        }
        match kind {
            Kind::Dir => {
                let opened = dir::open(dir, name, true)
                    .and_then(|sub| dir::list(&sub).map(|names| (sub, names)));
                let reason = match opened {
                    Ok((sub, names)) => {
                        let (depth, ignored) = (place.depth + 1, place.ignored);
                        let inside = Place { path: &path, depth, ignored };
                        let (id, ignored) = self.directory(&sub, names, inside)?;
                        let (name, id) = (entry.name, Some(id));
                        return Ok(Some(Entry { name, kind, id, ignored, ..Entry::default() }));
                    }
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
                    Err(Errno::EXDEV) => LeftOut::OtherFileSystem,
                    Err(error) if dir::is_of_the_file(error) => LeftOut::Unreadable,
                    Err(error) => return Err(error).context("open", &full),
                };
                self.leave_out(&mut entry, path, reason);
                Ok(Some(entry))
            }
            Kind::Symlink => match readlinkat(dir, name) {
                Ok(target) => {
                    entry.target = Some(ByteBuf::from(target.into_encoded_bytes()));
                    Ok(Some(entry))
                }
                Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
                Err(error) => Err(error).context("read the link", &full),
            },
            Kind::File => {
                let secret = self.is_secret(&self.seen_as.join(&path));
                let manner = Manner {
                    trust: !self.options.distrust.contains(&file_id(&stat)),
                    local: secret || place.ignored,
                };
                let outcome = self.reader.read(dir, name, &full, stat, manner)?;
                let reason = match outcome {
                    Outcome::Kept(content, others) => {
                        early.extend(others);
                        return Ok(Some(self.file_entry(name, &path, *content)));
                    }
                    Outcome::Gone => return Ok(None),
                    Outcome::Unreadable => LeftOut::Unreadable,
                    Outcome::OtherFileSystem => LeftOut::OtherFileSystem,
                };
                self.leave_out(&mut entry, path, reason);
                Ok(Some(entry))
            }
            Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => Ok(Some(entry)),
        }
    }

    /// Why the content of an entry is not even to be looked at.
    pub(super) fn refusal(
        &mut self,
        stat: &FileStat,
        path: &Path,
        kind: Kind,
        depth: usize,
    ) -> Option<LeftOut> {
        let id = file_id(stat);
        if self.options.own.contains(&id) || self.data_dir == Some(id) {
            return Some(LeftOut::Recorder);
        }
        if self.state.rules.excludes(&self.seen_as.join(path), kind == Kind::Dir) {
            return Some(LeftOut::Excluded);
        }
        if kind == Kind::Dir {
            // Only for directories: overlayfs reports another device for some files.
            if stat.st_dev != self.dev {
                return Some(LeftOut::OtherFileSystem);
            }
            return (depth + 1 >= MAX_DEPTH).then_some(LeftOut::TooDeep);
        }
        if kind != Kind::File {
            return None;
        }
        let size = stat.st_size.unsigned_abs();
        let over = |limit: Option<u64>, size: u64| limit.is_some_and(|limit| size > limit);
        let capped = over(self.options.max_tree, self.state.bytes.saturating_add(size));
        self.state.capped |= capped;
        (capped || over(self.options.max_file, size)).then_some(LeftOut::TooLarge)
    }

    /// Whether its path alone says that a file holds secrets.
    fn is_secret(&self, seen: &Path) -> bool {
        secret_files::is_secret_path(seen) || self.options.secrets.has(seen)
    }

    fn leave_out(&mut self, entry: &mut Entry, path: PathBuf, reason: LeftOut) {
        if reason == LeftOut::Recorder {
            // It changes with everything that is written, and no snapshot is another for that.
            (entry.meta, entry.size) = (Meta::default(), 0);
        }
        entry.left_out = Some(reason);
        self.state.left_out.insert(path, (reason, entry.size));
    }

    /// The entry of a file that was read.
    pub(super) fn file_entry(&mut self, name: &OsStr, path: &Path, content: Content) -> Entry {
        self.state.files += 1;
        self.state.bytes = self.state.bytes.saturating_add(content.len);
        self.files_read += u64::from(content.read);
        if let Some(progress) = &self.options.progress {
            (progress.0)(self.state.files, self.state.bytes);
        }
        if let Some(ino) = link_group(&content.stat) {
            self.state.links.add(ino, path, content.stat.st_nlink);
        }
        let seen = self.seen_as.join(path);
        let mut entry = kept_file(name, &seen, content);
        entry.secret |= self.options.secrets.has(&seen);
        if entry.secret {
            self.state.secrets.insert(path.to_owned());
        }
        if entry.torn {
            self.state.torn.insert(path.to_owned());
        }
        entry
    }
}

/// The entry of a file that was read and whose absolute path is `path`.
pub(super) fn kept_file(name: &OsStr, path: &Path, content: Content) -> Entry {
    let mut meta = dir::meta(&content.stat);
    meta.xattrs = content.xattrs;
    Entry {
        name: ByteBuf::from(name.as_bytes().to_vec()),
        kind: Kind::File,
        meta,
        size: content.len,
        id: Some(content.id),
        link: link_group(&content.stat),
        // st_blocks counts units of 512 bytes, whatever the file system's block is (inode(7)).
        sparse: content.stat.st_blocks.unsigned_abs().saturating_mul(512) < content.len,
        secret: content.private_key || secret_files::is_secret_path(path),
        torn: content.torn,
        ..Entry::default()
    }
}

/// The number by which the names of one file recognise each other.
pub(super) fn link_group(stat: &FileStat) -> Option<u64> {
    (stat.st_nlink > 1 && dir::kind(stat) != Kind::Dir).then_some(stat.st_ino)
}
