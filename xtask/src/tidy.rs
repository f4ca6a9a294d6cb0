//! `cargo xtask tidy`: what compilers don't check. Documents and code must not drift apart, files stay short.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{ebpf, workspace};

/// A file well over 500 lines usually holds two subjects. Unit tests at its end don't count.
const MAX_LINES: usize = 550;

/// Where `unsafe` may stand, beside tests.
const UNSAFE_PLACES: [&str; 6] = [
    "recorder/src/ptrace/",
    "recorder/src/ebpf/",
    "recorder/src/proc/",
    "recorder/src/front/",
    "recorder-ebpf/",
    "launch/",
];

/// Marks of unfinished work, in pieces so that this file holds none.
const MARKS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
];

/// Checks everything; whether all is well.
pub fn run() -> Result<bool> {
    let root = workspace::root();
    let mut complaints = Vec::new();
    for path in source_files(root)? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        check_source(&name, &text, &mut complaints);
    }
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))
    };
    check_crates(&read("Cargo.toml")?, &read("docs/architecture.md")?, &mut complaints);
    check_commands(&read("README.md")?, &commands(root)?, &mut complaints);
    for complaint in &complaints {
        eprintln!("tidy: {complaint}");
    }
    Ok(ebpf::is_current()? && complaints.is_empty())
}

fn check_source(name: &str, text: &str, complaints: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        if let Some(mark) = MARKS.iter().find(|mark| line.contains(**mark)) {
            complaints.push(format!("{name}:{}: {mark}", number + 1));
        }
    }
    if !name.ends_with(".rs") {
        return;
    }
    if !text.starts_with("//!") {
        complaints.push(format!("{name}: does not open with a sentence (//!) on what it is for"));
    }
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = code.lines().count();
    if lines > MAX_LINES {
        complaints.push(format!("{name}: {lines} lines, more than {MAX_LINES}"));
    }
    let is_test = name.starts_with("tests/") || name.contains("/tests/");
    let allowed = is_test || UNSAFE_PLACES.iter().any(|place| name.starts_with(place));
    let is_unsafe = |line: &&str| {
        let code = line.split("//").next().unwrap_or_default();
        code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
    };
    if !allowed && name != "xtask/src/tidy.rs" && code.lines().any(|line| is_unsafe(&line)) {
        complaints.push(format!("{name}: unsafe code belongs to {}", UNSAFE_PLACES.join(", ")));
    }
}

/// Every crate stands in the table of docs/architecture.md with its folder, and every row is a crate.
fn check_crates(manifest: &str, architecture: &str, complaints: &mut Vec<String>) {
    let members = manifest
        .lines()
        .find_map(|line| line.strip_prefix("members = ["))
        .unwrap_or_default()
        .trim_end_matches(']');
    let mut members: BTreeSet<_> =
        members.split(',').map(|m| m.trim().trim_matches('"').to_owned()).collect();
    members.insert("src".to_owned());
    let rows: BTreeSet<_> = architecture
        .lines()
        .skip_while(|line| !line.starts_with("| crate | folder |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(2))
        .map(|folder| folder.trim().trim_matches('`').trim_end_matches('/').to_owned())
        .collect();
    for missing in members.difference(&rows) {
        complaints.push(format!("docs/architecture.md: no row for the crate in {missing}/"));
    }
    for surplus in rows.difference(&members) {
        complaints.push(format!("docs/architecture.md: there is no crate in {surplus}/"));
    }
}

/// Every `agentrec NAME` that the README shows is a command.
fn check_commands(readme: &str, commands: &BTreeSet<String>, complaints: &mut Vec<String>) {
    let mut in_code = false;
    for (number, line) in readme.lines().enumerate() {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        for shown in shown_commands(line, in_code) {
            if !commands.contains(shown) {
                complaints.push(format!(
                    "README.md:{}: there is no command `agentrec {shown}`",
                    number + 1
                ));
            }
        }
    }
}

/// The words that follow `agentrec ` where that is a command line: after `$`, `|`, `&&` or a backtick, and, in code, at
/// the start of a line.
fn shown_commands(line: &str, in_code: bool) -> impl Iterator<Item = &str> {
    line.match_indices("agentrec ").filter_map(move |(at, found)| {
        let before = line[..at].trim_end_matches('/');
        let before = before.strip_suffix("target/release").unwrap_or(before).trim_end();
        let begins = (in_code && before.is_empty())
            || ["$", "|", "&&", "`", ";"].iter().any(|end| before.ends_with(end));
        let rest = &line[at + found.len()..];
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
        let word = &rest[..end];
        (begins && !word.is_empty() && !word.starts_with('-')).then_some(word)
    })
}

/// One file per command.
fn commands(root: &Path) -> Result<BTreeSet<String>> {
    let dir = root.join("src/commands");
    let mut names = BTreeSet::from(["help".to_owned()]);
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
            names.insert(stem.replace('_', "-"));
        }
    }
    names.remove("mod");
    Ok(names)
}

/// All Rust and Python files of the checkout.
fn source_files(root: &Path) -> Result<Vec<PathBuf>> {
    const SKIPPED: [&str; 6] = ["target", ".git", "node_modules", ".venv", "golden", "__pycache__"];
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !path.is_symlink() {
                if !SKIPPED.contains(&&*name) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") || name.ends_with(".py") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_the_readme_are_found() {
        let found = |line: &'static str| shown_commands(line, true).collect::<Vec<_>>();
        assert_eq!(found("$ agentrec run -- make | agentrec show"), ["run", "show"]);
        assert_eq!(found("or `agentrec resume`"), ["resume"]);
        assert_eq!(found("what agentrec does"), [""; 0]);
        assert_eq!(found("agentrec --version"), [""; 0]);
        assert_eq!(found("agentrec show"), ["show"]);
        assert_eq!(shown_commands("agentrec is a recorder", false).count(), 0);
    }

    #[test]
    fn sources_are_held_to_the_rules() {
        let mut complaints = Vec::new();
        let marked = format!("//! Fine.\n// {} later\nfn f() {{ unsafe {{ g() }} }}\n", MARKS[0]);
        check_source("src/a.rs", &marked, &mut complaints);
        check_source("launch/src/b.rs", "//! Fine.\nfn f() { unsafe { g() } }\n", &mut complaints);
        check_source("src/c.rs", "fn f() {}\n", &mut complaints);
        check_source("src/d.rs", &format!("//! Fine.\n{}", "\n".repeat(600)), &mut complaints);
        let files: Vec<_> =
            complaints.iter().map(|c| c.split(':').next().unwrap_or_default()).collect();
        assert_eq!(files, ["src/a.rs", "src/a.rs", "src/c.rs", "src/d.rs"]);
    }

    #[test]
    fn crates_and_their_table_agree() {
        let mut complaints = Vec::new();
        let table = "| crate | folder |\n|---|---|\n| `a` | `src/` |\n| `b` | `b/` |\n| `c` | `c/` |\n\n| `x` |";
        check_crates("members = [\"b\", \"d\"]", table, &mut complaints);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
    }
}
