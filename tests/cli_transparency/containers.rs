//! Where less is allowed: in a plain container, and where only relations may trace.

use std::process::Command;

use crate::common::{AGENTREC, TestEnv};
use crate::harness::{Battery, compiled};

/// What a program does in a container: processes, threads, files, a server on a port of its own.
const WORK: &str = r#"
import os, socket, subprocess, threading
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
other, _ = server.accept()
other.send(b"hello")
print(client.recv(9))
thread = threading.Thread(target=open, args=("file", "w"))
thread.start()
thread.join()
os.rename("file", "renamed")
print(subprocess.run(["sh", "-c", "umask 027; mkdir dir; echo words > dir/file; kill -TERM $$"]).returncode)
raise SystemExit(6)"#;

/// A program of the container that tries what its profile refuses.
const REFUSED: &str =
    "unshare -r true; echo $?; setarch -R true; echo $?; mount -t tmpfs none /mnt; echo $?";

/// Started by `words`, the last of which takes a program and its arguments.
fn inside_of(words: Vec<String>) -> Battery {
    Battery::new().started_by(move |command| {
        let mut outer = Command::new(&words[0]);
        outer.args(&words[1..]).arg(command.get_program()).args(command.get_args()).env_clear();
        outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer.current_dir(command.get_current_dir().expect("one is set"));
        outer
    })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn program(name: &str) -> String {
    compiled(name, &[]).to_str().expect("text").to_owned()
}

/// Both ways alike, and everything in the trace.
fn works_in(words: Vec<String>) {
    let battery = inside_of(words);
    let seen = battery.same(6, &["python3", "-c", WORK]);
    assert_eq!(seen.stdout, "b'hello'\n-15\n");
    let summary = &battery.env.json(["info"])[0];
    assert_eq!(summary["lost"], 0, "{summary}");
    let events = battery.env.ok(["export"]);
    for part in
        [r#""type":"net.accept""#, r#""type":"file.rename""#, r#"/work/dir/file"#, r#""signal":15"#]
    {
        assert!(events.contains(part), "no {part} in {events}");
    }
}

#[test]
fn a_plain_container() {
    let container = program("container");
    works_in(words(&[&container]));
    let battery = inside_of(words(&[&container]));
    // Not the recorder's doing: the profile refuses both ways.
    let seen = battery.same_script(0, REFUSED);
    assert!(seen.stderr.contains("unshare failed: Operation not permitted"), "{seen:#?}");
    battery.same(21, &[compiled("threads", &[])]);
    battery.same_program("children", &[]);
}

#[test]
#[ignore = "needs root"]
fn root_a_plain_container_whose_user_is_root() {
    // docker's rights where none are added (moby, oci/caps/defaults.go).
    let rights = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap,\
                  +setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";
    let bounding = format!("--bounding-set={rights}");
    let setpriv = ["setpriv", &bounding, "--inh-caps=-all"];
    let container = program("container");
    works_in(words(&[&[container.as_str()], &setpriv[..]].concat()));
}

#[test]
fn only_relations_may_trace() {
    let yama = program("yama");
    works_in(words(&[&yama, "1"]));
    // It refuses whom it should: a process next to this one, which has not said that it may.
    let refused = r#"
import ctypes, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)
other = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
if os.fork() == 0:
    print(libc.ptrace(0x4206, other.pid, 0, 0), os.strerror(ctypes.get_errno()), flush=True)
    os._exit(0)
os.wait()
other.stdin.close()"#;
    let seen = inside_of(words(&[&yama, "1"])).plain(&["python3", "-c", refused]);
    assert_eq!(seen.stdout, "-1 Operation not permitted\n", "{seen:#?}");
}

#[test]
fn where_nobody_may_trace_nothing_is_run() {
    let env = TestEnv::new();
    let yama = program("yama");
    let mut command = env.command(&yama);
    command.args(["2", AGENTREC, "run", "--", "touch", "ran"]);
    let output = command.output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("forbids ptrace") && stderr.contains("--cap-add"), "{stderr}");
    assert_eq!(env.read("ran"), None);
}
