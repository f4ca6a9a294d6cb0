//! What snapshots hold, and what of it is inside the trace.

use agentrec_store::{Home, Objects, Store, Tree};
use agentrec_trace::event::SnapshotCreated;
use agentrec_trace::{Data, ObjectId, Reader, Seq};

use super::harness::{Ended, Place};

fn snapshots(ended: &Ended) -> Vec<SnapshotCreated<'static>> {
    let snapshot = |event: agentrec_trace::Event<'static>| match event.data {
        Data::SnapshotCreated(snapshot) => Some(snapshot),
        _ => None,
    };
    ended.events().into_iter().filter_map(snapshot).collect()
}

/// The id of a file's content in a tree, following the trees that are in the trace.
fn file(reader: &Reader, tree: ObjectId, path: &str) -> Option<ObjectId> {
    let mut id = tree;
    for name in path.split('/') {
        let tree = Tree::decode(id, &reader.object(&id).unwrap()?).unwrap();
        id = tree.entry(name.as_bytes())?.id?;
    }
    Some(id)
}

fn text(reader: &Reader, id: ObjectId) -> Option<String> {
    reader.object(&id).unwrap().map(|content| String::from_utf8(content).unwrap())
}

#[test]
fn start_and_end_are_saved_and_the_trace_holds_a_small_tree_whole() {
    let place = Place::new();
    place.write("dir/kept", "kept");
    place.write("changed", "before");
    place.write("deleted", "deleted");
    let ended = place.sh("echo after > changed; rm deleted; echo new > new");
    let [start, end] = &snapshots(&ended)[..] else { panic!("there are two") };
    assert_eq!(
        (&*start.trigger, start.index.0, &*end.trigger, end.index.0),
        ("start", 1, "end", 2)
    );
    let (from, to) = (&start.roots[0], &end.roots[0]);
    assert_eq!((from.files, to.files, from.bytes), (3, 3, 17));
    assert!(from.self_contained && to.self_contained);
    let reader = ended.reader();
    let first = reader.event(Seq(1)).unwrap().unwrap();
    let Data::SessionStart(command) = &first.data else { panic!("{first:?}") };
    assert_eq!(
        command.argv.last().unwrap().as_slice(),
        b"echo after > changed; rm deleted; echo new > new"
    );
    assert_eq!(command.cwd.as_path(), place.path("tree").canonicalize().unwrap());
    let content = |tree, path| file(&reader, tree, path).map(|id| text(&reader, id).unwrap());
    assert_eq!(content(from.tree, "dir/kept").as_deref(), Some("kept"));
    assert_eq!(content(from.tree, "changed").as_deref(), Some("before"));
    assert_eq!(content(from.tree, "deleted").as_deref(), Some("deleted"));
    assert_eq!(content(to.tree, "changed").as_deref(), Some("after\n"));
    assert_eq!(content(to.tree, "new").as_deref(), Some("new\n"));
    assert_eq!(content(to.tree, "deleted"), None);
    let files = ended.recording().files;
    assert_eq!((files.added, files.changed, files.deleted, files.outside), (1, 1, 1, 0));
}

#[test]
fn of_a_large_tree_the_trace_holds_what_changed_as_it_was_and_as_it_is() {
    let place = Place::new().with(&["--inline-max", "10"]);
    place.write("untouched", "this stays as it is");
    place.write("changed", "before");
    place.write("deleted", "this goes");
    let ended = place.sh("echo after > changed; rm deleted");
    let [start, end] = &snapshots(&ended)[..] else { panic!("there are two") };
    assert!(!start.roots[0].self_contained && !end.roots[0].self_contained);
    let reader = ended.reader();
    let store = Store::open(&Home::new(place.path("home"))).unwrap();
    let id =
        |snapshot: &SnapshotCreated<'_>, path| file(&reader, snapshot.roots[0].tree, path).unwrap();
    assert_eq!(text(&reader, id(start, "untouched")), None);
    assert_eq!(store.get(&id(start, "untouched")).unwrap().unwrap(), b"this stays as it is");
    assert_eq!(text(&reader, id(start, "changed")).as_deref(), Some("before"));
    assert_eq!(text(&reader, id(start, "deleted")).as_deref(), Some("this goes"));
    assert_eq!(text(&reader, id(end, "changed")).as_deref(), Some("after\n"));
}

#[test]
fn files_with_secrets_and_what_tools_make_stay_out_of_the_trace() {
    let place = Place::new();
    place.write(".env", "TOKEN=hunter22222222\n");
    place.write("plain", "plain");
    let ended = place.sh("echo OTHER=hunter33333333 >> .env; echo more >> plain");
    let reader = ended.reader();
    let store = Store::open(&Home::new(place.path("home"))).unwrap();
    for (snapshot, content) in snapshots(&ended)
        .iter()
        .zip(["TOKEN=hunter22222222\n", "TOKEN=hunter22222222\nOTHER=hunter33333333\n"])
    {
        let id = file(&reader, snapshot.roots[0].tree, ".env").unwrap();
        assert_eq!(text(&reader, id), None);
        assert_eq!(store.get(&id).unwrap().unwrap(), content.as_bytes());
        assert!(snapshot.roots[0].self_contained, "nothing but secrets is missing");
    }
    for id in reader.objects().unwrap() {
        let content = reader.object(&id).unwrap().unwrap();
        assert!(!content.windows(6).any(|part| part == b"hunter"), "{id}");
    }
}

#[test]
fn more_roots_are_saved_and_excludes_and_the_trace_itself_are_not() {
    let mut place = Place::new();
    std::fs::create_dir(place.path("state")).unwrap();
    std::fs::write(place.path("state/memory"), "remembered").unwrap();
    place.write("skipped/file", "x");
    let state = place.path("state").to_string_lossy().into_owned();
    // The trace lies in the tree.
    place.options =
        ["-o", "inside.zst", "--root", &state, "--exclude", "skipped"].map(String::from).into();
    let mut ended = place.sh("echo y > $OLDPWD/x 2>/dev/null; echo z > file");
    ended.trace = place.tree("inside.zst");
    let [start, end] = &snapshots(&ended)[..] else { panic!("there are two") };
    let reader = ended.reader();
    assert_eq!(start.roots.len(), 2);
    assert_eq!(end.roots[1].path.as_path(), place.path("state"));
    assert_eq!(
        text(&reader, file(&reader, end.roots[1].tree, "memory").unwrap()).unwrap(),
        "remembered"
    );
    assert_eq!(file(&reader, end.roots[0].tree, "inside.zst"), None);
    assert_eq!(file(&reader, start.roots[0].tree, "skipped"), None);
    assert!(start.roots[0].left_out >= 2);
    assert_eq!(ended.recording().files.added, 1);
}

#[test]
fn what_is_written_while_a_snapshot_is_taken_is_marked_late() {
    use agentrec_recorder::control::Client;
    let place = Place::new();
    let mut running =
        place.start(&["sh", "-c", "exec 3> open; echo ready; while :; do echo x >&3; done"]);
    assert_eq!(running.line(), "ready");
    // Enough to read that the command writes meanwhile.
    for number in 0..500 {
        place.write(&format!("many/{number}"), "content");
    }
    let mut client = Client::connect(&place.socket()).unwrap();
    client.snapshot("busy").unwrap();
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = running.end();
    let busy =
        snapshots(&ended).into_iter().find(|snapshot| snapshot.description == "busy").unwrap();
    let late: Vec<_> = busy.late.iter().map(|path| path.as_path().to_owned()).collect();
    assert_eq!(late, [place.tree("open").canonicalize().unwrap()]);
}

#[test]
fn changes_outside_of_the_roots_are_counted() {
    let place = Place::new();
    std::fs::write(place.path("other"), "x").unwrap();
    let ended =
        place.sh("echo y >> ../other; echo t > ../temporary; rm ../temporary; cat ../other > in");
    assert_eq!(ended.recording().files.outside, 1);
    assert_eq!(ended.recording().files.added, 1);
}
