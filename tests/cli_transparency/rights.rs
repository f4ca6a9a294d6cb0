//! What an unprivileged recorder can't keep is named for the process that it hit; a privileged one keeps it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::common::{Ran, TestEnv};
use crate::harness::{Battery, compiled};

/// Whether these tests run without any right.
fn unprivileged() -> bool {
    !nix::unistd::geteuid().is_root()
}

/// Runs it in a recording; the closing lines must name `program` for `what`, and so must `info`.
fn named(env: &TestEnv, argv: &[&str], program: &str, what: &str, reason: &str) -> Ran {
    let ran = env.run(["run", "--"].iter().chain(argv));
    let line =
        ran.stderr.lines().find(|line| line.starts_with("agentrec: ") && line.contains(what));
    let line = line.unwrap_or_else(|| panic!("not said: {ran:?}"));
    assert!(line.contains(program), "{line}");
    let info = env.ok(["info"]);
    let line = info.lines().find(|line| line.contains(reason));
    let line = line.unwrap_or_else(|| panic!("not in info: {info}"));
    assert!(line.contains(program), "{line}");
    let json = env.json(["info"]);
    let lost: Vec<_> = json.iter().filter(|line| line["kind"] == "lost").collect();
    assert!(
        lost.iter().any(|lost| lost["program"] == program && lost["proc"].is_u64()),
        "{lost:?}"
    );
    ran
}

#[test]
fn leak_sanitizer_is_named() {
    let program = compiled("leaks", &["-fsanitize=leak"]);
    let program = program.to_str().expect("text");
    let env = TestEnv::new();
    let ran = named(&env, &[program], "leaks-fsanitize-leak", "could not trace", "tried to trace");
    assert_eq!(ran.stdout, "leaks\n");
    // As it says itself how to be run; and then it runs as without us.
    let battery = Battery::new();
    battery.same(0, &["env", "LSAN_OPTIONS=detect_leaks=0", program]);
}

#[test]
fn strace_inside_is_named() {
    let env = TestEnv::new();
    let ran = named(&env, &["strace", "true"], "strace", "could not trace", "tried to trace");
    assert_ne!(ran.code, 0, "{ran:?}");
    // The recording says it in JSON too.
    let recorded = env.record_with(&[], &["sh", "-c", "strace true; exit 3"]);
    let changed = &recorded.closing["changed_runs"];
    assert_eq!(changed[0]["program"], "strace", "{changed}");
    assert_eq!(changed[0]["lacks"], "tracing", "{changed}");
    assert_eq!(recorded.closing["code"], 3);
}

#[test]
fn set_uid_programs_of_the_system_are_named() {
    if !unprivileged() {
        return root_set_uid_programs_keep_their_right();
    }
    // passwd(1) is set-uid root everywhere; nothing is changed by asking for the state of one's own password.
    let env = TestEnv::new();
    named(&env, &["sh", "-c", "passwd -S; exit 2"], "passwd", "record as root", "set-uid");
    // What has no such right is not named.
    let recorded = env.record_with(&[], &["sh", "-c", "ls > /dev/null; id > /dev/null"]);
    assert_eq!(recorded.closing["lost"], 0, "{}", recorded.closing);
    assert_eq!(recorded.closing["changed_runs"].as_array().map(Vec::len), Some(0));
}

/// A copy of `who` that is root's, with these bits.
fn who(dir: &Path, mode: u32) -> String {
    let program = dir.join(format!("who-{mode:o}"));
    fs::copy(compiled("who", &[]), &program).expect("a file of ours");
    chown(&program, Some(0), Some(0)).expect("we are root");
    fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("we are root");
    program.to_str().expect("text").to_owned()
}

/// A place that every user may enter.
fn open_place() -> (TestEnv, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    (TestEnv::new(), dir)
}

const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

fn root_set_uid_programs_keep_their_right() {
    let (env, dir) = open_place();
    let who = who(dir.path(), 0o4755);
    let argv = NOBODY.iter().copied().chain([who.as_str()]);
    let ran = env.run(["run", "--"].into_iter().chain(argv));
    assert_eq!(ran.stdout, "user other, effective root\n", "{ran:?}");
    assert!(ran.stderr.contains("lost 0"), "{ran:?}");
}

#[test]
#[ignore = "needs root"]
fn root_rights_without_privilege_are_lost_and_named() {
    let (env, dir) = open_place();
    let home = dir.path().join("home");
    fs::create_dir(&home).expect("ours");
    chown(&home, Some(65534), Some(65534)).expect("we are root");
    let capable = who(dir.path(), 0o755);
    let set = std::process::Command::new("setcap").args(["cap_net_raw+ep", &capable]).status();
    let has_setcap = set.is_ok_and(|status| status.success());
    let cases = [
        (who(dir.path(), 0o4755), true),
        (who(dir.path(), 0o2755), true),
        (who(dir.path(), 0o2705), false),
    ];
    let cases = cases.into_iter().chain(has_setcap.then_some((capable, true)));
    for (program, lost) in cases {
        let mut command = env.command(NOBODY[0]);
        command.args(&NOBODY[1..]).args([crate::common::AGENTREC, "run", "--json", "--"]);
        command.arg(&program).env("AGENTREC_HOME", &home).current_dir(&home);
        let output = command.output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let closing = crate::common::objects(&stderr).pop().unwrap_or_else(|| panic!("{stderr}"));
        assert_eq!(closing["lost"], u64::from(lost), "{program}: {closing}");
        if lost {
            assert_eq!(output.stdout, b"user other, effective other\n");
            assert_eq!(closing["changed_runs"][0]["lacks"], "rights", "{closing}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn root_sudo_and_su_work_inside() {
    let battery = Battery::new();
    let seen = battery.same_script(
        3,
        "sudo -n id -u; sudo -n -u nobody id -un; su nobody -s /bin/sh -c 'id -un; exit 4'; echo $?; \
         sudo -n -u nobody sudo -n true 2>/dev/null; echo $?; sudo -n sh -c 'kill -TERM $$'; echo $?; exit 3",
    );
    assert!(seen.stdout.starts_with("0\nnobody\nnobody\n4\n1\n"), "{seen:#?}");
    let status = "grep -E '^(NoNewPrivs|Cap|Groups)' /proc/self/status";
    battery.same_script(0, &format!("{status}; su nobody -s /bin/sh -c \"{status}\""));
}
