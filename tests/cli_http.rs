//! HTTP of a command that knows nothing of us, plain and through TLS, against what the server itself saw.

mod common;

use agentrec_trace::Reader;
use common::TestEnv;
use common::exchanges::{Server, assert_whole, make_certificate};

/// Many connections at once, each used again and again, with short bodies and long ones.
const CLIENT: &str = r#"
import http.client, os, socket, sys, threading
port, early, cert = int(sys.argv[1]), sys.argv[2] == "early", sys.argv[3:]
if not early: import ssl
# By eBPF a library is looked into milliseconds after it is mapped; what is said within them would be a `lost`, but where an earlier
# recording knows what the program will map. A snapshot waits for all that happened before it.
with socket.socket(socket.AF_UNIX) as recorder:
    recorder.connect(os.environ["AGENTREC_SOCKET"])
    recorder.send(b'{"type": "snapshot", "req": 1}\n')
    assert b'"ok":true' in recorder.recv(4096)
if early: import ssl
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
    let cert = if tls { make_certificate(&env).to_vec() } else { Vec::new() };
    let server = Server::start(&env, &cert);
    let mut command = vec!["python3", "../client.py", &server.port, "late"];
    command.extend(cert.first());
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

#[test]
#[ignore = "needs root"]
fn root_what_a_program_will_map_is_probed_before_by_ebpf() {
    let env = TestEnv::new();
    env.write("../client.py", CLIENT);
    let cert = make_certificate(&env);
    let server = Server::start(&env, &cert);
    let command = ["python3", "../client.py", &server.port, "early", cert[0]];
    env.record_with(&["--engine", "ebpf"], &command);
    let users = env.home().join("cache/tls-users.json");
    let users = std::fs::read_to_string(users).expect("it remembers who uses a TLS library");
    assert!(users.contains("libssl"), "{users}");
    let recorded = env.record_with(&["--engine", "ebpf"], &command);
    let reader = Reader::open(&recorded.trace).unwrap();
    // The server's log has those of both recordings, which are the same.
    assert_whole(&env, &reader, &format!("https://localhost:{}", server.port), 500);
}
