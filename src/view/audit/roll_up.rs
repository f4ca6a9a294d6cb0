//! Many files of one directory become a line for the directory, until the list is short.

use std::collections::{BTreeMap, BTreeSet};

use agentrec_trace::{ProcId, Seq};

use crate::audit::{Deeds, Item, Outcome};

use super::table::{Doers, named};

/// A file, or a directory with files.
pub(super) struct Line {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Files; 0 where this is a file itself.
    pub inside: u64,
    /// How often.
    pub times: u64,
    /// The first event.
    pub first: Seq,
    /// What became of it, or of all of them: the worst comes first.
    pub outcomes: BTreeSet<Outcome>,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    procs: BTreeSet<ProcId>,
    who: String,
}

/// A directory with fewer files is not worth hiding their names.
const WORTH: usize = 3;

impl Line {
    pub fn of(path: &[u8], item: &Item<Deeds>) -> Self {
        let first = item.by.iter().min_by_key(|(_, part)| part.first);
        Self {
            path: path.to_vec(),
            inside: 0,
            times: item.times,
            first: item.first,
            outcomes: [item.state.outcome()].into(),
            read: item.state.read,
            written: item.state.written,
            procs: item.by.keys().copied().collect(),
            who: first.map_or(String::new(), |(proc, part)| named(proc.0, part)),
        }
    }

    fn directory(path: &[u8]) -> Self {
        Self {
            path: path.to_vec(),
            inside: 0,
            times: 0,
            first: Seq(u64::MAX),
            outcomes: BTreeSet::new(),
            read: 0,
            written: 0,
            procs: BTreeSet::new(),
            who: String::new(),
        }
    }

    pub fn who(&self) -> Doers {
        Doers { first: self.who.clone(), others: self.procs.len().saturating_sub(1) as u64 }
    }

    fn take(&mut self, other: Self) {
        self.inside += other.inside.max(1);
        self.times += other.times;
        if other.first < self.first || self.procs.is_empty() {
            (self.first, self.who) = (other.first, other.who);
        }
        self.outcomes.extend(other.outcomes);
        self.read = self.read.saturating_add(other.read);
        self.written = self.written.saturating_add(other.written);
        self.procs.extend(other.procs);
    }
}

/// A directory that was made says no more than what is in it. The lines are sorted by path.
pub(super) fn drop_directories(lines: &mut Vec<Line>) {
    let new = |line: &Line| line.outcomes.iter().all(|outcome| *outcome == Outcome::Created);
    let told: Vec<bool> = lines
        .iter()
        .zip(lines.iter().skip(1).map(Some).chain([None]))
        .map(|(line, next)| {
            !(new(line) && next.is_some_and(|next| is_below(&next.path, &line.path)))
        })
        .collect();
    let mut told = told.into_iter();
    lines.retain(|_| told.next().unwrap_or(true));
}

/// At most `limit` lines where directories allow it; `keep` are directories that say nothing, such as a home directory.
pub(super) fn roll_up(lines: Vec<Line>, limit: usize, keep: &[Vec<u8>]) -> Vec<Line> {
    let mut lines = join_processes(lines);
    let mut depth = lines.iter().map(|line| depth_of(&line.path)).max().unwrap_or(0);
    // A line for /tmp or /etc would say nothing.
    while lines.len() > limit && depth > 2 {
        let mut directories: BTreeMap<Vec<u8>, Vec<Line>> = BTreeMap::new();
        let mut others = Vec::new();
        for line in lines {
            let directory = parent(&line.path);
            let folds =
                !line.path.starts_with(b"/proc/") && !keep.iter().any(|kept| kept == directory);
            if depth_of(&line.path) == depth && folds {
                directories.entry(directory.to_vec()).or_default().push(line);
            } else {
                others.push(line);
            }
        }
        let mut made: BTreeMap<Vec<u8>, Line> = BTreeMap::new();
        for (path, inside) in directories {
            if inside.len() < WORTH && !inside.iter().any(|line| line.inside > 0) {
                others.extend(inside);
                continue;
            }
            let mut directory = Line::directory(&path);
            inside.into_iter().for_each(|line| directory.take(line));
            made.insert(path, directory);
        }
        // What stood alone further down goes with the others that are now a line above it.
        others.retain_mut(|line| {
            let above = made.values_mut().find(|directory| is_below(&line.path, &directory.path));
            let Some(directory) = above else { return true };
            directory.take(std::mem::replace(line, Line::directory(b"")));
            false
        });
        others.extend(made.into_values());
        lines = others;
        depth -= 1;
    }
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    lines
}

/// `/proc/4711/environ` of many processes is one line, `/proc/*/environ`.
fn join_processes(lines: Vec<Line>) -> Vec<Line> {
    let mut joined: BTreeMap<Vec<u8>, Vec<Line>> = BTreeMap::new();
    let mut others = Vec::new();
    for line in lines {
        match any_process(&line.path) {
            Some(path) => joined.entry(path).or_default().push(line),
            None => others.push(line),
        }
    }
    for (path, lines) in joined {
        if lines.len() < WORTH {
            others.extend(lines);
            continue;
        }
        let mut all = Line::directory(&path);
        lines.into_iter().for_each(|line| all.take(line));
        others.push(all);
    }
    others
}

fn any_process(path: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(b"/proc/")?;
    let slash = rest.iter().position(|&b| b == b'/')?;
    rest[..slash].iter().all(u8::is_ascii_digit).then(|| [b"/proc/*", &rest[slash..]].concat())
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

fn depth_of(path: &[u8]) -> usize {
    path.split(|&b| b == b'/').filter(|name| !name.is_empty()).count()
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&b| b == b'/').map_or(b"", |slash| &path[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str) -> Line {
        Line {
            path: path.into(),
            inside: 0,
            times: 1,
            first: Seq(1),
            outcomes: BTreeSet::new(),
            read: 1,
            written: 0,
            procs: [ProcId(1)].into(),
            who: "p1 x".into(),
        }
    }

    fn rolled(paths: &[&str], limit: usize) -> Vec<(String, u64)> {
        let lines = paths.iter().map(|path| line(path)).collect();
        let lines = roll_up(lines, limit, &[b"/home/u".to_vec()]);
        let text = |path: Vec<u8>| String::from_utf8(path).expect("text");
        lines.into_iter().map(|line| (text(line.path), line.inside)).collect()
    }

    #[test]
    fn full_directories_become_one_line_from_the_deepest_up() {
        let paths = ["/home/u/c/a/1", "/home/u/c/a/2", "/home/u/c/a/3", "/home/u/c/b", "/home/u/x"];
        assert_eq!(rolled(&paths, 5).len(), 5);
        assert_eq!(
            rolled(&paths, 4),
            [("/home/u/c/a".into(), 3), ("/home/u/c/b".into(), 0), ("/home/u/x".into(), 0)]
        );
        let paths = [&paths[..], &["/home/u/c/d/e/f"]].concat();
        assert_eq!(rolled(&paths, 2), [("/home/u/c".into(), 5), ("/home/u/x".into(), 0)]);
        let of_processes = ["/proc/1/environ", "/proc/2/environ", "/proc/3/environ", "/proc/3/mem"];
        let joined = rolled(&of_processes, 9);
        assert_eq!(joined, [("/proc/*/environ".into(), 3), ("/proc/3/mem".into(), 0)]);
        // No line for the home directory, nor for /tmp.
        assert_eq!(rolled(&paths, 1).len(), 2);
        assert_eq!(rolled(&["/tmp/a", "/tmp/b", "/tmp/c"], 1).len(), 3);
    }
}
