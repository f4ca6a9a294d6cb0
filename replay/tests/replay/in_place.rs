//! What a restore in place reads before it replaces anything.

use std::fs;
use std::path::PathBuf;

use agentrec_replay::Sources;
use agentrec_replay::undo::{Target, plan_in_place};
use agentrec_store::{CaptureOptions, StatCache, Tree, capture_tree};
use agentrec_trace::ObjectId;

use crate::common::{Fixture, TestSession};

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

    // As if the file had been written to through a map: its times are those of another content.
    let stale = fixture.store.put(b"stale").unwrap();
    let mut body = before[32..].to_vec();
    let new = ObjectId::of(b"new");
    let at = body.windows(32).position(|bytes| bytes == new.0).unwrap();
    body[at..at + 32].copy_from_slice(&stale.0);
    let patched = [ObjectId::of(&body).0.as_slice(), &body].concat();
    fs::write(&cache, patched).unwrap();
    let mut believed = StatCache::load(&fixture.home, &fixture.root);
    let options = CaptureOptions::default();
    let believed =
        capture_tree(&fixture.store, &fixture.root, &options, &mut believed).unwrap().tree;
    let saved = |tree| Tree::load(&fixture.store, tree).unwrap().entry(b"a").unwrap().id.unwrap();
    assert_eq!(saved(believed), stale);
    let planned = plan();
    assert_eq!(saved(planned.saved[0]), new);
    assert_eq!(planned.files_read, 2);
}
