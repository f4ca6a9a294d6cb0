//! Writes a trace again without something that must not be in it, wherever it stands.

mod events;
mod objects;
mod pattern;
mod value;
mod views;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use agentrec_store::{Kind, Store, TreeBudget};
use agentrec_trace::event::{Content, Payload, RootTree, Visitor};
use agentrec_trace::{Data, ObjectId, Part, Reader, Rewriter, Seal, Seq, SnapshotIndex, TraceFile};

use crate::error::{Context, Error, Result};
use crate::new_trace::{NewTrace, Target};
use crate::snapshot::session_id;
use crate::sources::Sources;
use objects::Scrubber;
pub use pattern::Pattern;

/// What a scrubbed trace is, and what was changed for it. Names are as they are now.
#[derive(Debug)]
pub struct Scrubbed {
    /// The seal of the new trace.
    pub seal: Seal,
    /// Events that changed, by type.
    pub events: BTreeMap<String, u64>,
    /// Their numbers.
    pub addresses: Vec<Seq>,
    /// Bodies, values and contents of files that are others now.
    pub objects: u64,
    /// Trees that are others now.
    pub trees: u64,
    /// Files whose content or name had it, with the first snapshot that names them.
    pub files: BTreeMap<PathBuf, SnapshotIndex>,
    /// Snapshots whose trees are others now.
    pub snapshots: Vec<SnapshotIndex>,
    /// Objects of this machine's store that hold it still.
    pub in_store: Vec<ObjectId>,
    /// Files that the snapshots name and nobody here has, so that nobody looked into them.
    pub unseen: Vec<PathBuf>,
    /// The bytes of the trace hold it all the same, in names of fields, in hashes, or by chance across two values.
    pub in_structure: bool,
}

impl Scrubbed {
    /// Whether anything had it.
    pub fn is_changed(&self) -> bool {
        !self.addresses.is_empty() || self.objects > 0
    }
}

/// Writes what `reader` holds without `pattern`. Events keep their numbers; objects and trees that had it get other addresses.
///
/// # Errors
/// Where the new trace holds it still, when it is read back. Then it does not get its name.
pub fn scrub(
    reader: &Reader,
    store: Option<&Store>,
    pattern: &Pattern,
    target: Target<'_>,
) -> Result<Scrubbed> {
    session_id(reader)?;
    let sources = Sources::new(reader, store);
    let mut new = NewTrace::begin(reader, target)?;
    let roles = roles(reader, &sources)?;
    let mut scrubber = Scrubber::new(reader, &sources, pattern);
    let (mut events, mut addresses, mut snapshots) = (BTreeMap::new(), Vec::new(), Vec::new());
    let to = &mut new.rewriter;
    reader.for_each_part(|part| -> Result<()> {
        let event = match part {
            Part::Object(id) => return object(&mut scrubber, to, &id, roles.get(&id)),
            Part::Event(event) => event,
        };
        let mut scrubbed = event.clone();
        events::scrub(&mut scrubber, to, &mut scrubbed)?;
        if scrubbed != event {
            *events.entry(event.data.type_name().to_owned()).or_insert(0) += 1;
            addresses.push(event.seq);
        }
        if let (Data::SnapshotCreated(old), Data::SnapshotCreated(new)) =
            (&event.data, &scrubbed.data)
            && old.roots.iter().zip(&new.roots).any(|(old, new)| old.tree != new.tree)
        {
            snapshots.push(old.index);
        }
        to.writer().append(&scrubbed)?;
        Ok(())
    })?;
    for id in reader.objects()? {
        // Of trees that no root leads to, nothing more is known.
        if !to.writer().has_object(&scrubber.new_id(&id)) {
            scrubber.bytes(to, &id)?;
        }
    }
    let seal = new.seal(reader)?;
    check(new.partial(), pattern)?;
    let in_structure = is_in_bytes(new.partial(), pattern)?;
    new.publish()?;
    let noted = scrubber.noted;
    Ok(Scrubbed {
        seal,
        // A type that the trace made up may have had it too.
        events: events
            .into_iter()
            .map(|(name, count)| (pattern::shown(pattern, &name), count))
            .collect(),
        addresses,
        objects: noted.objects.len() as u64,
        trees: noted.trees.len() as u64,
        files: noted.files,
        snapshots,
        in_store: noted.in_store.into_iter().collect(),
        unseen: noted.unseen.into_iter().collect(),
        in_structure,
    })
}

/// What an object is, as those say who name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Bytes,
    Value { len: u64 },
    Tree,
}

/// Puts an object that stands here.
fn object(
    scrubber: &mut Scrubber<'_>,
    to: &mut Rewriter<TraceFile>,
    id: &ObjectId,
    roles: Option<&HashSet<Role>>,
) -> Result<()> {
    let unnamed = || -> Result<HashSet<Role>> {
        // Named by an event that this version does not know: it looks like what it is.
        let content = scrubber.reader.object(id)?.unwrap_or_default();
        let container = matches!(content.first(), Some(0x80..=0x9f | 0xdc..=0xdf));
        let payload = Payload::Object { id: *id, len: content.len() as u64 };
        let is_value = container && scrubber.reader.payload(&payload).is_ok();
        let role = if is_value { Role::Value { len: content.len() as u64 } } else { Role::Bytes };
        Ok(HashSet::from([role]))
    };
    let roles = match roles {
        Some(roles) => roles.clone(),
        None => unnamed()?,
    };
    for role in roles {
        match role {
            Role::Bytes => drop(scrubber.bytes(to, id)?),
            Role::Value { len } => drop(scrubber.value(to, &Payload::Object { id: *id, len })?),
            // With the root that it belongs to, whose paths are known then.
            Role::Tree => {}
        }
    }
    Ok(())
}

/// What the objects are that events and trees name.
fn roles(reader: &Reader, sources: &Sources<'_>) -> Result<HashMap<ObjectId, HashSet<Role>>> {
    let mut named = Named::default();
    reader.for_each(|mut event| event.data.visit(&mut named))?;
    let Named { mut roles, trees } = named;
    let mut budget = TreeBudget::default();
    let mut open: Vec<_> = trees.into_iter().map(|tree| (tree, 0)).collect();
    while let Some((id, depth)) = open.pop() {
        if !roles.entry(id).or_default().insert(Role::Tree) {
            continue;
        }
        let Ok(tree) = budget.load(sources, id, depth) else { continue };
        for entry in &tree.entries {
            match (entry.kind, entry.id) {
                (Kind::Dir, Some(id)) => open.push((id, depth + 1)),
                (_, Some(id)) => drop(roles.entry(id).or_default().insert(Role::Bytes)),
                _ => {}
            }
        }
    }
    Ok(roles)
}

#[derive(Default)]
struct Named {
    roles: HashMap<ObjectId, HashSet<Role>>,
    trees: HashSet<ObjectId>,
}

impl Visitor for Named {
    fn payload(&mut self, payload: &mut Payload) {
        let (id, role) = match payload {
            Payload::Inline(_) => return,
            Payload::Object { id, len } => (*id, Role::Value { len: *len }),
            Payload::Json { id, .. } => (*id, Role::Bytes),
        };
        self.roles.entry(id).or_default().insert(role);
    }

    fn content(&mut self, content: &mut Content<'_>) {
        if let Content::Object { id, .. } = content {
            self.roles.entry(*id).or_default().insert(Role::Bytes);
        }
    }

    fn object(&mut self, id: &mut ObjectId) {
        self.roles.entry(*id).or_default().insert(Role::Bytes);
    }

    fn root(&mut self, root: &mut RootTree<'_>) {
        self.trees.insert(root.tree);
    }
}

/// Reads a new trace back and looks into every event and every object.
fn check(path: &Path, pattern: &Pattern) -> Result<()> {
    let reader = Reader::open(path)?;
    let mut held = None;
    reader.for_each(|mut event| {
        if held.is_none() && events::holds(pattern, &mut event) {
            held = Some(event.seq.to_string());
        }
    })?;
    let objects = if held.is_some() { Vec::new() } else { reader.objects()? };
    for id in objects {
        let content = reader.object(&id)?.unwrap_or_default();
        if pattern.is_plainly_in(&content) {
            held = Some(format!("object {id}"));
            break;
        }
    }
    match held {
        Some(place) => Err(Error::NotScrubbed { place }),
        None => Ok(()),
    }
}

/// Whether it is in what zstd(1) makes of the file.
fn is_in_bytes(path: &Path, pattern: &Pattern) -> Result<bool> {
    const STEP: usize = 4 << 20;
    const OVERLAP: usize = 64 << 10;
    let file = File::open(path).context("open", path)?;
    let mut records = zstd::stream::read::Decoder::new(file).context("read", path)?;
    let mut window = Vec::new();
    loop {
        let kept = window.len().min(OVERLAP);
        window.drain(..window.len() - kept);
        let read = records.by_ref().take(STEP as u64).read_to_end(&mut window);
        if read.context("read", path)? == 0 {
            return Ok(false);
        }
        if pattern.is_plainly_in(&window) {
            return Ok(true);
        }
    }
}
