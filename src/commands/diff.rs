//! `agentrec diff`: the files at two snapshots, compared; start and end of a session by default.

use std::io::Write;
use std::path::Path;
use std::rc::Rc;

use agentrec_replay::Sources;
use agentrec_store::{ChangeKind, Objects, Store, diff_trees};
use agentrec_trace::{Bytes, ObjectId, Seq};
use anyhow::{Context as _, Result, anyhow, bail};
use globset::{GlobBuilder, GlobMatcher};

use crate::address::{Address, Place, Range, TurnLabel};
use crate::digest::{Digest, Snapshot};
use crate::error::with_hint;
use crate::exit::Exit;
use crate::output::{Output, printable_line};
use crate::session::{self, Context, Opened};
use crate::state::{StateArgs, say_left_alone};
use crate::view::{Hands, changes, hands_in_words};

/// Arguments of `agentrec diff`.
#[derive(clap::Args)]
pub struct Args {
    /// A session, what a turn changed (t5), a snapshot or turn or two: s1..s3, t2..t5, 7q3k@s2 (then to its end) (default: this directory's last)
    from: Option<Range>,
    /// Where to: a snapshot, or another session (then their ends are compared)
    to: Option<Address>,
    /// Only paths that match; relative to the tree
    #[arg(long, value_name = "GLOB")]
    path: Option<String>,
    /// Only which files differ, and by how many lines
    #[arg(long)]
    stat: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// One of the two states.
struct State {
    opened: Opened,
    digest: Rc<Digest>,
    /// Its position among the snapshots.
    at: usize,
}

impl State {
    fn snapshot(&self) -> &Snapshot {
        &self.digest.snapshots[self.at]
    }
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let (before, after) = states(args)?;
    let glob = args.path.as_deref().map(path_glob).transpose()?;
    let store = session::store();
    let objects = Both::new(&before, &after, store.as_ref());
    let mut out = Output::paged(context.preferences);
    let mut differs = false;
    let hands = Rc::ptr_eq(&before.digest, &after.digest).then(|| Hands::new(&before.digest));
    let ends = (before.snapshot().seq, after.snapshot().seq);
    let between = (ends.0.min(ends.1), ends.0.max(ends.1));
    for Pair { path, trees, agent } in pairs(&before, &after) {
        if !args.state.means(agent) {
            if trees.0 != trees.1 {
                let path = Bytes::from(path.as_slice());
                say_left_alone(path.as_path(), agent.unwrap_or_default(), "differs too");
            }
            continue;
        }
        let mut found = match trees {
            (Some(before), Some(after)) => diff_trees(&objects, before, after)
                .with_context(|| format!("cannot compare {}", printable_line(&path)))?,
            (Some(_), None) | (None, Some(_)) => {
                let side = if trees.0.is_some() { "before" } else { "after" };
                writeln!(out, "{} is only {side}", printable_line(&path))?;
                differs = true;
                continue;
            }
            (None, None) => continue,
        };
        found.retain(|change| {
            let noise = change.kind == ChangeKind::Time || change.path.as_os_str().is_empty();
            !noise && glob.as_ref().is_none_or(|glob| glob.is_match(&change.path))
        });
        differs |= !found.is_empty();
        for change in &found {
            let full = Bytes::from(path.as_slice()).as_path().join(&change.path);
            let by = hands.as_ref().map(|hands| {
                hands.between(&full, (began(&before, &after, between.0, &full), between.1))
            });
            if context.preferences.json {
                let mut line = changes::to_json(&path, change);
                line["by"] = by.into();
                out.json_line(&line)?;
            } else if args.stat {
                changes::write_stat(&mut out, &objects, change)?;
            } else {
                if let Some(by) = by {
                    let by = out.paint.dim(hands_in_words(&by));
                    writeln!(out, "{by}")?;
                }
                changes::write_unified(&mut out, &objects, change)?;
            }
        }
    }
    out.finish()?;
    Ok(if differs { Exit::DIFFERENT } else { Exit::OK })
}

/// The event after which acts count that a comparison from the snapshot at `from` shows of a path: an earlier one where the path was
/// written to while that snapshot was taken, since the acts may stand before it.
fn began(before: &State, after: &State, from: Seq, path: &Path) -> Seq {
    let first = if before.snapshot().seq <= after.snapshot().seq { before } else { after };
    let is_late = first.snapshot().late.iter().any(|late| late.as_path() == path);
    match first.at.checked_sub(1) {
        Some(earlier) if is_late => first.digest.snapshots[earlier].seq,
        _ => from,
    }
}

fn path_glob(pattern: &str) -> Result<GlobMatcher> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    Ok(glob.with_context(|| format!("cannot use the pattern `{pattern}`"))?.compile_matcher())
}

/// Which two snapshots are meant.
fn states(args: &Args) -> Result<(State, State)> {
    let first = args.from.clone().unwrap_or(Range::One(Address::LAST));
    let (before, from, after, to) = match (first, &args.to) {
        (Range::Between { session, from, to }, None) => {
            let address = |place| Address { session: session.clone(), place: Some(place) };
            (address(from), Default::Start, address(to), Default::End)
        }
        (Range::Between { .. }, Some(_)) => bail!("cannot compare a range with something else"),
        (Range::One(address), None) => {
            let end = match &address.place {
                Some(Place::Turn(label)) => Default::EndOf(label.clone()),
                _ => Default::End,
            };
            let session = Address { session: address.session.clone(), place: None };
            (address, Default::Start, session, end)
        }
        (Range::One(before), Some(after)) => {
            // Two bare places are of one session.
            let session = after.session.clone().or_else(|| before.session.clone());
            let after = Address { session, place: after.place.clone() };
            (before, Default::End, after, Default::End)
        }
    };
    let before = state(&before, &from, None)?;
    let after = state(&after, &to, Some(&before))?;
    Ok((before, after))
}

/// What a session without a place means.
enum Default {
    Start,
    End,
    /// Where this turn ends: at the request of the next one.
    EndOf(TurnLabel),
}

fn state(address: &Address, default: &Default, other: Option<&State>) -> Result<State> {
    let opened = session::open(address)?;
    let digest = match other.filter(|other| other.opened.path == opened.path) {
        Some(other) => Rc::clone(&other.digest),
        None => Rc::new(session::analyse(&opened.reader)?),
    };
    let named = match &opened.place {
        Some(place) => match opened.snapshot_in(&digest, place)? {
            Some(index) => Some(index),
            None => bail!("cannot compare {place}: it is no snapshot and no turn"),
        },
        None => None,
    };
    let snapshots = &digest.snapshots;
    let last = snapshots.len().checked_sub(1);
    let at = match (named, default) {
        (Some(index), _) => snapshots.iter().position(|s| s.index == index),
        (None, Default::Start) => last.map(|_| 0),
        (None, Default::End) => last,
        (None, Default::EndOf(label)) => {
            let next = digest.turns.get(label).and_then(|turn| turn.next_seq);
            next.and_then(|next| snapshots.iter().position(|s| s.seq > next)).or(last)
        }
    };
    match at {
        Some(at) => Ok(State { opened, digest, at }),
        None => Err(with_hint(
            match &opened.place {
                Some(place) => anyhow!("cannot compare: {} has no snapshot {place}", opened.name),
                None => anyhow!("cannot compare: {} has no snapshots", opened.name),
            },
            format!("agentrec info {} lists its snapshots", opened.name),
        )),
    }
}

/// One root, before and after.
struct Pair<'s> {
    path: Vec<u8>,
    trees: (Option<ObjectId>, Option<ObjectId>),
    /// The agent whose state it holds.
    agent: Option<&'s str>,
}

/// The roots of both.
fn pairs<'s>(before: &'s State, after: &'s State) -> Vec<Pair<'s>> {
    let root = |snapshot: &'s Snapshot, path: &[u8]| {
        snapshot.roots.iter().find(|root| root.path.as_slice() == path)
    };
    let is_one = Rc::ptr_eq(&before.digest, &after.digest) && before.at < after.at;
    // An agent may have been started in between: then its state is compared from there on.
    let between = if is_one { &before.digest.snapshots[before.at..after.at] } else { &[] };
    let (before, after) = (before.snapshot(), after.snapshot());
    let later = |path: &[u8]| {
        let mut roots = between.iter().filter_map(|snapshot| root(snapshot, path));
        roots.find(|root| root.agent.is_some())
    };
    let mut paths: Vec<_> =
        before.roots.iter().chain(&after.roots).map(|root| root.path.to_vec()).collect();
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| {
            let (before, after) =
                (root(before, &path).or_else(|| later(&path)), root(after, &path));
            let agent = before.or(after).and_then(|root| root.agent.as_deref());
            Pair { path, trees: (before.map(|root| root.tree), after.map(|root| root.tree)), agent }
        })
        .collect()
}

/// The objects of both traces and of the store.
struct Both<'a> {
    before: Sources<'a>,
    after: Sources<'a>,
}

impl<'a> Both<'a> {
    fn new(before: &'a State, after: &'a State, store: Option<&'a Store>) -> Self {
        let sources = |state: &'a State| Sources::new(&state.opened.reader, store);
        Self { before: sources(before), after: sources(after) }
    }
}

impl Objects for Both<'_> {
    fn copy_to(&self, id: &ObjectId, out: &mut dyn Write) -> agentrec_store::Result<Option<u64>> {
        if self.before.contains(id)? {
            return self.before.copy_to(id, out);
        }
        self.after.copy_to(id, out)
    }

    fn contains(&self, id: &ObjectId) -> agentrec_store::Result<bool> {
        Ok(self.before.contains(id)? || self.after.contains(id)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stop_at_slashes() {
        let glob = path_glob("*.py").expect("a valid glob");
        assert!(glob.is_match("a.py"));
        assert!(!glob.is_match("src/a.py"));
        assert!(path_glob("**/*.py").expect("a valid glob").is_match("src/a.py"));
    }
}
