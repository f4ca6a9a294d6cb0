//! What the recorder holds on to: few descriptors however many processes it saw, and next to nothing once it is only
//! there for a daemon.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Pid, mkfifo};

use super::harness::{Place, Running, children_of};

/// Whoever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the descriptors of a process lead to.
fn descriptors(pid: Pid) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect()
}

/// Waits until something is true, as it is as soon as the recorder has handled its tree's last call.
fn settles(what: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !what() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn descriptors_do_not_grow_with_the_processes() {
    let place = Place::new();
    let script = "
        some() {
            i=0; while [ $i -lt $1 ]; do (: < file); [ $((i % 20)) -gt 0 ] || cat < file | cat > copy; i=$((i+1)); done
        }
        echo content > file
        some 40; echo $i; read x; some 3000; echo $i; read x; exit 0";
    let mut running = place.start(&["sh", "-c", script]);
    assert_eq!(running.line(), "40");
    let recorder = running.recorder_pid();
    // How many there are at rest: the most that are seen while the command waits.
    let before = (0..100).map(|_| descriptors(recorder).len()).max().unwrap();
    tell(&mut running, "go");
    assert_eq!(running.line(), "3000");
    let few = || descriptors(recorder).len() <= before;
    assert!(settles(few), "{before} at first, {:?} now", descriptors(recorder));
    assert_eq!(running.end().code(), 0);
}

fn tell(running: &mut Running, line: &str) {
    use std::io::Write;
    writeln!(running.stdin.as_mut().unwrap(), "{line}").unwrap();
}

/// Records a command that leaves a daemon behind, which waits at the fifo `go`. The caller has `held` open. Gives the
/// recorder, which stays behind, too.
fn leave_a_daemon(place: &Place, held: &Path) -> Pid {
    mkfifo(&place.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = "
        (cd /; exec setsid sh -c 'read x < \"$0\"' \"$1\" </dev/null >/dev/null 2>&1 7>&-) &
        echo left; read x; exit 6";
    let go = place.path("go");
    let argv = ["sh".as_ref(), "-c".as_ref(), script.as_ref(), "sh".as_ref(), go.as_os_str()];
    let recorded = place.command(&argv);
    let mut caller = std::process::Command::new("sh");
    caller.args(["-c", "exec 7> \"$0\"; exec \"$@\""]).arg(held).arg(recorded.get_program());
    caller.args(recorded.get_args()).env_clear();
    caller.envs(recorded.get_envs().map(|(name, value)| (name, value.unwrap())));
    caller.current_dir(recorded.get_current_dir().unwrap());
    let mut running = place.started(caller);
    assert_eq!(running.line(), "left");
    let recorder = running.recorder_pid();
    assert_eq!(running.end().code(), 6);
    recorder
}

/// Ends the daemon.
fn end(place: &Place) {
    std::fs::write(place.path("go"), "x\n").unwrap();
}

#[test]
fn who_stays_behind_with_a_daemon_holds_nothing_of_the_callers() {
    let place = Place::new();
    let recorder = leave_a_daemon(&place, &place.path("held"));
    let ours = |path: &PathBuf| path.starts_with(place.path("")) || path.starts_with("/dev/pts");
    // With the child that wakes its tracer.
    let helpers = children_of(recorder.as_raw() as u32).into_iter().map(|(pid, _)| pid);
    let all: Vec<_> = helpers.chain([recorder]).collect();
    assert_eq!(all.len(), 2);
    for pid in all {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let directory = || std::fs::read_link(proc.join("cwd")).unwrap();
        assert!(settles(|| directory() == Path::new("/")), "{}", directory().display());
        let held = descriptors(pid);
        assert!(!held.iter().any(&ours) && held.len() < 16, "{held:?}");
        let maps = std::fs::read_to_string(proc.join("maps")).unwrap();
        assert!(!maps.contains(place.path("").to_str().unwrap()), "{maps}");
        // Of its own: what is mapped from the program's file is shared with the cache.
        let status = std::fs::read_to_string(proc.join("status")).unwrap();
        let field = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let kib: u64 = field.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 16 << 10, "{kib} KiB");
    }
    end(&place);
}

#[test]
#[ignore = "needs root"]
fn root_who_stays_behind_with_a_daemon_keeps_no_file_system_busy() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let mut place = Place::new();
    let tree = place.path("tree");
    mount(Some("none"), &tree, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    // The trace, the data directory, the working directory and the caller's file lie there.
    let trace = tree.join("trace.zst").to_string_lossy().into_owned();
    place.options = vec!["-o".into(), trace];
    place.home = tree.join("home");
    leave_a_daemon(&place, &tree.join("held"));
    // Let go of just after the front was told.
    let unmounted = settles(|| umount2(&tree, MntFlags::empty()).is_ok());
    end(&place);
    if !unmounted {
        umount2(&tree, MntFlags::MNT_DETACH).unwrap();
    }
    assert!(unmounted, "something is held");
}
