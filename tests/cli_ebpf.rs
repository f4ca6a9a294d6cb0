//! The eBPF engine beside the other one, where a program takes it to its limits.

mod common;

use std::collections::BTreeSet;

use common::TestEnv;
use serde_json::Value;

/// The events of a Python script that both engines recorded, by engine.
fn both(env: &TestEnv, script: &str) -> [Vec<Value>; 2] {
    ["ptrace", "ebpf"].map(|engine| {
        let trace = format!("{engine}.zst");
        let options = ["run", "-q", "--engine", engine, "-o", &trace, "--exclude", "*", "--"];
        let ran = env.run(options.iter().chain(&["/usr/bin/python3", "-c", script]));
        assert_eq!(ran.code, 0, "{engine}: {ran:?}");
        env.json(["export", &trace])
    })
}

/// What events of one type say, but for descriptors and the like.
fn told(events: &[Value], kind: &str, fields: &[&str]) -> BTreeSet<String> {
    let wanted = events.iter().filter(|event| event["type"] == kind);
    wanted
        .map(|event| fields.iter().map(|field| event["data"][*field].to_string()).collect())
        .collect()
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_directories_may_be_deep() {
    let env = TestEnv::new();
    // More names than bytes: each of one character.
    let script = "
import os
for _ in range(900):
    os.makedirs('d', exist_ok=True)
    os.chdir('d')
open('deep.txt', 'w').close()
";
    let [ptrace, ebpf] = both(&env, script).map(|events| told(&events, "file.open", &["path"]));
    assert!(ebpf.iter().any(|path| path.contains("/d/d/deep.txt")), "{ebpf:?}");
    assert_eq!(ptrace, ebpf);
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_arguments_and_environments_may_be_long() {
    let env = TestEnv::new();
    let script = "
import os, subprocess
env = {f'NAME{i}': 'x' * 100_000 for i in range(9)}
subprocess.run(['/bin/true'], env=env, check=True)
subprocess.run(['/bin/true'] + ['y' * 30_000] * 3, check=True)
for count in 1, 2, 3:
    try: os.execv('/no-such-program', ['z' * 20_000] * count)
    except FileNotFoundError: pass
";
    let fields = ["path", "argv", "env", "errno"];
    let [ptrace, ebpf] = both(&env, script).map(|events| {
        assert!(events.iter().all(|event| event["type"] != "lost"), "{events:#?}");
        told(&events, "process.exec", &fields)
    });
    assert!(ebpf.iter().any(|told| told.contains("NAME8")), "the last of the variables is there");
    for (ptrace, ebpf) in ptrace.iter().zip(&ebpf) {
        assert_eq!(ptrace, ebpf);
    }
    assert_eq!(ptrace.len(), ebpf.len());
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_what_a_child_says_at_once_is_told() {
    let env = TestEnv::new();
    // The recorder looks seldom where little happens: most children have spoken, and ended, before it has heard of them.
    let script = r#"
import os, socket, time
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["AGENTREC_SOCKET"])
for i in range(60):
    time.sleep(0.02)
    if os.fork() == 0:
        s.send(b'{"type": "my.fork", "i": %d}\n' % i)
        os._exit(0)
    os.wait()
"#;
    for events in both(&env, script) {
        assert!(events.iter().all(|event| event["type"] != "lost"), "{events:#?}");
        let forks = events.iter().filter(|event| event["type"] == "process.fork");
        let children: Vec<_> = forks.map(|event| &event["data"]["child"]).collect();
        let said = events.iter().filter(|event| event["type"] == "my.fork");
        let said: Vec<_> = said.map(|event| (&event["proc"], event["data"]["i"].clone())).collect();
        let expected: Vec<_> = children.into_iter().zip((0..60).map(Value::from)).collect();
        assert_eq!(said, expected);
    }
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_a_stopped_recording_leaves_the_command_running() {
    let env = TestEnv::new();
    let options = ["--engine", "ebpf", "--name", "stopped"];
    let mut live = env.start(&options, "echo ready; read line; echo on; read line; exit 7");
    live.wait_for("ready");
    assert!(env.ok(["stop", "stopped"]).contains("seal "));
    live.tell("go on");
    live.wait_for("on");
    live.tell("end");
    assert_eq!(live.finish().code, 7);
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_signals_reach_the_command_once_and_its_stops_whoever_waits() {
    let env = TestEnv::new();
    let command = r#"
import os, signal, sys
def told(signal, frame): os.write(1, f"signal {signal}\n".encode())
for number in signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP: signal.signal(number, told)
os.write(1, b"ready\n")
for line in sys.stdin: os.write(1, b"asked " + line.encode())
"#;
    // To the group, to the front alone, to the command alone; what was sent before a line is told before the answer to it.
    let starter = r#"
import os, signal, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0)
def heard(): return child.stdout.readline().strip()
assert heard() == "ready"
command = int(open(f"/proc/{child.pid}/task/{child.pid}/children").read().split()[-1])
for number in signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP:
    for send, whom in (os.killpg, child.pid), (os.kill, child.pid), (os.kill, command):
        send(whom, number)
        print(heard())
        child.stdin.write("on\n"); child.stdin.flush()
        print(heard())
for whom in command, child.pid:
    os.kill(whom, signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
    os.kill(whom, signal.SIGCONT)
    assert os.WIFCONTINUED(os.waitpid(child.pid, os.WCONTINUED)[1])
    child.stdin.write("on\n"); child.stdin.flush()
    print(heard())
child.stdin.close()
sys.exit(child.wait())
"#;
    let run = ["run", "-q", "--engine", "ebpf", "--", "/usr/bin/python3", "-c", command];
    let mut python = env.command("/usr/bin/python3");
    let ran = common::ran(python.args(["-c", starter, common::AGENTREC]).args(run).output());
    let each = |number: i32| format!("signal {number}\nasked on\n").repeat(3);
    let expected = [15, 10, 1].map(each).concat() + &"asked on\n".repeat(2);
    assert_eq!((ran.code, ran.stdout), (0, expected), "{}", ran.stderr);
}
