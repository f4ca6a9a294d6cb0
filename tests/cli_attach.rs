//! `agentrec attach`: a process that runs already is recorded from now on, and goes on afterwards.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use common::{TestEnv, of_kind};

/// A shell that makes the files whose names it is told, and answers `done`.
fn shell(env: &TestEnv) -> Child {
    let script = "echo up; while read name; do echo content > $name; echo done; done; exit 3";
    let mut command = env.command("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("sh is there")
}

/// Starts to attach, and waits until all is seen.
fn attach(command: &mut Command) -> (Child, BufReader<impl Read + use<>>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("agentrec starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("agentrec: attached") {
        assert!(stderr.read_line(&mut said).expect("readable") > 0, "{said}");
    }
    (child, stderr, said)
}

#[test]
fn attach_records_what_runs_and_leaves_it_running() {
    let env = TestEnv::new();
    let mut shell = shell(&env);
    let mut stdin = shell.stdin.take().expect("piped");
    let mut stdout = BufReader::new(shell.stdout.take().expect("piped")).lines();
    let mut next = || stdout.next().expect("it runs").expect("readable");
    assert_eq!(next(), "up");
    let pid = shell.id().to_string();
    let mut command = env.agentrec(["attach", "--name", "running", &pid]);
    let (mut agentrec, mut stderr, said) = attach(&mut command);
    assert!(said.contains("stops twice") && said.contains("Ctrl-C detaches"), "{said}");
    writeln!(stdin, "during").expect("it reads");
    assert_eq!(next(), "done");
    let second = env.run(["attach", &pid]);
    assert!(second.code == 125 && second.stderr.contains("(agentrec)"), "{second:?}");
    assert!(second.stderr.contains("hint: a process has one recorder at a time"), "{second:?}");
    assert!(env.ok(["stop", "running"]).contains("seal "));
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("readable");
    assert_eq!(agentrec.wait().expect("it ends").code(), Some(0));
    assert!(said.contains("detached") && said.contains("1 process left running"), "{said}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
    writeln!(stdin, "after").expect("it reads");
    assert_eq!(next(), "done");
    let shown = env.ok(["show", "running"]);
    assert!(shown.contains("+ during") && !shown.contains("after"), "{shown}");

    // To its end, whose status is told.
    let (mut agentrec, _stderr, _) = attach(&mut env.agentrec(["attach", &pid]));
    drop(stdin);
    assert_eq!(agentrec.wait().expect("it ends").code(), Some(3));
    assert_eq!(shell.wait().expect("it ends").code(), Some(3));
    // What the trace tells is enough to run it once more.
    let resumed = env.run(["resume", "running@s1", "--json"]);
    assert_eq!(resumed.code, 3, "{resumed:?}");
    assert_eq!(resumed.stdout, "up\n");
    assert_eq!(env.run(["verify", "running"]).code, 0);
}

#[test]
#[ignore = "needs root"]
fn root_attach_by_ebpf_stops_nobody() {
    let env = TestEnv::new();
    let mut shell = shell(&env);
    let mut stdin = shell.stdin.take().expect("piped");
    let mut stdout = BufReader::new(shell.stdout.take().expect("piped")).lines();
    let mut next = || stdout.next().expect("it runs").expect("readable");
    assert_eq!(next(), "up");
    let pid = shell.id().to_string();
    let mut command = env.agentrec(["attach", "--name", "running", &pid]);
    let (mut agentrec, mut stderr, said) = attach(command.env_remove("AGENTREC_ENGINE"));
    assert!(said.contains("nobody is stopped") && said.contains("Ctrl-C detaches"), "{said}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
    writeln!(stdin, "during").expect("it reads");
    assert_eq!(next(), "done");
    assert!(env.ok(["stop", "running"]).contains("seal "));
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("readable");
    assert_eq!(agentrec.wait().expect("it ends").code(), Some(0));
    assert!(said.contains("detached") && said.contains("1 process left running"), "{said}");
    writeln!(stdin, "after").expect("it reads");
    assert_eq!(next(), "done");
    let shown = env.ok(["show", "running"]);
    assert!(shown.contains("+ during") && !shown.contains("after"), "{shown}");
    assert!(env.ok(["info", "running"]).contains("ebpf (its programs load)"));
    assert_eq!(env.run(["verify", "running"]).code, 0);
    drop(stdin);
    shell.wait().expect("it ends");
}

#[test]
fn attach_says_why_it_cannot() {
    let env = TestEnv::new();
    let ran = env.run(["attach", "2147483647"]);
    assert_eq!(ran.code, 125);
    assert!(
        ran.stderr.contains("cannot attach to process 2147483647: there is no such"),
        "{ran:?}"
    );
    let ran = env.run(["attach", &std::process::id().to_string()]);
    assert!(ran.stderr.contains("ancestor") && ran.stderr.contains("hint: "), "{ran:?}");
    assert_eq!(env.run(["attach", "0"]).code, 125);
    let help = env.ok(["attach", "--help"]);
    for word in
        ["Ctrl-C", "agentrec stop", "kernel.yama.ptrace_scope", "exit status", "Global options:"]
    {
        assert!(help.contains(word), "no {word}: {help}");
    }
    assert!(env.ok(["list"]).is_empty(), "nothing is left of them");
    let checks = env.json(["doctor"]);
    let attach = of_kind(&checks, "check").into_iter().find(|check| check["check"] == "attach");
    assert!(attach.is_some(), "{checks:?}");
}
