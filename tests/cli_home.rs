//! The commands about this machine and its sessions: `list`, `rm`, `prune`, `verify`, `doctor`, `quickstart`, `completions`, `man`.

mod common;

use std::fs;

use common::{TestEnv, of_kind};

#[test]
fn list_shows_the_latest_first() {
    let env = TestEnv::new();
    let one = env.record("exit 3");
    let two = env.record_with(&["--name", "second"], &["touch", "a"]);
    let ids: Vec<_> = env
        .json(["list"])
        .iter()
        .map(|s| s["session"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(ids, [two.id.as_str(), one.id.as_str()]);
    let shown = env.ok(["list"]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(
        lines[0].contains("exit 0")
            && lines[0].contains("+1 ~0 -0")
            && lines[0].contains("“second”"),
        "{shown}"
    );
    assert!(lines[1].contains("exit 3"), "{shown}");
    let mut elsewhere = env.agentrec(["list", "--here", "--json"]);
    let output = elsewhere.current_dir(env.home()).output().expect("it runs");
    assert_eq!(output.stdout, b"");
}

#[test]
fn an_id_that_is_cut_too_short_is_said_to_be() {
    let env = TestEnv::new();
    let recorded = env.record("true");
    env.ok(["show", &recorded.id[..4]]);
    let ran = env.run(["show", &recorded.id[..3]]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("hint: ids can be cut short, to no less than 4"), "{ran:?}");
}

#[test]
fn list_rescan_makes_the_catalogue_again() {
    let env = TestEnv::new();
    let own = env.record("true");
    let placed = env.record_with(&["-o", "placed.zst"], &["true"]);
    fs::write(env.home().join("catalogue.sqlite"), "no database").expect("ours");
    let _ = fs::remove_file(env.home().join("catalogue.sqlite-wal"));
    let ran = env.run(["list", "--rescan", "."]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for id in [&own.id, &placed.id] {
        assert!(ran.stdout.contains(&id[..4]), "{ran:?}");
    }
    assert_eq!(env.json(["info", &placed.id])[0]["session"], placed.id.as_str());
    // A trace that is gone is forgotten.
    fs::remove_file(&placed.trace).expect("ours");
    let ids = env.json(["list", "--rescan"]);
    assert_eq!(ids.len(), 1);
}

#[test]
fn rm_removes_sessions_and_leaves_traces_of_their_own() {
    let env = TestEnv::new();
    let own = env.record("true");
    let placed = env.record_with(&["-o", "placed.zst"], &["true"]);
    let told = env.ok(["rm", &own.id, &placed.id]);
    assert!(told.contains(&format!("removed {}\n", own.id)), "{told}");
    assert!(told.contains("placed.zst stays"), "{told}");
    assert!(!own.trace.exists() && placed.trace.exists());
    assert_eq!(env.json(["list"]).len(), 0);
    assert_eq!(env.run(["rm", &own.id]).code, 1);
    assert_eq!(env.run(["rm", "placed.zst"]).code, 1);
}

#[test]
fn rm_refuses_a_running_session() {
    let env = TestEnv::new();
    let mut live = env.start(&["--name", "busy"], "echo up; read x");
    live.wait_for("up");
    let ran = env.run(["rm", "busy"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("it is being recorded"), "{ran:?}");
    live.tell("go");
    live.finish();
    env.ok(["rm", "busy"]);
}

#[test]
fn prune_only_tells_until_it_is_told() {
    let env = TestEnv::new();
    let one = env.record("true");
    let two = env.record("true");
    assert_eq!(env.run(["prune"]).code, 2, "without a limit everything or nothing could be meant");
    assert_eq!(env.run(["prune", "--yes"]).code, 2, "the same where nothing is asked");
    assert_eq!(env.ok(["prune", "--keep-last", "7d", "--max-size", "1G"]), "");
    let would = env.ok(["prune", "--max-size", "0"]);
    assert_eq!(
        would.lines().filter(|line| line.starts_with("would remove ")).count(),
        2,
        "{would}"
    );
    assert!(one.trace.exists() && two.trace.exists());
    let newest = fs::metadata(&two.trace).expect("there").len();
    let removed = env.json(["prune", "--max-size", &newest.to_string(), "--yes"]);
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0]["session"], one.id.as_str());
    assert!(!one.trace.exists() && two.trace.exists());
}

#[test]
fn verify_names_the_first_bad_place() {
    let env = TestEnv::new();
    let recorded = env.record_with(&["-o", "trace.zst"], &["true"]);
    let good = env.ok(["verify"]);
    let seal = recorded.closing["seal"].as_str().expect("sealed");
    assert!(good.starts_with("complete: ") && good.contains(seal), "{good}");
    env.ok(["verify", "--seal", &seal[..32]]);
    assert_eq!(env.run(["verify", "--seal", "0000"]).code, 1);
    let mut bytes = fs::read(&recorded.trace).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&recorded.trace, &bytes).expect("ours");
    let bad = env.run(["verify", "trace.zst"]);
    assert_eq!(bad.code, 1);
    assert!(bad.stdout.starts_with("bad at byte "), "{bad:?}");
    fs::write(&recorded.trace, &bytes[..middle]).expect("ours");
    let cut = env.run(["verify", "trace.zst", "--json"]);
    assert_eq!(cut.code, 1);
    assert!(cut.stdout.contains("\"ok\":false"), "{cut:?}");
    env.write("other", "not a trace");
    assert_eq!(env.run(["verify", "./other"]).code, 1);
    assert_eq!(env.run(["verify", "./missing"]).code, 1);
}

#[test]
fn doctor_tries_what_this_machine_allows() {
    let env = TestEnv::new();
    let ran = env.run(["doctor"]);
    for check in [
        "kernel",
        "recording",
        "yama",
        "seccomp",
        "private mounts",
        "ebpf",
        "tls proxy",
        "data directory",
        "disk",
        "sockets",
        "python",
    ] {
        assert!(ran.stdout.contains(check), "no {check}: {ran:?}");
    }
    let checks = env.json(["doctor"]);
    let recording = checks.iter().find(|check| check["check"] == "recording").expect("checked");
    assert_eq!(recording["verdict"], "ok", "{recording}");
    assert_eq!(env.json(["list"]).len(), 0, "its own recording leaves nothing behind");
    // A file where the data directory should be: nothing can be recorded.
    env.write("file", "");
    let mut command = env.agentrec(["doctor", "--json"]);
    let output = command.env("AGENTREC_HOME", env.work().join("file")).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"verdict\":\"no\""));
}

#[test]
fn a_data_directory_that_cannot_be_written_to_is_named() {
    let env = TestEnv::new();
    env.record("true");
    let home = env.home();
    // Made before, and not; in a namespace, where everybody may mount.
    let made = "mount --bind \"$AGENTREC_HOME\" \"$AGENTREC_HOME\" && mount -o remount,bind,ro \"$AGENTREC_HOME\"";
    let empty = "mount -t tmpfs -o ro none \"$AGENTREC_HOME\"";
    for (mount, place) in [(made, home.clone()), (empty, home.join("objects"))] {
        for (words, code) in [("run -- touch ran", 125), ("list", 1), ("show", 1)] {
            let script = format!("{mount} && exec {} {words}", common::AGENTREC);
            let mut command = env.command("unshare");
            let output = command.args(["--map-root-user", "--mount", "sh", "-c", &script]).output();
            let output = output.expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr);
            let expected = format!(
                "agentrec: cannot use the data directory {}: read-only file system\n\
                 hint: make it writable, or set AGENTREC_HOME to a directory that is\n",
                place.display()
            );
            assert_eq!((output.status.code(), &*said), (Some(code), &*expected), "{words}");
        }
    }
    assert_eq!(env.read("ran"), None, "nothing runs when it can't be recorded");
}

#[test]
fn quickstart_goes_through_all_steps() {
    let env = TestEnv::new();
    let ran = env.run(["quickstart"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for step in
        ["run --with-sdk", "show", "why cart.py", "diff", "resume last@s3", "apply --dry-run"]
    {
        assert!(ran.stdout.contains(&format!("$ agentrec {step}")), "no {step}: {ran:?}");
    }
    assert!(ran.stdout.contains("write_file"), "{ran:?}");
    assert!(ran.stdout.contains("rewritten (") && ran.stdout.contains(" by python"), "{ran:?}");
    assert!(ran.stdout.contains("+++ b/cart.py"), "{ran:?}");
    assert!(
        ran.stdout.contains("You now say: \"The code is right, correct the test.\""),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("~ test_cart.py  +"), "{ran:?}");
    let sessions = env.json(["list"]);
    assert_eq!(of_kind(&sessions, "session").len(), 2);
    let again = env.run(["quickstart"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("hint: name another directory"), "{again:?}");
}

#[test]
fn completions_know_every_command() {
    let env = TestEnv::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = env.ok(["completions", shell]);
        for command in common::commands(&env) {
            assert!(script.contains(&command), "{shell}: no {command}");
        }
    }
    env.write("completion.bash", &env.ok(["completions", "bash"]));
    let sourced =
        env.command("bash").args(["-c", "source completion.bash && complete -p agentrec"]).output();
    assert!(sourced.expect("it runs").status.success());
}

#[test]
fn man_writes_a_page_for_every_command() {
    let env = TestEnv::new();
    env.ok(["man", "pages/man1"]);
    for command in common::commands(&env) {
        let page = env.read(&format!("pages/man1/agentrec-{command}.1")).unwrap_or_default();
        assert!(page.contains(".SH SYNOPSIS"), "no page for {command}");
    }
    assert!(env.read("pages/man1/agentrec.1").is_some_and(|page| page.contains("Flight recorder")));
}
