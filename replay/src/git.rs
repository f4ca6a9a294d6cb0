//! Snapshots as commits, for git-fast-import(1): of each only what changed since the one before.

mod names;
mod stream;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use agentrec_store::{Entry, Error as StoreError, Kind, LeftOut, Objects, Tree, TreeBudget};
use agentrec_trace::{ObjectId, SnapshotIndex};

use crate::error::{Error, Result};
use names::Obstacle;
use stream::{Stream, quoted};

/// Of what a commit lacks, so much stands in its message.
const LISTED: usize = 50;

/// A snapshot that becomes a commit.
#[derive(Clone, Debug)]
pub struct GitCommit {
    /// Its number.
    pub index: SnapshotIndex,
    /// Its trees, by the paths of their roots.
    pub roots: Vec<(PathBuf, ObjectId)>,
    /// When, seconds since 1970, and the offset of the time zone, seconds east of UTC.
    pub time: (i64, i32),
    /// The first line, and what follows before the trailers.
    pub message: String,
    /// Trailers as name and value.
    pub trailers: Vec<(&'static str, String)>,
}

/// Where the commits go.
#[derive(Clone, Debug)]
pub struct GitRefs {
    /// The branch, whole: `refs/heads/…`.
    pub branch: String,
    /// What stands before `s1`, `s2`, …: `refs/tags/`.
    pub tags: String,
    /// Who did it.
    pub author: String,
}

/// Why an entry of a snapshot is not in its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitLack {
    /// It is, or somewhere means, `.git`.
    DotGit,
    /// One of git's own files that git would refuse, or a name that stands for one elsewhere.
    GitFile,
    /// A secret file: its content stays in the store.
    Secret,
    /// An empty directory.
    EmptyDirectory,
    /// A FIFO, a socket, a device.
    NotAFile,
    /// The snapshot does not have it.
    LeftOut(LeftOut),
    /// Neither the trace nor the store has it.
    Missing,
}

impl GitLack {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DotGit => "git's own, which git can't hold",
            Self::GitFile => "git would refuse it",
            Self::Secret => "secret",
            Self::EmptyDirectory => "an empty directory, which git can't hold",
            Self::NotAFile => "not a file, a link or a directory",
            Self::LeftOut(why) => why.as_str(),
            Self::Missing => "not whole in the trace, nor in this machine's store",
        }
    }
}

/// What was told to git.
#[derive(Clone, Debug, Default)]
pub struct GitExported {
    /// Commits.
    pub commits: u64,
    /// What they lack, each path once, with the first snapshot where it is so.
    pub lacks: BTreeMap<PathBuf, (SnapshotIndex, GitLack)>,
}

/// Commits in the making.
pub struct GitProjection<'a, W> {
    objects: &'a dyn Objects,
    stream: Stream<W>,
    refs: GitRefs,
    /// Directory of each root in the commits, with a slash at its end; empty where there is only one.
    roots: Vec<(PathBuf, Vec<u8>)>,
    /// The tree that git has of each root.
    last: HashMap<PathBuf, ObjectId>,
    parent: Option<u64>,
    allow_missing: bool,
    exported: GitExported,
    budget: TreeBudget,
    /// Of the commit that is being made.
    changes: Vec<Vec<u8>>,
    lacking: Vec<(PathBuf, GitLack)>,
    index: SnapshotIndex,
}

impl<'a, W: Write> GitProjection<'a, W> {
    /// Begins a stream. `roots` are those of all snapshots: several of them become directories.
    pub fn begin(
        objects: &'a dyn Objects,
        out: W,
        refs: GitRefs,
        roots: &[PathBuf],
        allow_missing: bool,
    ) -> Result<Self> {
        let mut stream = Stream::new(out);
        stream.write(b"feature done\n")?;
        Ok(Self {
            objects,
            stream,
            refs,
            roots: directories(roots),
            last: HashMap::new(),
            parent: None,
            allow_missing,
            exported: GitExported::default(),
            budget: TreeBudget::default(),
            changes: Vec::new(),
            lacking: Vec::new(),
            index: SnapshotIndex(0),
        })
    }

    /// Adds a commit.
    ///
    /// # Errors
    /// Where a content is nowhere, unless that is allowed, and where git does not listen.
    pub fn commit(&mut self, commit: &GitCommit) -> Result<()> {
        self.index = commit.index;
        self.budget = TreeBudget::default();
        let mut gone = std::mem::take(&mut self.last);
        for (root, prefix) in self.roots.clone() {
            let before = gone.remove(&root);
            match commit.roots.iter().find(|(path, _)| *path == root) {
                Some((_, tree)) => {
                    self.directory(before, *tree, &prefix, &root, 0)?;
                    self.last.insert(root, *tree);
                }
                None if before.is_some() => self.delete(&prefix),
                None => {}
            }
        }
        self.write(commit)?;
        self.exported.commits += 1;
        Ok(())
    }

    /// Ends the stream.
    pub fn finish(self) -> Result<(GitExported, W)> {
        Ok((self.exported, self.stream.finish()?))
    }

    fn write(&mut self, commit: &GitCommit) -> Result<()> {
        let lacking = std::mem::take(&mut self.lacking);
        let message = message(commit, &lacking);
        for (path, lack) in lacking {
            self.exported.lacks.entry(path).or_insert((commit.index, lack));
        }
        let mark = self.stream.next_mark();
        let (seconds, offset) = commit.time;
        // git refuses times before 1970 and zones that are none.
        let minutes = offset.clamp(-14 * 3600, 14 * 3600) / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
        let time = format!("{} {sign}{hours:02}{rest:02}", seconds.max(0));
        let GitRefs { branch, tags, author } = &self.refs;
        let head = format!(
            "commit {branch}\nmark :{mark}\nauthor {author} {time}\ncommitter {author} {time}\n"
        );
        let tag = format!("reset {tags}{}\nfrom :{mark}\n\n", commit.index);
        self.stream.write(head.as_bytes())?;
        self.stream.data(message.as_bytes())?;
        match self.parent {
            Some(parent) => self.stream.write(format!("from :{parent}\n").as_bytes())?,
            // The branch may be there already, from an earlier export: this is its beginning again.
            None => self.stream.write(b"deleteall\n")?,
        }
        for change in std::mem::take(&mut self.changes) {
            self.stream.write(&change)?;
        }
        self.stream.write(b"\n")?;
        self.parent = Some(mark);
        self.stream.write(tag.as_bytes())
    }

    /// Tells the differences between two trees at one place.
    fn directory(
        &mut self,
        before: Option<ObjectId>,
        after: ObjectId,
        prefix: &[u8],
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        if before == Some(after) {
            return Ok(());
        }
        let tree = match self.budget.load(self.objects, after, depth) {
            Err(StoreError::Missing(_) | StoreError::Corrupt(_)) => {
                self.delete(prefix);
                return self.missing(path);
            }
            Err(source @ StoreError::InvalidTree { .. }) if !self.allow_missing => {
                let (snapshot, path) = (self.index, path.to_owned());
                return Err(Error::NoDirectory { snapshot, path, source: source.into() });
            }
            Err(StoreError::InvalidTree { .. }) => {
                self.delete(prefix);
                return self.missing(path);
            }
            tree => tree?,
        };
        // One that can't be read is not what git has either.
        let before = before.map(|id| Tree::load(self.objects, id)).and_then(Result::ok);
        let mut before = before.unwrap_or_default().entries.into_iter().peekable();
        for entry in &tree.entries {
            while let Some(gone) = before.next_if(|old| old.name < entry.name) {
                self.delete(&[prefix, &gone.name].concat());
            }
            let old = before.next_if(|old| old.name == entry.name);
            self.entry(old.as_ref(), entry, prefix, &path.join(entry.os_name()), depth)?;
        }
        for gone in before {
            self.delete(&[prefix, &gone.name].concat());
        }
        if tree.entries.is_empty() && depth > 0 {
            self.lack(path, GitLack::EmptyDirectory);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        old: Option<&Entry>,
        entry: &Entry,
        prefix: &[u8],
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        if old.is_some_and(|old| is_same(old, entry)) {
            return Ok(());
        }
        let name = [prefix, &entry.name].concat();
        let old_tree = old.and_then(|old| old.id.filter(|_| old.kind == Kind::Dir));
        if old.is_some() && !(old_tree.is_some() && entry.kind == Kind::Dir) {
            self.delete(&name);
        }
        let lack = match (names::obstacle(&entry.name, entry.kind == Kind::Symlink), entry) {
            (Some(Obstacle::DotGit), _) => GitLack::DotGit,
            (Some(Obstacle::GitFile), _) => GitLack::GitFile,
            (None, Entry { left_out: Some(why), .. }) => GitLack::LeftOut(*why),
            (None, Entry { secret: true, .. }) => GitLack::Secret,
            (None, Entry { kind: Kind::Dir, id: Some(id), .. }) => {
                let inside = [&name, &b"/"[..]].concat();
                return self.directory(old_tree, *id, &inside, path, depth + 1);
            }
            (None, Entry { kind: Kind::File, id: Some(id), .. }) => {
                return self.file(id, entry, &name, path);
            }
            (None, Entry { kind: Kind::Symlink, target: Some(target), .. }) => {
                let mark = self.stream.link(target)?;
                self.modify("120000", mark, &name);
                return Ok(());
            }
            _ => GitLack::NotAFile,
        };
        self.lack(path, lack);
        Ok(())
    }

    fn file(&mut self, id: &ObjectId, entry: &Entry, name: &[u8], path: &Path) -> Result<()> {
        if names::is_judged_by_content(&entry.name)
            && let Ok(Some(content)) = self.objects.get(id)
            && names::content_obstacle(&entry.name, &content).is_some()
        {
            self.lack(path, GitLack::GitFile);
            return Ok(());
        }
        match self.stream.blob(self.objects, id, entry.size)? {
            Some(mark) => {
                let mode = if entry.meta.mode & 0o100 != 0 { "100755" } else { "100644" };
                self.modify(mode, mark, name);
                Ok(())
            }
            None => self.missing(path),
        }
    }

    fn modify(&mut self, mode: &str, mark: u64, name: &[u8]) {
        let line = [format!("M {mode} :{mark} ").as_bytes(), &quoted(name), b"\n"].concat();
        self.changes.push(line);
    }

    /// Of what git never had it takes no notice.
    fn delete(&mut self, name: &[u8]) {
        let line = match name.strip_suffix(b"/").unwrap_or(name) {
            b"" => b"deleteall\n".to_vec(),
            name => [b"D ", quoted(name).as_slice(), b"\n"].concat(),
        };
        self.changes.push(line);
    }

    fn lack(&mut self, path: &Path, lack: GitLack) {
        self.lacking.push((path.to_owned(), lack));
    }

    fn missing(&mut self, path: &Path) -> Result<()> {
        if !self.allow_missing {
            let (snapshot, path) = (self.index, path.to_owned());
            return Err(Error::NotHere { snapshot, path, others: 0 });
        }
        self.lack(path, GitLack::Missing);
        Ok(())
    }
}

/// Whether git would see no difference.
fn is_same(old: &Entry, entry: &Entry) -> bool {
    let executable = |entry: &Entry| entry.kind == Kind::File && entry.meta.mode & 0o100 != 0;
    (old.kind, old.id, &old.target, old.secret, old.left_out)
        == (entry.kind, entry.id, &entry.target, entry.secret, entry.left_out)
        && executable(old) == executable(entry)
}

/// Where each root goes. Several are told apart by their last names, and by numbers where those are the same.
fn directories(roots: &[PathBuf]) -> Vec<(PathBuf, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt;
    if let [only] = roots {
        return vec![(only.clone(), Vec::new())];
    }
    let mut taken: Vec<Vec<u8>> = Vec::new();
    for root in roots {
        let name = root.file_name().map_or(&b"root"[..], OsStrExt::as_bytes);
        let name = if names::obstacle(name, true).is_some() { b"root" } else { name };
        let numbered = |n: usize| match n {
            1 => [name, b"/"].concat(),
            _ => [name, format!("-{n}/").as_bytes()].concat(),
        };
        let free = (1..).map(numbered).find(|name| !taken.contains(name));
        taken.extend(free);
    }
    roots.iter().cloned().zip(taken).collect()
}

/// The message with its trailers, the last paragraph. git refuses a NUL, and lines must not end early.
fn message(commit: &GitCommit, lacking: &[(PathBuf, GitLack)]) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = commit.message.replace('\0', "").trim_end().to_owned();
    text.push_str("\n\n");
    let mut trailer = |name: &str, value: &str| {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        text.push_str(&format!("{name}: {value}\n"));
    };
    for (name, value) in &commit.trailers {
        trailer(name, value);
    }
    for (path, lack) in lacking.iter().take(LISTED) {
        let path = path.as_os_str().as_bytes().escape_ascii();
        trailer("Agentrec-Left-Out", &format!("{path} ({})", lack.as_str()));
    }
    if let Some(more) = lacking.len().checked_sub(LISTED).filter(|more| *more > 0) {
        trailer("Agentrec-Left-Out", &format!("{more} more"));
    }
    text
}
