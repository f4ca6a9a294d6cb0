//! Captures of small trees: what is kept, what is left out, and what a second capture costs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use agentrec_store::{
    Capture, CaptureOptions, ChangeKind, FileId, Home, Kind, LeftOut, ObjectRole, Objects,
    StatCache, Store, Tree, capture_tree, diff_trees, new_objects,
};
use nix::unistd::mkfifo;
use tempfile::TempDir;

struct Fixture {
    _dir: TempDir,
    home: Home,
    store: Store,
    root: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        let store = Store::open(&home).unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        Self { _dir: dir, home, store, root }
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn capture_with(&self, options: &CaptureOptions) -> Capture {
        capture_tree(&self.store, &self.root, options, &mut StatCache::in_memory()).unwrap()
    }

    fn capture(&self) -> Capture {
        self.capture_with(&CaptureOptions::default())
    }

    fn tree(&self, capture: &Capture) -> Tree {
        Tree::load(&self.store, capture.tree).unwrap()
    }
}

fn left_out(capture: &Capture) -> Vec<(&str, LeftOut)> {
    capture.left_out.iter().map(|left| (left.path.to_str().unwrap(), left.reason)).collect()
}

#[test]
fn contents_links_and_attributes_are_kept() {
    let fixture = Fixture::new();
    fixture.write("a.txt", "hello");
    fixture.write("sub/b.txt", "world");
    symlink("/etc/passwd", fixture.root.join("link")).unwrap();
    fs::hard_link(fixture.root.join("a.txt"), fixture.root.join("sub/a2.txt")).unwrap();

    let capture = fixture.capture();
    assert_eq!((capture.files, capture.bytes), (3, 15));
    assert_eq!(capture.left_out, []);
    let tree = fixture.tree(&capture);
    let names: Vec<_> =
        tree.entries.iter().map(|entry| entry.os_name().to_str().unwrap()).collect();
    assert_eq!(names, ["a.txt", "link", "sub"]);
    let a = tree.entry(b"a.txt").unwrap();
    assert_eq!(fixture.store.get(&a.id.unwrap()).unwrap().unwrap(), b"hello");
    let metadata = fs::metadata(fixture.root.join("a.txt")).unwrap();
    assert_eq!(a.meta.mode, metadata.mode() & 0o7777);
    assert_eq!(a.meta.mtime, metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
    let link = tree.entry(b"link").unwrap();
    assert_eq!(
        (link.kind, link.target.as_ref().unwrap().as_slice()),
        (Kind::Symlink, &b"/etc/passwd"[..])
    );
    let sub = Tree::load(&fixture.store, tree.entry(b"sub").unwrap().id.unwrap()).unwrap();
    assert_eq!(sub.entry(b"a2.txt").unwrap().link, a.link);
    assert!(a.link.is_some());
}

#[test]
fn every_kind_of_entry_is_kept_or_listed() {
    let fixture = Fixture::new();
    let at = |name: &str| fixture.root.join(name);
    fs::create_dir(at("empty")).unwrap();
    fs::set_permissions(at("empty"), fs::Permissions::from_mode(0o2750)).unwrap();
    let odd = OsStr::from_bytes(b"\xff\xfe not text");
    fs::write(fixture.root.join(odd), "odd").unwrap();
    mkfifo(&at("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    let holes = fs::File::create(at("holes")).unwrap();
    holes.set_len(8 << 20).unwrap();
    fixture.write("noted", "n");
    xattr::set(at("noted"), "user.note", b"said").unwrap();
    fixture.write("inner/.git/HEAD", "ref: refs/heads/main\n");
    fixture.write("inner/file", "nested");

    let capture = fixture.capture();
    assert_eq!(capture.left_out, []);
    let tree = fixture.tree(&capture);
    let entry = |name: &[u8]| tree.entry(name).unwrap().clone();
    let empty = Tree::load(&fixture.store, entry(b"empty").id.unwrap()).unwrap();
    assert_eq!((empty.entries.len(), empty.meta.mode), (0, 0o2750));
    let metadata = fs::metadata(at("empty")).unwrap();
    assert_eq!((empty.meta.uid, empty.meta.gid), (metadata.uid(), metadata.gid()));
    let odd = entry(odd.as_bytes());
    assert_eq!(fixture.store.get(&odd.id.unwrap()).unwrap().unwrap(), b"odd");
    assert_eq!((entry(b"fifo").kind, entry(b"socket").kind), (Kind::Fifo, Kind::Socket));
    assert_eq!((entry(b"holes").sparse, entry(b"holes").size), (true, 8 << 20));
    let noted = &entry(b"noted").meta.xattrs[0];
    assert_eq!((noted.0.as_slice(), noted.1.as_slice()), (&b"user.note"[..], &b"said"[..]));
    let inner = Tree::load(&fixture.store, entry(b"inner").id.unwrap()).unwrap();
    assert!(inner.entry(b".git").unwrap().id.is_some() && inner.entry(b"file").is_some());
}

#[test]
fn a_second_capture_adds_only_what_changed() {
    let fixture = Fixture::new();
    for n in 0..50 {
        fixture.write(&format!("d{}/f{n}", n % 5), format!("content {n}"));
    }
    let first = fixture.capture();
    assert_eq!(first.objects_added, 50 + 5 + 1);
    assert_eq!(fixture.capture().objects_added, 0);

    fixture.write("d3/f3", "changed");
    let second = fixture.capture();
    assert_eq!(second.objects_added, 3, "one content and the two directories above it");
    let new = new_objects(&fixture.store, Some(first.tree), second.tree).unwrap();
    let new: Vec<_> =
        new.iter().map(|object| (object.role, object.path.to_str().unwrap())).collect();
    assert_eq!(
        new,
        [(ObjectRole::Tree, ""), (ObjectRole::Tree, "d3"), (ObjectRole::Content, "d3/f3")]
    );
    assert_eq!(new_objects(&fixture.store, None, second.tree).unwrap().len(), 56);
}

#[test]
fn the_users_ignore_file_and_excludes_leave_out_by_name() {
    let fixture = Fixture::new();
    fixture.write(".agentrecignore", "*.big\n!keep.big\n/data/\n");
    fixture.write("a.big", "1");
    fixture.write("keep.big", "2");
    fixture.write("data/x", "3");
    fixture.write("sub/data/x", "4");
    fixture.write("sub/cache.tmp", "5");
    let options = CaptureOptions { excludes: vec!["*.tmp".into()], ..CaptureOptions::default() };
    let capture = fixture.capture_with(&options);
    let expected = [
        ("a.big", LeftOut::Excluded),
        ("data", LeftOut::Excluded),
        ("sub/cache.tmp", LeftOut::Excluded),
    ];
    assert_eq!(left_out(&capture), expected);
    assert_eq!(fixture.tree(&capture).entry(b"a.big").unwrap().size, 1);
    assert_eq!(capture.files, 3);
}

#[test]
fn what_git_ignores_is_kept_and_marked() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.root.join(".git")).unwrap();
    fixture.write(".gitignore", "target/\n*.log\n");
    fixture.write("target/out", "1");
    fixture.write("run.log", "2");
    fixture.write("web/node_modules/m/index.js", "3");
    fixture.write("env/pyvenv.cfg", "4");
    fs::create_dir_all(fixture.root.join("nested/.git")).unwrap();
    fixture.write("nested/target/out", "5");
    let capture = fixture.capture();
    let ignored: Vec<_> = capture.ignored.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(ignored, ["env", "target", "web/node_modules"]);
    let new = new_objects(&fixture.store, None, capture.tree).unwrap();
    let kept_out: Vec<_> = new
        .iter()
        .filter(|object| object.ignored && object.role == ObjectRole::Content)
        .map(|object| object.path.to_str().unwrap())
        .collect();
    assert_eq!(kept_out, ["env/pyvenv.cfg", "target/out", "web/node_modules/m/index.js"]);
}

#[test]
fn a_copy_is_read_by_the_rules_of_the_original() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.root.join(".git")).unwrap();
    fixture.write(".gitignore", "/sub/out/\n");
    fs::create_dir(fixture.root.join("sub")).unwrap();
    let copy = fixture.home.work().join("copy");
    for path in ["out/x", "nested/.git/HEAD", "nested/out/x"] {
        let path = copy.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let options = CaptureOptions { seen_as: fixture.root.join("sub"), ..CaptureOptions::default() };
    let capture =
        capture_tree(&fixture.store, &copy, &options, &mut StatCache::in_memory()).unwrap();
    assert_eq!(capture.ignored, [Path::new("out")]);
}

#[test]
fn an_ignored_nested_repository_is_ignored() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.root.join(".git")).unwrap();
    fixture.write(".gitignore", "/vendor/\n");
    fixture.write("vendor/.git/HEAD", "x");
    assert_eq!(fixture.capture().ignored, [Path::new("vendor")]);
}

#[test]
fn secret_files_are_marked() {
    let fixture = Fixture::new();
    fixture.write(".env", "TOKEN=1");
    fixture.write("notes/key.txt", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n");
    fixture.write("plain.txt", "nothing");
    let capture = fixture.capture();
    assert_eq!(capture.secrets, [Path::new(".env"), Path::new("notes/key.txt")]);
    let new = new_objects(&fixture.store, None, capture.tree).unwrap();
    assert_eq!(new.iter().filter(|object| object.secret).count(), 2);
}

#[test]
fn a_diff_names_what_changed_and_how() {
    let fixture = Fixture::new();
    for name in ["content", "mode", "time", "gone", "kind", "same/file"] {
        fixture.write(name, name);
    }
    fixture.write("dir/inner", "x");
    let before = fixture.capture();
    let path = |name: &str| fixture.root.join(name);
    fixture.write("content", "other");
    fs::set_permissions(path("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::File::open(path("time")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::remove_file(path("gone")).unwrap();
    fs::remove_file(path("kind")).unwrap();
    symlink("x", path("kind")).unwrap();
    fs::rename(path("dir"), path("moved")).unwrap();
    let after = fixture.capture();
    let changes = diff_trees(&fixture.store, before.tree, after.tree).unwrap();
    let changes: Vec<_> =
        changes.iter().map(|change| (change.path.to_str().unwrap(), change.kind)).collect();
    let expected = [
        ("content", ChangeKind::Content),
        ("dir", ChangeKind::Deleted),
        ("dir/inner", ChangeKind::Deleted),
        ("gone", ChangeKind::Deleted),
        ("kind", ChangeKind::Type),
        ("mode", ChangeKind::Attributes),
        ("moved", ChangeKind::Added),
        ("moved/inner", ChangeKind::Added),
        ("time", ChangeKind::Time),
    ];
    assert_eq!(changes, expected);
    assert_eq!(diff_trees(&fixture.store, after.tree, after.tree).unwrap(), []);
}

#[test]
fn what_was_left_out_is_not_taken_for_deleted() {
    let fixture = Fixture::new();
    fixture.write("data/x", "1");
    fixture.write("big", "1");
    let before = fixture.capture();
    let excludes = vec!["data".into(), "big".into()];
    let after = fixture.capture_with(&CaptureOptions { excludes, ..CaptureOptions::default() });
    let changes = diff_trees(&fixture.store, before.tree, after.tree).unwrap();
    let changes: Vec<_> =
        changes.iter().map(|change| (change.path.to_str().unwrap(), change.kind)).collect();
    assert_eq!(changes, [("data", ChangeKind::Unknown)]);
}

#[test]
fn limits_and_the_recorders_own_files_are_listed() {
    let fixture = Fixture::new();
    fixture.write("large", vec![b'x'; 5000]);
    fixture.write("small", "x");
    fixture.write("trace.zst", "x");
    let trace = fs::metadata(fixture.root.join("trace.zst")).unwrap();
    let options = CaptureOptions {
        max_file: Some(4999),
        own: [FileId { dev: trace.dev(), ino: trace.ino() }].into(),
        ..CaptureOptions::default()
    };
    let capture = fixture.capture_with(&options);
    assert_eq!(
        left_out(&capture),
        [("large", LeftOut::TooLarge), ("trace.zst", LeftOut::Recorder)]
    );
}

#[test]
fn the_data_directory_inside_a_root_is_left_out() {
    let fixture = Fixture::new();
    let home = Home::new(fixture.root.join(".local/share/agentrec"));
    let store = Store::open(&home).unwrap();
    let options = CaptureOptions::default();
    let capture =
        capture_tree(&store, &fixture.root, &options, &mut StatCache::in_memory()).unwrap();
    assert_eq!(left_out(&capture), [(".local/share/agentrec", LeftOut::Recorder)]);
}

#[test]
fn the_cache_saves_reading_and_never_hides_a_change() {
    let fixture = Fixture::new();
    fixture.write("old", "one");
    let path = fixture.root.join("old");
    let options = CaptureOptions::default();
    let capture = |cache: &mut StatCache| {
        capture_tree(&fixture.store, &fixture.root, &options, cache).unwrap()
    };
    let mut cache = StatCache::load(&fixture.home, &fixture.root);
    assert_eq!(capture(&mut cache).files_read, 1);
    // Too fresh to be trusted, whatever the clock does: it is read again.
    assert_eq!(capture(&mut cache).files_read, 1);
    cache.save().unwrap();

    // Same length, and the old modification time put back: only the change time tells.
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "two").unwrap();
    fs::File::open(&path).unwrap().set_modified(before).unwrap();
    let mut cache = StatCache::load(&fixture.home, &fixture.root);
    let capture = capture(&mut cache);
    let entry = fixture.tree(&capture).entry(b"old").unwrap().clone();
    assert_eq!(fixture.store.get(&entry.id.unwrap()).unwrap().unwrap(), b"two");
}

#[test]
fn a_large_file_is_streamed_and_found_whole() {
    let fixture = Fixture::new();
    let mut content = vec![0_u8; 9 << 20];
    for (index, byte) in content.iter_mut().enumerate().step_by(97) {
        *byte = (index / 97) as u8;
    }
    fixture.write("large", &content);
    let capture = fixture.capture();
    let id = fixture.tree(&capture).entry(b"large").unwrap().id.unwrap();
    assert_eq!(fixture.store.get(&id).unwrap().unwrap(), content);
    let report = fixture.store.check().unwrap();
    assert!(report.objects > 10, "cut into chunks: {}", report.objects);
    assert_eq!((report.damaged.len(), report.foreign.len()), (0, 0));
}
