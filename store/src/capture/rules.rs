//! Which paths are left out, and which directories hold what tools can make again.
//!
//! Left out is what `--exclude` or an `.agentrecignore` names. Ignored, and so kept out of traces, are directories that
//! git ignores and those that tools mark as their own: `node_modules`, virtual environments, tagged caches.
//!
//! Rules are matched against paths as the agent sees them, so that a copy of a directory is read like the original.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::dir;
use crate::error::{Error, Result};

/// The file in which a user says what is not to be read.
const IGNORE_FILE: &str = ".agentrecignore";

/// Longer ignore files are cut here, bytes.
const MAX_IGNORE_FILE: u64 = 1 << 20;

/// What a cache directory's tag file begins with (the Cache Directory Tagging Specification).
const CACHEDIR_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Names whose presence decides about what lies below their directory.
pub(super) const RULES_BELOW: [&str; 3] = [".git", ".gitignore", IGNORE_FILE];

/// Names whose presence or content decides what holds in their directory.
pub(super) const RULE_FILES: [&str; 5] =
    [".git", ".gitignore", IGNORE_FILE, "pyvenv.cfg", "CACHEDIR.TAG"];

/// The rules that hold at the current directory of a walk.
pub(super) struct Rules {
    /// The root as the agent sees it.
    root: PathBuf,
    excludes: RuleList,
    agentrec: Vec<Arc<RuleList>>,
    git: Vec<Arc<RuleList>>,
    /// How many rules of each list held before each directory on the way was entered.
    frames: Vec<Frame>,
    /// By what it is decided, as far as it stands outside of the root.
    context: blake3::Hasher,
    /// What was found in directories that have rules, by their absolute paths: to compile them takes time.
    known: BTreeMap<PathBuf, Found>,
}

/// The rules of one file.
struct RuleList {
    rules: Gitignore,
    /// Patterns that name a place, and not only a name that may stand anywhere below.
    places: Vec<String>,
}

/// The rules in one directory.
#[derive(Clone, Default)]
struct Found {
    exclude: Option<Arc<RuleList>>,
    git: Option<Arc<RuleList>>,
    agentrec: Option<Arc<RuleList>>,
}

impl RuleList {
    fn new<'l>(rules: Gitignore, lines: impl Iterator<Item = &'l str>) -> Self {
        let place = |line: &'l str| {
            let pattern = line.trim_start_matches('!').trim_end_matches(' ').trim_end_matches('/');
            let is_name = !pattern.strip_prefix("**/").unwrap_or(pattern).contains('/');
            (!is_name && !pattern.starts_with('#'))
                .then(|| pattern.trim_start_matches('/').to_owned())
        };
        Self { rules, places: lines.filter_map(place).collect() }
    }

    /// Whether what they say of something in a directory may depend on the directory's path (absolute).
    fn may_depend_on(&self, dir: &Path) -> bool {
        let Ok(dir) = dir.strip_prefix(self.rules.path()) else { return true };
        self.places.iter().any(|pattern| {
            let mut both = pattern.split('/').take_while(|part| *part != "**").zip(dir);
            let wild = |part: &str| part.contains(['*', '?', '[', '\\']);
            both.all(|(part, name)| wild(part) || name == part)
        })
    }
}

struct Frame {
    agentrec: usize,
    /// The lists of the repository around a nested one: its rules don't reach inside.
    outer_git: Option<Vec<Arc<RuleList>>>,
    git: usize,
    in_repository: bool,
}

impl Rules {
    /// The rules that hold at `root` (as the agent sees it): `--exclude` patterns, and those of a git repository around it.
    pub(super) fn new(root: &Path, excludes: &[String]) -> Result<Self> {
        let mut builder = GitignoreBuilder::new(root);
        for pattern in excludes {
            builder.add_line(None, pattern).map_err(|error| pattern_error(pattern, &error))?;
        }
        let compiled = builder.build().map_err(|error| pattern_error("--exclude", &error))?;
        let mut context = blake3::Hasher::new();
        let mut note = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        note(root.as_os_str().as_bytes());
        note(&(excludes.len() as u64).to_le_bytes());
        excludes.iter().for_each(|pattern| note(pattern.as_bytes()));
        let mut rules = Self {
            root: root.to_owned(),
            excludes: RuleList::new(compiled, excludes.iter().map(String::as_str)),
            agentrec: Vec::new(),
            git: Vec::new(),
            frames: Vec::new(),
            context: blake3::Hasher::new(),
            known: BTreeMap::new(),
        };
        let repository = root.ancestors().skip(1).find(|dir| dir.join(".git").exists());
        if let Some(repository) = repository {
            note(repository.as_os_str().as_bytes());
            let mut read = |path: &Path, dir: &Path| {
                let bytes = read_rules(File::open(path).ok());
                note(bytes.as_deref().unwrap_or_default());
                rules.git.extend(compile(bytes, dir));
            };
            read(&repository.join(".git/info/exclude"), repository);
            let between: Vec<_> =
                root.ancestors().skip(1).take_while(|dir| dir.starts_with(repository)).collect();
            for dir in between.into_iter().rev() {
                read(&dir.join(".gitignore"), dir);
            }
        }
        rules.context = context;
        let in_repository = repository.is_some();
        rules.frames.push(Frame { agentrec: 0, outer_git: None, git: 0, in_repository });
        Ok(rules)
    }

    /// A hash of all that decides about paths and stands outside of the root.
    pub(super) fn context(&self) -> blake3::Hasher {
        self.context.clone()
    }

    /// Takes up the rules of a directory on the way down. `path` is absolute, as the agent sees it; `has` tells what
    /// names are there.
    pub(super) fn enter(&mut self, dir: &File, path: &Path, has: impl Fn(&str) -> bool) {
        let outer = self.frames.last().is_some_and(|frame| frame.in_repository);
        let mut frame = Frame {
            agentrec: self.agentrec.len(),
            outer_git: None,
            git: self.git.len(),
            in_repository: outer,
        };
        let is_repository = has(".git");
        if is_repository {
            frame.outer_git = Some(std::mem::take(&mut self.git));
            frame.git = 0;
            frame.in_repository = true;
        }
        if is_repository || has(".gitignore") || has(IGNORE_FILE) {
            if !self.known.contains_key(path) {
                self.known.insert(path.to_owned(), find(dir, path, has));
            }
            let found = &self.known[path];
            self.git.extend(found.exclude.iter().cloned());
            self.git.extend(found.git.iter().filter(|_| frame.in_repository).cloned());
            self.agentrec.extend(found.agentrec.iter().cloned());
        }
        self.frames.push(frame);
    }

    /// Forgets what was found in a directory, relative to the root, and below.
    pub(super) fn forget_below(&mut self, path: &Path) {
        let path = self.root.join(path);
        let below = self.known.range(path.clone()..).take_while(|(key, _)| key.starts_with(&path));
        let gone: Vec<_> = below.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|path| drop(self.known.remove(path)));
    }

    /// Drops the rules of the directory that was entered last.
    pub(super) fn leave(&mut self) {
        let frame = self.frames.pop().expect("a directory is left once, after it was entered");
        self.agentrec.truncate(frame.agentrec);
        self.git.truncate(frame.git);
        if let Some(outer) = frame.outer_git {
            self.git = outer;
        }
    }

    /// Whether the user wants `path` (absolute) left out.
    pub(super) fn excludes(&self, path: &Path, is_dir: bool) -> bool {
        match self.excludes.rules.matched(path, is_dir) {
            Match::None => last_match(&self.agentrec, path, is_dir),
            Match::Ignore(_) => true,
            Match::Whitelist(_) => false,
        }
    }

    /// Whether the rules that hold here say the same of what is in a directory by each of two names, of which the first
    /// `common` components are the same, and hold in all the directories up to there. Both are relative to the root.
    pub(super) fn same_for(&self, names: [&Path; 2], common: usize) -> bool {
        let [from, to] = names.map(|name| self.root.join(name));
        let above =
            names[1].components().take(common).fold(self.root.clone(), |above, it| above.join(it));
        // The first frame is that of what is around the root, the second the root's own.
        let mut further = self.frames.iter().skip(common + 2);
        let lists = self.agentrec.iter().chain(&self.git).map(AsRef::as_ref);
        further.all(|frame| frame.outer_git.is_none())
            && lists.chain([&self.excludes]).all(|list| {
                above.starts_with(list.rules.path())
                    && !list.may_depend_on(&from)
                    && !list.may_depend_on(&to)
            })
    }

    /// Whether git ignores the directory at `path` (absolute).
    pub(super) fn git_ignores_dir(&self, path: &Path) -> bool {
        last_match(&self.git, path, true)
    }
}

/// Whether a directory with these entries is one that tools make again.
pub(super) fn is_derived(dir: &File, path: &Path, names: &[OsString]) -> bool {
    let has = |name: &str| names.iter().any(|found| found == name);
    let own_name = path.file_name().unwrap_or_default();
    if own_name == "node_modules" || own_name == "__pycache__" || has("pyvenv.cfg") {
        return true;
    }
    has("CACHEDIR.TAG")
        && dir::open(dir, "CACHEDIR.TAG".as_ref(), false).is_ok_and(|file| {
            let mut start = Vec::new();
            let wanted = CACHEDIR_SIGNATURE.len() as u64;
            file.take(wanted).read_to_end(&mut start).is_ok() && start == CACHEDIR_SIGNATURE
        })
}

/// The rules that stand in a directory.
fn find(dir: &File, path: &Path, has: impl Fn(&str) -> bool) -> Found {
    let open = |name: &str| dir::open(dir, name.as_ref(), false).ok();
    let exclude = || {
        dir::open(dir, ".git".as_ref(), true)
            .and_then(|git| dir::open(&git, "info".as_ref(), true))
            .and_then(|info| dir::open(&info, "exclude".as_ref(), false))
            .ok()
    };
    let read = |name: &str| has(name).then(|| compile(read_rules(open(name)), path)).flatten();
    Found {
        exclude: has(".git").then(|| compile(read_rules(exclude()), path)).flatten(),
        git: read(".gitignore"),
        agentrec: read(IGNORE_FILE),
    }
}

/// What the deepest rule that says anything about `path` says.
fn last_match(lists: &[Arc<RuleList>], path: &Path, is_dir: bool) -> bool {
    lists
        .iter()
        .rev()
        .map(|list| list.rules.matched(path, is_dir))
        .find(|matched| !matched.is_none())
        .is_some_and(|matched| matched.is_ignore())
}

/// The rules in `file`.
fn read_rules(file: Option<File>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file?.take(MAX_IGNORE_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Rules that hold below `dir`. As in git, a line that is no pattern is passed over.
fn compile(bytes: Option<Vec<u8>>, dir: &Path) -> Option<Arc<RuleList>> {
    let mut builder = GitignoreBuilder::new(dir);
    let source = PathBuf::from(dir);
    let bytes = bytes?;
    let text = String::from_utf8_lossy(&bytes);
    for line in text.lines() {
        let _ = builder.add_line(Some(source.clone()), line);
    }
    let rules = builder.build().ok().filter(|rules| !rules.is_empty())?;
    Some(Arc::new(RuleList::new(rules, text.lines())))
}

/// Whether this is a pattern as in a `.gitignore`.
///
/// # Errors
/// Where it is none, with the reason.
pub fn check_pattern(pattern: &str) -> Result<()> {
    let mut builder = GitignoreBuilder::new("/");
    builder.add_line(None, pattern).map_err(|error| pattern_error(pattern, &error))?;
    builder.build().map(drop).map_err(|error| pattern_error(pattern, &error))
}

pub(crate) fn pattern_error(pattern: &str, error: &ignore::Error) -> Error {
    Error::Pattern { pattern: pattern.to_owned(), reason: error.to_string() }
}
