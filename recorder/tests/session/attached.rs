//! Recording what runs already: all of it is seen, and it goes on as if nobody had looked.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use agentrec_trace::{Data, Event, ProcId, Status};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::harness::{Ended, Place, Running, boottime, compile_tracee};

/// What records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Ptrace,
    /// Needs root.
    Ebpf,
}

impl Engine {
    /// A place to record in by it, again and again.
    fn place(self) -> Place {
        match self {
            Self::Ptrace => Place::new().with(&["--overwrite"]),
            Self::Ebpf => Place::new().with(&["--overwrite", "--ebpf"]),
        }
    }

    /// Whether these are the tracers of somebody that it records.
    fn traces_by(self, tracers: &BTreeSet<u32>, recorder: Pid) -> bool {
        match self {
            Self::Ptrace => {
                tracers.iter().all(|&tid| field(tid, "Tgid") == recorder.as_raw() as u32)
            }
            Self::Ebpf => *tracers == BTreeSet::from([0]),
        }
    }
}

/// A program that runs without us; killed when the test gives up on it.
struct Program {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts a Python program in the place's tree, and waits for its line `ready`.
    fn start(place: &Place, script: &str) -> Self {
        place.write("program.py", script);
        let mut command = Command::new("python3");
        command.arg("program.py").current_dir(place.path("tree"));
        Self::spawn(command.env("SECRET_TOKEN", "ghp_1234567890abcdefghijABCDEFGHIJ123456"))
    }

    /// Starts any program, and waits for its line `ready`.
    fn spawn(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.process_group(0).spawn().expect("the program is there");
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, stdin, stdout };
        assert_eq!(program.line(), "ready");
        program
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Gives it a line, and waits for one back.
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").unwrap();
        self.line()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The tracers of its threads; 0 for none.
    fn tracers(&self) -> BTreeSet<u32> {
        threads_of(self.child.id()).iter().map(|tid| field(*tid, "TracerPid")).collect()
    }

    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with(['T', 't'])
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // With all that it started.
        killpg(self.pid(), Signal::SIGKILL).ok();
        self.child.wait().ok();
    }
}

fn threads_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.filter_map(|task| task.unwrap().file_name().to_str()?.parse().ok()).collect()
}

fn field(tid: u32, name: &str) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim_start_matches(':').trim().parse().ok()).unwrap_or(0)
}

/// Attaches, and waits until all is seen.
fn attach(place: &Place, program: &Program) -> Running {
    let mut running = place.started(place.attaching(program.child.id()));
    let mut said = String::new();
    let stderr = running.front.0.stderr.take().unwrap();
    let mut stderr = BufReader::new(stderr);
    stderr.read_line(&mut said).unwrap();
    assert!(said.starts_with("attached: "), "{said}");
    running.front.0.stderr = Some(stderr.into_inner());
    running
}

fn detach(running: Running) -> Ended {
    running.signal(Signal::SIGINT);
    running.end()
}

fn opened(events: &[Event<'_>], path: &Path) -> Vec<ProcId> {
    let opened = events
        .iter()
        .filter(|event| matches!(&event.data, Data::FileOpen(open) if open.path.as_path() == path));
    opened.filter_map(|event| event.proc).collect()
}

/// Says `ready`, then does what it is told by lines; two threads and a child that has a child are asleep meanwhile.
const SERVER: &str = r#"
import os, subprocess, sys, threading, time
kept = open("kept.txt", "w")
def other():
    inner = os.dup(0)
    threading.Event().wait()
for _ in range(2): threading.Thread(target=other, daemon=True).start()
child = subprocess.Popen(["sh", "-c", "sleep 1000; true"])
while not open(f"/proc/{child.pid}/task/{child.pid}/children").read(): pass
print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "write": open(words[1], "w").write("content")
    if words[0] == "keep": kept.write("more"); kept.flush()
    if words[0] == "run": subprocess.run(["touch", words[1]])
    if words[0] == "thread":
        thread = threading.Thread(target=lambda: open(words[1], "w").close()); thread.start(); thread.join()
    if words[0] == "exit": child.kill(); sys.exit(int(words[1]))
    print("done", flush=True)
"#;

#[test]
fn everything_of_a_running_process_is_seen_and_it_goes_on_afterwards() {
    everything_is_seen(Engine::Ptrace);
}

fn everything_is_seen(engine: Engine) {
    let place = engine.place();
    let mut program = Program::start(&place, SERVER);
    assert_eq!(program.ask("write before"), "done");
    let affinity = |pid: Pid| nix::sched::sched_getaffinity(pid).unwrap();
    let cpus = affinity(program.pid());
    let running = attach(&place, &program);
    let tracers = program.tracers();
    assert!(engine.traces_by(&tracers, running.recorder_pid()), "{tracers:?}");
    for line in ["write during", "keep", "run touched", "thread threaded"] {
        assert_eq!(program.ask(line), "done");
    }
    let ended = detach(running);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(program.tracers(), BTreeSet::from([0]));
    assert_eq!(affinity(program.pid()), cpus);
    assert_eq!(program.ask("write after"), "done");

    let events = ended.events();
    let Data::SessionStart(start) = &events[0].data else { panic!("{:?}", events[0]) };
    // Its program may be a wrapper that knows the interpreter by another name.
    assert_eq!(&*start.argv[1], b"program.py");
    let tree = place.path("tree").canonicalize().unwrap();
    assert_eq!(start.cwd.as_path(), tree);
    let token = start.env.iter().find(|(name, _)| &**name == b"SECRET_TOKEN").unwrap();
    assert!(!token.1.windows(4).any(|part| part == b"1234"), "{token:?}");
    let initial: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.data {
            Data::ProcessExec(exec) if exec.initial => Some((event.proc?.0, exec.argv.len())),
            _ => None,
        })
        .collect();
    assert_eq!(initial, [(1, 2), (2, 3), (3, 2)]);
    let kept = events.iter().any(|event| match &event.data {
        Data::FdInitial(fd) => {
            event.proc == Some(ProcId(1))
                && fd.path.as_path() == tree.join("kept.txt")
                && fd.flags & libc::O_ACCMODE as u32 == libc::O_WRONLY as u32
        }
        _ => false,
    });
    assert!(kept);
    assert_eq!(opened(&events, &tree.join("before")), []);
    assert_eq!(opened(&events, &tree.join("after")), []);
    for name in ["during", "threaded"] {
        assert_eq!(opened(&events, &tree.join(name)), [ProcId(1)], "{name}");
    }
    assert_eq!(opened(&events, &tree.join("touched")).len(), 1);
    let done = events.iter().any(|event| match &event.data {
        Data::TermOutput(output) => format!("{output:?}").contains("done"),
        _ => false,
    });
    assert!(done, "what it writes to its standard output is output");
    let Data::SessionStop(stop) = &events.last().unwrap().data else { panic!() };
    assert_eq!((&*stop.reason, stop.code, stop.left_running), ("stop", None, 3));
    assert!(matches!(ended.reader().status(), Status::Complete(_)));
    assert_eq!(
        ended.recording().files.added,
        3,
        "the first snapshot was taken when it was attached to"
    );

    // Once more, to its end.
    let running = attach(&place, &program);
    writeln!(program.stdin, "exit 7").unwrap();
    let ended = running.end();
    assert_eq!(ended.code(), 7, "{}", ended.stderr);
    let events = ended.events();
    let Data::SessionStop(stop) = &events.last().unwrap().data else { panic!() };
    assert_eq!((&*stop.reason, stop.code), ("exit", Some(7)));
}

#[test]
#[ignore = "needs root"]
fn root_everything_of_a_running_process_is_seen_by_ebpf() {
    everything_is_seen(Engine::Ebpf);
}

/// Fifty threads that start processes without end. Each line of input is answered by how many there were.
const STORM: &str = r#"
import os, sys, threading, time
started = [0]
failed = []
def storm(spawns):
    while True:
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "(exit 5) & wait $!"], os.environ) if spawns else os.fork()
        if pid == 0: os._exit(5)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != 5: failed.append(status)
        started[0] += 1
        # Not to keep the interpreter's lock from the thread that answers.
        time.sleep(0.05)
for n in range(50): threading.Thread(target=storm, args=(n % 10 == 0,), daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    print(len(failed) or f"{started[0]} fine", flush=True)
"#;

/// What is said of a process that can't be told of as a whole.
const ENDED: &str = "a process ended in the moment in which its recording began";

#[test]
fn a_process_that_forks_all_the_time_is_seized_as_a_whole() {
    a_storm_is_followed(Engine::Ptrace);
}

#[test]
#[ignore = "needs root"]
fn root_a_process_that_forks_all_the_time_is_followed_as_a_whole_by_ebpf() {
    a_storm_is_followed(Engine::Ebpf);
}

fn a_storm_is_followed(engine: Engine) {
    let place = engine.place();
    let mut program = Program::start(&place, STORM);
    for _ in 0..3 {
        let running = attach(&place, &program);
        let attached = boottime();
        assert_eq!(threads_of(program.child.id()).len(), 51);
        assert!(engine.traces_by(&program.tracers(), running.recorder_pid()));
        let goes_on = |program: &mut Program| {
            let count =
                |said: String| said.strip_suffix(" fine").map(|n| n.parse::<u32>().unwrap());
            let before = count(program.ask("how many?")).expect("none failed");
            while count(program.ask("how many?")).expect("none failed") < before + 20 {}
        };
        goes_on(&mut program);
        let ended = detach(running);
        assert_eq!(program.tracers(), BTreeSet::from([0]), "{}", ended.stderr);
        goes_on(&mut program);
        let events = ended.events();
        // Who is told of was told where it came from.
        let mut known = BTreeSet::from([ProcId(1)]);
        for event in &events {
            match &event.data {
                Data::ProcessFork(fork) => drop(known.insert(fork.child)),
                // Nothing stops them while eBPF begins, and they end all the time: until then, and no longer.
                Data::Lost(lost) if engine == Engine::Ebpf && lost.reason.contains(ENDED) => {
                    assert!(event.ts < attached, "{lost:?}");
                }
                Data::Lost(lost) => panic!("{lost:?}"),
                _ => assert!(event.proc.is_none_or(|proc| known.contains(&proc)), "{event:?}"),
            }
        }
        assert!(known.len() > 20);
    }
}

#[test]
fn a_killed_recorder_leaves_what_it_attached_to_running() {
    a_recorder_is_killed(Engine::Ptrace);
}

#[test]
#[ignore = "needs root"]
fn root_a_killed_ebpf_recorder_leaves_what_it_attached_to_running() {
    a_recorder_is_killed(Engine::Ebpf);
}

fn a_recorder_is_killed(engine: Engine) {
    let place = engine.place();
    let mut program = Program::start(&place, STORM);
    // BPF programs take seconds to go.
    for _ in 0..if engine == Engine::Ebpf { 2 } else { 10 } {
        let running = attach(&place, &program);
        kill(running.recorder_pid(), Signal::SIGKILL).unwrap();
        let ended = running.end();
        assert_eq!(ended.code(), 125);
        assert!(ended.stderr.contains("what it recorded goes on"), "{}", ended.stderr);
        assert_eq!(program.tracers(), BTreeSet::from([0]));
        assert!(program.ask("how many?").ends_with(" fine"));
    }
}

#[test]
fn a_killed_front_ends_the_recording_and_nothing_else() {
    a_front_is_killed(Engine::Ptrace);
}

#[test]
#[ignore = "needs root"]
fn root_a_killed_front_of_ebpf_ends_the_recording_and_nothing_else() {
    a_front_is_killed(Engine::Ebpf);
}

fn a_front_is_killed(engine: Engine) {
    let place = engine.place();
    let mut program = Program::start(&place, SERVER);
    let running = attach(&place, &program);
    let trace = running.trace.clone();
    let recorder = running.recorder_pid();
    kill(running.front_pid(), Signal::SIGKILL).unwrap();
    drop(running);
    super::harness::wait_for_recorder(&trace);
    while Path::new(&format!("/proc/{recorder}/exe")).exists() {
        std::thread::yield_now();
    }
    assert_eq!(program.tracers(), BTreeSet::from([0]));
    assert_eq!(program.ask("write on"), "done");
    let events = super::harness::events(&trace);
    let Data::SessionStop(stop) = &events.last().unwrap().data else { panic!() };
    assert_eq!(&*stop.reason, "error");
}

#[test]
fn a_stopped_process_stays_stopped_and_a_signal_is_not_lost() {
    a_stopped_process_is_recorded(Engine::Ptrace);
}

#[test]
#[ignore = "needs root"]
fn root_a_stopped_process_stays_stopped_under_ebpf() {
    a_stopped_process_is_recorded(Engine::Ebpf);
}

fn a_stopped_process_is_recorded(engine: Engine) {
    let place = engine.place();
    let script = r#"
import signal, sys
signal.signal(signal.SIGUSR1, lambda *_: print("got it", flush=True))
print("ready", flush=True)
while True: signal.pause()
"#;
    let mut program = Program::start(&place, script);
    kill(program.pid(), Signal::SIGSTOP).unwrap();
    while !program.is_stopped() {}
    let running = attach(&place, &program);
    kill(program.pid(), Signal::SIGUSR1).unwrap();
    assert!(program.is_stopped());
    detach(running);
    assert!(program.is_stopped() && program.tracers() == BTreeSet::from([0]));
    kill(program.pid(), Signal::SIGCONT).unwrap();
    assert_eq!(program.line(), "got it");
    // Stopped and continued while it is recorded.
    let running = attach(&place, &program);
    kill(program.pid(), Signal::SIGSTOP).unwrap();
    while !program.is_stopped() {}
    kill(program.pid(), Signal::SIGUSR1).unwrap();
    kill(program.pid(), Signal::SIGCONT).unwrap();
    assert_eq!(program.line(), "got it");
    detach(running);
    kill(program.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(program.child.wait().unwrap().signal(), Some(libc::SIGTERM));
}

#[test]
fn a_blocked_call_that_the_kernel_would_interrupt_is_made_again() {
    for option in [None, Some("-m32")] {
        let place = Place::new().with(&["--overwrite"]);
        let path = place.tree("blocked");
        if !compile_tracee("blocked", option, &path) {
            assert!(option.is_some(), "there is a C compiler");
            continue;
        }
        let mut program = Program::spawn(&mut Command::new(path));
        for _ in 0..5 {
            detach(attach(&place, &program));
        }
        let running = attach(&place, &program);
        let results = program.ask("go on");
        assert_eq!(results.split(", ").count(), 14, "{results}");
        assert!(results.split(", ").all(|call| call.ends_with(" 1")), "{option:?}: {results}");
        assert_eq!(running.end().code(), 0);
    }
}

#[test]
fn what_cannot_be_attached_to_is_refused_with_a_reason_and_leaves_no_trace() {
    let place = Place::new();
    let program = Program::start(&place, SERVER);
    let running = attach(&place, &program);
    let mut other = place.attaching(program.child.id());
    other.arg("--name").arg("second");
    let refused = other.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(125));
    let tracer = format!("it is traced already, by process {} (record)", running.recorder_pid());
    assert!(said.contains(&tracer) && said.contains("hint: "), "{said}");
    drop(detach(running));
    let gone = place.attaching(i32::MAX as u32).output().unwrap();
    assert!(String::from_utf8_lossy(&gone.stderr).contains("there is no such process"));
}

/// Looks at all threads of a process, over and over, until it is asked what they were seen to be: letters of their states,
/// and tracers.
struct Onlooker {
    done: Arc<AtomicBool>,
    seen: JoinHandle<(BTreeSet<char>, BTreeSet<u32>)>,
}

impl Onlooker {
    fn of(pid: u32) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&done);
        let seen = std::thread::spawn(move || {
            let (mut states, mut tracers) = (BTreeSet::new(), BTreeSet::new());
            while !until.load(Ordering::Relaxed) {
                for tid in threads_of(pid) {
                    let Ok(status) = std::fs::read_to_string(format!("/proc/{tid}/status")) else {
                        continue;
                    };
                    let word = |name: &str| {
                        let line = status.lines().find_map(|line| line.strip_prefix(name));
                        line.and_then(|line| line.split_whitespace().next()).unwrap_or_default()
                    };
                    states.extend(word("State:").chars());
                    tracers.insert(word("TracerPid:").parse().unwrap());
                }
            }
            (states, tracers)
        });
        Self { done, seen }
    }

    fn seen(self) -> (BTreeSet<char>, BTreeSet<u32>) {
        self.done.store(true, Ordering::Relaxed);
        self.seen.join().unwrap()
    }
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_never_stops_and_never_traces_whom_it_attaches_to() {
    let place = Engine::Ebpf.place();
    let mut program = Program::start(&place, STORM);
    let onlooker = Onlooker::of(program.child.id());
    for _ in 0..3 {
        detach(attach(&place, &program));
    }
    assert!(program.ask("how many?").ends_with(" fine"));
    let (states, tracers) = onlooker.seen();
    assert!(states.is_disjoint(&BTreeSet::from(['T', 't'])), "{states:?}");
    assert_eq!(tracers, BTreeSet::from([0]));
    // A parent is told of every stop (waitpid(2)).
    let stops = WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG;
    assert_eq!(waitpid(program.pid(), Some(stops)), Ok(WaitStatus::StillAlive));
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_sees_output_of_a_descendant_that_was_there_before() {
    let place = Engine::Ebpf.place();
    let script = r#"
import subprocess, sys
child = subprocess.Popen(["sh", "-c", "read line; echo from below; read line; echo elsewhere > other; echo done"])
print("ready", flush=True)
child.wait()
"#;
    let mut program = Program::start(&place, script);
    let running = attach(&place, &program);
    assert_eq!(program.ask("go on"), "from below");
    assert_eq!(program.ask("go on"), "done");
    let ended = running.end();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let said: String = ended
        .events()
        .iter()
        .filter_map(|event| match &event.data {
            Data::TermOutput(output) => Some(format!("{:?} {output:?}\n", event.proc)),
            _ => None,
        })
        .collect();
    assert!(said.contains("from below") && said.contains("done"), "{said}");
    assert!(!said.contains("elsewhere") && said.contains("ProcId(2)"), "{said}");
}
