//! Connections, and the agent's own socket at the reserved descriptor.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::{fs, thread};

use super::harness::{Outside, Recording, all_kinds, expect};

#[test]
fn sums_the_bytes_of_tcp_and_udp() {
    let expected = [
        "p1 listen 3 tcp 127.0.0.1",
        "p1 connect 4 tcp 127.0.0.1",
        "p1 accept 5 tcp 127.0.0.1 through tcp listener",
        "p1 net.close tcp connection s15 r4",
        "p1 connect 4 udp 127.0.0.1",
        "p1 net.close tcp listener s0 r0",
        "p1 net.close udp connection s18 r0",
        "p1 net.close accepted tcp s4 r15",
    ];
    expect("network", |_| (), &expected);
}

#[test]
fn sums_the_bytes_of_unix_messages() {
    let expected = [
        "p1 mknod socket 140777",
        "p1 listen 3 unix socket",
        "p1 connect 4 unix socket to p1",
        "p1 accept 5 unix to p1 through unix listener",
        "p1 net.close unix connection s18 r15",
        "p1 connect 4 unix none ENOENT",
        "p1 net.close unix listener s0 r0",
        "p1 net.close accepted unix s15 r18",
    ];
    expect("unix_socket", |_| (), &expected);
}

#[test]
fn servers_listen_accept_and_share() {
    let expected = [
        "p1 mknod socket 140777",
        "p1 mknod socket 140777 EADDRINUSE",
        "p1 listen 3 unix socket",
        "p1 connect 4 unix socket to p1",
        "p1 accept 5 unix to p1 through unix listener",
        "p1 shutdown unix connection write",
        "p1 fork p2 0x1200011",
        "p2 shutdown accepted unix both",
        "p2 net.close accepted unix s3 r0",
        "p2 exit 0",
        "p1 net.close unix connection s10 r3",
        "p1 net.close accepted unix s0 r10",
        "p1 net.close unix listener s0 r0",
        "p1 listen 3 tcp 127.0.0.1",
        "p1 listen 4 tcp 127.0.0.1 EADDRINUSE",
        "p1 connect 4 tcp 127.0.0.1",
        "p1 accept 5 tcp 127.0.0.1 through tcp listener",
        "p1 net.close tcp connection s0 r0",
        "p1 net.close accepted tcp s0 r0",
        "p1 net.close tcp listener s0 r0",
        "p1 net.close unix s7 r0",
        "p1 net.close unix s0 r7",
    ];
    expect("server", |dir| fs::create_dir(dir.join("sub")).unwrap(), &expected);
}

#[test]
fn datagrams_name_each_peer_once() {
    let expected = [
        "p1 listen 3 udp 127.0.0.1 EINVAL",
        "p1 listen 3 udp 127.0.0.1",
        "p1 connect 4 udp 127.0.0.1",
        "p1 connect 4 udp 127.0.0.2",
        "p1 connect 4 udp 127.0.0.3",
        "p1 net.close udp connection s20 r0",
        "p1 connect 4 unix none ENOENT",
        "p1 net.close udp listener s0 r1",
    ];
    expect("datagrams", |_| (), &expected);
}

#[test]
fn descriptors_that_arrive_are_who_they_were() {
    let expected = [
        "p1 open file w|creat 600 = 8 created",
        "p1 close file r0 w4",
        "p1 fork p2 0x1200011",
        "p2 close file r0 w2",
        "p2 truncate file 5",
        "p2 close file r0 w3",
        "p2 exec /proc/self/exe [tracee ] [] exe tracee",
        "p2 net.close unix s0 r1",
        "p2 exit 0",
        "p1 open other w|creat 600 = 8 created",
        "p1 close other r0 w0",
        "p1 close other r0 w6",
        "p1 fork p3 0x1200011",
        "p3 open theirs w|creat 600 = 8 created",
        "p1 close theirs r0 w7",
        "p3 net.close unix s0 r1",
        "p3 close theirs r0 w0",
        "p3 exit 0",
        "p1 open again w|creat 600 = 9 created",
        "p1 open again w = 10",
        "p1 close again r0 w0",
        "p1 net.close unix s4 r0",
        "p1 net.close unix s0 r2",
        "p1 close again r0 w0",
    ];
    expect("rights", |_| (), &expected);
}

#[test]
fn descriptors_from_outside_have_their_path() {
    for (abi, user) in all_kinds() {
        let recording = Recording::tracee("rights").abi(abi).args(["giver"]).user(user);
        let dir = recording.dir();
        let giver = Outside::start("rights", &dir, &["giver", "given"]);
        let expected = [
            "p1 exec tracee [tracee giver] []",
            "p1 connect 3 unix giver to another",
            "p1 net.close unix connection s0 r1",
            "p1 close given r0 w5",
            "p1 exit 0",
        ];
        assert_eq!(recording.run().lines(), expected);
        giver.end();
    }
}

#[test]
fn the_reserved_descriptor_is_for_our_socket_alone() {
    const FOREIGN: &str = "lost socket: the descriptor that is kept for the session's socket, \
                           and not watched, holds something else";
    for (abi, user) in all_kinds() {
        let recording = Recording::tracee("reserved").abi(abi).user(user).socket("ours");
        let path = recording.dir().join("ours");
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let server = thread::spawn(move || {
            let mut received = String::new();
            listener.accept().unwrap().0.read_to_string(&mut received).map(|_| received)
        });
        let recorded = recording.args(["ours"]).run();
        // All arrived, none was stopped: the sum is 0. What went to a foreign descriptor unseen has a `lost`.
        assert_eq!(server.join().unwrap().unwrap(), "wsendioviov");
        let expected = [
            "p1 exec tracee [tracee ours] []".to_owned(),
            "p1 fork p2 0x1200011".to_owned(),
            "p2 open file w|creat 600 = 4 created".to_owned(),
            format!("p2 {FOREIGN}"),
            "p2 close file r0 w0".to_owned(),
            "p2 exit 0".to_owned(),
            "p1 fork p3 0x1200011".to_owned(),
            format!("p3 {FOREIGN}"),
            "p3 exit 0".to_owned(),
            "p1 exit 0".to_owned(),
        ];
        assert_eq!(recorded.lines(), expected);
    }
}
