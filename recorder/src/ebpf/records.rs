//! Records as they come out of the ring buffer, taken apart.

use agentrec_recorder_ebpf::{
    ABSENT, Call, Close, Exec, Exit, Fork, Head, Mapped, PIECES, Part, Plain, Signal, Socket,
    UNREADABLE, kind,
};

use crate::calls::memory::{Found, Memory, Piece, Unreadable};

/// One of them.
#[derive(Debug)]
pub(super) enum Record<'a> {
    Call(Call, Captured<'a>),
    Close(Close),
    Fork(Fork),
    Arguments(Part, &'a [u8]),
    Environment(Part, &'a [u8]),
    Exec(Exec, &'a [u8]),
    Exit(Exit),
    Data(Part, &'a [u8]),
    Stream(Part, &'a [u8]),
    Plaintext(Part, &'a [u8]),
    Mapped(Mapped),
    Place(Part, &'a [u8]),
    Message(Part, &'a [u8]),
    Socket(Socket),
    Resize(Head),
    Signal(Signal),
    Found(Head),
}

impl<'a> Record<'a> {
    /// None for what no program of ours writes.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let head = Head::read(bytes)?;
        Some(match head.kind {
            kind::CALL => {
                let (call, rest) = split::<Call>(bytes)?;
                Self::Call(call, Captured::new(&call.pieces, rest)?)
            }
            kind::CLOSE => Self::Close(split(bytes)?.0),
            kind::FORK => Self::Fork(split(bytes)?.0),
            kind::ARGUMENTS => {
                let (part, data) = part(bytes)?;
                Self::Arguments(part, data)
            }
            kind::ENVIRONMENT => {
                let (part, data) = part(bytes)?;
                Self::Environment(part, data)
            }
            kind::EXEC => {
                let (exec, rest) = split::<Exec>(bytes)?;
                let name = match exec.name {
                    UNREADABLE => b"",
                    len => without_nul(rest.get(..len as usize)?),
                };
                Self::Exec(exec, name)
            }
            kind::EXIT => Self::Exit(split(bytes)?.0),
            kind::DATA => {
                let (part, data) = part(bytes)?;
                Self::Data(part, data)
            }
            kind::STREAM => {
                let (part, data) = part(bytes)?;
                Self::Stream(part, data)
            }
            kind::PLAINTEXT => {
                let (part, data) = part(bytes)?;
                Self::Plaintext(part, data)
            }
            kind::MAPPED => Self::Mapped(split(bytes)?.0),
            kind::MESSAGE => {
                let (part, data) = part(bytes)?;
                Self::Message(part, data)
            }
            kind::RESIZE => Self::Resize(head),
            kind::SIGNAL => Self::Signal(split(bytes)?.0),
            kind::FOUND => Self::Found(head),
            kind::SOCKET => Self::Socket(split(bytes)?.0),
            kind::PLACE => {
                let (part, names) = part(bytes)?;
                Self::Place(part, names)
            }
            _ => return None,
        })
    }
}

fn split<T: Plain>(bytes: &[u8]) -> Option<(T, &[u8])> {
    Some((T::read(bytes)?, bytes.get(size_of::<T>()..)?))
}

/// A part with its bytes; none of them where they could not be read.
fn part(bytes: &[u8]) -> Option<(Part, &[u8])> {
    let (part, rest) = split::<Part>(bytes)?;
    match part.len {
        UNREADABLE => Some((part, &[])),
        len => Some((part, rest.get(..len as usize)?)),
    }
}

fn without_nul(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\0").unwrap_or(text)
}

/// What the kernel copied of what a call points to, in the order of its plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Captured<'a> {
    pieces: [Option<Result<&'a [u8], Unreadable>>; PIECES],
}

impl<'a> Captured<'a> {
    fn new(lens: &[u32; PIECES], mut rest: &'a [u8]) -> Option<Self> {
        let mut pieces = [None; PIECES];
        for (piece, &len) in pieces.iter_mut().zip(lens) {
            *piece = match len {
                ABSENT => None,
                UNREADABLE => Some(Err(Unreadable)),
                len => {
                    let (bytes, behind) = rest.split_at_checked(len as usize)?;
                    rest = behind;
                    Some(Ok(bytes))
                }
            };
        }
        Some(Self { pieces })
    }

    /// The bytes of a piece; empty where there are none.
    pub(super) fn bytes(&self, index: usize) -> Result<&'a [u8], Unreadable> {
        self.pieces.get(index).copied().flatten().unwrap_or(Ok(&[]))
    }
}

/// Only what the plan says is there, in its order: addresses are not looked at.
impl Memory for Captured<'_> {
    fn read_block(&self, _: u64, _: usize, _: &mut Vec<u8>) -> Result<(), Unreadable> {
        Err(Unreadable)
    }

    fn read_text(&self, _: u64, _: usize, _: &mut Vec<u8>) -> Result<(), Unreadable> {
        Err(Unreadable)
    }

    fn read_pieces(&self, pieces: &[Piece], buffer: &mut Vec<u8>) -> Found {
        let mut found = [Err(Unreadable); 3];
        let captured = self.pieces.iter().flatten();
        for ((found, piece), captured) in found.iter_mut().zip(pieces).zip(captured) {
            *found = captured.map(|bytes| {
                let start = buffer.len();
                buffer.extend_from_slice(match piece {
                    Piece::Text { .. } => without_nul(bytes),
                    Piece::Block { .. } => bytes,
                });
                (start, buffer.len())
            });
        }
        found
    }
}
