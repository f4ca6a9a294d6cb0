//! Tests on hand-built events: what a recording on this machine can't be made to do, and hostile traces.

use agentrec_trace::event::{
    Address, FileClose, FileLink, FileOpen, FileSymlink, HttpRequest, Lost, Mount, NetAccept,
    NetClose, NetConnect, NetOpaque, ProcessExec, SessionStop,
};
use agentrec_trace::{Data, Event, ProcId, Source};
use proptest::prelude::*;

use super::*;
use crate::digest::testing::Script;

/// The audit of a script under rules, as `show` wants it.
fn audited<R>(script: &Script, rules: &str, show: impl FnOnce(&Audit<'_>) -> R) -> R {
    let place = Place { cwd: "/w".into(), home: Some("/home/u".into()) };
    let rules = match rules {
        "" => Rules::default(),
        rules => Rules::parse(rules, "rules", &place).unwrap_or_else(|e| panic!("{e:#}")),
    };
    let tree = WorkingTree {
        roots: vec![b"/w".to_vec()],
        is_secret: &|path| path == b"/w/key",
        link: &|_| None,
    };
    let mut audit = Audit::new(&rules, tree, "session");
    script.events().iter().for_each(|event| audit.add(event));
    audit.finish(Seq(script.events().len() as u64), None);
    show(&audit)
}

fn broken(script: &Script, rules: &str) -> Vec<(String, u64)> {
    audited(script, rules, |audit| {
        let violations = audit.violations.iter();
        violations
            .map(|((_, what), item)| (what.escape_ascii().to_string(), item.first.0))
            .collect()
    })
}

fn outcomes(script: &Script) -> Vec<(String, Outcome)> {
    audited(script, "", |audit| {
        let writes = audit.writes.iter();
        writes.map(|(path, item)| (path.escape_ascii().to_string(), item.state.outcome())).collect()
    })
}

fn udp(script: &mut Script, host: &str, port: u16, fd: i32) -> Seq {
    let peer =
        Address { family: "inet".into(), host: host.to_owned().into(), port, ..Address::default() };
    script.push(Some(1), NetConnect { fd, protocol: "udp".into(), peer, ..NetConnect::default() })
}

#[test]
fn what_became_of_a_file_follows_from_all_that_was_done() {
    let mut script = Script::new("/w");
    script
        .create(1, "/o/new")
        .modify(1, "/o/old")
        .unlink(1, "/o/gone")
        .create(1, "/o/tmp")
        .unlink(1, "/o/tmp");
    script
        .create(1, "/o/a")
        .rename(1, "/o/a", "/o/saved")
        .rename(1, "/o/moved", "/o/b")
        .rename(1, "/o/b", "/o/c");
    script
        .unlink(1, "/o/again")
        .create(1, "/o/again")
        .create(1, "/w/in")
        .mkdir(1, "/o/d")
        .rmdir(1, "/o/d");
    let left_open = script.open(1, "/o/open", libc::O_WRONLY, false);
    script.open(1, "/o/unwritten", libc::O_RDWR, false);
    script.close(1, Seq(left_open.0 + 1), 0, 0);
    let close =
        FileClose { path: Some(b"/o/output".to_vec().into()), written: 3, ..FileClose::default() };
    script.push(Some(1), close);
    let expected = [
        ("/o/a", Outcome::Temporary),
        ("/o/again", Outcome::Changed),
        ("/o/b", Outcome::Temporary),
        ("/o/c", Outcome::Replaced),
        ("/o/d", Outcome::Temporary),
        ("/o/gone", Outcome::Deleted),
        ("/o/moved", Outcome::Deleted),
        ("/o/new", Outcome::Created),
        ("/o/old", Outcome::Changed),
        ("/o/open", Outcome::MayHaveChanged),
        ("/o/output", Outcome::Inherited),
        ("/o/saved", Outcome::Replaced),
        ("/o/tmp", Outcome::Temporary),
    ];
    let expected: Vec<_> = expected.map(|(path, outcome)| (path.to_owned(), outcome)).into();
    assert_eq!(outcomes(&script), expected);
}

#[test]
fn what_was_open_before_the_recording_may_have_been_written_to() {
    let mut script = Script::new("/w");
    let exec = ProcessExec { initial: true, ..ProcessExec::default() };
    script.push(Some(1), exec);
    let found = |path: &str, flags: i32| {
        let path = path.as_bytes().to_vec().into();
        agentrec_trace::event::FdInitial { fd: 5, path, flags: flags.cast_unsigned() }
    };
    for path in ["/o/open", "/o/silent", "/o/written", "/dev/null", "pipe:[7]"] {
        script.push(Some(1), found(path, libc::O_WRONLY));
    }
    script.push(Some(1), found("/o/read", libc::O_RDONLY));
    for (path, written) in [("/o/silent", 0), ("/o/written", 9)] {
        let path = Some(path.as_bytes().to_vec().into());
        script.push(Some(1), FileClose { path, written, ..FileClose::default() });
    }
    let expected = [("/o/open", Outcome::MayHaveChanged), ("/o/written", Outcome::Changed)];
    assert_eq!(outcomes(&script), expected.map(|(path, outcome)| (path.to_owned(), outcome)));
    let rules = "deny.write = ['/o/*']";
    assert_eq!(broken(&script, rules), [("/o/open".to_owned(), 3), ("/o/written".to_owned(), 10)]);
}

#[test]
fn a_file_is_judged_by_what_its_name_leads_to() {
    let mut script = Script::new("/w");
    let path = |path: &str| path.as_bytes().to_vec().into();
    script.push(Some(1), FileSymlink { path: path("/w/etc"), target: path("/etc"), errno: None });
    script.modify(1, "/w/etc/passwd");
    script.push(
        Some(1),
        FileLink { from: path("/etc/group"), to: path("/w/g"), ..FileLink::default() },
    );
    script.modify(1, "/w/g");
    let bind = Mount {
        op: "mount".into(),
        source: path("/etc"),
        target: path("/w/bound"),
        flags: libc::MS_BIND,
        ..Mount::default()
    };
    script.push(Some(1), bind);
    script.modify(1, "/w/bound/hosts").unlink(1, "/w/etc").modify(1, "/w/etc/free");
    let broken = broken(&script, "deny.write = ['/etc/**']");
    let paths: Vec<_> = broken.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/etc/group", "/etc/hosts", "/etc/passwd"]);
    audited(&script, "", |audit| {
        assert!(audit.unseen.iter().any(|(what, _)| what.starts_with("mounts")))
    });
}

#[test]
fn what_failed_breaks_no_rule_but_is_told_of_a_secret() {
    let mut script = Script::new("/w");
    for errno in [libc::EACCES, libc::ENOENT] {
        let path = format!("/home/u/.netrc{errno}").into_bytes();
        let path = if errno == libc::EACCES { b"/home/u/.netrc".to_vec() } else { path };
        script.push(
            Some(1),
            FileOpen { path: path.into(), errno: Some(errno), ..FileOpen::default() },
        );
    }
    script.failing_unlink(1, "/etc/x", libc::EPERM);
    assert_eq!(
        broken(&script, "deny.write = ['/**']\ndeny.read = ['/**']\ndeny.secrets = true"),
        []
    );
    audited(&script, "", |audit| {
        let secrets: Vec<_> = audit.secrets.iter().map(|(_, item)| item.state.words()).collect();
        assert_eq!(secrets, [["refused"]]);
    });
}

#[test]
fn the_first_snapshot_knows_secrets_by_their_content() {
    let mut script = Script::new("/w");
    script.open(1, "/w/key", libc::O_RDONLY, false);
    script.open(1, "/w/lock", libc::O_RDONLY, false);
    assert_eq!(broken(&script, "deny.secrets = true"), [("/w/key".to_owned(), 2)]);
    let mut script = Script::new("/w");
    script.rename(1, "/home/u/.netrc", "/w/harmless");
    assert_eq!(broken(&script, "deny.secrets = true").len(), 1);
    assert_eq!(broken(&script, "deny.read = ['.netrc']").len(), 1);
    let mut script = Script::new("/w");
    script.rename(1, "/home/u/.gnupg", "/w/harmless");
    assert_eq!(broken(&script, "deny.secrets = true").len(), 1);
    assert_eq!(broken(&script, "deny.read = ['~/.gnupg/**']").len(), 1);
}

#[test]
fn a_datagram_socket_that_was_only_connected_has_reached_nobody() {
    let mut script = Script::new("/w");
    let silent = udp(&mut script, "10.0.0.1", 443, 3);
    script.push(Some(1), NetClose { open: Some(silent), ..NetClose::default() });
    // Several addresses are tried on one socket, and the close names one of them.
    let first = udp(&mut script, "10.0.0.2", 53, 4);
    let second = udp(&mut script, "10.0.0.3", 53, 4);
    script.push(Some(1), NetClose { open: Some(first), sent: 9, ..NetClose::default() });
    let open = udp(&mut script, "10.0.0.4", 53, 5);
    let found = broken(&script, "deny.connect = ['10.0.0.0/8']");
    let expected = [(first, "10.0.0.2:53"), (second, "10.0.0.3:53"), (open, "10.0.0.4:53")];
    assert_eq!(found, expected.map(|(seq, peer)| (peer.to_owned(), seq.0)));
}

#[test]
fn a_refused_connection_is_an_attempt_that_counts() {
    let mut script = Script::new("/w");
    script.connect(1, "10.0.0.1", 22, Some(libc::ECONNREFUSED)).connect(1, "10.0.0.1", 0, None);
    assert_eq!(broken(&script, "deny.connect = ['*:22']"), [("10.0.0.1:22".to_owned(), 2)]);
    audited(&script, "", |audit| assert_eq!(audit.hosts.len(), 1));
}

#[test]
fn requests_name_hosts_and_send_data() {
    let mut script = Script::new("/w");
    script.connect(1, "192.0.2.1", 443, None);
    for method in ["GET", "POST"] {
        let url = "https://Api.Example.org/v1?key=k".into();
        script.push(Some(1), HttpRequest { method: method.into(), url, ..HttpRequest::default() });
    }
    // A server of the session is asked, and asks nobody.
    let open = script.push(Some(1), NetAccept::default());
    let asked = HttpRequest {
        open: Some(open),
        method: "PUT".into(),
        url: "http://a.example.org/".into(),
        ..HttpRequest::default()
    };
    script.push(Some(1), asked);
    let rules = "deny.connect = ['*.example.org']\ndeny.lost = true";
    assert_eq!(broken(&script, rules), [("Api.Example.org".to_owned(), 3)], "every name is known");
    audited(&script, "", |audit| {
        let sent: Vec<_> = audit.irrevocable.iter().map(|((_, what), _)| what.as_str()).collect();
        assert_eq!(sent, ["POST https://Api.Example.org/v1"]);
    });
}

#[test]
fn what_is_not_in_the_trace_is_told_and_can_be_denied() {
    let mut script = Script::new("/w");
    script.exec(1, &["agent"]);
    let lost = |place: &'static str, reason: &'static str| Lost {
        place: place.into(),
        reason: reason.into(),
        ..Lost::default()
    };
    script.push(Some(1), Lost { count: Some(7), ..lost("ring", "full") });
    script.push(Some(1), lost("outside", "work may have been handed to docker"));
    script.push(Some(1), NetOpaque { reason: "go-tls".into(), ..NetOpaque::default() });
    script.fork(1, 2);
    script.push(None, SessionStop { left_running: 1, ..SessionStop::default() });
    audited(&script, "", |audit| {
        let unseen: Vec<_> =
            audit.unseen.iter().map(|(what, item)| (what.as_str(), item.state)).collect();
        assert_eq!(unseen.len(), 2, "{unseen:?}");
        assert!(unseen.contains(&("ring: full", 7)), "{unseen:?}");
        let undone: Vec<_> = audit.irrevocable.iter().map(|((kind, _), _)| *kind).collect();
        assert_eq!(undone, [HANDED_OVER, LEFT_RUNNING]);
        assert_eq!(audit.lost, 8);
    });
    assert_eq!(broken(&script, "deny.lost = true").len(), 4);
}

#[test]
fn programs_are_denied_by_any_of_their_names() {
    let mut script = Script::new("/w");
    let exec = |path: &str, exe: Option<&str>, initial, errno| ProcessExec {
        path: path.as_bytes().to_vec().into(),
        exe: exe.map(|exe| exe.as_bytes().to_vec().into()),
        initial,
        errno,
        ..ProcessExec::default()
    };
    script.push(Some(1), exec("/bin/x", Some("/usr/bin/real"), false, None));
    script.push(Some(2), exec("/bin/denied", None, true, None));
    script.push(Some(3), exec("/bin/denied", None, false, Some(libc::ENOENT)));
    for (rules, count) in [("'x'", 1), ("'real'", 1), ("'/usr/bin/*'", 1), ("'denied'", 0)] {
        assert_eq!(broken(&script, &format!("deny.exec = [{rules}]")).len(), count, "{rules}");
    }
}

#[test]
fn rules_are_asked_at_events_that_no_list_has_room_for() {
    let mut script = Script::new("/w");
    let long = "x".repeat(3 << 20);
    for n in 0..11 {
        script.unlink(1, &format!("/o/{n}{long}"));
    }
    script.unlink(1, "/o/last");
    audited(&script, "deny.write = ['last']", |audit| {
        assert!(audit.writes.beyond > 0);
        assert_eq!(audit.violations.len(), 1);
    });
}

/// Any event that an audit looks at.
fn event() -> impl Strategy<Value = (Option<u32>, Data<'static>)> {
    let path = prop_oneof![
        "(/(w|etc|o|\\.\\.|a|b|\\.env)){0,4}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..8)
    ];
    let seq = || (0u64..40).prop_map(Seq);
    let kind =
        (0u8..12, path.clone(), path, proptest::option::of(seq()), any::<u32>(), any::<u16>());
    let data = kind.prop_map(|(kind, a, b, seq, number, port)| -> Data<'static> {
        let (path, to) = (a.clone().into(), b.clone().into());
        match kind {
            0 | 1 => {
                FileOpen { path, flags: number, created: port & 1 == 1, ..FileOpen::default() }
                    .into()
            }
            2 => {
                FileClose { open: seq, path: Some(to), read: u64::MAX, written: u64::from(number) }
                    .into()
            }
            3 => FileSymlink { path, target: to, errno: None }.into(),
            4 => FileLink { from: path, to, open: seq, errno: None }.into(),
            5 => {
                agentrec_trace::event::FileRename { from: path, to, flags: number & 3, errno: None }
                    .into()
            }
            6 => agentrec_trace::event::FileUnlink { path, errno: None }.into(),
            7 => ProcessExec { path, argv: vec![to], ..ProcessExec::default() }.into(),
            8 => agentrec_trace::event::ProcessFork {
                child: ProcId(number % 5),
                ..Default::default()
            }
            .into(),
            9 => {
                let host = format!("10.0.0.{}", number % 3).into();
                let peer = Address { family: "inet".into(), host, port, ..Address::default() };
                let protocol = if number & 1 == 1 { "udp".into() } else { "tcp".into() };
                NetConnect { fd: 3, protocol, peer, ..NetConnect::default() }.into()
            }
            10 => NetClose { open: seq, sent: u64::from(number), ..NetClose::default() }.into(),
            _ => SessionStop { left_running: number % 2, ..SessionStop::default() }.into(),
        }
    });
    (proptest::option::of(0u32..5), data)
}

proptest! {
    #[test]
    fn any_events_are_survived(events in proptest::collection::vec(event(), 0..60)) {
        let rules = Rules::parse("deny.write = ['/etc/**']\ndeny.connect = ['*']", "r", &Place::default()).expect("rules");
        let tree = WorkingTree { roots: vec![b"/w".to_vec()], is_secret: &|_| false, link: &|_| None };
        let mut audit = Audit::new(&rules, tree, "");
        for (n, (proc, data)) in events.into_iter().enumerate() {
            let mut event = Event::new(n as u64, Source::Kernel, data);
            event.seq = Seq(n as u64 + 1);
            event.proc = proc.map(ProcId);
            audit.add(&event);
        }
        audit.finish(Seq(60), Some("cut".into()));
    }
}
