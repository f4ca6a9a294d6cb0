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

use super::file::{self, Content, FileReader, Manner, Outcome};
use super::moved::AllMoved;
use super::rules;
use super::sink::Sink;
use super::state::State;
use super::still::{self, Still};
use super::{Capture, CaptureOptions, FileId, dir, file_id};
use crate::cache::{Folder, FolderWriter, Folders, Note, StatCache};
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
    /// The clock at the beginning, nanoseconds since 1970.
    began: i64,
    /// The same, less the time in which another change could go unnoticed.
    until: i64,
    /// Directories that are as they were, and whose objects are all there.
    still: Still,
    same: Vec<usize>,
    /// Directories that were read, for the cache.
    noted: Folders,
    /// Directories that have other names than at the last capture, and are not found yet.
    pub(super) moved: AllMoved,
}

/// A directory on the way: where it lies and what holds there.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    /// Relative to the root.
    pub(super) path: &'p Path,
    pub(super) depth: usize,
    pub(super) ignored: bool,
    /// So many directories on the way, after the root, are those of the last capture, with the rules that they had.
    pub(super) kept: usize,
}

/// An entry that was captured.
pub(super) struct Seen {
    pub(super) entry: Entry,
    /// By what it is known again; none where it has to be looked at each time.
    note: Option<Note>,
}

impl Seen {
    /// The entry, once it is noted.
    fn noted_in(self, folder: &mut FolderWriter) -> Entry {
        match &self.note {
            None => folder.unsettle(),
            Some(_) if self.entry.is_dir() => folder.add_directory(&self.entry.name),
            Some(note) => folder.add(&self.entry, note),
        }
        self.entry
    }
}

impl Place<'_> {
    /// The root.
    pub(super) fn root() -> Self {
        Self { path: Path::new(""), depth: 0, ignored: false, kept: 0 }
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
        let began = file::now();
        Ok(Self {
            reader: FileReader { sink, cache, busy: None },
            root,
            seen_as: options.seen_as(root),
            dev,
            data_dir: data_dir.map(|data| FileId { dev: data.dev(), ino: data.ino() }),
            options,
            state,
            files_read: 0,
            began,
            until: still::believed_until(began),
            still: Still::default(),
            same: Vec::new(),
            noted: Folders::default(),
            moved: AllMoved::new(),
        })
    }

    /// Walks from the root on.
    pub(super) fn root(&mut self, dir: &File) -> Result<()> {
        let context = self.context();
        let stock = self.reader.sink.stock()?;
        let cache = &mut *self.reader.cache;
        if cache.has_context(&context) {
            self.still = Still::find(dir, cache.folders(), self.options);
        }
        if !cache.stock().is_some_and(|known| stock.includes(known)) {
            self.still.check_objects();
        }
        self.state.tree = match self.as_it_was(Path::new(""))? {
            Some((tree, _)) => tree,
            None => {
                let stat = fstat(dir).context("read", self.root)?;
                let names = dir::list(dir).context("list", self.root)?;
                self.directory(dir, &stat, names, Place::root())?.0
            }
        };
        Ok(())
    }

    /// What decides about the whole tree and stands outside of it: with another one no directory is as it was.
    fn context(&self) -> [u8; 32] {
        let mut hasher = self.state.rules.context();
        let data_dir = self.data_dir.map(|id| (id.dev, id.ino));
        let limits = (self.options.max_file, self.options.max_tree);
        let text = format!("{:?} {:?} {} {}", data_dir, limits, self.dev, nix::unistd::geteuid());
        hasher.update(text.as_bytes());
        hasher.update(secret_files::lists(&self.options.secrets).as_bytes());
        // What decides about a directory is also the program.
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The tree object of a directory that is as it was with all below it, and whether tools make it again.
    fn as_it_was(&mut self, path: &Path) -> Result<Option<(ObjectId, bool)>> {
        let (Some(path), folders) = (still::noted(path), self.reader.cache.folders()) else {
            return Ok(None);
        };
        let Some(index) = folders.find(path).filter(|index| self.still.is_whole(*index)) else {
            return Ok(None);
        };
        let all: Vec<_> = folders.below(path).collect();
        let (mut files, mut bytes) = (self.state.files, self.state.bytes);
        for folder in all.iter().filter_map(|index| folders.get(*index)) {
            if self.still.checks_objects() && !self.has_objects(&folder)? {
                return Ok(None);
            }
            files += folder.files;
            bytes = bytes.saturating_add(folder.bytes);
        }
        if self.options.max_tree.is_some_and(|max| bytes > max) {
            return Ok(None);
        }
        (self.state.files, self.state.bytes) = (files, bytes);
        if let Some(progress) = &self.options.progress {
            (progress.0)(files, bytes);
        }
        for folder in all.iter().filter_map(|index| folders.get(*index)) {
            self.state.note(&folder);
        }
        self.same.extend(all);
        Ok(folders.get(index).map(|folder| (folder.tree, folder.is_derived())))
    }

    fn has_objects(&self, folder: &Folder<'_>) -> Result<bool> {
        let contents = folder.items().filter_map(|item| item.content());
        for id in contents.chain([folder.tree]) {
            if !self.reader.sink.contains(&id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives up.
    pub(super) fn into_cache(self) -> &'a mut StatCache {
        self.reader.cache
    }

    /// Puts everything on the disk.
    pub(super) fn finish(self, walked: bool) -> Result<(Capture, State)> {
        let added = if walked {
            let context = self.context();
            let (added, stock) = self.reader.sink.commit_and_list()?;
            self.reader.cache.replace(context, stock, &self.same, &self.noted);
            added
        } else {
            self.reader.sink.commit()?
        };
        let mut state = self.state;
        state.began = self.began;
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

    /// Captures an open directory that had these attributes, and then these names in it; returns its tree object and whether
    /// it is one that tools make again.
    pub(super) fn directory(
        &mut self,
        dir: &File,
        stat: &FileStat,
        names: Vec<OsString>,
        place: Place<'_>,
    ) -> Result<(ObjectId, bool)> {
        let full = self.root.join(place.path);
        let noted = still::noted(place.path);
        self.reader.cache.open(stat);
        let mut folder = FolderWriter::new(stat, self.until);
        let exclude =
            names.iter().any(|name| name == ".git").then(|| still::exclude_until(dir, self.until));
        let mut meta = dir::meta(stat);
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
            let seen = match early.remove(&name) {
                Some(content) => Some(self.file_entry(&name, &place.path.join(&name), content)),
                None => self.entry(dir, &name, place, &mut early)?,
            };
            match seen {
                Some(seen) => entries.push(seen.noted_in(&mut folder)),
                // It went after the names were read.
                None => folder.unsettle(),
            }
        }
        for (name, content) in early {
            let seen = self.file_entry(&name, &place.path.join(&name), content);
            entries.push(seen.noted_in(&mut folder));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.state.rules.leave();
        let id = self.reader.sink.put(Tree { meta, entries }.encode(), place.ignored)?;
        self.state.inodes.insert(id, stat.st_ino);
        self.state.deepest = self.state.deepest.max(place.depth);
        if let Some(path) = noted {
            self.noted.push(|out| folder.finish(path, id, derived, exclude, out));
        }
        Ok((id, derived))
    }

    /// Captures one name; none where it is gone by now.
    pub(super) fn entry(
        &mut self,
        dir: &File,
        name: &OsStr,
        place: Place<'_>,
        early: &mut HashMap<OsString, Content>,
    ) -> Result<Option<Seen>> {
        let path = place.path.join(name);
        let full = self.root.join(&path);
        let stat = match dir::stat(dir, name) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok(None),
            // The directory was closed since it was listed: the names are all that can be had.
            Err(error) if dir::is_of_the_file(error) => {
                let name = ByteBuf::from(name.as_bytes().to_vec());
                let entry = Entry { name, ..Entry::default() };
                return Ok(Some(self.leave_out(entry, path, LeftOut::Unreadable)));
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
            return Ok(Some(self.leave_out(entry, path, reason)));
        }
        let note = Note::of(&stat);
        match kind {
            Kind::Dir => {
                let captured = |(id, ignored)| {
                    let (name, id) = (entry.name.clone(), Some(id));
                    let entry = Entry { name, kind, id, ignored, ..Entry::default() };
                    Seen { entry, note: Some(note) }
                };
                if let Some(known) = self.as_it_was(&path)? {
                    return Ok(Some(captured(known)));
                }
                if let Some(known) = self.moved_here(dir, &stat, &path, place)? {
                    return Ok(Some(captured(known)));
                }
                let opened = dir::open(dir, name, true).and_then(|sub| {
                    let (stat, names) = (fstat(&sub)?, dir::list(&sub)?);
                    Ok((sub, stat, names))
                });
                let reason = match opened {
                    Ok((sub, stat, names)) => {
                        let (depth, ignored) = (place.depth + 1, place.ignored);
                        let inside = Place { path: &path, depth, ignored, ..place };
                        return Ok(Some(captured(self.directory(&sub, &stat, names, inside)?)));
                    }
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
                    Err(Errno::EXDEV) => LeftOut::OtherFileSystem,
                    Err(error) if dir::is_of_the_file(error) => LeftOut::Unreadable,
                    Err(error) => return Err(error).context("open", &full),
                };
                Ok(Some(self.leave_out(entry, path, reason)))
            }
            Kind::Symlink => match readlinkat(dir, name) {
                Ok(target) => {
                    entry.target = Some(ByteBuf::from(target.into_encoded_bytes()));
                    Ok(Some(Seen { entry, note: Some(note) }))
                }
                Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
                Err(error) => Err(error).context("read the link", &full),
            },
            Kind::File => {
                let secret = self.is_secret(&self.seen_as.join(&path));
                let trust = !self.options.distrust.contains(&file_id(&stat));
                let manner = Manner { trust, local: secret || place.ignored };
                let outcome = self.reader.read(dir, name, &full, stat, manner)?;
                let reason = match outcome {
                    Outcome::Kept(content, others) => {
                        early.extend(others);
                        let seen = self.file_entry(name, &path, *content);
                        return Ok(Some(Seen { note: seen.note.filter(|_| trust), ..seen }));
                    }
                    Outcome::Gone => return Ok(None),
                    Outcome::Unreadable => LeftOut::Unreadable,
                    Outcome::OtherFileSystem => LeftOut::OtherFileSystem,
                };
                Ok(Some(self.leave_out(entry, path, reason)))
            }
            Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => {
                Ok(Some(Seen { entry, note: Some(note) }))
            }
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

    fn leave_out(&mut self, mut entry: Entry, path: PathBuf, reason: LeftOut) -> Seen {
        if reason == LeftOut::Recorder {
            // It changes with everything that is written, and no snapshot is another for that.
            (entry.meta, entry.size) = (Meta::default(), 0);
        }
        entry.left_out = Some(reason);
        self.state.left_out.insert(path, (reason, entry.size));
        Seen { entry, note: None }
    }

    /// The entry of a file that was read.
    pub(super) fn file_entry(&mut self, name: &OsStr, path: &Path, content: Content) -> Seen {
        self.state.files += 1;
        self.state.bytes = self.state.bytes.saturating_add(content.len);
        self.files_read += u64::from(content.read);
        if let Some(progress) = &self.options.progress {
            (progress.0)(self.state.files, self.state.bytes);
        }
        if let Some(ino) = link_group(&content.stat) {
            self.state.links.add(ino, path, content.stat.st_nlink);
        }
        let Content { private_key, sqlite, .. } = content;
        let note = Note { private_key, sqlite, ..Note::of(&content.stat) };
        let seen = self.seen_as.join(path);
        let mut entry = kept_file(name, &seen, content);
        entry.secret |= self.options.secrets.has(&seen);
        if entry.secret {
            self.state.secrets.insert(path.to_owned());
        }
        if entry.torn {
            self.state.torn.insert(path.to_owned());
        }
        Seen { note: Some(note).filter(|_| !entry.torn), entry }
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
