//! The form in which event types are defined: one struct each, and what is known of it.

use super::Layer;

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

/// A struct that [`events!`] defined.
pub(super) trait Known {
    const NAME: &'static str;
    const TYPE: EventType;
}

/// Defines one struct for each event type, with its name in a trace and its layer.
macro_rules! events {
    ($( $(#[$meta:meta])* $layer:ident $name:literal $variant:ident $(<$lt:lifetime>)? {
        $( $(#[$fmeta:meta])* $field:ident : $ty:ty ),* $(,)?
    } )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
            #[serde(default)]
            pub struct $variant $(<$lt>)? {
                $( $(#[$fmeta])* #[serde(skip_serializing_if = "crate::event::is_default")] pub $field: $ty, )*
            }

            impl $(<$lt>)? $crate::event::define::Known for $variant $(<$lt>)? {
                const NAME: &'static str = $name;
                const TYPE: $crate::event::EventType = $crate::event::EventType {
                    name: $name,
                    layer: $crate::event::Layer::$layer,
                    fields: &[$(stringify!($field)),*],
                    types: &[$(stringify!($ty)),*],
                };
            }

            impl $(<$lt>)? $crate::event::fields::Field for $variant $(<$lt>)? {
                type Owned = $crate::event::define::events!(@owned $variant $(<$lt>)?);
                const REFERS: bool = false $(|| <$ty as $crate::event::fields::Field>::REFERS)*;
                fn into_owned(self) -> Self::Owned {
                    $variant { $( $field: $crate::event::fields::Field::into_owned(self.$field), )* }
                }
                fn visit(&mut self, visitor: &mut impl $crate::event::Visitor) {
                    $( $crate::event::fields::Field::visit(&mut self.$field, visitor); )*
                }
            }
        )*
    };
    (@owned $variant:ident) => { $variant };
    (@owned $variant:ident <$lt:lifetime>) => { $variant<'static> };
}

pub(super) use events;
