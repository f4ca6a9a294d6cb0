//! SIGKILL to either process: the trace reads up to its last frame, and the whole tree is gone.

use std::io::BufRead;

use agentrec_trace::event::{Content, TermOutput};
use agentrec_trace::{Data, Event, Status};
use nix::sys::signal::{Signal, kill};

use super::harness::{Place, Running, boottime, wait_for_recorder};

/// What a killed recorder may lose, and the resolution of /proc/uptime, in nanoseconds.
const MAX_MISSING: u64 = 250_000_000;
const UPTIME_STEP: u64 = 10_000_000;

/// Writes files, and lines with the time, without end; every descendant holds the output too.
const BUSY: &str = "
    (sleep 1000 &) ; setsid sleep 1000 &
    i=0; while :; do i=$((i+1)); echo $i > f$((i%5)); read up rest < /proc/uptime; echo $up; done";

/// Numbers that differ from run to run, from the kernel.
fn random() -> u64 {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes)
        .unwrap();
    u64::from_ne_bytes(bytes)
}

/// Lets the command run until a random one of its first lines: about a second on a slow machine, which is some frames.
/// Returns what it wrote.
fn let_run(running: &mut Running) -> Vec<String> {
    (0..=random() % 200).map(|_| running.line()).collect()
}

/// The time of a line of [`BUSY`].
fn time(line: &str) -> u64 {
    let hundredths: u64 = line.replace('.', "").parse().unwrap();
    hundredths * UPTIME_STEP
}

/// How many lines are in the events' output.
fn output_lines(events: &[Event<'_>]) -> usize {
    let lines = |event: &Event<'_>| match &event.data {
        Data::TermOutput(TermOutput { data: Content::Inline(bytes), .. }) => {
            bytes.iter().filter(|byte| **byte == b'\n').count()
        }
        _ => 0,
    };
    events.iter().map(lines).sum()
}

fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("AGENTREC_LONG").is_some() { long } else { short }
}

#[test]
fn a_killed_recorder_loses_no_more_than_its_last_250_ms() {
    for round in 0..rounds(100, 1000) {
        let place = Place::new();
        let mut running = place.start(&["sh", "-c", BUSY]);
        let mut lines = let_run(&mut running);
        let recorder = running.recorder_pid();
        kill(recorder, Signal::SIGKILL).unwrap();
        let killed = boottime();
        // Returns when nobody holds the output any more: the whole tree is gone.
        let ended = running.end();
        assert_eq!(ended.code(), 125, "{}", ended.stderr);
        assert!(ended.stderr.contains("the recorder was killed (signal 9)"), "{}", ended.stderr);
        wait_for_recorder(&ended.trace);
        let reader = ended.reader();
        assert!(matches!(reader.status(), Status::Incomplete { .. }), "{:?}", reader.status());
        let events = ended.events();
        assert!(matches!(events[0].data, Data::SessionStart(_)));
        assert!(events.iter().zip(1..).all(|(event, number)| event.seq.0 == number));
        // A line was certainly written when the command looked at the clock for the next one.
        lines.extend(ended.stdout.lines().map(str::to_owned));
        let due = killed - MAX_MISSING - UPTIME_STEP;
        let old = lines.iter().skip(1).filter(|line| time(line) <= due).count();
        let recorded = output_lines(&events);
        assert!(recorded >= old, "round {round}: {} old lines are missing", old - recorded);
    }
}

#[test]
fn a_killed_front_ends_the_tree_and_the_trace_says_so() {
    for _ in 0..rounds(20, 200) {
        let place = Place::new();
        let mut running = place.start(&["sh", "-c", BUSY]);
        let_run(&mut running);
        running.signal(Signal::SIGKILL);
        let mut rest = Vec::new();
        while running.stdout.read_until(b'\n', &mut rest).unwrap() > 0 {}
        running.front.wait();
        wait_for_recorder(&running.trace);
        let events = super::harness::events(&running.trace);
        let Data::SessionStop(stop) = &events.last().unwrap().data else { panic!("{events:?}") };
        assert_eq!(stop.reason, "error");
        assert_eq!(std::fs::read_dir(place.path("home/run")).unwrap().count(), 0);
    }
}

#[test]
fn a_recorder_that_is_killed_while_the_command_waits_for_it_leaves_nothing() {
    for _ in 0..rounds(20, 200) {
        let place = Place::new();
        place.write("file", "content");
        let mut running = place.start(&["sh", "-c", "echo started; exec sleep 1000"]);
        // As early as it can be found: before, while or after the first snapshot is taken.
        let recorder = running.recorder_pid();
        kill(recorder, Signal::SIGKILL).unwrap();
        let line = running.line();
        let ended = running.end();
        assert_eq!(ended.code(), 125, "{}", ended.stderr);
        assert!(["", "started"].contains(&line.as_str()));
    }
}
