//! Every event that a trace can hold: the envelope, and one table of types with their fields.
//!
//! To add an event, add an entry to the table at the end of this file, its row in `docs/trace-format.md`
//! (a test compares the two), and the tracee or test that provokes it. Fields are only ever added, each with a
//! default that means "not known"; names are never reused.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Bytes, ObjectId, ProcId, Seq, SnapshotIndex};

/// Free-form structured data: tool arguments, message contents, custom events.
pub type Value = rmpv::Value;

/// Where an event belongs: the operating system, a tool, or the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Processes, files, network, terminal, HTTP.
    Sys,
    /// Tool invocations.
    Tool,
    /// What the agent said, used, and saved.
    Agent,
}

impl Layer {
    /// As written in a trace and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sys => "sys",
            Self::Tool => "tool",
            Self::Agent => "agent",
        }
    }

    /// The layer of that name, if this version knows it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sys, Self::Tool, Self::Agent].into_iter().find(|layer| layer.as_str() == name)
    }
}

/// Who says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The kernel, through either engine.
    #[default]
    Kernel,
    /// Decoded from the bytes of a connection.
    Wire,
    /// The agent itself, over the local socket.
    Sdk,
    /// A transcript that the agent keeps.
    Transcript,
    /// The recorder.
    Recorder,
    /// A source that this version does not know.
    #[serde(untagged)]
    Other(String),
}

impl Source {
    /// As written in a trace and on the command line.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Kernel => "kernel",
            Self::Wire => "wire",
            Self::Sdk => "sdk",
            Self::Transcript => "transcript",
            Self::Recorder => "recorder",
            Self::Other(name) => name,
        }
    }

    /// The source of that name.
    pub fn from_name(name: &str) -> Self {
        match name {
            "kernel" => Self::Kernel,
            "wire" => Self::Wire,
            "sdk" => Self::Sdk,
            "transcript" => Self::Transcript,
            "recorder" => Self::Recorder,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// One event: the envelope and its typed data.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// Assigned by the `Writer`; 0 before.
    pub seq: Seq,
    /// CLOCK_BOOTTIME in nanoseconds. A trace keeps its microseconds.
    pub ts: u64,
    /// The process it belongs to, if any.
    pub proc: Option<ProcId>,
    /// The thread, in the recorder's pid namespace; absent where it equals the pid of `proc`.
    pub tid: Option<u32>,
    /// The event that led to this one, where that was known at writing.
    pub cause: Option<Seq>,
    /// Who says so.
    pub source: Source,
    /// Type and fields.
    pub data: Data<'a>,
}

impl<'a> Event<'a> {
    /// An event of the session itself, not yet written.
    pub fn new(ts: u64, source: Source, data: impl Into<Data<'a>>) -> Self {
        Self { seq: Seq(0), ts, proc: None, tid: None, cause: None, source, data: data.into() }
    }

    /// Detached from the frame it was decoded from.
    pub fn into_owned(self) -> Event<'static> {
        let Self { seq, ts, proc, tid, cause, source, data } = self;
        Event { seq, ts, proc, tid, cause, source, data: data.into_owned() }
    }
}

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

/// What all fields can do: be detached from the frame they were decoded from, and show what they refer to.
trait Field {
    type Owned;
    /// Whether it can refer to another event.
    const REFERS: bool = false;
    fn into_owned(self) -> Self::Owned;
    fn visit(&mut self, _visitor: &mut impl Visitor) {}
}

/// Is shown the fields of an event that hold text or mean something outside of it, to read or to change them.
pub trait Visitor {
    /// The number of another event.
    fn seq(&mut self, _seq: &mut Seq) {}
    /// A value that may be an object.
    fn payload(&mut self, _payload: &mut Payload) {}
    /// Bytes that may be an object.
    fn content(&mut self, _content: &mut Content<'_>) {}
    /// Bytes: a path, an argument, a header.
    fn bytes(&mut self, _bytes: &mut Bytes<'_>) {}
    /// Text.
    fn text(&mut self, _text: &mut Cow<'_, str>) {}
    /// The address of an object that is bytes: the content of a file.
    fn object(&mut self, _id: &mut ObjectId) {}
    /// A root of a snapshot. Its path is shown as bytes too.
    fn root(&mut self, _root: &mut RootTree<'_>) {}
}

macro_rules! owned_already {
    ($($ty:ty),*) => { $(impl Field for $ty {
        type Owned = $ty;
        fn into_owned(self) -> $ty { self }
    })* };
}

owned_already!(bool, u8, u16, u32, u64, i32, i64, f64, String);
owned_already!(ProcId, SnapshotIndex, Certainty, Layer);

impl Field for ObjectId {
    type Owned = ObjectId;
    fn into_owned(self) -> ObjectId {
        self
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.object(self);
    }
}

impl Field for Seq {
    type Owned = Seq;
    const REFERS: bool = true;
    fn into_owned(self) -> Seq {
        self
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.seq(self);
    }
}

impl Field for Payload {
    type Owned = Payload;
    fn into_owned(self) -> Payload {
        self
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.payload(self);
    }
}

impl Field for Bytes<'_> {
    type Owned = Bytes<'static>;
    fn into_owned(self) -> Bytes<'static> {
        Bytes::into_owned(self)
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.bytes(self);
    }
}

impl Field for Cow<'_, str> {
    type Owned = Cow<'static, str>;
    fn into_owned(self) -> Cow<'static, str> {
        Cow::Owned(Cow::into_owned(self))
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.text(self);
    }
}

impl Field for Content<'_> {
    type Owned = Content<'static>;
    fn into_owned(self) -> Content<'static> {
        match self {
            Self::Inline(bytes) => Content::Inline(bytes.into_owned()),
            Self::Object { id, len } => Content::Object { id, len },
        }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.content(self);
    }
}

impl Field for Address<'_> {
    type Owned = Address<'static>;
    fn into_owned(self) -> Address<'static> {
        let Self { family, host, port, path } = self;
        Address {
            family: Field::into_owned(family),
            host: Field::into_owned(host),
            port,
            path: path.into_owned(),
        }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.family.visit(visitor);
        self.host.visit(visitor);
        self.path.visit(visitor);
    }
}

impl Field for StandardFd<'_> {
    type Owned = StandardFd<'static>;
    fn into_owned(self) -> StandardFd<'static> {
        StandardFd { kind: Field::into_owned(self.kind), cols: self.cols, rows: self.rows }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.kind.visit(visitor);
    }
}

impl Field for Lineage<'_> {
    type Owned = Lineage<'static>;
    fn into_owned(self) -> Lineage<'static> {
        Lineage {
            session: Field::into_owned(self.session),
            at: Field::into_owned(self.at),
            edits: Field::into_owned(self.edits),
        }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.session.visit(visitor);
        self.at.visit(visitor);
        self.edits.visit(visitor);
    }
}

impl Field for Watch<'_> {
    type Owned = Watch<'static>;
    fn into_owned(self) -> Watch<'static> {
        Watch {
            kind: Field::into_owned(self.kind),
            value: self.value.into_owned(),
            part: self.part,
            first: Field::into_owned(self.first),
        }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.kind.visit(visitor);
        self.value.visit(visitor);
        self.first.visit(visitor);
    }
}

impl Field for RootTree<'_> {
    type Owned = RootTree<'static>;
    fn into_owned(self) -> RootTree<'static> {
        let Self { path, tree, files, bytes, left_out, self_contained, agent } = self;
        let (path, agent) = (path.into_owned(), Field::into_owned(agent));
        RootTree { path, tree, files, bytes, left_out, self_contained, agent }
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        visitor.root(self);
        self.path.visit(visitor);
        self.agent.visit(visitor);
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    type Owned = (A::Owned, B::Owned);
    fn into_owned(self) -> Self::Owned {
        (self.0.into_owned(), self.1.into_owned())
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.0.visit(visitor);
        self.1.visit(visitor);
    }
}

impl<T: Field> Field for Vec<T> {
    type Owned = Vec<T::Owned>;
    fn into_owned(self) -> Self::Owned {
        self.into_iter().map(Field::into_owned).collect()
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        self.iter_mut().for_each(|field| field.visit(visitor));
    }
}

impl<T: Field> Field for Option<T> {
    type Owned = Option<T::Owned>;
    const REFERS: bool = T::REFERS;
    fn into_owned(self) -> Self::Owned {
        self.map(Field::into_owned)
    }
    fn visit(&mut self, visitor: &mut impl Visitor) {
        if let Some(field) = self {
            field.visit(visitor);
        }
    }
}

/// Defines one struct per event type, the `Data` enum over them, and what is known of each type.
macro_rules! events {
    ($( $(#[$meta:meta])* $layer:ident $name:literal $variant:ident $(<$lt:lifetime>)? {
        $( $(#[$fmeta:meta])* $field:ident : $ty:ty ),* $(,)?
    } )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            #[serde(default)]
            pub struct $variant $(<$lt>)? {
                $( $(#[$fmeta])* #[serde(skip_serializing_if = "is_default")] pub $field: $ty, )*
            }

            events!(@own $variant [$($lt)?] { $($field),* });

            impl<'a> From<$variant $(<$lt>)?> for Data<'a> {
                fn from(data: $variant $(<$lt>)?) -> Self {
                    Data::$variant(data)
                }
            }
        )*

        /// The type of an event with its fields.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Data<'a> {
            $( $(#[$meta])* $variant($variant $(<$lt>)?), )*
            /// A type that this version does not know, or an event of the agent's own: kept as it came.
            Other {
                /// The layer that it claims.
                layer: Layer,
                /// Its type.
                name: Cow<'a, str>,
                /// Its fields.
                fields: Value,
            },
        }

        /// The known event types: name, layer, and the names of their fields.
        pub const EVENT_TYPES: &[EventType] = &[
            $( EventType {
                name: $name,
                layer: Layer::$layer,
                fields: &[$(stringify!($field)),*],
                types: &[$(stringify!($ty)),*],
            }, )*
        ];

        impl<'a> Data<'a> {
            /// The type's name, such as `file.open`.
            pub fn type_name(&self) -> &str {
                match self {
                    $( Self::$variant(_) => $name, )*
                    Self::Other { name, .. } => name,
                }
            }

            /// The layer that the type belongs to.
            pub fn layer(&self) -> Layer {
                match self {
                    $( Self::$variant(_) => Layer::$layer, )*
                    Self::Other { layer, .. } => *layer,
                }
            }

            /// Detached from the frame it was decoded from.
            pub fn into_owned(self) -> Data<'static> {
                match self {
                    $( Self::$variant(data) => Data::$variant(Field::into_owned(data)), )*
                    Self::Other { layer, name, fields } => {
                        Data::Other { layer, name: Field::into_owned(name), fields }
                    }
                }
            }

            /// Whether the type has fields that refer to other events.
            pub(crate) fn refers(&self) -> bool {
                match self {
                    $( Self::$variant(_) => false $(|| <$ty as Field>::REFERS)*, )*
                    Self::Other { .. } => false,
                }
            }

            /// Shows `visitor` every field of a known type.
            pub fn visit(&mut self, visitor: &mut impl Visitor) {
                match self {
                    $( Self::$variant(data) => { let _ = &data; $( data.$field.visit(visitor); )* } )*
                    Self::Other { .. } => {}
                }
            }

            /// Writes the fields as a MessagePack map, or whatever else `serializer` makes of it.
            pub fn serialize_fields<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( Self::$variant(data) => data.serialize(serializer), )*
                    Self::Other { fields, .. } => fields.serialize(serializer),
                }
            }

            /// Reads the fields of an event of type `name`; `layer` counts only where the type is not known.
            pub fn deserialize_fields<D: serde::Deserializer<'a>>(
                name: &'a str,
                layer: Option<Layer>,
                deserializer: D,
            ) -> Result<Self, D::Error> {
                match name {
                    $( $name => $variant::deserialize(deserializer).map(Data::$variant), )*
                    _ => Value::deserialize(deserializer).map(|fields| Data::Other {
                        layer: layer.unwrap_or(Layer::Sys),
                        name: Cow::Borrowed(name),
                        fields,
                    }),
                }
            }
        }
    };
    (@own $variant:ident [] { $($field:ident),* }) => {
        impl Field for $variant {
            type Owned = $variant;
            fn into_owned(self) -> $variant { self }
        }
    };
    (@own $variant:ident [$lt:lifetime] { $($field:ident),* }) => {
        impl Field for $variant<'_> {
            type Owned = $variant<'static>;
            fn into_owned(self) -> $variant<'static> {
                $variant { $( $field: Field::into_owned(self.$field), )* }
            }
        }
    };
}

/// What is known of an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventType {
    /// Such as `file.open`.
    pub name: &'static str,
    /// The layer it belongs to.
    pub layer: Layer,
    /// Its fields, in the order in which they are written.
    pub fields: &'static [&'static str],
    /// Their Rust types, in the same order.
    pub types: &'static [&'static str],
}

events! {
    /// The command was started. Always the first event.
    Sys "session.start" SessionStart<'a> {
        /// Session id.
        #[serde(borrow)] session: Cow<'a, str>,
        /// Name given with `--name`.
        #[serde(borrow)] name: Option<Cow<'a, str>>,
        /// The command, redacted.
        #[serde(borrow)] argv: Vec<Bytes<'a>>,
        /// Working directory as the agent sees it.
        #[serde(borrow)] cwd: Bytes<'a>,
        /// Environment as name and value, redacted.
        #[serde(borrow)] env: Vec<(Bytes<'a>, Bytes<'a>)>,
        /// Descriptors 0, 1 and 2.
        #[serde(borrow)] fds: Vec<StandardFd<'a>>,
        /// Host name.
        #[serde(borrow)] host: Cow<'a, str>,
        /// `uname -r`.
        #[serde(borrow)] kernel: Cow<'a, str>,
        /// `uname -m`.
        #[serde(borrow)] arch: Cow<'a, str>,
        /// `ptrace` or `ebpf`.
        #[serde(borrow)] engine: Cow<'a, str>,
        /// Why that engine.
        #[serde(borrow)] engine_reason: Cow<'a, str>,
        /// Version of agentrec.
        #[serde(borrow)] version: Cow<'a, str>,
        /// User id of the agent.
        uid: u32,
        /// Old contents outside of the snapshots' roots are kept (`file.kept`) up to this many bytes in all; 0 where none are. By
        /// ptrace nothing stood, then, where a change of a content has no such event before it.
        keeps: u64,
        /// Commit that HEAD of the working directory's git repository names.
        #[serde(borrow)] git_head: Option<Cow<'a, str>>,
        /// Branch, where HEAD is on one.
        #[serde(borrow)] git_branch: Option<Cow<'a, str>>,
        /// Whether the git work tree differed from HEAD.
        git_dirty: Option<bool>,
        /// Whom a session without a command follows.
        #[serde(borrow)] watch: Option<Watch<'a>>,
        /// The run that this one continues.
        #[serde(borrow)] parent: Option<Lineage<'a>>,
        /// Wall clock, nanoseconds since 1970 (CLOCK_REALTIME).
        wall: i64,
        /// Time zone offset of the machine, seconds east of UTC.
        utc_offset: i32,
    }
    /// The recording ended. Always the last event of a complete trace.
    Sys "session.stop" SessionStop<'a> {
        /// Why: `exit`, `stop`, `signal`, `error`, `rotate`.
        #[serde(borrow)] reason: Cow<'a, str>,
        /// Exit code of the command.
        code: Option<i32>,
        /// Signal that ended the command.
        signal: Option<i32>,
        /// Whether that signal dumped core.
        core: bool,
        /// Descendants that outlived the command.
        left_running: u32,
        /// Nanoseconds since `session.start`.
        duration: u64,
        /// Events that were lost in all.
        lost: u64,
    }
    /// A process was started by another.
    Sys "process.fork" ProcessFork {
        /// The new process; the envelope's `proc` is its parent.
        child: ProcId,
        /// Its pid, in the recorder's pid namespace.
        pid: u32,
        /// Flags as given to clone(2); 0 for fork.
        flags: u64,
        /// The child was there already when its recording began (`agentrec attach`, `agentrec watch`).
        initial: bool,
    }
    /// A process executed a program, or failed to.
    Sys "process.exec" ProcessExec<'a> {
        /// The program's path, absolute.
        #[serde(borrow)] path: Bytes<'a>,
        /// Arguments, redacted.
        #[serde(borrow)] argv: Vec<Bytes<'a>>,
        /// Length of the argument list in bytes where `argv` was cut, else absent.
        argv_len: Option<u64>,
        /// Working directory.
        #[serde(borrow)] cwd: Bytes<'a>,
        /// Environment variables that differ from the parent's last exec as name and value, redacted; no value where removed.
        #[serde(borrow)] env: Vec<(Bytes<'a>, Option<Bytes<'a>>)>,
        /// The interpreter or the file that the kernel mapped, where it is not `path`.
        #[serde(borrow)] exe: Option<Bytes<'a>>,
        /// Process id, in the recorder's pid namespace.
        pid: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
        /// The program ran already when its recording began (`agentrec attach`, `agentrec watch`); `argv` and `env` are as /proc says.
        initial: bool,
    }
    /// A process ended.
    Sys "process.exit" ProcessExit {
        /// Exit code.
        code: Option<i32>,
        /// Signal that ended it.
        signal: Option<i32>,
        /// Whether core was dumped.
        core: bool,
        /// User CPU time, nanoseconds (of this process, without its children).
        utime: u64,
        /// System CPU time, nanoseconds.
        stime: u64,
        /// Peak resident set, bytes.
        max_rss: u64,
    }
    /// A file was opened, or not.
    Sys "file.open" FileOpen<'a> {
        /// Absolute path as the process meant it.
        #[serde(borrow)] path: Bytes<'a>,
        /// Flags as given to open(2), numbered as on x86-64.
        flags: u32,
        /// Mode, where the call could create.
        mode: u32,
        /// The new descriptor.
        fd: Option<i32>,
        /// Error number of a failed call.
        errno: Option<i32>,
        /// The call created the file, where that is known.
        created: bool,
    }
    /// The last descriptor of this process for an open file description was closed.
    Sys "file.close" FileClose<'a> {
        /// The `file.open` whose description this is.
        open: Option<Seq>,
        /// Path, only where there is no `open`.
        #[serde(borrow)] path: Option<Bytes<'a>>,
        /// Bytes that this process read through it.
        read: u64,
        /// Bytes that this process wrote through it.
        written: u64,
    }
    /// rename(2) and its kin.
    Sys "file.rename" FileRename<'a> {
        /// Old path.
        #[serde(borrow)] from: Bytes<'a>,
        /// New path.
        #[serde(borrow)] to: Bytes<'a>,
        /// Flags of renameat2(2).
        flags: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// unlink(2).
    Sys "file.unlink" FileUnlink<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// mkdir(2).
    Sys "file.mkdir" FileMkdir<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Mode.
        mode: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// rmdir(2).
    Sys "file.rmdir" FileRmdir<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// link(2).
    Sys "file.link" FileLink<'a> {
        /// Existing path.
        #[serde(borrow)] from: Bytes<'a>,
        /// New path.
        #[serde(borrow)] to: Bytes<'a>,
        /// The `file.open` of a file that had no name (O_TMPFILE) and has this one now; `from` is its directory.
        open: Option<Seq>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// symlink(2).
    Sys "file.symlink" FileSymlink<'a> {
        /// What the link holds, verbatim.
        #[serde(borrow)] target: Bytes<'a>,
        /// The link's path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// mknod(2).
    Sys "file.mknod" FileMknod<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Mode with the type bits.
        mode: u32,
        /// Device number.
        dev: u64,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// truncate(2), ftruncate(2), fallocate(2).
    Sys "file.truncate" FileTruncate<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// New length in bytes.
        length: u64,
        /// Mode of fallocate(2).
        mode: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// chmod(2).
    Sys "file.chmod" FileChmod<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// New mode.
        mode: u32,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// chown(2).
    Sys "file.chown" FileChown<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// New owner; absent where unchanged.
        uid: Option<u32>,
        /// New group; absent where unchanged.
        gid: Option<u32>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// utimensat(2) and its elders.
    Sys "file.utime" FileUtime<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// New access time, nanoseconds since 1970; absent where unchanged.
        atime: Option<i64>,
        /// New modification time, nanoseconds since 1970; absent where unchanged.
        mtime: Option<i64>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// setxattr(2), removexattr(2).
    Sys "file.xattr" FileXattr<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Attribute name.
        #[serde(borrow)] name: Bytes<'a>,
        /// Size of the new value in bytes; absent where it was removed.
        size: Option<u64>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// A file was mapped shared and writable: its content can change without a call.
    Sys "file.mmap" FileMmap<'a> {
        /// Path.
        #[serde(borrow)] path: Bytes<'a>,
        /// Offset in the file, bytes.
        offset: u64,
        /// Bytes mapped.
        length: u64,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// Contents were cloned from another file (FICLONE, FICLONERANGE).
    Sys "file.clone" FileClone<'a> {
        /// Source path.
        #[serde(borrow)] from: Bytes<'a>,
        /// Destination path.
        #[serde(borrow)] to: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// What stood outside the snapshots' roots, told before the event that changes it. Where a call makes its file, there is none.
    Sys "file.kept" FileKept<'a> {
        /// Absolute path as the process meant it.
        #[serde(borrow)] path: Bytes<'a>,
        /// Where it really is, where links on the way or a link of that name lead elsewhere.
        #[serde(borrow)] real: Option<Bytes<'a>>,
        /// What is about to happen: `write`, `truncate`, `rename`, `unlink`, `attributes`.
        #[serde(borrow)] change: Cow<'a, str>,
        /// `file`, `dir`, `symlink`, `fifo`, `socket`, `char` or `block`; empty where nothing could be learned of it any more.
        #[serde(borrow)] kind: Cow<'a, str>,
        /// Permission bits with set-uid, set-gid and sticky, without the type.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Modification time, nanoseconds since 1970.
        mtime: i64,
        /// A file's length in bytes.
        size: u64,
        /// Names that the file has; whoever changes it under one changes it under all.
        links: u64,
        /// Extended attributes: `user.*`, access control lists and capabilities.
        #[serde(borrow)] xattrs: Vec<(Bytes<'a>, Bytes<'a>)>,
        /// What a symbolic link holds.
        #[serde(borrow)] target: Option<Bytes<'a>>,
        /// Address of the old content, where it was kept.
        object: Option<ObjectId>,
        /// The file holds secrets: its content is in the local store alone.
        secret: bool,
        /// Why a file's content was not kept: `too-large`, `limit`, `unreadable`, `busy` (leased to a process), `failed`; or
        /// `gone`, and `unseen`, where not even whether there was a file is known. Absent where it was, and where it does not change.
        #[serde(borrow)] reason: Option<Cow<'a, str>>,
        /// It was read when the process could have changed it already.
        late: bool,
    }
    /// The mount table changed, or another part of it is what a process sees.
    Sys "mount" Mount<'a> {
        /// The call: `mount`, `umount`, `pivot_root`, `move_mount`, `mount_setattr`, `fsconfig` (FSCONFIG_CMD_RECONFIGURE),
        /// `chroot`, `unshare` or `setns`.
        #[serde(borrow)] op: Cow<'a, str>,
        /// What is mounted: a path with MS_BIND and MS_MOVE, else as it was given; the new root of `pivot_root`; the
        /// namespace of `setns`.
        #[serde(borrow)] source: Bytes<'a>,
        /// Where; where the old root went to of `pivot_root`.
        #[serde(borrow)] target: Bytes<'a>,
        /// File system type.
        #[serde(borrow)] fstype: Bytes<'a>,
        /// Flags of the call; those that were set of `mount_setattr`.
        flags: u64,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// The working directory of a process changed.
    Sys "dir.change" DirChange<'a> {
        /// New directory.
        #[serde(borrow)] path: Bytes<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// A descriptor that was open when the recording of its process began.
    Sys "fd.initial" FdInitial<'a> {
        /// Descriptor.
        fd: i32,
        /// What it names, as /proc/PID/fd says.
        #[serde(borrow)] path: Bytes<'a>,
        /// Flags as /proc/PID/fdinfo says, numbered as on x86-64.
        flags: u32,
    }
    /// A socket was connected, or not.
    Sys "net.connect" NetConnect<'a> {
        /// Descriptor.
        fd: i32,
        /// `tcp`, `udp`, `unix`, or another protocol's name.
        #[serde(borrow)] protocol: Cow<'a, str>,
        /// Peer.
        #[serde(borrow)] peer: Address<'a>,
        /// Error number of a failed call; EINPROGRESS where the result comes later.
        errno: Option<i32>,
        /// Process that listens at the other end of a unix connection, where that is known.
        peer_pid: Option<u32>,
    }
    /// A socket was bound and listens, or could not be bound.
    Sys "net.listen" NetListen<'a> {
        /// Descriptor.
        fd: i32,
        /// Address.
        #[serde(borrow)] local: Address<'a>,
        /// Error number of a failed call.
        errno: Option<i32>,
        /// As in `net.connect`.
        #[serde(borrow)] protocol: Cow<'a, str>,
    }
    /// A connection was accepted.
    Sys "net.accept" NetAccept<'a> {
        /// The new descriptor.
        fd: i32,
        /// The `net.listen` that it came through.
        listen: Option<Seq>,
        /// Peer.
        #[serde(borrow)] peer: Address<'a>,
        /// As in `net.connect`.
        #[serde(borrow)] protocol: Cow<'a, str>,
        /// Process that connected, where that is known.
        peer_pid: Option<u32>,
    }
    /// A connection was shut down in one direction or both; its descriptors stay.
    Sys "net.shutdown" NetShutdown<'a> {
        /// The `net.connect` or `net.accept` that it began with.
        open: Option<Seq>,
        /// `read`, `write` or `both`.
        #[serde(borrow)] how: Cow<'a, str>,
        /// Error number of a failed call.
        errno: Option<i32>,
    }
    /// The last descriptor of this process for a socket was closed.
    Sys "net.close" NetClose<'a> {
        /// The `net.connect`, `net.accept` or `net.listen` that it began with.
        open: Option<Seq>,
        /// Bytes sent by this process.
        sent: u64,
        /// Bytes received by this process.
        received: u64,
        /// Peer, only where there is no `open`: a socket of a pair, or one that was connected before.
        #[serde(borrow)] peer: Option<Address<'a>>,
    }
    /// Traffic was seen that can't be read.
    Sys "net.opaque" NetOpaque<'a> {
        /// The connection's first event.
        open: Option<Seq>,
        /// Peer.
        #[serde(borrow)] peer: Address<'a>,
        /// Why: such as `tls`, `go-tls`, `rustls`, `unknown-protocol`, `server-not-verified`, `proxy-not-trusted`, `not-reached`.
        #[serde(borrow)] reason: Cow<'a, str>,
        /// What would make it readable.
        #[serde(borrow)] hint: Cow<'a, str>,
        /// Bytes sent.
        sent: u64,
        /// Bytes received.
        received: u64,
        /// Name of the host that was asked for, where it was said before the encryption began.
        #[serde(borrow)] server_name: Cow<'a, str>,
    }
    /// An HTTP request was sent or received.
    Sys "http.request" HttpRequest<'a> {
        /// The connection's first event.
        open: Option<Seq>,
        /// Method.
        #[serde(borrow)] method: Cow<'a, str>,
        /// Absolute URL, redacted.
        #[serde(borrow)] url: Cow<'a, str>,
        /// `1.1`, `2`.
        #[serde(borrow)] version: Cow<'a, str>,
        /// Header names and values in order, redacted.
        #[serde(borrow)] headers: Vec<(Bytes<'a>, Bytes<'a>)>,
        /// Body after content decoding, redacted.
        #[serde(borrow)] body: Content<'a>,
        /// Bytes of the body on the wire.
        wire_len: u64,
        /// The process received it: it is the server.
        received: bool,
        /// Why the body is not whole, such as `connection closed`.
        #[serde(borrow)] incomplete: Option<Cow<'a, str>>,
    }
    /// An HTTP response was received or sent.
    Sys "http.response" HttpResponse<'a> {
        /// The request it answers.
        request: Option<Seq>,
        /// Status code.
        status: u16,
        /// Header names and values in order, redacted.
        #[serde(borrow)] headers: Vec<(Bytes<'a>, Bytes<'a>)>,
        /// Body after content decoding, redacted.
        #[serde(borrow)] body: Content<'a>,
        /// Bytes of the body on the wire.
        wire_len: u64,
        /// Nanoseconds from the request's end to the first byte.
        first_byte: u64,
        /// Nanoseconds from the request's end to the last byte.
        duration: u64,
        /// Arrival of each server-sent event, nanoseconds after the first byte.
        sse: Vec<u64>,
        /// Why the body is not whole, such as `connection closed`.
        #[serde(borrow)] incomplete: Option<Cow<'a, str>>,
    }
    /// A WebSocket message was sent or received.
    Sys "http.message" HttpMessage<'a> {
        /// The request that made the connection a WebSocket.
        request: Option<Seq>,
        /// The client sent it; else the server.
        client: bool,
        /// `text`, `binary`, `close`, `ping`, `pong`.
        #[serde(borrow)] kind: Cow<'a, str>,
        /// Its bytes, decompressed, redacted.
        #[serde(borrow)] data: Content<'a>,
        /// Its bytes on the wire.
        wire_len: u64,
        /// Why it is not whole, such as `connection closed`.
        #[serde(borrow)] incomplete: Option<Cow<'a, str>>,
    }
    /// Something of the tree was written to descriptor 1 or 2.
    Sys "term.output" TermOutput<'a> {
        /// 1 or 2.
        fd: i32,
        /// The bytes, redacted.
        #[serde(borrow)] data: Content<'a>,
    }
    /// The terminal's user typed.
    Sys "term.input" TermInput<'a> {
        /// The bytes, redacted.
        #[serde(borrow)] data: Content<'a>,
        /// Bytes that were typed while the terminal did not show them (a password), and are not kept.
        hidden: u64,
    }
    /// The terminal changed its size.
    Sys "term.resize" TermResize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    }
    /// A model was asked: of a conversation, a new turn unless it repeats a request.
    Agent "model.request" ModelRequest<'a> {
        /// The `http.request`, or the `http.message` that it was sent with.
        request: Option<Seq>,
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
        /// The conversation that this one began as a copy of, in its first request.
        #[serde(borrow)] branch_of: Option<Cow<'a, str>>,
        /// What it is beside all conversations: `title`, `count_tokens`, `models`, `embeddings`, `moderation`, `probe`.
        #[serde(borrow)] side: Option<Cow<'a, str>>,
        /// The API: such as `openai-chat`, `anthropic`.
        #[serde(borrow)] dialect: Cow<'a, str>,
        /// Model that is asked for.
        #[serde(borrow)] model: Cow<'a, str>,
        /// The same was asked before, and not answered as it should.
        repeats: bool,
        /// System prompt, where it is not the one of the conversation's last request, redacted.
        system_prompt: Payload,
        /// Tools that the model may call, where they are not those of the conversation's last request, redacted.
        tools: Payload,
    }
    /// A model answered, or did not.
    Agent "model.response" ModelResponse<'a> {
        /// The `model.request`.
        request: Option<Seq>,
        /// The `http.response`, or the `http.message` that ended it.
        response: Option<Seq>,
        /// Model that answered.
        #[serde(borrow)] model: Cow<'a, str>,
        /// Why it stopped, in the words of its API.
        #[serde(borrow)] finish: Option<Cow<'a, str>>,
        /// What went wrong, redacted.
        #[serde(borrow)] error: Option<Cow<'a, str>>,
        /// Why the answer is not whole.
        #[serde(borrow)] incomplete: Option<Cow<'a, str>>,
    }
    /// A request edits what was said before, or leaves some of it out.
    Agent "history.dropped" HistoryDropped<'a> {
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
        /// Messages that are gone, whole or in part.
        messages: u32,
        /// Position of the first of them, from 0.
        index: u32,
        /// `rewound`, `edited` or `compacted`.
        #[serde(borrow)] how: Cow<'a, str>,
    }
    /// A tool was called.
    Tool "tool.call" ToolCall<'a> {
        /// Id that the result repeats.
        #[serde(borrow)] id: Cow<'a, str>,
        /// The tool's name.
        #[serde(borrow)] name: Cow<'a, str>,
        /// Arguments, redacted.
        arguments: Payload,
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
        /// The MCP server that is called, by the name that it gives itself; empty where it gave none. The event's process is the
        /// server's where that is known, else its client's. Absent of calls that a model or the agent told of.
        #[serde(borrow)] server: Option<Cow<'a, str>>,
    }
    /// A tool returned.
    Tool "tool.result" ToolResult<'a> {
        /// Id of the call.
        #[serde(borrow)] id: Cow<'a, str>,
        /// The `tool.call`.
        call: Option<Seq>,
        /// What it returned, redacted.
        result: Payload,
        /// What it raised, redacted.
        #[serde(borrow)] error: Option<Cow<'a, str>>,
        /// Nanoseconds.
        duration: Option<u64>,
    }
    /// A message of a conversation, each once.
    Agent "message" Message<'a> {
        /// `system`, `user`, `assistant`, `tool`.
        #[serde(borrow)] role: Cow<'a, str>,
        /// Text or content blocks, redacted.
        content: Payload,
        /// Model that wrote it.
        #[serde(borrow)] model: Option<Cow<'a, str>>,
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
        /// Position in the conversation, from 0, where that is known.
        index: Option<u32>,
        /// Fields beside these that the agent gave.
        extra: Payload,
    }
    /// Tokens used by one model request.
    Agent "usage" Usage<'a> {
        /// Model.
        #[serde(borrow)] model: Cow<'a, str>,
        /// Input tokens, cached ones included.
        input: u64,
        /// Input tokens read from a cache.
        cache_read: u64,
        /// Input tokens written to a cache.
        cache_write: u64,
        /// Output tokens.
        output: u64,
        /// US dollars, where the model's price is known.
        cost: Option<f64>,
        /// Conversation it belongs to.
        #[serde(borrow)] conversation: Option<Cow<'a, str>>,
    }
    /// The state was saved. The command, its environment and its working directory are those of `session.start`.
    Agent "snapshot.created" SnapshotCreated<'a> {
        /// Its number.
        index: SnapshotIndex,
        /// What the one who asked for it said.
        #[serde(borrow)] description: Cow<'a, str>,
        /// `start`, `end`, `sdk`, `command`, `request`.
        #[serde(borrow)] trigger: Cow<'a, str>,
        /// The file trees.
        #[serde(borrow)] roots: Vec<RootTree<'a>>,
        /// The conversation's messages, an array.
        messages: Payload,
        /// System prompt.
        system_prompt: Payload,
        /// Tools that the agent offers its model.
        tools: Payload,
        /// Model.
        #[serde(borrow)] model: Option<Cow<'a, str>>,
        /// The last query.
        last_query: Payload,
        /// The last result.
        last_result: Payload,
        /// Paths that were written to while the snapshot was taken.
        #[serde(borrow)] late: Vec<Bytes<'a>>,
        /// Paths that changed while they were read.
        #[serde(borrow)] torn: Vec<Bytes<'a>>,
        /// Only what the tree's own events told of was looked at: what others changed is not in it yet.
        partial: bool,
        /// Nanoseconds that it took.
        duration: u64,
    }
    /// An edge that was learned later.
    Sys "link" Link<'a> {
        /// From this event.
        from: Seq,
        /// To this event.
        to: Seq,
        /// What the edge says, such as `response-call`, `call-process`.
        #[serde(borrow)] kind: Cow<'a, str>,
        /// Seen or concluded.
        certainty: Certainty,
    }
    /// Something is not in the trace.
    Sys "lost" Lost<'a> {
        /// How many events, where that is known.
        count: Option<u64>,
        /// Where: such as `ptrace`, `socket`, `snapshot`, `process`, or `outside` for work that was handed to who is not recorded.
        #[serde(borrow)] place: Cow<'a, str>,
        /// Why, in a sentence.
        #[serde(borrow)] reason: Cow<'a, str>,
        /// The peer's pid, where work left the traced tree.
        peer_pid: Option<u32>,
    }
}
