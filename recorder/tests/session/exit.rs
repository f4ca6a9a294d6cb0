//! How recordings end, and what the command had: status, output, descriptors, signal dispositions.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use agentrec_trace::{Data, Reader, Status, verify};

use super::harness::{Place, proc_of};

#[test]
fn a_command_is_recorded_sealed_and_its_status_returned() {
    let place = Place::new().with(&["--name", "first"]);
    let ended = place.sh("echo hi > x; exit 3");
    assert_eq!(ended.code(), 3, "{}", ended.stderr);
    assert_eq!(place.read("x"), "hi\n");
    let recording = ended.recording();
    assert_eq!((recording.files.added, recording.files.changed, recording.left_running), (1, 0, 0));
    let report = verify(&ended.trace).unwrap();
    let Some(Status::Complete(seal)) = report.status else { panic!("{report:?}") };
    assert_eq!(recording.seal, Some(seal.hex()));
    let mode = ended.trace.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let events = ended.events();
    let Data::SessionStart(start) = &events[0].data else { panic!("{:?}", events[0]) };
    assert_eq!((&*start.session, start.name.as_deref()), (&*recording.session, Some("first")));
    assert_eq!(start.cwd.as_path(), place.path("tree").canonicalize().unwrap());
    let argv: Vec<_> = start.argv.iter().map(|arg| arg.to_vec()).collect();
    assert_eq!(argv, [&b"sh"[..], b"-c", b"echo hi > x; exit 3"]);
    assert_eq!(start.fds.iter().map(|fd| &*fd.kind).collect::<Vec<_>>(), ["null", "pipe", "pipe"]);
    assert!(!start.host.is_empty() && !start.kernel.is_empty() && start.wall > 0);
    let opened = events.iter().find_map(|event| match &event.data {
        Data::FileOpen(open) if open.path.as_path() == place.tree("x") => Some((event, open)),
        _ => None,
    });
    let (event, open) = opened.expect("the file that was written has its event");
    assert_eq!(event.proc, proc_of(&events, "sh"));
    let close = events.iter().find_map(|closed| match &closed.data {
        Data::FileClose(close) if close.open == Some(event.seq) => Some(close),
        _ => None,
    });
    assert_eq!((open.errno, close.expect("and was closed").written), (None, 3));
    let Data::SessionStop(stop) = &events.last().unwrap().data else { panic!() };
    assert_eq!((&*stop.reason, stop.code, stop.left_running), ("exit", Some(3), 0));
}

#[test]
fn death_by_signal_is_told_as_a_shell_does() {
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("USR1", 10), ("RTMIN+3", 37)] {
        let place = Place::new();
        let ended = place.run(&["bash", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(ended.code(), 128 + number, "{}", ended.stderr);
        let events = ended.events();
        let Data::SessionStop(stop) = &events.last().unwrap().data else { panic!() };
        assert_eq!((&*stop.reason, stop.signal), ("signal", Some(number)));
    }
}

#[test]
fn what_can_not_be_run_leaves_no_trace() {
    let place = Place::new();
    place.write("text", "not a program");
    place.write("bad", "#!/no/such/interpreter\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.tree("bad"), mode).unwrap();
    for (command, code, message) in [
        ("no-such-command", 127, "cannot run no-such-command: not found"),
        ("./text", 126, "cannot run ./text: Permission denied"),
        ("./bad", 127, "cannot run ./bad: not found"),
    ] {
        let ended = place.run(&[command]);
        assert_eq!(ended.code(), code, "{}", ended.stderr);
        assert!(ended.stderr.contains(message), "{}", ended.stderr);
        assert!(!ended.trace.exists(), "{command}");
    }
    assert_eq!(std::fs::read_dir(place.path("home/run")).unwrap().count(), 0);
}

#[test]
fn an_existing_trace_is_only_replaced_when_asked() {
    let place = Place::new();
    assert_eq!(place.sh("exit 0").code(), 0);
    let before = std::fs::read(place.trace()).unwrap();
    let refused = place.sh("touch ran");
    assert_eq!(refused.code(), 125);
    assert!(refused.stderr.contains("--overwrite"), "{}", refused.stderr);
    assert!(!place.tree("ran").exists());
    assert_eq!(std::fs::read(place.trace()).unwrap(), before);
    let place = place.with(&["--overwrite"]);
    assert_eq!(place.sh("touch ran").code(), 0);
    assert!(place.tree("ran").exists());
    assert_ne!(std::fs::read(place.trace()).unwrap(), before);
}

#[test]
fn a_place_that_can_not_be_written_to_stops_the_run_before_it_begins() {
    let mut place = Place::new();
    place.options = vec!["-o".into(), "/no/such/directory/trace.zst".into()];
    let ended = place.sh("touch ran");
    assert_eq!(ended.code(), 125);
    assert!(ended.stderr.contains("/no/such/directory/trace.zst"), "{}", ended.stderr);
    assert!(!place.tree("ran").exists());
}

#[test]
fn input_and_output_pass_untouched_and_output_is_recorded() {
    use std::io::Write;
    let place = Place::new();
    let mut running = place.start(&["sh", "-c", "cat; printf err >&2"]);
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(b"line\n\xff\x00bytes\n").unwrap();
    drop(stdin);
    let ended = running.end();
    assert_eq!(
        ended.stdout.as_bytes(),
        String::from_utf8_lossy(b"line\n\xff\x00bytes\n").as_bytes()
    );
    assert!(ended.stderr.starts_with("err"));
    let mut output = [Vec::new(), Vec::new()];
    let reader = ended.reader();
    for event in ended.events() {
        if let Data::TermOutput(out) = &event.data {
            output[out.fd as usize - 1].extend_from_slice(&reader.content(&out.data).unwrap());
        }
    }
    assert_eq!(output, [b"line\n\xff\x00bytes\n".to_vec(), b"err".to_vec()]);
}

#[test]
fn the_command_inherits_what_it_would_have_without_us() {
    // Rust's runtime ignores SIGPIPE and opens /dev/null for closed descriptors; the command must not see that.
    let script = "grep -E '^Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd | tr '\\n' ' '";
    for prefix in ["", "trap '' PIPE;", "trap '' HUP;", "exec 0<&-;"] {
        let place = Place::new();
        let recorded = place.command(&["sh", "-c", script]);
        let shell = |command: &mut dyn Iterator<Item = &OsStr>| {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{prefix} exec \"$@\""), "x"]).args(command);
            shell.env_clear().envs(recorded.get_envs().map(|(name, value)| (name, value.unwrap())));
            shell.current_dir(place.path("tree")).stdin(Stdio::null());
            shell
        };
        let plain = shell(&mut ["sh", "-c", script].map(OsStr::new).into_iter()).output().unwrap();
        let ended = place
            .ended(shell(&mut [recorded.get_program()].into_iter().chain(recorded.get_args())));
        assert_eq!(
            ended.stdout,
            String::from_utf8(plain.stdout).unwrap(),
            "{prefix} {}",
            ended.stderr
        );
        if prefix == "exec 0<&-;" {
            let events = ended.events();
            let Data::SessionStart(start) = &events[0].data else { panic!() };
            assert_eq!(start.fds[0].kind, "closed");
        }
    }
}

#[test]
fn sessions_are_listed_while_they_run_and_after() {
    use agentrec_store::{Catalogue, Home, State};
    let place = Place::new();
    let mut running = place.start(&["sh", "-c", "echo ready; read x; exit 4"]);
    assert_eq!(running.line(), "ready");
    let catalogue = Catalogue::open(&Home::new(place.path("home"))).unwrap();
    let [session] = &catalogue.list().unwrap()[..] else { panic!("one session runs") };
    assert_eq!((session.state, session.socket.as_ref()), (State::Recording, Some(&place.socket())));
    let ended = running.end();
    let [session] = &catalogue.list().unwrap()[..] else { panic!("one session ran") };
    assert_eq!(
        (session.state, session.code, session.socket.clone()),
        (State::Complete, Some(4), None)
    );
    assert_eq!(session.id, ended.recording().session);
    assert_eq!(session.counts.events, Reader::open(&ended.trace).unwrap().len());
}

#[test]
fn a_recording_inside_of_a_recording_is_part_of_it() {
    let place = Place::new();
    let inner = place.path("inner.zst");
    let recorder = super::harness::recorder();
    let argv = [
        recorder.as_os_str(),
        "-o".as_ref(),
        inner.as_os_str(),
        "--".as_ref(),
        "sh".as_ref(),
        "-c".as_ref(),
        "echo x > f; grep SigIgn /proc/self/status; exit 5".as_ref(),
    ];
    let ended = place.run(&argv);
    assert_eq!(ended.code(), 5, "{}", ended.stderr);
    assert!(!inner.exists());
    let ignored = u64::from_str_radix(ended.stdout.trim_start_matches("SigIgn:").trim(), 16);
    assert_eq!(ignored.unwrap() & (1 << (13 - 1)), 0, "SIGPIPE is as it was");
    let events = ended.events();
    assert_eq!(proc_of(&events, "record"), proc_of(&events, "sh"));
    assert!(proc_of(&events, "sh").is_some());

    // What is left of an old session in the environment makes no session.
    let other = Place::new();
    let mut command = other.command(&["true"]);
    command.env("AGENTREC_SESSION", "aaaa2222").env("AGENTREC_SOCKET", place.path("gone.sock"));
    assert!(other.ended(command).recording.is_some());
}
