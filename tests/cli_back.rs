//! `agentrec diff`, `restore`, `resume`, `apply`: comparing snapshots and going back to them.

mod common;

use std::fs;
use std::io::Write;

use common::{TestEnv, is_private, objects, of_kind, recorded};

/// Records a script which takes a snapshot between its two halves.
fn record_halves(env: &TestEnv, first: &str, second: &str) -> common::Recorded {
    env.record(&format!("{first}; {} snapshot -m middle >/dev/null; {second}", common::AGENTREC))
}

#[test]
fn diff_compares_start_and_end() {
    let env = TestEnv::new();
    env.write("kept", "same\n");
    env.write("changed", "one\ntwo\nthree\n");
    env.write("gone", "old\n");
    env.record("sed -i s/two/2/ changed; rm gone; echo new > new; chmod 600 kept");
    let ran = env.run(["diff"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let mode = "~ kept  mode 0644 -> 0600\n";
    for part in [
        "--- a/changed\n+++ b/changed\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n",
        "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n",
        "--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+new\n",
        mode,
    ] {
        assert!(ran.stdout.contains(part), "no {part:?} in {ran:?}");
    }
    assert!(env.run(["diff", "--color", "always"]).stdout.contains("\x1b[31m-two\x1b[0m"));
    let stat = env.run(["diff", "--stat", "--path", "c*"]);
    assert_eq!(stat.stdout, "~ changed  +1 -1\n");
}

#[test]
fn diff_says_by_its_status_whether_anything_differs() {
    let env = TestEnv::new();
    env.write("a", "1");
    env.record("cat a");
    assert_eq!(env.run(["diff"]).code, 0);
    env.record("echo 2 > a");
    assert_eq!(env.run(["diff"]).code, 1);
    assert_eq!(env.run(["diff", "s1..s9"]).code, 2);
    assert_eq!(env.run(["diff", "./missing.zst"]).code, 2);
    assert_eq!(env.run(["diff", "--no-such-option"]).code, 2);
    assert_eq!(env.run(["diff", "--path", "z*"]).code, 0);
}

#[test]
fn diff_compares_any_two_snapshots() {
    let env = TestEnv::new();
    let one = record_halves(&env, "echo 1 > f", "echo 2 > f");
    let diff = |args: &[&str]| env.run(["diff", "--json"].iter().chain(args));
    let changes = |args: &[&str]| -> Vec<String> {
        let values = objects(&diff(args).stdout);
        values
            .iter()
            .map(|v| {
                format!(
                    "{} {}",
                    v["change"].as_str().unwrap_or(""),
                    v["path"]["text"].as_str().unwrap_or("")
                )
            })
            .collect()
    };
    assert_eq!(changes(&["s1..s2"]), ["added f"]);
    assert_eq!(changes(&["s2..s3"]), ["content f"]);
    assert_eq!(changes(&["s2"]), ["content f"], "from a snapshot to the end");
    assert_eq!(changes(&["s3", "s1"]), ["deleted f"]);
    let two = env.record("echo 3 > g");
    assert_eq!(changes(&[&one.id, &two.id]), ["added g"], "the ends of two sessions");
    assert_eq!(changes(&[&format!("{}@s1..s2", one.id)]), ["added f"]);
}

#[test]
fn diff_never_prints_a_secret() {
    let env = TestEnv::new();
    env.write(".env", "TOKEN=before\n");
    env.record("echo TOKEN=after > .env");
    let ran = env.run(["diff"]);
    let by = ran.stdout.lines().next().unwrap_or_default();
    assert!(by.starts_with("by sh "), "{ran:?}");
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (1, format!("{by}\n~ .env  a secret file, not shown\n").as_str())
    );
}

#[test]
fn restore_brings_the_files_back_in_a_new_directory() {
    let env = TestEnv::new();
    env.write("src/a", "before");
    env.write("run.sh", "#!/bin/sh\n");
    let recorded = record_halves(&env, "echo middle > src/a; chmod 755 run.sh", "rm -r src");
    env.ok(["restore", "--snapshot", "2", "--dir", "back"]);
    assert_eq!(env.read("back/src/a").as_deref(), Some("middle\n"));
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(env.work().join(name)).expect("there").permissions().mode() & 0o777
    };
    assert_eq!(mode("back/run.sh"), 0o755);
    assert_eq!(env.read("src/a"), None, "the original is as it was left");
    let told = env.json(["restore", &format!("{}@s1", recorded.id)]);
    assert_eq!(told[0]["files"], 2);
    let dir = told[0]["dir"]["text"].as_str().expect("text");
    assert_eq!(fs::read_to_string(format!("{dir}/src/a")).expect("restored"), "before");
    let again = env.run(["restore", "--snapshot", "2", "--dir", "back"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("already exists"), "{again:?}");
}

#[test]
fn restore_in_place_only_when_asked() {
    let env = TestEnv::new();
    env.write("a", "before");
    env.record("echo after > a; echo new > b");
    let ran = env.run(["restore"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("cannot tell which snapshot is meant"), "{ran:?}");
    assert!(ran.stderr.contains("hint: "), "{ran:?}");
    assert_eq!(env.read("a").as_deref(), Some("after\n"));
    let ran = env.run(["restore", "--snapshot", "1", "--in-place"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((env.read("a").as_deref(), env.read("b")), (Some("before"), None));
}

#[test]
fn restore_in_place_leaves_traces_where_they_are() {
    let env = TestEnv::new();
    env.write("a", "before");
    let first = env.record_with(&["-o", "first.zst"], &["mkdir", "traces"]);
    env.record_with(
        &["-o", "traces/second.zst"],
        &["sh", "-c", "echo after > a; echo x > traces/x; : > traces/empty"],
    );
    let ran = env.run(["restore", "./first.zst@s1", "--in-place"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("kept traces/second.zst: a trace, left where it is"), "{ran:?}");
    assert!(!ran.stdout.contains("missing"), "the session's own trace is not missed: {ran:?}");
    assert_eq!((env.read("a").as_deref(), env.read("traces/x")), (Some("before"), None));
    assert_eq!(env.read("traces/empty"), None, "no trace");
    assert!(first.trace.is_file() && env.work().join("traces/second.zst").is_file());
}

/// Types what a hint says that begins with `hint: agentrec`.
fn take_hint(env: &TestEnv, stderr: &str) {
    let typed = |line: &str| {
        let (command, _) = line.strip_prefix("hint: agentrec")?.split_once(" brings it back")?;
        Some(format!("{}{command}", common::AGENTREC))
    };
    let command = stderr.lines().find_map(typed).expect("a hint");
    let status = env.command("sh").args(["-c", &command]).status().expect("sh runs");
    assert!(status.success(), "{command}");
}

#[test]
fn what_a_restore_in_place_replaced_comes_back_by_the_command_it_names() {
    let env = TestEnv::new();
    env.write("a", "before");
    env.record("echo after > a; echo new > b");
    let ran = env.run(["restore", "s1", "--in-place"]);
    assert!(ran.stderr.contains("is saved as tree "), "{ran:?}");
    take_hint(&env, &ran.stderr);
    let now = ["a", "../work-before/a", "../work-before/b"].map(|name| env.read(name));
    assert_eq!(now, ["before", "after\n", "new\n"].map(|text| Some(text.to_owned())));
    let unknown = env.run(["restore", "--tree", &"0".repeat(64)]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("store does not hold it"), "{unknown:?}");
}

#[test]
fn what_an_apply_replaced_comes_back_by_the_command_it_names() {
    let env = TestEnv::new();
    env.write("a", "home");
    env.record("true");
    let resumed = recorded(&env.run(["resume", "s1", "--json", "--", "sh", "-c", "echo copy > a"]));
    let ran = env.run(["apply", &resumed.id, "--yes"]);
    take_hint(&env, &ran.stderr);
    assert_eq!(env.read("a").as_deref(), Some("copy\n"));
    assert_eq!(env.read("../work-before/a").as_deref(), Some("home"));
}

#[test]
fn restore_takes_only_what_is_asked_for() {
    let env = TestEnv::new();
    env.write("src/a", "a");
    env.write("b", "b");
    env.record("true");
    env.ok(["restore", "s1", "--only", "src", "--dir", "back"]);
    assert_eq!((env.read("back/src/a").as_deref(), env.read("back/b")), (Some("a"), None));
    let nothing = env.run(["restore", "s1", "--only", "nothing", "--dir", "nowhere"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (1, ""), "{nothing:?}");
    assert!(nothing.stderr.contains("is meant by --only"), "{nothing:?}");
    assert!(!env.work().join("nowhere").exists());
}

#[test]
fn resume_goes_on_in_a_copy_at_the_original_path() {
    let env = TestEnv::new();
    env.write("log", "start\n");
    let script = format!(
        "pwd >> log; cat log; [ \"$(wc -l < log)\" -gt 2 ] || {{ {} snapshot -m middle >/dev/null; echo lost >> log; }}",
        common::AGENTREC
    );
    let first = env.record(&script);
    let work = env.work().display().to_string();
    assert_eq!(env.read("log"), Some(format!("start\n{work}\nlost\n")));
    let ran = env.run(["resume", "last@s2", "--json"]);
    assert_eq!((ran.code, &ran.stdout), (0, &format!("start\n{work}\n{work}\n")), "{ran:?}");
    assert_eq!(
        env.read("log"),
        Some(format!("start\n{work}\nlost\n")),
        "the original is untouched"
    );
    assert!(ran.stderr.contains("works in a copy that the agent sees as "), "{ran:?}");
    let second = recorded(&ran);
    let shown = env.json(["info", &second.id]);
    assert_eq!(shown[0]["parent"]["session"], first.id.as_str());
    assert_eq!(shown[0]["parent"]["at"], "s2");
    // A resumed run can be resumed.
    let ran = env.run(["resume", &format!("{}@s1", second.id), "--json"]);
    assert_eq!(ran.stdout, format!("start\n{work}\n{work}\n"), "{ran:?}");
    let third = env.json(["info", &recorded(&ran).id]);
    assert_eq!(third[0]["parent"]["session"], second.id.as_str());
}

#[test]
fn resume_gives_the_agent_its_messages_and_the_new_prompt() {
    let env = TestEnv::new();
    let code = r#"
import agentrec_sdk as rec
state = rec.resume_state()
if state:
    print(state.prompt, [m["content"] for m in state.messages], state.model)
else:
    rec.snapshot("first", messages=[{"role": "user", "content": "old"}], model="m1")
"#;
    env.write("agent.py", code);
    env.record_with(&["--with-sdk"], &["python3", "agent.py"]);
    let ran = env.run(["resume", "--snapshot", "2", "--with-sdk", "--prompt", "new", "--json"]);
    assert_eq!(ran.stdout, "new ['old'] m1\n", "{ran:?}");
    let shown = env.json(["info", &recorded(&ran).id]);
    assert_eq!(shown[0]["parent"]["edits"][0], "prompt");
}

#[test]
fn resume_sets_variables_and_takes_another_command() {
    let env = TestEnv::new();
    env.record("true");
    let ran = env.run([
        "resume",
        "s1",
        "-q",
        "--env",
        "GREETING=hi there",
        "--",
        "sh",
        "-c",
        "echo $GREETING; exit 5",
    ]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, "hi there\n"), "{ran:?}");
    let copies = || fs::read_dir(env.home().join("work")).expect("there").count();
    let before = copies();
    assert_eq!(env.run(["resume", "s1", "-q", "--", "./not-there"]).code, 127);
    assert_eq!(copies(), before, "nothing ran, so no copy is left");
    let bad = env.run(["resume", "s1", "--env", "=x"]);
    assert_eq!(bad.code, 125);
    assert!(bad.stderr.contains("write NAME=VALUE"), "{bad:?}");
}

#[test]
fn resume_refuses_where_the_original_path_is_gone() {
    let env = TestEnv::new();
    env.record_with(&["-o", "../trace.zst"], &["touch", "made"]);
    let moved = env.outside("moved");
    fs::rename(env.work(), &moved).expect("ours");
    let mut command = env.agentrec(["resume", "../trace.zst@s1", "--", "touch", "ran"]);
    let output = command.current_dir(env.home()).output().expect("it runs");
    fs::rename(&moved, moved.with_file_name("../work")).expect("ours");
    assert_eq!(output.status.code(), Some(125));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("does not exist") && stderr.contains("hint: "), "{stderr}");
    assert_eq!(env.read("ran"), None, "there is no fallback to the real directory");
}

#[test]
fn resume_works_in_the_directory_that_is_named() {
    let env = TestEnv::new();
    env.write("a", "1");
    env.record("true");
    let copy = env.outside("copy");
    let copy = copy.to_str().expect("text");
    let ran = env.run(["resume", "s1", "-q", "--dir", copy, "--", "sh", "-c", "echo 2 > a"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fs::read_to_string(format!("{copy}/a")).expect("there"), "2\n");
    assert_eq!(env.read("a").as_deref(), Some("1"));
}

#[test]
fn apply_brings_the_changes_of_a_copy_home() {
    let env = TestEnv::new();
    env.write("both", "0\n");
    env.write("old", "0\n");
    env.record("true");
    let script = "echo copy > both; rm old; echo new > new";
    let resumed = recorded(&env.run(["resume", "s1", "--json", "--", "sh", "-c", script]));
    assert!(is_private(&env.home().join("work").join(&resumed.id)));
    env.write("mine", "mine");
    let shown = env.ok(["apply", &resumed.id, "--dry-run"]);
    assert_eq!(shown, "~ both  +1 -1\n+ new  +1 -0\n- old  +0 -1\n");
    assert_eq!(env.read("old").as_deref(), Some("0\n"), "a dry run changes nothing");
    let unasked = env.run(["apply", &resumed.id]);
    assert_eq!(unasked.code, 1);
    assert!(unasked.stderr.contains("hint: --yes"), "{unasked:?}");
    env.ok(["apply", &resumed.id, "--yes"]);
    let now = ["both", "old", "new", "mine"].map(|name| env.read(name));
    let wanted =
        [Some("copy\n"), None, Some("new\n"), Some("mine")].map(|text| text.map(str::to_owned));
    assert_eq!(now, wanted);
}

#[test]
fn apply_deletes_nothing_that_never_got_into_the_copy() {
    let env = TestEnv::new();
    env.write(".env", "TOKEN=x");
    env.write("a", "1\n");
    env.record_with(&["-o", "../elsewhere.zst"], &["true"]);
    // Another machine: its store does not hold the secret file.
    let other = env.outside("home");
    let run = |args: &[&str]| {
        let output = env.agentrec(args).env("AGENTREC_HOME", &other).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    run(&["resume", "../elsewhere.zst@s1", "-q", "--", "sh", "-c", "echo 2 > a"]);
    // Nor does what goes on from there delete it.
    run(&["resume", "last@s2", "-q", "--", "sh", "-c", "echo 3 > b"]);
    let (code, told) = run(&["apply", "--yes"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("unknown .env  was not in the copy"), "{told}");
    assert_eq!(
        ["a", "b", ".env"].map(|name| env.read(name).unwrap_or_default()),
        ["2\n", "3\n", "TOKEN=x"]
    );
}

#[test]
fn apply_leaves_conflicts_alone_unless_told_otherwise() {
    let env = TestEnv::new();
    env.write("both", "0\n");
    env.record("true");
    let resumed =
        recorded(&env.run(["resume", "s1", "--json", "--", "sh", "-c", "echo copy > both"]));
    env.write("both", "mine\n");
    let ran = env.run(["apply", &resumed.id, "--yes"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("conflict both"), "{ran:?}");
    assert_eq!(env.read("both").as_deref(), Some("mine\n"));
    env.ok(["apply", &resumed.id, "--yes", "--overwrite"]);
    assert_eq!(env.read("both").as_deref(), Some("copy\n"));
}

#[test]
fn apply_asks_on_a_terminal() {
    let env = TestEnv::new();
    env.record("true");
    recorded(&env.run(["resume", "s1", "--json", "--", "sh", "-c", "echo new > new"]));
    let answer =
        |text: &str| env.in_terminal(&format!("echo {text} | {} apply", common::AGENTREC), &[]);
    // Its standard input is a pipe then, so it must not take that for an answer.
    assert_eq!(answer("y").code, 1);
    assert_eq!(env.read("new"), None);
}

#[test]
fn apply_needs_a_resumed_session() {
    let env = TestEnv::new();
    let recorded = env.record("true");
    let ran = env.run(["apply", &recorded.id, "--yes"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("has no copy here") && ran.stderr.contains("hint: "), "{ran:?}");
    assert_eq!(of_kind(&env.json(["list"]), "session").len(), 1);
}

/// Two gigabytes, of which each megabyte is another one.
const LARGE: u64 = 2 << 30;

fn write_large(path: &std::path::Path) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).expect("ours"));
    let mut block = vec![0; 1 << 20];
    for number in 0..LARGE >> 20 {
        for (at, word) in (0_u64..).zip(block.chunks_exact_mut(8)) {
            word.copy_from_slice(&((number << 32) | (at / 64)).to_le_bytes());
        }
        file.write_all(&block).expect("there is room");
    }
    file.flush().expect("there is room");
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_restore_of_two_gigabytes_is_exact_and_a_change_in_them_costs_what_changed() {
    let env = TestEnv::new();
    let large = env.work().join("large");
    write_large(&large);
    let patch = "dd if=/dev/urandom of=large bs=64k count=1 seek=20000 conv=notrunc status=none";
    let recorded =
        env.record(&format!("{patch}; {} store stats --json > ../stats", common::AGENTREC));
    let stored = |stats: &serde_json::Value| stats["stored_bytes"].as_u64().expect("a number");
    let before = objects(&env.read("../stats").expect("written")).remove(0);
    let after = env.json(["store", "stats"]).remove(0);
    let grown = stored(&after) - stored(&before);
    assert!(grown < 8 << 20, "{grown} bytes for 64 KiB: {before} {after}");
    for (snapshot, expected) in [("s1", false), ("s2", true)] {
        env.ok(["restore", &format!("{}@{snapshot}", recorded.id), "--dir", snapshot]);
        let same =
            env.command("cmp").arg("-s").arg(&large).arg(format!("{snapshot}/large")).status();
        assert_eq!(same.expect("cmp runs").success(), expected, "{snapshot}");
        fs::remove_dir_all(env.work().join("s2")).ok();
    }
    env.ok(["undo", "--yes"]);
    let same = env.command("cmp").args(["large", "s1/large"]).status();
    assert!(same.expect("cmp runs").success(), "undone to the byte");
}
