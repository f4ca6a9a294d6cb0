//! Connections that BPF programs lead through the proxy: what the tree and others see of that.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use agentrec_trace::Data;
use nix::sched::{CloneFlags, unshare};

use super::common::{Live, Ran, TestEnv, ran, recorded};
use super::*;

/// Listens on one port of these addresses, and gives each line back; the port.
fn echo(hosts: &[&str]) -> u16 {
    let mut port = 0;
    for host in hosts {
        let listener = TcpListener::bind((*host, port)).expect("it is free");
        port = listener.local_addr().unwrap().port();
        let serve = |socket: TcpStream| -> std::io::Result<()> {
            let mut lines = BufReader::new(socket.try_clone()?);
            let (mut socket, mut line) = (socket, String::new());
            while lines.read_line(&mut line)? > 0 {
                socket.write_all(line.as_bytes())?;
                line.clear();
            }
            Ok(())
        };
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                // Who is cut off had its answer.
                thread::spawn(move || serve(socket).unwrap_or_default());
            }
        });
    }
    port
}

/// Runs a Python script, recorded or alone.
fn python(env: &TestEnv, by: Option<By>, script: &str, port: u16) -> Ran {
    let port = port.to_string();
    let command = ["python3", "-c", script, &port];
    match by {
        Some(by) => run(env, &by, &command),
        None => ran(env.command(command[0]).args(&command[1..]).output()),
    }
}

/// Calls `work` where there is no network but one of our own: besides the loopback addresses this machine is 10.9.8.7.
fn in_own_network<T: Send>(env: &TestEnv, work: impl FnOnce() -> T + Send) -> T {
    const SETUP: &str = "ip link set lo up; ip addr add 10.9.8.7/32 dev lo";
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may");
        assert!(env.command("sh").args(["-ec", SETUP]).status().unwrap().success());
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| {
        std::panic::resume_unwind(panic);
    })
}

/// What a program can ask of its connections.
const ASKS: &str = r#"
import errno, select, socket, sys
port = int(sys.argv[1])
def talk(what, s):
    s.sendall(b"hello\n")
    print(what, s.getpeername()[:2], s.recv(100))
    s.close()
def connect(host, family=socket.AF_INET, bound=None):
    s = socket.socket(family)
    if bound: s.bind((bound, 0))
    s.connect((host, port))
    return s
talk("blocking", connect("127.0.0.1"))
talk("by name", socket.create_connection(("localhost", port)))
talk("any", connect("0.0.0.0"))
talk("bound", connect("127.0.0.1", bound="127.0.0.2"))
talk("mapped", connect("::ffff:127.0.0.1", socket.AF_INET6))
talk("six", connect("::1", socket.AF_INET6))
waits = socket.socket()
waits.setblocking(False)
print("in progress", waits.connect_ex(("127.0.0.1", port)) == errno.EINPROGRESS)
select.select([], [waits], [])
print("made", waits.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), waits.connect_ex(("127.0.0.1", port)))
print("once more", waits.connect_ex(("127.0.0.1", port)) == errno.EISCONN)
waits.setblocking(True)
talk("waited for", waits)
at_once = socket.socket()
at_once.sendto(b"hello\n", socket.MSG_FASTOPEN, ("127.0.0.1", port))
print("at once", at_once.getpeername(), at_once.recv(100))
for family, host in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1"):
    print("refused", socket.socket(family).connect_ex((host, 1)) == errno.ECONNREFUSED)
datagrams = socket.socket(type=socket.SOCK_DGRAM)
datagrams.connect(("127.0.0.1", port))
print("udp", datagrams.getpeername())
"#;

#[test]
#[ignore = "needs root"]
fn root_programs_see_the_hosts_that_they_meant() {
    let env = TestEnv::new();
    make_certificates(&env);
    let port = echo(&["127.0.0.1", "::1"]);
    let alone = python(&env, None, ASKS, port);
    assert_eq!(alone.code, 0, "{alone:?}");
    let led = python(&env, Some(BY_EBPF), ASKS, port);
    assert_eq!((led.code, &led.stdout), (0, &alone.stdout), "{led:?}");
    // All nine went through the proxy, which could make nothing of them; and were told where they were meant to go.
    let recorded = recorded(&led);
    let told = opaque(&recorded);
    assert_eq!(told.len(), 9, "{told:?}");
    assert!(told.iter().all(|it| it.reason == "unknown-protocol" && it.sent == 6));
    assert!(told.iter().all(|it| it.peer.port == port), "{told:?}");
    for data in events(&recorded) {
        match data {
            Data::NetConnect(it) if it.protocol == "tcp" => {
                let refused = it.errno == Some(libc::ECONNREFUSED);
                assert_eq!(it.peer.port, if refused { 1 } else { port }, "{it:?}");
            }
            Data::Lost(lost) => panic!("{lost:?}"),
            _ => {}
        }
    }
}

#[test]
#[ignore = "needs root"]
fn root_connections_inside_of_the_tree_and_of_others_are_left_alone() {
    let env = TestEnv::new();
    make_certificates(&env);
    // A server sees where its client really comes from, unless the proxy is in between.
    let script = r#"
import socket, subprocess, sys
def talk(where):
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, address = listener.accept()
    print(where, address == client.getsockname())
    listener.close()
    return listener, client
if sys.argv[1] == "there": talk("there")
else:
    talk("here")
    lines = subprocess.run(["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", "python3", "-c", sys.argv[2], "there"],
        check=True, stdout=subprocess.PIPE, text=True)
    print(lines.stdout.strip())
    print(sys.stdin.readline().strip())
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, 25, b"lo\0") # SO_BINDTODEVICE
    bound.connect(("127.0.0.1", int(sys.argv[3])))
    print("%s:%d" % bound.getsockname())
"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let by = ["run", "--json"].into_iter().chain(BY_EBPF);
    let mut recording =
        env.agentrec(by.chain(["--", "python3", "-uc", script, "here", script, &port]));
    recording.env("SSL_CERT_FILE", env.work().join("../ca.pem"));
    let mut live = Live::start(recording);
    live.wait_for("here True");
    live.wait_for("there True");
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    live.tell("on");
    live.wait_for("on");
    // Nor are those that may only use one device.
    let (_, from) = listener.accept().unwrap();
    live.wait_for(&from.to_string());
    let ended = live.finish();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
#[ignore = "needs root"]
fn root_a_destination_that_is_not_reached_is_reset_and_refuses_the_next() {
    let env = TestEnv::new();
    make_certificates(&env);
    let script = r#"
import errno, socket, sys
first = socket.socket()
first.connect(("10.9.8.7", int(sys.argv[1])))
try: print("first", first.recv(1))
except ConnectionResetError: print("first reset")
print("next", errno.errorcode[socket.socket().connect_ex(("10.9.8.7", int(sys.argv[1])))])
print("no way", errno.errorcode[socket.socket(socket.AF_INET6).connect_ex(("2001:db8::7", 443))])
"#;
    let (led, port) = in_own_network(&env, || {
        let port = TcpListener::bind("10.9.8.7:0").unwrap().local_addr().unwrap().port();
        (python(&env, Some(BY_EBPF), script, port), port)
    });
    assert_eq!(led.stdout, "first reset\nnext ECONNREFUSED\nno way ENETUNREACH\n", "{led:?}");
    let recorded = recorded(&led);
    let [told] = &opaque(&recorded)[..] else { panic!("not one") };
    assert_eq!(
        (&*told.reason, &*told.peer.host, told.peer.port),
        ("not-reached", "10.9.8.7", port)
    );
}

#[test]
#[ignore = "needs root"]
fn root_connections_go_on_when_the_recording_is_stopped() {
    let env = TestEnv::new();
    make_certificates(&env);
    let port = echo(&["127.0.0.1"]);
    let script = r#"
import socket, sys
before = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def say(s, line):
    s.sendall(line.encode())
    print(s.recv(100).decode().strip())
say(before, "before\n")
sys.stdin.readline()
say(before, "after\n")
say(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), "new\n")
"#;
    let port = port.to_string();
    let by = ["run", "--json", "--name", "stopped"].into_iter().chain(BY_EBPF);
    let command = ["--", "python3", "-uc", script, &port];
    let mut recording = env.agentrec(by.chain(command));
    recording.env("SSL_CERT_FILE", env.work().join("../ca.pem"));
    let mut live = Live::start(recording);
    live.wait_for("before");
    env.ok(["stop", "stopped"]);
    live.tell("on");
    live.wait_for("after");
    live.wait_for("new");
    assert_eq!(live.finish().code, 0);
}

#[test]
#[ignore = "needs root"]
fn root_a_killed_recorder_cuts_what_it_carried_and_nothing_else() {
    let env = TestEnv::new();
    make_certificates(&env);
    let port = echo(&["127.0.0.1"]);
    // The bundle stays as long as the command, which may look into it at any time.
    let script = r#"
import os, signal, socket, sys
before = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
before.sendall(b"before\n")
print(before.recv(100))
front = os.getppid()
recorder = next(int(child) for child in open(f"/proc/{front}/task/{front}/children").read().split() if int(child) != os.getpid())
os.kill(recorder, signal.SIGKILL)
try: print("cut", before.recv(100))
except ConnectionResetError: print("cut", b"")
after = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
after.sendall(b"after\n")
print(after.recv(100), os.path.exists(os.environ["SSL_CERT_FILE"]))
open("../bundle", "w").write(os.environ["SSL_CERT_FILE"])
"#;
    let ran = python(&env, Some(BY_EBPF), script, port);
    assert_eq!(ran.stdout, "b'before\\n'\ncut b''\nb'after\\n' True\n", "{ran:?}");
    assert!(!Path::new(&env.read("../bundle").expect("it was told")).exists());
}

#[test]
#[ignore = "needs root"]
fn root_where_there_are_no_control_groups_it_is_said() {
    let env = TestEnv::new();
    make_certificates(&env);
    // In a mount namespace of its own: whatever is mounted there is let go.
    let hidden = |options: &[&str]| {
        let script = "for at in $(awk '$3 == \"cgroup2\" {print $2}' /proc/mounts); do umount -l \"$at\"; done; exec \"$@\"";
        let mut command = env.command("unshare");
        command.args([
            "--mount",
            "sh",
            "-ec",
            script,
            "sh",
            super::common::AGENTREC,
            "run",
            "--json",
        ]);
        command.args(["--tls", "proxy"]).args(options).args(["--", "true"]);
        ran(command.env("SSL_CERT_FILE", env.work().join("../ca.pem")).output())
    };
    let refused = hidden(&["--engine", "ebpf"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(
        refused.stderr.contains("control groups") && refused.stderr.contains("--engine ebpf"),
        "{refused:?}"
    );
    let fell_back = hidden(&["--engine", "auto"]);
    assert_eq!(fell_back.code, 0, "{fell_back:?}");
    assert!(fell_back.stderr.contains("control groups"), "{fell_back:?}");
    let engine = events(&recorded(&fell_back)).into_iter().find_map(|data| match data {
        Data::SessionStart(start) => Some(start.engine.into_owned()),
        _ => None,
    });
    assert_eq!(engine.as_deref(), Some("ptrace"));
}
