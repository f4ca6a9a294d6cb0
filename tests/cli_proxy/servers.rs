//! Servers that are not, or can't be, read; and what is no TLS.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use agentrec_trace::Data;

use super::common::exchanges::Server;
use super::common::{Ran, TestEnv, ran, recorded};
use super::*;

by_both_engines!(
    a_server_that_does_not_verify_fails_as_without_us,
    a_server_that_asks_for_a_certificate_gets_the_clients_own,
    a_client_that_does_not_trust_us_is_left_alone_the_next_time,
    what_is_not_tls_goes_through_as_it_is,
    through_a_proxy_of_the_users_it_is_read_too,
);

/// A server that nobody trusts.
fn untrusted_server(env: &TestEnv) -> Server {
    let server = secure_server(env);
    env.write("../server-ca.pem", &env.read("../ca.pem").unwrap());
    make_certificates_of_another(env);
    server
}

fn make_certificates_of_another(env: &TestEnv) {
    make_certificates(env);
    for name in ["cert", "key"] {
        env.write(&format!("../{name}2.pem"), &env.read(&format!("../{name}.pem")).unwrap());
    }
}

fn a_server_that_does_not_verify_fails_as_without_us(by: By) {
    let env = TestEnv::new();
    let server = untrusted_server(&env);
    let url = format!("https://localhost:{}/plain/0", server.port);
    let alone = env
        .command("curl")
        .args(["-sS", "-d", "x", &url])
        .env("CURL_CA_BUNDLE", env.work().join("../ca.pem"))
        .output();
    let alone = ran(alone);
    let ran = run(&env, &by, &["curl", "-sS", "-d", "x", &url]);
    assert_eq!((ran.code, ran.code), (alone.code, 60));
    let said = |ran: &Ran| ran.stderr.lines().next().map(str::to_owned);
    assert_eq!(said(&ran), said(&alone));
    let [told] = &opaque(&recorded(&ran))[..] else { panic!("not one") };
    assert_eq!((&*told.reason, &*told.server_name), ("server-not-verified", "localhost"));
    assert_eq!(told.peer.port.to_string(), server.port);
    assert!(told.sent > 0 && told.received > 0, "{told:?}");

    // Who trusts it for reasons of their own reaches it, and is not read.
    let own = env.work().join("../server-ca.pem");
    for trusting in [&["-k"][..], &["--cacert", own.to_str().unwrap()]] {
        let curl = [&["curl", "-sS", "-d", "x", &url], trusting].concat();
        let recorded = record(&env, by, &curl);
        assert_eq!(opaque(&recorded).len(), 1);
    }
}

fn a_server_that_asks_for_a_certificate_gets_the_clients_own(by: By) {
    let env = TestEnv::new();
    make_certificates(&env);
    let server = Server::start(&env, &["../cert.pem", "../key.pem", "../ca.pem"]);
    let url = format!("https://localhost:{}/plain/0", server.port);
    let own = ["--cert", "../cert.pem", "--key", "../key.pem"];
    let curl = [&["curl", "-sSf", "-d", "x", &url], &own[..]].concat();
    let recorded = record(&env, by, &curl);
    let [told] = &opaque(&recorded)[..] else { panic!("not one") };
    assert_eq!((&*told.reason, &*told.server_name), ("client-certificate", "localhost"));
}

fn a_client_that_does_not_trust_us_is_left_alone_the_next_time(by: By) {
    let env = TestEnv::new();
    let server = secure_server(&env);
    let own = env.work().join("../own.pem");
    fs::copy(env.work().join("../ca.pem"), &own).unwrap();
    let script = r#"
import http.client, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
for turn in range(3):
    try:
        connection = http.client.HTTPSConnection("localhost", int(sys.argv[1]), context=context)
        connection.request("POST", f"/plain/{turn}", "x")
        print(connection.getresponse().status)
    except ssl.SSLCertVerificationError: print("refused")
    connection.close()
"#;
    let ran = run(&env, &by, &["python3", "-c", script, &server.port, own.to_str().unwrap()]);
    assert_eq!((ran.code, &*ran.stdout), (0, "refused\n200\n200\n"));
    let told = opaque(&recorded(&ran));
    assert_eq!(told.len(), 3);
    for told in told {
        assert_eq!((&*told.reason, &*told.server_name), ("proxy-not-trusted", "localhost"));
        assert!(told.hint.contains("SSL_CERT_FILE"));
    }
}

fn what_is_not_tls_goes_through_as_it_is(by: By) {
    let env = TestEnv::new();
    make_certificates(&env);
    // The server speaks first; the client ends its half before it gets its answer; a refusal is a refusal.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"220 hello\r\n").unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).unwrap();
        socket.write_all(&all).unwrap();
        all.len()
    });
    let script = r#"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
assert s.recv(100) == b"220 hello\r\n"
s.sendall(b"x" * 3_000_000)
s.shutdown(socket.SHUT_WR)
got = 0
while data := s.recv(65536): got += len(data)
try: socket.create_connection(("127.0.0.1", int(sys.argv[2])))
except ConnectionRefusedError: print(got, "refused")
"#;
    let ran = run(&env, &by, &["python3", "-c", script, &port, &free_port()]);
    assert_eq!((ran.code, &*ran.stdout), (0, "3000000 refused\n"), "{ran:?}");
    assert_eq!(server.join().unwrap(), 3_000_000);
    let [told] = &opaque(&recorded(&ran))[..] else { panic!("not one") };
    assert_eq!((&*told.reason, told.sent), ("unknown-protocol", 3_000_000));
}

/// Connects to where it is asked to, and relays.
const OTHER_PROXY: &str = r#"
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def relay(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError: pass
def serve(client):
    head = b""
    while b"\r\n\r\n" not in head: head += client.recv(1)
    host, port = head.split()[1].decode().rsplit(":", 1)
    server = socket.create_connection((host, int(port)))
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    threading.Thread(target=relay, args=(client, server), daemon=True).start()
    relay(server, client)
def accept():
    while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()
"#;

fn through_a_proxy_of_the_users_it_is_read_too(by: By) {
    let env = TestEnv::new();
    let server = secure_server(&env);
    let mut proxy = Command::new("python3");
    let proxy = proxy.args(["-c", OTHER_PROXY]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut proxy = proxy.spawn().unwrap();
    let mut port = String::new();
    BufReader::new(proxy.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let proxy_url = format!("http://127.0.0.1:{}", port.trim());
    let url = format!("https://localhost:{}/plain/0", server.port);
    // The second server is not trusted: what the proxy was asked is asked again.
    make_certificates_of_another(&env);
    let curl = ["curl", "-sSk", "--proxy", &proxy_url, "-d", "asked", &url];
    let unread = record(&env, by, &curl);
    let trusted = Server::start(&env, &["../cert2.pem", "../key2.pem"]);
    let url = format!("https://localhost:{}/plain/0", trusted.port);
    let read = record(&env, by, &["curl", "-sS", "--proxy", &proxy_url, "-d", "asked", &url]);
    drop(proxy.stdin.take());
    proxy.wait().unwrap();
    assert_eq!(&*opaque(&unread)[0].reason, "server-not-verified");
    let told: Vec<_> = events(&read)
        .into_iter()
        .filter_map(|data| match data {
            Data::HttpRequest(it) => Some(format!("{} {}", it.method, it.url)),
            _ => None,
        })
        .collect();
    assert_eq!(told.last(), Some(&format!("POST {url}")));
    assert!(opaque(&read).is_empty());
}
