//! The eBPF engine beside others: several recorders at once, and recorders that are killed.

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use agentrec_trace::event::Lost;
use agentrec_trace::{Data, Event, Reader};
use aya::maps::{HashMap, Map, MapData, loaded_maps};
use aya::programs::{loaded_links, loaded_programs};
use common::{Live, TestEnv};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn events(trace: &Path) -> Vec<Event<'static>> {
    let reader = Reader::open(trace).expect("a trace");
    reader.iter().collect::<Result<_, _>>().expect("a readable trace")
}

/// How much of what is `wanted` the kernel had no room for.
fn lost(events: &[Event<'_>], wanted: impl Fn(&Lost) -> bool) -> u64 {
    let lost = events.iter().filter_map(|event| match &event.data {
        Data::Lost(lost) if wanted(lost) => lost.count,
        _ => None,
    });
    lost.sum()
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_recorders_at_the_same_time_see_only_their_own_tree() {
    const RECORDERS: usize = 10;
    const FILES: usize = 200;
    let env = TestEnv::new();
    let script = "echo up; read go
        i=0; while [ $i -lt 200 ]; do echo $i > $1/$i; i=$((i + 1)); done; exit 0";
    let mut all: Vec<Live> = (0..RECORDERS)
        .map(|number| {
            let (dir, trace) = (format!("d{number}"), format!("t{number}.zst"));
            fs::create_dir(env.work().join(&dir)).expect("a directory of ours");
            let words = ["run", "--engine", "ebpf", "-o", &trace, "--", "sh", "-c", script, "sh"];
            Live::start(env.agentrec(words.iter().copied().chain([dir.as_str()])))
        })
        .collect();
    // All are recorded before the first of them does anything.
    all.iter_mut().for_each(|live| live.wait_for("up"));
    all.iter_mut().for_each(|live| live.tell("go"));
    for live in all {
        let ran = live.finish();
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    for number in 0..RECORDERS {
        let events = events(&env.work().join(format!("t{number}.zst")));
        assert_eq!(lost(&events, |_| true), 0, "recorder {number}");
        let own = format!("{}/", env.work().join(format!("d{number}")).display());
        let written: Vec<String> = events
            .iter()
            .filter_map(|event| match &event.data {
                Data::FileOpen(open) if open.flags & libc::O_CREAT as u32 != 0 => {
                    Some(open.path.as_path().display().to_string())
                }
                _ => None,
            })
            .collect();
        let expected: BTreeSet<String> = (0..FILES).map(|file| format!("{own}{file}")).collect();
        assert_eq!(written.len(), FILES, "recorder {number}");
        assert_eq!(written.into_iter().collect::<BTreeSet<_>>(), expected, "recorder {number}");
        let execs = events.iter().filter(|event| matches!(event.data, Data::ProcessExec(_)));
        assert_eq!(execs.count(), 1, "recorder {number}");
    }
}

/// The recorder of a session that `front` began.
fn recorder_of(front: u32) -> i32 {
    let children = fs::read_to_string(format!("/proc/{front}/task/{front}/children"));
    let children = children.expect("the front runs");
    let is_recorder = |pid: &&str| {
        fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe == Path::new(common::AGENTREC))
    };
    let recorder = children.split_whitespace().find(is_recorder).expect("it has a recorder");
    recorder.parse().expect("a number")
}

/// Numbers of what a process holds of BPF: programs, maps, links.
fn held(pid: i32) -> [BTreeSet<u32>; 3] {
    let mut held: [BTreeSet<u32>; 3] = Default::default();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs").flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for (ids, field) in held.iter_mut().zip(["prog_id:", "map_id:", "link_id:"]) {
            // A link's has the number of its program, too, and comes first.
            let is_link = text.contains("link_id:");
            let line = text.lines().find_map(|line| line.strip_prefix(field));
            if let Some(id) = line.filter(|_| !is_link || field == "link_id:") {
                ids.insert(id.trim().parse().expect("a number"));
            }
        }
    }
    held
}

/// Those of them that are in the kernel.
fn in_kernel([programs, maps, links]: &[BTreeSet<u32>; 3]) -> usize {
    let programs = loaded_programs().flatten().filter(|info| programs.contains(&info.id()));
    let maps = loaded_maps().flatten().filter(|info| maps.contains(&info.id()));
    let links = loaded_links().flatten().filter(|info| links.contains(&info.id()));
    programs.count() + maps.count() + links.count()
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_a_killed_recorder_leaves_nothing_behind_and_its_agent_running() {
    let env = TestEnv::new();
    let script = "echo up; read go; echo done > done; exit 7";
    let words = ["run", "--engine", "ebpf", "-o", "t.zst", "--", "sh", "-c", script];
    let mut live = Live::start(env.agentrec(words));
    live.wait_for("up");
    let recorder = recorder_of(live.pid());
    let held = held(recorder);
    let [programs, maps, links] = &held;
    assert!(!programs.is_empty() && !maps.is_empty() && !links.is_empty(), "{held:?}");
    assert_eq!(in_kernel(&held), programs.len() + maps.len() + links.len());
    kill(Pid::from_raw(recorder), Signal::SIGKILL).expect("it runs");
    // The kernel lets go a little after the process is gone. Were one of them pinned, it would stay.
    let begin = Instant::now();
    while in_kernel(&held) > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{} stay", in_kernel(&held));
        std::thread::yield_now();
    }
    live.tell("go");
    let ran = live.finish();
    assert_eq!(env.read("done").as_deref(), Some("done\n"), "{ran:?}");
    assert_eq!(ran.code, 7, "{ran:?}");
    assert!(ran.stderr.contains("the recorder was killed (signal 9)"), "{ran:?}");
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_what_is_made_faster_than_it_is_taken_is_told_or_counted() {
    let env = TestEnv::new();
    fs::write(env.work().join("storm.c"), include_str!("storm.c")).expect("a file of ours");
    fs::write(env.work().join("storm-file"), "content\n").expect("a file of ours");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-o", "storm", "storm.c"]).current_dir(env.work());
    assert!(cc.status().expect("cc runs").success());
    let words = ["run", "--engine", "ebpf", "-o", "t.zst", "--", "./storm", "8", "3"];
    let ran = env.run(words);
    assert_eq!(ran.code, 0, "{ran:?}");
    let pairs: u64 = ran.stdout.trim().parse().expect("a number");
    let events = events(&env.work().join("t.zst"));
    let mut opens = BTreeSet::new();
    let mut closes = 0;
    for event in &events {
        match &event.data {
            Data::FileOpen(open) if open.path.ends_with(b"/storm-file") => {
                opens.insert(event.seq);
            }
            Data::FileClose(close) if close.open.is_some_and(|open| opens.contains(&open)) => {
                closes += 1;
            }
            _ => {}
        }
    }
    let told = opens.len() as u64 + closes;
    assert!(told > 0);
    // What the program prints at its end may be lost as well.
    let calls = ["system calls are missing", "closes are missing"];
    let of_calls = |lost: &Lost| calls.iter().any(|what| lost.reason.contains(what));
    assert_eq!(told + lost(&events, of_calls), 2 * pairs, "{told} told");
}

/// How much the kernel's tables of that name hold.
fn entries(table: &str) -> usize {
    let tables = loaded_maps().flatten().filter(|info| info.name_as_str() == Some(table));
    let count = |id| {
        let map = Map::HashMap(MapData::from_id(id).ok()?);
        let map = HashMap::<_, [u8; 16], [u8; 16]>::try_from(map).ok()?;
        Some(map.keys().flatten().count())
    };
    tables.filter_map(|info| count(info.id())).sum()
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_sums_of_who_has_ended_do_not_stay() {
    // Each leaves one behind, of a pipe, which is not followed; and makes three programs or processes end.
    const PIPES: usize = 3_000;
    let env = TestEnv::new();
    let script = "i=0; while [ $i -lt 3000 ]; do echo x | cat >/dev/null; i=$((i + 1)); done
        echo up; read go";
    let words = ["run", "--engine", "ebpf", "-o", "t.zst", "--", "sh", "-c", script];
    let mut live = Live::start(env.agentrec(words));
    live.wait_for("up");
    let left = entries("SUMS");
    assert!((1..PIPES * 2 / 3).contains(&left), "{left}");
    live.tell("go");
    assert_eq!(live.finish().code, 0);
}
