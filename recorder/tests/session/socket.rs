//! The local socket as `docs/socket-protocol.md` describes it, spoken by agents with Python's standard library.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use agentrec_recorder::control::Client;
use agentrec_trace::event::{Content, Payload};
use agentrec_trace::{Data, Event, Layer, Source, Value};
use serde_json::json;

use super::harness::{Ended, Place, events, losses, proc_of};

/// The interpreter itself: a shim in the PATH would be a shell script.
fn python() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let python = std::env::var_os("AGENTREC_TEST_PYTHON").unwrap_or_else(|| "python3".into());
        let output =
            Command::new(python).args(["-c", "import sys; print(sys.executable)"]).output();
        String::from_utf8(output.expect("python3 is needed").stdout).unwrap().trim().to_owned()
    })
}

/// What `docs/socket-protocol.md` shows, up to its first message.
fn example() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/socket-protocol.md");
    let text = std::fs::read_to_string(path).unwrap();
    let start = text.find("```python\n").unwrap() + "```python\n".len();
    text[start..start + text[start..].find("```").unwrap()].to_owned()
}

/// `send` and `ask` of the documentation.
fn prelude() -> String {
    let example = example();
    example[..example.find("send(type=\"message\"").unwrap()].to_owned()
}

fn agent(place: &Place, script: &str) -> Ended {
    let ended = place.run(&[python(), "-Ic", &format!("{}\n{script}", prelude())]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    ended
}

fn sdk(events: &[Event<'static>]) -> Vec<Event<'static>> {
    events.iter().filter(|event| event.source == Source::Sdk).cloned().collect()
}

#[test]
fn the_documented_example_works() {
    let place = Place::new();
    let ended = place.run(&[python(), "-Ic", &example()]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "2\n"), "{}", ended.stderr);
    let events = ended.events();
    let told = sdk(&events);
    let [message, call, result] = &told[..] else { panic!("{told:?}") };
    let agent = events.iter().find(|e| matches!(e.data, Data::ProcessExec(_))).unwrap().proc;
    assert!(told.iter().all(|event| event.proc == agent && agent.is_some()));
    let Data::Message(message) = &message.data else { panic!() };
    assert_eq!(
        (&*message.role, &message.content),
        ("user", &Payload::Inline("make the tests pass".into()))
    );
    let Data::ToolResult(tool_result) = &result.data else { panic!() };
    assert_eq!(tool_result.call, Some(call.seq));
    let snapshot = events.iter().find_map(|event| match &event.data {
        Data::SnapshotCreated(snapshot) if snapshot.trigger == "sdk" => Some((event, snapshot)),
        _ => None,
    });
    let (event, snapshot) = snapshot.unwrap();
    assert!(event.seq > result.seq, "what was sent before the snapshot is before it");
    assert_eq!(
        (snapshot.index.0, &*snapshot.description, event.proc),
        (2, "before the fix", agent)
    );
    let messages = Value::Array(vec![Value::Map(vec![
        ("role".into(), "user".into()),
        ("content".into(), "make the tests pass".into()),
    ])]);
    assert_eq!(snapshot.messages, Payload::Inline(messages));
    assert!(losses(&events).is_empty());
}

#[test]
fn what_is_sent_just_before_the_end_is_in_the_trace() {
    let place = Place::new();
    let script = "
import subprocess
for n in range(300): send(type='my.step', n=n)
os._exit(0)";
    let ended = agent(&place, script);
    let numbers: Vec<_> = sdk(&ended.events())
        .into_iter()
        .map(|event| match event.data {
            Data::Other { layer: Layer::Agent, fields, .. } => fields["n"].as_u64().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
}

#[test]
fn long_values_and_secrets_are_kept_as_they_should_be() {
    let place = Place::new();
    let script = "
# Backwards, for the arguments are recorded too.
key = '654321JIHGFEDCBAjihgfedcba0987654321_phg'[::-1]
send(type='tool.call', id='1', name='t', arguments={'api_key': key, 'text': 'x' * 10000})
send(type='my.step', note='token ' + key, fine='KEYBOARD')
send(type='message', role='user', content=[{'type': 'text', 'text': 'my key is ' + key}])
link = ask(type='link', **{'from': 1, 'to': 2, 'kind': 'about'})
assert link['ok'], link
assert 'no event #99999' in ask(type='link', **{'from': 1, 'to': 99999, 'kind': 'x'})['error']
send(type='lost', count=2**64 - 1)
send(type='tool.result', id='1', error='bad ' + key, duration=12)
ask(type='snapshot', description='with ' + key, system_prompt='p ' + key, tools=[{'x': key}], model='m')";
    let ended = agent(&place, script);
    let reader = ended.reader();
    let stored = reader.iter().any(|event| match event.unwrap().data {
        Data::ToolCall(call) => {
            matches!(call.arguments, Payload::Object { len, .. } if len > 10_000)
        }
        _ => false,
    });
    assert!(stored, "what is over 4 KiB is an object");
    let all = format!("{:?}", ended.events());
    assert!(!all.contains("1234567890abc"));
    assert!(all.contains("KEYBOARD") && all.contains("[redacted:"));
}

#[test]
fn output_that_is_written_in_pieces_holds_no_secret() {
    let place = Place::new();
    let script = "
import time
for piece in ('token ghp_123456789', '0abcdefghijABCDEF', 'GHIJ123456 end\\nlast'):
    os.write(1, piece.encode())";
    let ended = agent(&place, script);
    assert!(
        ended.stdout.contains("ghp_1234567890abcdefghijABCDEFGHIJ123456"),
        "the run is not changed"
    );
    let reader = ended.reader();
    let mut output = Vec::new();
    for event in ended.events() {
        if let Data::TermOutput(out) = &event.data {
            let content: &Content<'_> = &out.data;
            output.extend_from_slice(&reader.content(content).unwrap());
        }
    }
    let output = String::from_utf8(output).unwrap();
    assert!(!output.contains("56789") && !output.contains("ABCDEF"), "{output}");
    assert!(output.starts_with("token [redacted:") && output.ends_with(" end\nlast"), "{output}");
}

#[test]
fn lines_that_can_not_be_used_are_answered_and_noted() {
    let place = Place::new();
    let script = "
lines.write('nonsense\\n')
lines.flush()
first = json.loads(next(lines))
assert (first['ok'], first['line']) == (False, 1) and 'JSON' in first['error'], first
second = ask(type='tool.call', id='x')
assert second == {'req': 1, 'ok': False, 'error': '`name` is missing'}, second
assert ask(type='my.step')['seq'] > 1
lines.write('{\"type\": \"my.step\", \"long\": \"' + 'x' * (16 << 20) + '\"}\\n')
lines.flush()
assert '16 MiB' in json.loads(next(lines))['error']
lines.write('{\"type\": \"my.last\"}')
lines.flush()";
    let ended = agent(&place, script);
    let events = ended.events();
    let losses = losses(&events);
    assert_eq!(losses.len(), 3, "{losses:?}");
    assert!(
        losses[0].starts_with("socket: line 1 of process ") && losses[0].contains("JSON"),
        "{losses:?}"
    );
    assert!(losses[1].ends_with("`name` is missing"), "{losses:?}");
    assert_eq!(ended.recording().lost, 3);
    let names: Vec<_> = sdk(&events).iter().map(|e| e.data.type_name().to_owned()).collect();
    assert_eq!(names, ["my.step", "my.last"]);
}

#[test]
fn what_the_client_dropped_is_counted() {
    let place = Place::new();
    let ended = agent(&place, "send(type='lost', count=41)");
    assert_eq!(ended.recording().lost, 41);
    let events = ended.events();
    let lost = events.iter().find_map(|event| match &event.data {
        Data::Lost(lost) => Some(lost.count),
        _ => None,
    });
    assert_eq!(lost, Some(Some(41)));
}

/// An agent that waits until it is told to go on.
fn waiting(place: &Place) -> super::harness::Running {
    let mut running = place.start(&["sh", "-c", "echo ready; read x; echo over"]);
    assert_eq!(running.line(), "ready");
    running
}

#[test]
fn other_terminals_may_ask_but_not_speak_for_the_agent() {
    let place = Place::new().with(&["--name", "n"]);
    let running = waiting(&place);
    let mut client = Client::connect(&place.socket()).unwrap();
    let status = client.status().unwrap();
    assert_eq!((status.name.as_deref(), status.snapshots, status.processes), (Some("n"), 1, 1));
    assert!(!status.inside && status.recording && status.events > 2);
    assert_eq!(status.trace, place.trace().canonicalize().unwrap());
    assert_eq!(client.snapshot("from outside").unwrap(), 2);

    let mut stream = UnixStream::connect(place.socket()).unwrap();
    writeln!(stream, "{}", json!({"type": "my.step", "req": 1})).unwrap();
    let mut reply = String::new();
    BufReader::new(&stream).read_line(&mut reply).unwrap();
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert!(reply["error"].as_str().unwrap().ends_with("is not in the recorded tree"), "{reply}");

    let ended = running.end();
    let events = ended.events();
    assert!(sdk(&events).is_empty());
    assert_eq!(losses(&events).len(), 1);
    let snapshot = events.iter().find_map(|event| match &event.data {
        Data::SnapshotCreated(snapshot) if snapshot.index.0 == 2 => Some(snapshot),
        _ => None,
    });
    let snapshot = snapshot.unwrap();
    assert_eq!((&*snapshot.trigger, &*snapshot.description), ("command", "from outside"));
}

#[test]
fn the_trace_so_far_can_be_exported_from_a_running_session() {
    let place = Place::new();
    let running = waiting(&place);
    let mut client = Client::connect(&place.socket()).unwrap();
    let copy = place.path("copy.zst");
    let export = client.export(&copy).unwrap();
    assert_eq!((export.bytes, &export.path), (copy.metadata().unwrap().len(), &copy));
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let exported = events(&copy);
    assert_eq!(exported.len() as u64, export.events);
    assert!(proc_of(&exported, "sh").is_some());
    let again = client.export(&copy).unwrap_err();
    assert!(again.to_string().contains("exists"), "{again}");
    let ended = running.end();
    assert!(ended.events().len() > exported.len());
    assert_eq!(ended.events()[..exported.len()], exported);
}

#[test]
fn the_socket_is_private() {
    let place = Place::new();
    let running = waiting(&place);
    let socket = place.socket();
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let dir = socket.parent().unwrap().metadata().unwrap();
    assert_eq!(dir.permissions().mode() & 0o777, 0o700);
    running.end();
    assert!(!socket.exists());
}

#[test]
#[ignore = "needs root"]
fn root_a_peer_of_another_user_is_disconnected() {
    let place = Place::new();
    let running = waiting(&place);
    // As if somebody had opened the directories and the socket.
    let socket = place.socket();
    for dir in socket.ancestors().take_while(|dir| *dir != std::env::temp_dir()) {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let script = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(b'{\"type\": \"status\", \"req\": 1}\\n')
    print(s.recv(100))
except ConnectionError:
    print(b'')";
    let ask = |uid: u32| {
        let mut command = Command::new("/usr/bin/env");
        let python = nobodys_python();
        command.arg(python).args(["-Ic", script]).arg(&socket);
        let output = command.uid(uid).current_dir("/").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ask(65534), "b''\n");
    assert!(ask(0).contains("session"));
    running.end();
}

/// An interpreter that other users can reach.
fn nobodys_python() -> PathBuf {
    let system = PathBuf::from("/usr/bin/python3");
    assert!(system.exists(), "this test needs an interpreter outside of root's home");
    system
}

#[test]
fn a_client_that_never_reads_does_not_stop_the_recording() {
    let place = Place::new();
    let running = waiting(&place);
    let mut deaf = UnixStream::connect(place.socket()).unwrap();
    deaf.set_nonblocking(true).unwrap();
    // Until the replies fill the socket's buffer, and the recorder has hung up or drops them.
    let line = format!("{}\n", json!({"type": "status", "req": 1})).repeat(100);
    for _ in 0..200 {
        if deaf.write(line.as_bytes()).is_err() {
            break;
        }
    }
    let mut client = Client::connect(&place.socket()).unwrap();
    assert_eq!(client.snapshot("still there").unwrap(), 2);
    let mut rest = Vec::new();
    deaf.read_to_end(&mut rest).ok();
    assert_eq!(running.end().code(), 0);
}

#[test]
fn a_child_that_inherits_the_connection_speaks_for_itself() {
    let place = Place::new();
    let script = "
send(type='my.parent')
if os.fork() == 0:
    send(type='my.child')
    os._exit(0)
os.wait()";
    let ended = agent(&place, script);
    let told = sdk(&ended.events());
    let [parent, child] = &told[..] else { panic!("{told:?}") };
    let forked = ended.events().iter().find_map(|event| match &event.data {
        Data::ProcessFork(fork) => Some((event.proc, Some(fork.child))),
        _ => None,
    });
    assert_eq!(Some((parent.proc, child.proc)), forked);
}
