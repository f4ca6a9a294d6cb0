//! Which functions of TLS libraries an ELF file holds: those that plaintext goes through, in whatever object they are (a
//! system's library, a copy inside a wheel, an executable with a symbol table).
//!
//! Reads files and nothing else, so that every engine can use it: breakpoints want addresses, uprobes offsets in the file.

#[cfg(target_arch = "x86_64")]
mod boringssl;
mod cache;
mod elf;
#[cfg(target_arch = "x86_64")]
mod entry;
mod functions;
mod own;
mod users;

pub use cache::{Cache, FileId};
#[cfg(target_arch = "x86_64")]
pub use entry::entries;
pub use functions::{Count, Kind};
pub use own::{Own, own};
pub use users::Users;

use std::fs::File;
use std::io;

/// A function that plaintext goes through, or with which a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its symbol.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// Where it begins in the file.
    pub offset: u64,
    /// Where it begins in memory, as the file has it: without the base of an object that is mapped anywhere.
    pub address: u64,
    /// Its length in bytes, as far as its symbol tells; else 0.
    pub size: u64,
}

/// The functions of TLS libraries in an object, by their addresses; none in what is no 64-bit ELF file of this
/// architecture.
///
/// # Errors
/// Where the file can't be read. One that contradicts itself holds nothing.
pub fn functions(file: &File) -> io::Result<Vec<Function>> {
    elf::functions(file)
}

/// The functions as they are: where else a uprobe would cost less is known of x86-64 alone.
///
/// # Errors
/// None.
#[cfg(not(target_arch = "x86_64"))]
pub fn entries(_: &File, functions: &[Function]) -> io::Result<Vec<Function>> {
    Ok(functions.to_vec())
}

#[cfg(test)]
mod tests;
