//! Makes ready what a resumed run needs: copies of the trees, seen at their original paths, the environment, and the state
//! that the agent finds.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentrec_launch::{Plan, PrivateMount};
use agentrec_store::{Home, ProgressFn, Store, create_private_dir};
use agentrec_trace::Reader;
use agentrec_trace::json::from_value;
use serde_json::{Value as Json, json};

use crate::credentials;
use crate::error::{Context, Error, Result};
use crate::origin::{Origin, OriginRoot, RelativePath};
use crate::redacted;
use crate::restore::{Restored, restore_new};
use crate::snapshot::{Root, Snapshot};
use crate::sources::Sources;

/// What is to be different this time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// What the user wants now; the agent finds it in its resume state.
    pub prompt: Option<String>,
    /// Environment variables.
    pub env: Vec<(OsString, OsString)>,
    /// Another command.
    pub argv: Option<Vec<OsString>>,
}

/// Where a resumed run is made ready.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The data directory.
    pub home: &'a Home,
    /// Id of the new session: its copies lie in the data directory under this name.
    pub session: &'a str,
    /// Where the copy of the first root goes instead; it must not exist.
    pub dir: Option<&'a Path>,
    /// The present environment, for what was redacted.
    pub env: &'a [(OsString, OsString)],
}

/// A resumed run, ready to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct ResumePlan {
    /// What to start.
    pub plan: Plan,
    /// The JSON object for `AGENTREC_RESUME`.
    pub state: Json,
    /// The session that is continued.
    pub parent: String,
    /// Where in it, such as `s2`.
    pub at: String,
    /// What was changed, such as `prompt` or `env.NAME`.
    pub edits: Vec<String>,
    /// Variables whose recorded value was redacted and that are not set now.
    pub missing_env: Vec<String>,
    /// The copies.
    pub roots: Vec<RestoredRoot>,
    /// Directories with an agent's state that are not here, so that nothing can be put in their place.
    pub absent: Vec<PathBuf>,
}

/// A copy that a resumed run works in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredRoot {
    /// Where the agent sees it.
    pub path: PathBuf,
    /// Where it is.
    pub copy: PathBuf,
    /// What could and could not be restored.
    pub restored: Restored,
    /// The agent whose state it is.
    pub agent: Option<String>,
}

/// Restores the trees of `snapshot` and plans a run that continues it.
pub fn resume_plan(
    reader: &Reader,
    store: &Store,
    snapshot: &Snapshot,
    edits: &Edits,
    place: &Place<'_>,
    progress: Option<&ProgressFn>,
) -> Result<ResumePlan> {
    // All that can be refused is refused before anything is written.
    let environment = redacted::environment(&snapshot.env, place.env, &edits.env);
    let argv = match &edits.argv {
        Some(argv) => argv.clone(),
        None => redacted::arguments(&snapshot.argv, &snapshot.env, &environment.env)?,
    };
    // Where an agent's own directory is not here it starts without what it kept there.
    let wanted = |root: &&Root| root.agent.is_none() || root.path.is_dir();
    let (wanted, absent): (Vec<_>, Vec<_>) = snapshot.roots.iter().partition(wanted);
    for path in wanted.iter().map(|root| &root.path).chain([&snapshot.cwd]) {
        if !path.is_dir() {
            return Err(Error::NoOriginal { path: path.clone() });
        }
    }
    let sources = Sources::new(reader, Some(store));
    let work = place.home.session_work(place.session);
    create_private_dir(&work)?;
    let parent = Origin::load(place.home, &snapshot.session)?;
    let mut roots = Vec::new();
    let mut origin = Origin { session: place.session.to_owned(), roots: Vec::new() };
    for (index, root) in wanted.into_iter().enumerate() {
        let copy = match place.dir {
            Some(dir) if index == 0 => std::path::absolute(dir).context("find", dir)?,
            _ => work.join(format!("root-{index}")),
        };
        let mut restored = restore_root(&sources, root, &copy, progress)?;
        if root.agent.is_some() {
            credentials::renew(&sources, root, &copy, &mut restored)?;
        }
        // What the agent keeps for itself is not brought home.
        if root.agent.is_none() {
            origin.roots.push(origin_root(root, &copy, &restored, parent.as_ref(), reader)?);
        }
        let (path, agent) = (root.path.clone(), root.agent.clone());
        roots.push(RestoredRoot { path, copy, restored, agent });
    }
    make_mount_points(&roots)?;
    origin.save(place.home)?;
    let mounts = roots
        .iter()
        .map(|root| PrivateMount { source: root.copy.clone(), target: root.path.clone() })
        .collect();
    Ok(ResumePlan {
        plan: Plan { argv, env: environment.env, cwd: snapshot.cwd.clone(), mounts },
        state: resume_state(snapshot, edits),
        parent: snapshot.session.clone(),
        at: snapshot.index.to_string(),
        edits: edit_names(edits),
        missing_env: environment.missing,
        roots,
        absent: absent.into_iter().map(|root| root.path.clone()).collect(),
    })
}

/// Makes a directory in the copy of each root that another root lies in: nothing of what was mounted there is in it.
fn make_mount_points(roots: &[RestoredRoot]) -> Result<()> {
    for inner in roots {
        let above =
            |outer: &&RestoredRoot| outer.path != inner.path && inner.path.starts_with(&outer.path);
        let Some(outer) = roots.iter().filter(above).max_by_key(|it| it.path.iter().count()) else {
            continue;
        };
        let rest = inner.path.strip_prefix(&outer.path).unwrap_or(&inner.path);
        let point = outer.copy.join(rest);
        // A link in the copy, whoever made the trace, leads nowhere.
        let parent = point.parent().unwrap_or(&outer.copy);
        let real = |path: &Path| path.canonicalize().context("find", path);
        let meant = real(&outer.copy)?.join(rest.parent().unwrap_or(rest));
        if real(parent)? == meant && point.symlink_metadata().is_err() {
            fs::create_dir(&point).context("make", &point)?;
        }
    }
    Ok(())
}

/// Restores one root of a snapshot into a new directory; the error for a tree that is nowhere says whose it is.
pub fn restore_root(
    sources: &Sources<'_>,
    root: &Root,
    target: &Path,
    progress: Option<&ProgressFn>,
) -> Result<Restored> {
    use agentrec_store::Objects;

    if !sources.contains(&root.tree)? {
        return Err(Error::NoTree { path: root.path.clone() });
    }
    restore_new(sources, root.tree, target, None, progress)
}

/// What the copy of `root` is compared with when its changes are brought home: the state that home had when the first session
/// of the line was left, which is the parent's base where the parent worked in a copy itself.
fn origin_root(
    root: &Root,
    copy: &Path,
    restored: &Restored,
    parent: Option<&Origin>,
    reader: &Reader,
) -> Result<OriginRoot> {
    let (home, copy) = (root.path.clone(), copy.to_owned());
    let missing = restored.missing.iter().map(|missing| RelativePath(missing.path.clone()));
    if let Some(parent) = parent.and_then(|parent| parent.root(&home)) {
        let missing = parent.missing.iter().cloned().chain(missing).collect();
        return Ok(OriginRoot { home, copy, missing, ..parent.clone() });
    }
    let trace = reader.path().unwrap_or(Path::new(""));
    let base_trace = std::path::absolute(trace).unwrap_or_else(|_| trace.to_owned());
    Ok(OriginRoot {
        home,
        copy,
        base: root.tree.to_string(),
        base_trace,
        missing: missing.collect(),
    })
}

fn resume_state(snapshot: &Snapshot, edits: &Edits) -> Json {
    json!({
        "session": snapshot.session,
        "snapshot": snapshot.index.0,
        "messages": from_value(&snapshot.messages),
        "system_prompt": from_value(&snapshot.system_prompt),
        "tools": from_value(&snapshot.tools),
        "model": snapshot.model,
        "last_query": from_value(&snapshot.last_query),
        "last_result": from_value(&snapshot.last_result),
        "prompt": edits.prompt,
    })
}

fn edit_names(edits: &Edits) -> Vec<String> {
    let mut names = Vec::new();
    names.extend(edits.prompt.as_ref().map(|_| "prompt".to_owned()));
    names.extend(edits.argv.as_ref().map(|_| "argv".to_owned()));
    let variable = |name: &OsString| format!("env.{}", name.as_bytes().escape_ascii());
    names.extend(edits.env.iter().map(|(name, _)| variable(name)));
    names
}
