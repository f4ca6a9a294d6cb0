//! Connections, and the agent's own socket at the reserved descriptor.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::{fs, thread};

use super::harness::{Recording, User, expect};

#[test]
fn sums_the_bytes_of_tcp_and_udp() {
    let expected = [
        "p1 connect 4 tcp 127.0.0.1",
        "p1 net.close tcp connection s15 r4",
        "p1 connect 4 udp 127.0.0.1",
        "p1 net.close udp connection s18 r0",
    ];
    expect("network", |_| (), &expected);
}

#[test]
fn sums_the_bytes_of_unix_messages() {
    let expected = [
        "p1 connect 4 unix socket",
        "p1 net.close unix connection s18 r15",
        "p1 connect 4 unix none ENOENT",
    ];
    expect("unix_socket", |_| (), &expected);
}

#[test]
fn the_reserved_descriptor_is_for_our_socket_alone() {
    const FOREIGN: &str = "lost socket: the descriptor that is kept for the session's socket, \
                           and not watched, holds something else";
    for user in User::all() {
        let recording = Recording::tracee("reserved").user(user).socket("ours");
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
