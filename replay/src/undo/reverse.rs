//! What taking back an operation would do: a redo, or the undo of one.

use std::collections::HashMap;

use agentrec_store::{Entry, Kind, Logged, Role, Step, Store};

use super::plan::{Scope, same_with_links};
use super::present::Present;
use super::{Conflict, Plan, Why, carry};
use crate::error::Result;
use crate::lookup::same;
use crate::sources::Sources;

/// Finds out what taking back `logged` would do. Nothing is changed yet; what an interrupted operation left lying about is removed.
pub fn reverse<'a>(store: &'a Store, logged: &Logged, scope: Scope<'_>) -> Result<Plan<'a>> {
    let mut plan = Plan::new(store);
    // What comes back was read from this machine's own disk.
    plan.trusted = true;
    if logged.outcome.is_none() {
        carry::clean(&logged.operation);
    }
    let times = logged.outcome.as_ref().map_or_else(HashMap::new, carry::parent_times);
    for step in &logged.operation.steps {
        let full = step.full_path();
        let now = Present::new(&mut plan.reader).entry(&step.root, &step.path)?;
        let back = |before| Step {
            root: step.root.clone(),
            path: step.path.clone(),
            role: step.role,
            before,
            after: step.before.clone(),
        };
        match step.role {
            Role::Parent => {
                let Some(now) = now.filter(|now| now.kind == Kind::Dir) else { continue };
                let as_left = times.get(full.as_path()).is_none_or(|left| *left == now.meta.mtime);
                let mut to = back(Some(now.clone()));
                let was = step
                    .before
                    .as_ref()
                    .filter(|_| as_left)
                    .map_or(now.meta.mtime, |was| was.meta.mtime);
                // Its other attributes were not the operation's.
                let mut after = now;
                after.meta.mtime = was;
                to.after = Some(after);
                plan.steps.push(to);
            }
            Role::Anchor => plan.steps.push(back(now)),
            // Whoever moved it since did more in it.
            Role::Changed if step.is_time_of_directory() => {
                let mtime = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.meta.mtime);
                if mtime(&now) == mtime(&step.after) {
                    plan.steps.push(back(now));
                }
            }
            Role::Changed => {
                let halfway = |now: &Entry| {
                    logged.outcome.is_none()
                        && now.kind == Kind::File
                        && step.before.as_ref().is_some_and(|entry| entry.id == now.id)
                        && step.after.as_ref().is_some_and(|entry| entry.id == now.id)
                };
                let (is_before, is_after) = side(step, now.as_ref());
                // It was not carried out here, or taken back by hand.
                if is_before {
                    continue;
                }
                let as_left = is_after || now.as_ref().is_some_and(halfway);
                if as_left {
                    plan.steps.push(back(now));
                } else {
                    let base = Some(step.after.clone());
                    plan.conflicts.push(Conflict {
                        step: back(now),
                        base,
                        why: Why::Changed(Vec::new()),
                    });
                }
            }
        }
    }
    if let Some(only) = scope.only {
        plan.steps.retain(|step| step.role != Role::Changed || only.matches(&step.path));
        plan.conflicts.retain(|conflict| only.matches(&conflict.step.path));
    }
    plan.settle(&Sources::store(store), scope.settle)?;
    plan.directories_that_stay();
    Ok(plan)
}

/// Whether what is there now is what the operation found, or what it left. Where both are the same but for times and links, it is what it
/// left unless all is as it was: a file that was to be linked stands alone where the other name is gone.
fn side(step: &Step, now: Option<&Entry>) -> (bool, bool) {
    let (before, after) = (step.before.as_ref(), step.after.as_ref());
    let as_before = same(now, before);
    if !same(before, after) {
        return (as_before, same(now, after));
    }
    let mtime = |entry: Option<&Entry>| entry.map(|entry| entry.meta.mtime);
    let is_before = same_with_links(now, before) && mtime(now) == mtime(before);
    (is_before, as_before && !is_before)
}
