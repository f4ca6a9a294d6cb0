//! Captures of what changed: whatever was done to a tree, they say the same as a walk over all of it.

mod fixture;
mod renamed;

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agentrec_store::{Dirty, LeftOut, Objects, Touch, Tracked, new_objects};
use proptest::prelude::*;

use self::fixture::Fixture;

#[test]
fn what_did_not_change_is_not_looked_at() {
    let mut fixture = Fixture::new();
    for n in 0..100 {
        fixture.write(&format!("d{}/e{n}/f{n}", n % 10), "old");
    }
    fixture.start();
    fixture.write("d3/e3/f3", "new");
    // Nobody says so: it is as it was.
    fs::write(fixture.root.join("d4/e4/f4"), "unseen").unwrap();
    let dirty = std::mem::take(&mut fixture.dirty);
    let mut only = Dirty::default();
    only.touch(Path::new("d3/e3/f3"), Touch::Content);
    drop(dirty);
    let (store, cache) = (&fixture.store, &mut fixture.cache);
    let found = fixture.tracked.capture_changes(store, &only, &fixture.options, cache).unwrap();
    assert!(!found.walked);
    assert_eq!((found.files, found.files_read, found.objects_added), (100, 1, 4));
    let former = |path: &str, tracked: &mut Tracked| {
        let entry = tracked.entry(&*fixture.later, Path::new(path)).unwrap();
        fixture.later.get(&entry.id.unwrap()).unwrap().unwrap()
    };
    assert_eq!(former("d3/e3/f3", &mut fixture.tracked), b"new");
    assert_eq!(former("d4/e4/f4", &mut fixture.tracked), b"old");
    let all = fixture.tracked.capture(store, &fixture.options, cache).unwrap();
    assert!(all.walked && all.tree != found.tree);
}

#[test]
fn objects_that_come_later_are_read_meanwhile_and_then_in_the_store() {
    let mut fixture = Fixture::new();
    fixture.write("a/b", "old");
    let first = fixture.start();
    fixture.write("a/b", "new");
    fixture.write("a/.env", "KEY=1");
    let found = fixture.next();
    let new = new_objects(&*fixture.later, Some(first.tree), found.tree).unwrap();
    assert_eq!(new.len(), 4, "two trees, a content and a secret one");
    let secret = new.iter().find(|object| object.secret).unwrap();
    assert!(fixture.store.contains(&secret.id).unwrap(), "no trace has it: it is there at once");
    let known = fixture.tracked.changed_objects(&*fixture.later, first.tree, found.tree).unwrap();
    assert_eq!(known.0, new);
    assert_eq!(known.1, new_objects(&*fixture.later, Some(found.tree), first.tree).unwrap());
    fixture.later.flush().unwrap();
    for object in new {
        assert!(fixture.store.contains(&object.id).unwrap());
    }
}

#[test]
fn the_other_names_of_a_file_change_with_it() {
    let mut fixture = Fixture::new();
    fixture.write("a/one", "old");
    fixture.write("b/keep", "");
    fs::hard_link(fixture.root.join("a/one"), fixture.root.join("b/two")).unwrap();
    let outer = fixture.root.with_file_name("outer");
    fs::hard_link(fixture.root.join("a/one"), &outer).unwrap();
    fixture.start();
    fs::write(fixture.root.join("a/one"), "new").unwrap();
    fixture.touch("a/one", Touch::Content);
    assert_eq!(fixture.next().files_read, 2);
    fs::write(&outer, "by its name outside").unwrap();
    let ino = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&outer).unwrap());
    assert!(fixture.tracked.is_linked(ino));
    fixture.dirty.touch_inode(ino);
    fixture.next();
    fs::remove_file(fixture.root.join("a/one")).unwrap();
    fixture.touch("a/one", Touch::Name);
    fixture.next();
    fs::remove_file(outer).unwrap();
    fixture.dirty.outer_links_changed();
    fixture.next();
    assert!(!fixture.tracked.is_linked(ino), "one name is left");
}

#[test]
fn a_change_of_rules_reaches_all_below() {
    let mut fixture = Fixture::new();
    fixture.write(".git/HEAD", "");
    fixture.write("sub/out/x", "1");
    fixture.write("sub/data/x", "2");
    fixture.write("lib/y", "3");
    assert_eq!(fixture.start().ignored, [] as [&Path; 0]);
    fixture.write("sub/.gitignore", "out/\n");
    assert_eq!(fixture.next().ignored, [Path::new("sub/out")]);
    fixture.write(".git/info/exclude", "lib/\n");
    assert_eq!(fixture.next().ignored, [Path::new("lib"), Path::new("sub/out")]);
    fixture.write("sub/.agentrecignore", "data\n");
    assert_eq!(fixture.next().left_out[0].reason, LeftOut::Excluded);
    fixture.write("sub/out/new/z", "4");
    fixture.write("sub/data/x", "5");
    fixture.next();
    fixture.write("sub/out/pyvenv.cfg", "");
    fixture.next();
    fs::remove_file(fixture.root.join("sub/.gitignore")).unwrap();
    fixture.touch("sub/.gitignore", Touch::Name);
    assert_eq!(fixture.next().ignored, [Path::new("lib"), Path::new("sub/out")], "an environment");
}

#[test]
fn names_that_nobody_told_of_are_found_where_something_changed() {
    let mut fixture = Fixture::new();
    fixture.write("d/a", "1");
    fixture.write("d/b", "1");
    fixture.start();
    fixture.write("d/c", "told");
    fs::write(fixture.root.join("d/silent"), "").unwrap();
    fs::remove_file(fixture.root.join("d/b")).unwrap();
    fixture.dirty = Dirty::default();
    fixture.touch("d/c", Touch::Name);
    fixture.next();
}

#[test]
fn limits_are_those_of_a_walk() {
    let mut fixture = Fixture::new();
    fixture.options.max_tree = Some(20);
    fixture.options.max_file = Some(15);
    fixture.write("a", "123456789");
    fixture.write("b/c", "123456789");
    fixture.start();
    fixture.write("a", "1234567890123456");
    assert_eq!(fixture.next().left_out[0].reason, LeftOut::TooLarge);
    fixture.write("a", "123456789");
    fixture.next();
    fixture.write("a", "123456789012");
    assert_eq!(fixture.next().left_out.len(), 1);
    // What fits depends on the order now.
    fixture.write("b/c", "1");
    assert!(fixture.next().walked);
    assert!(!fixture.next().walked);
}

/// One change, by numbers that choose paths.
#[derive(Clone, Debug)]
enum Op {
    Write(usize, u8),
    Append(usize),
    Mkdir(usize),
    Remove(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Symlink(usize, usize),
    Chmod(usize, u32),
    Times(usize),
    Fifo(usize),
    Snapshot,
}

const PATHS: &[&str] = &[
    "a",
    "b",
    "d",
    "d/a",
    "d/b",
    "d/e",
    "d/e/a",
    "d/e/f",
    "d/e/f/a",
    "g",
    "g/a",
    "g/.env",
    "g/h",
    "g/h/a",
    ".gitignore",
    "d/.agentrecignore",
    ".git",
    "node_modules",
    "node_modules/x/y",
    "g/h/pyvenv.cfg",
    "d/x-wal",
    "d/x",
];

fn op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(p, byte)| Op::Write(p, byte)),
        2 => path().prop_map(Op::Append),
        3 => path().prop_map(Op::Mkdir),
        2 => path().prop_map(Op::Remove),
        4 => (path(), path()).prop_map(|(a, b)| Op::Rename(a, b)),
        2 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        1 => (path(), path()).prop_map(|(a, b)| Op::Symlink(a, b)),
        1 => (path(), 0u32..0o1000).prop_map(|(p, mode)| Op::Chmod(p, mode)),
        1 => path().prop_map(Op::Times),
        1 => path().prop_map(Op::Fifo),
        3 => Just(Op::Snapshot),
    ]
}

impl Fixture {
    /// Does it, and says so as a recorder would. What can't be done is not.
    fn apply(&mut self, op: &Op) {
        let full = |p: usize| self.root.join(PATHS[p]);
        let is_file = |p: usize| full(p).symlink_metadata().is_ok_and(|meta| meta.is_file());
        // A link may stand for a directory on the way.
        let root = self.root.canonicalize().unwrap();
        let real: Vec<PathBuf> = (0..PATHS.len())
            .map(|p| {
                let path = full(p);
                let parent = path.parent().unwrap().canonicalize().ok();
                let real = parent.map(|parent| parent.join(path.file_name().unwrap()));
                let inside = real.and_then(|real| Some(real.strip_prefix(&root).ok()?.to_owned()));
                inside.unwrap_or_else(|| PATHS[p].into())
            })
            .collect();
        let mut names = Vec::new();
        let mut contents = Vec::new();
        match *op {
            Op::Write(p, byte) if is_file(p) || full(p).symlink_metadata().is_err() => {
                let text = if PATHS[p].ends_with("ignore") { "e\n" } else { "content" };
                if fs::write(full(p), [text.as_bytes(), &[b'\n', byte]].concat()).is_ok() {
                    names.push(p);
                }
            }
            Op::Append(p) if is_file(p) => {
                let mut file = OpenOptions::new().append(true).open(full(p)).unwrap();
                file.write_all(b"more").unwrap();
                contents.push(p);
            }
            Op::Mkdir(p) if fs::create_dir(full(p)).is_ok() => names.push(p),
            Op::Remove(p) => {
                let is_dir = full(p).symlink_metadata().is_ok_and(|meta| meta.is_dir());
                let gone =
                    if is_dir { fs::remove_dir_all(full(p)) } else { fs::remove_file(full(p)) };
                names.extend(gone.is_ok().then_some(p));
            }
            Op::Rename(a, b) => {
                let is_dir = full(a).symlink_metadata().is_ok_and(|meta| meta.is_dir());
                if fs::rename(full(a), full(b)).is_ok() {
                    names.extend([a, b]);
                    if is_dir {
                        self.renamed(&real[a], &real[b]);
                    }
                }
            }
            Op::Link(a, b) if fs::hard_link(full(a), full(b)).is_ok() => names.extend([a, b]),
            Op::Symlink(a, b) if symlink(PATHS[a], full(b)).is_ok() => names.push(b),
            Op::Chmod(p, mode) if is_file(p) => {
                fs::set_permissions(full(p), Permissions::from_mode(mode)).unwrap();
                contents.push(p);
            }
            Op::Times(p) if is_file(p) => {
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + p as u64);
                let file = File::open(full(p)).unwrap();
                file.set_times(FileTimes::new().set_modified(time)).unwrap();
                contents.push(p);
            }
            Op::Fifo(p) => {
                let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
                names.extend(nix::unistd::mkfifo(&full(p), mode).is_ok().then_some(p));
            }
            Op::Snapshot => {
                self.until_they_are_older();
                drop(self.next());
            }
            _ => {}
        }
        names.into_iter().for_each(|p| self.mark(&real[p], Touch::Name));
        contents.into_iter().for_each(|p| self.mark(&real[p], Touch::Content));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_capture_of_changes_is_the_one_of_everything(ops in prop::collection::vec(op(), 10..60)) {
        let mut fixture = Fixture::new();
        fixture.start();
        for op in &ops {
            fixture.apply(op);
        }
        fixture.next();
    }
}
