//! `agentrec snapshot`, `status`, `stop`, `export`: reaching a session while it is being recorded.

mod common;

use common::{AGENTREC, TestEnv, objects, of_kind};

#[test]
fn snapshot_saves_a_running_session() {
    let env = TestEnv::new();
    let mut live = env.start(&[], "echo one > f; echo up; read x; echo two > f");
    live.wait_for("up");
    assert_eq!(env.ok(["snapshot", "-m", "by hand"]), "s2\n");
    live.tell("go");
    live.finish();
    let shown = env.json(["info"]);
    let snapshots = of_kind(&shown, "snapshot");
    let told: Vec<_> =
        snapshots.iter().map(|s| (s["trigger"].as_str(), s["description"].as_str())).collect();
    assert_eq!(told[1], (Some("command"), Some("by hand")));
    assert_eq!(told.len(), 3);
    let diff = env.run(["diff", "s2..s3"]);
    assert!(diff.stdout.contains("-one\n+two\n"), "{diff:?}");
}

#[test]
fn snapshot_reaches_the_session_around_it() {
    let env = TestEnv::new();
    let script = format!("cd /; {AGENTREC} snapshot -m inner --json");
    let ran = env.run(["run", "-q", "--", "sh", "-c", &script]);
    assert_eq!(objects(&ran.stdout)[0]["snapshot"], 2, "{ran:?}");
}

#[test]
fn snapshot_of_an_ended_session_is_refused() {
    let env = TestEnv::new();
    env.record("true");
    let ran = env.run(["snapshot", "-m", "late"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("is not being recorded"), "{ran:?}");
    assert!(ran.stderr.contains("hint: agentrec status"), "{ran:?}");
}

#[test]
fn status_shows_what_is_running() {
    let env = TestEnv::new();
    let idle = env.run(["status"]);
    assert_eq!((idle.code, idle.stdout.as_str()), (0, ""));
    assert!(idle.stderr.contains("nothing is being recorded"), "{idle:?}");
    let mut live = env.start(&["--name", "mine"], "echo up; read x");
    live.wait_for("up");
    let running = env.json(["status"]);
    assert_eq!(running.len(), 1);
    assert_eq!(running[0]["name"], "mine");
    assert_eq!((&running[0]["answers"], &running[0]["processes"]), (&true.into(), &1.into()));
    let shown = env.ok(["status"]);
    assert!(shown.contains("1 process ") && shown.contains("1 snapshot "), "{shown}");
    live.tell("go");
    live.finish();
    assert_eq!(env.json(["status"]).len(), 0);
}

#[test]
fn status_does_not_show_who_died() {
    let env = TestEnv::new();
    let mut live = env.start(&[], "echo up; read x");
    live.wait_for("up");
    let running = env.json(["status"]);
    let id = running[0]["session"].as_str().expect("an id").to_owned();
    // The recorder is the tracer of the command.
    let pid = running[0]["pid"].as_u64().expect("a pid");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("alive");
    let tracer =
        status.lines().find_map(|line| line.strip_prefix("TracerPid:")).expect("traced").trim();
    assert!(env.command("kill").args(["-KILL", tracer]).status().expect("it runs").success());
    live.finish();
    assert_eq!(env.json(["status"]).len(), 0);
    assert!(env.ok(["list"]).contains("cut off"));
    let listed = env.ok(["show", &id]);
    assert!(listed.lines().next().is_some_and(|line| line.contains("cut off")), "{listed}");
}

#[test]
fn stop_ends_the_recording_and_not_the_agent() {
    let env = TestEnv::new();
    let mut live =
        env.start(&[], "echo before > before; echo up; read x; echo after > after; echo down");
    live.wait_for("up");
    let stopped = env.ok(["stop"]);
    assert!(stopped.contains("seal "), "{stopped}");
    assert_eq!(env.run(["verify"]).code, 0);
    live.tell("go");
    live.wait_for("down");
    assert_eq!(live.finish().code, 0);
    assert_eq!(env.read("after").as_deref(), Some("after\n"));
    let shown = env.ok(["show"]);
    assert!(shown.contains("+ before") && !shown.contains("+ after"), "{shown}");
    for told in [shown, env.ok(["list"])] {
        assert!(told.lines().next().is_some_and(|line| line.contains("  stopped ")), "{told}");
    }
}

#[test]
fn export_writes_json_lines() {
    let env = TestEnv::new();
    let recorded = env.record("touch a");
    let exported = env.ok(["export"]);
    let events = objects(&exported);
    assert_eq!(events.len(), exported.lines().count());
    assert_eq!(events.len() as u64, recorded.closing["events"].as_u64().expect("a number"));
    assert!(events.iter().enumerate().all(|(i, event)| event["seq"] == i + 1));
    env.ok(["export", "-o", "events.jsonl"]);
    assert_eq!(env.read("events.jsonl"), Some(exported));
    let again = env.run(["export", "-o", "events.jsonl"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("cannot create events.jsonl: "), "{again:?}");
}

#[test]
fn export_of_a_running_session_leaves_it_running() {
    let env = TestEnv::new();
    let mut live = env.start(&[], "echo up; read x; touch later");
    live.wait_for("up");
    let exported = objects(&env.ok(["export"]));
    assert_eq!(exported[0]["type"], "session.start");
    assert!(exported.iter().all(|event| event["type"] != "session.stop"));
    live.tell("go");
    assert_eq!(live.finish().code, 0);
    let whole = objects(&env.ok(["export"]));
    assert!(whole.len() > exported.len());
    assert_eq!(whole.last().map(|event| &event["type"]), Some(&"session.stop".into()));
}
