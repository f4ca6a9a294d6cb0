//! `agentrec restore --in-place` and `apply` as operations: taken back, finished and listed like an undo.

mod common;

use std::fs;
use std::process::{Child, Stdio};

use common::listing::listing;
use common::{Ran, TestEnv, recorded};

/// A tree whose files change, go, come, and become one, in a session.
fn recorded_changes(env: &TestEnv) {
    env.write("src/a", "one\n");
    env.write("gone/deep/b", "b\n");
    env.write("c", "c\n");
    fs::hard_link(env.work().join("c"), env.work().join("d")).expect("ours");
    env.record("echo two > src/a; rm -r gone; rm d; cp c d; mkdir -p new/x; echo n > new/x/y; ln src/a hard; ln -s a src/link; touch src");
}

#[test]
fn restore_in_place_is_taken_back_and_done_again_to_the_last_time_and_link() {
    let env = TestEnv::new();
    recorded_changes(&env);
    let after = listing(&env.work());
    let ran = env.run(["restore", "s1", "--in-place"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.ends_with("done: o1; `agentrec undo o1` takes this back\n"), "{ran:?}");
    let before = listing(&env.work());
    assert!(
        before.iter().any(|line| line.starts_with("d ") && line.contains(" x2 ")),
        "{before:?}"
    );
    let refused = env.run(["redo", "o1", "--yes"]);
    assert!(refused.stderr.contains("cannot redo o1: it is no undo (restore)"), "{refused:?}");
    env.ok(["undo", "o1", "--yes"]);
    assert_eq!(listing(&env.work()), after);
    env.ok(["redo", "--yes"]);
    assert_eq!(listing(&env.work()), before);
    let states: Vec<_> =
        env.json(["ops"]).iter().map(|op| (op["what"].clone(), op["taken_back"].clone())).collect();
    let expected = [("restore", false), ("undo", true), ("redo", false)];
    assert_eq!(states, expected.map(|(what, back)| (what.into(), back.into())));
    let ran = env.run(["restore", "s1", "--in-place"]);
    assert_eq!(
        (ran.code, ran.stdout.lines().count()),
        (0, 1),
        "nothing to do is no operation: {ran:?}"
    );
}

#[test]
fn what_was_written_since_a_restore_in_place_asks_before_it_goes() {
    let env = TestEnv::new();
    env.write("a", "1\n");
    env.write("b", "1\n");
    env.record("echo 2 > a; echo 2 > b");
    env.ok(["restore", "s1", "--in-place"]);
    env.write("a", "mine\n");
    let ran = env.run(["undo", "o1", "--yes"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("conflict a  "), "{ran:?}");
    assert_eq!((env.read("a").as_deref(), env.read("b").as_deref()), (Some("mine\n"), Some("2\n")));
}

#[test]
fn apply_is_taken_back() {
    let env = TestEnv::new();
    env.write("a", "home\n");
    env.write("dir/b", "home\n");
    env.record("true");
    let before = listing(&env.work());
    let args =
        ["resume", "s1", "--json", "--", "sh", "-c", "echo copy > a; rm -r dir; echo new > new"];
    let resumed = recorded(&env.run(args));
    let shown = env.ok(["apply", &resumed.id, "--yes"]);
    assert!(shown.ends_with("done: o1; `agentrec undo o1` takes this back\n"), "{shown}");
    assert_eq!((env.read("a").as_deref(), env.read("dir/b")), (Some("copy\n"), None));
    let after = listing(&env.work());
    env.ok(["undo", "o1", "--yes"]);
    assert_eq!(listing(&env.work()), before);
    env.ok(["redo", "--yes"]);
    assert_eq!(listing(&env.work()), after);
}

/// What a command that failed said, and what it advised.
fn failed(ran: &Ran) -> (&str, Vec<&str>) {
    let mut lines = ran.stderr.lines();
    let said = lines.next().unwrap_or_default();
    assert_eq!(ran.code, 1, "{ran:?}");
    (said, lines.collect())
}

#[test]
fn a_restore_in_place_that_fails_says_what_can_be_done_and_how_things_stand() {
    let env = TestEnv::new();
    fs::create_dir(env.work().join(".git")).expect("ours");
    env.write(".gitignore", "made\n");
    env.write("made/a", "before\n");
    env.record("echo after > made/a");
    let objects = env.home().join("objects");
    let away = env.outside("objects");
    fs::rename(&objects, &away).expect("it is there");
    let ran = env.run(["restore", "s1", "--in-place"]);
    let (said, hints) = failed(&ran);
    assert!(said.ends_with(" is missing"), "{ran:?}");
    let elsewhere =
        "hint: contents that are not in a trace are in the store of the machine that recorded it";
    assert_eq!(hints, [elsewhere, "hint: nothing was changed yet"]);
    assert_eq!(env.read("made/a").as_deref(), Some("after\n"));
    fs::remove_dir_all(&objects).expect("a store of ours");
    fs::rename(&away, &objects).expect("ours");

    // The log can't be written, at first before and then after the files are changed.
    let block = |name: &str| env.home().join("ops").join(name);
    fs::create_dir(block("1.op.tmp")).expect("ours");
    let ran = env.run(["restore", "s1", "--in-place"]);
    assert_eq!(failed(&ran).1, ["hint: nothing was changed yet"], "{ran:?}");
    assert_eq!(env.read("made/a").as_deref(), Some("after\n"));
    fs::remove_dir(block("1.op.tmp")).expect("ours");
    fs::create_dir(block("1.done.tmp")).expect("ours");
    let ran = env.run(["restore", "s1", "--in-place"]);
    let (said, hints) = failed(&ran);
    assert!(said.contains("cannot restore in place: o1 was interrupted: cannot create "), "{said}");
    let ways = "agentrec undo --finish completes it; agentrec undo o1 takes it back";
    assert_eq!(hints, [format!("hint: what was done so far is in the log; {ways}")]);
    assert_eq!(env.read("made/a").as_deref(), Some("before\n"));
    let ran = env.run(["undo", "--finish"]);
    assert!(failed(&ran).1[0].contains("what was done so far is in the log"), "{ran:?}");
    fs::remove_dir(block("1.done.tmp")).expect("ours");
    env.ok(["undo", "--finish"]);
    env.ok(["undo", "o1", "--yes"]);
    assert_eq!(env.read("made/a").as_deref(), Some("after\n"));
}

/// So many files are changed.
const FILES: usize = 200;

/// Kills a restore in place once it has changed the file of that number; whether it was still at work.
fn killed_at(env: &TestEnv, number: usize) -> bool {
    let mut command = env.agentrec(["restore", "s1", "--in-place"]);
    let mut restore: Child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("agentrec starts");
    let name = format!("f{number:03}");
    while env.read(&name).as_deref() != Some("before\n") {
        assert!(restore.try_wait().expect("ours").is_none(), "it ended without {name}");
        std::thread::yield_now();
    }
    restore.kill().expect("ours");
    restore.wait().expect("ours");
    env.json(["ops"]).last().expect("it was written down")["interrupted"] == true
}

#[test]
fn a_killed_restore_in_place_is_finished_or_taken_back() {
    let env = TestEnv::new();
    for number in 0..FILES {
        env.write(&format!("f{number:03}"), "before\n");
    }
    env.record("for f in f*; do echo after > $f; done; echo new > new");
    let after = listing(&env.work());
    let mut interrupted = 0;
    for (round, number) in [0, FILES / 3, FILES / 2, FILES - 20].into_iter().enumerate() {
        if killed_at(&env, number) {
            interrupted += 1;
            let refused = env.run(["restore", "s1", "--in-place"]);
            assert_eq!(refused.code, 1, "{refused:?}");
            assert!(refused.stderr.contains("was interrupted"), "{refused:?}");
        }
        let last = env.json(["ops"]).last().expect("there")["operation"]
            .as_str()
            .expect("text")
            .to_owned();
        if round % 2 == 0 {
            env.ok(["undo", "--finish"]);
            let now = listing(&env.work());
            assert!(
                now.iter().all(|line| !line.contains("after") && !line.contains("partial")),
                "{now:?}"
            );
        }
        env.ok(["undo", &last, "--yes"]);
        assert_eq!(listing(&env.work()), after);
    }
    assert!(interrupted > 0);
}

#[test]
fn prune_forgets_old_operations_and_what_was_saved_for_them() {
    let env = TestEnv::new();
    env.write("a", "before\n");
    env.record("echo after > a");
    env.ok(["restore", "s1", "--in-place"]);
    env.ok(["undo", "o1", "--yes"]);
    let saved = || std::fs::read_dir(env.home().join("saved")).expect("there").count();
    assert_eq!((env.ok(["prune", "--keep-last", "1d"]).as_str(), saved()), ("", 1));
    let would = env.ok(["prune", "--keep-last", "0s"]);
    assert!(
        would.contains("would remove o1  restore of ")
            && would.contains("would remove saved tree "),
        "{would}"
    );
    assert_eq!((env.json(["ops"]).len(), saved()), (2, 1));
    env.ok(["prune", "--keep-last", "0s", "--yes"]);
    assert_eq!((env.json(["ops"]).len(), saved()), (0, 0));
    env.ok(["store", "check"]);
}
