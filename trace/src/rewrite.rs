//! Writes a trace again: what one holds in the order in which it can be put into another, close to the size that it had.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use crate::error::{Error, Result};
use crate::event::{Data, Event, Payload, Value};
use crate::recipe::ObjectHint;
use crate::{ObjectId, Reader, Seq, Writer, WriterOptions};

/// A piece of a trace.
#[expect(clippy::large_enum_variant, reason = "parts are handed over one at a time")]
#[derive(Clone, Debug, PartialEq)]
pub enum Part<'a> {
    /// An object that stands here. Its content is not read.
    Object(ObjectId),
    /// An event; every object that it names came before.
    Event(Event<'a>),
}

impl Reader {
    /// Calls `f` with every object and every event.
    ///
    /// # Errors
    /// Where a part of the trace can't be read: what follows would have other numbers.
    pub fn for_each_part<E: From<Error>>(
        &self,
        mut f: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let starts = self.starts()?;
        let ids = self.objects()?;
        let mut objects = ids.iter();
        let mut cursor = self.cursor(Seq(1))?;
        let mut seen = 0;
        for frame in starts.windows(2) {
            let (objects_here, last_event) =
                (frame[1][1].saturating_sub(frame[0][1]), frame[1][0] - 1);
            for id in objects.by_ref().take(usize::try_from(objects_here).unwrap_or(usize::MAX)) {
                f(Part::Object(*id))?;
            }
            while seen < last_event
                && let Some(event) = cursor.next()?
            {
                seen = event.seq.0;
                f(Part::Event(event))?;
            }
        }
        objects.try_for_each(|id| f(Part::Object(*id)))?;
        while let Some(event) = cursor.next()? {
            f(Part::Event(event))?;
        }
        Ok(())
    }
}

/// A writer of what another trace holds. Frames bear the times of that one, and objects resemble those that they did there.
pub struct Rewriter<W: Write> {
    writer: Writer<W>,
    /// What most of an object was copied from.
    bases: HashMap<ObjectId, ObjectId>,
    /// Those that something was copied from.
    copied: HashSet<ObjectId>,
}

impl<W: Write> Rewriter<W> {
    /// Begins a trace that is to hold what `reader` has, or something like it.
    pub fn new(reader: &Reader, sink: W) -> Result<Self> {
        let mut options = WriterOptions::default();
        if let Some(first) = reader.event(Seq(1))?
            && let Data::SessionStart(start) = &first.data
        {
            options.wall_ahead = Some(start.wall.saturating_sub_unsigned(first.ts));
        }
        let mut bases = HashMap::new();
        for id in reader.objects()? {
            if let Some(base) = reader.base_of(&id)? {
                bases.insert(id, base);
            }
        }
        let copied = bases.values().copied().collect();
        Ok(Self { writer: Writer::new(sink, options)?, bases, copied })
    }

    /// The writer itself.
    pub fn writer(&mut self) -> &mut Writer<W> {
        &mut self.writer
    }

    /// Puts what stands in the place of `original`, whose base is at `moved(base)` now. Most often that is `original` itself.
    pub fn put(
        &mut self,
        original: &ObjectId,
        content: &[u8],
        moved: impl Fn(&ObjectId) -> ObjectId,
    ) -> Result<ObjectId> {
        let hint = self.hint(original, moved);
        self.writer.put_object(content, hint)
    }

    /// The same for a value that is an object.
    pub fn put_value(
        &mut self,
        original: &ObjectId,
        value: Value,
        moved: impl Fn(&ObjectId) -> ObjectId,
    ) -> Result<Payload> {
        let hint = self.hint(original, moved);
        self.writer.payload_beyond(0, value, hint)
    }

    fn hint(&self, original: &ObjectId, moved: impl Fn(&ObjectId) -> ObjectId) -> ObjectHint {
        match self.bases.get(original) {
            None if !self.copied.contains(original) => ObjectHint::Single,
            base => ObjectHint::Series { after: base.map(moved) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Lost, SessionStart};
    use crate::{Source, verify_bytes};

    fn written() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), WriterOptions::default()).unwrap();
        let start = SessionStart { wall: 1_000_000_000_000, ..SessionStart::default() };
        writer.append(&Event::new(5_000_000, Source::Recorder, start)).unwrap();
        let mut body = b"the conversation so far, which each request repeats; ".repeat(200);
        let mut after = None;
        for turn in 0..40u64 {
            body.extend_from_slice(format!("turn {turn} says {}", turn * 7919).as_bytes());
            after = Some(writer.put_object(&body, ObjectHint::Series { after }).unwrap());
            let reason = format!("turn {turn}").into();
            let lost = Lost { reason, ..Lost::default() };
            let ts = 5_000_000 + turn * 90_000_000;
            writer.append(&Event::new(ts, Source::Recorder, lost)).unwrap();
        }
        writer.seal().unwrap();
        writer.into_inner()
    }

    #[test]
    fn what_is_written_again_is_the_same_and_as_small() {
        let bytes = written();
        let reader = Reader::from_bytes(bytes.clone()).unwrap();
        let mut again = Rewriter::new(&reader, Vec::new()).unwrap();
        let mut seen = HashSet::new();
        reader
            .for_each_part(|part| match part {
                Part::Object(id) => {
                    seen.insert(id);
                    let content = reader.object(&id)?.expect("it is listed");
                    assert_eq!(again.put(&id, &content, |base| *base)?, id);
                    Ok(())
                }
                Part::Event(event) => {
                    let seq = again.writer().append(&event)?;
                    assert_eq!(seq, event.seq);
                    // The objects of a turn stand before its event.
                    assert!(seen.len() as u64 >= seq.0 - 1, "{seq}");
                    Ok::<_, Error>(())
                }
            })
            .unwrap();
        again.writer().seal().unwrap();
        let copy = again.writer.into_inner();
        assert!(verify_bytes(copy.clone()).unwrap().ok());
        assert!(copy.len() < bytes.len() * 11 / 10, "{} from {}", copy.len(), bytes.len());
        let copy = Reader::from_bytes(copy).unwrap();
        assert_eq!(copy.objects().unwrap(), reader.objects().unwrap());
        let events = |reader: &Reader| reader.iter().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(events(&copy), events(&reader));
    }

    #[test]
    fn a_part_that_cannot_be_read_is_an_error() {
        let mut bytes = written();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        let Ok(reader) = Reader::from_bytes(bytes) else { return };
        let all = reader.for_each_part(|part| match part {
            Part::Object(id) => reader.object(&id).map(drop),
            Part::Event(_) => Ok(()),
        });
        all.expect_err("something was damaged");
    }
}
