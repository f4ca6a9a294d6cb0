//! Snapshots of what changed: whatever a process does to its tree, they hold what a walk over all of it finds.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use agentrec_recorder::control::Client;
use agentrec_store::{
    CaptureOptions, Home, Objects, StatCache, Store, Tree, capture_tree, diff_trees,
};
use agentrec_trace::event::SnapshotCreated;
use agentrec_trace::{Data, ObjectId};

use super::harness::{Ended, Place, losses};

/// Seeds, from `AGENTREC_SEEDS` (`FROM..TO`) where somebody wants others.
fn seeds(default: std::ops::Range<u32>) -> std::ops::Range<u32> {
    let Ok(wanted) = std::env::var("AGENTREC_SEEDS") else { return default };
    let (from, to) = wanted.split_once("..").expect("FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

fn snapshots(ended: &Ended) -> Vec<SnapshotCreated<'static>> {
    let snapshot = |event: agentrec_trace::Event<'static>| match event.data {
        Data::SnapshotCreated(snapshot) => Some(snapshot),
        _ => None,
    };
    ended.events().into_iter().filter_map(snapshot).collect()
}

/// The tree as somebody finds it who looks at everything.
fn whole(store: &Store, root: &Path) -> ObjectId {
    let options = CaptureOptions::default();
    capture_tree(store, root, &options, &mut StatCache::in_memory()).unwrap().tree
}

/// Where two trees differ, for people.
fn differences(stores: [&Store; 2], ids: [ObjectId; 2], path: &Path, out: &mut Vec<String>) {
    let [a, b] = [0, 1].map(|n| Tree::load(stores[n], ids[n]).unwrap());
    if a.meta != b.meta {
        out.push(format!("{}: {:?}, there is {:?}", path.display(), a.meta, b.meta));
    }
    let names: BTreeSet<_> = a.entries.iter().chain(&b.entries).map(|e| e.name.clone()).collect();
    // SQLite's index of its log is mapped, and changes without its times; SQLite makes it anew.
    for name in names.into_iter().filter(|name| !name.ends_with(b"-shm")) {
        let path = path.join(String::from_utf8_lossy(&name).into_owned());
        match (a.entry(&name), b.entry(&name)) {
            (a, b) if a == b => {}
            (Some(a), Some(b)) if a.is_dir() && b.is_dir() && a.ignored == b.ignored => {
                match (a.id, b.id) {
                    (Some(a), Some(b)) => differences(stores, [a, b], &path, out),
                    _ => out.push(format!("{}: {a:?}, there is {b:?}", path.display())),
                }
            }
            (a, b) => out.push(format!("{}: {a:?}\n    there is {b:?}", path.display())),
        }
    }
}

fn shuffle(options: &[&str], seed: u32, rounds: usize) -> (usize, usize) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/session/shuffle.py");
    let place = Place::new().with(options);
    place.write("a/b/c", "content");
    place.write("d/e", "content");
    let seed_text = seed.to_string();
    let argv = ["python3", script.to_str().unwrap(), &seed_text];
    let mut running = place.start(&argv);
    let other = Store::open(&Home::new(place.path("other"))).unwrap();
    let root = place.path("tree").canonicalize().unwrap();
    let (mut expected, mut done) = (Vec::new(), Vec::new());
    let mut client: Option<Client> = None;
    for round in 0..rounds {
        writeln!(running.stdin.as_mut().unwrap(), "{}", 1 + (round * 7) % 23).unwrap();
        done.push(running.line());
        if done[round].is_empty() {
            panic!("seed {seed}: the script ended: {}", running.end().stderr);
        }
        let client = client.get_or_insert_with(|| Client::connect(&place.socket()).unwrap());
        client.snapshot(&format!("round {round}")).unwrap();
        expected.push(whole(&other, &root));
    }
    drop(client);
    let ended = running.end();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let store = Store::open(&Home::new(&place.home)).unwrap();
    let taken = snapshots(&ended);
    let mut partial = 0;
    for (round, expected) in expected.iter().enumerate() {
        let wanted = format!("round {round}");
        let snapshot = taken.iter().find(|it| it.description == wanted).unwrap();
        partial += usize::from(snapshot.partial);
        let found = snapshot.roots[0].tree;
        if found != *expected {
            let mut out = Vec::new();
            differences([&store, &other], [found, *expected], Path::new(""), &mut out);
            if out.is_empty() {
                continue;
            }
            panic!(
                "seed {seed}, round {round} (partial: {}):\n{}\nsteps: {}\nlost: {:?}",
                snapshot.partial,
                out.join("\n"),
                done[round],
                losses(&ended.events()),
            );
        }
    }
    (partial, rounds)
}

fn shuffle_all(options: &[&str], seeds: std::ops::Range<u32>) {
    let (mut partial, mut all) = (0, 0);
    for seed in seeds {
        let (by_changes, rounds) = shuffle(options, seed, 24);
        eprintln!("seed {seed}: {by_changes} of {rounds} by changes");
        partial += by_changes;
        all += rounds;
    }
    assert!(2 * partial > all, "{partial} of {all} snapshots were taken by what changed");
}

#[test]
fn whatever_is_done_a_snapshot_of_changes_holds_all_of_it() {
    shuffle_all(&[], seeds(1..4));
}

#[test]
#[ignore = "needs root"]
fn root_whatever_is_done_a_snapshot_of_changes_holds_all_of_it_by_ebpf() {
    shuffle_all(&["--ebpf"], seeds(105..108));
}

#[test]
fn what_others_change_is_found_at_the_end_or_by_a_rescan() {
    for (options, at_once) in [(&[][..], false), (&["--rescan"][..], true)] {
        let place = Place::new().with(options);
        place.write("theirs", "old");
        place.write("d/own", "old");
        let mut running = place.start(&["sh", "-c", "echo new > d/own; echo done; read line"]);
        assert_eq!(running.line(), "done");
        place.write("theirs", "changed by somebody else");
        Client::connect(&place.socket()).unwrap().snapshot("between").unwrap();
        let ended = running.end();
        let taken = snapshots(&ended);
        let [start, between, end] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!((start.partial, between.partial, end.partial), (false, !at_once, false));
        let store = Store::open(&Home::new(&place.home)).unwrap();
        let changed = |from: &SnapshotCreated<'_>, to: &SnapshotCreated<'_>| {
            let changes = diff_trees(&store, from.roots[0].tree, to.roots[0].tree).unwrap();
            changes.into_iter().map(|change| change.path).collect::<Vec<_>>()
        };
        assert_eq!(changed(start, between).contains(&"theirs".into()), at_once);
        assert!(changed(start, between).contains(&"d/own".into()));
        assert!(changed(start, end).contains(&"theirs".into()));
    }
}

/// Renames a directory in which somebody else changed a file: who looks at it again finds that.
fn rename_a_directory(options: &[&str]) {
    let place = Place::new().with(options);
    for n in 0..20 {
        place.write(&format!("old/d{n}/f"), "content");
    }
    place.write("real/f", "content");
    std::os::unix::fs::symlink("../real", place.path("tree/old/link")).unwrap();
    // The recording begins in a later tick of the clock that files are stamped with.
    let made = place.path("tree/old").metadata().unwrap().created().unwrap();
    while made.elapsed().is_ok_and(|age| age < Duration::from_millis(20)) {
        std::thread::yield_now();
    }
    let script = "echo up; read line; echo new > old/d1/f; echo new > old/link/f; mv old between; \
                  echo new > between/d2/f; mv between new; mv new/d3 real; echo new > new/d4/f; echo done; read line";
    let mut running = place.start(&["sh", "-c", script]);
    assert_eq!(running.line(), "up");
    let mut client = Client::connect(&place.socket()).unwrap();
    place.write("old/d5/f", "changed by somebody else");
    writeln!(running.stdin.as_mut().unwrap()).unwrap();
    assert_eq!(running.line(), "done");
    client.snapshot("between").unwrap();
    drop(client);
    let ended = running.end();
    let taken = snapshots(&ended);
    let [start, between, end] = &taken[..] else { panic!("{taken:?}") };
    assert!(between.partial, "{:?}", losses(&ended.events()));
    assert_eq!(start.roots[0].files, between.roots[0].files);
    let store = Store::open(&Home::new(&place.home)).unwrap();
    let content = |snapshot: &SnapshotCreated<'_>, path: &str| {
        let mut id = snapshot.roots[0].tree;
        for name in Path::new(path) {
            let tree = Tree::load(&store, id).unwrap();
            id = tree
                .entry(name.as_encoded_bytes())
                .unwrap_or_else(|| panic!("no {path}"))
                .id
                .unwrap();
        }
        String::from_utf8(store.get(&id).unwrap().unwrap()).unwrap()
    };
    for path in ["new/d1/f", "real/f", "new/d2/f", "new/d4/f"] {
        assert_eq!(content(between, path), "new\n", "{path}");
    }
    assert_eq!(content(between, "real/d3/f"), "content");
    assert_eq!(content(between, "new/d5/f"), "content", "nobody looked at it");
    assert_eq!(content(end, "new/d5/f"), "changed by somebody else");
}

#[test]
fn a_renamed_directory_is_not_looked_at_again() {
    rename_a_directory(&[]);
}

#[test]
#[ignore = "needs root"]
fn root_a_renamed_directory_is_not_looked_at_again_by_ebpf() {
    rename_a_directory(&["--ebpf"]);
}
