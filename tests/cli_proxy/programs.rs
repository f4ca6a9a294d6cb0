//! Programs with a TLS of their own, each against what its server saw.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{fs, thread};

use agentrec_trace::event::Content;
use agentrec_trace::{Data, Reader};

use super::common::exchanges::{Server, assert_whole};
use super::common::{Recorded, TestEnv, ran, recorded};
use super::*;

by_both_engines!(
    what_openssl_encrypts_is_told_once,
    what_rustls_encrypts_is_whole,
    curl_speaks_http_2_through_it,
    node_ignores_proxies_and_is_read,
);

/// Many connections at once, each used again and again.
const PYTHON: &str = r#"
import http.client, ssl, sys, threading
def talk(number):
    connection = http.client.HTTPSConnection("localhost", int(sys.argv[1]))
    for turn in range(20):
        kind = "events" if turn % 5 == 0 else "plain"
        size = 1 << 20 if (number, turn) == (3, 7) else 37 * number * turn
        connection.request("POST", f"/{kind}/{number}/{turn}", f"{number}-{turn}:" + "x" * size)
        connection.getresponse().read()
    connection.close()
threads = [threading.Thread(target=talk, args=(number,)) for number in range(25)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"#;

fn what_openssl_encrypts_is_told_once(by: By) {
    let env = TestEnv::new();
    env.write("../client.py", PYTHON);
    let server = secure_server(&env);
    let recorded = record(&env, by, &["python3", "../client.py", &server.port]);
    let reader = Reader::open(&recorded.trace).unwrap();
    assert_whole(&env, &reader, &format!("https://localhost:{}", server.port), 500);
    assert_connections_are_the_servers(&recorded, &server.port);
}

/// No test of its own: the client of the next one, in this same program.
#[test]
fn client_of_rustls() {
    let Ok(port) = std::env::var("TEST_RUSTLS_PORT") else { return };
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    let file = std::env::var("SSL_CERT_FILE").unwrap();
    roots.add_parsable_certificates(CertificateDer::pem_file_iter(file).unwrap().flatten());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let talk = |number: usize| {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let socket = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let mut stream = BufReader::new(rustls::StreamOwned::new(tls, socket));
        for turn in 0..20 {
            let body = format!("{number}-{turn}:{}", "x".repeat(number * turn * 97));
            let head = format!(
                "POST /plain/{number}/{turn} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.get_mut().write_all((head + &body).as_bytes()).unwrap();
            let (mut line, mut len) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    len = value.trim().parse().unwrap();
                }
                line.clear();
            }
            stream.read_exact(&mut vec![0; len]).unwrap();
        }
    };
    thread::scope(|scope| {
        for number in 0..25 {
            scope.spawn(move || talk(number));
        }
    });
}

fn what_rustls_encrypts_is_whole(by: By) {
    let env = TestEnv::new();
    let server = secure_server(&env);
    let this = std::env::current_exe().unwrap();
    let client = [this.to_str().unwrap(), "--exact", "programs::client_of_rustls"];
    let args = ["run", "--json", "--tls"].iter().chain(&["probe", "--"]).chain(&client);
    let mut command = env.agentrec(args);
    let trusting = command
        .env("SSL_CERT_FILE", env.work().join("../ca.pem"))
        .env("TEST_RUSTLS_PORT", &server.port);
    // Nothing else finds it.
    let without = recorded(&ran(trusting.output()));
    let opaque = opaque(&without);
    assert_eq!(opaque.len(), 25);
    assert!(opaque.iter().all(|it| it.reason == "rustls" && it.hint.contains("--tls proxy")));
    fs::write(env.work().join("../server.log"), "").unwrap();
    drop(server);

    let server = Server::start(&env, &["../cert.pem", "../key.pem"]);
    let args = ["run", "--json"].iter().chain(&by).chain(&["--"]).chain(&client);
    let mut command = env.agentrec(args);
    let trusting = command
        .env("SSL_CERT_FILE", env.work().join("../ca.pem"))
        .env("TEST_RUSTLS_PORT", &server.port);
    let recorded = recorded(&ran(trusting.output()));
    let reader = Reader::open(&recorded.trace).unwrap();
    assert_whole(&env, &reader, &format!("https://localhost:{}", server.port), 500);
    assert_connections_are_the_servers(&recorded, &server.port);
}

/// The one exchange of a trace: version, request body, response body.
fn only_exchange(recorded: &Recorded) -> (String, Vec<u8>, Vec<u8>) {
    let reader = Reader::open(&recorded.trace).unwrap();
    let body = |content: &Content<'_>| match content {
        Content::Inline(bytes) => bytes.to_vec(),
        Content::Object { id, .. } => reader.object(id).unwrap().expect("it is there"),
    };
    let (mut request, mut response) = (None, None);
    for data in events(recorded) {
        match data {
            Data::HttpRequest(it) => {
                assert!(request.replace((it.version.to_string(), body(&it.body))).is_none());
            }
            Data::HttpResponse(it) => {
                assert_eq!((it.status, it.incomplete), (200, None));
                assert!(response.replace(body(&it.body)).is_none());
            }
            Data::NetOpaque(it) => panic!("{it:?}"),
            Data::Lost(it) => panic!("{it:?}"),
            _ => {}
        }
    }
    let (version, request) = request.expect("there is a request");
    (version, request, response.expect("there is a response"))
}

fn curl_speaks_http_2_through_it(by: By) {
    let env = TestEnv::new();
    make_certificates(&env);
    let content: String = (0..40_000).map(|line| format!("line {line}\n")).collect();
    env.write("body", &content);
    let port = free_port();
    // Debian has it where ordinary users don't look.
    let nghttpd = Path::new("/usr/sbin/nghttpd");
    let server = env
        .command(if nghttpd.exists() { nghttpd } else { Path::new("nghttpd") })
        .args(["--echo-upload", "--address=127.0.0.1", &port, "../key.pem", "../cert.pem"])
        .stdout(Stdio::null())
        .spawn();
    let mut server = server.expect("nghttpd is there (Debian's nghttp2-server)");
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        thread::yield_now();
    }
    let url = format!("https://localhost:{port}/echo");
    let curl = ["curl", "-sS", "--http2", "--data-binary", "@body", "-o", "answer", &url];
    let recorded = record(&env, by, &curl);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(env.read("answer").as_deref(), Some(&*content));
    let told = ("2".to_owned(), content.clone().into_bytes(), content.into_bytes());
    assert!(only_exchange(&recorded) == told);
}

fn node_ignores_proxies_and_is_read(by: By) {
    if !Path::new("/usr/bin/node").exists() {
        eprintln!("skipped: there is no Node");
        return;
    }
    let env = TestEnv::new();
    let server = secure_server(&env);
    let script = "fetch(process.argv[1], {method: 'POST', body: 'from node'}).then(r => r.text()).then(console.log)";
    let url = format!("https://localhost:{}/plain/0", server.port);
    let recorded = record(&env, by, &["/usr/bin/node", "-e", script, &url]);
    let (version, request, _) = only_exchange(&recorded);
    assert_eq!((&*version, &*request), ("1.1", &b"from node"[..]));
}

/// Its own TLS, its own threads, and stacks of its own.
const GO: &str = r#"
package main
import ("bytes"; "fmt"; "io"; "net/http"; "os"; "sync")
func main() {
    var all sync.WaitGroup
    for number := 0; number < 25; number++ {
        all.Add(1)
        go func(number int) {
            defer all.Done()
            for turn := 0; turn < 20; turn++ {
                body := append([]byte(fmt.Sprintf("%d-%d:", number, turn)), bytes.Repeat([]byte("x"), number*turn*97)...)
                url := fmt.Sprintf("https://localhost:%s/plain/%d/%d", os.Args[1], number, turn)
                answer, err := http.Post(url, "text/plain", bytes.NewReader(body))
                if err != nil { panic(err) }
                io.Copy(io.Discard, answer.Body)
                answer.Body.Close()
            }
        }(number)
    }
    all.Wait()
}
"#;

#[test]
#[ignore = "compiles Go's library"]
fn long_what_go_encrypts_is_whole() {
    if Command::new("go").arg("version").output().is_err() {
        eprintln!("skipped: there is no Go");
        return;
    }
    let env = TestEnv::new();
    env.write("../client.go", GO);
    let mut go = env.command("go");
    let built = go.args(["build", "-o", "../client", "../client.go"]).status().unwrap();
    assert!(built.success());
    let server = secure_server(&env);
    let recorded = record(&env, BY_PTRACE, &["../client", &server.port]);
    let reader = Reader::open(&recorded.trace).unwrap();
    assert_whole(&env, &reader, &format!("https://localhost:{}", server.port), 500);
    assert_connections_are_the_servers(&recorded, &server.port);
}
