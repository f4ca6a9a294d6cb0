//! The type of an event with its fields: one list of all types that this version knows.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::conversation::*;
use super::define::{EventType, Known};
use super::fields::{Field, Visitor};
use super::file::*;
use super::http::*;
use super::net::*;
use super::process::*;
use super::session::*;
use super::terminal::*;
use super::{Layer, Value};

/// Makes the enum over the structs of all event types.
macro_rules! data {
    ($( $variant:ident $(<$lt:lifetime>)?, )*) => {
        /// The type of an event with its fields.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Data<'a> {
            $(
                #[doc = concat!("See [`", stringify!($variant), "`].")]
                $variant($variant $(<$lt>)?),
            )*
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
        pub const EVENT_TYPES: &[EventType] = &[$( <$variant as Known>::TYPE, )*];

        $(
            impl<'a> From<$variant $(<$lt>)?> for Data<'a> {
                fn from(data: $variant $(<$lt>)?) -> Self {
                    Data::$variant(data)
                }
            }
        )*

        impl<'a> Data<'a> {
            /// The type's name, such as `file.open`.
            pub fn type_name(&self) -> &str {
                match self {
                    $( Self::$variant(_) => <$variant as Known>::NAME, )*
                    Self::Other { name, .. } => name,
                }
            }

            /// The layer that the type belongs to.
            pub fn layer(&self) -> Layer {
                match self {
                    $( Self::$variant(_) => <$variant as Known>::TYPE.layer, )*
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
                    $( Self::$variant(_) => <$variant as Field>::REFERS, )*
                    Self::Other { .. } => false,
                }
            }

            /// Shows `visitor` every field of a known type.
            pub fn visit(&mut self, visitor: &mut impl Visitor) {
                match self {
                    $( Self::$variant(data) => data.visit(visitor), )*
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
                    $( <$variant as Known>::NAME => $variant::deserialize(deserializer).map(Data::$variant), )*
                    _ => Value::deserialize(deserializer).map(|fields| Data::Other {
                        layer: layer.unwrap_or(Layer::Sys),
                        name: Cow::Borrowed(name),
                        fields,
                    }),
                }
            }
        }
    };
}

// In the order of `docs/trace-format.md`.
data! {
    SessionStart<'a>,
    SessionStop<'a>,
    ProcessFork,
    ProcessExec<'a>,
    ProcessExit,
    FileOpen<'a>,
    FileClose<'a>,
    FileRename<'a>,
    FileUnlink<'a>,
    FileMkdir<'a>,
    FileRmdir<'a>,
    FileLink<'a>,
    FileSymlink<'a>,
    FileMknod<'a>,
    FileTruncate<'a>,
    FileChmod<'a>,
    FileChown<'a>,
    FileUtime<'a>,
    FileXattr<'a>,
    FileMmap<'a>,
    FileClone<'a>,
    FileKept<'a>,
    Mount<'a>,
    DirChange<'a>,
    FdInitial<'a>,
    NetConnect<'a>,
    NetListen<'a>,
    NetAccept<'a>,
    NetShutdown<'a>,
    NetClose<'a>,
    NetOpaque<'a>,
    HttpRequest<'a>,
    HttpResponse<'a>,
    HttpMessage<'a>,
    TermOutput<'a>,
    TermInput<'a>,
    TermResize,
    ModelRequest<'a>,
    ModelResponse<'a>,
    HistoryDropped<'a>,
    ToolCall<'a>,
    ToolResult<'a>,
    Message<'a>,
    Usage<'a>,
    SnapshotCreated<'a>,
    Link<'a>,
    Lost<'a>,
}
