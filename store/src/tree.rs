//! File trees as objects: one per directory, each naming its files' contents and its subdirectories' trees by hash.
//!
//! A directory that did not change keeps its object, so a snapshot adds only the directories on the way to what
//! changed. The encoding is MessagePack with field names; defaults are left out. Whoever decodes a tree can rely on
//! names that are single components, each once, and on contents where the kind asks for them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use agentrec_trace::ObjectId;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::error::{Error, Result};
use crate::objects::Objects;

/// Directories nested deeper than this below a root are left out.
pub const MAX_DEPTH: usize = 256;

/// A directory: its own attributes and what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tree {
    /// The directory's own attributes.
    pub meta: Meta,
    /// Its entries, by name in byte order.
    pub entries: Vec<Entry>,
}

/// What every kind of file has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Permission bits with set-uid, set-gid and sticky, without the type.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: u32,
    /// Modification time, nanoseconds since 1970.
    #[serde(skip_serializing_if = "is_default")]
    pub mtime: i64,
    /// Owner.
    #[serde(skip_serializing_if = "is_default")]
    pub uid: u32,
    /// Group.
    #[serde(skip_serializing_if = "is_default")]
    pub gid: u32,
    /// Extended attributes: `user.*`, access control lists and capabilities.
    #[serde(skip_serializing_if = "is_default")]
    pub xattrs: Vec<(ByteBuf, ByteBuf)>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket: listed, never restored.
    Socket,
    /// A character device: listed, never restored.
    Char,
    /// A block device: listed, never restored.
    Block,
}

/// Why the content of an entry was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOut {
    /// It lies on another file system.
    OtherFileSystem,
    /// The recorder may not read it.
    Unreadable,
    /// The user's ignore file or a `--exclude` names it.
    Excluded,
    /// It is larger than the limit for one file, or the tree's limit was reached.
    TooLarge,
    /// It lies too deep.
    TooDeep,
    /// It belongs to the recorder: its data directory or the trace itself.
    Recorder,
}

impl LeftOut {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherFileSystem => "on another file system",
            Self::Unreadable => "not readable",
            Self::Excluded => "excluded",
            Self::TooLarge => "too large",
            Self::TooDeep => "too deep",
            Self::Recorder => "belongs to the recorder",
        }
    }
}

/// One name in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The name: one path component.
    pub name: ByteBuf,
    /// What it is.
    pub kind: Kind,
    /// Its attributes; for a directory whose tree was kept they stand in that tree instead.
    #[serde(skip_serializing_if = "is_default")]
    pub meta: Meta,
    /// A file's length in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub size: u64,
    /// A file's content or a directory's tree; absent where it was left out, and for other kinds.
    #[serde(skip_serializing_if = "is_default")]
    pub id: Option<ObjectId>,
    /// What a symbolic link holds.
    #[serde(skip_serializing_if = "is_default")]
    pub target: Option<ByteBuf>,
    /// Files of a tree with the same number are one file with several names.
    #[serde(skip_serializing_if = "is_default")]
    pub link: Option<u64>,
    /// The file has holes.
    #[serde(skip_serializing_if = "is_default")]
    pub sparse: bool,
    /// The file holds secrets: its content never leaves the local store.
    #[serde(skip_serializing_if = "is_default")]
    pub secret: bool,
    /// What git ignores and tools make again (`node_modules`, environments): nothing below it goes into a trace.
    #[serde(skip_serializing_if = "is_default")]
    pub ignored: bool,
    /// The file changed while it was read: the content is a mixture.
    #[serde(skip_serializing_if = "is_default")]
    pub torn: bool,
    /// Why there is no content.
    #[serde(skip_serializing_if = "is_default")]
    pub left_out: Option<LeftOut>,
}

impl Tree {
    /// The object's content.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a tree has no value that MessagePack lacks")
    }

    /// Decodes and checks the tree object `id`, whose content is `bytes`.
    pub fn decode(id: ObjectId, bytes: &[u8]) -> Result<Self> {
        let invalid = |reason: String| Error::InvalidTree { id, reason };
        let tree: Self =
            rmp_serde::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        for entry in &tree.entries {
            entry.validate().map_err(|reason| {
                invalid(format!("entry `{}`: {reason}", entry.name.escape_ascii()))
            })?;
        }
        match tree.entries.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            Some(pair) => {
                let name = pair[1].name.escape_ascii();
                Err(invalid(format!("entry `{name}`: there twice or out of order")))
            }
            None => Ok(tree),
        }
    }

    /// Reads the tree object `id`.
    pub fn load(objects: &dyn Objects, id: ObjectId) -> Result<Self> {
        let bytes = objects.get(&id)?.ok_or(Error::Missing(id))?;
        Self::decode(id, &bytes)
    }

    /// The entry with this name.
    pub fn entry(&self, name: &[u8]) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)).ok()?;
        Some(&self.entries[found])
    }
}

impl Entry {
    /// The name for the file system.
    pub fn os_name(&self) -> &OsStr {
        OsStr::from_bytes(&self.name)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }

    fn validate(&self) -> Result<(), &'static str> {
        let name = self.name.as_slice();
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.contains(&0) {
            return Err("not a file name");
        }
        if name.len() > 255 {
            return Err("name too long");
        }
        let target_fits = match (&self.target, self.kind) {
            (Some(target), Kind::Symlink) => {
                !target.is_empty() && target.len() < 4096 && !target.contains(&0)
            }
            (target, kind) => target.is_none() && kind != Kind::Symlink,
        };
        if !target_fits && self.left_out.is_none() {
            return Err("a link without a target, or a target without a link");
        }
        let with_content = matches!(self.kind, Kind::File | Kind::Dir);
        if self.id.is_some() && !with_content {
            return Err("content for a kind that has none");
        }
        if with_content && self.id.is_some() == self.left_out.is_some() {
            return Err("neither content nor a reason why not, or both");
        }
        if self.meta.mode & !0o7777 != 0 {
            return Err("mode with foreign bits");
        }
        Ok(())
    }
}

/// What a walk over trees may cost: trees come from traces, and a trace can come from anybody.
///
/// Objects can't contain themselves, but one of them can be named many times over, so that a few kilobytes unfold to
/// more directories than any disk holds.
#[derive(Clone, Debug)]
pub struct TreeBudget {
    entries: usize,
}

impl Default for TreeBudget {
    fn default() -> Self {
        Self { entries: 20_000_000 }
    }
}

impl TreeBudget {
    /// Reads the tree object `id`, met `depth` directories below the root.
    pub fn load(&mut self, objects: &dyn Objects, id: ObjectId, depth: usize) -> Result<Tree> {
        if depth > MAX_DEPTH {
            return Err(too_deep(id));
        }
        let tree = Tree::load(objects, id)?;
        self.spend(id, &tree, depth)?;
        Ok(tree)
    }

    /// Counts a tree object that was read.
    pub(crate) fn spend(&mut self, id: ObjectId, tree: &Tree, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(too_deep(id));
        }
        let left = self.entries.checked_sub(tree.entries.len());
        let reason = || "the trees unfold to too many entries".to_owned();
        self.entries = left.ok_or_else(|| Error::InvalidTree { id, reason: reason() })?;
        Ok(())
    }
}

fn too_deep(id: ObjectId) -> Error {
    Error::InvalidTree { id, reason: "nested too deep".to_owned() }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write;

    use super::*;
    use crate::{diff_trees, new_objects};

    #[derive(Default)]
    struct Memory(HashMap<ObjectId, Vec<u8>>);

    impl Memory {
        fn put(&mut self, tree: &Tree) -> ObjectId {
            let bytes = tree.encode();
            let id = ObjectId::of(&bytes);
            self.0.insert(id, bytes);
            id
        }
    }

    impl Objects for Memory {
        fn copy_to(&self, id: &ObjectId, out: &mut dyn Write) -> Result<Option<u64>> {
            let Some(content) = self.0.get(id) else { return Ok(None) };
            out.write_all(content).expect("memory takes everything");
            Ok(Some(content.len() as u64))
        }

        fn contains(&self, id: &ObjectId) -> Result<bool> {
            Ok(self.0.contains_key(id))
        }
    }

    fn named(name: &[u8]) -> Entry {
        Entry { name: name.to_vec().into(), id: Some(ObjectId::default()), ..Entry::default() }
    }

    fn dir(name: &[u8], id: ObjectId) -> Entry {
        Entry { kind: Kind::Dir, id: Some(id), ..named(name) }
    }

    fn reason(entries: Vec<Entry>) -> String {
        let bytes = Tree { entries, ..Tree::default() }.encode();
        Tree::decode(ObjectId::default(), &bytes).unwrap_err().to_string()
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"/etc", b"a/b", b"../x", b"a\0b", &[b'x'; 256]] {
            let reason = reason(vec![named(name)]);
            assert!(reason.contains("name"), "{reason}");
        }
    }

    #[test]
    fn names_come_once_and_in_order() {
        assert!(reason(vec![named(b"a"), named(b"a")]).contains("there twice"));
        assert!(reason(vec![named(b"b"), named(b"a")]).contains("out of order"));
    }

    #[test]
    fn kinds_have_the_content_that_they_need_and_no_other() {
        let link = Entry { kind: Kind::Symlink, id: None, ..named(b"l") };
        assert!(reason(vec![link]).contains("target"));
        assert!(reason(vec![Entry { id: None, ..named(b"f") }]).contains("content"));
        assert!(reason(vec![Entry { kind: Kind::Fifo, ..named(b"f") }]).contains("content"));
        let both = Entry { left_out: Some(LeftOut::Excluded), ..named(b"f") };
        assert!(reason(vec![both]).contains("content"));
    }

    #[test]
    fn trees_that_unfold_without_end_are_refused() {
        let mut objects = Memory::default();
        let empty = objects.put(&Tree::default());
        let mut wide = empty;
        for _ in 0..20 {
            let entries = [b"a", b"b", b"c", b"d"].map(|name| dir(name, wide)).to_vec();
            wide = objects.put(&Tree { entries, ..Tree::default() });
        }
        let mut deep = empty;
        for _ in 0..=MAX_DEPTH {
            deep = objects.put(&Tree { entries: vec![dir(b"d", deep)], ..Tree::default() });
        }
        assert!(new_objects(&objects, None, wide).is_ok(), "each object counts once here");
        for (tree, expected) in [(wide, "too many entries"), (deep, "too deep")] {
            let mut budget = TreeBudget { entries: 1000 };
            let mut depth = 0;
            let mut open = vec![(tree, depth)];
            let error = loop {
                let (id, at) = open.pop().expect("the budget ends first");
                depth = at;
                match budget.load(&objects, id, depth) {
                    Ok(tree) => {
                        open.extend(tree.entries.iter().filter_map(|e| Some((e.id?, at + 1))))
                    }
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains(expected), "{error}");
        }
        let error = diff_trees(&objects, empty, deep).unwrap_err().to_string();
        assert!(error.contains("too deep"), "{error}");
    }

    #[test]
    fn what_is_not_a_tree_is_an_error() {
        for bytes in
            [&b""[..], b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x81\xa7entries\xdd\xff\xff\xff\xff"]
        {
            assert!(Tree::decode(ObjectId::default(), bytes).is_err());
        }
    }
}
