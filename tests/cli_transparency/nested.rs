//! A recording inside of a recording joins it; where it can't, it says so and runs nothing.

use crate::common::{AGENTREC, TestEnv, recorded};

/// Where the command runs that is started inside.
const INNER: &str = "echo inside; exit 4";

/// Records `wrapper agentrec run -- sh -c INNER`; the inner one must add nothing but its output and status.
fn joins(wrapper: &[&str]) {
    let env = TestEnv::new();
    let inner = [AGENTREC, "run", "--", "sh", "-c", INNER];
    let args = ["run", "--json", "--"].iter().chain(wrapper).chain(&inner);
    let ran = env.run(args);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, "inside\n"), "{wrapper:?}: {ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{wrapper:?}: only the outer one speaks: {ran:?}");
    assert_eq!(env.json(["list"]).len(), 1, "{wrapper:?}: no second session");
    let outer = recorded(&ran);
    let ps = env.ok(["ps", &outer.id]);
    assert!(ps.contains(INNER), "{wrapper:?}: {ps}");
}

#[test]
fn an_inner_recording_joins_the_outer_one() {
    joins(&[]);
    joins(&["sh", "-c", "\"$@\"; exit $?", "sh"]);
    joins(&["setsid", "-w"]);
}

#[test]
fn an_inner_recording_with_a_clean_environment_joins_too() {
    let home = TestEnv::new();
    let home = format!("AGENTREC_HOME={}", home.home().display());
    joins(&["env", "-i", "PATH=/usr/bin:/bin", &home]);
    joins(&["sh", "-c", "\"$@\"; exit $?", "sh", "env", "-i", "PATH=/usr/bin:/bin", &home]);
}

#[test]
fn an_inner_recording_in_other_namespaces_joins_or_says_why_not() {
    joins(&["unshare", "--user", "--map-root-user", "--mount", "--net", "--uts", "--ipc"]);
    let namespaces = ["unshare", "-Urmpf", "--mount-proc"];
    joins(&namespaces);
    // No variable and another /proc: nothing tells of the outer session.
    let env = TestEnv::new();
    let inner = env.work().join("home");
    let home = format!("AGENTREC_HOME={}", inner.display());
    let clean = ["env", "-i", "PATH=/usr/bin:/bin", &home, AGENTREC, "run", "--", "touch", "ran"];
    let ran = env.run(["run", "-q", "--"].iter().chain(&namespaces).chain(&clean));
    assert_eq!(ran.code, 125, "{ran:?}");
    assert!(
        ran.stderr.contains("a recording outside of it traces this process already"),
        "{ran:?}"
    );
    assert_eq!(env.read("ran"), None, "what can't be recorded is not run");
}

#[test]
fn under_another_tracer_nothing_is_run() {
    let env = TestEnv::new();
    let mut strace = env.command("strace");
    strace.args(["-f", "-o", "/dev/null", AGENTREC, "run", "--", "touch", "ran"]);
    let output = strace.output().expect("strace is there");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("traced already, by a debugger"), "{stderr}");
    assert_eq!(env.read("ran"), None);
}
