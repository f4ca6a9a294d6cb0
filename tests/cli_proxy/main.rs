//! `run --tls proxy`: what programs say through whatever TLS is in the trace as their server saw it, and they notice nothing.

mod by_ebpf;
#[path = "../common/mod.rs"]
mod common;
mod programs;
mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use agentrec_trace::event::NetOpaque;
use agentrec_trace::{Data, Reader};
use common::exchanges::Server;
use common::{Ran, Recorded, TestEnv, ran, recorded};

/// What leads the connections.
type By = [&'static str; 4];
const BY_PTRACE: By = ["--tls", "proxy", "--engine", "ptrace"];
const BY_EBPF: By = ["--tls", "proxy", "--engine", "ebpf"];

/// Makes tests of functions, one for each engine.
macro_rules! by_both_engines {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn by_ptrace() {
                super::$name(crate::BY_PTRACE);
            }

            #[test]
            #[ignore = "needs root"]
            fn root_by_ebpf() {
                super::$name(crate::BY_EBPF);
            }
        }
    )*};
}
use by_both_engines;

/// Makes an authority, `../ca.pem`, and a certificate of its for localhost, `../cert.pem` with `../key.pem`.
fn make_certificates(env: &TestEnv) {
    env.write(
        "../leaf.cnf",
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
    );
    let made = env
        .command("sh")
        .arg("-ec")
        .arg(
            "cd ..; q() { openssl \"$@\" 2>/dev/null; }
            q req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.pem
            q req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out leaf.csr
            q x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 2 -extfile leaf.cnf -out cert.pem",
        )
        .status();
    assert!(made.expect("openssl is there").success());
}

/// A server with TLS, trusted by who trusts `../ca.pem`.
fn secure_server(env: &TestEnv) -> Server {
    make_certificates(env);
    Server::start(env, &["../cert.pem", "../key.pem"])
}

/// `agentrec run` with these options, in an environment that trusts the test's authority.
fn run(env: &TestEnv, options: &[&str], command: &[&str]) -> Ran {
    let args = ["run", "--json"].iter().chain(options).chain(&["--"]).chain(command);
    ran(env.agentrec(args).env("SSL_CERT_FILE", env.work().join("../ca.pem")).output())
}

fn record(env: &TestEnv, by: By, command: &[&str]) -> Recorded {
    let ran = run(env, &by, command);
    assert_eq!(ran.code, 0, "{ran:?}");
    recorded(&ran)
}

fn events(recorded: &Recorded) -> Vec<Data<'static>> {
    let reader = Reader::open(&recorded.trace).unwrap();
    reader.iter().map(|event| event.unwrap().data.into_owned()).collect()
}

fn opaque(recorded: &Recorded) -> Vec<NetOpaque<'static>> {
    let events = events(recorded).into_iter();
    events.filter_map(|data| if let Data::NetOpaque(it) = data { Some(it) } else { None }).collect()
}

/// Each request names the connection that it went over, which is one to the server itself.
fn assert_connections_are_the_servers(recorded: &Recorded, port: &str) {
    let reader = Reader::open(&recorded.trace).unwrap();
    let mut peers = BTreeMap::new();
    for event in reader.iter() {
        let event = event.unwrap();
        match event.data {
            Data::NetConnect(connect)
                if connect.protocol == "tcp" && connect.errno != Some(libc::ECONNREFUSED) =>
            {
                peers.insert(event.seq, connect.peer.port.to_string());
            }
            Data::HttpRequest(request) => {
                assert_eq!(
                    peers.get(&request.open.expect("known")).map(String::as_str),
                    Some(port)
                );
                assert_eq!(event.proc.map(|proc| proc.0), Some(1));
            }
            _ => {}
        }
    }
    assert!(!peers.is_empty());
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Variables that lead to the certificates.
const VARIABLES: &str = "AWS_CA_BUNDLE CARGO_HTTP_CAINFO CURL_CA_BUNDLE DENO_CERT GIT_SSL_CAINFO \
    NODE_EXTRA_CA_CERTS REQUESTS_CA_BUNDLE SSL_CERT_FILE";

by_both_engines!(nothing_else_of_the_environment_changes_and_nothing_is_left);

fn nothing_else_of_the_environment_changes_and_nothing_is_left(by: By) {
    let env = TestEnv::new();
    make_certificates(&env);
    let script = "env; cat \"$SSL_CERT_FILE\" >&2; stat -c %a \"$SSL_CERT_FILE\"";
    let names = |ran: &Ran| -> BTreeMap<String, String> {
        let lines = ran.stdout.lines().filter_map(|line| line.split_once('='));
        let ours = |name: &str| name.starts_with("AGENTREC_");
        lines
            .filter(|it| !ours(it.0))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let (without, with) =
        (run(&env, &[], &["sh", "-c", script]), run(&env, &by, &["sh", "-c", script]));
    let (without_us, with_us) = (names(&without), names(&with));
    let changed: Vec<_> =
        with_us.iter().filter(|(name, value)| without_us.get(*name) != Some(value)).collect();
    let names: Vec<&str> = changed.iter().map(|(name, _)| &***name).collect();
    assert_eq!(names.join(" "), VARIABLES);
    assert!(changed.iter().all(|(_, value)| *value == changed[0].1));
    assert!(without_us.keys().all(|name| with_us.contains_key(name)));
    let bundle = changed[0].1;
    // What the user trusts, and one more.
    assert_eq!(with.stderr.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(with.stderr.contains(env.read("../ca.pem").unwrap().trim()));
    assert!(!with.stderr.contains("PRIVATE KEY"));
    assert_eq!(with.stdout.lines().last(), Some("600"));
    assert!(!Path::new(bundle).exists());
    // A resumed run must not look for it.
    let recorded = recorded(&with);
    let start = events(&recorded).into_iter().find_map(|data| match data {
        Data::SessionStart(start) => Some(start),
        _ => None,
    });
    let start = start.unwrap();
    let told = |name: &str| start.env.iter().any(|(other, _)| &**other == name.as_bytes());
    assert!(told("SSL_CERT_FILE") && !told("NODE_EXTRA_CA_CERTS"));
    let trace = fs::read(&recorded.trace).unwrap();
    assert!(!contains(&zstd::decode_all(&*trace).unwrap(), b"PRIVATE KEY"));
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[test]
fn nothing_is_left_by_a_recorder_that_is_killed() {
    let env = TestEnv::new();
    make_certificates(&env);
    let script = "echo $SSL_CERT_FILE > ../bundle; ls -l /proc/$PPID/task; kill -9 $(ps -o pid= --ppid $PPID | grep -v $$); sleep 60";
    let ran = run(&env, &BY_PTRACE, &["sh", "-c", script]);
    assert_ne!(ran.code, 0);
    let bundle = env.read("../bundle").expect("it ran");
    assert!(!Path::new(bundle.trim()).exists(), "{ran:?}");
}

#[test]
fn it_says_where_it_can_not_be() {
    let env = TestEnv::new();
    make_certificates(&env);
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let attach = env.run(["attach", "--tls", "proxy", &sleeper.id().to_string()]);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(attach.code, 125);
    assert!(attach.stderr.contains("agentrec run --tls proxy"), "{attach:?}");
    let off = run(&env, &["--tls", "off"], &["true"]);
    assert_eq!(off.code, 0);
}
