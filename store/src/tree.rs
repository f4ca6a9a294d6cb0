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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
