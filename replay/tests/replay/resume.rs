//! Resumed runs see their files at the original path, and bring their changes home only when asked.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use agentrec_replay::{
    ContentDiff, Edits, Error, MissingReason, Place, ResumePlan, Sources, content_diff, plan_apply,
    read_snapshot, resume_plan,
};
use agentrec_store::{ChangeKind, diff_trees};
use agentrec_trace::{Reader, SnapshotIndex};

use crate::common::{Fixture, TestSession, bring_home, look, take_back, write};

pub fn resume(fixture: &Fixture, reader: &Reader, session: &str, edits: &Edits) -> ResumePlan {
    try_resume(fixture, reader, session, edits).unwrap()
}

fn try_resume(
    fixture: &Fixture,
    reader: &Reader,
    session: &str,
    edits: &Edits,
) -> agentrec_replay::Result<ResumePlan> {
    let snapshot = read_snapshot(reader, SnapshotIndex(1))?;
    let place = Place { home: &fixture.home, session, dir: None, env: &[] };
    resume_plan(reader, &fixture.store, &snapshot, edits, &place, None)
}

/// What the copy of the only root holds under `name`.
pub fn in_copy(resumed: &ResumePlan, name: &str) -> std::path::PathBuf {
    resumed.roots[0].copy.join(name)
}

#[test]
fn the_plan_shows_the_copy_at_the_original_path() {
    let fixture = Fixture::new();
    fixture.write("a", "old");
    let tree = fixture.capture().tree;
    fixture.write("a", "new");
    let session = TestSession {
        argv: vec!["agent", "--key=[redacted:key:00112233]"],
        env: vec![
            ("KEY", "[redacted:key:00112233]"),
            ("GONE", "[redacted:key:44556677]"),
            ("LANG", "C"),
        ],
        ..TestSession::default()
    };
    let reader = fixture.trace("t.zst", &session, &[tree]);
    let edits =
        Edits { prompt: Some("again".into()), env: vec![("KEY".into(), "k".into())], argv: None };
    let resumed = resume(&fixture, &reader, "childaaa", &edits);
    let plan = &resumed.plan;
    assert_eq!(plan.cwd, fixture.root);
    assert_eq!(plan.argv, ["agent", "--key=k"]);
    let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
    assert_eq!(plan.env, [pair("LANG", "C"), pair("KEY", "k")]);
    assert_eq!(resumed.missing_env, ["GONE"]);
    assert_eq!(plan.mounts[0].target, fixture.root);
    assert_eq!(plan.mounts[0].source, fixture.home.session_work("childaaa").join("root-0"));
    assert_eq!(fs::read(in_copy(&resumed, "a")).unwrap(), b"old");
    assert_eq!(fs::read(fixture.root.join("a")).unwrap(), b"new");
    assert_eq!((resumed.parent.as_str(), resumed.at.as_str()), ("parentaa", "s1"));
    assert_eq!(resumed.edits, ["prompt", "env.KEY"]);
    let expected = serde_json::json!({
        "session": "parentaa", "snapshot": 1, "messages": ["hello"], "system_prompt": null, "tools": null,
        "model": "scripted", "last_query": null, "last_result": null, "prompt": "again",
    });
    assert_eq!(resumed.state, expected);
}

#[test]
fn what_can_not_run_is_refused_before_anything_is_written() {
    let fixture = Fixture::new();
    let tree = fixture.capture().tree;
    let session =
        TestSession { argv: vec!["agent", "[redacted:key:00112233]"], ..TestSession::default() };
    let reader = fixture.trace("t.zst", &session, &[tree]);
    let refused = try_resume(&fixture, &reader, "childaaa", &Edits::default());
    assert!(matches!(refused, Err(Error::RedactedArgument { index: 1, .. })), "{refused:?}");

    let reader = fixture.trace("u.zst", &TestSession::default(), &[tree]);
    fs::remove_dir(&fixture.root).unwrap();
    let refused = try_resume(&fixture, &reader, "childaaa", &Edits::default()).unwrap_err();
    assert!(matches!(refused, Error::NoOriginal { .. }), "{refused}");
    assert!(refused.hint().unwrap().contains("agentrec restore"));
    assert!(!fixture.home.session_work("childaaa").exists());
}

#[test]
fn a_tree_that_is_nowhere_is_said_to_be() {
    let fixture = Fixture::new();
    let tree = agentrec_trace::ObjectId::of(b"never stored");
    let reader = fixture.trace("t.zst", &TestSession::default(), &[tree]);
    let refused = try_resume(&fixture, &reader, "childaaa", &Edits::default());
    assert!(matches!(refused, Err(Error::NoTree { .. })), "{refused:?}");
    let missing = read_snapshot(&reader, SnapshotIndex(2));
    assert!(matches!(missing, Err(Error::NoSnapshot(SnapshotIndex(2)))));
}

#[test]
fn apply_brings_home_what_only_the_copy_changed() {
    let fixture = Fixture::new();
    for name in ["edit", "both", "gone", "mode", "home-only", "same"] {
        fixture.write(name, "old");
    }
    fixture.write("dir/x", "old");
    let reader = fixture.trace("t.zst", &TestSession::default(), &[fixture.capture().tree]);
    let resumed = resume(&fixture, &reader, "childaaa", &Edits::default());
    let copy = |name: &str| in_copy(&resumed, name);
    fs::write(copy("edit"), "from the copy").unwrap();
    fs::write(copy("both"), "from the copy").unwrap();
    fs::write(copy("same"), "equal").unwrap();
    fs::remove_file(copy("gone")).unwrap();
    fs::remove_dir_all(copy("dir")).unwrap();
    write(&copy("new/y"), "new");
    fixture.write("both", "from home");
    fixture.write("home-only", "from home");
    fixture.write("same", "equal");

    let plan = plan_apply(&fixture.store, &fixture.home, "childaaa", &[]).unwrap();
    let root = &plan.roots[0];
    let names = |changes: &[agentrec_store::Change]| {
        let name = |c: &agentrec_store::Change| (c.path.to_str().unwrap().to_owned(), c.kind);
        changes.iter().map(name).collect::<Vec<_>>()
    };
    let expected = [
        ("dir", ChangeKind::Deleted),
        ("dir/x", ChangeKind::Deleted),
        ("edit", ChangeKind::Content),
        ("gone", ChangeKind::Deleted),
        ("new", ChangeKind::Added),
        ("new/y", ChangeKind::Added),
    ];
    assert_eq!(names(&root.changes), expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(names(&root.conflicts), [("both".to_owned(), ChangeKind::Content)]);
    let diff = content_diff(&Sources::store(&fixture.store), &root.conflicts[0]).unwrap();
    assert!(matches!(&diff, ContentDiff::Text(_)));
    assert_eq!(diff.line_counts(), (1, 1));
    let read = |name: &str| fs::read_to_string(fixture.root.join(name)).unwrap();
    assert_eq!(read("edit"), "old", "a plan changes nothing");

    let before = look(&fixture.root);
    let done = bring_home(&fixture.home, &plan, false);
    assert_eq!(done.missing, []);
    let back = take_back(&fixture.home, done.id);
    assert_eq!((look(&fixture.root), &back.missing), (before, &vec![]));
    let done = take_back(&fixture.home, back.id);
    assert_eq!(done.missing, []);
    assert_eq!((read("edit").as_str(), read("both").as_str()), ("from the copy", "from home"));
    assert_eq!((read("home-only").as_str(), read("new/y").as_str()), ("from home", "new"));
    assert!(!fixture.root.join("gone").exists() && !fixture.root.join("dir").exists());

    let again = plan_apply(&fixture.store, &fixture.home, "childaaa", &[]).unwrap();
    assert_eq!(again.roots[0].changes, []);
    bring_home(&fixture.home, &again, true);
    assert_eq!(read("both"), "from the copy");
    assert!(plan_apply(&fixture.store, &fixture.home, "childaaa", &[]).unwrap().is_empty());

    // Everything that was at home before is still to be had.
    let back = diff_trees(&fixture.store, fixture.capture().tree, root.saved).unwrap();
    assert!(back.iter().any(|change| change.path == Path::new("both")));
}

#[test]
fn a_file_that_changes_after_the_plan_is_left_alone() {
    let fixture = Fixture::new();
    fixture.write("a", "old");
    let reader = fixture.trace("t.zst", &TestSession::default(), &[fixture.capture().tree]);
    let resumed = resume(&fixture, &reader, "childaaa", &Edits::default());
    fs::write(in_copy(&resumed, "a"), "from the copy").unwrap();
    let plan = plan_apply(&fixture.store, &fixture.home, "childaaa", &[]).unwrap();
    fixture.write("a", "typed a moment ago");
    let done = bring_home(&fixture.home, &plan, false);
    assert_eq!(done.missing[0].reason, MissingReason::Changed);
    assert_eq!(fs::read(fixture.root.join("a")).unwrap(), b"typed a moment ago");
}

#[test]
fn a_resume_of_a_resumed_run_brings_home_the_changes_of_both() {
    let fixture = Fixture::new();
    fixture.write("a", "old");
    fixture.write("b", "old");
    let reader = fixture.trace("t.zst", &TestSession::default(), &[fixture.capture().tree]);
    let child = resume(&fixture, &reader, "childaaa", &Edits::default());
    fs::write(in_copy(&child, "a"), "child").unwrap();

    let tree = fixture.capture_at(&child.roots[0].copy).tree;
    let session = TestSession { id: "childaaa", ..TestSession::default() };
    let reader = fixture.trace("u.zst", &session, &[tree]);
    let grandchild = resume(&fixture, &reader, "grandaaa", &Edits::default());
    assert_eq!(grandchild.plan.mounts[0].target, fixture.root);
    fs::write(in_copy(&grandchild, "b"), "grandchild").unwrap();

    let plan = plan_apply(&fixture.store, &fixture.home, "grandaaa", &[]).unwrap();
    let changed: Vec<_> =
        plan.roots[0].changes.iter().map(|change| change.path.as_path()).collect();
    assert_eq!(changed, [Path::new("a"), Path::new("b")]);
    assert_eq!(plan.roots[0].conflicts, []);
}

#[test]
fn a_session_without_a_copy_has_nothing_to_bring_home() {
    let fixture = Fixture::new();
    let refused = plan_apply(&fixture.store, &fixture.home, "parentaa", &[]);
    assert!(matches!(refused, Err(Error::NoCopy { .. })));
}

/// Runs `agentrec-replay`; as another user where `uid` is given.
fn replay(fixture: &Fixture, trace: &str, arguments: &[&str], uid: Option<u32>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentrec-replay"));
    command.arg(fixture.path(trace)).args(arguments);
    command.env_clear().env("AGENTREC_HOME", fixture.home.data()).env("PATH", "/usr/bin:/bin");
    if let Some(uid) = uid {
        use std::os::unix::process::CommandExt;
        command.uid(uid).gid(uid);
    }
    command.output().unwrap()
}

/// Whether this machine lets `uid` make a private mount at all: then everything else must work.
fn may_mount(uid: Option<u32>) -> bool {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "true"]);
    if let Some(uid) = uid {
        use std::os::unix::process::CommandExt;
        command.uid(uid).gid(uid);
    }
    command.output().is_ok_and(|output| output.status.success())
}

const SCRIPT: &str = "pwd; cat a; echo changed > a; cat \"$AGENTREC_RESUME\"; exit 7";

fn check_run(fixture: &Fixture, output: &Output) {
    let out = String::from_utf8_lossy(&output.stdout);
    let mut lines = out.lines();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(lines.next(), fixture.root.to_str());
    assert_eq!(lines.next(), Some("snapshot"));
    let state: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(state["prompt"], "go on");
    assert_eq!(fs::read(fixture.root.join("a")).unwrap(), b"at home\n", "home is untouched");
    let copies = fs::read_dir(fixture.home.work()).unwrap();
    let copy = copies.map(|dir| dir.unwrap().path().join("root-0/a")).next().unwrap();
    assert_eq!(fs::read(copy).unwrap(), b"changed\n");
}

#[test]
fn the_program_runs_at_the_original_path_and_leaves_home_alone() {
    if !may_mount(None) {
        return;
    }
    let fixture = Fixture::new();
    fixture.write("a", "snapshot\n");
    let session = TestSession { argv: vec!["sh", "-c", SCRIPT], ..TestSession::default() };
    fixture.trace("t.zst", &session, &[fixture.capture().tree]);
    fixture.write("a", "at home\n");
    let output = replay(&fixture, "t.zst", &["--snapshot", "s1", "--prompt", "go on"], None);
    check_run(&fixture, &output);
}

#[test]
fn a_user_without_privileges_resumes_as_well() {
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() || !may_mount(Some(NOBODY)) {
        return;
    }
    let fixture = Fixture::new();
    fixture.write("a", "snapshot\n");
    let session = TestSession { argv: vec!["sh", "-c", SCRIPT], ..TestSession::default() };
    fixture.trace("t.zst", &session, &[fixture.capture().tree]);
    fixture.write("a", "at home\n");
    let give = |path: &Path| {
        let status = Command::new("chown").args(["-R", "65534:65534"]).arg(path).status().unwrap();
        assert!(status.success());
    };
    give(fixture.dir.path());
    let output = replay(&fixture, "t.zst", &["--snapshot", "1", "--prompt", "go on"], Some(NOBODY));
    check_run(&fixture, &output);
}

#[test]
fn another_command_and_environment_can_be_given() {
    if !may_mount(None) {
        return;
    }
    let fixture = Fixture::new();
    fixture.trace("t.zst", &TestSession::default(), &[fixture.capture().tree]);
    let arguments = ["--snapshot", "1", "--env", "WORD=a=b", "--", "sh", "-c", "echo $WORD"];
    let output = replay(&fixture, "t.zst", &arguments, None);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a=b\n", "{output:?}");
}

#[test]
fn errors_say_what_to_do() {
    let fixture = Fixture::new();
    fixture.trace("t.zst", &TestSession::default(), &[fixture.capture().tree]);
    let output = replay(&fixture, "t.zst", &["--snapshot", "9"], None);
    assert_eq!(output.status.code(), Some(125));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("no snapshot s9") && message.contains("hint: "), "{message}");
}
