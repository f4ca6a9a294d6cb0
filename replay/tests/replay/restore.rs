//! Restores that can't or must not do everything: hostile trees, missing contents, interruptions, files in use.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use agentrec_replay::undo::{Target, carry_out, plan_in_place};
use agentrec_replay::{Error, MissingReason, Only, Restored, Sources, restore_new};
use agentrec_store::{
    CaptureOptions, CollectOptions, Entry, Home, Kind, LeftOut, Meta, Names, Objects, Operation,
    Operations, Store, Tree, new_objects,
};
use agentrec_trace::ObjectId;

use crate::common::{Fixture, TestSession, go_back, look};

fn file(name: &str, id: ObjectId) -> Entry {
    Entry { id: Some(id), meta: Meta { mode: 0o644, ..Meta::default() }, ..entry(name, Kind::File) }
}

fn entry(name: &str, kind: Kind) -> Entry {
    Entry { name: name.as_bytes().to_vec().into(), kind, ..Entry::default() }
}

fn put_tree(store: &Store, entries: Vec<Entry>) -> ObjectId {
    let meta = Meta { mode: 0o755, ..Meta::default() };
    store.put(&Tree { meta, entries }.encode()).unwrap()
}

fn restore(fixture: &Fixture, tree: ObjectId) -> agentrec_replay::Result<Restored> {
    restore_new(&Sources::store(&fixture.store), tree, &fixture.path("target"), None, None)
}

fn missing(restored: &Restored) -> Vec<(&str, MissingReason)> {
    restored.missing.iter().map(|m| (m.path.to_str().unwrap(), m.reason)).collect()
}

#[test]
fn names_that_lead_out_are_refused_before_anything_is_written_outside() {
    let fixture = Fixture::new();
    let content = fixture.store.put(b"evil").unwrap();
    for name in ["..", ".", "", "/tmp/evil", "../evil", "a/../../evil"] {
        let fixture = Fixture::new();
        fixture.store.put(b"evil").unwrap();
        let tree = put_tree(&fixture.store, vec![file(name, content)]);
        let error = restore(&fixture, tree).unwrap_err().to_string();
        assert!(error.contains("not a file name"), "{name}: {error}");
        assert!(!fixture.path("evil").exists());
    }
}

#[test]
fn a_name_is_not_a_link_and_a_directory_at_once() {
    let fixture = Fixture::new();
    let content = fixture.store.put(b"evil").unwrap();
    let outside = fixture.path("outside");
    fs::create_dir(&outside).unwrap();
    let inner = put_tree(&fixture.store, vec![file("evil", content)]);
    let target = Some(outside.as_os_str().as_bytes().to_vec().into());
    let link = Entry { target, ..entry("d", Kind::Symlink) };
    let dir = Entry { id: Some(inner), ..entry("d", Kind::Dir) };
    let tree = put_tree(&fixture.store, vec![link, dir]);
    let error = restore(&fixture, tree).unwrap_err().to_string();
    assert!(error.contains("there twice"), "{error}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn in_place_nothing_is_written_through_a_link_that_took_a_directorys_place() {
    let fixture = Fixture::new();
    fixture.write("d/file", "snapshot");
    let tree = fixture.capture().tree;
    let outside = fixture.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "not ours").unwrap();
    fs::remove_dir_all(fixture.root.join("d")).unwrap();
    symlink(&outside, fixture.root.join("d")).unwrap();

    let reader = fixture.trace("t.zst", &TestSession::default(), &[tree]);
    let options = CaptureOptions::default();
    go_back(&fixture.home, &reader, tree, &fixture.root, None, &options);
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"not ours");
    assert_eq!(fs::read(fixture.root.join("d/file")).unwrap(), b"snapshot");
}

#[test]
fn a_foreign_tree_grants_no_rights() {
    let fixture = Fixture::new();
    fixture.write("tool", "#!/bin/sh\n");
    fs::set_permissions(fixture.root.join("tool"), Permissions::from_mode(0o4755)).unwrap();
    let tree = fixture.capture().tree;
    let session = TestSession { with_contents: true, ..TestSession::default() };
    let reader = fixture.trace("t.zst", &session, &[tree]);

    let elsewhere = Store::open(&Home::new(fixture.path("elsewhere"))).unwrap();
    let sources = Sources::new(&reader, Some(&elsewhere));
    let restored = restore_new(&sources, tree, &fixture.path("foreign"), None, None).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&fixture.path("foreign/tool")), 0o755);
    assert_eq!(restored.not_set[0].what, "set-uid");

    restore_new(
        &Sources::new(&reader, Some(&fixture.store)),
        tree,
        &fixture.path("own"),
        None,
        None,
    )
    .unwrap();
    assert_eq!(mode(&fixture.path("own/tool")), 0o4755);
}

#[test]
fn what_can_not_be_restored_is_listed() {
    let fixture = Fixture::new();
    fixture.write("plain", "plain");
    fixture.write(".env", "KEY=1");
    fixture.write("node_modules/m/index.js", "x");
    fixture.write("data/big", "big");
    let _socket = std::os::unix::net::UnixListener::bind(fixture.root.join("socket")).unwrap();
    let options = CaptureOptions { excludes: vec!["data".into()], ..CaptureOptions::default() };
    let mut cache = agentrec_store::StatCache::in_memory();
    let tree = agentrec_store::capture_tree(&fixture.store, &fixture.root, &options, &mut cache)
        .unwrap()
        .tree;
    let session = TestSession { with_contents: true, ..TestSession::default() };
    let reader = fixture.trace("t.zst", &session, &[tree]);

    let target = fixture.path("here");
    let here = restore_new(&Sources::new(&reader, Some(&fixture.store)), tree, &target, None, None);
    let expected =
        [("data", MissingReason::LeftOut(LeftOut::Excluded)), ("socket", MissingReason::NotAFile)];
    assert_eq!(missing(&here.unwrap()), expected);

    let target = fixture.path("there");
    let there = restore_new(&Sources::new(&reader, None), tree, &target, None, None).unwrap();
    let expected = [
        (".env", MissingReason::Secret),
        ("data", MissingReason::LeftOut(LeftOut::Excluded)),
        ("node_modules", MissingReason::NotHere),
        ("socket", MissingReason::NotAFile),
    ];
    assert_eq!(missing(&there), expected);
    assert_eq!(fs::read(target.join("plain")).unwrap(), b"plain");
    assert!(!target.join(".env").exists());
}

/// Changes a byte of an object's body in its pack.
fn damage(fixture: &Fixture, id: ObjectId) {
    /// Behind the record's header and the head of the zstd frame.
    const INSIDE: usize = 45 + 9;
    let (path, at) = fixture.store.locate(&id).unwrap().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[at as usize + INSIDE] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn what_is_damaged_in_the_store_comes_from_the_trace() {
    let fixture = Fixture::new();
    fixture.write("file", "sound");
    let tree = fixture.capture().tree;
    let with_contents = TestSession { with_contents: true, ..TestSession::default() };
    let reader = fixture.trace("trace.zst", &with_contents, &[tree]);
    for id in [ObjectId::of(b"sound"), tree] {
        damage(&fixture, id);
    }
    assert_eq!(fixture.store.check().unwrap().damaged.len(), 2);
    let target = fixture.path("target");
    let sources = Sources::new(&reader, Some(&fixture.store));
    let restored = restore_new(&sources, tree, &target, None, None).unwrap();
    assert_eq!(missing(&restored), []);
    assert_eq!(fs::read(target.join("file")).unwrap(), b"sound");
}

#[test]
fn a_damaged_object_is_listed_and_its_file_not_made() {
    let fixture = Fixture::new();
    fixture.write("good", "good");
    fixture.write("bad", "bad");
    let tree = fixture.capture().tree;
    damage(&fixture, ObjectId::of(b"bad"));
    assert_eq!(fixture.store.check().unwrap().damaged, [ObjectId::of(b"bad")]);

    let restored = restore(&fixture, tree).unwrap();
    assert_eq!(missing(&restored), [("bad", MissingReason::Damaged)]);
    assert!(!fixture.path("target/bad").exists());
    assert!(fixture.path("target/good").exists());
}

#[test]
fn an_interrupted_restore_is_recognised_and_nothing_is_overwritten() {
    let fixture = Fixture::new();
    fixture.write("a", "a");
    let tree = fixture.capture().tree;
    fs::create_dir(fixture.path("target.partial")).unwrap();
    assert!(matches!(restore(&fixture, tree), Err(Error::Partial { .. })));
    fs::remove_dir(fixture.path("target.partial")).unwrap();

    fs::create_dir(fixture.path("target")).unwrap();
    restore(&fixture, tree).expect("an empty directory is as good as none");
    assert!(matches!(restore(&fixture, tree), Err(Error::Exists { .. })));
    let link = fixture.path("link");
    symlink(fixture.path("nowhere"), &link).unwrap();
    let sources = Sources::store(&fixture.store);
    assert!(matches!(restore_new(&sources, tree, &link, None, None), Err(Error::Exists { .. })));
}

#[test]
fn only_restores_what_is_meant() {
    let fixture = Fixture::new();
    for path in ["src/a.rs", "src/deep/b.rs", "docs/c.md", "docs/img/d.png", "e.md"] {
        fixture.write(path, path);
    }
    let tree = fixture.capture().tree;
    let only = Only::new(&["src", "docs/*.md"]).unwrap();
    let target = fixture.path("target");
    restore_new(&Sources::store(&fixture.store), tree, &target, Some(&only), None).unwrap();
    let found: Vec<_> =
        look(&target).into_keys().filter_map(|p| Some(p.to_str()?.to_owned())).collect();
    assert_eq!(found, ["", "docs", "docs/c.md", "src", "src/a.rs", "src/deep", "src/deep/b.rs"]);
}

#[test]
fn in_place_keeps_what_was_not_saved() {
    let fixture = Fixture::new();
    fixture.write("a", "old");
    fixture.write("cache.d", "old");
    let tree = fixture.capture().tree;
    fixture.write("a", "new");
    fs::remove_file(fixture.root.join("cache.d")).unwrap();
    fixture.write("cache.d/inner", "excluded, and of another kind now");
    fixture.write("cache.new", "excluded");
    fixture.write("later/c", "new");
    fixture.write("later/cache/big", "big");
    let reader = fixture.trace("t.zst", &TestSession::default(), &[tree]);
    let options = CaptureOptions { excludes: vec!["cache*".into()], ..CaptureOptions::default() };
    let back = go_back(&fixture.home, &reader, tree, &fixture.root, None, &options);
    assert_eq!(fs::read(fixture.root.join("a")).unwrap(), b"old");
    assert!(!fixture.root.join("later/c").exists());
    assert_eq!(fs::read(fixture.root.join("later/cache/big")).unwrap(), b"big");
    assert!(fixture.root.join("cache.new").exists() && fixture.root.join("cache.d/inner").exists());
    assert_eq!(back.missing(&fixture.root), [("later", MissingReason::NotEmpty)]);
    let saved = Tree::load(&fixture.store, back.saved).unwrap();
    let a = saved.entry(b"a").unwrap().id.unwrap();
    assert_eq!(fixture.store.get(&a).unwrap().unwrap(), b"new");
}

#[test]
fn in_place_nothing_is_replaced_that_the_store_has_lost_since_it_was_saved() {
    let fixture = Fixture::new();
    fixture.write("a", "old");
    let tree = fixture.capture().tree;
    fixture.write("a", "new");
    let reader = fixture.trace("t.zst", &TestSession::default(), &[tree]);
    let sources = Sources::new(&reader, Some(&fixture.store));
    let options = CaptureOptions::default();
    let target = Target { root: fixture.root.clone(), tree, options };
    let plan =
        plan_in_place(&fixture.store, &fixture.home, &sources, &[target], None).unwrap().plan;

    fs::remove_dir_all(fixture.home.data().join("saved")).unwrap();
    let traces = vec![fixture.path("t.zst")];
    let mut names = || Ok(Names { traces: traces.clone(), files: Vec::new() });
    let all = CollectOptions { remove: true, ..CollectOptions::default() };
    let elsewhere = Store::open(&fixture.home).unwrap();
    assert!(elsewhere.collect(&mut names, &all).unwrap().objects > 0);

    let log = Operations::open(&fixture.home).unwrap();
    let done =
        carry_out(&fixture.store, &log, &sources, plan, Operation::default(), None).unwrap_err();
    assert!(matches!(&done, Error::NotSaved { path } if path.ends_with("root/a")), "{done}");
    assert_eq!(fs::read(fixture.root.join("a")).unwrap(), b"new");
    assert_eq!(Operations::list(&fixture.home).unwrap().0, []);
}

#[test]
fn in_place_with_only_touches_nothing_else() {
    let fixture = Fixture::new();
    fixture.write("a", "old");
    fixture.write("b", "old");
    let tree = fixture.capture().tree;
    fixture.write("a", "new");
    fixture.write("b", "new");
    let reader = fixture.trace("t.zst", &TestSession::default(), &[tree]);
    let only = Only::new(&["a"]).unwrap();
    let options = CaptureOptions::default();
    go_back(&fixture.home, &reader, tree, &fixture.root, Some(&only), &options);
    assert_eq!(fs::read(fixture.root.join("a")).unwrap(), b"old");
    assert_eq!(fs::read(fixture.root.join("b")).unwrap(), b"new");
}

#[test]
fn in_place_one_refusal_does_not_stop_the_rest() {
    let fixture = Fixture::new();
    fixture.write("closed/a", "old");
    fixture.write("b", "old");
    let tree = fixture.capture().tree;
    fixture.write("closed/a", "new");
    fixture.write("b", "new");
    fixture.trace("t.zst", &TestSession::default(), &[tree]);
    let closed = fixture.root.join("closed");
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "restore::refused_where_asked_to", "--nocapture"])
        .env(REFUSED, format!("{} {tree}", fixture.dir.path().display()));
    if nix::unistd::geteuid().is_root() {
        // Root may write anywhere.
        let chown =
            Command::new("chown").args(["-R", "65534:65534"]).arg(fixture.dir.path()).status();
        assert!(chown.unwrap().success());
        command.uid(65534).gid(65534);
    }
    let output = match command.output() {
        // The program lies where only root may read.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return,
        other => other.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(fixture.root.join("b")).unwrap(), b"old");
    assert_eq!(fs::read(closed.join("a")).unwrap(), b"new");
}

/// Set for the copy of this program that may not write everywhere: the fixture's directory and the tree.
const REFUSED: &str = "REPLAY_TEST_REFUSED";

/// Not a test of its own: what the copy does.
#[test]
fn refused_where_asked_to() {
    let Ok(what) = std::env::var(REFUSED) else { return };
    let (dir, tree) = what.split_once(' ').unwrap();
    let dir = Path::new(dir);
    let (home, root) = (Home::new(dir.join("home")), dir.join("root"));
    let reader = agentrec_trace::Reader::open(dir.join("t.zst")).unwrap();
    let tree = tree.parse().unwrap();
    let back = go_back(&home, &reader, tree, &root, None, &CaptureOptions::default());
    assert!(Store::open(&home).unwrap().contains(&back.saved).unwrap());
    assert_eq!(back.missing(&root), [("closed/a", MissingReason::Refused)]);
}

#[test]
fn holes_stay_holes() {
    let fixture = Fixture::new();
    let path = fixture.root.join("sparse");
    fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    if fs::metadata(&path).unwrap().blocks() > 0 {
        return; // A file system without holes has nothing to keep.
    }
    let tree = fixture.capture().tree;
    assert_eq!(new_objects(&fixture.store, None, tree).unwrap()[1].size, 64 << 20);
    restore(&fixture, tree).unwrap();
    let restored = fs::metadata(fixture.path("target/sparse")).unwrap();
    assert_eq!((restored.len(), restored.blocks()), (64 << 20, 0));
}

#[test]
fn a_file_name_that_is_not_text_comes_back() {
    let fixture = Fixture::new();
    let name = OsStr::from_bytes(b"\xff\xfe\n\x1b[31m");
    fs::write(fixture.root.join(name), "x").unwrap();
    let tree = fixture.capture().tree;
    restore(&fixture, tree).unwrap();
    assert_eq!(fs::read(fixture.path("target").join(name)).unwrap(), b"x");
}
