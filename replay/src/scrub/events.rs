//! The fields of events without the pattern.

use std::borrow::Cow;

use agentrec_trace::event::{Content, Payload, RootTree, Visitor};
use agentrec_trace::{
    Bytes, Data, Event, ObjectHint, ObjectId, Rewriter, Source, TraceFile, Value,
};

use super::objects::Scrubber;
use super::pattern::Pattern;
use super::value;
use crate::error::Result;

/// Takes the pattern out of an event. Its objects are in the new trace afterwards.
pub(super) fn scrub(
    scrubber: &mut Scrubber<'_>,
    to: &mut Rewriter<TraceFile>,
    event: &mut Event<'_>,
) -> Result<()> {
    if let Source::Other(name) = &mut event.source
        && let Some(replaced) = scrubber.pattern.replace(name.as_bytes())
    {
        *name = String::from_utf8_lossy(&replaced.bytes).into_owned();
    }
    if let Data::SnapshotCreated(created) = &event.data {
        scrubber.snapshot = created.index;
    }
    if let Data::Other { name, fields, .. } = &mut event.data {
        text(scrubber.pattern, name);
        value::scrub(scrubber.pattern, fields, &|id| scrubber.new_id(id));
    }
    // That of a secret file is in the store, to stay there.
    let kept_back = match &mut event.data {
        Data::FileKept(kept) if kept.secret => kept.object.take(),
        _ => None,
    };
    let mut fields = Fields { scrubber, to, len: None, result: Ok(()) };
    event.data.visit(&mut fields);
    let Fields { len, result, .. } = fields;
    if let Data::FileKept(kept) = &mut event.data {
        kept.size = len.unwrap_or(kept.size);
        if let Some(id) = kept_back {
            kept.object = Some(scrubber.secret(to, &id)?.unwrap_or(id));
        }
    }
    result
}

struct Fields<'f, 'a> {
    scrubber: &'f mut Scrubber<'a>,
    to: &'f mut Rewriter<TraceFile>,
    /// Of an object that an event names as it is and that changed: its length now.
    len: Option<u64>,
    result: Result<()>,
}

impl Visitor for Fields<'_, '_> {
    fn bytes(&mut self, bytes: &mut Bytes<'_>) {
        path_or_bytes(self.scrubber.pattern, bytes);
    }

    fn text(&mut self, field: &mut Cow<'_, str>) {
        text(self.scrubber.pattern, field);
    }

    fn payload(&mut self, payload: &mut Payload) {
        let scrubbed = self.scrub_payload(payload);
        self.note(scrubbed);
    }

    fn content(&mut self, content: &mut Content<'_>) {
        match content {
            Content::Inline(bytes) => {
                if let Some(replaced) = self.scrubber.pattern.replace(bytes) {
                    *bytes = replaced.bytes.into();
                }
            }
            Content::Object { id, len } => {
                let moved = self.scrubber.bytes(self.to, id).map(|moved| {
                    if let Some(moved) = moved {
                        (*id, *len) = (moved.id, moved.len);
                    }
                });
                self.note(moved);
            }
        }
    }

    fn object(&mut self, id: &mut ObjectId) {
        let moved = self.scrubber.bytes(self.to, id).map(|moved| {
            if let Some(moved) = moved.filter(|moved| moved.changed) {
                *id = moved.id;
                self.len = Some(moved.len);
            }
        });
        self.note(moved);
    }

    fn root(&mut self, root: &mut RootTree<'_>) {
        let mut path = root.path.borrowed();
        path_or_bytes(self.scrubber.pattern, &mut path);
        let moved = self.scrubber.root(self.to, root.tree, path.as_path()).map(|moved| {
            root.tree = moved.id;
            root.bytes = root.bytes.saturating_add_signed(moved.grown);
        });
        self.note(moved);
    }
}

impl Fields<'_, '_> {
    fn note(&mut self, result: Result<()>) {
        if let Err(error) = result
            && self.result.is_ok()
        {
            self.result = Err(error);
        }
    }

    fn scrub_payload(&mut self, payload: &mut Payload) -> Result<()> {
        let pattern = self.scrubber.pattern;
        match payload {
            Payload::Inline(inline) => {
                value::scrub(pattern, inline, &|id| self.scrubber.new_id(id));
            }
            Payload::Object { .. } => {
                if let Some(moved) = self.scrubber.value(self.to, payload)? {
                    *payload = moved;
                }
            }
            Payload::Json { id, at, len } => {
                let Some(moved) = self.scrubber.bytes(self.to, id)? else { return Ok(()) };
                let replaced = if moved.changed { self.scrubber.replaced(id)? } else { None };
                let Some(replaced) = replaced else { return Ok(()) };
                let place = |at: u64| replaced.place(usize::try_from(at).ok()?);
                let range = at.checked_add(*len).and_then(|end| Some(place(*at)?..place(end)?));
                let text = range.as_ref().and_then(|range| replaced.bytes.get(range.clone()));
                let is_json = |text: &&[u8]| serde_json::from_slice::<Value>(text).is_ok();
                if let (Some(range), Some(_)) = (range, text.filter(is_json)) {
                    let (start, len) = (range.start as u64, range.len() as u64);
                    *payload = Payload::Json { id: moved.id, at: start, len };
                    return Ok(());
                }
                // The match took more than a text of it: the value gets a place of its own.
                let mut whole = self.scrubber.reader.payload(payload)?;
                value::scrub(pattern, &mut whole, &|id| self.scrubber.new_id(id));
                *payload = self.to.writer().payload(whole, ObjectHint::Single)?;
            }
        }
        Ok(())
    }
}

/// A path stays absolute, so that it is still one.
fn path_or_bytes(pattern: &Pattern, bytes: &mut Bytes<'_>) {
    if let Some(replaced) = pattern.replace(bytes) {
        let mut new = replaced.bytes;
        if bytes.starts_with(b"/") && !new.starts_with(b"/") {
            new.insert(0, b'/');
        }
        *bytes = new.into();
    }
}

fn text(pattern: &Pattern, text: &mut Cow<'_, str>) {
    if let Some(replaced) = pattern.replace(text.as_bytes()) {
        *text = String::from_utf8_lossy(&replaced.bytes).into_owned().into();
    }
}

/// Looks for it in what an event says itself.
pub(super) fn holds(pattern: &Pattern, event: &mut Event<'_>) -> bool {
    let in_source = matches!(&event.source, Source::Other(name) if pattern.is_in(name.as_bytes()));
    let in_fields = match &event.data {
        Data::Other { name, fields, .. } => {
            pattern.is_in(name.as_bytes()) || value::holds(pattern, fields)
        }
        _ => false,
    };
    let mut search = Search { pattern, found: in_source || in_fields };
    event.data.visit(&mut search);
    search.found
}

struct Search<'p> {
    pattern: &'p Pattern,
    found: bool,
}

impl Visitor for Search<'_> {
    fn bytes(&mut self, bytes: &mut Bytes<'_>) {
        self.found |= self.pattern.is_in(bytes);
    }

    fn text(&mut self, text: &mut Cow<'_, str>) {
        self.found |= self.pattern.is_in(text.as_bytes());
    }

    fn payload(&mut self, payload: &mut Payload) {
        if let Payload::Inline(inline) = payload {
            self.found |= value::holds(self.pattern, inline);
        }
    }

    fn content(&mut self, content: &mut Content<'_>) {
        if let Content::Inline(bytes) = content {
            self.found |= self.pattern.is_in(bytes);
        }
    }
}
