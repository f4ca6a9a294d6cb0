//! Output and input of the tree, held back where its end may be the first half of a secret.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use agentrec_trace::event::{Content, TermInput, TermOutput};
use agentrec_trace::{Bytes, Data, Event, ProcId};

use crate::redact::{Redactor, Stream};

/// Where bytes come from or go to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Channel {
    /// A descriptor of the command's.
    Output(i32),
    /// The terminal's user.
    Input,
}

impl Channel {
    /// What is held goes when nothing has followed for this long (a prompt waits for its answer; people type slowly) …
    fn idle(self) -> Duration {
        Duration::from_secs(match self {
            Self::Output(_) => 1,
            Self::Input => 5,
        })
    }

    /// … and at the latest when its first byte is this old.
    fn oldest(self) -> Duration {
        Duration::from_secs(match self {
            Self::Output(_) => 4,
            Self::Input => 60,
        })
    }

    fn data(self, bytes: Vec<u8>) -> Data<'static> {
        let data = Content::Inline(Bytes(Cow::Owned(bytes)));
        match self {
            Self::Output(fd) => TermOutput { fd, data }.into(),
            Self::Input => TermInput { data, hidden: 0 }.into(),
        }
    }
}

/// The unfinished ends of what every process wrote and read.
#[derive(Default)]
pub(super) struct Terminal {
    held: HashMap<(Option<ProcId>, Channel), Held>,
}

struct Held {
    stream: Stream,
    /// The envelope of the first byte that is held.
    first: Event<'static>,
    since: Instant,
    last: Instant,
}

impl Terminal {
    /// Takes a piece; returns what can be written of it and of what was held.
    pub(super) fn push(
        &mut self,
        redactor: &Redactor,
        event: Event<'static>,
    ) -> Option<Event<'static>> {
        let (channel, piece) = match &event.data {
            Data::TermOutput(TermOutput { fd, data: Content::Inline(piece) }) => {
                (Channel::Output(*fd), piece)
            }
            Data::TermInput(TermInput { data: Content::Inline(piece), hidden: 0 }) => {
                (Channel::Input, piece)
            }
            // Nothing that could be a secret.
            _ => return Some(event),
        };
        let (key, now) = ((event.proc, channel), Instant::now());
        let mut held = self.held.remove(&key).unwrap_or_else(|| Held {
            stream: Stream::default(),
            first: envelope(&event),
            since: now,
            last: now,
        });
        let out = held.stream.push(redactor, piece);
        let result = (!out.is_empty()).then(|| filled(&held.first, channel, out));
        if held.stream.held() > 0 {
            held.last = now;
            if result.is_some() {
                held.first = envelope(&event);
                held.since = now;
            }
            self.held.insert(key, held);
        }
        result
    }

    /// Whether anything is held.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// What has waited long enough.
    pub(super) fn release(&mut self, redactor: &Redactor, now: Instant) -> Vec<Event<'static>> {
        self.take(redactor, |&(_, channel), held| {
            now.duration_since(held.last) >= channel.idle()
                || now.duration_since(held.since) >= channel.oldest()
        })
    }

    /// What a process that ended has left.
    pub(super) fn end_of(
        &mut self,
        redactor: &Redactor,
        proc: Option<ProcId>,
    ) -> Vec<Event<'static>> {
        if self.held.is_empty() { Vec::new() } else { self.take(redactor, |key, _| key.0 == proc) }
    }

    /// Everything.
    pub(super) fn finish(&mut self, redactor: &Redactor) -> Vec<Event<'static>> {
        self.take(redactor, |_, _| true)
    }

    fn take(
        &mut self,
        redactor: &Redactor,
        which: impl Fn(&(Option<ProcId>, Channel), &Held) -> bool,
    ) -> Vec<Event<'static>> {
        let mut events: Vec<_> = self
            .held
            .extract_if(|key, held| which(key, held))
            .map(|(key, mut held)| filled(&held.first, key.1, held.stream.finish(redactor)))
            .collect();
        events.sort_by_key(|event| event.ts);
        events
    }
}

/// The event without its data.
fn envelope(event: &Event<'_>) -> Event<'static> {
    let Event { seq, ts, proc, tid, cause, ref source, .. } = *event;
    let data = Data::TermOutput(TermOutput::default());
    Event { seq, ts, proc, tid, cause, source: source.clone(), data }
}

fn filled(envelope: &Event<'static>, channel: Channel, bytes: Vec<u8>) -> Event<'static> {
    Event { data: channel.data(bytes), ..envelope.clone() }
}

#[cfg(test)]
mod tests {
    use agentrec_trace::Source;

    use super::*;

    fn piece(proc: u32, ts: u64, text: &str) -> Event<'static> {
        let data = Content::Inline(Bytes(Cow::Owned(text.as_bytes().to_vec())));
        let event = Event::new(ts, Source::Kernel, TermOutput { fd: 1, data });
        Event { proc: Some(ProcId(proc)), ..event }
    }

    fn text(event: &Event<'_>) -> String {
        let Data::TermOutput(TermOutput { data: Content::Inline(bytes), .. }) = &event.data else {
            panic!("{event:?}")
        };
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    const SECRET: &str = "ghp_1234567890abcdefghijABCDEFGHIJ123456";

    #[test]
    fn a_secret_in_two_writes_is_removed_and_whole_lines_pass_at_once() {
        let (mut terminal, redactor) = (Terminal::default(), Redactor::new([1; 32]));
        let line = terminal.push(&redactor, piece(1, 5, "all fine\n")).unwrap();
        assert_eq!((text(&line).as_str(), line.ts), ("all fine\n", 5));
        assert!(!terminal.holds());
        let (start, end) = SECRET.split_at(10);
        let before = terminal.push(&redactor, piece(1, 6, start));
        let other = terminal.push(&redactor, piece(2, 7, "of another process\n")).unwrap();
        assert_eq!(text(&other), "of another process\n");
        let after = terminal.push(&redactor, piece(1, 8, &format!("{end} and on\n"))).unwrap();
        let all = format!("{}{}", before.as_ref().map(text).unwrap_or_default(), text(&after));
        assert!(!all.contains("1234") && all.contains("[redacted:"), "{all}");
        assert!(all.ends_with(" and on\n"));
        assert_eq!(after.ts, 6, "the time is that of the first byte");
    }

    #[test]
    fn a_secret_that_is_typed_key_by_key_is_removed_and_hidden_input_passes() {
        let (mut terminal, redactor) = (Terminal::default(), Redactor::new([1; 32]));
        let mut typed = |bytes: &[u8], hidden| {
            let data = Channel::Input.data(bytes.to_vec());
            let event = Event::new(1, Source::Kernel, data);
            let mut event = Event { proc: Some(ProcId(1)), ..event };
            if let Data::TermInput(input) = &mut event.data {
                input.hidden = hidden;
            }
            match terminal.push(&redactor, event).map(|event| event.data) {
                Some(Data::TermInput(TermInput { data: Content::Inline(bytes), hidden })) => {
                    (String::from_utf8(bytes.to_vec()).unwrap(), hidden)
                }
                None => Default::default(),
                other => panic!("{other:?}"),
            }
        };
        let keys: String = SECRET.bytes().chain(*b"\n").map(|key| typed(&[key], 0).0).collect();
        assert!(keys.starts_with("[redacted:") && keys.ends_with('\n'), "{keys}");
        assert_eq!(typed(b"", 9), (String::new(), 9));
    }

    #[test]
    fn what_is_held_goes_with_its_process_or_with_time() {
        let (mut terminal, redactor) = (Terminal::default(), Redactor::new([1; 32]));
        assert_eq!(terminal.push(&redactor, piece(1, 1, "Name:")), None);
        assert_eq!(terminal.push(&redactor, piece(2, 2, "Continue?")), None);
        let of_first: Vec<_> =
            terminal.end_of(&redactor, Some(ProcId(1))).iter().map(text).collect();
        assert_eq!(of_first, ["Name:"]);
        assert!(terminal.release(&redactor, Instant::now()).is_empty());
        let rest: Vec<_> = terminal
            .release(&redactor, Instant::now() + Channel::Output(1).idle())
            .iter()
            .map(text)
            .collect();
        assert_eq!(rest, ["Continue?"]);
        assert!(!terminal.holds());
    }
}
