//! What a restore in place and apply read before they replace anything.

use std::fs;
use std::path::{Path, PathBuf};

use agentrec_replay::undo::{Target, plan_in_place};
use agentrec_replay::{Edits, Sources, plan_apply};
use agentrec_store::{CaptureOptions, StatCache, Tree, capture_tree};
use agentrec_trace::ObjectId;

use crate::common::{Fixture, TestSession};
use crate::resume::{in_copy, resume};

/// Captures as a recorder does, until its stat cache knows every file, and returns the cache's file.
fn known(fixture: &Fixture) -> PathBuf {
    let options = CaptureOptions { max_file: Some(1 << 31), ..CaptureOptions::default() };
    loop {
        let mut cache = StatCache::load(&fixture.home, &fixture.root);
        let capture = capture_tree(&fixture.store, &fixture.root, &options, &mut cache).unwrap();
        cache.save().unwrap();
        // What changed shortly before is not believed yet.
        if capture.files_read == 0 {
            let mut caches = fs::read_dir(fixture.home.cache()).unwrap();
            return caches.next().unwrap().unwrap().path();
        }
    }
}

/// Has the cache say of the file with `content` that it holds another one: as if it had been written to through a map, its times are
/// those of what was there before.
fn believe(cache: &Path, content: &[u8], other: ObjectId) {
    let mut body = fs::read(cache).unwrap().split_off(32);
    let id = ObjectId::of(content);
    let at = body.windows(32).position(|bytes| bytes == id.0).unwrap();
    body[at..at + 32].copy_from_slice(&other.0);
    fs::write(cache, [ObjectId::of(&body).0.as_slice(), &body].concat()).unwrap();
}

fn saved(fixture: &Fixture, tree: ObjectId, name: &[u8]) -> ObjectId {
    Tree::load(&fixture.store, tree).unwrap().entry(name).unwrap().id.unwrap()
}

#[test]
fn in_place_reads_nothing_that_did_not_change_but_what_it_replaces() {
    let fixture = Fixture::new();
    fixture.write("same", "same");
    fixture.write("a", "old");
    let tree = fixture.capture().tree;
    fixture.write("a", "new");
    let reader = fixture.trace("t.zst", &TestSession::default(), &[tree]);
    let sources = Sources::new(&reader, Some(&fixture.store));
    let options = CaptureOptions::default();
    let target = [Target { root: fixture.root.clone(), tree, options }];
    let cache = known(&fixture);
    let before = fs::read(&cache).unwrap();
    let plan = || plan_in_place(&fixture.store, &fixture.home, &sources, &target, None).unwrap();
    assert_eq!(plan().files_read, 0);
    assert_eq!(fs::read(&cache).unwrap(), before, "it is the recorder's");

    let stale = fixture.store.put(b"stale").unwrap();
    believe(&cache, b"new", stale);
    let mut believed = StatCache::load(&fixture.home, &fixture.root);
    let options = CaptureOptions::default();
    let believed =
        capture_tree(&fixture.store, &fixture.root, &options, &mut believed).unwrap().tree;
    assert_eq!(saved(&fixture, believed, b"a"), stale);
    let planned = plan();
    assert_eq!(saved(&fixture, planned.saved[0], b"a"), ObjectId::of(b"new"));
    assert_eq!(planned.files_read, 2);
}

#[test]
fn apply_reads_at_home_what_it_replaces_and_nothing_else_that_did_not_change() {
    let fixture = Fixture::new();
    fixture.write("same", "same");
    fixture.write("a", "old");
    let reader = fixture.trace("t.zst", &TestSession::default(), &[fixture.capture().tree]);
    let resumed = resume(&fixture, &reader, "childaaa", &Edits::default());
    fs::write(in_copy(&resumed, "a"), "from the copy").unwrap();
    fixture.write("a", "typed");
    let cache = known(&fixture);
    let stale = fixture.store.put(b"stale").unwrap();
    let root = || {
        let plan = plan_apply(&fixture.store, &fixture.home, "childaaa", &[]).unwrap();
        plan.roots.into_iter().next().unwrap()
    };
    // It was not read: nothing else can have told so.
    believe(&cache, b"same", stale);
    assert_eq!(saved(&fixture, root().saved, b"same"), stale);
    believe(&cache, b"typed", stale);
    let root = root();
    assert_eq!(saved(&fixture, root.saved, b"a"), ObjectId::of(b"typed"));
    assert_eq!(saved(&fixture, root.saved, b"same"), ObjectId::of(b"same"));
    assert_eq!(root.conflicts.len(), 1);
}
