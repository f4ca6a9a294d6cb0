//! Disks that fill up under a running session, and what a snapshot says then.

mod common;

use std::path::{Path, PathBuf};

use agentrec_trace::{Data, Event, Reader};
use common::{AGENTREC, Ran, TestEnv, objects};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A small disk, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn new(env: &TestEnv, size: &str) -> Self {
        let at = env.outside("disk");
        std::fs::create_dir(&at).expect("a directory of ours");
        let options = format!("size={size},mode=700");
        mount(Some("none"), &at, Some("tmpfs"), MsFlags::empty(), Some(&*options))
            .expect("root mounts");
        Self(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}

/// More than fits.
const FILL: &str = "head -c 6000000 /dev/urandom > big";

fn run(env: &TestEnv, home: Option<&Path>, trace: &Path, on_error: &str, script: &str) -> Ran {
    let trace = trace.to_str().expect("text");
    let args = ["run", "--json", "-o", trace, "--on-error", on_error, "--", "sh", "-c", script];
    let mut command = env.agentrec(args);
    command.envs(home.map(|home| ("AGENTREC_HOME", home)));
    common::ran(command.output())
}

/// All events of a trace that may have been cut.
fn events(trace: &Path) -> Vec<Event<'static>> {
    let reader = Reader::open(trace).expect("a trace");
    let events: Vec<_> = reader.iter().map(|event| event.expect("sound")).collect();
    assert!(events.iter().zip(1..).all(|(event, number)| event.seq.0 == number));
    events
}

fn opened(events: &[Event<'_>], path: &Path) -> bool {
    events
        .iter()
        .any(|event| matches!(&event.data, Data::FileOpen(open) if open.path.as_path() == path))
}

#[test]
#[ignore = "needs root"]
fn root_a_snapshot_that_the_trace_has_no_room_for_ends_the_recording() {
    let script = format!(
        "echo x > one; {FILL}; {AGENTREC} snapshot -m later; echo status $?; echo x > two; exit 5"
    );
    for (on_error, code) in [("continue", 5), ("stop", 137)] {
        let env = TestEnv::new();
        let disk = Disk::new(&env, "1m");
        let trace = disk.0.join("trace.zst");
        let ran = run(&env, None, &trace, on_error, &script);
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(env.read("two").is_some(), code == 5, "{ran:?}");
        if code == 5 {
            assert_eq!(ran.stdout, "status 1\n", "{ran:?}");
            let refused = format!("agentrec: cannot take a snapshot: {}: ", trace.display());
            assert!(ran.stderr.contains(&refused), "{ran:?}");
        }
        assert!(ran.stderr.contains("o space left on device"), "{ran:?}");
        let events = events(&trace);
        let work = env.work();
        assert!(opened(&events, &work.join("one")) && opened(&events, &work.join("big")));
        assert!(!opened(&events, &work.join("two")));
        // No half of a frame is left.
        let len = std::fs::metadata(&trace).expect("there").len();
        let checked = env.run(["verify", trace.to_str().expect("text")]);
        let whole = format!("bad at byte {len}: the file ends\n");
        assert!(checked.stdout.starts_with(&whole), "{checked:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn root_a_snapshot_that_the_store_has_no_room_for_says_so_and_the_recording_goes_on() {
    let script = format!(
        "{FILL}; {AGENTREC} snapshot -m first; echo status $?; \
         rm big; {AGENTREC} snapshot -m second; echo status $?; echo x > two; exit 5"
    );
    for on_error in ["continue", "stop"] {
        let env = TestEnv::new();
        let disk = Disk::new(&env, "3m");
        let trace = env.outside("trace.zst");
        let ran = run(&env, Some(&disk.0), &trace, on_error, &script);
        assert_eq!((ran.code, ran.stdout.as_str()), (5, "status 1\ns3\nstatus 0\n"), "{ran:?}");
        let refused = "agentrec: cannot take a snapshot: ";
        let said = ran.stderr.lines().find(|line| line.starts_with(refused)).expect("refused");
        assert!(said.contains(" is not in the snapshot: "), "{said}");
        assert!(said.ends_with(": no space left on device"), "{said}");
        let closing = objects(&ran.stderr).pop().expect("closed");
        assert_eq!(closing["lost"], 1, "{closing}");
        let events = events(&trace);
        assert!(opened(&events, &env.work().join("two")));
        let losses: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.data {
                Data::Lost(lost) => Some((&*lost.place, &*lost.reason)),
                _ => None,
            })
            .collect();
        let [("snapshot", reason)] = losses[..] else { panic!("{losses:?}") };
        assert!(reason.contains("No space left on device"), "{reason}");
        assert!(env.ok(["verify", trace.to_str().expect("text")]).starts_with("complete: "));
    }
}

#[test]
#[ignore = "needs root"]
fn root_where_the_first_snapshot_has_no_room_nothing_is_started() {
    for on_error in ["continue", "stop"] {
        let env = TestEnv::new();
        let disk = Disk::new(&env, "1m");
        // A second time it is in the store, and takes no time to be read.
        for round in ["first", "second"] {
            std::fs::write(env.work().join("big"), noise(3_000_000)).expect("a file of ours");
            let trace = disk.0.join(round);
            let ran = run(&env, None, &trace, on_error, "echo started");
            assert_eq!((ran.code, &*ran.stdout), (125, ""), "{ran:?}");
            assert!(ran.stderr.contains("no space left on device"), "{ran:?}");
            assert!(!trace.exists());
        }
    }
}

/// A session in `disk` that takes a file of 600 kB away and changes another one; returns the command to be run there.
fn changed_on(env: &TestEnv, disk: &Path) -> impl Fn(&[&str]) -> Ran {
    std::fs::write(disk.join("big"), noise(600_000)).expect("it fits");
    std::fs::write(disk.join("small"), "before\n").expect("it fits");
    let run = {
        let (env, disk) = (env.home(), disk.to_owned());
        move |args: &[&str]| {
            let mut command = std::process::Command::new(AGENTREC);
            common::ran(command.args(args).env("AGENTREC_HOME", &env).current_dir(&disk).output())
        }
    };
    let ran = run(&["run", "--", "sh", "-c", "rm big; echo after > small"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    run
}

#[test]
#[ignore = "needs root"]
fn root_what_goes_back_on_a_full_disk_says_what_is_missing_and_is_done_again_or_taken_back() {
    for (there, back) in [
        (&["undo", "--yes"][..], &["redo", "--yes"][..]),
        // Without a choice it would remove what the user wrote, and have room.
        (
            &["restore", "s1", "--in-place", "--only", "big", "--only", "small"],
            &["undo", "o1", "--yes"],
        ),
    ] {
        let env = TestEnv::new();
        let disk = Disk::new(&env, "1m");
        let run = changed_on(&env, &disk.0);
        let read = |name: &str| std::fs::read(disk.0.join(name)).ok();
        // What the user wrote meanwhile takes the room.
        std::fs::write(disk.0.join("mine"), noise(800_000)).expect("it fits");
        let full = run(there);
        assert_eq!(full.code, 1, "{full:?}");
        assert!(full.stdout.contains("big: could not be changed"), "{full:?}");
        assert!(full.stdout.contains("No space left on device"), "{full:?}");
        assert_eq!(read("small").as_deref(), Some(&b"before\n"[..]), "{full:?}");
        assert_eq!(read("big"), None, "no half of a file is left");
        let names = std::fs::read_dir(&disk.0).expect("there").count();
        assert_eq!(names, 2, "nothing else is left lying about");
        let taken = run(back);
        assert_eq!(taken.code, 0, "{taken:?}");
        assert_eq!(read("small").as_deref(), Some(&b"after\n"[..]), "{taken:?}");
        std::fs::remove_file(disk.0.join("mine")).expect("there");
        let again = run(there);
        assert_eq!(again.code, 0, "{again:?}");
        assert_eq!(read("small").as_deref(), Some(&b"before\n"[..]), "{again:?}");
        assert_eq!(read("big"), Some(noise(600_000)), "{again:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn root_where_the_store_has_no_room_for_what_would_be_replaced_nothing_is_changed() {
    for there in [&["undo", "--yes", "--theirs"][..], &["restore", "s1", "--in-place"]] {
        let env = TestEnv::new();
        let disk = Disk::new(&env, "3m");
        let run = |args: &[&str]| {
            let mut command = env.agentrec(args);
            common::ran(command.env("AGENTREC_HOME", &disk.0).output())
        };
        env.write("a", "before\n");
        let ran = run(&["run", "--", "sh", "-c", "echo after > a"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        std::fs::write(env.work().join("a"), noise(6_000_000)).expect("ours");
        let refused = run(there);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("no space left on device"), "{refused:?}");
        assert_eq!(std::fs::read(env.work().join("a")).expect("there"), noise(6_000_000));
    }
}

/// Bytes that nothing makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let step = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}
