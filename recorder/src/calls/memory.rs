//! Memory of the process that makes a call, and how what lies there is laid out.

/// Memory at an address could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// The size of a pointer and of a `long` in a tracee's memory: what a call points to is laid out by its ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    #[cfg(target_arch = "x86_64")]
    Four,
    Eight,
}

impl Word {
    /// In bytes.
    pub(crate) const fn size(self) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// One of these as a signed number.
    pub(crate) fn signed(self, value: u64) -> i64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Four => i64::from(value as i32),
            Self::Eight => value as i64,
        }
    }
}

/// A string or a block to read: filled by [`Memory::read_pieces`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece {
    /// Up to a NUL, or `max` bytes.
    Text { address: u64, max: usize },
    /// So many bytes.
    Block { address: u64, len: usize },
}

impl Piece {
    pub(crate) fn address(self) -> u64 {
        match self {
            Self::Text { address, .. } | Self::Block { address, .. } => address,
        }
    }
}

/// Where the pieces of a call stand in a buffer, or why not.
pub(crate) type Found = [Result<(usize, usize), Unreadable>; 3];

/// The memory of one process, or as much of it as is at hand.
pub(crate) trait Memory {
    /// Appends `len` bytes at `address`; all of them or none.
    fn read_block(&self, address: u64, len: usize, buffer: &mut Vec<u8>) -> Result<(), Unreadable>;

    /// Appends the text at `address` without its NUL; at most `max` bytes.
    fn read_text(&self, address: u64, max: usize, buffer: &mut Vec<u8>) -> Result<(), Unreadable>;

    /// Reads up to three pieces. Appends each to `buffer` and gives the range where it stands there; texts without their
    /// NUL.
    fn read_pieces(&self, pieces: &[Piece], buffer: &mut Vec<u8>) -> Found {
        let mut found = [Err(Unreadable); 3];
        for (found, piece) in found.iter_mut().zip(pieces) {
            *found = self.read_piece(*piece, buffer);
        }
        found
    }

    /// Reads one.
    fn read_piece(&self, piece: Piece, buffer: &mut Vec<u8>) -> Result<(usize, usize), Unreadable> {
        let start = buffer.len();
        match piece {
            Piece::Text { address, max } => self.read_text(address, max, buffer)?,
            Piece::Block { address, len } => self.read_block(address, len, buffer)?,
        }
        Ok((start, buffer.len()))
    }

    /// Words of an array.
    fn read_words(&self, word: Word, address: u64, count: usize) -> Result<Vec<u64>, Unreadable> {
        let mut bytes = Vec::new();
        self.read_block(address, count * word.size() as usize, &mut bytes)?;
        Ok(words(word, &bytes).collect())
    }
}

/// The words of a block.
pub(crate) fn words(word: Word, bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(word.size() as usize).map(|bytes| match bytes {
        &[a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        bytes => u64::from_ne_bytes(bytes.try_into().expect("8 bytes")),
    })
}
