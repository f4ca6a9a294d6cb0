//! A data directory, a root, and traces with snapshots of it, as a recorder would leave them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use agentrec_replay::undo::{Done, Scope, Target, carry_out, plan_in_place, reverse};
use agentrec_replay::{ApplyPlan, MissingReason, Only, Sources};
use agentrec_store::{
    Capture, CaptureOptions, Home, Objects, Operation, Operations, StatCache, Store, capture_tree,
    new_objects,
};
use agentrec_trace::event::{Payload, RootTree, SessionStart, SnapshotCreated};
use agentrec_trace::{
    Event, ObjectHint, ObjectId, Reader, SnapshotIndex, Source, Value, Writer, WriterOptions,
};
use tempfile::TempDir;

pub struct Fixture {
    pub dir: TempDir,
    pub home: Home,
    pub store: Store,
    pub root: PathBuf,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        let store = Store::open(&home).unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        Self { dir, home, store, root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        write(&self.root.join(path), content);
    }

    pub fn capture(&self) -> Capture {
        self.capture_at(&self.root)
    }

    pub fn capture_at(&self, root: &Path) -> Capture {
        let options = CaptureOptions { seen_as: self.root.clone(), ..CaptureOptions::default() };
        capture_tree(&self.store, root, &options, &mut StatCache::in_memory()).unwrap()
    }

    /// A trace in a file with one snapshot for each tree.
    pub fn trace(&self, name: &str, session: &TestSession, trees: &[ObjectId]) -> Reader {
        let path = self.path(name);
        let file = fs::File::create(&path).unwrap();
        let mut writer = Writer::new(file, WriterOptions::default()).unwrap();
        writer.append(&Event::new(1, Source::Recorder, session.start(&self.root))).unwrap();
        for (index, tree) in trees.iter().enumerate() {
            if session.with_contents {
                for object in new_objects(&self.store, None, *tree).unwrap() {
                    if !object.secret && !object.ignored {
                        let content = self.store.get(&object.id).unwrap().unwrap();
                        writer.put_object(&content, ObjectHint::Single).unwrap();
                    }
                }
            }
            let snapshot = session.snapshot(index as u32 + 1, &self.root, *tree);
            writer.append(&Event::new(2, Source::Recorder, snapshot)).unwrap();
        }
        writer.seal().unwrap();
        Reader::open(path).unwrap()
    }
}

/// What a restore in place did.
pub struct WentBack {
    pub saved: ObjectId,
    pub done: Done,
}

impl WentBack {
    /// What is not as it should be, relative to `root`.
    pub fn missing<'a>(&'a self, root: &Path) -> Vec<(&'a str, MissingReason)> {
        let name = |path: &'a Path| path.strip_prefix(root).unwrap().to_str().unwrap();
        self.done.missing.iter().map(|m| (name(&m.path), m.reason)).collect()
    }
}

/// Restores `tree` in place.
pub fn go_back(
    home: &Home,
    reader: &Reader,
    tree: ObjectId,
    root: &Path,
    only: Option<&Only>,
    options: &CaptureOptions,
) -> WentBack {
    let store = Store::open(home).unwrap();
    let log = Operations::open(home).unwrap();
    let sources = Sources::new(reader, Some(&store));
    let target = Target { root: root.to_owned(), tree, options: options.clone() };
    let planned = plan_in_place(&store, home, &sources, &[target], only).unwrap();
    let operation = Operation::default();
    let done = carry_out(&store, &log, &sources, planned.plan, operation, None).unwrap();
    WentBack { saved: planned.saved[0], done }
}

/// Brings the changes of a copy home.
pub fn bring_home(home: &Home, plan: &ApplyPlan, overwrite: bool) -> Done {
    let store = Store::open(home).unwrap();
    let log = Operations::open(home).unwrap();
    let changes = plan.changes(&store, overwrite).unwrap();
    let sources = Sources::store(&store);
    carry_out(&store, &log, &sources, changes, Operation::default(), None).unwrap()
}

/// Takes the operation `id` back.
pub fn take_back(home: &Home, id: u64) -> Done {
    let store = Store::open(home).unwrap();
    let (logged, _) = Operations::list(home).unwrap();
    let logged = logged.into_iter().find(|logged| logged.id == id).unwrap();
    let plan = reverse(&store, &logged, Scope::default()).unwrap();
    assert_eq!(plan.conflicts, []);
    let operation = Operation { reverses: Some(id), ..Operation::default() };
    let log = Operations::open(home).unwrap();
    carry_out(&store, &log, &Sources::store(&store), plan, operation, None).unwrap()
}

/// What a trace says of its session.
pub struct TestSession {
    pub id: &'static str,
    pub argv: Vec<&'static str>,
    pub env: Vec<(&'static str, &'static str)>,
    /// Whether the trace holds the contents of its trees.
    pub with_contents: bool,
}

impl Default for TestSession {
    fn default() -> Self {
        Self {
            id: "parentaa",
            argv: vec!["true"],
            env: vec![("PATH", "/usr/bin:/bin")],
            with_contents: false,
        }
    }
}

impl TestSession {
    fn start(&self, root: &Path) -> SessionStart<'static> {
        SessionStart {
            session: self.id.into(),
            cwd: root.as_os_str().as_bytes().to_vec().into(),
            argv: self.argv.iter().map(|argument| (*argument).into()).collect(),
            env: self.env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..SessionStart::default()
        }
    }

    fn snapshot(&self, index: u32, root: &Path, tree: ObjectId) -> SnapshotCreated<'static> {
        let path = root.as_os_str().as_bytes().to_vec().into();
        SnapshotCreated {
            index: SnapshotIndex(index),
            roots: vec![RootTree { path, tree, ..RootTree::default() }],
            messages: Payload::Inline(Value::Array(vec![Value::from("hello")])),
            model: Some("scripted".into()),
            ..SnapshotCreated::default()
        }
    }
}

pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Everything about one entry that a restore must bring back.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: &'static str,
    pub mode: u32,
    pub mtime: (i64, i64),
    pub owner: (u32, u32),
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same inode.
    pub same_file_as: PathBuf,
}

/// What is below `root`, read with nothing but the standard library and `listxattr`.
pub fn look(root: &Path) -> BTreeMap<PathBuf, Found> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    look_at(root, Path::new(""), &mut inodes, &mut found);
    found
}

fn look_at(
    root: &Path,
    path: &Path,
    inodes: &mut BTreeMap<u64, PathBuf>,
    found: &mut BTreeMap<PathBuf, Found>,
) {
    let full = root.join(path);
    let metadata = fs::symlink_metadata(&full).unwrap();
    let kind = metadata.file_type();
    let (kind, content) = if kind.is_dir() {
        ("dir", Vec::new())
    } else if kind.is_symlink() {
        ("symlink", fs::read_link(&full).unwrap().into_os_string().into_encoded_bytes())
    } else if kind.is_fifo() {
        ("fifo", Vec::new())
    } else {
        ("file", fs::read(&full).unwrap())
    };
    let attribute = |name: &OsStr| {
        let value = xattr::get(&full, name).unwrap().unwrap();
        (name.as_bytes().to_vec(), value)
    };
    let xattrs = match kind {
        "file" | "dir" => xattr::list(&full)
            .unwrap()
            .filter(|name| name.as_bytes().starts_with(b"user."))
            .map(|name| attribute(&name))
            .collect(),
        _ => BTreeMap::new(),
    };
    let same_file_as = match kind {
        "dir" => path.to_owned(),
        _ => inodes.entry(metadata.ino()).or_insert_with(|| path.to_owned()).clone(),
    };
    found.insert(
        path.to_owned(),
        Found {
            kind,
            mode: metadata.mode() & 0o7777,
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            owner: (metadata.uid(), metadata.gid()),
            content,
            xattrs,
            same_file_as,
        },
    );
    if kind == "dir" {
        let mut names: Vec<_> =
            fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            look_at(root, &path.join(name), inodes, found);
        }
    }
}
