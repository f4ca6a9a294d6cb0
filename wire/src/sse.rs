//! Server-sent events: the stream interpretation of the HTML standard (9.2.6), with the time of each event.

use std::borrow::Cow;

use crate::limits::MAX_EVENT;

/// An event. Its bytes are as they came; the standard decodes them as UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// When the empty line after it came, in the caller's nanoseconds.
    pub at: u64,
    /// Its type; empty where none was given, which means `message`.
    pub event: Cow<'a, [u8]>,
    /// Its data: the lines of all `data` fields, joined by line feeds.
    pub data: Cow<'a, [u8]>,
    /// The last event id, which stays until another is given.
    pub id: Cow<'a, [u8]>,
    /// The time until a reconnection, in milliseconds, where this event gives one.
    pub retry: Option<u64>,
    /// Bytes that the event had beyond [`MAX_EVENT`]; its data lacks something then.
    pub cut: u64,
}

impl Event<'_> {
    /// The same with bytes of its own.
    pub fn into_owned(self) -> Event<'static> {
        Event {
            event: Cow::Owned(self.event.into_owned()),
            data: Cow::Owned(self.data.into_owned()),
            id: Cow::Owned(self.id.into_owned()),
            ..self
        }
    }
}

const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Takes an event stream apart, whatever the pieces it comes in.
#[derive(Default)]
pub struct EventParser {
    /// Bytes of the byte order mark that were seen; 4 when it is past.
    bom: usize,
    /// The last byte was a carriage return, with which a line feed belongs.
    after_cr: bool,
    /// An unfinished line.
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    event: Vec<u8>,
    id: Vec<u8>,
    retry: Option<u64>,
    cut: u64,
}

impl EventParser {
    /// Takes the next piece, which came at `at`; `out` gets the events that it completes.
    pub fn push(&mut self, at: u64, mut bytes: &[u8], out: &mut dyn FnMut(Event<'_>)) {
        while self.bom <= BOM.len() && !bytes.is_empty() {
            if self.bom < BOM.len() && bytes[0] == BOM[self.bom] {
                self.bom += 1;
                bytes = &bytes[1..];
                continue;
            }
            if self.bom < BOM.len() {
                self.line.extend_from_slice(&BOM[..self.bom]);
            }
            self.bom = BOM.len() + 1;
        }
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            let line = &bytes[..end];
            if self.line.is_empty() {
                self.field(at, line, out);
            } else {
                self.keep(line);
                let line = std::mem::take(&mut self.line);
                self.field(at, &line, out);
                self.line = line;
                self.line.clear();
            }
            let is_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if is_cr {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
        }
        self.keep(bytes);
    }

    /// Keeps what may be the beginning of a line.
    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_EVENT.saturating_sub(self.line.len() + self.data.len());
        let kept = bytes.len().min(room);
        self.line.extend_from_slice(&bytes[..kept]);
        self.cut += (bytes.len() - kept) as u64;
    }

    /// Takes a whole line.
    fn field(&mut self, at: u64, line: &[u8], out: &mut dyn FnMut(Event<'_>)) {
        if line.is_empty() {
            return self.dispatch(at, out);
        }
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match name {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                let room = MAX_EVENT.saturating_sub(self.data.len());
                let kept = value.len().min(room);
                self.data.extend_from_slice(&value[..kept]);
                self.cut += (value.len() - kept) as u64;
            }
            b"event" => {
                self.event.clear();
                self.event.extend_from_slice(value);
            }
            b"id" if !value.contains(&0) => {
                self.id.clear();
                self.id.extend_from_slice(value);
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.retry = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            // Comments, which have no name, and what the standard does not know.
            _ => {}
        }
    }

    /// Gives the event; without data there is none.
    fn dispatch(&mut self, at: u64, out: &mut dyn FnMut(Event<'_>)) {
        if self.has_data {
            out(Event {
                at,
                event: Cow::Borrowed(&self.event),
                data: Cow::Borrowed(&self.data),
                id: Cow::Borrowed(&self.id),
                retry: self.retry,
                cut: self.cut,
            });
        }
        // One huge event should not keep its memory for the rest of the stream.
        if self.data.capacity() > 1 << 20 {
            self.data = Vec::new();
        }
        self.data.clear();
        self.event.clear();
        (self.has_data, self.retry, self.cut) = (false, None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<Event<'static>> {
        let mut parser = EventParser::default();
        let mut events = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            parser.push(at as u64, piece, &mut |event| events.push(event.into_owned()));
        }
        events
    }

    fn data(stream: &str) -> Vec<String> {
        let events = events(&[stream.as_bytes()]);
        events.iter().map(|event| String::from_utf8(event.data.to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_standards_examples() {
        // https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
        assert_eq!(data("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
        let stream = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n";
        assert_eq!(data(stream), ["first event", "second event"]);
        assert_eq!(data(&format!("{stream}\n"))[2], " third event");
        assert_eq!(data("data\n\ndata\ndata\n\ndata:"), ["", "\n"]);
        assert_eq!(data("data:test\n\ndata: test\n\n"), ["test", "test"]);
    }

    #[test]
    fn fields_are_kept_and_reset_as_the_standard_says() {
        let stream = "\u{feff}event: a\nid: 7\nretry: 10\ndata: x\n\nevent: none\n\ndata: y\nid: 8\0\nretry: 1x\n\n";
        let events = events(&[stream.as_bytes()]);
        assert_eq!(events.len(), 2);
        let [first, second] = [&events[0], &events[1]];
        assert_eq!((&*first.event, &*first.id, first.retry), (&b"a"[..], &b"7"[..], Some(10)));
        assert_eq!((&*second.event, &*second.id, second.retry), (&b""[..], &b"7"[..], None));
    }

    #[test]
    fn an_event_bears_the_time_of_the_piece_that_ends_it() {
        let found = events(&[b"data: a\r\n", b"\r", b"\nda", b"ta: b\n", b"\ndata: c\r\r"]);
        let found: Vec<_> = found.iter().map(|event| (event.at, event.data.to_vec())).collect();
        assert_eq!(found, [(1, b"a".to_vec()), (4, b"b".to_vec()), (4, b"c".to_vec())]);
    }

    #[test]
    fn every_split_gives_the_same_events() {
        let stream = b"\xef\xbb\xbf:c\r\rdata: one\r\nevent: e\r\n\r\ndata\rid: 3\r\r\ndata:a\n\xef\xbbdata:b\ndata: c\n\n";
        let plain = |pieces: &[&[u8]]| -> Vec<_> {
            events(pieces).into_iter().map(|event| Event { at: 0, ..event }).collect()
        };
        let whole = plain(&[stream]);
        assert_eq!(whole.len(), 3);
        for at in 0..=stream.len() {
            let (a, b) = stream.split_at(at);
            assert_eq!(plain(&[a, b]), whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(plain(&bytes), whole);
    }
}
