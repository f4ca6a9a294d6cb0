//! Heads of HTTP/1 messages: collected until the empty line after them, then parsed at once (RFC 9112, 2 to 5).

use std::borrow::Cow;

use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};

use crate::fields::Fields;
use crate::held::Input;
use crate::item::{Part, Version, Why};
use crate::limits::{MAX_FIELDS, MAX_HEAD, MAX_START_LINE};

/// Bytes that are copied at once while a head's end is looked for, so that a body behind it is not.
const STEP: usize = 4 << 10;

/// A head that is being collected.
#[derive(Default)]
pub(crate) struct HeadBuffer {
    bytes: Vec<u8>,
    /// Up to here there is no end of the head.
    scanned: usize,
    /// Its first line is complete and plausible.
    has_line: bool,
    first_byte: u64,
    start: u64,
}

/// What came of taking bytes for a head.
pub(crate) enum Taken<'i> {
    /// More is needed.
    More,
    /// The head, with the empty line.
    Head { bytes: Cow<'i, [u8]>, first_byte: u64, start: u64 },
    /// This is none.
    Bad { why: Why, start: u64, bytes: Vec<u8> },
}

impl HeadBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where the unfinished head begins.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Takes the bytes of a head from the front of `input`, and no others unless it is none.
    pub(crate) fn take<'i>(&mut self, part: Part, input: &mut Input<'i>) -> Taken<'i> {
        if self.bytes.is_empty() {
            let blank = input.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            input.take(blank);
            if input.is_empty() {
                return Taken::More;
            }
            (self.first_byte, self.start) = (input.at, input.offset);
            (self.scanned, self.has_line) = (0, false);
            let within = &input.bytes[..input.bytes.len().min(MAX_HEAD)];
            if check_start(part, within) == Ok(true)
                && let Some(end) = find_end(within, 0)
            {
                let bytes = Cow::Borrowed(input.take(end));
                return Taken::Head { bytes, first_byte: self.first_byte, start: self.start };
            }
        }
        while !input.is_empty() {
            let before = self.bytes.len();
            let step = input.bytes.len().min(STEP);
            self.bytes.extend_from_slice(&input.bytes[..step]);
            if !self.has_line {
                match check_start(part, &self.bytes) {
                    Ok(has_line) => self.has_line = has_line,
                    Err(why) => {
                        input.take(step);
                        return self.bad(why);
                    }
                }
            }
            if let Some(end) = find_end(&self.bytes, self.scanned) {
                input.take(end - before);
                self.bytes.truncate(end);
                let bytes = Cow::Owned(std::mem::take(&mut self.bytes));
                return Taken::Head { bytes, first_byte: self.first_byte, start: self.start };
            }
            input.take(step);
            self.scanned = self.bytes.len();
            if self.bytes.len() > MAX_HEAD {
                return self.bad(Why::HeadTooLarge);
            }
        }
        Taken::More
    }

    fn bad<'i>(&mut self, why: Why) -> Taken<'i> {
        Taken::Bad { why, start: self.start, bytes: std::mem::take(&mut self.bytes) }
    }
}

/// Where the empty line after a head ends; no line feed before `from` ends one.
pub(crate) fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).find_map(|at| {
        let line = bytes[..at].strip_suffix(b"\r").unwrap_or(&bytes[..at]);
        line.ends_with(b"\n").then_some(at + 1)
    })
}

/// Whether the first line is there, or why this is not the beginning of a head.
pub(crate) fn check_start(part: Part, bytes: &[u8]) -> Result<bool, Why> {
    let why = match part {
        Part::Request => Why::NotARequest,
        Part::Response => Why::NotAResponse,
    };
    let within = &bytes[..bytes.len().min(MAX_START_LINE)];
    let line = memchr::memchr(b'\n', within).map(|end| &bytes[..end]);
    if line.is_none() && bytes.len() > MAX_START_LINE {
        return Err(why);
    }
    let is_plausible = match part {
        Part::Request => {
            let method = bytes.iter().take(33).take_while(|byte| is_token(**byte)).count();
            let after = bytes.get(method);
            let is_http = line.is_none_or(|line| memchr::memmem::find(line, b" HTTP/1.").is_some());
            method <= 32 && (after.is_none() || (method > 0 && after == Some(&b' '))) && is_http
        }
        Part::Response => {
            const BEGIN: &[u8] = b"HTTP/1.";
            let common = bytes.len().min(BEGIN.len());
            bytes[..common] == BEGIN[..common]
        }
    };
    if is_plausible { Ok(line.is_some()) } else { Err(why) }
}

/// Whether it may be part of a method or a field's name (RFC 9110, 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A request line with fields.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
}

/// A status line with fields.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) version: Version,
    pub(crate) status: u16,
    pub(crate) reason: Vec<u8>,
    pub(crate) fields: Fields,
}

/// As lenient as httparse can be without dropping anything: what was said on the wire is to be shown.
fn config() -> ParserConfig {
    let mut config = ParserConfig::default();
    config
        .allow_multiple_spaces_in_request_line_delimiters(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_space_before_first_header_name(true);
    config
}

/// Room for as many fields as there are lines.
fn room(head: &[u8]) -> Result<Vec<Header<'_>>, Why> {
    let lines = memchr::memchr_iter(b'\n', head).count();
    if lines > MAX_FIELDS {
        return Err(Why::HeadTooLarge);
    }
    Ok(vec![EMPTY_HEADER; lines])
}

fn owned(headers: &[Header<'_>]) -> Fields {
    headers.iter().map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec())).collect()
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

/// Parses a request's whole head.
pub(crate) fn request(head: &[u8]) -> Result<Request, Why> {
    let mut headers = room(head)?;
    let mut request = httparse::Request::new(&mut headers);
    match config().parse_request(&mut request, head) {
        Ok(Status::Complete(len)) if len == head.len() => Ok(Request {
            method: request.method.unwrap_or_default().as_bytes().to_vec(),
            target: request.path.unwrap_or_default().as_bytes().to_vec(),
            version: version(request.version),
            fields: owned(request.headers),
        }),
        Ok(_) => Err(Why::Head(httparse::Error::Token)),
        Err(error) => Err(Why::Head(error)),
    }
}

/// Parses a response's whole head.
pub(crate) fn response(head: &[u8]) -> Result<Response, Why> {
    let mut headers = room(head)?;
    let mut response = httparse::Response::new(&mut headers);
    match config().parse_response(&mut response, head) {
        Ok(Status::Complete(len)) if len == head.len() => Ok(Response {
            version: version(response.version),
            status: response.code.unwrap_or_default(),
            reason: response.reason.unwrap_or_default().as_bytes().to_vec(),
            fields: owned(response.headers),
        }),
        Ok(_) => Err(Why::Head(httparse::Error::Token)),
        Err(error) => Err(Why::Head(error)),
    }
}

/// Parses trailers, with the empty line after them.
pub(crate) fn trailers(lines: &[u8]) -> Result<Fields, Why> {
    let mut headers = room(lines)?;
    match httparse::parse_headers(lines, &mut headers) {
        Ok(Status::Complete((_, headers))) => Ok(owned(headers)),
        _ => Err(Why::Trailers),
    }
}

/// Whether the beginning of a head, so far as it is there, is one that httparse takes.
pub(crate) fn is_plausible(part: Part, begin: &[u8]) -> bool {
    let Ok(mut headers) = room(begin) else { return false };
    headers.push(EMPTY_HEADER);
    let config = config();
    match part {
        Part::Request => {
            config.parse_request(&mut httparse::Request::new(&mut headers), begin).is_ok()
        }
        Part::Response => {
            config.parse_response(&mut httparse::Response::new(&mut headers), begin).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(part: Part, pieces: &[&[u8]]) -> (Option<Vec<u8>>, Vec<u8>, Option<Why>) {
        let mut buffer = HeadBuffer::default();
        let mut head = None;
        let mut rest = Vec::new();
        for piece in pieces {
            let mut input = Input { at: 0, offset: 0, bytes: piece };
            if head.is_none() {
                match buffer.take(part, &mut input) {
                    Taken::More => {}
                    Taken::Head { bytes, .. } => head = Some(bytes.into_owned()),
                    Taken::Bad { why, bytes, .. } => {
                        return (None, [&bytes, input.bytes].concat(), Some(why));
                    }
                }
            }
            rest.extend_from_slice(input.bytes);
        }
        (head, rest, None)
    }

    #[test]
    fn a_head_is_cut_off_wherever_it_is_split() {
        for head in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n"] {
            let stream = format!("\r\n{head}\n\nbody");
            for at in 0..stream.len() {
                let (a, b) = stream.as_bytes().split_at(at);
                let taken = take(Part::Request, &[a, b]);
                assert_eq!(taken, (Some(head.into()), b"\n\nbody".to_vec(), None), "split at {at}");
            }
            assert_eq!(request(head.as_bytes()).unwrap().fields, [(b"Host".into(), b"a".into())]);
        }
    }

    #[test]
    fn what_is_no_head_is_told_early_and_given_back() {
        let wrong = |part, bytes: &[u8]| {
            let (head, rest, why) = take(part, &[bytes]);
            assert_eq!((head, rest.as_slice()), (None, bytes));
            why
        };
        assert_eq!(wrong(Part::Request, b"{\"a\": 1"), Some(Why::NotARequest));
        assert_eq!(wrong(Part::Request, b"GET /\r\n"), Some(Why::NotARequest));
        assert_eq!(wrong(Part::Response, b"HTTP/2"), Some(Why::NotAResponse));
        let long = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(MAX_HEAD));
        assert_eq!(wrong(Part::Request, long.as_bytes()), Some(Why::HeadTooLarge));
        let endless = "x".repeat(MAX_START_LINE);
        assert_eq!(
            wrong(Part::Request, format!("GET /{endless}").as_bytes()),
            Some(Why::NotARequest)
        );
    }

    #[test]
    fn odd_but_common_heads_are_taken() {
        let head = response(b"HTTP/1.1 200\r\nA : b\r\nC: d\r\n  e\r\nf:\r\n\r\n").unwrap();
        assert_eq!((head.status, head.reason.len(), head.fields.len()), (200, 0, 3));
        assert_eq!(trailers(b"\r\n").unwrap(), []);
        assert_eq!(trailers(b"a: b\r\n\r\n").unwrap().len(), 1);
    }
}
