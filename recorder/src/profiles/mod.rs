//! Profiles of agents: how one is recognised when it is started, and where it keeps its state. A table that users may edit.

mod command;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, LazyLock};

use agentrec_store::{SecretPlaces, check_pattern};
use serde::Deserialize;
use toml::Spanned;

/// The table that this version was made with.
const DEFAULT: &str = include_str!("profiles.toml");

/// Profiles, by the names of their agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles {
    agents: Arc<BTreeMap<String, Agent>>,
}

/// A table of profiles can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// It says something wrong.
    #[error("cannot use the profiles in {}, line {line}: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// It can't be read.
    #[error("cannot use the profiles in {}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

impl ProfileError {
    /// What the user can do.
    pub fn hint(&self) -> &'static str {
        "correct them, or remove the file; until then the profiles count that agentrec has itself"
    }
}

/// A directory in which an agent keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    /// The agent.
    pub agent: String,
    /// Where, as its environment says.
    pub path: PathBuf,
    /// What snapshots leave out of it, in the syntax of .gitignore.
    pub excludes: Vec<String>,
    /// Which of its files hold credentials, in the same syntax.
    secrets: Vec<String>,
}

impl StateDir {
    /// Adds its secret files to others: `path` is where it is seen.
    pub(crate) fn add_secrets(&self, path: &Path, all: &mut SecretPlaces) {
        all.add(path, &self.secrets).expect("patterns are looked at when the table is read");
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    #[serde(default)]
    programs: Vec<String>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    modules: Vec<String>,
    #[serde(default)]
    state: Vec<Spanned<State>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    dir: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    secret: Vec<String>,
}

impl Profiles {
    /// The embedded ones.
    pub fn embedded() -> Self {
        static READ: LazyLock<Profiles> = LazyLock::new(|| {
            let agents = parse(DEFAULT).expect("the embedded table is sound: a test reads it");
            Profiles { agents: Arc::new(agents) }
        });
        READ.clone()
    }

    /// The embedded ones, with those of the user's own file put before them, where there is such a file. Where that can't be used
    /// there are the embedded ones alone, and the error.
    pub fn load(path: &Path) -> (Self, Option<ProfileError>) {
        let embedded = Self::embedded();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (embedded, None),
            Err(error) => {
                let (path, problem) = (path.to_owned(), error.to_string());
                return (embedded, Some(ProfileError::Unreadable { path, problem }));
            }
        };
        match parse(&text) {
            Ok(own) => {
                let mut agents = (*embedded.agents).clone();
                agents.extend(own);
                (Self { agents: Arc::new(agents) }, None)
            }
            Err((line, problem)) => {
                (embedded, Some(ProfileError::Wrong { path: path.to_owned(), line, problem }))
            }
        }
    }

    /// The agent that a command starts: its program's path, and its arguments with the name that it was called by.
    pub fn recognise(&self, path: &OsStr, argv: &[&OsStr]) -> Option<&str> {
        let called = command::called(path, argv);
        let found = self.agents.iter().find(|(_, agent)| called.iter().any(|it| agent.is(it)));
        found.map(|(name, _)| name.as_str())
    }

    /// Where an agent keeps its state; `variable` tells its environment.
    pub fn state_dirs(
        &self,
        agent: &str,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Vec<StateDir> {
        let mut dirs: Vec<StateDir> = Vec::new();
        for state in self.agents.get(agent).into_iter().flat_map(|agent| &agent.state) {
            let state = state.as_ref();
            let found = state.dir.iter().find_map(|dir| place(dir, &variable));
            let Some(path) = found.filter(|path| !dirs.iter().any(|dir| dir.path == *path)) else {
                continue;
            };
            dirs.push(StateDir {
                agent: agent.to_owned(),
                path,
                excludes: state.exclude.clone(),
                secrets: state.secret.clone(),
            });
        }
        dirs
    }

    /// The agents' names, in their order.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        self.agents.keys().map(String::as_str)
    }

    /// The variables that say where state is.
    pub(crate) fn variables(&self) -> BTreeSet<&str> {
        let dirs = self.agents.values().flat_map(|agent| &agent.state);
        let named = dirs.flat_map(|state| &state.as_ref().dir).filter_map(|dir| variable_of(dir));
        named.chain(["HOME"]).collect()
    }
}

impl Agent {
    fn is(&self, called: &command::Called<'_>) -> bool {
        match called {
            command::Called::Program(name) => self.programs.iter().any(|it| it == name),
            command::Called::Package(name) => {
                self.packages.iter().chain(&self.programs).any(|it| it == name)
            }
            command::Called::Module(name) => self.modules.iter().any(|it| it == name),
            command::Called::Script(path) => {
                let below = |package: &String| path.contains(&format!("/node_modules/{package}/"));
                self.packages.iter().any(below)
            }
        }
    }
}

/// The variable that a directory begins with.
fn variable_of(dir: &str) -> Option<&str> {
    Some(dir.strip_prefix('$')?.split('/').next().unwrap_or_default())
}

/// Where a directory of the table is; none where its variable is not set, empty, or relative.
fn place(dir: &str, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let (base, rest) = match (variable_of(dir), dir.strip_prefix("~/")) {
        (Some(name), _) => (variable(name)?, dir[1 + name.len()..].trim_start_matches('/')),
        (None, Some(rest)) => (variable("HOME")?, rest),
        (None, None) => (OsString::from("/"), dir.trim_start_matches('/')),
    };
    let base = PathBuf::from(base);
    let path = if rest.is_empty() { base } else { base.join(rest) };
    // Components leave out what means nothing: `//`, `/./` and a slash at the end.
    path.is_absolute().then(|| path.components().collect())
}

/// Reads a table; the line and what is wrong there.
fn parse(text: &str) -> Result<BTreeMap<String, Agent>, (usize, String)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        #[serde(default)]
        agent: BTreeMap<String, Agent>,
    }
    let line = |at: usize| {
        1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
    };
    let table: Table = toml::from_str(text).map_err(|error| {
        let problem = error.message().trim().replace('\n', ", ");
        (line(error.span().map_or(0, |span| span.start)), problem)
    })?;
    for (name, agent) in &table.agent {
        for state in &agent.state {
            if let Some(problem) = state.as_ref().problem() {
                return Err((line(state.span().start), format!("`{name}`: {problem}")));
            }
        }
    }
    Ok(table.agent)
}

impl State {
    fn problem(&self) -> Option<String> {
        if self.dir.is_empty() {
            return Some("`dir` names no directory".to_owned());
        }
        for dir in &self.dir {
            let starts = match variable_of(dir) {
                Some(name) => is_variable(name),
                None => dir.starts_with("~/") || dir.starts_with('/'),
            };
            if !starts {
                return Some(format!("the directory `{dir}` does not begin with ~/, / or $NAME"));
            }
            if Path::new(dir).components().any(|part| part == Component::ParentDir) {
                return Some(format!("the directory `{dir}` has `..` in it"));
            }
        }
        let patterns = self.exclude.iter().chain(&self.secret);
        patterns
            .filter_map(|pattern| check_pattern(pattern).err())
            .map(|error| error.to_string())
            .next()
    }
}

fn is_variable(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_part) && !name.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a command starts, by the embedded table.
    fn recognised(line: &str) -> Option<String> {
        let words: Vec<&OsStr> = line.split(' ').map(OsStr::new).collect();
        Profiles::embedded().recognise(words[0], &words).map(str::to_owned)
    }

    fn dirs(agent: &str, env: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        let dirs = Profiles::embedded().state_dirs(agent, variable);
        dirs.iter().map(|dir| dir.path.to_str().unwrap().to_owned()).collect()
    }

    /// A user's file with this text.
    fn own(text: &str) -> (Profiles, Option<ProfileError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profiles.toml");
        std::fs::write(&path, text).unwrap();
        Profiles::load(&path)
    }

    #[test]
    fn profiles_recognise_each_agent_in_all_ways_of_starting_it() {
        for (agent, ways) in [
            (
                "claude-code",
                &[
                    "claude",
                    "/home/u/.local/bin/claude -p hello",
                    "./claude.exe",
                    "node /usr/lib/node_modules/@anthropic-ai/claude-code/cli.js -p x",
                    "/usr/bin/node --max-old-space-size=4096 --no-warnings /usr/bin/claude",
                    "npx @anthropic-ai/claude-code",
                    "npx -y @anthropic-ai/claude-code@latest -p x",
                    "npx --package @anthropic-ai/claude-code claude",
                    "npm exec -- @anthropic-ai/claude-code",
                    "pnpm dlx @anthropic-ai/claude-code",
                    "bunx @anthropic-ai/claude-code",
                    "bun x @anthropic-ai/claude-code",
                    "bun run /opt/claude.js",
                    "/bin/sh /home/u/bin/claude --continue",
                ][..],
            ),
            (
                "codex",
                &[
                    "codex exec x",
                    "node /opt/node_modules/.bin/codex exec x",
                    "node /usr/lib/node_modules/@openai/codex/bin/codex.js",
                    "npx @openai/codex@0.169.0 exec x",
                    "bunx --bun @openai/codex",
                    "yarn dlx @openai/codex",
                ],
            ),
            (
                "gemini-cli",
                &[
                    "gemini -p x",
                    "node /usr/bin/gemini",
                    "node --require ./x.js /n/node_modules/@google/gemini-cli/bundle/gemini.js",
                    "npx @google/gemini-cli",
                    "deno run -A npm:@google/gemini-cli",
                ],
            ),
            (
                "opencode",
                &[
                    "opencode run x",
                    "npx opencode-ai run x",
                    "bunx opencode-ai@latest",
                    "node /n/bin/opencode",
                ],
            ),
            (
                "pi",
                &[
                    "pi -p x",
                    "node /usr/lib/node_modules/@mariozechner/pi-coding-agent/dist/cli.js",
                    "npx @mariozechner/pi-coding-agent",
                ],
            ),
            (
                "aider",
                &[
                    "aider --message x",
                    "python -m aider",
                    "python3.12 -X dev -m aider.main --yes",
                    "/v/bin/python3 /v/bin/aider",
                    "uvx aider-chat",
                    "uvx --python 3.12 --from aider-chat aider",
                    "uv tool run aider-chat@0.86.2",
                    "uv run aider",
                    "pipx run aider-chat",
                ],
            ),
        ] {
            for way in ways {
                assert_eq!(recognised(way).as_deref(), Some(agent), "{way}");
            }
        }
        for other in [
            "vim claude",
            "cat codex",
            "git commit -m claude",
            "sh -c claude",
            "python -c aider",
            "python app.py aider",
            "node server.js codex",
            "node -e codex",
            "npx create-app claude",
            "pip install aider-chat",
            "npm install @openai/codex",
            "uv pip install aider-chat",
            "claudette",
            "python",
            "npx",
        ] {
            assert_eq!(recognised(other), None, "{other}");
        }
        // A script that the kernel gave to an interpreter, told with the arguments that it was called with.
        let path = OsStr::new("/opt/codex");
        assert_eq!(Profiles::embedded().recognise(path, &[OsStr::new("x")]), Some("codex"));
    }

    #[test]
    fn profiles_name_the_state_directories_that_the_environment_says() {
        let home = ("HOME", "/h");
        assert_eq!(dirs("claude-code", &[home]), ["/h/.claude", "/h/.config/claude"]);
        assert_eq!(dirs("claude-code", &[home, ("CLAUDE_CONFIG_DIR", "/c/")])[0], "/c");
        assert_eq!(dirs("codex", &[home]), ["/h/.codex"]);
        assert_eq!(dirs("codex", &[home, ("CODEX_HOME", "/x//y")]), ["/x/y"]);
        assert_eq!(dirs("codex", &[home, ("CODEX_HOME", "")]), ["/h/.codex"]);
        assert_eq!(dirs("gemini-cli", &[home]), ["/h/.gemini"]);
        assert_eq!(dirs("gemini-cli", &[home, ("GEMINI_CLI_HOME", "/g")]), ["/g/.gemini"]);
        let opencode =
            ["/h/.local/share/opencode", "/h/.local/state/opencode", "/h/.config/opencode"];
        assert_eq!(dirs("opencode", &[home]), opencode);
        let xdg = [home, ("XDG_DATA_HOME", "/d"), ("XDG_CONFIG_HOME", "/c")];
        assert_eq!(
            dirs("opencode", &xdg),
            ["/d/opencode", "/h/.local/state/opencode", "/c/opencode"]
        );
        assert_eq!(dirs("pi", &[home]), ["/h/.pi/agent"]);
        let pi = [home, ("PI_CODING_AGENT_DIR", "/p"), ("PI_CODING_AGENT_SESSION_DIR", "/s")];
        assert_eq!(dirs("pi", &pi), ["/p", "/s"]);
        assert_eq!(dirs("aider", &[home]), ["/h/.aider"]);
        // Nobody knows relative to what.
        assert_eq!(dirs("codex", &[("CODEX_HOME", "x")]), Vec::<String>::new());
        let variables = Profiles::embedded();
        let variables = variables.variables();
        assert!(variables.contains("HOME") && variables.contains("CODEX_HOME"), "{variables:?}");
    }

    #[test]
    fn profiles_know_the_credentials_of_each_agent() {
        for (agent, names) in [
            (
                "claude-code",
                &[
                    ".credentials.json",
                    ".claude.json",
                    "history.jsonl",
                    "backups/.claude.json.backup.1",
                ][..],
            ),
            ("codex", &["auth.json", ".credentials.json", "gateway_oauth.json"]),
            (
                "gemini-cli",
                &["oauth_creds.json", "mcp-oauth-tokens.json", "gemini-credentials.json"],
            ),
            ("opencode", &["auth.json", "mcp-auth.json", "opencode.db", "opencode.db-wal"]),
            ("pi", &["auth.json", "models.json"]),
            ("aider", &["oauth-keys.env"]),
        ] {
            let profiles = Profiles::embedded();
            let dirs = profiles.state_dirs(agent, |name| (name == "HOME").then(|| "/h".into()));
            let mut secrets = SecretPlaces::default();
            dirs[0].add_secrets(Path::new("/elsewhere"), &mut secrets);
            for name in names {
                assert!(secrets.has(&Path::new("/elsewhere").join(name)), "{agent}: {name}");
                assert!(!secrets.has(&Path::new("/other").join(name)), "{agent}: {name}");
            }
            for name in ["sessions/auth.json", "settings.json", "config.toml", "sessions/x.jsonl"] {
                assert!(!secrets.has(&Path::new("/elsewhere").join(name)), "{agent}: {name}");
            }
        }
    }

    #[test]
    fn profiles_of_the_user_go_before_the_embedded_ones() {
        let (profiles, error) = own(
            "[agent.mine]\nprograms = ['my-agent']\n[[agent.mine.state]]\ndir = ['$MINE/x', '~/.mine']\n\
             exclude = ['/cache/']\n[agent.codex]\nprograms = ['codex-fork']\n",
        );
        assert_eq!(error, None);
        let mine = profiles.recognise("my-agent".as_ref(), &["my-agent".as_ref()]).unwrap();
        let dirs = profiles.state_dirs(mine, |name| (name == "HOME").then(|| "/h".into()));
        assert_eq!(
            (dirs[0].path.as_path(), &*dirs[0].excludes[0]),
            (Path::new("/h/.mine"), "/cache/")
        );
        assert!(profiles.variables().contains("MINE"));
        // Replaced as a whole.
        assert_eq!(profiles.recognise("codex".as_ref(), &["codex".as_ref()]), None);
        assert_eq!(
            profiles.recognise("codex-fork".as_ref(), &["codex-fork".as_ref()]),
            Some("codex")
        );
        assert_eq!(profiles.state_dirs("codex", |_| Some("/h".into())), []);
        assert!(profiles.agents().any(|agent| agent == "aider"));
        let nothing = Profiles::load(Path::new("/nonexistent/profiles.toml"));
        assert_eq!(nothing, (Profiles::embedded(), None));
    }

    #[test]
    fn profiles_that_are_wrong_are_told_with_their_line_and_leave_the_embedded_ones() {
        for (text, at, said) in [
            ("[agent.a]\nprogram = ['a']\n", 2, "unknown field `program`"),
            ("\n[agent.a\n", 2, ""),
            ("[agent.a]\nprograms = 'a'\n", 2, "invalid type"),
            ("[agent.a]\n\n[[agent.a.state]]\nexclude = ['x']\n", 3, "missing field `dir`"),
            ("[[agent.a.state]]\ndir = []\n", 1, "`a`: `dir` names no directory"),
            ("[[agent.a.state]]\ndir = ['x/y']\n", 1, "`x/y` does not begin with"),
            ("[[agent.a.state]]\ndir = ['$/y']\n", 1, "`$/y` does not begin with"),
            ("[[agent.a.state]]\ndir = ['~/../y']\n", 1, "has `..` in it"),
            ("[[agent.a.state]]\ndir = ['~/y']\nexclude = ['a{b']\n", 1, "a{b"),
            ("[agents.a]\n", 1, "unknown field `agents`"),
        ] {
            let (profiles, error) = own(text);
            assert_eq!(profiles, Profiles::embedded(), "{text}");
            let Some(ProfileError::Wrong { line, problem, .. }) = error else {
                panic!("{text}: {error:?}")
            };
            assert_eq!(line, at, "{text}: {problem}");
            assert!(problem.contains(said), "{text}: {problem}");
        }
        let dir = tempfile::tempdir().unwrap();
        let (profiles, error) = Profiles::load(dir.path());
        assert_eq!(profiles, Profiles::embedded());
        let said = error.unwrap().to_string();
        assert!(said.contains(dir.path().to_str().unwrap()), "{said}");
    }
}
