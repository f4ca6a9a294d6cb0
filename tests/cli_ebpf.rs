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
