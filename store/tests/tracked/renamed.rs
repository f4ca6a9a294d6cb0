//! Directories that were renamed between two captures.

use std::fs;
use std::path::{Path, PathBuf};

use agentrec_store::{Dirty, NewObject, ObjectRole, Objects, Touch, Tracked};
use proptest::prelude::*;

use super::fixture::Fixture;

#[test]
fn a_renamed_directory_is_not_looked_at_again() {
    let mut fixture = Fixture::new();
    for n in 0..50 {
        fixture.write(&format!("old/e{n}/f{n}"), "content");
    }
    fixture.write("old/linked", "one file");
    fs::hard_link(fixture.root.join("old/linked"), fixture.root.join("other")).unwrap();
    fixture.write("old/.env", "KEY=1");
    fixture.write("old/node_modules/x", "made by tools");
    fixture.write("keep/x", "");
    fixture.until_they_are_older();
    let first = fixture.start();
    // Nobody says so: it is seen by who looks at it.
    fs::write(fixture.root.join("old/e7/f7"), "unseen!").unwrap();
    fixture.write("old/e1/f1", "before");
    fixture.rename("old", "between");
    fixture.write("between/e2/f2", "in between");
    fixture.rename("between/e3", "keep/e3");
    fixture.rename("between", "keep/new");
    fixture.write("keep/new/e4/f4", "after");
    let mut only = Dirty::default();
    for path in ["old", "between", "keep/new", "keep/new/e3", "keep/e3"] {
        only.touch(Path::new(path), Touch::Name);
    }
    for n in [1, 2, 4] {
        only.touch(Path::new(&format!("keep/new/e{n}/f{n}")), Touch::Content);
    }
    only.renamed(Path::new("keep/new"), ["old", "between"].map(PathBuf::from));
    only.renamed(Path::new("keep/e3"), ["between/e3", "old/e3"].map(PathBuf::from));
    let (store, cache) = (&fixture.store, &mut fixture.cache);
    let found = fixture.tracked.capture_changes(store, &only, &fixture.options, cache).unwrap();
    assert_eq!((found.walked, found.files, found.files_read), (false, first.files, 3));
    assert_eq!(found.bytes, first.bytes, "the three are together as long as they were");
    assert_eq!(found.secrets, [Path::new("keep/new/.env")]);
    assert_eq!(found.ignored, [Path::new("keep/new/node_modules")]);
    let content = |path: &str, tracked: &mut Tracked| {
        let entry = tracked.entry(&*fixture.later, Path::new(path)).unwrap();
        fixture.later.get(&entry.id.unwrap()).unwrap().unwrap()
    };
    assert_eq!(content("keep/new/e7/f7", &mut fixture.tracked), b"content");
    assert_eq!(content("keep/e3/f3", &mut fixture.tracked), b"content");
    // What a trace has to be given is what changed, and the directories on the way there.
    let (added, gone) =
        fixture.tracked.changed_objects(&*fixture.later, first.tree, found.tree).unwrap();
    let contents =
        |list: &[NewObject]| list.iter().filter(|it| it.role == ObjectRole::Content).count();
    assert_eq!((contents(&added), contents(&gone)), (3, 1), "all had the same content");
    assert_eq!(added.len(), 3 + 6);
    // The names of one file are known by where they are now.
    fs::write(fixture.root.join("other"), "by its other name").unwrap();
    fs::write(fixture.root.join("keep/new/e7/f7"), "content").unwrap();
    fixture.dirty = Dirty::default();
    fixture.touch("other", Touch::Content);
    fixture.touch("keep/new/e7/f7", Touch::Content);
    fixture.next();
}

#[test]
fn a_renamed_directory_is_looked_at_where_rules_may_tell_its_names_apart() {
    for (rule, pattern, to) in [
        (".gitignore", "/two/out\n", "two"),
        (".gitignore", "one/*\n", "two"),
        (".gitignore", "**/one/out\n", "two"),
        (".agentrecignore", "two/out/x\n", "two"),
        ("sub/.gitignore", "out\n", "sub/two"),
        ("unrelated", "", "node_modules"),
        ("unrelated", "", ".aws"),
    ] {
        let mut fixture = Fixture::new();
        fixture.write(".git/HEAD", "");
        fixture.write("one/out/x", "1");
        fixture.write("one/credentials", "2");
        fixture.write("sub/x", "3");
        fixture.write(rule, pattern);
        fixture.until_they_are_older();
        fixture.start();
        fixture.rename("one", to);
        fixture.next();
        fixture.rename(to, "three");
        fixture.next();
    }
}

/// One change, by numbers that choose among what is there.
#[derive(Clone, Debug)]
enum Op {
    Move(usize, usize, usize),
    Exchange(usize, usize),
    Write(usize, usize, u8),
    MakeDir(usize, usize),
    RemoveDir(usize),
    RemoveFile(usize),
    Link(usize, usize),
    Rule(usize, usize),
    Snapshot,
}

const NAMES: [&str; 9] = ["a", "b", "c", "out", "node_modules", ".aws", "credentials", ".env", "x"];

const RULES: [(&str, &str); 6] = [
    (".gitignore", "out\n"),
    (".gitignore", "/a/out\n"),
    (".gitignore", "b/*/c\n"),
    (".agentrecignore", "b/x\n"),
    (".agentrecignore", "x\n"),
    ("pyvenv.cfg", ""),
];

fn op() -> impl Strategy<Value = Op> {
    let any = || 0..1000_usize;
    prop_oneof![
        8 => (any(), any(), any()).prop_map(|(a, b, c)| Op::Move(a, b, c)),
        1 => (any(), any()).prop_map(|(a, b)| Op::Exchange(a, b)),
        6 => (any(), any(), 0..=u8::MAX).prop_map(|(a, b, byte)| Op::Write(a, b, byte)),
        2 => (any(), any()).prop_map(|(a, b)| Op::MakeDir(a, b)),
        1 => any().prop_map(Op::RemoveDir),
        2 => any().prop_map(Op::RemoveFile),
        2 => (any(), any()).prop_map(|(a, b)| Op::Link(a, b)),
        1 => (any(), 0..RULES.len()).prop_map(|(a, rule)| Op::Rule(a, rule)),
        4 => Just(Op::Snapshot),
    ]
}

/// All directories, or all else, by their paths in the root.
fn existing(root: &Path, at: &Path, dirs: bool, found: &mut Vec<PathBuf>) {
    if dirs {
        found.push(at.to_owned());
    }
    let mut names: Vec<_> =
        fs::read_dir(root.join(at)).unwrap().map(|entry| entry.unwrap()).collect();
    names.sort_by_key(|entry| entry.file_name());
    for entry in names {
        let path = at.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => existing(root, &path, dirs, found),
            false if !dirs => found.push(path),
            false => {}
        }
    }
}

impl Fixture {
    fn some(&self, dirs: bool, number: usize) -> Option<PathBuf> {
        let mut found = Vec::new();
        existing(&self.root, Path::new(""), dirs, &mut found);
        (!found.is_empty()).then(|| found[number % found.len()].clone())
    }

    /// Does it, and says so as a recorder would. What can't be done is not.
    fn change(&mut self, op: &Op) {
        let dir = |number| self.some(true, number).unwrap();
        let full = |path: &Path| self.root.join(path);
        match *op {
            Op::Move(from, to, name) => {
                let (from, to) = (dir(from), dir(to).join(NAMES[name % NAMES.len()]));
                if from != Path::new("") && fs::rename(full(&from), full(&to)).is_ok() {
                    self.renamed(&from, &to);
                }
            }
            Op::Exchange(a, b) => {
                use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

                let (a, b) = (dir(a), dir(b));
                let flags = RenameFlags::RENAME_EXCHANGE;
                if a != b && renameat2(AT_FDCWD, &full(&a), AT_FDCWD, &full(&b), flags).is_ok() {
                    self.renamed(&a, &b);
                    self.renamed(&b, &a);
                }
            }
            Op::Write(parent, name, byte) => {
                let path = dir(parent).join(NAMES[name % NAMES.len()]);
                if fs::write(full(&path), format!("content {byte}")).is_ok() {
                    self.mark(&path, Touch::Name);
                }
            }
            Op::MakeDir(parent, name) => {
                let path = dir(parent).join(NAMES[name % NAMES.len()]);
                if fs::create_dir(full(&path)).is_ok() {
                    self.mark(&path, Touch::Name);
                }
            }
            Op::RemoveDir(number) => {
                let path = dir(number);
                if path != Path::new("") {
                    fs::remove_dir_all(full(&path)).unwrap();
                    self.mark(&path, Touch::Name);
                }
            }
            Op::RemoveFile(number) => {
                if let Some(path) = self.some(false, number) {
                    fs::remove_file(full(&path)).unwrap();
                    self.mark(&path, Touch::Name);
                }
            }
            Op::Link(file, parent) => {
                let Some(file) = self.some(false, file) else { return };
                let link = dir(parent).join("link");
                if fs::hard_link(full(&file), full(&link)).is_ok() {
                    self.mark(&file, Touch::Content);
                    self.mark(&link, Touch::Name);
                }
            }
            Op::Rule(parent, rule) => {
                let (name, text) = RULES[rule];
                let path = dir(parent).join(name);
                fs::write(full(&path), text).unwrap();
                self.mark(&path, Touch::Name);
            }
            Op::Snapshot => {
                self.until_they_are_older();
                self.next();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_renamed_a_capture_of_changes_is_the_one_of_everything(
        repository in any::<bool>(),
        ops in prop::collection::vec(op(), 10..50),
    ) {
        let mut fixture = Fixture::new();
        if repository {
            fixture.write(".git/HEAD", "");
        }
        for path in ["a/a/x", "a/b/c/x", "a/b/x", "b/x", "b/.env", "c/out/x", "c/b/a/a"] {
            fixture.write(path, path);
        }
        fixture.until_they_are_older();
        fixture.start();
        for op in &ops {
            fixture.change(op);
        }
        fixture.next();
    }
}
