//! Runs that continue another one: the tree at its original path, the state in a file, the lineage in the trace.

use agentrec_trace::event::Payload;
use agentrec_trace::{Data, Value};
use serde_json::json;

use super::harness::Place;

#[test]
fn a_resumed_run_sees_its_copy_at_the_original_path_and_is_recorded_there() {
    let place = Place::new();
    place.write("file", "original\n");
    let copy = place.path("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("file"), "copied\n").unwrap();
    let messages = json!([{"role": "user", "content": "do it"}]);
    let state =
        json!({"session": "aaaa2222", "snapshot": 2, "messages": messages, "prompt": "again"});
    let place = place.with(&["--show-at", copy.to_str().unwrap(), "--resume", &state.to_string()]);
    let script = "pwd; cat file; cat \"$AGENTREC_RESUME\"; stat -c ' %a' \"$AGENTREC_RESUME\"; echo new > new";
    let ended = place.sh(script);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let tree = place.path("tree").canonicalize().unwrap();
    let expected = format!("{}\ncopied\n{state} 600\n", tree.display());
    assert_eq!(ended.stdout, expected);
    assert!(!place.tree("new").exists());
    assert_eq!(std::fs::read_to_string(copy.join("new")).unwrap(), "new\n");
    assert_eq!(std::fs::read_dir(place.path("home/run")).unwrap().count(), 0, "the state is gone");

    let events = ended.events();
    let Data::SessionStart(start) = &events[0].data else { panic!() };
    let parent = start.parent.as_ref().unwrap();
    assert_eq!((&*parent.session, &*parent.at, &*parent.edits[0]), ("aaaa2222", "s2", "prompt"));
    assert_eq!(start.cwd.as_path(), tree);
    let opened = events.iter().any(|event| match &event.data {
        Data::FileOpen(open) => open.path.as_path() == tree.join("new"),
        _ => false,
    });
    assert!(opened, "paths are those that the command sees");
    // The recorder stays outside, and yet reads the copy.
    let files = ended.recording().files;
    assert_eq!((files.added, files.changed, files.deleted, files.outside), (1, 0, 0, 0));
    let told = events.iter().find_map(|event| match &event.data {
        Data::SnapshotCreated(snapshot) => Some(&snapshot.messages),
        _ => None,
    });
    let Some(Payload::Inline(Value::Array(messages))) = told else { panic!("{told:?}") };
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&message["role"], &message["content"]), (&"user".into(), &"do it".into()));
}

#[test]
fn a_copy_that_can_not_be_shown_stops_the_run() {
    let place = Place::new();
    let place = place.with(&["--show-at", "/no/such/copy"]);
    let ended = place.sh("touch ran");
    assert_eq!(ended.code(), 125);
    assert!(ended.stderr.contains("/no/such/copy"), "{}", ended.stderr);
    assert!(!place.tree("ran").exists() && !ended.trace.exists());
}
