//! Packs, chunks, and the removal of what nothing names.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use agentrec_store::{
    CaptureOptions, CollectOptions, Collected, Home, Names, Objects, StatCache, Store,
    capture_tree, new_objects,
};
use agentrec_trace::event::{RootTree, SessionStart, SnapshotCreated};
use agentrec_trace::{Event, ObjectId, SnapshotIndex, Source, Writer, WriterOptions};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Home::new(dir.path().join("home"))).unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        Self { dir, store }
    }

    fn home(&self) -> Home {
        Home::new(self.dir.path().join("home"))
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn capture(&self) -> ObjectId {
        let options = CaptureOptions::default();
        capture_tree(&self.store, &self.root(), &options, &mut StatCache::in_memory()).unwrap().tree
    }

    /// A trace with one snapshot.
    fn trace(&self, name: &str, tree: ObjectId) -> PathBuf {
        let path = self.dir.path().join(name);
        write_trace(&path, &self.root(), tree);
        path
    }

    fn packs(&self) -> Vec<PathBuf> {
        let dir = self.home().objects().join("packs");
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn collect(&self, traces: &[PathBuf], options: CollectOptions) -> Collected {
        let mut names = || Ok(Names { traces: traces.to_vec(), files: Vec::new() });
        self.store.collect(&mut names, &options).unwrap()
    }
}

fn write_trace(path: &Path, root: &Path, tree: ObjectId) {
    let mut writer = Writer::new(Vec::new(), WriterOptions::default()).unwrap();
    writer.append(&Event::new(1, Source::Recorder, SessionStart::default())).unwrap();
    let root = RootTree { path: root.into(), tree, ..RootTree::default() };
    let created =
        SnapshotCreated { index: SnapshotIndex(1), roots: vec![root], ..Default::default() };
    writer.append(&Event::new(2, Source::Recorder, created)).unwrap();
    writer.seal().unwrap();
    let part = path.with_extension("part");
    fs::write(&part, writer.into_inner()).unwrap();
    fs::rename(part, path).unwrap();
}

fn remove_all() -> CollectOptions {
    CollectOptions { remove: true, ..CollectOptions::default() }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn many_objects_are_few_files_and_another_process_reads_them() {
    let fixture = Fixture::new();
    for n in 0..3000 {
        fs::write(fixture.root().join(format!("f{n}")), noise(n, 2000)).unwrap();
    }
    let tree = fixture.capture();
    assert_eq!(fixture.packs().len(), 1);
    let other = Store::open(&fixture.home()).unwrap();
    for object in new_objects(&other, None, tree).unwrap() {
        assert!(other.get(&object.id).unwrap().is_some());
    }
    assert_eq!(fixture.store.check().unwrap().objects, 3001);
}

#[test]
fn what_earlier_versions_stored_in_files_of_their_own_is_still_there() {
    let fixture = Fixture::new();
    let id = ObjectId::of(b"old");
    let name = id.to_string();
    let path = fixture.home().objects().join(&name[..2]).join(&name[2..]);
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, zstd::bulk::compress(b"old", 1).unwrap()).unwrap();
    let store = Store::open(&fixture.home()).unwrap();
    assert_eq!(store.get(&id).unwrap().unwrap(), b"old");
    store.put(b"old").unwrap();
    assert_eq!(fixture.packs(), [] as [PathBuf; 0], "it is not stored again");
    let report = store.check().unwrap();
    assert_eq!((report.objects, report.damaged, report.foreign), (1, vec![], vec![]));

    let fixture = Fixture { store, ..fixture };
    fixture.collect(&[], remove_all());
    assert!(!path.exists());
    fs::write(&path, b"damaged").unwrap();
    assert_eq!(Store::open(&fixture.home()).unwrap().check().unwrap().damaged, [id]);
}

#[test]
fn a_change_in_a_large_file_costs_a_chunk() {
    let fixture = Fixture::new();
    let mut content = noise(7, 12 << 20);
    let first = fixture.store.put(&content).unwrap();
    let before = fixture.store.stats().unwrap();
    content.splice(5 << 20..5 << 20, *b"put in");
    let second = fixture.store.put(&content).unwrap();
    let after = fixture.store.stats().unwrap();
    assert!(after.stored_bytes - before.stored_bytes < 3 << 20, "{before:?} {after:?}");
    assert_eq!(after.cut, 2);
    assert_eq!(fixture.store.get(&second).unwrap().unwrap(), content);
    assert_ne!(first, second);
}

#[test]
fn small_packs_are_merged_and_who_knew_them_finds_the_objects() {
    let fixture = Fixture::new();
    let other = Store::open(&fixture.home()).unwrap();
    let mut ids = Vec::new();
    for n in 0..200_u32 {
        ids.push(fixture.store.put(&n.to_le_bytes()).unwrap());
        if n == 40 {
            assert!(other.contains(&ids[0]).unwrap());
        }
    }
    assert!(fixture.packs().len() < 70, "{}", fixture.packs().len());
    for store in [&fixture.store, &other] {
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(store.get(id).unwrap().unwrap(), (n as u32).to_le_bytes());
        }
    }
    assert_eq!(fixture.store.check().unwrap().objects, 200);
}

#[test]
fn what_nothing_names_goes_and_what_a_snapshot_names_stays() {
    let fixture = Fixture::new();
    let large = fixture.root().join("large");
    fs::write(&large, noise(1, 3 << 20)).unwrap();
    let first = fixture.capture();
    fs::write(&large, noise(2, 3 << 20)).unwrap();
    fs::write(fixture.root().join("small"), "small").unwrap();
    let second = fixture.capture();
    let traces = [fixture.trace("trace.zst", second)];

    let would = fixture.collect(&traces, CollectOptions::default());
    assert!(would.objects > 2 && would.after < would.before, "{would:?}");
    assert!(fixture.store.contains(&first).unwrap(), "nothing goes before it is asked for");
    let young = CollectOptions { min_age: Duration::from_secs(600), ..remove_all() };
    assert_eq!(fixture.collect(&traces, young).objects, 0);
    let fits = CollectOptions { max_size: Some(1 << 30), ..remove_all() };
    assert_eq!(fixture.collect(&traces, fits).objects, 0);

    let other = Store::open(&fixture.home()).unwrap();
    assert!(other.contains(&first).unwrap());
    assert_eq!(fixture.collect(&traces, remove_all()).objects, would.objects);
    for store in [&fixture.store, &other] {
        let _hold = store.hold().unwrap();
        assert!(!store.contains(&first).unwrap());
        for object in new_objects(store, None, second).unwrap() {
            assert!(store.get(&object.id).unwrap().is_some(), "{}", object.path.display());
        }
    }
    let report = fixture.store.check_with(&traces).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(fixture.collect(&traces, remove_all()).objects, 0);
}

#[test]
fn the_oldest_go_first_until_the_rest_fits() {
    let fixture = Fixture::new();
    for n in 0..3 {
        fixture.store.put(&noise(n, 100_000)).unwrap();
        let pack =
            fixture.packs().into_iter().max_by_key(|p| p.metadata().unwrap().modified().unwrap());
        let age = Duration::from_secs(1000 * (10 - n));
        let file = fs::File::options().write(true).open(pack.unwrap()).unwrap();
        file.set_modified(std::time::SystemTime::now() - age).unwrap();
    }
    let fits = CollectOptions { max_size: Some(250_000), ..remove_all() };
    assert_eq!(fixture.collect(&[], fits).objects, 1);
    let left =
        [0, 1, 2].map(|n| fixture.store.contains(&ObjectId::of(&noise(n, 100_000))).unwrap());
    assert_eq!(left, [false, true, true]);
}

#[test]
fn an_operation_of_undo_keeps_what_it_names() {
    let fixture = Fixture::new();
    let (named, other) =
        (fixture.store.put(b"named").unwrap(), fixture.store.put(b"other").unwrap());
    let file = fixture.dir.path().join("1.op");
    let bytes = rmp_serde::to_vec_named(&[Some(named)]).unwrap();
    fs::write(&file, bytes).unwrap();
    let mut names = || Ok(Names { files: vec![file.clone()], ..Names::default() });
    fixture.store.collect(&mut names, &remove_all()).unwrap();
    assert!(fixture.store.contains(&named).unwrap());
    assert!(!fixture.store.contains(&other).unwrap());
}

#[test]
fn what_was_saved_before_it_was_overwritten_stays() {
    let fixture = Fixture::new();
    fs::write(fixture.root().join("file"), "saved").unwrap();
    let saved = fixture.capture();
    fixture.store.pin(&saved).unwrap();
    fs::write(fixture.root().join("file"), "other").unwrap();
    fixture.capture();
    assert_eq!(fixture.collect(&[], remove_all()).objects, 2);
    let there = |content: &[u8]| fixture.store.contains(&ObjectId::of(content)).unwrap();
    assert!(there(b"saved") && !there(b"other"));
}

#[test]
fn a_check_names_what_a_snapshot_misses() {
    let fixture = Fixture::new();
    fs::write(fixture.root().join("file"), "content").unwrap();
    let trace = fixture.trace("trace.zst", fixture.capture());
    let (pack, at) = fixture.store.locate(&ObjectId::of(b"content")).unwrap().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[at as usize + 50] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    let report = fixture.store.check_with(std::slice::from_ref(&trace)).unwrap();
    assert_eq!(report.damaged, [ObjectId::of(b"content")]);

    // Without its index nothing in the pack is found.
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::File::create(&pack).unwrap().write_all(&bytes).unwrap();
    let report =
        Store::open(&fixture.home()).unwrap().check_with(std::slice::from_ref(&trace)).unwrap();
    assert_eq!((report.damaged_packs, report.missing.len()), (vec![pack], 1));
    assert_eq!(report.missing[0].path, fixture.root());
    fs::write(&trace, "no trace").unwrap();
    assert_eq!(fixture.store.check_with(&[trace]).unwrap().unreadable.len(), 1);
}

#[test]
fn recorders_and_collectors_meet() {
    let fixture = Fixture::new();
    let traces = fixture.dir.path().join("traces");
    fs::create_dir(&traces).unwrap();
    let done = AtomicBool::new(false);
    let listed = || -> Vec<PathBuf> {
        let all = fs::read_dir(&traces).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.extension().is_some_and(|e| e == "zst")).collect()
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let store = Store::open(&fixture.home()).unwrap();
            while !done.load(Ordering::Relaxed) {
                let mut names = || Ok(Names { traces: listed(), files: Vec::new() });
                store.collect(&mut names, &remove_all()).unwrap();
            }
        });
        // Also where an assertion fails, or the thread would never end.
        let _done = Done(&done);
        for round in 0..60_u64 {
            // The same contents come again after nothing named them any more.
            for n in 0..20 {
                fs::write(fixture.root().join(format!("f{n}")), noise(round % 3 + n, 3000))
                    .unwrap();
            }
            let hold = fixture.store.hold().unwrap();
            let tree = fixture.capture();
            write_trace(&traces.join("last.zst"), &fixture.root(), tree);
            drop(hold);
            let report = fixture.store.check_with(&listed()).unwrap();
            assert!(report.is_sound(), "round {round}: {report:?}");
        }
    });
}

/// Says that it is over when it goes.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
