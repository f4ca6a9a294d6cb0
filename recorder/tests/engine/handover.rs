//! Work that is handed to who is not recorded, and connections that hand nothing over.

use std::fs;

use agentrec_trace::Data;

use super::harness::{Outside, Recording, User};

/// What a client's connections to `path` come to, where `server` listens; the second time it is said no more.
fn connections(path: &str, server: &str) -> (Vec<String>, Vec<u32>, u32) {
    let recording = Recording::tracee("hand_over").args([path]);
    let outside = Outside::start("hand_over", &recording.dir(), &[path, "listen", server]);
    let recorded = recording.run();
    let pids = recorded.captured().filter_map(|captured| match &captured.event.data {
        Data::NetConnect(connect) => Some(connect.peer_pid.expect("the kernel knows")),
        Data::Lost(lost) => Some(lost.peer_pid.expect("it was asked")),
        _ => None,
    });
    let result = (recorded.lines(), pids.collect(), outside.pid());
    outside.end();
    result
}

#[test]
fn a_socket_of_a_known_name_takes_work() {
    let (lines, pids, pid) = connections("docker.sock", "anything");
    let expected = [
        "p1 exec tracee [tracee docker.sock] []",
        "p1 connect 4 unix docker.sock to another",
        "p1 lost outside: work may have been handed to docker (pid), which is not recorded",
        "p1 net.close unix connection s0 r0",
        "p1 connect 4 unix docker.sock to another",
        "p1 net.close unix connection s0 r0",
        "p1 exit 0",
    ];
    assert_eq!(lines, expected);
    assert_eq!(pids, [pid; 3]);
}

#[test]
fn a_program_of_a_known_name_takes_work_wherever_it_listens() {
    let (lines, pids, pid) = connections("of_mine", "tmux: server");
    assert_eq!(
        lines[2],
        "p1 lost outside: work may have been handed to tmux (pid), which is not recorded"
    );
    assert_eq!(pids, [pid; 3]);
}

#[test]
fn others_are_named_and_no_loss() {
    let (lines, pids, pid) = connections("log", "journald");
    assert_eq!(lines[1], "p1 connect 4 unix log to another");
    assert!(!lines.iter().any(|line| line.contains("lost")), "{lines:#?}");
    assert_eq!(pids, [pid; 2]);
}

#[test]
fn who_is_recorded_too_is_no_loss() {
    let recording = || Recording::tracee("hand_over").args(["docker.sock", "self"]);
    for user in User::all() {
        let lines = recording().user(user).run().lines();
        assert!(lines.contains(&"p1 connect 4 unix docker.sock to p1".into()), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("lost")), "{lines:#?}");
    }
}

#[test]
fn clients_of_daemons_and_other_machines_are_named() {
    let recording = Recording::program("/bin/sh").args(["-c", "./ssh host make; ./ssh -V"]);
    let recording = recording.with(|dir| {
        fs::write(dir.join("ssh"), "#!/bin/sh\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.join("ssh"), executable).unwrap();
    });
    let lines = recording.run().lines();
    let lost: Vec<_> = lines.iter().filter(|line| line.contains("lost")).collect();
    let expected = "p2 lost outside: work may have been handed to another machine by ssh, \
                    which is not recorded";
    assert_eq!(lost, [expected], "{lines:#?}");
}
