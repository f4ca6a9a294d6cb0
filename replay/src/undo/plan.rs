//! What an undo would do: each path judged by what the span found there, what it left, and what is there now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use agentrec_store::{
    Entry, Home, Kind, LeftOut, Logged, Objects, OperationKind, Operations, Role, Step, Store,
};
use agentrec_trace::Seq;

use super::present::{Present, anchor};
use super::states::{At, Before, States};
use super::{Conflict, Plan, Record, Settle, Touch, Unable, Why};
use crate::error::Result;
use crate::lookup::same;
use crate::restore::Only;
use crate::sources::Sources;

/// Which part of a span is meant, and what becomes of conflicts.
#[derive(Clone, Copy, Default)]
pub struct Scope<'a> {
    /// Globs, relative to a root; outside of the roots they are held against absolute paths.
    pub only: Option<&'a Only>,
    /// How conflicts are settled; what stays as it is remains listed as a conflict.
    pub settle: Settle,
}

impl Scope<'_> {
    /// Whether a path is meant; the root itself never is.
    fn holds(&self, full: &Path, rest: &Path) -> bool {
        let Some(only) = self.only else { return !rest.as_os_str().is_empty() };
        let absolute = full.strip_prefix("/").unwrap_or(full);
        [rest, full, absolute].iter().any(|path| only.matches(path))
    }
}

/// Finds out what taking back `touches` would do. Nothing is changed and nothing is stored yet.
pub fn plan<'a>(
    store: &'a Store,
    home: &Home,
    sources: &Sources<'_>,
    record: &Record<'_>,
    touches: Vec<Touch>,
    scope: Scope<'_>,
) -> Result<Plan<'a>> {
    let (logged, _) = Operations::list(home)?;
    let mut planner = Planner {
        sources,
        record,
        states: States::new(record, sources),
        earlier: &logged,
        plan: Plan::new(store),
        seen: HashSet::new(),
    };
    let touches = planner.gather(touches)?;
    for touch in touches.values() {
        let (root, rest) = match planner.states.split(&touch.path) {
            Some((root, rest)) => (root, rest.to_owned()),
            None => match anchor(&touch.path) {
                Some(found) => found,
                None => continue,
            },
        };
        let meant = scope.holds(&touch.path, &rest);
        // Another name by which the same place was changed.
        if meant && planner.seen.insert((root.clone(), rest.clone())) {
            planner.judge(touch, root, rest)?;
        }
    }
    planner.join_roots();
    planner.plan.settle(sources, scope.settle)?;
    planner.others_of_links(&touches)?;
    planner.plan.directories_that_stay();
    planner.parents()?;
    planner.plan.trusted = planner.is_trusted()?;
    let mut plan = planner.plan;
    plan.steps.sort_by(|a, b| (&a.root, &a.path).cmp(&(&b.root, &b.path)));
    Ok(plan)
}

struct Planner<'r, 'a> {
    sources: &'r Sources<'r>,
    record: &'r Record<'r>,
    states: States<'r>,
    earlier: &'r [Logged],
    plan: Plan<'a>,
    seen: HashSet<(PathBuf, PathBuf)>,
}

impl Planner<'_, '_> {
    /// The touches by path, with what lies in renamed directories and with the other names of files that have several.
    fn gather(&mut self, touches: Vec<Touch>) -> Result<BTreeMap<PathBuf, Touch>> {
        let mut all: BTreeMap<PathBuf, Touch> = BTreeMap::new();
        for mut touch in touches {
            touch.path = self.states.settle(&touch)?;
            if touch.moved {
                for path in self.states.below(&touch)? {
                    add(
                        &mut all,
                        Touch {
                            path,
                            existed: None,
                            gone: None,
                            arrived: false,
                            moved: false,
                            ..touch.clone()
                        },
                    );
                }
            }
            add(&mut all, touch);
        }
        let mut names = None;
        for touch in all.values().cloned().collect::<Vec<_>>() {
            let mut numbers = Vec::new();
            if let Before::At(At { state: Some(Entry { link: Some(number), .. }), .. }) =
                self.states.before(&touch)?
            {
                numbers.push(number);
            }
            if let Some(At { state: Some(Entry { link: Some(number), .. }), .. }) =
                self.states.after(&touch)?
            {
                numbers.push(number);
            }
            for number in numbers {
                if names.is_none() {
                    names = Some(self.states.names(&touch)?);
                }
                for path in names.iter().flat_map(|names| names.get(&number)).flatten() {
                    add(
                        &mut all,
                        Touch {
                            path: path.clone(),
                            existed: None,
                            gone: None,
                            arrived: false,
                            moved: false,
                            ..touch.clone()
                        },
                    );
                }
            }
        }
        Ok(all)
    }

    /// Outside of the trees each path has the nearest directory for its root. Where one lies in another, all have the outer one, so that
    /// they are changed in one order.
    fn join_roots(&mut self) {
        let trees = &self.states;
        let steps = self.plan.steps.iter_mut();
        let conflicts = self.plan.conflicts.iter_mut().map(|conflict| &mut conflict.step);
        let outside = |step: &&mut Step| trees.split(&step.full_path()).is_none();
        let mut steps: Vec<_> = steps.chain(conflicts).filter(outside).collect();
        let roots: Vec<PathBuf> = steps.iter().map(|step| step.root.clone()).collect();
        for step in &mut steps {
            let outer = roots.iter().filter(|root| step.root.starts_with(root));
            if let Some(outer) = outer.min_by_key(|root| root.iter().count())
                && let Ok(between) = step.root.strip_prefix(outer)
            {
                step.path = between.join(&step.path);
                step.root = outer.clone();
            }
        }
    }

    /// Whether what grants rights may be put back: only this machine's own recorder may have told of it.
    fn is_trusted(&self) -> Result<bool> {
        let grants = |entry: &Entry| {
            let capability =
                entry.meta.xattrs.iter().any(|(name, _)| name.as_slice() == b"security.capability");
            entry.meta.mode & 0o6000 != 0 || capability
        };
        if !self.plan.steps.iter().filter_map(|step| step.after.as_ref()).any(grants) {
            return Ok(true);
        }
        for root in self.record.snapshots.iter().flat_map(|(_, snapshot)| &snapshot.roots) {
            if !self.sources.is_own(&root.tree)? {
                return Ok(false);
            }
        }
        Ok(self.record.kept.is_empty())
    }

    fn judge(&mut self, touch: &Touch, root: PathBuf, rest: PathBuf) -> Result<()> {
        let before = self.states.before(touch)?;
        let after = self.states.after(touch)?;
        let now = self.present(&root, &rest)?;
        let unable = |planner: &mut Self, why| planner.plan.unable.push((touch.path.clone(), why));
        let mut doubt = None;
        let (mut state, since) = match before {
            Before::At(At { state, seq }) => (state, Some(seq)),
            Before::Made => (None, None),
            Before::Late(at) => {
                doubt = Some(Why::KeptLate);
                (at.state, Some(at.seq))
            }
            Before::OtherNames(at) => {
                doubt = Some(Why::OtherNames);
                (at.state, Some(at.seq))
            }
            Before::LeftOut(entry) => {
                unable(self, Unable::LeftOut(entry.left_out.unwrap_or(LeftOut::Excluded)));
                return Ok(());
            }
            Before::NotKept => {
                unable(self, Unable::NotKept);
                return Ok(());
            }
            // A rename may have replaced something, or not.
            Before::NotRecorded if touch.arrived && self.states.split(&touch.path).is_none() => {
                doubt = Some(Why::BeforeNotKnown);
                (None, None)
            }
            // What is written into a pipe or a device is no change to a file.
            Before::NotRecorded
                if now.as_ref().is_some_and(|now| {
                    !matches!(now.kind, Kind::File | Kind::Dir | Kind::Symlink)
                }) =>
            {
                return Ok(());
            }
            Before::NotRecorded => {
                unable(self, Unable::NotRecorded);
                return Ok(());
            }
        };
        // Only its attributes changed.
        if let (Some(state), Some(now)) = (&mut state, &now)
            && state.kind == Kind::File
            && state.id.is_none()
            && now.kind == Kind::File
        {
            (state.id, state.size, state.sparse) = (now.id, now.size, now.sparse);
        }
        let (was, is) = (state.as_ref(), now.as_ref());
        if was.is_none() && touch.existed == Some(true) && !self.is_shared(touch, since) {
            // Somebody made it between the snapshot and the first act.
            if !is.is_some_and(|now| !matches!(now.kind, Kind::File | Kind::Dir | Kind::Symlink)) {
                unable(self, Unable::NotRecorded);
            }
            return Ok(());
        }
        let left = after.as_ref().map(|at| at.state.as_ref());
        if same_with_links(is, was) || left.is_some_and(|left| same_with_links(left, was)) {
            return Ok(());
        }
        if let Some(reason) = is.and_then(|entry| entry.left_out) {
            unable(self, Unable::NotSavable(reason));
            return Ok(());
        }
        match was.map(|entry| (entry.kind, entry.id)) {
            Some((Kind::Socket | Kind::Char | Kind::Block, _)) => {
                unable(self, Unable::NotAFile);
                return Ok(());
            }
            Some((Kind::File, id)) if !id.map_or(Ok(false), |id| self.sources.contains(&id))? => {
                unable(self, Unable::NotHere);
                return Ok(());
            }
            _ => {}
        }
        let as_left = match left {
            Some(left) => {
                same(is, left) || self.is_ours(&touch.path, is, |state| same(state, left))
            }
            None => self.unchanged_since(touch, &root, &rest, is)?,
        };
        let why = if !as_left {
            let later =
                (self.record.others)(&touch.path).into_iter().filter(|seq| *seq > touch.last);
            Some(if left.is_some() { Why::Changed(later.collect()) } else { Why::NotRecorded })
        } else {
            let until = after.as_ref().map_or(Seq(u64::MAX), |at| at.seq);
            let since = since.unwrap_or(touch.first);
            let others = (self.record.others)(&touch.path);
            let shared: Vec<_> =
                others.into_iter().filter(|seq| *seq > since && *seq < until).collect();
            match doubt {
                Some(why) => Some(why),
                None if !shared.is_empty() => Some(Why::Shared(shared)),
                None if foreign(touch, was, left) => Some(Why::Foreign),
                None if touch.held => Some(Why::Held),
                None => None,
            }
        };
        let step = Step { root, path: rest, role: Role::Changed, before: now, after: state };
        self.plan.last.insert(touch.path.clone(), touch.last);
        match why {
            None => self.plan.steps.push(step),
            Some(why) => {
                self.plan.conflicts.push(Conflict { step, base: after.map(|at| at.state), why })
            }
        }
        Ok(())
    }

    /// Whether others that were recorded changed it between the state before and the first act.
    fn is_shared(&self, touch: &Touch, since: Option<Seq>) -> bool {
        let others = (self.record.others)(&touch.path);
        others.into_iter().any(|seq| since.is_none_or(|since| seq > since) && seq < touch.first)
    }

    fn present(&mut self, root: &Path, rest: &Path) -> Result<Option<Entry>> {
        Present::new(&mut self.plan.reader).entry(root, rest)
    }

    /// Whether a state that matches became what is there now by our own operations, and nothing else.
    fn is_ours(
        &self,
        path: &Path,
        now: Option<&Entry>,
        matches: impl Fn(Option<&Entry>) -> bool,
    ) -> bool {
        let mut state = now;
        for logged in self.earlier.iter().rev() {
            let step = logged.operation.steps.iter().find(|step| {
                step.role == Role::Changed
                    && step.full_path() == path
                    && same(state, step.after.as_ref())
            });
            let Some(step) = step else { continue };
            state = step.before.as_ref();
            if matches(state) {
                return true;
            }
        }
        false
    }

    /// Where no snapshot tells what the span left: whether the file has not been changed since the span's last act, or only by
    /// operations that found it so.
    fn unchanged_since(
        &mut self,
        touch: &Touch,
        root: &Path,
        rest: &Path,
        now: Option<&Entry>,
    ) -> Result<bool> {
        let changed_at = Present::new(&mut self.plan.reader).changed_at(root, rest)?;
        let in_time = |at: i64| at <= touch.until;
        if now.is_none() && touch.gone == Some(true) {
            return Ok(true);
        }
        if now.is_some_and(|now| now.kind != Kind::Dir) && changed_at.is_some_and(in_time) {
            return Ok(true);
        }
        // A directory's own time moves with what is done in it.
        if now.is_some_and(|now| now.kind == Kind::Dir) && touch.existed == Some(false) {
            return Ok(true);
        }
        let session = self.record.session;
        let found: Vec<_> = self
            .earlier
            .iter()
            .filter(|logged| {
                logged.operation.kind == OperationKind::Undo
                    && logged.operation.reverses.is_none()
                    && logged.operation.session == session
            })
            .flat_map(|logged| &logged.operation.steps)
            .filter(|step| step.role == Role::Changed && step.full_path() == touch.path)
            .collect();
        Ok(self.is_ours(&touch.path, now, |state| {
            found.iter().any(|step| same(state, step.before.as_ref()))
        }))
    }

    /// Files with several names of which not all are changed: the others are where the changed ones are linked to.
    fn others_of_links(&mut self, touches: &BTreeMap<PathBuf, Touch>) -> Result<()> {
        let linked = |step: &Step| {
            [&step.before, &step.after].into_iter().flatten().any(|entry| entry.link.is_some())
        };
        if !self.plan.steps.iter().any(linked) {
            return Ok(());
        }
        let changed: HashSet<_> =
            self.plan.steps.iter().map(|step| (step.root.clone(), step.path.clone())).collect();
        let mut anchors = Vec::new();
        for touch in touches.values() {
            let Some((root, rest)) = self.states.split(&touch.path) else { continue };
            let rest = rest.to_owned();
            if changed.contains(&(root.clone(), rest.clone())) {
                continue;
            }
            let Before::At(At { state: Some(state), .. }) = self.states.before(touch)? else {
                continue;
            };
            let now = self.present(&root, &rest)?;
            let is_linked =
                state.link.is_some() || now.as_ref().is_some_and(|now| now.link.is_some());
            if is_linked && same(now.as_ref(), Some(&state)) {
                anchors.push(Step {
                    root,
                    path: rest,
                    role: Role::Anchor,
                    before: now,
                    after: Some(state),
                });
            }
        }
        self.plan.steps.extend(anchors);
        Ok(())
    }

    /// The directories in which something is changed: their times become those of before where nothing else moved them.
    fn parents(&mut self) -> Result<()> {
        let steps = &self.plan.steps;
        let known: HashSet<_> =
            steps.iter().filter(|step| step.role == Role::Changed).map(Step::full_path).collect();
        let mut parents: HashMap<(PathBuf, PathBuf), Touch> = HashMap::new();
        for step in steps.iter().filter(|step| step.role == Role::Changed) {
            let Some(parent) = step.path.parent() else { continue };
            let full = step.full_path();
            let last = self.plan.last.get(&full).copied().unwrap_or_default();
            let touch = Touch {
                path: full.parent().unwrap_or(&full).to_owned(),
                first: last,
                last,
                until: 0,
                existed: None,
                gone: None,
                arrived: false,
                follows: false,
                moved: false,
                held: false,
            };
            if known.contains(&touch.path) {
                continue;
            }
            let slot = parents
                .entry((step.root.clone(), parent.to_owned()))
                .or_insert_with(|| touch.clone());
            (slot.first, slot.last) = (slot.first.min(last), slot.last.max(last));
        }
        for ((root, path), touch) in parents {
            let Some(now) = self.present(&root, &path)?.filter(|now| now.kind == Kind::Dir) else {
                continue;
            };
            let mut after = now.clone();
            if self.states.split(&touch.path).is_some()
                && let Before::At(At { state: Some(was), .. }) = self.states.before(&touch)?
                && let Some(At { state: Some(left), .. }) = self.states.after(&touch)?
                && left.meta.mtime == now.meta.mtime
            {
                after.meta.mtime = was.meta.mtime;
            }
            self.plan.steps.push(Step {
                root,
                path,
                role: Role::Parent,
                before: Some(now),
                after: Some(after),
            });
        }
        Ok(())
    }
}

fn add(all: &mut BTreeMap<PathBuf, Touch>, touch: Touch) {
    match all.get_mut(&touch.path) {
        None => drop(all.insert(touch.path.clone(), touch)),
        Some(known) => {
            if touch.first < known.first {
                (known.existed, known.arrived) = (touch.existed, touch.arrived);
            }
            if touch.last > known.last {
                known.gone = touch.gone;
            }
            known.first = known.first.min(touch.first);
            known.last = known.last.max(touch.last);
            known.until = known.until.max(touch.until);
            known.moved |= touch.moved;
            known.held |= touch.held;
        }
    }
}

/// Whether the states around a span are others than its acts can have found and left: then somebody who was not recorded had a part.
fn foreign(touch: &Touch, was: Option<&Entry>, left: Option<Option<&Entry>>) -> bool {
    let made_away = was.is_some() && touch.existed == Some(false);
    let Some(left) = left else { return made_away };
    let differs = touch.gone.is_some_and(|gone| gone == left.is_some());
    let later = left.is_some_and(|left| left.kind != Kind::Dir && left.meta.mtime > touch.until);
    made_away || differs || later
}

/// The same, and both of them files with several names or neither.
pub(super) fn same_with_links(a: Option<&Entry>, b: Option<&Entry>) -> bool {
    let linked = |entry: Option<&Entry>| {
        entry.is_some_and(|entry| entry.link.is_some() && entry.kind != Kind::Dir)
    };
    same(a, b) && linked(a) == linked(b)
}
