//! `store check`, `store gc` and `store stats`, on what recordings left, killed ones too.

mod common;

use std::fs;

use agentrec_store::{Home, Objects, Store};
use agentrec_trace::ObjectId;
use common::{Live, TestEnv};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Bytes that don't compress, as text.
fn noise(seed: u64, len: usize) -> String {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        char::from(b'!' + (state >> 57) as u8 % 90)
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn store_gc_removes_what_only_removed_sessions_named() {
    let env = TestEnv::new();
    env.write("data", &noise(1, 200_000));
    let first = env.record("true");
    env.write("data", &noise(2, 200_000));
    env.record("true");
    let sound = env.ok(["store", "check"]);
    assert!(
        sound.starts_with("nothing broken or missing: ") && sound.contains("4 snapshots"),
        "{sound}"
    );
    let stats = env.json(["store", "stats"])[0].clone();
    assert!(stats["stored_bytes"].as_u64() > Some(300_000), "{stats}");

    env.ok(["rm", &first.id]);
    let young = env.json(["store", "gc", "--yes"])[0].clone();
    assert_eq!(young["objects"], 0, "what was stored lately stays: {young}");
    let dry = env.run(["store", "gc", "--keep-last", "0s", "--dry-run"]);
    assert!(dry.stdout.starts_with("would remove "), "{dry:?}");
    assert!(dry.stderr.contains("hint: --yes removes them"), "{dry:?}");
    assert_eq!(env.json(["store", "stats"])[0], stats, "nothing went");
    let gone = env.json(["store", "gc", "--keep-last", "0s", "--yes"])[0].clone();
    assert!(gone["bytes"].as_u64() > Some(150_000), "{gone}");
    assert!(env.ok(["store", "check"]).starts_with("nothing broken or missing: "));
    env.ok(["restore", "s1", "--dir", "back"]);
    assert_eq!(env.read("back/data"), Some(noise(2, 200_000)));
}

#[test]
fn a_size_that_sessions_need_is_said() {
    let env = TestEnv::new();
    env.write("data", &noise(1, 200_000));
    env.record("true");
    let ran = env.run(["store", "gc", "--keep-last", "0s", "--max-size", "100k"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("hint: agentrec prune removes old sessions"), "{ran:?}");
}

#[test]
fn a_trace_that_cannot_be_read_keeps_everything() {
    let env = TestEnv::new();
    let recorded = env.record_with(&["-o", "trace.zst"], &["true"]);
    fs::write(&recorded.trace, "no trace").expect("ours");
    let ran = env.run(["store", "gc", "--keep-last", "0s", "--yes"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("trace.zst") && ran.stderr.contains("hint: "), "{ran:?}");
}

#[test]
fn store_check_names_damage() {
    let env = TestEnv::new();
    env.write("data", &noise(1, 100_000));
    env.record("true");
    let packs = env.home().join("objects/packs");
    for pack in fs::read_dir(packs).expect("there").flatten() {
        let mut bytes = fs::read(pack.path()).expect("ours");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(pack.path(), bytes).expect("ours");
    }
    let ran = env.run(["store", "check"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("damaged  object ") && ran.stderr.contains("hint: "), "{ran:?}");
}

#[test]
fn what_is_kept_of_a_secret_file_outside_stays_while_the_recording_runs_and_after_it() {
    let env = TestEnv::new();
    let rounds = 8;
    let old = |round| format!("TOKEN={}", noise(round, 100));
    for round in 0..rounds {
        fs::create_dir(env.outside(&format!("d{round}"))).expect("ours");
        fs::write(env.outside(&format!("d{round}/.env")), old(round)).expect("ours");
    }
    let script = "while read dir; do echo new > ~/$dir/.env; echo changed; done";
    let mut live = env.start(&["--engine", "ptrace"], script);
    // Opened each time: one that is open remembers which packs there were.
    let store = || Store::open(&Home::new(env.home())).expect("ours");
    let is_there = |round| {
        let id = ObjectId::of(old(round).as_bytes());
        store().contains(&id).expect("a sound store")
    };
    let collect = || env.json(["store", "gc", "--keep-last", "0s", "--yes"])[0].clone();
    let mut gone = 0;
    for round in 0..rounds {
        live.tell(&format!("d{round}"));
        live.wait_for("changed");
        while !is_there(round) {
            std::thread::yield_now();
        }
        // Something goes each time.
        store().put(noise(100 + round, 100_000).as_bytes()).expect("ours");
        // The event that names what was kept may not be in the trace's file yet.
        gone += u64::from(collect()["objects"].as_u64() > Some(0));
        for kept in 0..=round {
            assert!(is_there(kept), "round {round}: what was kept in round {kept} is gone");
        }
    }
    assert_eq!(gone, rounds);
    assert_eq!(live.finish().code, 0);
    collect();
    env.ok(["store", "check"]);
    env.ok(["undo", "--yes"]);
    for round in 0..rounds {
        let now = fs::read_to_string(env.outside(&format!("d{round}/.env")));
        assert_eq!(now.expect("it is back"), old(round));
    }
}

#[test]
fn a_killed_recorder_leaves_a_sound_store() {
    kill_recorders(6);
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_200_killed_recorders_leave_a_sound_store() {
    kill_recorders(200);
}

/// Ends recordings that take one snapshot after the other by SIGKILL, each a bit later in its work.
fn kill_recorders(rounds: u64) {
    let env = TestEnv::new();
    for round in 0..rounds {
        let script = "while :; do for n in 1 2 3 4 5 6 7 8; do \
            head -c 20000 /dev/urandom > f$n; done; \"$0\" snapshot >&2; echo taken; done";
        let args = ["run", "--json", "--", "sh", "-c", script, common::AGENTREC];
        let mut live = Live::start(env.agentrec(args));
        for _ in 0..round % 4 {
            live.wait_for("taken");
        }
        let front = live.pid();
        let children = fs::read_to_string(format!("/proc/{front}/task/{front}/children"));
        let recorder = children.expect("it runs").split_whitespace().find_map(|pid| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            (exe == fs::canonicalize(common::AGENTREC).ok()?).then(|| pid.parse().ok())?
        });
        // Not seen yet: then the front is ended, and the recorder with it.
        let victim = recorder.unwrap_or(front as i32);
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it runs");
        live.finish();
        let check = env.run(["store", "check"]);
        assert_eq!(check.code, 0, "round {round}: {check:?}");
    }
}
