//! What processes did, as a recording and a reference both can tell it: comparable from run to run.
//!
//! A process is named by where it stands in the tree of forks and by what it executed, since ids differ from run
//! to run, and so does the order in which parallel children start.

use std::collections::{BTreeMap, BTreeSet};

use super::names::stable;

/// A process of one run.
pub type Index = usize;

/// The processes of one run.
#[derive(Debug, Default)]
pub struct Tree {
    processes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    parent: Option<Index>,
    /// Arguments of its first exec.
    argv: Option<String>,
}

impl Tree {
    /// A process that `parent` started, or the command's own.
    pub fn started(&mut self, parent: Option<Index>) -> Index {
        self.processes.push(Process { parent, argv: None });
        self.processes.len() - 1
    }

    /// It executes a program.
    pub fn executed(&mut self, process: Index, argv: String) {
        self.processes[process].argv.get_or_insert(argv);
    }

    /// Of each process: its parent's name, its first arguments, and its number among siblings of the same name.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut siblings: BTreeMap<String, usize> = BTreeMap::new();
        for process in &self.processes {
            let label = process.argv.as_deref().map_or("fork".into(), stable);
            let name = match process.parent {
                Some(parent) => format!("{} > {label}", names[parent]),
                None => label,
            };
            let number = siblings.entry(name.clone()).or_default();
            *number += 1;
            names.push(if *number > 1 { format!("{name} #{number}") } else { name });
        }
        names
    }
}

/// What the processes of one run did.
#[derive(Debug, Default)]
pub struct Deeds {
    tree: Tree,
    list: Vec<(Index, Deed)>,
    /// Bytes read and written, by process and path.
    moved: BTreeMap<(Index, String), (u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deed {
    operation: String,
    path: String,
    result: String,
}

/// How often each process did what: operation, path and result.
pub type Summary = BTreeMap<(String, String), usize>;

impl Deeds {
    /// A process that `parent` started, or the command's own.
    pub fn process(&mut self, parent: Option<Index>) -> Index {
        self.tree.started(parent)
    }

    /// `path` is nothing where there is none; `errno` is a name.
    pub fn add(&mut self, process: Index, operation: String, path: String, errno: Option<String>) {
        let result = errno.unwrap_or_else(|| "ok".into());
        self.list.push((process, Deed { operation, path, result }));
    }

    pub fn exec(&mut self, process: Index, path: String, argv: &[String], errno: Option<String>) {
        let argv = argv.join(" ");
        if errno.is_none() {
            self.tree.executed(process, argv.clone());
        }
        self.add(process, format!("exec [{argv}]"), path, errno);
    }

    pub fn moved(&mut self, process: Index, path: String, read: u64, written: u64) {
        // git writes the number of a process there, with as many digits as it has.
        let counted = !path.ends_with(".keep");
        if counted && (read > 0 || written > 0) {
            let sums = self.moved.entry((process, path)).or_default();
            sums.0 += read;
            sums.1 += written;
        }
    }

    /// Everything in a form that two runs of the same program have in common.
    pub fn summary(&self) -> Summary {
        let names = self.tree.names();
        let mut summary = Summary::new();
        let mut count = |process: Index, what: String| {
            *summary.entry((names[process].clone(), stable(&what))).or_default() += 1;
        };
        for process in 0..names.len() {
            count(process, "start".into());
        }
        for (process, Deed { operation, path, result }) in &self.list {
            count(*process, format!("{operation} {path} = {result}"));
        }
        for ((process, path), (read, written)) in &self.moved {
            count(*process, format!("moved r{read} w{written} {path}"));
        }
        summary
    }
}

/// What is in one summary and not, or not as often, in the other. Empty where they are equal.
pub fn differences(reference: &Summary, recorded: &Summary) -> String {
    let mut shown = String::new();
    let mut last = None;
    let all: BTreeSet<_> = reference.keys().chain(recorded.keys()).collect();
    for deed in all {
        let times = |summary: &Summary| summary.get(deed).copied().unwrap_or(0);
        let (expected, found) = (times(reference), times(recorded));
        if expected == found {
            continue;
        }
        let (process, what) = deed;
        if last.replace(process) != Some(process) {
            shown.push_str(&format!("{process}\n"));
        }
        shown.push_str(&format!("    recorded {found}, reference {expected}: {what}\n"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_parallel_children_does_not_matter() {
        let run = |order: [&str; 2]| {
            let mut deeds = Deeds::default();
            let root = deeds.process(None);
            for name in order {
                let child = deeds.process(Some(root));
                deeds.exec(child, "/bin/x".into(), &["x".into(), name.into()], None);
                deeds.moved(child, format!("/{name}"), 1, 0);
            }
            deeds.summary()
        };
        assert_eq!(run(["a", "b"]), run(["b", "a"]));
        assert_eq!(differences(&run(["a", "b"]), &run(["b", "a"])), "");
        // Of b and of c: that it is there, its exec, and its sums.
        let lines = differences(&run(["a", "b"]), &run(["a", "c"]));
        assert_eq!(lines.matches("recorded").count(), 6, "{lines}");
    }

    #[test]
    fn both_directions_and_numbers_count() {
        let summary = |deeds: &[(&str, usize)]| -> Summary {
            deeds.iter().map(|&(what, times)| (("p".into(), what.into()), times)).collect()
        };
        let expected = "p\n    recorded 0, reference 1: a\n    recorded 1, reference 2: b\n    \
                        recorded 1, reference 0: c\n";
        let found = differences(&summary(&[("a", 1), ("b", 2)]), &summary(&[("b", 1), ("c", 1)]));
        assert_eq!(found, expected);
    }
}
