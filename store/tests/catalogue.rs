//! The catalogue: finding sessions, losing the file without losing a trace, and what a prune would take.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentrec_store::{Catalogue, Counts, Error, Home, PruneLimits, PruneReason, Session, State};
use agentrec_trace::event::{Lineage, SessionStart, SessionStop};
use agentrec_trace::{Event, Source, Writer, WriterOptions};
use tempfile::TempDir;

struct Fixture {
    dir: TempDir,
    home: Home,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        home.create().unwrap();
        Self { dir, home }
    }

    fn open(&self) -> Catalogue {
        Catalogue::open(&self.home).unwrap()
    }
}

fn session(id: &str, started: i64) -> Session {
    Session {
        id: id.to_owned(),
        trace: format!("/traces/{id}.zst").into(),
        cwd: "/work".into(),
        started,
        state: State::Complete,
        ..Session::default()
    }
}

/// A sealed trace with nothing but its start and its stop.
fn write_trace(path: &Path, id: &str, wall: i64) {
    let mut writer =
        Writer::new(fs::File::create(path).unwrap(), WriterOptions::default()).unwrap();
    let start = SessionStart {
        session: id.into(),
        name: Some("nightly".into()),
        argv: vec!["make".into(), "-j2".into()],
        cwd: "/work".into(),
        wall,
        parent: Some(Lineage { session: "aaaabbbb".into(), at: "s2".into(), edits: vec![] }),
        ..SessionStart::default()
    };
    writer.append(&Event::new(1, Source::Recorder, start)).unwrap();
    let stop = SessionStop { code: Some(3), duration: 42, lost: 7, ..SessionStop::default() };
    writer.append(&Event::new(43, Source::Recorder, stop)).unwrap();
    writer.seal().unwrap();
}

#[test]
fn a_session_whose_recorder_ended_without_a_word_is_not_running() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    let trace = fixture.home.traces().join("endeddd2.zst");
    write_trace(&trace, "endeddd2", 7);
    let running = |id| Session { state: State::Recording, ..session(id, 7) };
    let counts = Counts { added: 5, ..Counts::default() };
    catalogue.put(&Session { trace, counts, ..running("endeddd2") }).unwrap();
    // Somebody writes it.
    let trace = fixture.home.traces().join("writtenn.zst");
    write_trace(&trace, "writtenn", 7);
    let bytes = fs::read(&trace).unwrap();
    fs::write(&trace, &bytes[..bytes.len() / 2]).unwrap();
    let writer = fs::File::open(&trace).unwrap();
    writer.lock().unwrap();
    catalogue.put(&Session { trace, ..running("writtenn") }).unwrap();
    let ended = || {
        let listed = catalogue.list().unwrap();
        let states =
            |session: Session| (session.id, session.state, session.code, session.counts.added);
        listed.into_iter().map(states).collect::<Vec<_>>()
    };
    let complete = ("endeddd2".to_owned(), State::Complete, Some(3), 5);
    assert_eq!(ended(), [complete, ("writtenn".to_owned(), State::Recording, None, 0)]);
    assert_eq!(catalogue.get("endeddd2").unwrap().unwrap().state, State::Complete);
}

#[test]
fn every_field_survives() {
    let fixture = Fixture::new();
    let session = Session {
        id: "k7q3mmmm".into(),
        name: Some("n".into()),
        trace: "/t/\u{e9}.zst".into(),
        cwd: "/w".into(),
        argv: vec![b"a\xff".to_vec(), b"".to_vec(), b"c d".to_vec()],
        started: 1,
        duration: Some(2),
        code: Some(-1),
        signal: Some(9),
        state: State::Incomplete,
        parent: Some("p".into()),
        parent_at: Some("s2".into()),
        socket: Some("/run/s".into()),
        recorder_pid: Some(4_000_000_000),
        counts: Counts { events: 1, lost: 2, trace_bytes: 3, added: 4, changed: 5, deleted: 6 },
    };
    fixture.open().put(&session).unwrap();
    assert_eq!(fixture.open().get("k7q3mmmm").unwrap(), Some(session));
}

#[test]
fn sessions_are_found_by_unique_prefix_or_name() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    for (id, started) in [("k7q3aaaa", 1), ("k7q3abbb", 2), ("mmmmmmmm", 3)] {
        catalogue.put(&session(id, started)).unwrap();
    }
    catalogue.put(&Session { name: Some("nightly".into()), ..session("zzzzzzzz", 0) }).unwrap();
    assert_eq!(catalogue.find("mmmm").unwrap().id, "mmmmmmmm");
    assert_eq!(catalogue.find("nightly").unwrap().id, "zzzzzzzz");
    assert_eq!(catalogue.find("k7q3aa").unwrap().id, "k7q3aaaa");
    assert!(
        matches!(catalogue.find("k7q3"), Err(Error::AmbiguousSession { ids, .. }) if ids.len() == 2)
    );
    assert!(matches!(catalogue.find("mmm"), Err(Error::NoSession(_))), "too short to be meant");
    assert!(matches!(catalogue.find("%%%%"), Err(Error::NoSession(_))), "no pattern");
    assert_eq!(catalogue.short_id("mmmmmmmm").unwrap(), "mmmm");
    assert_eq!(catalogue.short_id("k7q3abbb").unwrap(), "k7q3ab");
}

#[test]
fn the_last_session_of_a_directory_is_the_one_that_began_last() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    catalogue.put(&session("aaaaaaaa", 5)).unwrap();
    catalogue.put(&session("bbbbbbbb", 9)).unwrap();
    catalogue.put(&Session { cwd: "/elsewhere".into(), ..session("cccccccc", 10) }).unwrap();
    assert_eq!(catalogue.last_for_directory(Path::new("/work")).unwrap().unwrap().id, "bbbbbbbb");
    assert_eq!(catalogue.last_for_directory(Path::new("/")).unwrap(), None);
    assert_eq!(catalogue.last().unwrap().unwrap().id, "cccccccc");
}

#[test]
fn two_processes_write_at_once() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.open(), fixture.open());
    one.put(&session("aaaaaaaa", 1)).unwrap();
    two.put(&session("bbbbbbbb", 2)).unwrap();
    assert_eq!(one.list().unwrap().len(), 2);
}

#[test]
fn a_damaged_catalogue_is_moved_aside_and_made_again() {
    for damage in ["not a database at all, just some text that is long enough", ""] {
        let fixture = Fixture::new();
        let catalogue = fixture.open();
        write_trace(&fixture.home.trace("k7q3aaaa"), "k7q3aaaa", 77);
        catalogue.rescan(&[]).unwrap();
        drop(catalogue);
        fs::write(fixture.home.catalogue(), damage).unwrap();

        let catalogue = fixture.open();
        assert_eq!(catalogue.moved_aside().is_some(), !damage.is_empty());
        let found = catalogue.find("k7q3").unwrap();
        assert_eq!(found.trace, fixture.home.trace("k7q3aaaa"));
        assert_eq!((found.started, found.duration, found.code), (77, Some(42), Some(3)));
        assert_eq!((found.state, found.counts.lost, found.counts.events), (State::Complete, 7, 2));
        assert_eq!(found.argv, [b"make".to_vec(), b"-j2".to_vec()]);
        assert_eq!(
            (found.name.as_deref(), found.parent_at.as_deref()),
            (Some("nightly"), Some("s2"))
        );
    }
}

#[test]
fn pages_that_are_overwritten_are_noticed() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    for n in 0..500 {
        catalogue.put(&session(&format!("aaaa{n:04}"), n)).unwrap();
    }
    drop(catalogue);
    let path = fixture.home.catalogue();
    let mut bytes = fs::read(&path).unwrap();
    let len = bytes.len();
    bytes[len / 2..len / 2 + 4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    assert!(fixture.open().moved_aside().is_some());
}

#[test]
fn a_rescan_follows_moved_traces_and_forgets_lost_ones() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    let path = |name: &str| fixture.dir.path().join(name);
    write_trace(&path("a.zst"), "aaaaaaaa", 1);
    write_trace(&path("b.zst"), "bbbbbbbb", 2);
    fs::write(path("c.zst"), "no trace").unwrap();
    let dirs = [fixture.dir.path().to_owned()];
    let report = catalogue.rescan(&dirs).unwrap();
    assert_eq!(report.added, ["aaaaaaaa", "bbbbbbbb"]);
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(catalogue.rescan(&dirs).unwrap().updated, [""; 0]);

    fs::rename(path("a.zst"), path("moved.zst")).unwrap();
    fs::remove_file(path("b.zst")).unwrap();
    let report = catalogue.rescan(&dirs).unwrap();
    assert_eq!(report.updated, ["aaaaaaaa"]);
    assert_eq!(report.forgotten, ["bbbbbbbb"]);
    assert_eq!(catalogue.find("aaaaaaaa").unwrap().trace, path("moved.zst"));
}

#[test]
fn a_prune_takes_the_old_and_then_the_oldest_of_the_rest() {
    const DAY: i64 = 24 * 3600 * 1_000_000_000;
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    let add = |id: &str, day: i64, state: State, trace: Option<PathBuf>| {
        let trace = trace.unwrap_or_else(|| fixture.home.trace(id));
        fs::write(&trace, [0; 100]).unwrap();
        catalogue.put(&Session { trace, state, ..session(id, day * DAY) }).unwrap();
    };
    add("oldaaaaa", 1, State::Complete, None);
    add("runaaaaa", 1, State::Recording, None);
    add("ownaaaaa", 1, State::Complete, Some(fixture.dir.path().join("own.zst")));
    add("midaaaaa", 8, State::Complete, None);
    add("newaaaaa", 9, State::Complete, None);

    let limits =
        PruneLimits { keep_last: Some(Duration::from_secs(7 * 24 * 3600)), max_size: Some(250) };
    let plan = catalogue.plan_prune(limits, 10 * DAY).unwrap();
    let ids: Vec<_> = plan.iter().map(|p| (p.session.id.as_str(), p.reason)).collect();
    assert_eq!(
        ids,
        [("oldaaaaa", PruneReason::Age)],
        "the two younger ones have room, and the running one stays anyway"
    );
    let limits = PruneLimits { max_size: Some(199), ..limits };
    let plan = catalogue.plan_prune(limits, 10 * DAY).unwrap();
    let ids: Vec<_> = plan.iter().map(|p| (p.session.id.as_str(), p.reason)).collect();
    assert_eq!(ids, [("oldaaaaa", PruneReason::Age), ("midaaaaa", PruneReason::Size)]);

    fs::create_dir(fixture.home.session_work("midaaaaa")).unwrap();
    for pruned in plan {
        catalogue.remove(&pruned.session).unwrap();
    }
    assert!(!fixture.home.trace("midaaaaa").exists());
    assert!(!fixture.home.session_work("midaaaaa").exists());
    catalogue.remove(&catalogue.find("ownaaaaa").unwrap()).unwrap();
    assert!(
        fixture.dir.path().join("own.zst").exists(),
        "the user's own file is not ours to remove"
    );
    let left: Vec<_> = catalogue.list().unwrap().into_iter().map(|session| session.id).collect();
    assert_eq!(left, ["newaaaaa", "runaaaaa"]);
}
