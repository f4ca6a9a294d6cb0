//! Recordings that end before their processes do: descendants that outlive the command, `stop`, a full disk.

use std::io::Write;
use std::path::Path;

use agentrec_recorder::control::Client;
use agentrec_trace::{Data, Status};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::harness::{Place, losses, wait_for_recorder};

/// A daemon that waits for a line, works, and says so; it holds none of the command's descriptors.
const DAEMON: &str = "
    setsid sh -c 'read line < go; echo $line > after; mkdir -p deep/er; echo done > gone' \\
        </dev/null >/dev/null 2>&1 &
    exit 6";

fn with_fifos() -> Place {
    let place = Place::new();
    for name in ["go", "gone"] {
        mkfifo(&place.tree(name), Mode::S_IRWXU).unwrap();
    }
    place
}

#[test]
fn a_daemon_that_outlives_the_command_works_on_unrecorded() {
    let place = with_fifos();
    let ended = place.sh(DAEMON);
    assert_eq!(ended.code(), 6, "{}", ended.stderr);
    assert!(ended.recording().left_running >= 1);
    assert!(matches!(ended.reader().status(), Status::Complete(_)));
    let before = std::fs::read(&ended.trace).unwrap();
    // Calls that the filter covers fail with ENOSYS where no tracer is.
    std::fs::write(place.tree("go"), "still alive\n").unwrap();
    assert_eq!(std::fs::read_to_string(place.tree("gone")).unwrap(), "done\n");
    assert_eq!(place.read("after"), "still alive\n");
    assert!(place.tree("deep/er").is_dir());
    assert_eq!(std::fs::read(&ended.trace).unwrap(), before);
    let events = ended.events();
    let Data::SessionStop(stop) = &events.last().unwrap().data else { panic!() };
    assert_eq!((stop.code, stop.left_running), (Some(6), ended.recording().left_running));
}

#[test]
fn the_recorder_that_stayed_behind_ends_with_the_last_process() {
    let place = with_fifos();
    let mut running = place.start(&["sh", "-c", &format!("echo ready; read x; {DAEMON}")]);
    assert_eq!(running.line(), "ready");
    let recorder = running.recorder_pid();
    assert_eq!(running.end().code(), 6);
    let handle = pidfd(recorder.as_raw()).expect("it lives");
    assert!(!readable(&handle, 0), "the recorder is needed");
    std::fs::write(place.tree("go"), "x\n").unwrap();
    assert_eq!(std::fs::read_to_string(place.tree("gone")).unwrap(), "done\n");
    assert!(readable(&handle, -1));
}

#[test]
fn waiting_for_the_tree_records_the_daemon_too() {
    let place = with_fifos().with(&["--wait-tree"]);
    let script = DAEMON.replace("&\n    exit", "& echo ended\n    exit");
    let mut running = place.start(&["sh", "-c", &script]);
    assert_eq!(running.line(), "ended");
    std::fs::write(place.tree("go"), "x\n").unwrap();
    assert_eq!(std::fs::read_to_string(place.tree("gone")).unwrap(), "done\n");
    let ended = running.end();
    assert_eq!((ended.code(), ended.recording().left_running), (6, 0));
    let after = place.tree("after");
    assert!(ended.events().iter().any(|event| match &event.data {
        Data::FileOpen(open) => open.path.as_path() == after,
        _ => false,
    }));
}

#[test]
fn who_waits_for_the_tree_can_give_up() {
    let place = with_fifos().with(&["--wait-tree"]);
    let script = format!("echo $$; {DAEMON}");
    let mut running = place.start(&["sh", "-c", &script]);
    // It may be gone already.
    if let Some(command) = pidfd(running.line().parse().unwrap()) {
        assert!(readable(&command, -1));
    }
    // Until the front has heard of it, a signal would still go to the command.
    wait_until_reaped(&running);
    running.signal(Signal::SIGINT);
    let ended = running.end();
    assert_eq!(ended.code(), 6, "{}", ended.stderr);
    assert!(ended.recording().left_running >= 1);
    std::fs::write(place.tree("go"), "x\n").unwrap();
    assert_eq!(std::fs::read_to_string(place.tree("gone")).unwrap(), "done\n");
}

/// Waits until the recorder is the front's only child.
fn wait_until_reaped(running: &super::harness::Running) {
    while super::harness::children_of(running.front.id()).len() > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn a_stopped_recording_leaves_the_command_running() {
    let place = Place::new();
    let script = "echo one > first; echo ready; read x; echo two > second; echo $x; exit 8";
    let mut running = place.start(&["sh", "-c", script]);
    assert_eq!(running.line(), "ready");
    let mut client = Client::connect(&place.socket()).unwrap();
    let stopped = client.stop().unwrap();
    wait_for_recorder(&stopped.trace);
    let events = super::harness::events(&stopped.trace);
    let Data::SessionStop(stop) = &events.last().unwrap().data else { panic!("{events:?}") };
    assert_eq!((&*stop.reason, stop.code, stop.left_running), ("stop", None, 1));
    assert!(client.status().is_err(), "nobody listens any more");
    running.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    assert_eq!(running.line(), "go on");
    let ended = running.end();
    assert_eq!((ended.code(), place.read("second").as_str()), (8, "two\n"));
    assert_eq!(ended.recording().seal, stopped.seal);
    let named = |name: &str| {
        let path = place.tree(name);
        ended.events().iter().any(|event| match &event.data {
            Data::FileOpen(open) => open.path.as_path() == path,
            _ => false,
        })
    };
    assert!(named("first") && !named("second"));
}

#[test]
fn a_front_that_is_killed_after_the_stop_still_ends_the_command() {
    let place = Place::new();
    let mut running = place.start(&["sh", "-c", "echo ready; exec sleep 1000"]);
    assert_eq!(running.line(), "ready");
    Client::connect(&place.socket()).unwrap().stop().unwrap();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.line(), "", "the output ends");
}

/// A file system of this size, unmounted when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, options: &str) -> Self {
        std::fs::create_dir(at).unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), at, Some("tmpfs"), flags, Some(options)).unwrap();
        Self(at)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

/// Output that does not compress.
const NOISE: &str =
    "echo begin; head -c 2000000 /dev/urandom | od -x | head -c 3000000; echo x > file; exit 5";

#[test]
#[ignore = "needs root"]
fn root_a_full_disk_ends_the_recording_and_not_the_command() {
    let mut place = Place::new();
    let full = place.path("full");
    let _mounted = Tmpfs::mount(&full, "size=256k,mode=700");
    place.options = vec!["-o".into(), full.join("trace.zst").to_string_lossy().into_owned()];
    let mut ended = place.sh(NOISE);
    ended.trace = full.join("trace.zst");
    assert_eq!(ended.code(), 5, "{}", ended.stderr);
    assert_eq!(place.read("file"), "x\n");
    assert_eq!(ended.stdout.len(), "begin\n".len() + 3_000_000);
    let failure = ended.recording().failure.as_ref().unwrap();
    assert!(failure.contains("No space left on device"), "{failure}");
    let events = ended.events();
    assert!(matches!(events[0].data, Data::SessionStart(_)));
    assert!(events.len() > 10, "what was written before stays");
    let sealed = matches!(ended.reader().status(), Status::Complete(_));
    assert_eq!(sealed, ended.recording().seal.is_some());
    assert!(!sealed || losses(&events).iter().any(|l| l.contains("No space left")), "{events:?}");
}

#[test]
#[ignore = "needs root"]
fn root_a_full_disk_ends_the_command_where_that_was_asked() {
    let mut place = Place::new().with(&["--stop-on-error"]);
    let full = place.path("full");
    let _mounted = Tmpfs::mount(&full, "size=256k,mode=700");
    place.options.extend(["-o".into(), full.join("trace.zst").to_string_lossy().into_owned()]);
    let ended = place.sh(NOISE);
    assert_eq!(ended.code(), 137, "{}", ended.stderr);
    assert!(ended.recording().failure.is_some());
    assert!(!place.tree("file").exists());
}

#[test]
#[ignore = "needs root"]
fn root_on_a_full_disk_sessions_are_found_and_removed() {
    use agentrec_store::{Catalogue, Home};
    let mut place = Place::new();
    let home = place.path("full");
    let _mounted = Tmpfs::mount(&home, "size=1m,mode=700");
    let trace = home.join("traces/trace.zst");
    std::fs::create_dir(home.join("traces")).unwrap();
    place.options = vec!["-o".into(), trace.to_string_lossy().into_owned()];
    let mut command = place.command(&["sh", "-c", "od -x /dev/urandom | head -c 200000"]);
    command.env("AGENTREC_HOME", &home);
    assert_eq!(place.ended(command).code(), 0);
    let mut filler = std::fs::File::create(home.join("filler")).unwrap();
    while filler.write(&[0; 512]).is_ok() {}
    let catalogue = Catalogue::open(&Home::new(&home)).unwrap();
    let [session] = &catalogue.list().unwrap()[..] else { panic!("one session ran") };
    // Its trace goes first, which makes room for the rest.
    catalogue.remove(session).unwrap();
    assert!(catalogue.list().unwrap().is_empty() && !trace.exists());
}

/// None where there is no such process.
fn pidfd(pid: i32) -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: pidfd_open(2) takes no pointer and returns a descriptor of our own.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let error = std::io::Error::last_os_error();
        assert!(fd >= 0 || error.raw_os_error() == Some(libc::ESRCH), "{error}");
        (fd >= 0).then(|| std::os::fd::OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Whether the process has ended; waits for it where `timeout` is -1.
fn readable(pidfd: &std::os::fd::OwnedFd, timeout: i32) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(timeout).unwrap()).unwrap() > 0
}
