//! `agentrec watch`: a part of the machine, or all of it, and nobody else.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::{Ran, TestEnv, objects};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A shell that does what it is told by lines, and answers `done` to each.
struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// The lines are shell commands.
const OBEY: &str = "echo up; while read -r line; do eval \"$line\"; echo done; done";

impl Shell {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the shell is there");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut shell = Self { child, stdin, stdout };
        assert_eq!(shell.line(), "up");
        shell
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("readable");
        line.trim_end().to_owned()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("open"), "{line}").expect("it reads");
        assert_eq!(self.line(), "done");
    }

    fn end(mut self) {
        drop(self.stdin.take());
        self.child.wait().expect("it ends");
    }
}

/// A recording under way; killed when the test gives up on it.
struct Watching {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

/// Begins to watch, and waits until all is seen.
fn watch(env: &TestEnv, args: &[&str]) -> Watching {
    let mut command = env.agentrec(["watch", "--json"].iter().chain(args));
    let mut child = command.stderr(Stdio::piped()).spawn().expect("agentrec starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("agentrec: watching") {
        assert!(stderr.read_line(&mut said).expect("readable") > 0, "{said}");
    }
    Watching { child, stderr }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Does nothing once it was waited for.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Watching {
    fn end(self, signal: Signal) -> Value {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
        self.wait()
    }

    /// What it says at its end.
    fn wait(mut self) -> Value {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("readable");
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0), "{said}");
        objects(&said).pop().unwrap_or_else(|| panic!("no closing line: {said}"))
    }
}

/// A place that other users can work in.
fn open_place() -> TestEnv {
    let env = TestEnv::new();
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a directory of ours");
    };
    open(env.work().parent().expect("it has one"), 0o755);
    open(&env.work(), 0o777);
    env
}

fn events(env: &TestEnv, trace: &Path) -> Vec<Value> {
    let verified = env.run([Path::new("verify"), trace]);
    assert_eq!(verified.code, 0, "{verified:?}");
    objects(&env.ok([Path::new("export"), trace]))
}

/// The names in the working directory that files were opened by, with how often.
fn opened(env: &TestEnv, events: &[Value]) -> BTreeMap<String, usize> {
    let work = format!("{}/", env.work().display());
    let mut names = BTreeMap::new();
    for event in events.iter().filter(|event| event["type"] == "file.open") {
        let path = event["data"]["path"]["text"].as_str().unwrap_or_default();
        if let Some(name) = path.strip_prefix(&work) {
            *names.entry(name.to_owned()).or_default() += 1;
        }
    }
    names
}

fn losses(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|event| event["type"] == "lost").collect()
}

/// What makes a process one that is watched.
#[derive(Clone, Debug)]
enum Mark {
    Nothing,
    User,
    /// A name that nobody else has.
    Name(&'static str),
    Group(PathBuf),
}

/// A user whom nobody is.
const USER: &str = "54321";

impl Mark {
    /// A shell that bears it.
    fn shell(&self, env: &TestEnv, script: &str) -> Command {
        let mut command = match self {
            Self::Nothing => env.command("sh"),
            Self::User => {
                let mut command = env.command("setpriv");
                command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "sh"]);
                command
            }
            Self::Name(name) => {
                let program = env.work().join(name);
                if !program.exists() {
                    fs::copy("/bin/sh", &program).expect("sh is there");
                }
                env.command(program)
            }
            Self::Group(group) => {
                let mut command = env.command("sh");
                let enter = "echo 0 > \"$0/cgroup.procs\" && exec sh -c \"$1\"";
                command.args(["-c", enter]).arg(group).arg(script);
                return command;
            }
        };
        command.args(["-c", script]);
        command
    }
}

/// A control group of the test's own, with one below it; removed at the end.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").expect("readable");
        let unified = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (at, kind) = (words.nth(1)?, words.next()?);
            (kind == "cgroup2").then_some(at)
        });
        let unified = Path::new(unified.expect("control groups of version 2 are mounted"));
        let group = unified.join(format!("agentrec-test-{}", std::process::id()));
        fs::create_dir_all(group.join("below")).expect("a group of ours");
        Self(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in [self.0.join("below"), self.0.clone()] {
            // A member may still be on its way out (EBUSY).
            while fs::remove_dir(&dir).is_err_and(|e| e.raw_os_error() == Some(nix::libc::EBUSY)) {
                std::thread::yield_now();
            }
        }
    }
}

/// Watches a shell that is there before and one that comes later, both with descendants; nobody else is in the trace,
/// unless `all` are to be.
fn watched_alone(option: &str, value: &str, before: &Mark, later: Option<&Mark>, all: bool) {
    let env = open_place();
    let mut watched = Shell::start(before.shell(&env, OBEY));
    let mut other = Shell::start(Mark::Nothing.shell(&env, OBEY));
    watched.tell("echo a > before; exec 9>> kept");
    let id = watched.child.id();
    let pid = id.to_string();
    let value = if option == "--pid" { pid.as_str() } else { value };
    let trace = env.outside("trace.zst");
    let trace_text = trace.display().to_string();
    let mut args = vec![option, value, "-o", &trace_text];
    args.retain(|arg| !arg.is_empty());
    let watching = watch(&env, &args);
    watched.tell("echo a > during; (echo a > forked); sh -c 'echo a > executed'; echo a >&9");
    other.tell("echo a > other; sh -c 'echo a > elsewhere'");
    if let Some(later) = later {
        let script = format!("echo a > later; sh -c 'echo a > grandchild'; {OBEY}");
        let mut newcomer = Shell::start(later.shell(&env, &script));
        newcomer.tell("echo a > told");
        newcomer.end();
    }
    let closing = watching.end(Signal::SIGINT);
    watched.tell("echo a > after");
    watched.end();
    other.end();

    let events = events(&env, &trace);
    let names = opened(&env, &events);
    let mut wanted = vec!["during", "forked", "executed"];
    if later.is_some() {
        wanted.extend(["later", "grandchild", "told"]);
    }
    if all {
        wanted.extend(["other", "elsewhere"]);
    }
    wanted.sort_unstable();
    let found: Vec<&str> = names.keys().map(String::as_str).collect();
    assert_eq!(found, wanted, "{option} {value}");
    assert!(names.values().all(|&times| times == 1), "{names:?}");
    // Among all that a machine does, somebody may end just when the watch begins.
    let reason = |lost: &&Value| lost["data"]["reason"].to_string();
    let mut lost = losses(&events);
    lost.retain(|lost| !(all && reason(lost).contains("ended in the moment")));
    assert!(lost.is_empty(), "{lost:?}");
    assert!(all || closing["lost"] == 0, "{closing}");

    let start = &events[0]["data"];
    assert_eq!(start["engine"], "ebpf");
    assert_eq!(start["watch"]["kind"], option.trim_start_matches("--"));
    if !all && option != "--cgroup" {
        assert_eq!(start["watch"]["value"]["text"], value);
    }
    assert_eq!(events.last().expect("it has some")["data"]["reason"], "stop");
    // Who was there is told as it was, with what it had open.
    let of_type =
        |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    let initial = of_type("process.exec")
        .into_iter()
        .find(|event| event["data"]["initial"] == true && event["data"]["pid"] == id);
    let proc = &initial.expect("it is told")["proc"];
    let kept = env.work().join("kept").display().to_string();
    let fd = of_type("fd.initial")
        .into_iter()
        .find(|event| event["proc"] == *proc && event["data"]["path"]["text"] == kept.as_str());
    assert!(fd.is_some(), "{kept}");
    // What it is that was found is shown by every command.
    // Among all that a machine does, a list of files may be long.
    let whole = all.then_some(Path::new("--all"));
    let shown = env.ok([Path::new("show"), &trace].into_iter().chain(whole));
    assert!(shown.contains("during"), "{shown}");
    let audit = env.ok([Path::new("audit"), &trace]);
    assert!(!audit.contains("left running"), "whom a watch follows goes on: {audit}");
    let ps = env.ok([Path::new("ps"), &trace]);
    assert!(ps.contains("agentrec watch"), "{ps}");
    let info = env.ok([Path::new("info"), &trace]);
    assert!(info.contains(option.trim_start_matches("--")), "{info}");
}

#[test]
#[ignore = "needs root"]
fn root_watch_follows_a_tree_and_nobody_else() {
    watched_alone("--pid", "", &Mark::Nothing, None, false);
}

#[test]
#[ignore = "needs root"]
fn root_watch_follows_a_user_and_nobody_else() {
    watched_alone("--uid", USER, &Mark::User, Some(&Mark::User), false);
}

#[test]
#[ignore = "needs root"]
fn root_watch_follows_a_name_and_nobody_else() {
    let name = "agentrec-named";
    watched_alone("--comm", name, &Mark::Name(name), Some(&Mark::Name(name)), false);
}

#[test]
#[ignore = "needs root"]
fn root_watch_follows_a_control_group_and_nobody_else() {
    let group = Group::new();
    let below = Mark::Group(group.0.join("below"));
    let value = group.0.display().to_string();
    watched_alone("--cgroup", &value, &Mark::Group(group.0.clone()), Some(&below), false);
}

#[test]
#[ignore = "needs root"]
fn root_watch_follows_everybody_but_itself() {
    watched_alone("--all", "", &Mark::Nothing, Some(&Mark::Nothing), true);
}

#[test]
#[ignore = "needs root"]
fn root_watch_of_a_tree_ends_with_it() {
    let env = open_place();
    let mut shell = Shell::start(Mark::Nothing.shell(&env, OBEY));
    let trace = env.outside("trace.zst").display().to_string();
    let watching = watch(&env, &["--pid", &shell.child.id().to_string(), "-o", &trace]);
    shell.tell("echo a > during");
    shell.end();
    watching.wait();
    let events = events(&env, Path::new(&trace));
    assert_eq!(events.last().expect("it has some")["data"]["reason"], "exit");
    assert!(opened(&env, &events).contains_key("during"));
}

#[test]
#[ignore = "needs root"]
fn root_watch_ends_by_itself_by_a_signal_and_by_stop() {
    let env = open_place();
    let sealed = |args: &[&str], end: &dyn Fn(Watching) -> Value| {
        let args = [&["--comm", "agentrec-nobody"], args].concat();
        let closing = end(watch(&env, &args));
        assert!(closing["seal"].is_string(), "{closing}");
        let trace = PathBuf::from(closing["trace"]["text"].as_str().expect("a path"));
        events(&env, &trace);
        closing
    };
    let closing = sealed(&["--for", "300ms"], &Watching::wait);
    assert!(closing["duration"].as_u64().expect("a number") >= 300_000_000, "{closing}");
    sealed(&["--for", "1h"], &|watching| watching.end(Signal::SIGTERM));
    sealed(&["--name", "watched"], &|watching| {
        assert_ne!(env.run(["snapshot", "watched"]).code, 0, "there is nothing to save");
        assert!(env.ok(["stop", "watched"]).contains("seal "));
        watching.wait()
    });
}

/// Opens as many files as it is told, each of another name.
const STORM: &str = "storm() { i=$1; while [ $i -lt $2 ]; do : > n/$i; i=$((i + 1)); done; }";

#[test]
#[ignore = "needs root"]
fn root_watch_rotates_and_nothing_is_missing_between_files() {
    const FILES: usize = 20_000;
    let env = open_place();
    fs::create_dir(env.work().join("n")).expect("a directory of ours");
    let name = "agentrec-rotate";
    let mut shell = Shell::start(Mark::Name(name).shell(&env, &format!("{STORM}; {OBEY}")));
    shell.tell("exec 9>> kept");
    let trace = env.outside("trace.zst").display().to_string();
    let watching = watch(&env, &["--comm", name, "-o", &trace, "--rotate", "20k"]);
    shell.tell(&format!("storm 0 {FILES}"));
    let closing = watching.end(Signal::SIGINT);
    let parts = closing["parts"].as_u64().expect("a number") as usize;
    assert!(parts > 2, "{closing}");

    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut proc = Value::Null;
    for part in 1..=parts {
        let path = env.outside(&format!("trace.{part:04}.zst"));
        let events = events(&env, &path);
        let (first, last) = (&events[0], events.last().expect("it has some"));
        assert_eq!(first["data"]["watch"]["part"], part, "{first}");
        assert_eq!(first["data"]["watch"]["first"].is_string(), part > 1, "{first}");
        assert_eq!(last["data"]["reason"], if part < parts { "rotate" } else { "stop" });
        assert!(losses(&events).is_empty(), "{:?}", losses(&events));
        // Whoever lives is told, with the same number, and what it has open.
        let told = events.iter().find(|event| {
            event["type"] == "process.exec" && event["data"]["pid"] == shell.child.id()
        });
        let told = told.unwrap_or_else(|| panic!("not in part {part}"));
        assert!(part == 1 || proc == told["proc"], "{told}");
        proc = told["proc"].clone();
        let argv = told["data"]["argv"].to_string();
        assert!(argv.contains("storm()"), "{argv}");
        let kept = env.work().join("kept").display().to_string();
        assert!(
            events.iter().any(|event| event["type"] == "fd.initial"
                && event["data"]["path"]["text"] == kept.as_str())
        );
        for (name, times) in opened(&env, &events) {
            *seen.entry(name).or_default() += times;
        }
        if part < parts {
            let len = fs::metadata(&path).expect("it is there").len();
            assert!((20_000..200_000).contains(&len), "{len}");
        }
    }
    let wanted: BTreeMap<String, usize> = (0..FILES).map(|i| (format!("n/{i}"), 1)).collect();
    assert!(seen == wanted, "{} of {FILES}", seen.len());
    shell.end();
}

#[test]
#[ignore = "needs root"]
fn root_watch_keeps_so_many_files_and_removes_only_its_own() {
    let env = open_place();
    fs::create_dir(env.work().join("n")).expect("a directory of ours");
    fs::create_dir(env.outside("traces")).expect("a directory of ours");
    let name = "agentrec-keep";
    let mut shell = Shell::start(Mark::Name(name).shell(&env, &format!("{STORM}; {OBEY}")));
    let strangers = ["trace.0000.zst", "trace.9999.zst", "trace.zst"];
    for name in strangers {
        fs::write(env.outside("traces").join(name), "a stranger's").expect("written");
    }
    let trace = env.outside("traces").join("trace.zst").display().to_string();
    let args = ["--comm", name, "-o", &trace, "--rotate", "20k", "--keep", "2"];
    let watching = watch(&env, &args);
    shell.tell("storm 0 20000");
    let parts = watching.end(Signal::SIGINT)["parts"].as_u64().expect("a number");
    assert!(parts > 2, "{parts}");
    shell.end();
    let entries = fs::read_dir(env.outside("traces")).expect("readable");
    let mut left: Vec<String> = entries
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    let mut wanted = vec![format!("trace.{:04}.zst", parts - 1), format!("trace.{parts:04}.zst")];
    wanted.extend(strangers.map(str::to_owned));
    wanted.sort();
    assert_eq!(left, wanted);
    // The catalogue knows those that are there.
    assert_eq!(env.json(["list"]).len(), 2);
}

#[test]
fn watch_wants_exactly_one_subject_that_is_there() {
    let env = TestEnv::new();
    let refused = |args: &[&str], wanted: &str| {
        let Ran { code, stderr, .. } = env.run(["watch"].iter().chain(args));
        assert!(code != 0 && stderr.contains(wanted), "{args:?}: {code}: {stderr}");
    };
    refused(&[], "required");
    refused(&["--all", "--uid", "0"], "cannot be used with");
    refused(&["--pid", "2147483647"], "there is no such process");
    refused(&["--cgroup", "/nowhere"], "no control group");
    refused(&["--uid", "nobody-of-that-name"], "no such user");
    refused(&["--comm", "a-name-that-is-too-long"], "`a-name-that-is-`");
    refused(&["--all", "--keep", "3"], "--rotate");
    refused(&["--all", "--rotate", "much"], "500M");
    if !nix::unistd::geteuid().is_root() {
        refused(&["--all"], "root");
    }
    assert!(env.ok(["list"]).is_empty(), "nothing is left of them");
    let help = env.ok(["watch", "--help"]);
    for word in ["Ctrl-C", "--rotate", "control group", "needs no other", "root"] {
        assert!(help.contains(word), "no {word}: {help}");
    }
}
