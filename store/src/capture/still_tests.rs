//! Captures with what an earlier one noted: whatever was done to a tree since, they say the same as one that knows nothing.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::file::{AHEAD, now};
use super::still::Still;
use super::{Capture, CaptureOptions, FileId, capture_tree};
use crate::cache::{StatCache, TOO_FRESH};
use crate::{CollectOptions, Home, LeftOut, Names, Objects, Store, Tree};

struct Fixture {
    dir: TempDir,
    home: Home,
    /// Of somebody who knows nothing of the other one.
    other: Store,
    root: PathBuf,
    options: CaptureOptions,
}

impl Fixture {
    /// A tree in which everything is old enough to be believed.
    fn new() -> Self {
        AHEAD.set(2 * TOO_FRESH);
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        let other = Store::open(&Home::new(dir.path().join("other"))).unwrap();
        let root = dir.path().join("root");
        let fixture = Self { dir, home, other, root, options: CaptureOptions::default() };
        for path in ["top", "a/one", "a/two", "a/deep/er/three", "b/four", "b/out/five", "c/x/six"]
        {
            fixture.write(path, path);
        }
        fs::create_dir(fixture.at("empty")).unwrap();
        symlink("top", fixture.at("a/link")).unwrap();
        fs::hard_link(fixture.at("a/one"), fixture.at("b/one")).unwrap();
        fixture.write("b/.env", "TOKEN=1");
        fixture.write("a/deep/node_modules/m/index.js", "m");
        fixture
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let full = self.at(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(full, content).unwrap();
    }

    /// What a later session finds, which has to be what one without a cache finds.
    fn capture(&self) -> Capture {
        tick();
        let store = Store::open(&self.home).unwrap();
        let mut cache = StatCache::load(&self.home, &self.root);
        let found = capture_tree(&store, &self.root, &self.options, &mut cache).unwrap();
        cache.save().unwrap();
        let mut nothing = StatCache::in_memory();
        let whole = capture_tree(&self.other, &self.root, &self.options, &mut nothing).unwrap();
        if found.tree != whole.tree {
            differ([&store, &self.other], [found.tree, whole.tree], Path::new(""));
            panic!("the trees differ");
        }
        let rest =
            |capture: &Capture| Capture { files_read: 0, objects_added: 0, ..capture.clone() };
        assert_eq!(rest(&found), rest(&whole));
        assert_eq!(store.check().unwrap().damaged, []);
        tick();
        found
    }

    /// How many directories are as they were, of how many that are known.
    fn still(&self) -> (usize, usize) {
        let cache = StatCache::load(&self.home, &self.root);
        let still = Still::find(&File::open(&self.root).unwrap(), cache.folders(), &self.options);
        let count = cache.folders().len();
        ((0..count).filter(|index| still.is_whole(*index)).count(), count)
    }

    /// Captures, changes something, and captures again: another tree has to be found.
    fn change(&self, what: impl FnOnce(&Self)) -> Capture {
        let before = self.capture();
        let (same, all) = self.still();
        assert_eq!(same, all, "nothing changed yet");
        what(self);
        let after = self.capture();
        assert_ne!(before.tree, after.tree, "the change is not seen");
        after
    }
}

fn id(path: &Path) -> FileId {
    let metadata = fs::metadata(path).unwrap();
    FileId { dev: metadata.dev(), ino: metadata.ino() }
}

/// Waits until the clock that files are stamped with moves on.
fn tick() {
    let before = now();
    while now() == before {
        std::thread::yield_now();
    }
}

fn differ(stores: [&Store; 2], ids: [agentrec_trace::ObjectId; 2], path: &Path) {
    let [found, whole] = [0, 1].map(|n| Tree::load(stores[n], ids[n]).unwrap());
    if found.meta != whole.meta {
        eprintln!("{}: {:?} and {:?}", path.display(), found.meta, whole.meta);
    }
    for entry in &whole.entries {
        let path = path.join(entry.os_name());
        match found.entry(&entry.name) {
            Some(other) if other == entry => {}
            Some(other) if other.is_dir() && entry.is_dir() => {
                differ(stores, [other.id.unwrap(), entry.id.unwrap()], &path);
            }
            other => eprintln!("{}: {other:?} and {entry:?}", path.display()),
        }
    }
}

#[test]
fn what_did_not_change_keeps_its_objects_without_being_read() {
    let fixture = Fixture::new();
    assert_eq!(fixture.still(), (0, 0));
    let first = fixture.capture();
    assert_eq!(fixture.still(), (11, 11));
    let second = fixture.capture();
    assert_eq!((second.files_read, second.objects_added), (0, 0));
    assert_eq!(first.tree, second.tree);
    assert_eq!(second.secrets, [Path::new("b/.env")]);
    assert_eq!(second.ignored, [Path::new("a/deep/node_modules")]);

    // Not even the cache is written again.
    let files = || fs::read_dir(fixture.home.cache()).unwrap().map(|file| file.unwrap().path());
    let cache: Vec<_> = files().map(|path| (id(&path), path)).collect();
    fixture.capture();
    assert_eq!(files().map(|path| (id(&path), path)).collect::<Vec<_>>(), cache);

    // Only what is on the way to a change is looked at again.
    fixture.write("c/x/six", "changed");
    assert_eq!(fixture.still(), (8, 11));
    assert_eq!(fixture.capture().files_read, 1);
    assert_eq!(fixture.still(), (11, 11));
}

#[test]
fn what_is_too_fresh_is_not_believed() {
    let fixture = Fixture::new();
    AHEAD.set(0);
    fixture.capture();
    assert_eq!(fixture.still(), (0, 11));
    assert!(fixture.capture().files_read > 0);
}

#[test]
fn a_change_of_a_file_is_seen() {
    let fixture = Fixture::new();
    let same_length_and_time = |fixture: &Fixture| {
        let path = fixture.at("a/one");
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "a/eno").unwrap();
        File::open(&path).unwrap().set_modified(before).unwrap();
    };
    fixture.change(same_length_and_time);
    fixture.change(|f| fs::set_permissions(f.at("b/four"), Permissions::from_mode(0o751)).unwrap());
    fixture.change(|f| xattr::set(f.at("c/x/six"), "user.note", b"said").unwrap());
    fixture.change(|f| xattr::set(f.at("c/x/six"), "user.note", b"Said").unwrap());
    fixture.change(|f| File::options().append(true).open(f.at("top")).unwrap().set_len(1).unwrap());
    fixture.change(|f| {
        fs::remove_file(f.at("a/link")).unwrap();
        symlink("two", f.at("a/link")).unwrap();
    });
}

#[test]
fn a_change_of_names_is_seen() {
    let fixture = Fixture::new();
    fixture.change(|f| f.write("a/deep/er/new", "new"));
    fixture.change(|f| fs::remove_file(f.at("a/deep/er/three")).unwrap());
    fixture.change(|f| fs::rename(f.at("a/two"), f.at("a/owt")).unwrap());
    // Directories change places, and keep their own times.
    fixture.change(|f| {
        fs::rename(f.at("b/out"), f.at("c/out")).unwrap();
        fs::rename(f.at("c/x"), f.at("b/out")).unwrap();
    });
    fixture.change(|f| {
        fs::remove_file(f.at("top")).unwrap();
        f.write("top/now/a", "directory");
    });
    fixture.change(|f| {
        fs::remove_dir_all(f.at("top")).unwrap();
        symlink("a", f.at("top")).unwrap();
    });
    // A link in the place of a directory leads to one that has the same in it.
    fixture.change(|f| {
        fs::rename(f.at("a/deep"), f.dir.path().join("deep")).unwrap();
        symlink(f.dir.path().join("deep"), f.at("a/deep")).unwrap();
    });
    fixture.change(|f| fs::hard_link(f.at("b/four"), f.at("c/four")).unwrap());
    fixture.change(|f| fs::remove_file(f.at("b/four")).unwrap());
}

#[test]
fn a_change_of_a_directory_is_seen() {
    let fixture = Fixture::new();
    fixture.change(|f| fs::set_permissions(f.at("c/x"), Permissions::from_mode(0o700)).unwrap());
    fixture.change(|f| xattr::set(f.at("empty"), "user.note", b"said").unwrap());
    fixture.change(|f| fs::remove_dir(f.at("empty")).unwrap());
    fixture.change(|f| xattr::set(&f.root, "user.note", b"said").unwrap());
}

#[test]
fn a_change_of_what_decides_about_others_is_seen() {
    let fixture = Fixture::new();
    fixture.write(".git/HEAD", "ref: refs/heads/main\n");
    fixture.write("b/.gitignore", "no-such\n");
    let ignored = |capture: Capture| -> Vec<String> {
        capture.ignored.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    };
    let modules = "a/deep/node_modules";
    assert_eq!(ignored(fixture.capture()), [modules]);
    assert_eq!(ignored(fixture.change(|f| f.write("b/.gitignore", "/out/\n"))), [modules, "b/out"]);
    let exclude = |f: &Fixture| f.write(".git/info/exclude", "/c/\n");
    assert_eq!(ignored(fixture.change(exclude)), [modules, "b/out", "c"]);
    // Not a byte of what git decides by is in a directory that changes here.
    let other = |f: &Fixture| f.write(".git/info/exclude", "/d/\n");
    assert_eq!(ignored(fixture.change(other)), [modules, "b/out"]);
    fixture.change(|f| f.write("c/pyvenv.cfg", ""));
    let tag =
        |f: &Fixture| f.write("a/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc5-");
    assert_eq!(ignored(fixture.change(tag)), [modules, "b/out", "c"]);
    let tag =
        |f: &Fixture| f.write("a/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    assert_eq!(ignored(fixture.change(tag)), ["a", "b/out", "c"]);
    let left_out = fixture.change(|f| f.write(".agentrecignore", "six\n")).left_out;
    assert_eq!((left_out.len(), left_out[0].reason), (1, LeftOut::Excluded));
    // What was left out is looked at each time, and what is beside it is not read for that.
    assert_eq!(fixture.capture().files_read, 0);
    fixture.write(".agentrecignore", "none\n");
    assert_eq!(fixture.capture().left_out, []);
}

#[test]
fn what_stands_above_the_root_decides_too() {
    let fixture = Fixture::new();
    fixture.capture();
    fs::create_dir(fixture.dir.path().join(".git")).unwrap();
    fs::write(fixture.dir.path().join(".gitignore"), "/root/b/out/\n").unwrap();
    assert!(fixture.capture().ignored.contains(&PathBuf::from("b/out")));
    fs::write(fixture.dir.path().join(".gitignore"), "/root/b/tuo/\n").unwrap();
    assert!(!fixture.capture().ignored.contains(&PathBuf::from("b/out")));
}

#[test]
fn other_options_are_another_capture() {
    let mut fixture = Fixture::new();
    let whole = fixture.capture();
    fixture.options.excludes = vec!["six".into()];
    assert_eq!(fixture.capture().left_out.len(), 1);
    fixture.options = CaptureOptions { max_file: Some(3), ..CaptureOptions::default() };
    assert!(fixture.capture().left_out.len() > 5);
    fixture.options =
        CaptureOptions { max_tree: Some(whole.bytes - 1), ..CaptureOptions::default() };
    assert!(!fixture.capture().left_out.is_empty());
    fixture.options = CaptureOptions { max_tree: Some(whole.bytes), ..CaptureOptions::default() };
    fixture.capture();
    // The limit is the same, and what is there is more.
    fixture.write("a/aaa", "more");
    assert!(!fixture.capture().left_out.is_empty());
    fs::remove_file(fixture.at("a/aaa")).unwrap();
    fixture.options =
        CaptureOptions { seen_as: "/home/u/.gnupg".into(), ..CaptureOptions::default() };
    assert!(fixture.capture().secrets.len() > 5);
    fixture.options = CaptureOptions::default();
    assert_eq!(fixture.capture().left_out, []);
    let root = fixture.root.clone();
    fixture.options.secrets.add(&root, &["six".into()]).unwrap();
    assert!(fixture.capture().secrets.contains(&PathBuf::from("c/x/six")));
    let path = fixture.at("c/x/six");
    fixture.options.own.insert(id(&path));
    assert_eq!(fixture.capture().left_out[0].reason, LeftOut::Recorder);
}

#[test]
fn a_file_whose_times_do_not_tell_is_read() {
    let mut fixture = Fixture::new();
    fixture.capture();
    let file = id(&fixture.at("c/x/six"));
    fixture.options.distrust.insert(file);
    for _ in 0..2 {
        assert_eq!(fixture.capture().files_read, 1);
    }
    fixture.options.distrust.clear();
    fixture.capture();
    assert_eq!(fixture.still(), (11, 11));
}

#[test]
fn a_root_at_another_path_has_nothing_noted() {
    let fixture = Fixture::new();
    fixture.capture();
    let moved = fixture.dir.path().join("moved");
    fs::rename(&fixture.root, &moved).unwrap();
    fs::create_dir(&fixture.root).unwrap();
    assert_eq!(fixture.capture().files, 0);
    let fixture = Fixture { root: moved, ..fixture };
    assert_eq!(fixture.still(), (0, 0));
    assert_eq!(fixture.capture().files_read, 9);
}

#[test]
fn objects_that_the_store_lost_are_stored_again() {
    let fixture = Fixture::new();
    let first = fixture.capture();
    let present = |capture: &Capture| {
        let store = Store::open(&fixture.home).unwrap();
        assert!(crate::new_objects(&store, None, capture.tree).is_ok());
        store.contains(&capture.tree).unwrap()
    };
    // Nothing names them: they are collected.
    let store = Store::open(&fixture.home).unwrap();
    let options = CollectOptions {
        remove: true,
        min_age: std::time::Duration::ZERO,
        ..CollectOptions::default()
    };
    let collected = store.collect(&mut || Ok(Names::default()), &options).unwrap();
    assert!(collected.objects > 10 && !store.contains(&first.tree).unwrap());
    let again = fixture.capture();
    assert_eq!((again.tree, again.files_read), (first.tree, 9));
    assert!(present(&again));

    // Somebody removes a pack.
    let packs = fixture.home.packs();
    for pack in fs::read_dir(&packs).unwrap() {
        fs::remove_file(pack.unwrap().path()).unwrap();
    }
    let again = fixture.capture();
    assert_eq!((again.tree, again.files_read), (first.tree, 9));
    assert!(present(&again));

    // The index of a pack is damaged.
    for pack in fs::read_dir(&packs).unwrap() {
        let path = pack.unwrap().path();
        let len = fs::metadata(&path).unwrap().len();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"damage", len - 60).unwrap();
    }
    assert_eq!(capture_again(&fixture).files_read, 9);
}

/// As [`Fixture::capture`], in a store that has a damaged pack.
fn capture_again(fixture: &Fixture) -> Capture {
    tick();
    let store = Store::open(&fixture.home).unwrap();
    let mut cache = StatCache::load(&fixture.home, &fixture.root);
    capture_tree(&store, &fixture.root, &fixture.options, &mut cache).unwrap()
}

#[test]
fn packs_that_were_merged_still_have_everything() {
    let fixture = Fixture::new();
    let first = fixture.capture();
    let store = Store::open(&fixture.home).unwrap();
    for n in 0..100_u32 {
        store.put(&n.to_le_bytes()).unwrap();
    }
    let again = fixture.capture();
    assert_eq!((again.tree, again.files_read, again.objects_added), (first.tree, 0, 0));
}

#[test]
fn a_mount_below_the_root_is_seen() {
    let fixture = Fixture::new();
    fixture.capture();
    // A namespace of this thread's own, and of those that it starts.
    let private = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS);
    let mount = |source: Option<&Path>, target: &Path, flags| {
        nix::mount::mount(source, target, None::<&str>, flags, None::<&str>)
    };
    use nix::mount::MsFlags;
    let private =
        private.and_then(|()| mount(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE));
    if private.is_err() {
        eprintln!("not root: nothing can be mounted");
        return;
    }
    // The same directory over itself: nothing but the mount tells.
    mount(Some(&fixture.at("c/x")), &fixture.at("c/x"), MsFlags::MS_BIND).unwrap();
    let capture = fixture.capture();
    assert_eq!(capture.left_out.len(), 1);
    assert_eq!(capture.left_out[0].reason, LeftOut::OtherFileSystem);
    nix::mount::umount(&fixture.at("c/x")).unwrap();
    assert_eq!(fixture.capture().left_out, []);
}

#[test]
fn a_capture_that_failed_leaves_nothing_to_believe() {
    let fixture = Fixture::new();
    let mut cache = StatCache::in_memory();
    let store = Store::open(&fixture.home).unwrap();
    let capture = |store: &Store, cache: &mut StatCache| {
        tick();
        capture_tree(store, &fixture.root, &fixture.options, cache)
    };
    capture(&store, &mut cache).unwrap();
    fixture.write("c/x/six", "changed");
    fs::remove_dir_all(fixture.home.objects()).unwrap();
    fs::write(fixture.home.objects(), "in the way").unwrap();
    assert!(capture(&store, &mut cache).is_err());
    fs::remove_file(fixture.home.objects()).unwrap();
    let store = Store::open(&fixture.home).unwrap();
    let found = capture(&store, &mut cache).unwrap();
    assert_eq!(found.files_read, 9);
    assert!(crate::new_objects(&store, None, found.tree).is_ok());
}

/// Something that is done to the tree.
#[derive(Clone, Debug)]
enum Op {
    Write(usize, u8),
    Append(usize),
    Remove(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Symlink(usize),
    Mode(usize, bool),
    Note(usize),
}

const PATHS: [&str; 14] = [
    "top",
    "a",
    "a/one",
    "a/deep",
    "a/deep/er",
    "b/.gitignore",
    "b/out",
    "b/out/five",
    "b/new",
    ".agentrecignore",
    "c/x",
    "c/pyvenv.cfg",
    "b/.git",
    "a/deep/er/more/z",
];

fn op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    prop_oneof![
        (path(), any::<u8>()).prop_map(|(path, content)| Op::Write(path, content)),
        path().prop_map(Op::Append),
        path().prop_map(Op::Remove),
        (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        (path(), path()).prop_map(|(from, to)| Op::Link(from, to)),
        path().prop_map(Op::Symlink),
        (path(), any::<bool>()).prop_map(|(path, open)| Op::Mode(path, open)),
        path().prop_map(Op::Note),
    ]
}

impl Fixture {
    /// What is not possible is not done.
    fn apply(&self, op: &Op) {
        let at = |path: &usize| self.at(PATHS[*path]);
        let _ = match op {
            Op::Write(path, content) => {
                let text = ["out/\n", "five\n", "deep\n", "/x/\n"][usize::from(content % 4)];
                let path = at(path);
                fs::create_dir_all(path.parent().unwrap()).and_then(|()| fs::write(path, text))
            }
            Op::Append(path) => OpenOptions::new()
                .append(true)
                .open(at(path))
                .and_then(|mut file| std::io::Write::write_all(&mut file, b"o")),
            Op::Remove(path) => fs::remove_file(at(path)).or_else(|_| fs::remove_dir_all(at(path))),
            Op::Rename(from, to) => fs::rename(at(from), at(to)),
            Op::Link(from, to) => fs::hard_link(at(from), at(to)),
            Op::Symlink(path) => symlink("a", at(path)),
            Op::Mode(path, open) => {
                let mode = if *open { 0o755 } else { 0o700 };
                fs::set_permissions(at(path), Permissions::from_mode(mode))
            }
            Op::Note(path) => xattr::set(at(path), "user.note", b"n"),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]
    #[test]
    fn a_capture_with_a_cache_is_the_one_without(
        rounds in prop::collection::vec(prop::collection::vec(op(), 0..4), 1..6),
    ) {
        let fixture = Fixture::new();
        fixture.capture();
        for ops in &rounds {
            ops.iter().for_each(|op| fixture.apply(op));
            fixture.capture();
        }
    }
}
