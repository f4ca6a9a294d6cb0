//! The session's terminal: what was shown, what was typed, its size.

use super::define::events;
use super::values::Content;

events! {
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
}
