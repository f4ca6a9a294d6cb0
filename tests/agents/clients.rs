//! The clients that agents are made of, many conversations at once: what is told of them is what the server itself saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use agentrec_trace::event::Content;
use agentrec_trace::{Data, Reader, json};

use crate::sandbox::{Sandbox, checkout, made, python, succeed};

/// Each of them talks in both ways: plain, and through TLS.
const CLIENTS: [&str; 11] = [
    "openai-sync",
    "openai-stream",
    "openai-async",
    "anthropic-sync",
    "anthropic-stream",
    "anthropic-async",
    "requests",
    "aiohttp",
    "node-openai-sync",
    "node-openai-stream",
    "node-fetch",
];
/// Conversations at once, of so many turns each.
const CONVERSATIONS: usize = 6;
const TURNS: usize = 3;

struct Server {
    process: Child,
    base: String,
    log: PathBuf,
}

impl Server {
    fn start(sandbox: &Sandbox, name: &str, tls: Option<&[PathBuf; 2]>) -> Self {
        let log = sandbox.path(&format!("{name}.log"));
        let mut command = Command::new(python());
        command.arg(checkout("tests/agents/clients_server.py")).arg(&log);
        command.args(tls.into_iter().flatten());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self { process, base: format!("{scheme}://localhost:{}", port.trim()), log }
    }

    /// Request and response bodies, as often as they were seen.
    fn exchanges(&self) -> Exchanges {
        let mut seen = Exchanges::new();
        for line in fs::read_to_string(&self.log).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            *seen.entry((text("asked"), text("answer"))).or_default() += 1;
        }
        seen
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

type Exchanges = BTreeMap<(String, String), usize>;

fn told(reader: &Reader, client: &str) -> Exchanges {
    let body = |content: &Content<'_>| {
        let bytes = match content {
            Content::Inline(bytes) => bytes.to_vec(),
            Content::Object { id, .. } => reader.object(id).unwrap().expect("it is there"),
        };
        String::from_utf8(bytes).unwrap()
    };
    let (mut requests, mut exchanges) = (BTreeMap::new(), Exchanges::new());
    for event in reader.iter() {
        let event = event.unwrap();
        match &event.data {
            Data::HttpRequest(request) => drop(requests.insert(event.seq, body(&request.body))),
            Data::HttpResponse(response) => {
                let (asked, answer) =
                    (requests.remove(&response.request.unwrap()).unwrap(), body(&response.body));
                // `openai` leaves after the last event, and reads no end of the body.
                let left = answer.ends_with("data: [DONE]\n\n");
                assert!(response.incomplete.is_none() || left, "{response:?}");
                *exchanges.entry((asked, answer)).or_default() += 1;
            }
            Data::Lost(lost) => panic!("{client}: {lost:?}"),
            Data::NetOpaque(opaque) => panic!("{client}: {opaque:?}"),
            _ => {}
        }
    }
    exchanges
}

/// What the trace says was said, without the system prompt, and the tokens that it counts.
fn conversation(reader: &Reader) -> (BTreeSet<(String, String)>, u64) {
    let (mut said, mut tokens) = (BTreeSet::new(), 0);
    for event in reader.iter() {
        match event.unwrap().data {
            Data::Message(message) if message.role != "system" => {
                let content = json::from_value(&reader.payload(&message.content).unwrap());
                let text = match content {
                    serde_json::Value::String(text) => text,
                    parts => {
                        let parts = parts.as_array().unwrap().iter();
                        parts.filter_map(|part| part["text"].as_str()).collect()
                    }
                };
                assert!(said.insert((message.role.into_owned(), text)), "it was told before");
            }
            Data::ModelResponse(response) => {
                assert_eq!((&response.error, &response.incomplete), (&None, &None));
            }
            Data::Usage(usage) => tokens += usage.output,
            _ => {}
        }
    }
    (said, tokens)
}

fn every_client_is_understood(engine: &str, tls: bool) {
    let sandbox = Sandbox::new();
    let cert = [sandbox.path("cert.pem"), sandbox.path("key.pem")];
    if tls {
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-out".as_ref(), cert[0].as_os_str(), "-keyout".as_ref(), cert[1].as_os_str()]);
        succeed(&mut make);
    }
    // None on a machine without npm.
    let modules = made("AGENTREC_TEST_NODE_MODULES", "node/node_modules");
    let node = Some(modules).filter(|modules| modules.exists());
    for client in CLIENTS {
        if client.starts_with("node-") && node.is_none() {
            eprintln!("{client} is not tested: there is no npm");
            continue;
        }
        let server = Server::start(&sandbox, client, tls.then_some(&cert));
        let trace = sandbox.path(&format!("{client}.zst"));
        let run = ["run", "-q", "--engine", engine, "-o", trace.to_str().unwrap(), "--"];
        let mut command = sandbox.agentrec(run);
        match node.as_ref().filter(|_| client.starts_with("node-")) {
            Some(modules) => {
                command.arg("node").arg(checkout("tests/agents/clients.js"));
                command.env("NODE_PATH", modules)
            }
            None => command.arg(python()).arg(checkout("tests/agents/clients.py")),
        };
        command.args([client, &server.base, &CONVERSATIONS.to_string()]);
        for trusts in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            match tls {
                true => command.env(trusts, &cert[0]),
                false => command.env_remove(trusts),
            };
        }
        succeed(&mut command);
        let reader = Reader::open(&trace).unwrap();
        let (seen, told) = (server.exchanges(), told(&reader, client));
        assert_eq!(seen.values().sum::<usize>(), CONVERSATIONS * TURNS, "{client}");
        assert!(told == seen, "{client}: the trace has other exchanges than the server");
        let (said, tokens) = conversation(&reader);
        let mut expected = BTreeSet::new();
        for (asked, _) in seen.keys() {
            let asked: serde_json::Value = serde_json::from_str(asked).unwrap();
            for message in asked["messages"].as_array().unwrap() {
                let role = message["role"].as_str().unwrap().to_owned();
                let text = message["content"].as_str().unwrap().to_owned();
                if role != "system" {
                    expected.insert((role, text));
                }
            }
        }
        // The last answers are in no request.
        let missing: Vec<_> = expected.difference(&said).collect();
        assert!(missing.is_empty(), "{client}: {missing:?}");
        assert_eq!(said.len(), 2 * CONVERSATIONS * TURNS, "{client}");
        assert_eq!(tokens, 5 * (CONVERSATIONS * TURNS) as u64, "{client}");
    }
}

#[test]
fn clients_are_understood() {
    every_client_is_understood("ptrace", false);
}

#[test]
fn clients_are_understood_through_tls() {
    every_client_is_understood("ptrace", true);
}

#[test]
#[ignore = "needs root"]
fn root_clients_are_understood_by_ebpf() {
    every_client_is_understood("ebpf", false);
}

#[test]
#[ignore = "needs root"]
fn root_clients_are_understood_through_tls_by_ebpf() {
    every_client_is_understood("ebpf", true);
}
