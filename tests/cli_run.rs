//! `agentrec run`: the command runs as without us, and what is said at the end.

mod common;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use common::{AGENTREC, TestEnv, is_private, of_kind, recorded};

#[test]
fn run_returns_the_status_of_the_command() {
    let env = TestEnv::new();
    assert_eq!(env.run(["run", "--", "true"]).code, 0);
    assert_eq!(env.run(["run", "--", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(env.run(["run", "--", "sh", "-c", "kill -KILL $$"]).code, 137);
}

#[test]
fn run_tells_what_cannot_be_run() {
    let env = TestEnv::new();
    let missing = env.run(["run", "--", "./no-such-program"]);
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!(missing.stderr.starts_with("agentrec: cannot run ./no-such-program: "), "{missing:?}");
    env.write("data", "not a program\n");
    let data = env.run(["run", "--", "./data"]);
    assert_eq!(data.code, 126, "{data:?}");
    assert_eq!(env.run(["run", "--no-such-option", "--", "true"]).code, 125);
    assert_eq!(env.run(["run"]).code, 125);
}

#[test]
fn run_passes_input_and_output_through() {
    let env = TestEnv::new();
    let mut child = env
        .agentrec(["run", "-q", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agentrec starts");
    let bytes: Vec<u8> = (0..=255u8).cycle().take(70_000).collect();
    let mut stdin = child.stdin.take().expect("piped");
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("all was read");
    assert_eq!(output.stdout, bytes);
    assert_eq!(output.stderr, b"", "--quiet says nothing");
}

#[test]
fn run_leaves_sigpipe_as_it_was() {
    let env = TestEnv::new();
    // A program that is killed by SIGPIPE says nothing; one that ignores it complains of the broken pipe.
    let ran = env.run(["run", "-q", "--", "sh", "-c", "yes | head -n 1"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("y\n", ""), "{ran:?}");
}

#[test]
fn run_closes_with_what_happened_and_what_to_type_next() {
    let env = TestEnv::new();
    env.write("old", "1");
    env.write("gone", "1");
    let script = "echo new > new; echo 2 >> old; rm gone; echo said";
    let ran = env.run(["run", "--", "sh", "-c", script]);
    assert_eq!(ran.stdout, "said\n");
    let lines: Vec<_> = ran.stderr.lines().collect();
    let [closing, next] = lines.as_slice() else { panic!("two lines: {ran:?}") };
    assert!(closing.starts_with("agentrec: "), "{closing}");
    assert!(closing.contains("  exit 0  "), "{closing}");
    assert!(closing.contains("  in tree +1 ~1 -1 files  outside 0  lost 0  seal "), "{closing}");
    assert!(next.contains("agentrec show"), "{next}");
    let id = closing.split_whitespace().nth(1).expect("an id");
    assert_eq!(id.len(), 4);
    assert!(env.ok(["show", id]).starts_with(id));
}

#[test]
fn run_writes_the_trace_where_it_is_told_and_never_over_another() {
    let env = TestEnv::new();
    let first = env.record_with(&["-o", "trace.zst"], &["true"]);
    assert_eq!(first.trace, env.work().join("trace.zst"));
    assert!(is_private(&first.trace));
    let before = std::fs::read(&first.trace).expect("written");
    let refused = env.run(["run", "-o", "trace.zst", "--", "touch", "ran"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.stderr.contains("trace.zst"), "{refused:?}");
    assert_eq!(env.read("ran"), None, "nothing runs when it can't be recorded");
    assert_eq!(std::fs::read(&first.trace).expect("kept"), before);
    let second = env.record_with(&["-o", "trace.zst", "--overwrite"], &["true"]);
    assert_ne!(first.id, second.id);
    assert_eq!(env.json(["info", "trace.zst"])[0]["session"], second.id.as_str());
}

#[test]
fn run_takes_a_command_without_dashes_before_it() {
    let env = TestEnv::new();
    let ran = env.run(["run", "sh", "-c", "echo \"$0\" \"$1\"", "--json", "-q"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "--json -q\n"), "{ran:?}");
}

#[test]
fn run_names_a_session() {
    let env = TestEnv::new();
    let recorded = env.record_with(&["--name", "first-try"], &["true"]);
    assert_eq!(env.json(["info", "first-try"])[0]["session"], recorded.id.as_str());
    for bad in ["s2", "last", "a.zst", "a/b"] {
        let ran = env.run(["run", "--name", bad, "--", "true"]);
        assert_eq!(ran.code, 125, "{bad}: {ran:?}");
    }
}

#[test]
fn run_takes_other_roots_into_snapshots_and_leaves_out_what_is_excluded() {
    let env = TestEnv::new();
    let root = env.outside("state");
    std::fs::create_dir(&root).expect("a directory of ours");
    std::fs::write(root.join("memory"), "m").expect("a file of ours");
    env.write("kept", "k");
    env.write("big.bin", "b");
    let root = root.to_str().expect("text");
    let recorded = env.record_with(&["--root", root, "--exclude", "*.bin"], &["true"]);
    let info = env.json(["info", &recorded.id]);
    let start = of_kind(&info, "snapshot")[0];
    assert_eq!(start["roots"].as_array().map(Vec::len), Some(2), "{start}");
    let contents = &start["contents"];
    assert_eq!(contents["in_trace"], 2, "{contents}");
    assert_eq!(contents["left_out"]["excluded"].as_array().map(Vec::len), Some(1), "{contents}");
}

#[test]
fn run_bounds_its_snapshots_and_takes_none_where_that_is_asked() {
    let env = TestEnv::new();
    env.write("large", &"x".repeat(3000));
    env.write("small", "x");
    let recorded = env.record_with(&["--snapshot-max-file", "2K"], &["true"]);
    let info = env.json(["info", &recorded.id]);
    let contents = &of_kind(&info, "snapshot")[0]["contents"];
    assert_eq!(contents["in_trace"], 1, "{contents}");
    assert_eq!(contents["left_out"]["too large"][0]["size"], 3000, "{contents}");
    let one = env.ok(["info", &format!("{}@s1", recorded.id)]);
    assert!(one.contains("left out, too large:\n        large (3.0 kB)\n"), "{one}");
    assert_eq!(env.json(["info", &format!("{}@s1", recorded.id)])[0]["contents"], *contents);

    let recorded = env.record_with(&["--no-snapshots"], &["sh", "-c", "echo y >> small"]);
    let info = env.json(["info", &recorded.id]);
    assert_eq!(of_kind(&info, "snapshot").len(), 0);
    let refused = env.run(["run", "--no-snapshots", "--rescan", "--", "true"]);
    assert_eq!(refused.code, 125, "{}", refused.stderr);
}

#[test]
fn run_makes_the_sdk_importable() {
    let env = TestEnv::new();
    let code = "import agentrec_sdk as r; r.record_message('user', 'hello'); print(r.recording())";
    let ran = env.run(["run", "--with-sdk", "--json", "--", "python3", "-c", code]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "True\n"), "{ran:?}");
    let shown = env.json(["show", &recorded(&ran).id]);
    let message = of_kind(&shown, "message");
    assert_eq!(message[0]["content"], "hello");
}

#[test]
fn run_waits_for_the_tree_when_asked() {
    let env = TestEnv::new();
    // The descendant does its work once the command is gone.
    let script = "me=$$; (while kill -0 $me 2>/dev/null; do :; done; echo late > late) &";
    let recorded = env.record_with(&["--wait", "tree"], &["sh", "-c", script]);
    assert_eq!(recorded.closing["left_running"], 0, "{}", recorded.closing);
    assert_eq!(recorded.closing["added"], 1, "{}", recorded.closing);
    assert_eq!(env.read("late").as_deref(), Some("late\n"));
}

#[test]
fn run_says_that_something_was_left_running() {
    let env = TestEnv::new();
    let mut live = env.start(&[], "exec 3<&0; (read go <&3; echo \"$go\") & echo started");
    live.wait_for("started");
    assert_eq!(live.closing()["left_running"], 1);
    live.tell("on");
    let ran = live.finish();
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "on\n"), "it was not killed: {ran:?}");
}

#[test]
fn run_records_nothing_of_itself_in_the_environment_but_its_variables() {
    let env = TestEnv::new();
    let ran = env.run(["run", "-q", "--", "env"]);
    let mut names: Vec<_> = ran.stdout.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    let expected = [
        "AGENTREC_ENGINE",
        "AGENTREC_FD",
        "AGENTREC_HOME",
        "AGENTREC_SESSION",
        "AGENTREC_SOCKET",
        "HOME",
        "LC_ALL",
        "PATH",
        "TZ",
    ];
    assert_eq!(names, expected);
}

#[test]
fn run_needs_a_place_for_its_data() {
    let env = TestEnv::new();
    let mut command = env.agentrec(["run", "--", "true"]);
    let output = command.env_remove("AGENTREC_HOME").env_remove("HOME").output().expect("it runs");
    assert_eq!(output.status.code(), Some(125));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("hint: set HOME, or AGENTREC_HOME"), "{stderr}");
}

#[test]
fn run_keeps_its_data_private() {
    let env = TestEnv::new();
    let recorded = env.record("true");
    assert!(is_private(&env.home()));
    assert!(is_private(&recorded.trace));
    let mode = std::fs::metadata(env.home().join("objects")).expect("made").permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn run_prints_nothing_while_the_agent_owns_the_terminal() {
    let env = TestEnv::new();
    let line = format!(
        "{AGENTREC} run -- sh -c 'printf one; printf two; test -t 0 && test -t 1 && test -t 2'"
    );
    let ran = env.in_terminal(&line, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.starts_with("onetwo"), "{ran:?}");
    let after = &ran.stdout["onetwo".len()..];
    assert!(after.trim_start().starts_with("agentrec: "), "{ran:?}");
}
