//! The directories that snapshots hold: those that the user named, and those in which the agents of the session keep their state.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use agentrec_launch::PathMap;
use agentrec_store::{Home, SecretPlaces, StatCache, Tracked, is_beyond_mount};
use agentrec_trace::event::ProcessExec;
use agentrec_trace::{Data, Event, ObjectId, ProcId};

use crate::options::Options;
use crate::profiles::{Profiles, StateDir};
use crate::setup::Setup;

/// A directory that snapshots hold.
pub(super) struct Root {
    pub(super) visible: PathBuf,
    pub(super) tracked: Tracked,
    pub(super) cache: StatCache,
    /// The tree of the first snapshot.
    pub(super) start: Option<ObjectId>,
    /// The tree of the last one.
    pub(super) last: Option<ObjectId>,
    /// Every content that is not a secret is in the trace.
    pub(super) self_contained: bool,
    /// Directories that tools make again, relative to the root.
    pub(super) ignored: HashSet<PathBuf>,
    /// What snapshots leave out of it, beside what the user named.
    pub(super) excludes: Vec<String>,
    /// The untouched files go into the trace where they are not more than this, in bytes.
    pub(super) inline_max: u64,
    /// The agent whose state it holds.
    pub(super) agent: Option<String>,
}

/// All of them, and the directories that may still become some.
pub(super) struct Roots {
    pub(super) list: Vec<Root>,
    /// Files with credentials of all agents that have profiles.
    pub(super) secrets: SecretPlaces,
    /// Whether the state of agents is held.
    takes_state: bool,
    profiles: Profiles,
    environments: Environments,
    /// State directories of agents that were started. Those that are not there may be made.
    waiting: Vec<StateDir>,
    known: HashSet<PathBuf>,
    paths: PathMap,
    home: Home,
    inline_max: u64,
    began: SystemTime,
}

impl Roots {
    /// Those of a session that is about to begin.
    pub(super) fn new(setup: &Setup) -> Self {
        let options = &setup.options;
        let profiles = options.profiles.clone();
        let environments = Environments::new(&profiles, &options.plan.env);
        let mut roots = Self {
            list: Vec::new(),
            secrets: SecretPlaces::default(),
            takes_state: options.snapshots && options.state && setup.watch.is_none(),
            profiles,
            environments,
            waiting: Vec::new(),
            known: HashSet::new(),
            paths: options.plan.path_map(),
            home: options.home.clone(),
            inline_max: options.inline_max,
            began: SystemTime::now(),
        };
        roots.add_secrets();
        if options.snapshots {
            // What a watch follows works everywhere.
            let cwd = setup.watch.is_none().then_some(&options.plan.cwd);
            roots.add_given(cwd.into_iter().chain(&options.roots));
            roots.add_restored(options);
        }
        let argv: Vec<_> = options.plan.argv.iter().map(|word| word.as_os_str()).collect();
        if let Some(program) = argv.first() {
            roots.started(None, program, &argv);
        }
        roots.take_state();
        roots
    }

    /// Those that the user named, as the agent sees them.
    pub(super) fn given(&self) -> Vec<PathBuf> {
        let given = self.list.iter().filter(|root| root.agent.is_none());
        given.map(|root| root.visible.clone()).collect()
    }

    /// All of them, as the agent sees them.
    pub(super) fn visible(&self) -> Vec<PathBuf> {
        self.list.iter().map(|root| root.visible.clone()).collect()
    }

    /// Takes note of who starts what. Where that is an agent with state that no root holds, the agent: a snapshot should be taken
    /// before it changes that.
    pub(super) fn observe(&mut self, event: &Event<'_>) -> Option<String> {
        let proc = event.proc?;
        match &event.data {
            Data::ProcessFork(fork) => self.environments.forked(proc, fork.child),
            Data::ProcessExit(_) => self.environments.ended(proc),
            Data::ProcessExec(exec) if exec.errno.is_none() => {
                self.environments.executed(proc, exec);
                let argv: Vec<_> = exec.argv.iter().map(|word| OsStr::from_bytes(word)).collect();
                let agent = self.started(Some(proc), OsStr::from_bytes(&exec.path), &argv)?;
                // Of one that ran before there will be the first snapshot.
                return Some(agent).filter(|_| !exec.initial);
            }
            _ => {}
        }
        None
    }

    /// Makes roots of the directories that are there by now. They have to have been read before the next snapshot ends.
    pub(super) fn take_state(&mut self) {
        for dir in std::mem::take(&mut self.waiting) {
            let visible = dir.path.canonicalize().unwrap_or_else(|_| dir.path.clone());
            if self.list.iter().any(|root| visible.starts_with(&root.visible)) {
                // It is in there.
                continue;
            }
            if self.list.iter().any(|root| root.visible.starts_with(&visible)) {
                tracing::warn!(dir = %visible.display(), "an agent's state is no root: a root lies in it");
            } else if self.paths.real(&visible).is_dir() {
                self.add_state(dir, visible);
            } else {
                self.waiting.push(dir);
            }
        }
    }

    fn add_given<'p>(&mut self, wanted: impl Iterator<Item = &'p PathBuf>) {
        let mut visible: Vec<PathBuf> = Vec::new();
        // What lies in another root is in it, but for what is mounted there.
        let is_in = |inner: &PathBuf, outer: &PathBuf| {
            let [outer_real, inner_real] = [outer, inner].map(|path| self.paths.real(path));
            inner.starts_with(outer)
                && (inner == outer || !is_beyond_mount(&outer_real, &inner_real))
        };
        for root in wanted {
            if !visible.iter().any(|other| is_in(root, other)) {
                visible.retain(|other| !is_in(other, root));
                visible.push(root.clone());
            }
        }
        for visible in visible {
            let root = self.root(visible);
            self.list.push(root);
        }
    }

    /// Those of the snapshot that a resumed run continues.
    fn add_restored(&mut self, options: &Options) {
        for (agent, visible) in &options.state_roots {
            let dirs = self.profiles.state_dirs(agent, |name| self.environments.value(None, name));
            let is_it = |dir: &StateDir| dir.path.canonicalize().is_ok_and(|path| path == *visible);
            let known = dirs.into_iter().find(is_it);
            let excludes = known.map(|dir| dir.excludes).unwrap_or_default();
            let root = self.root(visible.clone());
            let agent = Some(agent.clone());
            self.list.push(Root { agent, excludes, inline_max: 0, ..root });
        }
    }

    /// What is in a directory from before is other sessions': the trace has of it what this one changes. All of one that was made
    /// meanwhile is this one's.
    fn add_state(&mut self, dir: StateDir, visible: PathBuf) {
        dir.add_secrets(&visible, &mut self.secrets);
        let root = self.root(visible);
        let born = root.tracked.root().metadata().and_then(|metadata| metadata.created());
        let is_new = born.is_ok_and(|born| born > self.began);
        let inline_max = if is_new { self.inline_max } else { 0 };
        let (agent, excludes) = (Some(dir.agent), dir.excludes);
        self.list.push(Root { agent, excludes, inline_max, ..root });
    }

    fn root(&self, visible: PathBuf) -> Root {
        let real = self.paths.real(&visible).into_owned();
        Root {
            visible,
            tracked: Tracked::new(&real),
            cache: StatCache::load(&self.home, &real),
            start: None,
            last: None,
            self_contained: true,
            ignored: HashSet::new(),
            excludes: Vec::new(),
            inline_max: self.inline_max,
            agent: None,
        }
    }

    /// The credentials of every agent that the command's environment places, whether it runs or not: they may lie in any root.
    fn add_secrets(&mut self) {
        for agent in self.profiles.agents() {
            for dir in self.profiles.state_dirs(agent, |name| self.environments.value(None, name)) {
                dir.add_secrets(&dir.path, &mut self.secrets);
                if let Ok(real) = dir.path.canonicalize() {
                    dir.add_secrets(&real, &mut self.secrets);
                }
            }
        }
    }

    /// A program was started. The agent that it is, where one of its directories is there and no root has it.
    fn started(&mut self, proc: Option<ProcId>, path: &OsStr, argv: &[&OsStr]) -> Option<String> {
        if !self.takes_state {
            return None;
        }
        let agent = self.profiles.recognise(path, argv)?.to_owned();
        let dirs = self.profiles.state_dirs(&agent, |name| self.environments.value(proc, name));
        let mut is_there = false;
        for dir in dirs {
            if self.known.insert(dir.path.clone()) {
                dir.add_secrets(&dir.path, &mut self.secrets);
                let inside = self.list.iter().any(|root| dir.path.starts_with(&root.visible));
                is_there |= !inside && self.paths.real(&dir.path).is_dir();
                self.waiting.push(dir);
            }
        }
        is_there.then_some(agent)
    }
}

/// What the environment of each process says of the variables that profiles name.
struct Environments {
    /// Of the command, and of those of whom nothing is known.
    first: Arc<Values>,
    by_process: HashMap<ProcId, Arc<Values>>,
}

/// Each variable, where it is set.
type Values = HashMap<String, Option<OsString>>;

impl Environments {
    fn new(profiles: &Profiles, env: &[(OsString, OsString)]) -> Self {
        let value = |name: &str| {
            env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let values = profiles.variables().into_iter().map(|name| (name.to_owned(), value(name)));
        Self { first: Arc::new(values.collect()), by_process: HashMap::new() }
    }

    fn of(&self, proc: Option<ProcId>) -> &Arc<Values> {
        proc.and_then(|proc| self.by_process.get(&proc)).unwrap_or(&self.first)
    }

    fn value(&self, proc: Option<ProcId>, name: &str) -> Option<OsString> {
        self.of(proc).get(name).cloned().flatten()
    }

    fn forked(&mut self, parent: ProcId, child: ProcId) {
        if let Some(values) = self.by_process.get(&parent) {
            self.by_process.insert(child, Arc::clone(values));
        }
    }

    fn ended(&mut self, proc: ProcId) {
        self.by_process.remove(&proc);
    }

    fn executed(&mut self, proc: ProcId, exec: &ProcessExec<'_>) {
        let mut changed: Option<Values> = None;
        for (name, value) in &exec.env {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let before = self.of(Some(proc));
            if let Some(known) = before.get(name) {
                let value = value.as_ref().map(|value| OsString::from_vec(value.to_vec()));
                if *known != value {
                    let values = changed.get_or_insert_with(|| (**before).clone());
                    values.insert(name.to_owned(), value);
                }
            }
        }
        if let Some(values) = changed {
            self.by_process.insert(proc, Arc::new(values));
        }
    }
}

/// Whether a file holds secrets, by its path alone or by where agents keep theirs.
pub(super) fn is_secret(secrets: &SecretPlaces, path: &Path, head: &[u8]) -> bool {
    agentrec_store::secret_files::is_secret(path, head) || secrets.has(path)
}
