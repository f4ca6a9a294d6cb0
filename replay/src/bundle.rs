//! Makes a trace self-contained: what its snapshots name and only the store has goes into it.

mod plan;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use agentrec_store::{Objects, Store};
use agentrec_trace::event::{Content, Payload, SnapshotCreated, Visitor};
use agentrec_trace::{Data, ObjectId, Part, Reader, Seal, Seq, SnapshotIndex};

use crate::error::{Error, Result};
use crate::new_trace::{NewTrace, Target};
use crate::snapshot::session_id;
use crate::sources::Sources;
use plan::Plan;

/// What goes into a bundle.
#[derive(Clone, Copy, Debug)]
pub struct BundleOptions {
    /// Contents of secret files too.
    pub with_secrets: bool,
    /// What lies in the state directories of agents goes in, also where the session did not change it.
    pub with_state: bool,
    /// Directories that git ignores go in while they are no more than this together, bytes.
    pub max_ignored: u64,
    /// What is nowhere is listed, and no error.
    pub allow_missing: bool,
}

/// What a bundle holds and lacks. Paths are as the agent saw them, each once.
#[derive(Clone, Debug)]
pub struct Bundled {
    /// The seal of the new trace.
    pub seal: Seal,
    /// Snapshots in it.
    pub snapshots: u64,
    /// Objects that came from the store.
    pub added: u64,
    /// Their bytes.
    pub added_bytes: u64,
    /// Secret files in it.
    pub secrets_inside: Vec<PathBuf>,
    /// Secret files whose content is not.
    pub secrets_left: Vec<PathBuf>,
    /// Directories that git ignores and that are not in it, with their bytes where those are known.
    pub ignored_left: Vec<(PathBuf, u64)>,
    /// Files that are larger than what a trace can hold.
    pub too_large: Vec<(PathBuf, u64)>,
    /// State directories of agents, with the contents that are not in it and their bytes.
    pub state_left: Vec<(PathBuf, u64, u64)>,
    /// What was neither in the trace nor in the store, with the first snapshot that names it.
    pub missing: Vec<(SnapshotIndex, PathBuf)>,
}

impl Bundled {
    /// Whether everything but secrets and what agents keep for themselves is in it.
    pub fn is_self_contained(&self) -> bool {
        self.ignored_left.is_empty() && self.too_large.is_empty() && self.missing.is_empty()
    }
}

/// Writes a trace with the events of `reader` and all that its snapshots name.
///
/// The events keep their numbers and times; only what a snapshot says of being self-contained follows what is true now.
pub fn bundle(
    reader: &Reader,
    store: Option<&Store>,
    target: Target<'_>,
    options: BundleOptions,
) -> Result<Bundled> {
    session_id(reader)?;
    let sources = Sources::new(reader, store);
    let new = NewTrace::begin(reader, target)?;
    let plan = Plan::make(reader, &sources, options)?;
    if let Some((snapshot, path)) = plan.missing.first().filter(|_| !options.allow_missing) {
        let (snapshot, path, others) = (*snapshot, path.clone(), plan.missing.len() - 1);
        return Err(Error::NotHere { snapshot, path, others });
    }
    let kept_back = kept_back(reader, &plan, options)?;
    write(reader, &sources, new, plan, &kept_back)
}

fn write(
    reader: &Reader,
    sources: &Sources<'_>,
    mut new: NewTrace<'_>,
    plan: Plan,
    kept_back: &HashSet<ObjectId>,
) -> Result<Bundled> {
    let (mut added, mut added_bytes) = (0, 0);
    let rewriter = &mut new.rewriter;
    reader.for_each_part(|part| -> Result<()> {
        let mut event = match part {
            Part::Object(id) if kept_back.contains(&id) => return Ok(()),
            Part::Object(id) => {
                let content = reader.object(&id)?.ok_or(agentrec_trace::Error::NoObject(id))?;
                rewriter.put(&id, &content, |base| *base)?;
                return Ok(());
            }
            Part::Event(event) => event,
        };
        if let Data::SnapshotCreated(created) = &mut event.data {
            for (id, path) in plan.objects.get(&event.seq).into_iter().flatten() {
                if rewriter.writer().has_object(id) {
                    continue;
                }
                let content = match sources.get(id) {
                    Ok(Some(content)) => content,
                    // It was there when the plan was made, and is damaged or went since.
                    Ok(None) | Err(agentrec_store::Error::Corrupt(_)) => {
                        let (snapshot, path) = (created.index, path.clone());
                        return Err(Error::NotHere { snapshot, path, others: 0 });
                    }
                    Err(error) => return Err(error.into()),
                };
                rewriter.put(id, &content, |base| *base)?;
                added += 1;
                added_bytes += content.len() as u64;
            }
            mark(created, &plan.whole, event.seq);
        }
        if let Data::FileKept(kept) = &event.data
            && let Some(id) = kept.object.filter(|id| plan.kept_secrets.contains(id))
            && let Some(content) = sources.get(&id)?
        {
            rewriter.put(&id, &content, |base| *base)?;
        }
        rewriter.writer().append(&event)?;
        Ok(())
    })?;
    let seal = new.finish(reader)?;
    let Plan { snapshots, secrets_inside, secrets_left, ignored_left, .. } = plan;
    let Plan { too_large, state_left, missing, .. } = plan;
    let state_left = state_left.into_iter().map(|(root, contents)| {
        let bytes = contents.values().sum();
        (root, contents.len() as u64, bytes)
    });
    Ok(Bundled {
        seal,
        snapshots,
        added,
        added_bytes,
        secrets_inside: secrets_inside.into_iter().collect(),
        secrets_left: secrets_left.into_iter().collect(),
        ignored_left: ignored_left.into_iter().collect(),
        too_large: too_large.into_iter().collect(),
        state_left: state_left.collect(),
        missing,
    })
}

fn mark(created: &mut SnapshotCreated<'_>, whole: &HashMap<(Seq, usize), bool>, seq: Seq) {
    for (index, root) in created.roots.iter_mut().enumerate() {
        root.self_contained = whole.get(&(seq, index)).copied().unwrap_or(false);
    }
}

/// Objects of the trace that only secret files have: an earlier bundle may have been made with them.
fn kept_back(reader: &Reader, plan: &Plan, options: BundleOptions) -> Result<HashSet<ObjectId>> {
    if options.with_secrets {
        return Ok(HashSet::new());
    }
    let mut secret = HashSet::new();
    for id in plan.secret_contents.difference(&plan.contents) {
        if reader.has_object(id)? {
            secret.insert(*id);
        }
    }
    if !secret.is_empty() {
        let mut named = Named(&mut secret);
        reader.for_each(|mut event| match &event.data {
            Data::FileKept(kept) if kept.secret => {}
            _ => event.data.visit(&mut named),
        })?;
    }
    Ok(secret)
}

/// Takes away what an event names.
struct Named<'s>(&'s mut HashSet<ObjectId>);

impl Visitor for Named<'_> {
    fn payload(&mut self, payload: &mut Payload) {
        if let Payload::Object { id, .. } | Payload::Json { id, .. } = payload {
            self.0.remove(id);
        }
    }

    fn content(&mut self, content: &mut Content<'_>) {
        if let Content::Object { id, .. } = content {
            self.0.remove(id);
        }
    }

    fn object(&mut self, id: &mut ObjectId) {
        self.0.remove(id);
    }
}
