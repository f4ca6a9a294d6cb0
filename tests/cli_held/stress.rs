//! Programs that try to make a recorder lose or misplace events: held against strace where every run does the same, else
//! against what their source says.

use std::collections::BTreeMap;
use std::path::Path;

use agentrec_trace::event::FileClose;
use agentrec_trace::{Data, Event, ProcId, Reader, Seq};

use super::stage::{Stage, must_run, write};

fn compile(work: &Path, name: &str, code: &str) {
    write(work, &format!("{name}.c"), code);
    must_run(work, "cc", &["-static", "-O1", "-w", "-pthread", "-o", name, &format!("{name}.c")]);
}

#[test]
fn paths() {
    let prepare = |work: &Path| compile(work, "paths", include_str!("stress/paths.c"));
    Stage::new(prepare, &["./paths"]).hold_against_strace();
}

#[test]
fn descriptors() {
    descriptors_by("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_descriptors() {
    descriptors_by("ebpf");
}

fn descriptors_by(engine: &'static str) {
    let prepare = |work: &Path| compile(work, "descriptors", include_str!("stress/descriptors.c"));
    Stage::new(prepare, &["./descriptors"]).by(engine).hold_against_strace();
}

/// The events of one recorded run, and nothing lost.
fn events(stage: &Stage) -> Vec<Event<'static>> {
    let reader = Reader::open(stage.record()).expect("a trace");
    let events: Vec<_> = reader.iter().collect::<Result<_, _>>().expect("a readable trace");
    let lost: Vec<_> = events.iter().filter(|event| matches!(event.data, Data::Lost(_))).collect();
    assert!(lost.is_empty(), "{lost:?}");
    events
}

/// Who opened what, and every close with who did it.
#[derive(Default)]
struct Descriptions {
    opened: BTreeMap<Seq, (ProcId, String)>,
    closed: Vec<(ProcId, FileClose<'static>)>,
}

fn descriptions(events: &[Event<'static>]) -> Descriptions {
    let mut found = Descriptions::default();
    for event in events {
        let Some(proc) = event.proc else { continue };
        match &event.data {
            Data::FileOpen(open) if open.errno.is_none() => {
                let name = open.path.as_path().file_name().expect("a file");
                let name = name.to_string_lossy().into_owned();
                found.opened.insert(event.seq, (proc, name));
            }
            Data::FileClose(close) => found.closed.push((proc, close.clone())),
            _ => {}
        }
    }
    found
}

#[test]
fn threads_that_race_for_descriptors() {
    race_by("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_threads_that_race_for_descriptors() {
    race_by("ebpf");
}

fn race_by(engine: &'static str) {
    const ROUNDS: usize = 150;
    let prepare = |work: &Path| compile(work, "race", include_str!("stress/race.c"));
    let found = descriptions(&events(&Stage::new(prepare, &["./race"]).by(engine)));
    let mut closes: BTreeMap<Seq, Vec<&FileClose<'_>>> = BTreeMap::new();
    for (_, close) in &found.closed {
        closes.entry(close.open.expect("all were opened here")).or_default().push(close);
    }
    let mut opens: BTreeMap<&str, usize> = BTreeMap::new();
    for (seq, (_, name)) in found.opened.iter().filter(|(_, (_, name))| name.starts_with('t')) {
        *opens.entry(name).or_default() += 1;
        let closed = closes.get(seq).map(Vec::as_slice).unwrap_or_default();
        let sums: Vec<_> = closed.iter().map(|close| (close.read, close.written)).collect();
        assert_eq!(sums, [(0, 8)], "{name} {seq:?}");
    }
    assert_eq!(opens.len(), 8);
    assert!(opens.values().all(|&times| times == ROUNDS), "{opens:?}");
}

#[test]
fn short_processes() {
    short_by("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_short_processes() {
    short_by("ebpf");
}

fn short_by(engine: &'static str) {
    const PROCESSES: usize = 5000;
    let prepare = |work: &Path| compile(work, "short", include_str!("stress/short.c"));
    let events = events(&Stage::new(prepare, &["./short"]).by(engine));
    let mut names: BTreeMap<String, ProcId> = BTreeMap::new();
    for (_, (proc, name)) in descriptions(&events).opened {
        assert_eq!(names.insert(name, proc), None);
    }
    let of_each: std::collections::BTreeSet<_> = names.values().collect();
    assert_eq!((names.len(), of_each.len()), (PROCESSES, PROCESSES));
    let ended = |event: &&Event<'_>| match &event.data {
        Data::ProcessExit(exit) => exit.code == Some(7),
        _ => false,
    };
    assert_eq!(events.iter().filter(ended).count(), PROCESSES);
}

#[test]
fn a_crowd_with_an_inherited_descriptor() {
    let prepare = |work: &Path| compile(work, "crowd", include_str!("stress/crowd.c"));
    let events = events(&Stage::new(prepare, &["./crowd"]));
    let mut ends: BTreeMap<(Option<i32>, Option<i32>), usize> = BTreeMap::new();
    for event in &events {
        if let Data::ProcessExit(exit) = &event.data {
            *ends.entry((exit.code, exit.signal)).or_default() += 1;
        }
    }
    let forks = events.iter().filter(|event| matches!(event.data, Data::ProcessFork(_))).count();
    assert_eq!(forks, 2000);
    assert_eq!(ends, BTreeMap::from([((Some(0), None), 1601), ((None, Some(libc::SIGKILL)), 400)]));
    let found = descriptions(&events);
    let (&all, (parent, _)) =
        found.opened.iter().find(|(_, (_, name))| name == "all").expect("it is opened");
    let mut written: BTreeMap<u64, usize> = BTreeMap::new();
    let mut own: BTreeMap<Seq, usize> = BTreeMap::new();
    for (proc, close) in &found.closed {
        let open = close.open.expect("all were opened here");
        if open == all {
            assert_eq!(proc == parent, close.written == 3, "{proc} {close:?}");
            *written.entry(close.written).or_default() += 1;
        } else {
            // Who is killed may have written, or not.
            assert!(close.written <= 1 && found.opened[&open].0 == *proc, "{proc} {close:?}");
            *own.entry(open).or_default() += 1;
        }
    }
    assert_eq!(written, BTreeMap::from([(3, 1), (7, 1600)]));
    let others = found.opened.keys().filter(|&&seq| seq != all);
    let not_once: Vec<_> = others.filter(|seq| own.get(seq) != Some(&1)).collect();
    assert!(not_once.is_empty(), "{} of {}: {not_once:?}", not_once.len(), found.opened.len());
}
