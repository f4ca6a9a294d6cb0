//! System calls, whoever sees them made: which ones are covered, what they do, where their arguments are, and what they
//! mean to the [model](crate::model).
//!
//! An engine finds a call's row in the [table] of its [ABI](abi), has what the call points to read into a
//! [decode::Entry], and gets a [`Call`](crate::observation::Call) from it once the result is known.

pub(crate) mod abi;
pub(crate) mod control;
pub(crate) mod decode;
pub(crate) mod memory;
pub(crate) mod shape;
pub(crate) mod table;

/// The names of the covered system calls on this architecture, in no particular order.
pub fn covered() -> impl Iterator<Item = &'static str> {
    table::TABLE.iter().map(|row| row.name)
}
