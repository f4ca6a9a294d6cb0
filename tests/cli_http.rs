//! HTTP of a command that knows nothing of us, plain and through TLS, against what the server itself saw.

mod common;

use std::process::Command;

use agentrec_trace::Reader;
use common::TestEnv;
use common::exchanges::{Server, assert_whole};

/// Many connections at once, each used again and again, with short bodies and long ones.
const CLIENT: &str = r#"
import http.client, os, socket, ssl, sys, threading
port, cert = int(sys.argv[1]), sys.argv[2:]
# By eBPF a library is looked into milliseconds after it is mapped; what is said within them would be a `lost`. A snapshot waits for
# all that happened before it.
with socket.socket(socket.AF_UNIX) as recorder:
    recorder.connect(os.environ["AGENTREC_SOCKET"])
    recorder.send(b'{"type": "snapshot", "req": 1}\n')
    assert b'"ok":true' in recorder.recv(4096)
def talk(number):
    if cert:
        context = ssl.create_default_context(cafile=cert[0])
        connection = http.client.HTTPSConnection("localhost", port, context=context)
    else:
        connection = http.client.HTTPConnection("localhost", port)
    for turn in range(20):
        kind = "events" if turn % 5 == 0 else "plain"
        size = 1 << 20 if (number, turn) == (3, 7) else 37 * number * turn
        body = f"{number}-{turn}:" + "x" * size
        connection.request("POST", f"/{kind}/{number}/{turn}", body)
        connection.getresponse().read()
    connection.close()
threads = [threading.Thread(target=talk, args=(number,)) for number in range(25)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"#;

/// 500 exchanges of 25 connections at once are in the trace as the server saw them.
fn all_exchanges_are_whole(engine: &str, tls: bool) {
    let env = TestEnv::new();
    env.write("../client.py", CLIENT);
    let cert = ["../cert.pem", "../key.pem"];
    if tls {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-out", cert[0], "-keyout", cert[1]])
            .current_dir(env.work())
            .output()
            .expect("openssl is there");
        assert!(made.status.success(), "{made:?}");
    }
    let server = Server::start(&env, if tls { &cert } else { &[] });
    let mut command = vec!["python3", "../client.py", &server.port];
    command.extend(tls.then_some(cert[0]));
    let recorded = env.record_with(&["--engine", engine], &command);
    let scheme = if tls { "https" } else { "http" };
    let base = format!("{scheme}://localhost:{}", server.port);
    let reader = Reader::open(&recorded.trace).unwrap();
    assert_whole(&env, &reader, &base, 500);
}

#[test]
fn http_of_many_connections_at_once_is_whole() {
    all_exchanges_are_whole("ptrace", false);
}

#[test]
fn http_through_tls_is_whole() {
    all_exchanges_are_whole("ptrace", true);
}

#[test]
#[ignore = "needs root"]
fn root_http_of_many_connections_at_once_is_whole_by_ebpf() {
    all_exchanges_are_whole("ebpf", false);
}

#[test]
#[ignore = "needs root"]
fn root_http_through_tls_is_whole_by_ebpf() {
    all_exchanges_are_whole("ebpf", true);
}
