//! The functions of TLS libraries that plaintext goes through: one table for every engine.
//!
//! Not in it, since what they do passes through one that is: SSL_write_early_data(3), SSL_read_early_data(3), BIO_write(3)
//! on a BIO of TLS. Not in it, since they take nothing out: SSL_peek(3). gnutls_record_uncork(3) sends what was given to
//! gnutls_record_send(3) before.

use crate::observation::Direction;

/// What a function does. Its first argument is always the stream (an `SSL *`, a `gnutls_session_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Takes or gives bytes at the address in its second argument.
    Transfer {
        /// Which way.
        direction: Direction,
        /// How many were moved.
        count: Count,
    },
    /// Moves bytes that are nowhere in the caller's memory.
    Unseen {
        /// Which way.
        direction: Direction,
        /// How many were moved.
        count: Count,
    },
    /// Gives a new stream as its result: whatever had that address before is over. Known where no end is.
    Begins,
    /// Ends the stream: its address may be another's from there on.
    Over,
}

impl Kind {
    /// Which way bytes go, where any do.
    pub fn direction(self) -> Option<Direction> {
        match self {
            Self::Transfer { direction, .. } | Self::Unseen { direction, .. } => Some(direction),
            Self::Begins | Self::Over => None,
        }
    }
}

/// Where a function says how many bytes it moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// In its result, an `int`; nothing where that is not positive.
    Int,
    /// In its result, an `ssize_t`; nothing where that is not positive.
    Long,
    /// In the `size_t` that this argument (from 0) points to, where its result, an `int`, is 1.
    At(u8),
}

/// A row of [`TABLE`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The function of the same library that does its work, where there is one: seen there.
    pub(super) calls: Option<&'static str>,
}

const fn row(name: &'static str, kind: Kind) -> Row {
    Row { name, kind, calls: None }
}

const fn wraps(name: &'static str, kind: Kind, calls: &'static str) -> Row {
    Row { name, kind, calls: Some(calls) }
}

const fn read(count: Count) -> Kind {
    Kind::Transfer { direction: Direction::Read, count }
}

const fn write(count: Count) -> Kind {
    Kind::Transfer { direction: Direction::Write, count }
}

const fn unseen(direction: Direction) -> Kind {
    Kind::Unseen { direction, count: Count::Long }
}

/// Every function that is looked for.
pub(super) const TABLE: [Row; 14] = [
    row("SSL_write", write(Count::Int)),
    wraps("SSL_write_ex", write(Count::At(3)), "SSL_write_ex2"),
    row("SSL_write_ex2", write(Count::At(4))),
    row("SSL_read", read(Count::Int)),
    row("SSL_read_ex", read(Count::At(3))),
    row("SSL_sendfile", unseen(Direction::Write)),
    row("SSL_free", Kind::Over),
    wraps("gnutls_record_send", write(Count::Long), "gnutls_record_send2"),
    row("gnutls_record_send2", write(Count::Long)),
    row("gnutls_record_send_range", write(Count::Long)),
    row("gnutls_record_recv", read(Count::Long)),
    row("gnutls_record_recv_seq", read(Count::Long)),
    row("gnutls_record_recv_packet", unseen(Direction::Read)),
    row("gnutls_deinit", Kind::Over),
];

/// What a table of names must hold for an object to be looked at any closer.
pub(super) const MARKS: [&str; 2] = ["SSL_write", "gnutls_record_send"];
