//! Bytes of one direction, with a place and a time, and such bytes held until something else is known.

/// Bytes that came together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'i> {
    /// When, in the caller's nanoseconds.
    pub(crate) at: u64,
    /// Where the first of them stands in its direction.
    pub(crate) offset: u64,
    pub(crate) bytes: &'i [u8],
}

impl<'i> Input<'i> {
    /// Takes the first bytes.
    pub(crate) fn take(&mut self, len: usize) -> &'i [u8] {
        let (taken, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        self.offset += taken.len() as u64;
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Bytes that wait, with the times at which they came.
#[derive(Debug, Default)]
pub(crate) struct Held {
    offset: u64,
    bytes: Vec<u8>,
    /// Times, each with the end of what came then.
    times: Vec<(u64, usize)>,
}

impl Held {
    pub(crate) fn push(&mut self, input: Input<'_>) {
        if input.is_empty() {
            return;
        }
        if self.bytes.is_empty() {
            self.offset = input.offset;
        }
        self.bytes.extend_from_slice(input.bytes);
        match self.times.last_mut() {
            Some((at, end)) if *at == input.at => *end = self.bytes.len(),
            _ => self.times.push((input.at, self.bytes.len())),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What came together, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Input<'_>> {
        self.times.iter().scan(0, |start, &(at, end)| {
            let input =
                Input { at, offset: self.offset + *start as u64, bytes: &self.bytes[*start..end] };
            *start = end;
            Some(input)
        })
    }
}
