//! Clients that know nothing of us: what they send and get through TLS is what the server at the other end gets and sends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agentrec_recorder::source::ExitStatus;
use tempfile::TempDir;

use super::harness::{Recording, User};
use super::tls::streams;

/// `tls_server.py` outside of the recording, with a certificate of its own.
struct Server {
    dir: TempDir,
    process: Child,
    port: String,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ])
            .args([
                "-addext",
                "subjectAltName=DNS:localhost",
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
            ])
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let mut process = Command::new("/usr/bin/python3")
            .arg(script("tls_server.py"))
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.as_mut().expect("piped")).read_line(&mut port).unwrap();
        Self { dir, process, port: port.trim().into() }
    }

    fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// What came and went over each connection.
    fn end(mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
        let read =
            |number: u32, end: &str| fs::read(self.dir.path().join(format!("{number}.{end}")));
        (1..)
            .map_while(|number| Some((read(number, "in").ok()?, read(number, "out").ok()?)))
            .collect()
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/tracees")
        .join(name)
        .canonicalize()
        .unwrap()
}

/// Runs a client, whose arguments are made from the port and the name of the certificate; how many connections there were.
fn expect(user: User, program: &str, args: impl Fn(&str, &str) -> Vec<String>) -> usize {
    let server = Server::start();
    let certificate = fs::read(server.certificate()).unwrap();
    let recording = Recording::program(program).with(|dir| {
        fs::write(dir.join("cert.pem"), &certificate).unwrap();
        for name in ["tls_client.py", "tls_client.js", "tls_bun.js"] {
            fs::copy(script(name), dir.join(name)).unwrap();
        }
    });
    let recorded = recording.args(args(&server.port, "cert.pem")).user(user).run();
    let said = String::from_utf8_lossy(&recorded.stderr);
    assert_eq!(recorded.status(), ExitStatus::Code(0), "{program}: {said}");
    let lost: Vec<_> =
        recorded.lines().into_iter().filter(|line| line.contains("lost tls")).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let mut seen: Vec<_> = streams(&recorded)
        .into_iter()
        .map(|stream| (stream.written, stream.read))
        .filter(|(written, read)| !(written.is_empty() && read.is_empty()))
        .collect();
    let mut served = server.end();
    seen.sort();
    served.sort();
    let sizes = |all: &[(Vec<u8>, Vec<u8>)]| -> Vec<_> {
        all.iter().map(|(written, read)| (written.len(), read.len())).collect()
    };
    assert!(seen == served, "{program}: {:?}, the server: {:?}", sizes(&seen), sizes(&served));
    seen.len()
}

fn strings<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(String::from).to_vec()
}

#[test]
fn python_blocking_and_by_asyncio() {
    for user in User::all() {
        let python = |how: &'static str| {
            expect(user, "/usr/bin/python3", move |port, certificate| {
                strings(["tls_client.py", how, port, certificate])
            })
        };
        assert_eq!(python("blocking"), 1);
        assert_eq!(python("asyncio"), 5);
    }
}

#[test]
fn curl() {
    for user in User::all() {
        let connections = expect(user, "/usr/bin/curl", |port, certificate| {
            let url = format!("https://localhost:{port}/[1-3]");
            strings(["-sS", "-o", "body", "--cacert", certificate, "-d", "some words", &url])
        });
        assert_eq!(connections, 1);
    }
}

/// Which links GnuTLS on Debian.
#[test]
fn git() {
    for user in User::all() {
        let server = Server::start();
        let url = format!("https://localhost:{}/repository.git", server.port);
        let recorded = Recording::program("/usr/bin/env")
            .args(["git", "-c", "http.sslVerify=false", "ls-remote", &url])
            .user(user)
            .run();
        let seen: Vec<_> = streams(&recorded)
            .into_iter()
            .map(|stream| (stream.written, stream.read))
            .filter(|(written, _)| !written.is_empty())
            .collect();
        // What it makes of such an answer is its own business.
        let served = server.end();
        assert!(!served.is_empty() && seen == served, "{} {}", seen.len(), served.len());
    }
}

/// Where this machine has it.
#[test]
fn node() {
    if !Path::new("/usr/bin/node").exists() {
        return;
    }
    for user in User::all() {
        let connections = expect(user, "/usr/bin/node", |port, certificate| {
            strings(["tls_client.js", port, certificate])
        });
        assert_eq!(connections, 1);
    }
}

/// Versions of the npm package, which has no symbols.
#[test]
#[ignore = "downloads 80 MB"]
fn long_bun() {
    for version in ["1.2.20", "1.3.3", "1.4.5"] {
        let dir = tempfile::tempdir().unwrap();
        let package = format!("@oven/bun-linux-x64@{version}");
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-save", "--prefix"]).arg(dir.path()).arg(package);
        assert!(npm.status().unwrap().success());
        let bun = dir.path().join("node_modules/@oven/bun-linux-x64/bin/bun");
        let connections = expect(User::Same, bun.to_str().unwrap(), |port, certificate| {
            strings(["tls_bun.js", port, certificate])
        });
        // One of them may begin where another has ended.
        assert!((1..=3).contains(&connections), "{connections}");
    }
}
