//! Content codings as streaming decoders: gzip, deflate, br, zstd, and several inside each other (RFC 9110, 8.4).
//!
//! Each gives what it can of every piece at once, in pieces of bounded size, so that a compressed event stream is seen
//! as it comes and a small body that unpacks to gigabytes costs no memory.

use brotli_decompressor::{
    BrotliDecompressStream, BrotliResult, BrotliState, HuffmanCode, StandardAlloc,
};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Operation};

use crate::limits::{MAX_CODINGS, MAX_ZSTD_WINDOW_LOG};

/// Bytes that a decoder gives at once.
const OUTPUT: usize = 32 << 10;

/// Why a body could not be decoded to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodingError {
    /// Nothing here decodes this.
    #[error("unknown content coding {0:?}")]
    Unknown(String),
    /// More codings inside each other than [`MAX_CODINGS`].
    #[error("too many content codings")]
    TooMany,
    /// The bytes are not of this coding, or damaged.
    #[error("malformed {0} data")]
    Malformed(&'static str),
    /// The body ends before the coding's own end.
    #[error("{0} data is cut")]
    Cut(&'static str),
    /// Something else follows after the coding's own end.
    #[error("bytes after the end of the {0} data")]
    Trailing(&'static str),
    /// Bytes in the middle were not captured.
    #[error("bytes in the {0} data were not captured")]
    Missing(&'static str),
}

/// What could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodingFailure {
    /// Why.
    pub error: CodingError,
    /// Bytes of the body that were not given in any form. Of an unknown coding they are given as they came, so none.
    pub undecoded: u64,
}

/// Undoes the content codings of one body.
#[derive(Default)]
pub struct Decoder {
    /// The first takes the bytes of the wire.
    stages: Vec<Stage>,
    failure: Option<CodingFailure>,
    begun: bool,
}

impl Decoder {
    /// A decoder for codings in the order in which they were applied, as in `Content-Encoding`; none where there is
    /// nothing to do. If one is unknown the bytes are passed on as they come, and [`Decoder::finish`] says so.
    pub fn new<'c>(codings: impl IntoIterator<Item = &'c [u8]>) -> Option<Self> {
        let mut decoder = Self::default();
        for name in codings {
            if name.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            match Stage::named(name) {
                _ if decoder.stages.len() == MAX_CODINGS => decoder.give_up(CodingError::TooMany),
                Some(stage) => decoder.stages.push(stage),
                None => {
                    let name = String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned();
                    decoder.give_up(CodingError::Unknown(name));
                }
            }
            if decoder.failure.is_some() {
                return Some(decoder);
            }
        }
        decoder.stages.reverse();
        (!decoder.stages.is_empty()).then_some(decoder)
    }

    fn give_up(&mut self, error: CodingError) {
        self.failure = Some(CodingFailure { error, undecoded: 0 });
        self.stages.clear();
    }

    /// Decodes a piece; `out` gets what came of it, at most 32 KiB at a time.
    pub fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        self.begun |= !bytes.is_empty();
        match &mut self.failure {
            Some(CodingFailure {
                error: CodingError::Unknown(_) | CodingError::TooMany, ..
            }) => {
                out(bytes);
            }
            Some(failure) => failure.undecoded += bytes.len() as u64,
            None => {
                if let Err(failure) = run(&mut self.stages, bytes, out) {
                    self.failure = Some(failure);
                    self.stages.clear();
                }
            }
        }
    }

    /// Bytes are missing here: nothing after them can be decoded.
    pub fn missing(&mut self) {
        if let Some(stage) = self.stages.first() {
            self.give_up(CodingError::Missing(stage.name()));
        }
    }

    /// What could not be decoded, at the end of a body that is `whole` or was cut.
    pub fn finish(mut self, whole: bool) -> Option<CodingFailure> {
        if self.failure.is_none()
            && whole
            && self.begun
            && let Some(stage) = self.stages.iter().find(|stage| !stage.is_at_end())
        {
            self.give_up(CodingError::Cut(stage.name()));
        }
        self.failure
    }
}

/// Sends a piece through all stages.
fn run(
    stages: &mut [Stage],
    input: &[u8],
    out: &mut dyn FnMut(&[u8]),
) -> Result<(), CodingFailure> {
    let Some((first, rest)) = stages.split_first_mut() else {
        if !input.is_empty() {
            out(input);
        }
        return Ok(());
    };
    // A decoder may keep what it decoded in the same call before damage. So one that hands on to another gets a byte at a time:
    // which of two fails first, and what comes of the bytes before, is the same wherever they are cut.
    let step = if rest.is_empty() { input.len().max(1) } else { 1 };
    for (number, bytes) in input.chunks(step).enumerate() {
        let mut after = Ok(());
        let done = first.push(bytes, &mut |piece| {
            if after.is_ok() {
                after = run(rest, piece, out);
            }
        });
        // What a later stage could not decode came before what this one could not.
        after.and(done).map_err(|failure| {
            let left = (input.len() - number * step - bytes.len()) as u64;
            CodingFailure { undecoded: failure.undecoded + left, ..failure }
        })?;
    }
    Ok(())
}

/// One coding.
struct Stage {
    coder: Coder,
    output: Vec<u8>,
}

enum Coder {
    Gzip { inflate: Box<Decompress>, state: Member },
    Deflate { inflate: Option<Box<Decompress>>, first: Option<u8>, ended: bool },
    Brotli { state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>, ended: bool },
    Zstd { decoder: zstd::stream::raw::Decoder<'static>, ended: bool, after_frame: bool },
}

/// Where a gzip decoder is. A body may be several gzip members one after the other (RFC 1952, 2.2).
#[derive(PartialEq, Eq)]
enum Member {
    Inside,
    Between,
}

impl Stage {
    fn named(name: &[u8]) -> Option<Self> {
        let coder = match name.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => {
                Coder::Gzip { inflate: Box::new(Decompress::new_gzip(15)), state: Member::Inside }
            }
            b"deflate" => Coder::Deflate { inflate: None, first: None, ended: false },
            b"br" => {
                let [bytes, words, codes] = [(); 3].map(|()| StandardAlloc::default());
                let state = BrotliState::new(bytes, words, codes);
                Coder::Brotli { state: Box::new(state), ended: false }
            }
            b"zstd" => {
                let mut decoder = zstd::stream::raw::Decoder::new().ok()?;
                decoder.set_parameter(DParameter::WindowLogMax(MAX_ZSTD_WINDOW_LOG)).ok()?;
                Coder::Zstd { decoder, ended: false, after_frame: false }
            }
            _ => return None,
        };
        Some(Self { coder, output: vec![0; OUTPUT] })
    }

    fn name(&self) -> &'static str {
        match self.coder {
            Coder::Gzip { .. } => "gzip",
            Coder::Deflate { .. } => "deflate",
            Coder::Brotli { .. } => "br",
            Coder::Zstd { .. } => "zstd",
        }
    }

    fn is_at_end(&self) -> bool {
        match &self.coder {
            Coder::Gzip { state, .. } => *state == Member::Between,
            Coder::Deflate { ended, .. }
            | Coder::Brotli { ended, .. }
            | Coder::Zstd { ended, .. } => *ended,
        }
    }

    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(&[u8])) -> Result<(), CodingFailure> {
        let name = self.name();
        let output = &mut self.output[..];
        let (at, error) = match &mut self.coder {
            Coder::Gzip { inflate, state } => gunzip(inflate, state, input, output, out),
            Coder::Deflate { inflate, first, ended } => {
                inflate_either(inflate, first, ended, input, output, out)
            }
            Coder::Brotli { state, ended } => unbrotli(state, ended, input, output, out),
            Coder::Zstd { decoder, ended, after_frame } => {
                unzstd(decoder, (ended, after_frame), input, output, out)
            }
        };
        let undecoded = (input.len() - at) as u64;
        match error {
            None => Ok(()),
            Some(kind) => Err(CodingFailure { error: kind(name), undecoded }),
        }
    }
}

/// How far a decoder came in its input, and what stopped it.
type Outcome = (usize, Option<fn(&'static str) -> CodingError>);

/// What one run of an inflater came to.
pub(crate) enum Inflated {
    /// All input is used up.
    More,
    /// The stream's end.
    End,
    /// Damaged.
    Malformed,
}

/// Runs an inflater over `input` from `at` on.
pub(crate) fn inflate_all(
    inflate: &mut Decompress,
    input: &[u8],
    at: &mut usize,
    output: &mut [u8],
    out: &mut dyn FnMut(&[u8]),
) -> Inflated {
    loop {
        let (taken, given) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(&input[*at..], output, FlushDecompress::Sync);
        let taken = (inflate.total_in() - taken) as usize;
        let given = (inflate.total_out() - given) as usize;
        *at += taken;
        if given > 0 {
            out(&output[..given]);
        }
        match status {
            Ok(Status::StreamEnd) => return Inflated::End,
            Ok(_) if given == output.len() => {}
            Ok(_) if *at == input.len() || (taken == 0 && given == 0) => return Inflated::More,
            Ok(_) => {}
            Err(_) => return Inflated::Malformed,
        }
    }
}

fn gunzip(
    inflate: &mut Box<Decompress>,
    state: &mut Member,
    input: &[u8],
    output: &mut [u8],
    out: &mut dyn FnMut(&[u8]),
) -> Outcome {
    let mut at = 0;
    while at < input.len() {
        if *state == Member::Between {
            if input[at] != 0x1f {
                return (at, Some(CodingError::Trailing));
            }
            **inflate = Decompress::new_gzip(15);
            *state = Member::Inside;
        }
        match inflate_all(inflate, input, &mut at, output, out) {
            Inflated::More => break,
            Inflated::End => *state = Member::Between,
            Inflated::Malformed => return (at, Some(CodingError::Malformed)),
        }
    }
    (input.len(), None)
}

/// `deflate` means zlib (RFC 9110, 8.4.1.2), but some send raw deflate: the first two bytes tell.
fn inflate_either(
    inflate: &mut Option<Box<Decompress>>,
    first: &mut Option<u8>,
    ended: &mut bool,
    input: &[u8],
    output: &mut [u8],
    out: &mut dyn FnMut(&[u8]),
) -> Outcome {
    let mut at = 0;
    if inflate.is_none() {
        let Some(&next) = input.first() else { return (0, None) };
        let Some(held) = *first else {
            *first = Some(next);
            let (at, error) = inflate_either(inflate, first, ended, &input[1..], output, out);
            return (at + 1, error);
        };
        let is_zlib = held & 0x0f == 8 && u16::from_be_bytes([held, next]) % 31 == 0;
        let mut inflater = Box::new(Decompress::new(is_zlib));
        let outcome = inflate_all(&mut inflater, &[held], &mut 0, output, out);
        *inflate = Some(inflater);
        match outcome {
            Inflated::More => {}
            Inflated::End => *ended = true,
            Inflated::Malformed => return (0, Some(CodingError::Malformed)),
        }
    }
    if *ended && !input.is_empty() {
        return (0, Some(CodingError::Trailing));
    }
    let Some(inflater) = inflate else { return (0, None) };
    match inflate_all(inflater, input, &mut at, output, out) {
        Inflated::More => (input.len(), None),
        Inflated::End => {
            *ended = true;
            (at, (at < input.len()).then_some(CodingError::Trailing))
        }
        Inflated::Malformed => (at, Some(CodingError::Malformed)),
    }
}

fn unbrotli<A, B, C>(
    state: &mut BrotliState<A, B, C>,
    ended: &mut bool,
    input: &[u8],
    output: &mut [u8],
    out: &mut dyn FnMut(&[u8]),
) -> Outcome
where
    A: brotli_decompressor::Allocator<u8>,
    B: brotli_decompressor::Allocator<u32>,
    C: brotli_decompressor::Allocator<HuffmanCode>,
{
    let (mut at, mut left, mut total) = (0, input.len(), 0);
    if *ended {
        return (0, (left > 0).then_some(CodingError::Trailing));
    }
    loop {
        let (mut room, mut given) = (output.len(), 0);
        let result = BrotliDecompressStream(
            &mut left, &mut at, input, &mut room, &mut given, output, &mut total, state,
        );
        if given > 0 {
            out(&output[..given]);
        }
        match result {
            BrotliResult::ResultSuccess => {
                *ended = true;
                return (at, (left > 0).then_some(CodingError::Trailing));
            }
            BrotliResult::NeedsMoreInput => return (input.len(), None),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => {
                return (at.min(input.len()), Some(CodingError::Malformed));
            }
        }
    }
}

fn unzstd(
    decoder: &mut zstd::stream::raw::Decoder<'static>,
    (ended, after_frame): (&mut bool, &mut bool),
    input: &[u8],
    output: &mut [u8],
    out: &mut dyn FnMut(&[u8]),
) -> Outcome {
    let mut at = 0;
    loop {
        let Ok(status) = decoder.run_on_buffers(&input[at..], output) else {
            let error = if *after_frame { CodingError::Trailing } else { CodingError::Malformed };
            return (at, Some(error));
        };
        at += status.bytes_read;
        if status.bytes_written > 0 {
            out(&output[..status.bytes_written]);
        }
        if status.bytes_read > 0 || status.bytes_written > 0 {
            // Frames may follow each other (RFC 8878, 3); 0 is said at the end of each.
            *ended = status.remaining == 0;
            *after_frame = *ended || (*after_frame && status.bytes_written == 0);
        }
        let is_idle = status.bytes_read == 0 && status.bytes_written == 0;
        if (at == input.len() && status.bytes_written < output.len()) || is_idle {
            return (input.len(), None);
        }
    }
}
