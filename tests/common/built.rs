//! Traces that no recorder would write, put together by the library's writer.

use std::path::Path;

use agentrec_store::{Entry, Kind, Meta, Tree};
use agentrec_trace::event::{RootTree, SessionStart, SessionStop, SnapshotCreated};
use agentrec_trace::{
    Data, Event, ObjectHint, ObjectId, Seq, SnapshotIndex, Source, Writer, WriterOptions,
};

/// Where the only root is said to be.
pub const ROOT: &str = "/home/somebody/project";

/// A trace in the making; it has its `session.start`.
pub struct Built {
    pub writer: Writer<Vec<u8>>,
    pub ts: u64,
    snapshots: u32,
}

impl Built {
    pub fn new() -> Self {
        let writer = Writer::new(Vec::new(), WriterOptions::default()).expect("memory has room");
        let mut built = Self { writer, ts: 1_000_000, snapshots: 0 };
        built.event(SessionStart {
            session: "builtabc".into(),
            argv: vec![b"/usr/bin/agent"[..].into()],
            cwd: ROOT.into(),
            wall: 1_700_000_000_000_000_000,
            ..SessionStart::default()
        });
        built
    }

    pub fn event<'a>(&mut self, data: impl Into<Data<'a>>) -> Seq {
        self.ts += 1_000_000;
        let event = Event::new(self.ts, Source::Recorder, data);
        self.writer.append(&event).expect("memory has room")
    }

    pub fn object(&mut self, content: &[u8]) -> ObjectId {
        self.writer.put_object(content, ObjectHint::Single).expect("memory has room")
    }

    /// A file that is in the trace.
    pub fn file(&mut self, name: impl AsRef<[u8]>, content: &[u8]) -> Entry {
        let id = self.object(content);
        file(name, id, content.len() as u64)
    }

    pub fn tree(&mut self, entries: Vec<Entry>) -> ObjectId {
        let content = tree(entries).encode();
        self.object(&content)
    }

    pub fn dir(&mut self, name: impl AsRef<[u8]>, entries: Vec<Entry>) -> Entry {
        let id = self.tree(entries);
        Entry { kind: Kind::Dir, size: 0, ..file(name, id, 0) }
    }

    pub fn snapshot(&mut self, tree: ObjectId) {
        self.snapshot_of(vec![(ROOT, tree)]);
    }

    pub fn snapshot_of(&mut self, roots: Vec<(&str, ObjectId)>) {
        self.snapshots += 1;
        let root = |(path, tree): (&str, ObjectId)| RootTree {
            path: path.as_bytes().to_vec().into(),
            tree,
            ..RootTree::default()
        };
        self.event(SnapshotCreated {
            index: SnapshotIndex(self.snapshots),
            trigger: "command".into(),
            description: format!("step {}", self.snapshots).into(),
            roots: roots.into_iter().map(root).collect(),
            ..SnapshotCreated::default()
        });
    }

    /// Ends the trace and writes it.
    pub fn save(mut self, path: &Path) {
        self.event(SessionStop { reason: "exit".into(), code: Some(0), ..SessionStop::default() });
        self.writer.seal().expect("memory has room");
        std::fs::write(path, self.writer.into_inner()).expect("a file of ours");
    }
}

/// A file whose content may be nowhere.
pub fn file(name: impl AsRef<[u8]>, id: ObjectId, size: u64) -> Entry {
    let meta = Meta { mode: 0o644, ..Meta::default() };
    Entry { name: name.as_ref().to_vec().into(), meta, size, id: Some(id), ..Entry::default() }
}

pub fn symlink(name: impl AsRef<[u8]>, target: &str) -> Entry {
    let target = Some(target.as_bytes().to_vec().into());
    Entry { kind: Kind::Symlink, id: None, target, ..file(name, ObjectId::default(), 0) }
}

/// A tree with its entries in order.
pub fn tree(mut entries: Vec<Entry>) -> Tree {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Tree { meta: Meta { mode: 0o755, ..Meta::default() }, entries }
}
