//! Ways in which one text stands inside of another: escapes of JSON, percent-encoding, base64.

use std::ops::Range;

/// A text that was decoded, and where each of its bytes stood before.
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    /// What was decoded: where it is now, and where it was.
    decoded: Vec<(Range<usize>, Range<usize>)>,
}

impl View {
    /// Where the bytes `range` stood: all of each sequence that they come from.
    pub(super) fn source(&self, range: &Range<usize>) -> Range<usize> {
        let place = |at: usize, is_end: bool| {
            let next = self.decoded.partition_point(|(now, _)| now.start < at);
            match next.checked_sub(1).map(|before| &self.decoded[before]) {
                None => at,
                Some((now, was)) if at < now.end => {
                    if is_end {
                        was.end
                    } else {
                        was.start
                    }
                }
                Some((now, was)) => was.end + at - now.end,
            }
        };
        place(range.start, false)..place(range.end, true)
    }

    /// Decodes what `sequence` takes off the front of a text; none where it finds nothing.
    fn decode(
        text: &[u8],
        begins: u8,
        sequence: impl Fn(&[u8], &mut Vec<u8>) -> Option<usize>,
    ) -> Option<Self> {
        if !text.contains(&begins) {
            return None;
        }
        let mut view = Self { bytes: Vec::with_capacity(text.len()), decoded: Vec::new() };
        let mut at = 0;
        while at < text.len() {
            let start = view.bytes.len();
            match sequence(&text[at..], &mut view.bytes) {
                Some(len) if text[at] == begins => {
                    view.decoded.push((start..view.bytes.len(), at..at + len));
                    at += len;
                }
                _ => {
                    view.bytes.push(text[at]);
                    at += 1;
                }
            }
        }
        (!view.decoded.is_empty()).then_some(view)
    }

    /// Without the escapes of JSON strings, wherever they stand.
    pub(super) fn of_json(text: &[u8]) -> Option<Self> {
        Self::decode(text, b'\\', |text, out| {
            let plain = match text.get(..2)? {
                [b'\\', byte @ (b'"' | b'\\' | b'/')] => *byte,
                b"\\b" => 8,
                b"\\f" => 12,
                b"\\n" => b'\n',
                b"\\r" => b'\r',
                b"\\t" => b'\t',
                b"\\u" => return unicode(text, out),
                _ => return None,
            };
            out.push(plain);
            Some(2)
        })
    }

    /// Without percent-encoding, wherever it stands.
    pub(super) fn of_percent(text: &[u8]) -> Option<Self> {
        Self::decode(text, b'%', |text, out| {
            let hex = text.get(..3)?.strip_prefix(b"%")?;
            out.push(u8::try_from(number(hex)?).ok()?);
            Some(3)
        })
    }
}

/// `\u00e9`, or two of them for one character.
fn unicode(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        number(digits)
    };
    let first = unit(0)?;
    let (code, len) = match first {
        0xd800..=0xdbff => match unit(6)? {
            low @ 0xdc00..=0xdfff => (0x10000 + ((first - 0xd800) << 10) + low - 0xdc00, 12),
            _ => return None,
        },
        _ => (first, 6),
    };
    out.extend(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    Some(len)
}

fn number(hex: &[u8]) -> Option<u32> {
    let all_digits = hex.iter().all(u8::is_ascii_hexdigit);
    u32::from_str_radix(str::from_utf8(hex).ok().filter(|_| all_digits)?, 16).ok()
}

/// Runs of base64, of either alphabet, that are long enough to hide something: place and length at each.
const MIN_RUN: usize = 12;

/// Calls `f` with every run of base64 in `text` and with what it stands for, from each of the places where it may begin.
pub(super) fn each_base64(text: &[u8], mut f: impl FnMut(Range<usize>, &[u8])) {
    let mut start = 0;
    let mut decoded = Vec::new();
    while start < text.len() {
        let len = text[start..].iter().take_while(|byte| sextet(**byte).is_some()).count();
        if len >= MIN_RUN {
            for skip in 0..4 {
                decoded.clear();
                decode(&text[start + skip..start + len], &mut decoded);
                f(start..start + len, &decoded);
            }
        }
        start += len + 1;
    }
}

fn decode(run: &[u8], out: &mut Vec<u8>) {
    for group in run.chunks(4) {
        let mut bits = 0u32;
        for (n, byte) in group.iter().enumerate() {
            bits |= u32::from(sextet(*byte).unwrap_or(0)) << (18 - 6 * n);
        }
        // Of a group that was cut, the bytes that are whole.
        let whole = group.len() * 6 / 8;
        out.extend_from_slice(&bits.to_be_bytes()[1..1 + whole]);
    }
}

fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decoded_is_found_where_it_stood() {
        let text = br#"x "\u00e9\ud83d\ude00 a\n\"b" \q"#;
        let view = View::of_json(text).unwrap();
        assert_eq!(str::from_utf8(&view.bytes).unwrap(), "x \"é😀 a\n\"b\" \\q");
        let at = view.bytes.windows(3).position(|part| part == b"a\n\"").unwrap();
        assert_eq!(&text[view.source(&(at..at + 3))], br#"a\n\""#);
        // Half a character takes all of it.
        let at = view.bytes.windows(2).position(|part| part == "é".as_bytes()).unwrap();
        assert_eq!(&text[view.source(&(at + 1..at + 3))], br"\u00e9\ud83d\ude00");
        assert_eq!(&text[view.source(&(0..2))], b"x ");
        for plain in [&b"nothing"[..], b"\\", b"\\u12", b"\\ud800\\n x", b"\\u+123"] {
            let view = View::of_json(plain).map(|view| view.bytes);
            assert!(view.is_none() || plain.ends_with(b"x"), "{plain:?}");
        }
        let view = View::of_percent(b"a%2Fb%zz%2").unwrap();
        assert_eq!(view.bytes, b"a/b%zz%2");
        assert_eq!(view.source(&(1..2)), 1..4);
    }

    #[test]
    fn base64_is_read_from_wherever_it_begins() {
        for (text, run) in [
            ("Basic dXNlcjpodW50ZXIyIQ==", "dXNlcjpodW50ZXIyIQ"),
            ("xxdXNlcjpodW50ZXIyIQ", "xxdXNlcjpodW50ZXIyIQ"),
            ("xxxdXNlcjpodW50ZXIyIQ", "xxxdXNlcjpodW50ZXIyIQ"),
        ] {
            let mut found = None;
            each_base64(text.as_bytes(), |range, decoded| {
                if decoded.windows(7).any(|part| part == b"hunter2") {
                    found = Some(&text[range]);
                }
            });
            assert_eq!(found, Some(run));
        }
    }
}
