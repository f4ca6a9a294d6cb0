//! Structs that cross between kernel and user space, checked while they are compiled.

use core::mem::size_of;

/// A type of which every pattern of bits is a value, and which has no padding.
///
/// # Safety
/// Both must hold.
pub unsafe trait Plain: Copy + 'static {
    /// The value at the start of `bytes`, wherever they lie; `None` where they are too few.
    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..size_of::<Self>())?;
        // SAFETY: `bytes` holds as many bytes as a value, every pattern of which is one, and nothing is aligned.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }
}

macro_rules! plain {
    ($($type:ty),*) => {
        $(
            // SAFETY: an integer has no padding and takes every pattern of bits.
            unsafe impl Plain for $type {}
        )*
    };
}

plain!(u8, u16, u32, u64, i8, i16, i32, i64);

// SAFETY: an array has no padding between its elements, and none of its own.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Defines structs of the ABI: `repr(C)`, every field [`Plain`], and no padding between or behind them.
///
/// ```
/// agentrec_recorder_ebpf::abi! {
///     /// Twelve bytes.
///     pub struct Whole {
///         /// One.
///         pub a: u32,
///         /// Two.
///         pub b: [u32; 2],
///     }
/// }
/// ```
///
/// ```compile_fail,E0080
/// agentrec_recorder_ebpf::abi! {
///     /// Four bytes of padding would follow `a`.
///     pub struct Padded {
///         /// One.
///         pub a: u32,
///         /// Two.
///         pub b: u64,
///     }
/// }
/// ```
#[macro_export]
macro_rules! abi {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
            #[repr(C)]
            pub struct $name {
                $($(#[$field_meta])* pub $field: $type,)*
            }

            const _: () = {
                const fn is_plain<T: $crate::Plain>() -> usize {
                    size_of::<T>()
                }
                let fields = 0 $(+ is_plain::<$type>())*;
                assert!(size_of::<$name>() == fields, "this struct has padding");
            };

            // SAFETY: every field is plain, and the assertion above says that there is nothing else.
            unsafe impl $crate::Plain for $name {}
        )*
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    abi! {
        /// A struct for the tests.
        pub struct Pair {
            /// One.
            pub a: u32,
            /// Two.
            pub b: [u16; 2],
        }
    }

    #[test]
    fn structs_are_read_wherever_they_lie() {
        let bytes = [9, 1, 0, 0, 0, 2, 0, 3, 0, 9];
        assert_eq!(Pair::read(&bytes[1..]), Some(Pair { a: 1, b: [2, 3] }));
        assert_eq!(Pair::read(&bytes[3..]), None);
    }
}
