//! What a command line starts, behind interpreters and behind programs that fetch and run packages.

use std::ffi::OsStr;
use std::path::Path;

/// What is started, by what can be told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called<'a> {
    /// A program's or a script's name, without directories and ending.
    Program(&'a str),
    /// The path of a script.
    Script(&'a str),
    /// A package, without its version.
    Package(&'a str),
    /// A module of Python.
    Module(&'a str),
}

/// Programs that run a script which their arguments name.
const INTERPRETERS: [&str; 11] =
    ["node", "nodejs", "bun", "deno", "tsx", "ts-node", "sh", "bash", "dash", "zsh", "uv"];

/// Programs that run a package which their arguments name, and the words before the package.
const RUNNERS: [(&str, &[&str]); 11] = [
    ("npx", &[]),
    ("npm", &["exec"]),
    ("npm", &["x"]),
    ("pnpx", &[]),
    ("pnpm", &["dlx"]),
    ("yarn", &["dlx"]),
    ("bunx", &[]),
    ("bun", &["x"]),
    ("uvx", &[]),
    ("uv", &["tool", "run"]),
    ("pipx", &["run"]),
];

/// The word by which some interpreters are told to run a script.
const RUN: &str = "run";

/// Options of interpreters whose value is the next word.
const WITH_VALUE: [&str; 9] =
    ["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "-X", "-W", "-o"];

/// Options by which interpreters take their program from the command line.
const INLINE: [&str; 5] = ["-c", "-e", "--eval", "-p", "--print"];

/// Options of package runners that name the package.
const NAMES_PACKAGE: [&str; 4] = ["--package", "-p", "--from", "--spec"];

/// Their other options whose value is the next word.
const RUNNER_VALUE: [&str; 5] = ["--python", "--with", "--index", "--registry", "--cache"];

/// Endings that do not count.
const ENDINGS: [&str; 7] = [".js", ".cjs", ".mjs", ".ts", ".py", ".sh", ".exe"];

/// All that the command may be said to start; none where that is not known. What is not UTF-8 names no agent.
pub(super) fn called<'a>(path: &'a OsStr, argv: &[&'a OsStr]) -> Vec<Called<'a>> {
    let mut words = argv.iter().map_while(|word| word.to_str());
    let name = words.next().map(name);
    let words: Vec<&str> = words.collect();
    let mut called: Vec<_> = path.to_str().map(self::name).into_iter().chain(name).collect();
    called.dedup();
    let mut found: Vec<_> = called.iter().map(|name| Called::Program(name)).collect();
    for program in called {
        if let Some(rest) = package_arguments(program, &words) {
            found.extend(packages(rest));
        } else if INTERPRETERS.contains(&program) || is_python(program) {
            found.extend(scripts(program, &words));
        }
    }
    found
}

/// The last name of a path, without the ending.
fn name(path: &str) -> &str {
    let name = Path::new(path).file_name().and_then(OsStr::to_str).unwrap_or_default();
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// `python`, `python3`, `python3.12`, `pypy3`.
fn is_python(program: &str) -> bool {
    let version = program.strip_prefix("python").or_else(|| program.strip_prefix("pypy"));
    version.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

/// The arguments behind the words by which a program is told to run a package.
fn package_arguments<'w, 'a>(program: &str, words: &'w [&'a str]) -> Option<&'w [&'a str]> {
    RUNNERS
        .iter()
        .filter(|(runner, _)| *runner == program)
        .find_map(|(_, before)| words.starts_with(before).then(|| &words[before.len()..]))
}

/// The packages that may be meant: what an option names, and the first word that is no option.
fn packages<'a>(words: &[&'a str]) -> Vec<Called<'a>> {
    let mut found = Vec::new();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        if NAMES_PACKAGE.contains(&word) {
            found.extend(words.next().map(package));
        } else if let Some((option, value)) = word.split_once('=').filter(|_| word.starts_with('-'))
        {
            found.extend(NAMES_PACKAGE.contains(&option).then(|| package(value)));
        } else if RUNNER_VALUE.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            found.push(package(word));
            break;
        }
    }
    found
}

/// A package without its version: `aider-chat==0.86`, `@openai/codex@latest`, `npm:@google/gemini-cli`.
fn package(word: &str) -> Called<'_> {
    let word = word.strip_prefix("npm:").unwrap_or(word);
    let end = word.find("==").or_else(|| word.rfind('@').filter(|at| *at > 0));
    Called::Package(&word[..end.unwrap_or(word.len())])
}

/// The script or module that an interpreter is given.
fn scripts<'a>(program: &str, words: &[&'a str]) -> Vec<Called<'a>> {
    let runs = words.first() == Some(&RUN);
    // It has other uses, in which words name packages that are not run.
    if program == "uv" && !runs {
        return Vec::new();
    }
    let mut words = words.iter().copied().skip(usize::from(runs));
    while let Some(word) = words.next() {
        if word == "-m" && is_python(program) {
            return words.next().map(Called::Module).into_iter().collect();
        }
        if INLINE.contains(&word) {
            return Vec::new();
        }
        if WITH_VALUE.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            let found = [Called::Program(name(word)), Called::Script(word)];
            return found
                .into_iter()
                .chain(word.starts_with("npm:").then(|| package(word)))
                .collect();
        }
    }
    Vec::new()
}
