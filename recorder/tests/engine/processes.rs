//! Processes and threads: how they start, what they execute, how they stop and end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agentrec_recorder::source::{ExitStatus, Report};
use agentrec_trace::{Data, ProcId};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::harness::{Abi, Recorded, Recording, all_kinds, expect};

fn sub(dir: &Path) {
    fs::create_dir(dir.join("sub")).unwrap();
}

#[test]
fn a_program_that_is_in_no_file() {
    let lines = Recording::tracee("memfd_exec").run().lines();
    let execs: Vec<_> = lines.iter().filter(|line| line.starts_with("p1 exec")).collect();
    let expected =
        ["p1 exec tracee [tracee] []", "p1 exec  [name again] [] exe /memfd:copy (deleted)"];
    assert_eq!(execs, expected, "{lines:#?}");
}

#[test]
fn every_way_to_start_a_process() {
    let expected = [
        "p1 fork p2 0x0",
        "p2 exit 0",
        "p1 fork p3 0x4100",
        "p3 exit 0",
        "p1 fork p4 0x11",
        "p4 open by_clone w|creat 600 = 3 created",
        "p4 close by_clone r0 w0",
        "p4 exit 0",
        // Shares descriptors and directory, which live on.
        "p1 fork p5 0x600",
        "p5 open by_clone3 w|creat 600 = 3 created",
        "p5 chdir sub",
        "p5 exit 0",
        "p1 open sub/in_sub w|creat 600 = 4 created",
        "p1 fork p6 0x0",
        "p6 exit 0",
        "p1 close by_clone3 r0 w6",
        "p1 close sub/in_sub r0 w0",
    ];
    expect("fork", sub, &expected);
}

#[test]
fn nobody_sees_that_the_tracer_lends_its_cpu() {
    for (abi, user) in all_kinds() {
        let lines = Recording::tracee("affinity").abi(abi).user(user).run().lines();
        assert_eq!(lines.last().map(String::as_str), Some("p1 exit 0"));
    }
}

#[test]
fn children_that_ask_not_to_be_traced_are() {
    let expected = [
        "p1 fork p2 0x800011",
        "p2 open by_clone w|creat 600 = 3 created",
        "p2 close by_clone r0 w0",
        "p2 exit 0",
        "p1 fork p3 0x800000",
        "p3 open by_clone3 w|creat 600 = 3 created",
        "p3 close by_clone3 r0 w0",
        "p3 exit 0",
    ];
    expect("untraced", |_| (), &expected);
}

#[test]
fn executes_by_name_script_and_descriptor() {
    let prepare = |dir: &Path| {
        sub(dir);
        let script = dir.join("script");
        // The kernel hands the script's own name on; the tracee ignores it.
        fs::write(&script, "#!tracee by-script\n").unwrap();
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    };
    for (abi, user) in all_kinds() {
        let recorded = Recording::tracee("exec").abi(abi).with(prepare).user(user).run();
        assert_eq!(recorded.status(), ExitStatus::Code(7));
        let expected = [
            "p1 exec tracee [tracee] []",
            "p1 exec none [first --flag] [] ENOENT",
            "p1 exec sub [first --flag] [] EACCES",
            "p1 exec script [tracee by-script script tracee] [A=1 B=two -PATH] exe tracee",
            "p1 open tracee r|path = 3",
            "p1 exec tracee [tracee last] [C=3 -B]",
            "p1 close tracee r0 w0",
            "p1 exit 7",
        ];
        assert_eq!(recorded.lines(), expected);
    }
}

#[test]
fn exec_by_another_thread_than_the_leader() {
    for (abi, user) in all_kinds() {
        let recorded = Recording::tracee("exec_thread").abi(abi).user(user).run();
        let lines = recorded.lines();
        let busy = |line: &&String| !line.contains("busy");
        let quiet: Vec<_> = lines.iter().filter(busy).collect();
        // The tracee ends with 3 when it has its leader's id and its descriptor still.
        let expected = [
            "p1 exec tracee [tracee] []",
            "p1 open before w|creat 600 = 3 created",
            "p1 exec tracee [tracee again] []",
            "p1 open after w|creat 600 = 4 created",
            "p1 close before r0 w5",
            "p1 close after r0 w0",
            "p1 exit 3",
        ];
        assert_eq!(quiet, expected);
    }
}

#[test]
fn two_hundred_threads() {
    Abi::all().into_iter().for_each(two_hundred_threads_of);
}

fn two_hundred_threads_of(abi: Abi) {
    let recorded = Recording::tracee("threads").abi(abi).run();
    assert_eq!(recorded.status(), ExitStatus::Code(0));
    let mut opened = BTreeMap::new();
    let mut tids = BTreeSet::new();
    let mut closed = BTreeSet::new();
    for captured in recorded.captured() {
        assert_eq!(captured.event.proc, Some(ProcId(1)));
        match &captured.event.data {
            Data::FileOpen(open) => {
                let name = open.path.as_path().file_name().unwrap().to_owned();
                opened.insert(captured.opens.unwrap().0, name);
                tids.insert(captured.event.tid.expect("not the leader"));
            }
            Data::FileClose(close) => {
                let name = opened.remove(&(close.open.unwrap().0 as u32)).unwrap();
                assert_eq!(close.written, name.len() as u64);
                closed.insert(name);
            }
            _ => {}
        }
    }
    assert_eq!((closed.len(), tids.len()), (200, 200));
}

#[test]
fn thousands_of_short_processes() {
    for (abi, user) in all_kinds() {
        let recorded = Recording::tracee("processes").abi(abi).user(user).run();
        assert_eq!(recorded.status(), ExitStatus::Code(0));
        let mut alive = BTreeSet::from([ProcId(1)]);
        let (mut forks, mut codes) = (0, BTreeMap::new());
        for captured in recorded.captured() {
            let proc = captured.event.proc.unwrap();
            assert!(alive.contains(&proc), "{proc} acts before its start or after its end");
            match &captured.event.data {
                Data::ProcessFork(fork) => {
                    forks += 1;
                    assert_eq!(fork.child, ProcId(forks + 1));
                    alive.insert(fork.child);
                }
                Data::ProcessExit(exit) => {
                    alive.remove(&proc);
                    *codes.entry(exit.code.unwrap()).or_insert(0) += 1;
                }
                _ => {}
            }
        }
        assert_eq!(forks, 2500);
        assert!(alive.is_empty());
        // 2,500 codes modulo 251, and the command's own 0.
        let expected = (0..2500).map(|code| code % 251).chain([0]).fold(
            BTreeMap::new(),
            |mut counts, code| {
                *counts.entry(code).or_insert(0) += 1;
                counts
            },
        );
        assert_eq!(codes, expected);
    }
}

#[test]
fn the_young_leave_turns_to_their_elders() {
    let recorded = Recording::tracee("elder").run();
    assert_eq!(recorded.status(), ExitStatus::Code(0));
    every_process_ends_once(&recorded);
    let lines = recorded.lines();
    let opened = |name: &str| {
        lines.iter().filter(|line| line.contains(" open ") && line.contains(name)).count()
    };
    let (elder, young) = (opened("elder"), opened("young"));
    assert_eq!(elder, 200);
    // Six of them; nobody has more than a few turns while another waits for one.
    assert!((200..6 * 200 * 5).contains(&young), "{young}");
}

#[test]
fn every_way_to_end() {
    for (abi, user) in all_kinds() {
        let recorded = Recording::tracee("deaths").abi(abi).user(user).run();
        let ends: Vec<String> = recorded
            .lines()
            .into_iter()
            .filter(|line| line.contains("exit") || line.contains("killed"))
            .collect();
        let expected = [
            "p2 exit 0",
            "p3 exit 255",
            "p4 killed by 15",
            "p5 killed by 9",
            "p6 killed by 11",
            "p7 killed by 6",
            "p8 killed by 37",
            "p9 exit 44",
            "p10 exit 45",
            "p1 killed by 10",
        ];
        assert_eq!(ends, expected);
        assert_eq!(recorded.status(), ExitStatus::Signal { signal: libc::SIGUSR1, core: false });
    }
}

#[test]
fn an_end_says_what_was_used() {
    let recorded = Recording::program("/bin/sh")
        .args(["-c", "/bin/sh -c 'i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done'; :"])
        .run();
    let used: Vec<_> = recorded
        .captured()
        .filter_map(|captured| match &captured.event.data {
            Data::ProcessExit(exit) => Some((exit.utime + exit.stime, exit.max_rss)),
            _ => None,
        })
        .collect();
    let [(child, child_rss), (parent, parent_rss)] = used[..] else { panic!("two ends: {used:?}") };
    assert!(child > 0 && parent > 0);
    // Without its child, which did the work.
    assert!(parent < child, "{parent} {child}");
    assert!((100_000..100_000_000).contains(&child_rss), "{child_rss}");
    assert!((100_000..100_000_000).contains(&parent_rss), "{parent_rss}");
}

#[test]
fn stops_and_goes_on_as_told() {
    for (abi, user) in all_kinds() {
        let mut running = Recording::tracee("stops").abi(abi).user(user).start();
        running.wait_for_open("ready");
        let pid = Pid::from_raw(running.pid);
        kill(pid, Signal::SIGSTOP).unwrap();
        wait_for_state(pid, 't');
        kill(pid, Signal::SIGCONT).unwrap();
        wait_for_state(pid, 'S');
        kill(pid, Signal::SIGTERM).unwrap();
        let recorded = running.finish();
        assert_eq!(recorded.status(), ExitStatus::Signal { signal: libc::SIGTERM, core: false });
        let expected = [
            "p1 exec tracee [tracee] []",
            "p1 fork p2 0x1200011",
            "p2 open continued w|creat 600 = 5 created",
            "p2 close continued r0 w0",
            "p2 killed by 9",
            "p1 open ready w|creat 600 = 5 created",
            "p1 close ready r0 w0",
            "p1 killed by 15",
        ];
        assert_eq!(recorded.lines(), expected);
    }
}

/// Waits until a process is stopped (`t`: a tracee's stop) or sleeps.
fn wait_for_state(pid: Pid, state: char) {
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        if rest.starts_with(state) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn trees_that_are_killed_at_any_moment() {
    for (abi, user) in all_kinds() {
        let recorded = Recording::tracee("vanish").abi(abi).user(user).run();
        assert_eq!(recorded.status(), ExitStatus::Code(0));
        every_process_ends_once(&recorded);
    }
}

fn every_process_ends_once(recorded: &Recorded) {
    let mut alive = BTreeSet::from([ProcId(1)]);
    for captured in recorded.captured() {
        // An orphan's parent is not known.
        let proc = captured.event.proc.unwrap_or(ProcId(0));
        match &captured.event.data {
            Data::ProcessFork(fork) => assert!(alive.insert(fork.child)),
            Data::ProcessExit(_) => assert!(alive.remove(&proc), "{proc} ends twice"),
            _ => assert!(alive.contains(&proc), "{proc} acts before its start or after its end"),
        }
    }
    let about = |line: &String| {
        let words = || line.split_whitespace();
        alive.iter().any(|proc| words().any(|word| word == proc.to_string()))
    };
    let shown: Vec<String> = recorded.lines().into_iter().filter(about).collect();
    assert!(alive.is_empty(), "{alive:?} never ended: {shown:#?}");
}

#[test]
fn kills_the_whole_tree_when_asked() {
    for (abi, user) in all_kinds() {
        let mut running = Recording::tracee("endless").abi(abi).user(user).start();
        running.wait_for_open("ready");
        let mut forks = 0;
        running.wait_for(|report| {
            let Report::Event(captured) = report else { return None };
            forks += u32::from(matches!(captured.event.data, Data::ProcessFork(_)));
            (forks > 20).then_some(())
        });
        running.control().kill();
        let recorded = running.finish();
        every_process_ends_once(&recorded);
        let expected = ExitStatus::Signal { signal: libc::SIGKILL, core: false };
        assert_eq!(recorded.status(), expected);
    }
}

/// Lets `outlive` go on: opening a FIFO for reading waits for a writer (fifo(7)).
fn open_fifo(dir: &Path) {
    fs::OpenOptions::new().write(true).open(dir.join("go")).unwrap();
}

#[test]
fn descendants_outlive_the_command() {
    let prepare = |dir: &Path| mkfifo(&dir.join("go"), Mode::from_bits_retain(0o666)).unwrap();
    let mut running = Recording::tracee("outlive").with(prepare).start();
    let exited = |report: &Report| match report {
        Report::CommandExited(status) => Some(*status),
        _ => None,
    };
    assert_eq!(running.wait_for(exited), ExitStatus::Code(5));
    open_fifo(&running.dir());
    let recorded = running.finish();
    assert!(recorded.lines().contains(&"p2 open late w|creat 600 = 6 created".to_owned()));
    every_process_ends_once(&recorded);
}

#[test]
fn a_silent_tracer_keeps_the_tree_going() {
    let prepare = |dir: &Path| mkfifo(&dir.join("go"), Mode::from_bits_retain(0o666)).unwrap();
    let mut running = Recording::tracee("outlive").with(prepare).start();
    running.wait_for(|report| matches!(report, Report::CommandExited(_)).then_some(()));
    running.control().silence();
    running.control().fence(7);
    running.wait_for(|report| (*report == Report::Fence(7)).then_some(()));
    let dir = running.dir();
    open_fifo(&dir);
    let late = dir.join("late");
    let recorded = running.finish_with(|| assert!(late.exists()));
    let after: Vec<_> =
        recorded.reports.iter().skip_while(|report| **report != Report::Fence(7)).skip(1).collect();
    assert_eq!(after, [&Report::TreeEnded]);
}

#[test]
fn a_fence_comes_after_what_happened_before_it() {
    let mut running = Recording::tracee("stops").start();
    running.wait_for_open("ready");
    running.control().fence(1);
    running.control().fence(2);
    running.wait_for(|report| (*report == Report::Fence(1)).then_some(()));
    running.wait_for(|report| (*report == Report::Fence(2)).then_some(()));
    running.control().kill();
    running.finish();
}
