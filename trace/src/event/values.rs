//! What fields are made of, beside numbers and text: payloads, addresses, the parts of a session's start and of a snapshot.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Bytes, ObjectId};

/// Free-form structured data: tool arguments, message contents, custom events.
pub type Value = rmpv::Value;

/// A value that stands in the record, or, over 4 KiB, in an object of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// In the record.
    Inline(#[serde(with = "crate::json::free_form")] Value),
    /// The MessagePack encoding of the value is the object's content.
    Object {
        /// Address.
        id: ObjectId,
        /// Bytes.
        len: u64,
    },
    /// JSON text inside an object's content, of which it is a part.
    Json {
        /// Address of the object.
        id: ObjectId,
        /// Where the text begins, in bytes.
        at: u64,
        /// Its length in bytes.
        len: u64,
    },
}

impl Default for Payload {
    fn default() -> Self {
        Self::Inline(Value::Nil)
    }
}

impl Payload {
    /// Payloads whose encoding is longer than this become objects, in bytes.
    pub const MAX_INLINE: usize = 4096;
}

/// Raw bytes that stand in the record, or, over 4 KiB, in an object of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content<'a> {
    /// In the record.
    #[serde(borrow)]
    Inline(Bytes<'a>),
    /// The object's content is the bytes.
    Object {
        /// Address.
        id: ObjectId,
        /// Bytes.
        len: u64,
    },
}

impl Default for Content<'_> {
    fn default() -> Self {
        Self::Inline(Bytes::default())
    }
}

/// A socket address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Address<'a> {
    /// `inet`, `inet6`, `unix`, `netlink`, or `af_N`.
    #[serde(borrow, skip_serializing_if = "is_default")]
    pub family: Cow<'a, str>,
    /// Numeric IP address.
    #[serde(borrow, skip_serializing_if = "is_default")]
    pub host: Cow<'a, str>,
    /// Port.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u16,
    /// Path of a unix socket, absolute; an abstract name starts with a NUL byte.
    #[serde(borrow, skip_serializing_if = "is_default")]
    pub path: Bytes<'a>,
}

/// What a descriptor of the command pointed at when the session started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StandardFd<'a> {
    /// `tty`, `pipe`, `file`, `socket`, `null`, `closed` or `other`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// Terminal columns.
    #[serde(skip_serializing_if = "is_default")]
    pub cols: u16,
    /// Terminal rows.
    #[serde(skip_serializing_if = "is_default")]
    pub rows: u16,
}

/// Which run this one continues.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lineage<'a> {
    /// Session id of the parent.
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    /// Address inside the parent: `s2`, `t5`, `#1234`.
    #[serde(borrow)]
    pub at: Cow<'a, str>,
    /// What was changed, such as `prompt` or `env.NAME`; values are not repeated here.
    #[serde(borrow)]
    pub edits: Vec<Cow<'a, str>>,
}

/// Whom a session without a command follows, and which of its files this is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch<'a> {
    /// `pid`, `cgroup`, `uid`, `comm` or `all`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// Which one; empty for `all`.
    #[serde(borrow, skip_serializing_if = "is_default")]
    pub value: Bytes<'a>,
    /// The number of this file, from 1; 0 where there is only one.
    #[serde(skip_serializing_if = "is_default")]
    pub part: u32,
    /// Session id of the first file, where this is another.
    #[serde(borrow, skip_serializing_if = "is_default")]
    pub first: Option<Cow<'a, str>>,
}

/// Whether a `link` was seen or concluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// A fact: the kernel or the wire said so.
    #[default]
    Recorded,
    /// Concluded from order or shape.
    Inferred,
}

/// A root of a snapshot and the tree that was found there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootTree<'a> {
    /// Absolute path of the root as the agent sees it.
    #[serde(borrow)]
    pub path: Bytes<'a>,
    /// The tree object.
    pub tree: ObjectId,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that were left out, whatever the reason; the tree lists them.
    #[serde(skip_serializing_if = "is_default")]
    pub left_out: u64,
    /// Whether every content that is not a secret is inside the trace.
    #[serde(skip_serializing_if = "is_default")]
    pub self_contained: bool,
    /// The agent whose state the directory holds, where a profile made it a root and not the user.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Cow<'a, str>>,
}

/// Defaults are omitted from records.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
