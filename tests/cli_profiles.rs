//! The state directories of agents: roots while such an agent runs, and left alone by what goes back unless it is asked for.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use agentrec_trace::{ObjectId, Reader};
use common::{Recorded, TestEnv, of_kind};
use serde_json::Value;

/// A file in the home directory.
fn put(env: &TestEnv, name: &str, content: &str) {
    let path = env.outside(name);
    fs::create_dir_all(path.parent().expect("it has one")).expect("a directory of ours");
    fs::write(path, content).expect("a file of ours");
}

fn get(env: &TestEnv, name: &str) -> Option<String> {
    fs::read_to_string(env.outside(name)).ok()
}

/// An agent of this name, as a program in the home directory; returns its path.
fn agent(env: &TestEnv, name: &str, script: &str) -> String {
    let file = format!("bin/{name}");
    put(env, &file, &format!("#!/bin/sh\n{script}\n"));
    let path = env.outside(&file);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    path.to_str().expect("text").to_owned()
}

/// Claude Code with state of another session, as it stood before.
fn claude(env: &TestEnv) -> String {
    put(env, ".claude/projects/old.jsonl", "of another session\n");
    put(env, ".claude/.credentials.json", "token 1\n");
    put(env, ".claude/debug/log", "of no use\n");
    agent(
        env,
        "claude",
        "echo \"said $1\" > ~/.claude/projects/new.jsonl; echo token 2 > ~/.claude/.credentials.json; echo worked >> a",
    )
}

fn snapshots(env: &TestEnv, session: &str) -> Vec<Value> {
    of_kind(&env.json(["info", session]), "snapshot").into_iter().cloned().collect()
}

/// The roots of a snapshot that hold an agent's state: the path below the home directory, and the agent.
fn state(env: &TestEnv, snapshot: &Value) -> Vec<(String, String)> {
    let roots = snapshot["roots"].as_array().expect("a list").iter();
    let home = env.outside("").canonicalize().expect("it is there");
    let of_agents = roots.filter(|root| root["agent"].is_string());
    let named = of_agents.map(|root| {
        let path = Path::new(root["path"]["text"].as_str().expect("text"));
        let below = path.strip_prefix(&home).unwrap_or(path).to_str().expect("text");
        (below.to_owned(), root["agent"].as_str().expect("text").to_owned())
    });
    named.collect()
}

fn pair(path: &str, agent: &str) -> (String, String) {
    (path.to_owned(), agent.to_owned())
}

fn is_in_trace(recorded: &Recorded, content: &str) -> bool {
    let reader = Reader::open(&recorded.trace).expect("a trace");
    reader.has_object(&ObjectId::of(content.as_bytes())).expect("readable")
}

#[test]
fn profiles_make_the_state_of_each_agent_a_root() {
    for (name, program, dir, secret, excluded) in [
        ("claude-code", "claude", ".claude", ".credentials.json", "debug/x"),
        ("codex", "codex", ".codex", "auth.json", "log/x"),
        ("gemini-cli", "gemini", ".gemini", "oauth_creds.json", "tmp/bin/x"),
        ("opencode", "opencode", ".local/share/opencode", "opencode.db", "log/x"),
        ("pi", "pi", ".pi/agent", "auth.json", "bin/x"),
        ("aider", "aider", ".aider", "oauth-keys.env", "caches/x"),
    ] {
        let env = TestEnv::new();
        let old = format!("of another session of {name}");
        put(&env, &format!("{dir}/old"), &old);
        put(&env, &format!("{dir}/{secret}"), "the token\n");
        put(&env, &format!("{dir}/{excluded}"), "of no use\n");
        let script = format!("cd ~/{dir}; echo of this session > new; echo changed > old");
        let program = agent(&env, program, &script);
        let recorded = env.record_with(&[], &[&program]);
        let found = snapshots(&env, &recorded.id);
        for snapshot in &found {
            assert_eq!(state(&env, snapshot), [pair(dir, name)], "{snapshot}");
        }
        assert_eq!((found.len(), &found[1]["trigger"]), (2, &"end".into()), "{name}");
        let shown = env.ok(["info"]);
        assert!(shown.contains(&format!("~/{dir}  3 files")), "{shown}");
        assert!(shown.contains(&format!("the state of {name}")), "{shown}");
        assert!(shown.contains(&format!("secret, never in a trace: ~/{dir}/{secret}")), "{shown}");
        assert!(shown.contains("left out, excluded: ~/"), "{shown}");
        // What the session changed is inside, as it is and as it was.
        assert!(
            is_in_trace(&recorded, "of this session\n") && is_in_trace(&recorded, &old),
            "{name}"
        );
        assert!(!is_in_trace(&recorded, "the token\n") && !is_in_trace(&recorded, "of no use\n"));
        // The agent's own files are not the work.
        let closing = &recorded.closing;
        assert_eq!((&closing["added"], &closing["outside"]), (&0.into(), &2.into()), "{closing}");
    }
}

#[test]
fn profiles_leave_other_sessions_state_out_of_the_trace() {
    let env = TestEnv::new();
    let program = claude(&env);
    let recorded = env.record_with(&[], &[&program, "hello"]);
    assert!(is_in_trace(&recorded, "said hello\n"));
    assert!(
        !is_in_trace(&recorded, "of another session\n") && !is_in_trace(&recorded, "token 1\n")
    );

    let full = env.outside("full.zst");
    let full = full.to_str().expect("text");
    let told = &env.json(["bundle", "-o", full])[0];
    assert_eq!(told["state_left"][0]["files"], 1, "{told}");
    assert_eq!(told["self_contained"], true, "{told}");
    let bundled =
        |path: &str| Recorded { id: String::new(), trace: path.into(), closing: Value::Null };
    assert!(!is_in_trace(&bundled(full), "of another session\n"));
    assert!(is_in_trace(&bundled(full), "said hello\n"));
    let said = env.ok(["bundle", "-o", full, "--force"]);
    assert!(
        said.contains("an agent's state that the session did not change, left out: "),
        "{said}"
    );
    let told = &env.json(["bundle", "-o", full, "--force", "--with-state"])[0];
    assert_eq!(told["state_left"], Value::Array(Vec::new()), "{told}");
    assert!(is_in_trace(&bundled(full), "of another session\n"));
    assert!(!is_in_trace(&bundled(full), "token 1\n"));
}

/// One that is started by another program, when the recording runs.
fn an_agent_behind_a_shell_is_known_when_it_starts(engine: &str) {
    let env = TestEnv::new();
    let program = claude(&env);
    // Of its own environment, not of the command's.
    put(&env, "elsewhere/auth.json", "the token\n");
    put(&env, "elsewhere/old", "of another session of codex\n");
    let codex =
        agent(&env, "codex", "echo codex > ~/elsewhere/new; echo token > ~/elsewhere/auth.json");
    let script = format!("{program} hello; CODEX_HOME=$HOME/elsewhere {codex}; {program} again");
    let recorded = env.record_with(&["--engine", engine], &["sh", "-c", &script]);
    let found = snapshots(&env, &recorded.id);
    let seen = |index: usize| state(&env, &found[index]);
    let both = [pair(".claude", "claude-code"), pair("elsewhere", "codex")];
    assert_eq!((seen(0).as_slice(), seen(found.len() - 1).as_slice()), (&[][..], &both[..]));
    let triggers: Vec<_> = found.iter().map(|it| it["trigger"].as_str().expect("text")).collect();
    assert!(triggers.len() >= 3 && triggers.len() <= 4 && triggers[1] == "agent", "{triggers:?}");
    // Whether it was written before its directory was read or after: it is this session's.
    assert!(is_in_trace(&recorded, "said again\n") && is_in_trace(&recorded, "codex\n"));
    for other in ["of another session\n", "of another session of codex\n", "the token\n", "token\n"]
    {
        assert!(!is_in_trace(&recorded, other), "{other}");
    }
    let last = format!("{}@s{}", recorded.id, found.len());
    let last = env.run(["restore", &last, "--with-state", "--dir", "../back"]);
    assert!(last.stdout.contains("-2-elsewhere: 3 files"), "{last:?}");
}

#[test]
fn profiles_know_an_agent_that_is_started_later() {
    an_agent_behind_a_shell_is_known_when_it_starts("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_profiles_know_an_agent_that_is_started_later_by_ebpf() {
    an_agent_behind_a_shell_is_known_when_it_starts("ebpf");
}

#[test]
fn profiles_take_a_directory_that_the_agent_makes_at_its_first_run() {
    let env = TestEnv::new();
    let program = agent(
        &env,
        "codex",
        "mkdir ~/.codex; echo mine > ~/.codex/rollout.jsonl; echo t > ~/.codex/auth.json",
    );
    let recorded = env.record_with(&[], &[&program]);
    let found = snapshots(&env, &recorded.id);
    assert_eq!(state(&env, &found[0]), []);
    assert_eq!(state(&env, &found[1]), [pair(".codex", "codex")]);
    assert!(is_in_trace(&recorded, "mine\n") && !is_in_trace(&recorded, "t\n"));
    // Nothing was there before, so nothing is left of it.
    assert_eq!(env.run(["undo", "--yes", "--with-state"]).code, 0);
    assert_eq!(get(&env, ".codex/rollout.jsonl"), None);
}

#[test]
fn profiles_know_an_agent_that_runs_already() {
    let env = TestEnv::new();
    put(&env, ".codex/old", "of another session\n");
    let program = agent(&env, "codex", "echo up; read line; echo new > ~/.codex/new");
    let mut command = env.command(&program);
    let mut running =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(running.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("readable");
    let pid = running.id().to_string();
    let mut command = env.agentrec(["attach", &pid]);
    let mut attached = command.stderr(Stdio::piped()).spawn().expect("agentrec starts");
    let mut stderr = BufReader::new(attached.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("agentrec: attached") {
        assert!(stderr.read_line(&mut said).expect("readable") > 0, "{said}");
    }
    // At the end of its input it goes on.
    drop(running.stdin.take());
    stderr.read_to_string(&mut said).expect("readable");
    assert_eq!(attached.wait().expect("it ends").code(), Some(0), "{said}");
    running.wait().expect("it ends");
    let found = snapshots(&env, "last");
    assert!(found.len() == 2, "{found:?}");
    for snapshot in &found {
        assert_eq!(state(&env, snapshot), [pair(".codex", "codex")]);
    }
    let ran = env.run(["diff", "--with-state", "--stat"]);
    assert_eq!(ran.stdout, "+ new  +1 -0\n", "{ran:?}");
}

#[test]
fn profiles_can_be_turned_off_and_credentials_stay_known() {
    let env = TestEnv::new();
    put(&env, ".codex/rollout.jsonl", "old\n");
    let program = agent(&env, "codex", "echo new > ~/.codex/rollout.jsonl");
    env.write("state/auth.json", "the token\n");
    env.write("state/config", "no secret\n");
    let mut command = env.agentrec(["run", "--json", "--no-profiles", "--", &program]);
    command.env("CODEX_HOME", env.work().join("state"));
    let recorded = common::recorded(&common::ran(command.output()));
    for snapshot in snapshots(&env, &recorded.id) {
        assert_eq!(state(&env, &snapshot), []);
    }
    assert!(is_in_trace(&recorded, "no secret\n") && !is_in_trace(&recorded, "the token\n"));
}

#[test]
fn profiles_take_no_directory_twice_and_none_that_a_root_lies_in() {
    let env = TestEnv::new();
    let program = claude(&env);
    let home = env.outside("").canonicalize().expect("it is there");
    let run = |dir: &Path, options: &[&str]| {
        let command = ["--", &program, "x"];
        let args = ["run", "--json"].iter().chain(options).chain(&command);
        let mut command = env.agentrec(args);
        command.current_dir(dir);
        let recorded = common::recorded(&common::ran(command.output()));
        let roots = snapshots(&env, &recorded.id)[0]["roots"].clone();
        let roots = roots.as_array().expect("a list").iter();
        let root = |root: &Value| {
            (root["path"]["text"].as_str().map(str::to_owned), root["agent"].clone())
        };
        roots.map(root).collect::<Vec<_>>()
    };
    let path = |dir: &Path| dir.to_str().map(str::to_owned);
    assert_eq!(run(&home, &[]), [(path(&home), Value::Null)]);
    let inside = home.join(".claude/projects");
    assert_eq!(run(&inside, &[]), [(path(&inside), Value::Null)]);
    // Who names it means it.
    let claude = home.join(".claude");
    let named = run(&env.work(), &["--root", claude.to_str().expect("text")]);
    assert_eq!(named, [(path(&env.work()), Value::Null), (path(&claude), Value::Null)]);
}

#[test]
fn profiles_restore_undo_diff_and_export_leave_state_alone_unless_asked() {
    let env = TestEnv::new();
    env.write("a", "before\n");
    let program = claude(&env);
    let recorded = env.record_with(&[], &[&program, "hello"]);

    let ran = env.run(["diff"]);
    assert!(!ran.stdout.contains("new.jsonl") && ran.stdout.contains("+worked"), "{ran:?}");
    assert!(
        ran.stderr.contains("~/.claude, the state of claude-code, differs too (--with-state)"),
        "{ran:?}"
    );
    let ran = env.run(["diff", "--with-state"]);
    assert!(ran.stdout.contains("+said hello") && !ran.stdout.contains("token"), "{ran:?}");

    let ran = env.run(["restore", "s1", "--dir", "../first"]);
    assert!(ran.code == 0 && !ran.stdout.contains(".claude"), "{ran:?}");
    assert!(
        ran.stderr.contains("the state of claude-code, is left alone (--with-state)"),
        "{ran:?}"
    );
    let ran = env.run(["restore", "s1", "--dir", "../second", "--with-state"]);
    assert!(ran.stdout.contains("missing debug: excluded"), "{ran:?}");
    let copy = env.work().with_file_name("second-1-.claude");
    assert_eq!(fs::read_to_string(copy.join(".credentials.json")).expect("there"), "token 1\n");
    assert!(!copy.join("projects/new.jsonl").exists() && !copy.join("debug/log").exists());

    env.ok(["export", "--format", "git", "--to", "../repo"]);
    let repo = env.work().with_file_name("repo");
    assert!(repo.join("a").exists() && !repo.join(".claude").exists());

    let ran = env.run(["undo", "--yes"]);
    assert!(
        ran.stderr.contains("the state of claude-code, is left as it is (--with-state)"),
        "{ran:?}"
    );
    assert_eq!((env.read("a").as_deref(), ran.code), (Some("before\n"), 0), "{ran:?}");
    assert_eq!(get(&env, ".claude/projects/new.jsonl").as_deref(), Some("said hello\n"));
    assert_eq!(env.run(["redo", "--yes"]).code, 0);

    let ran = env.run(["restore", &format!("{}@s1", recorded.id), "--in-place"]);
    assert_eq!((env.read("a").as_deref(), ran.code), (Some("before\n"), 0), "{ran:?}");
    assert_eq!(get(&env, ".claude/.credentials.json").as_deref(), Some("token 2\n"));
    assert_eq!(get(&env, ".claude/projects/new.jsonl").as_deref(), Some("said hello\n"));

    let ran = env.run(["undo", "--yes", "--with-state", &recorded.id, "--only", "**/.claude/**"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(get(&env, ".claude/.credentials.json").as_deref(), Some("token 1\n"));
    assert_eq!(get(&env, ".claude/projects/new.jsonl"), None);
}

#[test]
fn profiles_follow_a_link_to_the_state() {
    let env = TestEnv::new();
    put(&env, "dotfiles/codex/old", "of another session\n");
    std::os::unix::fs::symlink("dotfiles/codex", env.outside(".codex")).expect("ours");
    let program =
        agent(&env, "codex", "echo new > ~/.codex/new; echo more >> ~/.codex/old; echo > a");
    let recorded = env.record_with(&[], &[&program]);
    let found = snapshots(&env, &recorded.id);
    assert_eq!(state(&env, &found[1]), [pair("dotfiles/codex", "codex")]);
    assert!(is_in_trace(&recorded, "of another session\nmore\n"));
    let ran = env.run(["undo", "--yes"]);
    assert_eq!((env.read("a"), ran.code), (None, 0), "{ran:?}");
    assert_eq!(get(&env, ".codex/new").as_deref(), Some("new\n"));
    let ran = env.run([
        "resume",
        &format!("{}@s1", recorded.id),
        "-q",
        "--",
        "sh",
        "-c",
        "cat ~/.codex/*",
    ]);
    assert_eq!(ran.stdout, "of another session\n", "{ran:?}");
}

#[test]
fn profiles_give_a_resumed_agent_the_state_that_it_had() {
    let env = TestEnv::new();
    env.write("a", "before\n");
    put(&env, ".claude/projects/old.jsonl", "first\n");
    put(&env, ".claude/.credentials.json", "token 1\n");
    let log = "cat ~/.claude/projects/old.jsonl >> a; echo more >> ~/.claude/projects/old.jsonl; cat ~/.claude/.credentials.json >&2";
    let program = agent(&env, "claude", log);
    let first = env.record_with(&[], &[&program]);
    put(&env, ".claude/projects/old.jsonl", "of later sessions\n");
    put(&env, ".claude/.credentials.json", "token 2\n");
    let resumed = env.run(["resume", &format!("{}@s2", first.id), "--json"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    // Credentials that were replaced since would be refused.
    assert!(
        resumed.stderr.contains("token 2\n") && !resumed.stderr.contains("token 1"),
        "{resumed:?}"
    );
    assert!(!resumed.stderr.contains("missing"), "{resumed:?}");
    let resumed = common::recorded(&resumed);
    let found = snapshots(&env, &resumed.id);
    assert_eq!(state(&env, &found[0]), [pair(".claude", "claude-code")]);
    assert!(is_in_trace(&resumed, "before\nfirst\nfirst\nmore\n"));
    // In a copy.
    assert_eq!(get(&env, ".claude/projects/old.jsonl").as_deref(), Some("of later sessions\n"));
    assert_eq!(env.read("a").as_deref(), Some("before\nfirst\n"));
    // What the agent noted down there is not brought home, what it did is.
    let ran = env.run(["apply", &resumed.id, "--yes"]);
    assert_eq!(
        (env.read("a").as_deref(), ran.code),
        (Some("before\nfirst\nfirst\nmore\n"), 0),
        "{ran:?}"
    );
    assert_eq!(get(&env, ".claude/projects/old.jsonl").as_deref(), Some("of later sessions\n"));

    // On a machine that has no such directory the agent begins without it.
    fs::remove_dir_all(env.outside(".claude")).expect("it was there");
    let ran = env.run(["resume", &format!("{}@s2", first.id), "--json"]);
    assert!(ran.stderr.contains("~/.claude is not here: the agent starts without"), "{ran:?}");
    let again = common::recorded(&ran);
    assert_eq!(state(&env, &snapshots(&env, &again.id)[0]), []);
}

#[test]
fn profiles_of_the_user_count_and_wrong_ones_stop_no_recording() {
    let env = TestEnv::new();
    put(&env, ".mine/state", "old\n");
    let program = agent(&env, "my-agent", "echo new > ~/.mine/state");
    let own = env.home().join("profiles.toml");
    fs::create_dir_all(env.home()).expect("ours");
    let table = "[agent.mine]\nprograms = ['my-agent']\n[[agent.mine.state]]\ndir = ['~/.mine']\n";
    fs::write(&own, table).expect("ours");
    let recorded = env.record_with(&[], &[&program]);
    assert_eq!(state(&env, &snapshots(&env, &recorded.id)[0]), [pair(".mine", "mine")]);
    let doctor = env.run(["doctor"]).stdout;
    assert!(
        doctor.contains("snapshots hold the state of an agent that runs: mine ~/.mine"),
        "{doctor}"
    );

    fs::write(&own, format!("{table}secrets = ['x']\n")).expect("ours");
    put(&env, ".codex/rollout.jsonl", "old\n");
    let codex = agent(&env, "codex", "echo new > ~/.codex/rollout.jsonl");
    let ran = env.run(["run", "--json", "--", &codex]);
    let said = format!(
        "agentrec: cannot use the profiles in {}, line 5: unknown field `secrets`",
        own.display()
    );
    assert!(ran.code == 0 && ran.stderr.starts_with(&said), "{ran:?}");
    assert!(ran.stderr.contains("hint: correct them, or remove the file"), "{ran:?}");
    let recorded = common::recorded(&ran);
    assert_eq!(state(&env, &snapshots(&env, &recorded.id)[0]), [pair(".codex", "codex")]);
    let doctor = env.run(["doctor"]).stdout;
    assert!(doctor.contains("limited  profiles") && doctor.contains("line 5"), "{doctor}");
}

#[test]
#[ignore = "needs root"]
fn root_profiles_hold_the_state_of_an_ordinary_users_agent() {
    let env = TestEnv::new();
    let program = claude(&env);
    // Not everything of theirs can be read.
    put(&env, ".claude/locked", "not ours\n");
    let user = nix::unistd::User::from_name("nobody").expect("there are users").expect("nobody");
    let top = env.work().parent().expect("it has one").to_owned();
    let recorder = env.outside("agentrec");
    fs::copy(common::AGENTREC, &recorder).expect("room for a copy");
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    let mut chown = env.command("chown");
    chown.args(["-R", &format!("{uid}:{gid}")]).arg(&top);
    assert_eq!(common::ran(chown.output()).code, 0);
    let locked = env.outside(".claude/locked");
    nix::unistd::chown(&locked, Some(0.into()), Some(0.into())).expect("we are root");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o600)).expect("ours");
    let as_user = |args: &[&str]| {
        let mut command = env.command("setpriv");
        command.args(["--reuid", &uid, "--regid", &gid, "--clear-groups", "--inh-caps=-all", "--"]);
        command.arg(&recorder).args(args);
        common::ran(command.output())
    };
    let recorded = common::recorded(&as_user(&["run", "--json", "--", &program, "hello"]));
    assert!(is_in_trace(&recorded, "said hello\n") && !is_in_trace(&recorded, "token 2\n"));
    let info = as_user(&["info"]).stdout;
    assert!(
        info.contains("~/.claude  3 files") && info.contains("the state of claude-code"),
        "{info}"
    );
    assert!(info.contains("left out, not readable: ~/.claude/locked"), "{info}");
    fs::remove_file(env.outside(".claude/projects/new.jsonl")).expect("it was made");
    let look = ["resume", "last@s2", "--json", "--", "cat", ".claude/projects/new.jsonl"];
    let home = env.outside("");
    let look = look.map(|word| match word {
        ".claude/projects/new.jsonl" => home.join(word).to_str().expect("text").to_owned(),
        word => word.to_owned(),
    });
    let resumed = as_user(&look.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((resumed.stdout.as_str(), resumed.code), ("said hello\n", 0), "{resumed:?}");
    assert!(
        resumed.stderr.contains("missing of ~/.claude, the state of claude-code: 1 file"),
        "{resumed:?}"
    );
}
