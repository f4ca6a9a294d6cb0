//! Signals to the front reach the command as without us: once, whoever sends them, and stopping included.

use std::fs::File;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};

use agentrec_trace::event::SessionStop;
use agentrec_trace::{Data, Status};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::harness::{Front, Place, Running, recorder};

/// Says who it is and which signals come, until it is told to go by SIGUSR2. A shell would miss some: one that comes just
/// before its `wait`, or a SIGINT that its last child survives.
const REPORTER: &str = r#"
import os, signal, time
def told(number, frame):
    os.write(1, f"got {signal.Signals(number).name[3:]}\n".encode())
for number in (1, 2, 3, 10, 15, 28):
    signal.signal(number, told)
signal.signal(signal.SIGUSR2, lambda number, frame: os._exit(7))
os.write(1, f"{os.getpid()}\nready\n".encode())
while True:
    time.sleep(0.01)"#;

fn reporter(place: &Place) -> Running {
    let mut running = place.start(&["python3", "-c", REPORTER]);
    running.line();
    assert_eq!(running.line(), "ready");
    running
}

#[test]
fn a_signal_to_the_front_reaches_the_command_once() {
    let place = Place::new();
    let mut running = reporter(&place);
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGWINCH,
    ] {
        running.signal(signal);
        assert_eq!(running.line(), format!("got {}", &signal.as_str()[3..]));
    }
    running.signal(Signal::SIGUSR2);
    let ended = running.end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (7, ""), "{}", ended.stderr);
    assert!(matches!(ended.reader().status(), Status::Complete(_)));
}

#[test]
fn a_signal_to_the_whole_group_reaches_the_command_once() {
    let place = Place::new();
    let mut command = place.command(&["python3", "-c", REPORTER]);
    command.process_group(0);
    let mut running = place.started(command);
    let agent = running.line();
    assert_eq!(running.line(), "ready");
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGUSR1] {
        killpg(running.front_pid(), signal).unwrap();
        assert_eq!(running.line(), format!("got {}", &signal.as_str()[3..]));
        // Of signals that wait the one with the lowest number is handled first: were the other still on its way, it
        // would come before this one.
        running.signal(Signal::SIGWINCH);
        assert_eq!(running.line(), "got WINCH");
    }
    // To the command alone and then to the front alone is twice, where the senders differ.
    let by_another = format!("kill -INT {agent}");
    assert!(std::process::Command::new("sh").args(["-c", &by_another]).status().unwrap().success());
    assert_eq!(running.line(), "got INT");
    running.signal(Signal::SIGINT);
    assert_eq!(running.line(), "got INT");
    running.signal(Signal::SIGUSR2);
    assert_eq!(running.end().code(), 7);
}

#[test]
fn a_command_that_a_signal_ends_has_a_sealed_trace() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let place = Place::new();
        let mut running =
            place.start(&["bash", "-c", "echo x > file; echo ready; exec sleep 1000"]);
        assert_eq!(running.line(), "ready");
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code(), code);
        let events = ended.events();
        let Data::SessionStop(stop) = &events.last().unwrap().data else { panic!("{events:?}") };
        assert_eq!((&*stop.reason, stop.signal), ("signal", Some(signal as i32)));
        assert!(
            events
                .iter()
                .any(|event| matches!(&event.data, Data::SnapshotCreated(s) if s.trigger == "end"))
        );
    }
}

#[test]
fn a_signal_while_the_tree_is_read_ends_the_run_before_it_begins() {
    let place = Place::new();
    for number in 0..3000 {
        place.write(&format!("many/{number}"), &format!("{number}"));
    }
    let running = place.start(&["touch", "ran"]);
    // The trace is made before the tree is read.
    while !running.trace.exists() {
        std::thread::yield_now();
    }
    running.signal(Signal::SIGTERM);
    let ended = running.end();
    assert_eq!((ended.code(), ended.recording), (143, None));
    // The recorder removes it when it sees that the front is gone.
    while ended.trace.exists() {
        std::thread::yield_now();
    }
    assert!(!place.tree("ran").exists());
}

/// Records in a terminal of its own, in which the front leads the session; with the terminal's other end.
fn in_terminal(place: &Place, argv: &[&str]) -> (Front, File) {
    in_terminal_by(place, &[], argv)
}

/// As [`in_terminal`], with this before the recorder's name.
fn in_terminal_by(place: &Place, starter: &[&str], argv: &[&str]) -> (Front, File) {
    use nix::fcntl::OFlag;
    // Who holds the other end keeps the terminal from hanging up: no child of any test may.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = nix::pty::posix_openpt(flags).unwrap();
    nix::pty::grantpt(&master).unwrap();
    nix::pty::unlockpt(&master).unwrap();
    let slave = nix::pty::ptsname_r(&master).unwrap();
    let command = place.command(argv);
    let terminal = || {
        let flags = OFlag::O_NOCTTY.bits();
        File::options().read(true).write(true).custom_flags(flags).open(&slave).unwrap()
    };
    // `setsid --ctty` makes standard input the controlling terminal of a new session.
    let mut session = std::process::Command::new("setsid");
    session.args(["--ctty", "--wait"]).args(starter).arg(recorder()).args(command.get_args());
    session.env_clear();
    session.envs(command.get_envs().map(|(name, value)| (name, value.unwrap())));
    session.current_dir(place.path("tree"));
    session.stdin(terminal()).stdout(terminal()).stderr(terminal());
    let session = Front(session.spawn().unwrap());
    // SAFETY: the descriptor is the master's alone, which gives it up.
    (session, unsafe { File::from_raw_fd(master.into_raw_fd()) })
}

#[test]
fn a_closed_terminal_hangs_up_the_command_and_the_trace_is_sealed() {
    use std::io::{BufRead, BufReader};

    // Handled, and not: the shell's child is no leader, so it hears of it from nobody.
    for (script, code) in [
        (
            "trap 'echo hung up > said; exit 9' HUP; echo ready; while :; do read -t 1 x <> fifo; done",
            9,
        ),
        ("echo ready; read x < fifo", 128 + libc::SIGHUP),
    ] {
        let place = Place::new();
        nix::unistd::mkfifo(&place.tree("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (mut session, master) = in_terminal(&place, &["bash", "-c", script]);
        let mut lines = BufReader::new(master);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), "ready");
        drop(lines);
        assert_eq!(session.wait().code(), Some(code));
        assert_eq!(place.tree("said").exists(), code == 9);
        let stop = sealed_stop(&place);
        let (reason, ended) = match code {
            9 => ("exit", (Some(9), None)),
            _ => ("signal", (None, Some(libc::SIGHUP))),
        };
        assert_eq!((&*stop.reason, (stop.code, stop.signal)), (reason, ended));
    }
}

/// The last event of the trace, which must be sealed.
fn sealed_stop(place: &Place) -> SessionStop<'static> {
    super::harness::wait_for_recorder(&place.trace());
    let reader = agentrec_trace::Reader::open(place.trace()).unwrap();
    assert!(matches!(reader.status(), Status::Complete(_)), "{:?}", reader.status());
    match super::harness::events(&place.trace()).pop().unwrap().data {
        Data::SessionStop(stop) => stop,
        other => panic!("{other:?}"),
    }
}

#[test]
fn under_nohup_a_closed_terminal_ends_nothing() {
    let script = "echo ready > said; read x < go; echo $x > after; exit 6";
    // As what the terminal was opened for, and as a job of a shell, which hangs up its jobs when it ends.
    for starter in [&["nohup"][..], &["bash", "-ic", "nohup \"$0\" \"$@\" & wait"]] {
        let place = Place::new();
        for name in ["said", "go"] {
            nix::unistd::mkfifo(&place.tree(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let (mut session, master) = in_terminal_by(&place, starter, &["sh", "-c", script]);
        assert_eq!(place.read("said"), "ready\n");
        // Hangs up at once (pty(7)).
        drop(master);
        if starter.len() > 1 {
            assert_eq!(session.wait().signal(), Some(libc::SIGHUP));
        }
        std::fs::write(place.tree("go"), "on\n").unwrap();
        let stop = sealed_stop(&place);
        assert_eq!((&*stop.reason, stop.code), ("exit", Some(6)));
        assert_eq!(place.read("after"), "on\n");
        if starter.len() == 1 {
            assert_eq!(session.wait().code(), Some(6));
            let kept = place.read("nohup.out");
            assert!(kept.contains("record: {"), "the closing line is kept: {kept}");
        }
    }
}

#[test]
fn the_terminals_signals_are_not_doubled() {
    use std::io::{BufRead, BufReader, Write};

    let place = Place::new();
    let (mut session, mut master) = in_terminal(&place, &["python3", "-c", REPORTER]);
    let mut lines = BufReader::new(master.try_clone().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap().trim_start_matches("^C").trim_end().to_owned();
    next();
    assert_eq!(next(), "ready");
    for _ in 0..5 {
        master.write_all(b"\x03").unwrap();
        assert_eq!(next(), "got INT");
    }
    // Signals are handled in order: were a second SIGINT on its way, it would come before this one.
    let front = Pid::from_raw(session.id() as i32);
    kill(front, Signal::SIGUSR1).unwrap();
    assert_eq!(next(), "got USR1");
    kill(front, Signal::SIGUSR2).unwrap();
    assert_eq!(session.wait().code(), Some(7));
}

#[test]
fn a_stopped_command_stops_the_front_and_both_go_on_together() {
    // A group of its own is no orphaned one, since this process stands outside of it: it may be stopped (setpgid(2)).
    for group in [true, false] {
        let place = Place::new();
        let mut command = place.command(&["bash", "-c", "echo ready; kill -TSTP 0; echo on"]);
        command.process_group(0);
        let mut running = place.started(command);
        assert_eq!(running.line(), "ready");
        let front = running.front_pid();
        let stopped = waitpid(front, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        match group {
            // The shell's `fg`.
            true => killpg(front, Signal::SIGCONT).unwrap(),
            // `kill -CONT` of the job's leader.
            false => kill(front, Signal::SIGCONT).unwrap(),
        }
        assert_eq!(running.line(), "on");
        assert_eq!(running.end().code(), 0);
    }
}

#[test]
fn whoever_waits_for_us_hears_of_stops_and_continuations_of_the_command() {
    let place = Place::new();
    let mut command = place.command(&["bash", "-c", "echo $$; read x; exit 4"]);
    command.process_group(0);
    let mut running = place.started(command);
    let agent = Pid::from_raw(running.line().parse().unwrap());
    let front = running.front_pid();
    for signal in [Signal::SIGSTOP, Signal::SIGTSTP, Signal::SIGTTOU, Signal::SIGSTOP] {
        kill(agent, signal).unwrap();
        let stopped = waitpid(front, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(front, signal));
        // The command alone is continued: we go on with it.
        kill(agent, Signal::SIGCONT).unwrap();
        let continued = waitpid(front, Some(WaitPidFlag::WCONTINUED)).unwrap();
        assert_eq!(continued, WaitStatus::Continued(front));
    }
    assert_eq!(running.end().code(), 4);
}

#[test]
fn a_command_that_is_stopped_and_killed_ends_the_front() {
    let place = Place::new();
    let mut command = place.command(&["bash", "-c", "echo $$; kill -TSTP $$; echo never"]);
    command.process_group(0);
    let mut running = place.started(command);
    let agent = Pid::from_raw(running.line().parse().unwrap());
    let stopped = waitpid(running.front_pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    kill(agent, Signal::SIGKILL).unwrap();
    let ended = running.end();
    assert_eq!((ended.code(), ended.stdout.as_str()), (137, ""));
}

#[test]
#[ignore = "needs root"]
fn root_as_process_1_signals_reach_the_command_and_orphans_are_reaped() {
    let place = Place::new();
    // An orphan that ends while the command runs must not stay a zombie: its pid is free again.
    let script = "
        trap 'exit 9' TERM
        (sh -c 'echo orphan' &)
        read line < fifo
        while grep -q 'State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done
        echo ready
        while :; do read line < fifo; done";
    nix::unistd::mkfifo(&place.tree("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let recorded = place.command(&["bash", "-c", script]);
    let mut container = std::process::Command::new("unshare");
    container.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(recorder());
    container.args(recorded.get_args()).env_clear();
    container.envs(recorded.get_envs().map(|(name, value)| (name, value.unwrap())));
    container.current_dir(place.path("tree"));
    let mut running = place.started(container);
    assert_eq!(running.line(), "orphan");
    std::fs::write(place.tree("fifo"), "go\n").unwrap();
    assert_eq!(running.line(), "ready");
    let front = super::harness::child_of(running.front.id());
    kill(front, Signal::SIGTERM).unwrap();
    let ended = running.end();
    assert_eq!(ended.code(), 9, "{}", ended.stderr);
    assert!(matches!(ended.reader().status(), Status::Complete(_)));
}
