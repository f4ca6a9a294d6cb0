//! Where agents keep their transcripts, as the environment of each process says.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentrec_trace::event::ProcessExec;
use agentrec_trace::{Bytes, Data, Event, ProcId};
use agentrec_wire::llm::Keeper;

/// The variables that say where.
const VARIABLES: [&str; 4] = ["HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME"];

/// A directory below which one agent keeps its transcripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) keeper: Keeper,
    pub(super) dir: PathBuf,
}

/// What the environment of one process says.
#[derive(Debug, Default)]
struct Said {
    /// In the order of [`VARIABLES`].
    values: [Option<OsString>; 4],
    places: Vec<Place>,
}

/// The places of all processes.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Of the command, and of those of whom nothing is known.
    first: Arc<Said>,
    by_process: HashMap<ProcId, Arc<Said>>,
}

impl Said {
    fn new(values: [Option<OsString>; 4]) -> Self {
        let value = |index: usize| {
            values[index].as_deref().filter(|value| !value.is_empty()).map(Path::new)
        };
        let home = value(0);
        let below = |name| home.map(|home| home.join(name));
        let codex = value(1).map(Path::to_owned).or_else(|| below(".codex"));
        let claude = match value(2) {
            Some(dir) => vec![dir.to_owned()],
            None => {
                let config = value(3).map(Path::to_owned).or_else(|| below(".config"));
                below(".claude").into_iter().chain(config.map(|dir| dir.join("claude"))).collect()
            }
        };
        let codex = codex.map(|dir| (Keeper::Codex, dir.join("sessions")));
        let claude = claude.into_iter().map(|dir| (Keeper::Claude, dir.join("projects")));
        let mut places = Vec::new();
        for (keeper, dir) in codex.into_iter().chain(claude).filter(|(_, dir)| dir.is_absolute()) {
            // Agents find out where a symbolic link leads before they use it.
            let real = dir.canonicalize().ok().filter(|real| *real != dir);
            places.extend(real.map(|dir| Place { keeper, dir }));
            places.push(Place { keeper, dir });
        }
        Self { values, places }
    }

    /// With the changes that a process was started with, if any of them matters.
    fn changed(&self, changes: &[(Bytes<'_>, Option<Bytes<'_>>)]) -> Option<Self> {
        let mut values = self.values.clone();
        for (name, value) in changes {
            let index = VARIABLES.iter().position(|known| known.as_bytes() == name.as_slice());
            if let Some(index) = index {
                let value = value.as_ref();
                values[index] = value.map(|value| OsString::from_vec(value.to_vec()));
            }
        }
        (values != self.values).then(|| Self::new(values))
    }
}

impl Places {
    /// The command's environment.
    pub(super) fn new(env: &[(OsString, OsString)]) -> Self {
        let value = |name: &str| {
            let of_name = |(known, _): &&(OsString, OsString)| known == OsStr::new(name);
            env.iter().find(of_name).map(|(_, value)| value.clone())
        };
        let first = Arc::new(Said::new(VARIABLES.map(value)));
        Self { first, by_process: HashMap::new() }
    }

    pub(super) fn observe(&mut self, event: &Event<'_>) {
        let Some(proc) = event.proc else { return };
        match &event.data {
            Data::ProcessFork(fork) => {
                if let Some(said) = self.by_process.get(&proc) {
                    self.by_process.insert(fork.child, Arc::clone(said));
                }
            }
            Data::ProcessExec(exec) if exec.errno.is_none() => self.executed(proc, exec),
            Data::ProcessExit(_) => drop(self.by_process.remove(&proc)),
            _ => {}
        }
    }

    fn executed(&mut self, proc: ProcId, exec: &ProcessExec<'_>) {
        let said = self.by_process.get(&proc).unwrap_or(&self.first);
        if let Some(changed) = said.changed(&exec.env) {
            self.by_process.insert(proc, Arc::new(changed));
        }
    }

    /// Whose transcript a file is that a process opened, and what its path is below the agent's place.
    pub(super) fn find<'p>(
        &self,
        proc: Option<ProcId>,
        path: &'p Path,
    ) -> Option<(Place, &'p Path)> {
        if path.extension() != Some(OsStr::new("jsonl")) {
            return None;
        }
        let said = proc.and_then(|proc| self.by_process.get(&proc)).unwrap_or(&self.first);
        said.places.iter().find_map(|place| {
            let below = path.strip_prefix(&place.dir).ok()?;
            let name = below.file_name()?.as_bytes();
            let fits = place.keeper != Keeper::Codex || name.starts_with(b"rollout-");
            fits.then(|| (place.clone(), below))
        })
    }
}

#[cfg(test)]
mod tests {
    use agentrec_trace::Source;
    use agentrec_trace::event::ProcessFork;

    use super::*;

    fn exec(proc: u32, env: &[(&'static str, Option<&'static str>)]) -> Event<'static> {
        let env = env.iter().map(|(name, value)| {
            (Bytes::from(name.as_bytes()), value.map(|value| Bytes::from(value.as_bytes())))
        });
        let data = ProcessExec { env: env.collect(), ..ProcessExec::default() };
        Event { proc: Some(ProcId(proc)), ..Event::new(1, Source::Kernel, data) }
    }

    fn fork(parent: u32, child: u32) -> Event<'static> {
        let data = ProcessFork { child: ProcId(child), ..ProcessFork::default() };
        Event { proc: Some(ProcId(parent)), ..Event::new(1, Source::Kernel, data) }
    }

    #[test]
    fn each_process_has_the_places_that_its_environment_names() {
        let mut places = Places::new(&[("HOME".into(), "/nohome/u".into())]);
        let find = |places: &Places, proc: u32, path: &str| {
            let found = places.find(Some(ProcId(proc)), Path::new(path));
            found.map(|(place, below)| (place.keeper, below.to_owned()))
        };
        let rollout = "2026/01/02/rollout-x.jsonl";
        let codex = format!("/nohome/u/.codex/sessions/{rollout}");
        assert_eq!(find(&places, 1, &codex), Some((Keeper::Codex, rollout.into())));
        for path in [
            "/nohome/u/.codex/history.jsonl",
            "/nohome/u/.codex/sessions/2026/other.jsonl",
            "/nohome/u/.codex/sessions/rollout-x.json",
            "/nohome/v/.codex/sessions/rollout-x.jsonl",
            "/nohome/u/.claude/history.jsonl",
        ] {
            assert_eq!(find(&places, 1, path), None, "{path}");
        }
        let claude = (Keeper::Claude, PathBuf::from("p/a.jsonl"));
        for dir in ["/nohome/u/.claude", "/nohome/u/.config/claude"] {
            let found = find(&places, 1, &format!("{dir}/projects/p/a.jsonl"));
            assert_eq!(found, Some(claude.clone()), "{dir}");
        }
        places.observe(&fork(1, 2));
        places.observe(&exec(2, &[("CODEX_HOME", Some("/c")), ("CLAUDE_CONFIG_DIR", Some("/d"))]));
        places.observe(&fork(2, 3));
        places.observe(&exec(3, &[("CODEX_HOME", None), ("X", Some("y"))]));
        assert_eq!(find(&places, 2, &codex), None);
        assert!(find(&places, 2, "/c/sessions/rollout-x.jsonl").is_some());
        assert_eq!(find(&places, 3, &codex), Some((Keeper::Codex, rollout.into())));
        assert_eq!(find(&places, 3, "/d/projects/p/a.jsonl"), Some(claude));
        assert_eq!(find(&places, 3, "/nohome/u/.claude/projects/p/a.jsonl"), None);
        assert!(find(&places, 1, &codex).is_some());
    }
}
