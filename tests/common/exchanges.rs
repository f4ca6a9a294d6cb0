//! A server of HTTP that writes down what it saw, and what a trace says of the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use agentrec_trace::event::Content;
use agentrec_trace::{Data, Reader};

use super::TestEnv;

/// Answers each request with a body that depends on it, as events where that is asked for; writes down both.
const SERVER: &str = r#"
import hashlib, http.server, json, ssl, sys, threading
log, lock = open(sys.argv[1], "w"), threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = (hashlib.sha256(body).hexdigest() * (len(body) // 40 + 1)).encode()
        self.send_response(200)
        if self.path.startswith("/events"):
            pieces = [b"data: %d %s\n\n" % (n, answer[:40]) for n in range(20)]
            answer = b"".join(pieces)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        with lock:
            log.write(json.dumps([self.path, body.decode(), answer.decode()]) + "\n")
            log.flush()
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[2:4])
    if len(sys.argv) > 4:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"#;

/// A certificate for this machine and its key, as the environment's work directory sees them.
pub fn make_certificate(env: &TestEnv) -> [&'static str; 2] {
    let files = ["../cert.pem", "../key.pem"];
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-out", files[0], "-keyout", files[1]])
        .current_dir(env.work())
        .output()
        .expect("openssl is there");
    assert!(made.status.success(), "{made:?}");
    files
}

/// The server, as long as this lives.
pub struct Server {
    process: Child,
    pub port: String,
}

impl Server {
    /// With TLS where `more` names a certificate and its key, and who has to vouch for its clients.
    pub fn start(env: &TestEnv, more: &[&str]) -> Self {
        env.write("../server.py", SERVER);
        let mut process = Command::new("python3")
            .args(["../server.py", "../server.log"])
            .args(more)
            .current_dir(env.work())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { process, port: port.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Request and response bodies by path.
pub type Exchanges = BTreeMap<String, (String, String)>;

/// What the server saw.
pub fn in_the_log(env: &TestEnv) -> Exchanges {
    let log = fs::read_to_string(env.work().join("../server.log")).unwrap();
    let line = |line: &str| serde_json::from_str::<[String; 3]>(line).unwrap();
    log.lines().map(line).map(|[path, asked, answer]| (path, (asked, answer))).collect()
}

/// What the trace tells, in which nothing is lost or opaque.
pub fn in_the_trace(reader: &Reader, base: &str) -> Exchanges {
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
        match event.data {
            Data::HttpRequest(request) => {
                assert_eq!((&*request.method, &*request.version), ("POST", "1.1"));
                let path = request.url.strip_prefix(base).expect("of that server").to_owned();
                let sent = body(&request.body);
                assert_eq!(request.wire_len, sent.len() as u64, "{path}");
                requests.insert(event.seq, (path, sent));
            }
            Data::HttpResponse(response) => {
                let (path, sent) = requests.remove(&response.request.unwrap()).unwrap();
                assert_eq!((response.status, &response.incomplete), (200, &None), "{path}");
                let events = if path.starts_with("/events") { 20 } else { 0 };
                assert_eq!(response.sse.len(), events, "{path}");
                exchanges.insert(path, (sent, body(&response.body)));
            }
            Data::Lost(lost) => panic!("{lost:?}"),
            Data::NetOpaque(opaque) => panic!("{opaque:?}"),
            _ => {}
        }
    }
    assert!(requests.is_empty(), "without a response: {requests:?}");
    exchanges
}

/// All that the server saw is in the trace as it saw it, and nothing else.
pub fn assert_whole(env: &TestEnv, reader: &Reader, base: &str, count: usize) {
    let (told, seen) = (in_the_trace(reader, base), in_the_log(env));
    assert_eq!(seen.len(), count);
    for (path, exchange) in &seen {
        assert!(told.get(path) == Some(exchange), "{path} is another in the trace, or missing");
    }
    assert_eq!(told.len(), seen.len());
}
