//! Where the tracer can't follow, it says so.

use std::fs;

use agentrec_recorder::source::{Captured, Report};
use agentrec_trace::Data;

use super::harness::{Abi, Recording, User, all_kinds, expect};

#[test]
fn tracers_and_io_uring() {
    for (abi, user) in all_kinds() {
        let lines = Recording::tracee("losses").abi(abi).user(user).run().lines();
        let io_uring = if lines.iter().any(|line| line.contains("no_io_uring")) {
            "p1 mkdir no_io_uring 700"
        } else {
            "p1 lost process: the process set up io_uring, whose operations are not system calls"
        };
        let expected = [
            "p1 exec tracee [tracee] []",
            "p1 lost process: the process tried to trace another process, \
             which a recorded process cannot be",
            "p1 mkdir before 700",
            io_uring,
            "p1 exit 0",
        ];
        assert_eq!(lines, expected);
    }
}

#[test]
fn filters_of_a_process() {
    let expected = [
        "p1 lost process: the process installed a seccomp filter whose answers another process \
         gives: what that one does on its behalf is recorded only where it is part of the session",
        "p1 mkdir by_supervisor 700",
        "p1 lost process: the process installed a seccomp filter of its own: calls that it answers \
         itself are not recorded, and do nothing",
        "p1 open file w|creat 600 = 4 created",
        "p1 link file logged",
        "p1 fork p2 0x1200011",
        "p2 killed by 31",
        "p1 close file r0 w0",
    ];
    expect("seccomp", |_| (), &expected);
}

#[test]
fn a_process_that_closes_its_memory() {
    for (abi, user) in all_kinds() {
        let recorded = Recording::tracee("undumpable").abi(abi).user(user).run();
        // Only root has a choice of users.
        let privileged = user == User::Same && User::all().len() > 1;
        let hidden: &[&str] = match privileged {
            true => &["p1 open hidden w|creat 600 = 4 created"],
            false => &[
                "p1 lost ptrace: the process's memory is closed to an unprivileged recorder \
                 (PR_SET_DUMPABLE, or a program that may not be read): names and contents that its \
                 calls point to are not known",
                "p1 lost ptrace: an argument of a system call could not be read from the process's memory",
            ],
        };
        let closed: &[&str] = if privileged { &["p1 close hidden r0 w0"] } else { &[] };
        let expected = [
            &["p1 exec tracee [tracee] []", "p1 open before w|creat 600 = 3 created"],
            hidden,
            &["p1 open after w|creat 600 = 5 created", "p1 close before r0 w4"],
            closed,
            &["p1 close after r0 w0", "p1 exit 0"],
        ];
        assert_eq!(recorded.lines(), expected.concat());
    }
}

/// The kernel reads a name after the tracer has.
#[test]
fn names_that_another_thread_changes() {
    Abi::all().into_iter().for_each(racing_names);
}

fn racing_names(abi: Abi) {
    let mut running = Recording::tracee("racing_names").abi(abi).start();
    let mut missing =
        vec!["has the name of what was opened", "has the name as it was when the call began"];
    running.wait_for(|report| {
        if let Report::Event(Captured { event, .. }) = report
            && let Data::Lost(lost) = &event.data
        {
            missing.retain(|missing| !lost.reason.contains(missing));
        }
        missing.is_empty().then_some(())
    });
    fs::write(running.dir().join("stop"), "").unwrap();
    let recorded = running.finish();
    for line in recorded.lines().iter().filter(|line| line.starts_with("p1 close file_")) {
        let told = ["file_0 r0 w1", "file_1 r0 w2", "file_0 r0 w0", "file_1 r0 w0"];
        assert!(told.iter().any(|told| line.ends_with(told)), "{line}");
    }
}
