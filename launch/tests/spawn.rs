//! What a launched program sees, and how failures on the way to it read: as root and as an unprivileged user.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use agentrec_launch::{Error, Plan, PrivateMount};
use nix::sys::wait::{WaitStatus, waitpid};

const NOBODY: u32 = 65534;

fn plan(cwd: &Path, argv: &[&str]) -> Plan {
    Plan {
        argv: argv.iter().map(OsString::from).collect(),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        cwd: cwd.to_owned(),
        mounts: Vec::new(),
    }
}

fn run(plan: &Plan) -> Result<i32, Error> {
    let child = plan.prepare()?.spawn()?;
    let pid = child.pid();
    let started = child.started();
    let status = waitpid(pid, None).expect("the child is ours");
    started?;
    match status {
        WaitStatus::Exited(_, code) => Ok(code),
        other => panic!("ended by {other:?}"),
    }
}

/// A directory that other users can enter.
fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// Runs the test `name` of this file again as a user without privileges. Returns false in that second run.
fn again_as_nobody(name: &str) -> bool {
    if !nix::unistd::geteuid().is_root() {
        return false;
    }
    let dir = open_dir();
    let exe = dir.path().join("spawn-tests");
    // Not fs::copy: another test's fork would hold the descriptor, and exec would say ETXTBSY.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&exe).status();
    assert!(copied.unwrap().success());
    let status = Command::new(&exe)
        .args(["--exact", name, "--test-threads=1"])
        .env("TMPDIR", dir.path())
        .current_dir(dir.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .status()
        .unwrap();
    assert!(status.success(), "{name} fails without privileges");
    true
}

#[test]
fn the_command_has_the_plans_directory_environment_and_arguments() {
    let dir = open_dir();
    let mut plan =
        plan(dir.path(), &["sh", "-c", "pwd > out; env | sort >> out; echo $1 >> out", "x", "a b"]);
    plan.set_env("COLOUR", "blue");
    assert_eq!(run(&plan).unwrap(), 0);
    let out = fs::read_to_string(dir.path().join("out")).unwrap();
    assert!(out.starts_with(dir.path().to_str().unwrap()));
    assert!(out.contains("\nCOLOUR=blue\n"));
    assert!(out.ends_with("\na b\n"));
    assert!(!out.contains("CARGO"), "the environment is the plan's alone: {out}");
}

#[test]
fn exit_codes_tell_not_found_from_not_executable() {
    let dir = open_dir();
    let error = run(&plan(dir.path(), &["no-such-command"])).unwrap_err();
    assert_eq!(
        (error.exit_code(), error.to_string()),
        (127, "cannot run no-such-command: not found".into())
    );
    assert_eq!(run(&plan(dir.path(), &["./missing"])).unwrap_err().exit_code(), 127);
    fs::write(dir.path().join("text"), "#!/no/such/interpreter\n").unwrap();
    assert_eq!(run(&plan(dir.path(), &["./text"])).unwrap_err().exit_code(), 126);
    let error = run(&plan(&dir.path().join("gone"), &["true"])).unwrap_err();
    assert_eq!(error.exit_code(), 125);
    assert!(error.to_string().starts_with("cannot change to "), "{error}");
    assert!(matches!(Plan::default().prepare(), Err(Error::Invalid { .. })));
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
    let dir = open_dir();
    let script = dir.path().join("script");
    fs::write(&script, "exit $(($1 + 1))\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run(&plan(dir.path(), &["./script", "6"])).unwrap(), 7);
}

#[test]
fn a_directory_in_the_path_that_holds_a_plain_file_does_not_stop_the_search() {
    let dir = open_dir();
    fs::create_dir(dir.path().join("first")).unwrap();
    fs::write(dir.path().join("first/true"), "not executable").unwrap();
    let mut plan = plan(dir.path(), &["true"]);
    plan.set_env("PATH", format!("{}/first:/usr/bin:/bin", dir.path().display()));
    assert_eq!(run(&plan).unwrap(), 0);
    plan.set_env("PATH", format!("{}/first", dir.path().display()));
    assert_eq!(run(&plan).unwrap_err().exit_code(), 126);
}

#[test]
fn a_hook_runs_after_the_working_directory_is_set_and_its_error_is_told() {
    let dir = open_dir();
    let prepared = plan(dir.path(), &["true"]).prepare().unwrap();
    let hook = || {
        nix::sys::stat::mkdirat(nix::fcntl::AT_FDCWD, c"hooked", nix::sys::stat::Mode::S_IRWXU)?;
        Err(nix::errno::Errno::EOWNERDEAD)
    };
    // SAFETY: mkdirat(2) on a C string is a system call and nothing else.
    let child = unsafe { prepared.spawn_with(hook) }.unwrap();
    let pid = child.pid();
    let error = child.started().unwrap_err();
    waitpid(pid, None).unwrap();
    assert!(matches!(error, Error::Hook { errno: nix::errno::Errno::EOWNERDEAD }), "{error:?}");
    assert!(dir.path().join("hooked").is_dir());
}

struct Mounted {
    _dir: tempfile::TempDir,
    copy: PathBuf,
    original: PathBuf,
}

fn mounted() -> Mounted {
    let dir = open_dir();
    let (copy, original) = (dir.path().join("copy"), dir.path().join("original"));
    for (path, content) in [(&copy, "copy"), (&original, "original")] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), content).unwrap();
    }
    Mounted { copy, original, _dir: dir }
}

#[test]
fn a_private_mount_shows_the_copy_at_the_original_path_to_the_program_alone() {
    again_as_nobody("a_private_mount_shows_the_copy_at_the_original_path_to_the_program_alone");
    let at = mounted();
    let script = "cp file seen && pwd > where && id -u > uid && echo new > file && rm -r sub/gone";
    fs::create_dir_all(at.copy.join("sub/gone")).unwrap();
    let mut plan = plan(&at.original, &["sh", "-c", script]);
    plan.mounts = vec![PrivateMount { source: at.copy.clone(), target: at.original.clone() }];
    assert_eq!(run(&plan).unwrap(), 0);
    let text = |path: &str| fs::read_to_string(at.copy.join(path)).unwrap();
    assert_eq!(text("seen"), "copy");
    assert_eq!(text("where").trim_end(), at.original.to_str().unwrap());
    assert_eq!(text("uid").trim_end(), nix::unistd::geteuid().to_string());
    assert_eq!(text("file"), "new\n");
    assert_eq!(fs::read_to_string(at.original.join("file")).unwrap(), "original");
    assert!(!at.original.join("seen").exists());
    let map = plan.path_map();
    assert_eq!(map.real(&at.original.join("where")), at.copy.join("where"));
}

#[test]
fn mounts_may_nest_and_a_source_may_lie_below_another_target() {
    again_as_nobody("mounts_may_nest_and_a_source_may_lie_below_another_target");
    let at = mounted();
    let inner = at.original.join("inner-source");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("file"), "inner").unwrap();
    fs::create_dir(at.copy.join("inner")).unwrap();
    fs::create_dir(at.original.join("inner")).unwrap();
    let mut plan = plan(&at.original, &["cp", "inner/file", "seen"]);
    plan.mounts = vec![
        PrivateMount { source: inner, target: at.original.join("inner") },
        PrivateMount { source: at.copy.clone(), target: at.original.clone() },
    ];
    assert_eq!(run(&plan).unwrap(), 0);
    assert_eq!(fs::read_to_string(at.copy.join("seen")).unwrap(), "inner");
}

#[test]
fn a_mount_without_a_target_is_refused_with_a_hint() {
    again_as_nobody("a_mount_without_a_target_is_refused_with_a_hint");
    let at = mounted();
    let mut plan = plan(&at.copy, &["true"]);
    plan.mounts =
        vec![PrivateMount { source: at.copy.clone(), target: at.original.join("not-there") }];
    let error = run(&plan).unwrap_err();
    assert!(matches!(error, Error::Mount { .. }), "{error:?}");
    assert!(error.to_string().contains("not-there: No such file"), "{error}");
    assert!(error.hint().unwrap().contains("must exist"));
    plan.mounts =
        vec![PrivateMount { source: at.copy.join("nothing"), target: at.original.clone() }];
    assert!(run(&plan).unwrap_err().to_string().contains("copy/nothing"));
}

#[test]
fn where_user_namespaces_are_refused_the_error_says_what_to_allow() {
    const NAME: &str = "where_user_namespaces_are_refused_the_error_says_what_to_allow";
    // A user namespace whose own limits are 0 gives nobody another namespace: the second run is inside of one.
    if std::env::var_os("LIMITED").is_none() {
        if again_as_nobody(NAME) {
            return;
        }
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", NAME]).env("LIMITED", "1");
        assert!(command.status().unwrap().success());
        return;
    }
    fs::write("/proc/sys/user/max_mnt_namespaces", "0").unwrap();
    fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
    let at = mounted();
    let mut plan = plan(&at.original, &["true"]);
    plan.mounts = vec![PrivateMount { source: at.copy.clone(), target: at.original.clone() }];
    let error = run(&plan).unwrap_err();
    assert!(matches!(error, Error::Namespace { .. }), "{error:?}");
    assert_eq!(error.exit_code(), 125);
    assert!(error.hint().unwrap().contains("user.max_user_namespaces"), "{:?}", error.hint());
    // Nothing was shown anywhere, and without mounts nothing of this is needed.
    plan.mounts.clear();
    assert_eq!(run(&plan).unwrap(), 0);
}
