//! What goes through TLS libraries, as the process gives and gets it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;

use agentrec_recorder::observation::Direction;
use agentrec_recorder::source::{ExitStatus, Report, Stream, StreamId};
use agentrec_trace::ProcId;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::harness::{Recorded, Recording, User};

/// A stream of a TLS library.
#[derive(Debug, Default)]
pub struct Tls {
    proc: Option<ProcId>,
    pub written: Vec<u8>,
    pub read: Vec<u8>,
    missing: u64,
    /// The peer said that no more comes.
    ended: bool,
    over: bool,
}

/// All streams in the order in which they began.
pub fn streams(recorded: &Recorded) -> Vec<Tls> {
    let mut streams: BTreeMap<u32, Tls> = BTreeMap::new();
    for report in &recorded.reports {
        let Report::Stream(streamed) = report else { continue };
        let StreamId::Tls(id) = streamed.id else { continue };
        let stream = streams.entry(id).or_default();
        match &streamed.what {
            Stream::Began(_) => stream.proc = streamed.proc,
            Stream::Bytes { direction: Direction::Read, data } => stream.read.extend(data),
            Stream::Bytes { direction: Direction::Write, data } => stream.written.extend(data),
            Stream::Missing { count, .. } => stream.missing += count,
            Stream::End { .. } => stream.ended = true,
            Stream::Over { .. } => stream.over = true,
            Stream::Decrypted | Stream::Opaque(_) | Stream::Sum { .. } => {
                panic!("only the proxy says that")
            }
        }
    }
    assert!(streams.values().all(|stream| stream.missing == 0));
    streams.into_values().collect()
}

fn record(user: User, args: &[&str]) -> (Recorded, Vec<Tls>) {
    let recorded = Recording::tracee("tls").args(args).user(user).run();
    let said = String::from_utf8_lossy(&recorded.stderr);
    assert_eq!(recorded.status(), ExitStatus::Code(0), "{user:?} {args:?}: {said}");
    let losses: Vec<_> =
        recorded.lines().into_iter().filter(|line| line.contains("lost")).collect();
    assert!(losses.is_empty(), "{losses:?}");
    let streams = streams(&recorded);
    (recorded, streams)
}

/// What `tls.c` sends in somebody's name.
fn messages(who: &str, numbers: std::ops::Range<u32>) -> Vec<u8> {
    numbers.map(|number| format!("{who:<20} {number:010}\n")).collect::<String>().into_bytes()
}

fn threads_at_once(user: User, threads: usize, messages_of_each: u32) {
    let args = ["threads", &threads.to_string(), &messages_of_each.to_string()];
    let (_, streams) = record(user, &args);
    let written: Vec<&Tls> = streams.iter().filter(|stream| !stream.written.is_empty()).collect();
    let read: Vec<&Tls> = streams.iter().filter(|stream| !stream.read.is_empty()).collect();
    assert_eq!((written.len(), read.len(), streams.len()), (threads, threads, 2 * threads));
    assert!(streams.iter().all(|stream| stream.over && !stream.ended));
    for thread in 0..threads {
        let expected = messages(&format!("thread {thread}"), 0..messages_of_each);
        assert!(written.iter().any(|stream| stream.written == expected), "{thread} wrote");
        assert!(read.iter().any(|stream| stream.read == expected), "{thread} read");
    }
}

#[test]
fn fifty_threads_at_once() {
    for user in User::all() {
        threads_at_once(user, 50, 100);
    }
}

#[test]
#[ignore = "takes a minute"]
fn long_a_million_calls_of_fifty_threads() {
    // A write, a read, and one that finds nothing.
    threads_at_once(User::Same, 50, 1_000_000 / 50 / 3 + 1);
}

#[test]
fn copies_of_a_process() {
    for user in User::all() {
        let (recorded, streams) = record(user, &["forks"]);
        let by = |proc: u32, wrote: &[u8]| {
            let is_it = |stream: &&Tls| {
                stream.proc == Some(ProcId(proc))
                    && (&stream.written, &stream.read) == (&wrote.to_vec(), &vec![])
            };
            streams.iter().filter(is_it).count()
        };
        let both = messages("both", 0..5);
        assert_eq!(by(1, &[both, messages("parent", 5..10)].concat()), 1, "{streams:?}");
        assert_eq!(by(2, &messages("child", 5..10)), 1, "{streams:?}");
        assert_eq!(by(2, &messages("executed", 0..3)), 1, "{streams:?}");
        assert_eq!(by(3, b"vforked\n"), 1, "{streams:?}");
        // What came, at the other ends.
        assert_eq!(streams.iter().filter(|stream| !stream.read.is_empty()).count(), 3);
        assert_eq!(recorded.lines().iter().filter(|line| line.contains(" exit 0")).count(), 3);
    }
}

#[test]
fn one_large_buffer() {
    let (_, streams) = record(User::Same, &["large"]);
    let expected: Vec<u8> =
        (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let [writer, reader] = &streams[..] else { panic!("{} streams", streams.len()) };
    let (writer, reader) = if writer.read.is_empty() { (writer, reader) } else { (reader, writer) };
    assert!(writer.written == expected && writer.read.is_empty());
    assert!(reader.read == expected && reader.written.is_empty());
    assert!(reader.ended);
}

#[test]
fn its_own_breakpoints_are_the_process_s() {
    for user in User::all() {
        let (_, streams) = record(user, &["own"]);
        let expected = [messages("before", 0..2), messages("after", 2..4)].concat();
        assert!(streams.iter().any(|stream| stream.written == expected), "{streams:?}");
    }
}

#[test]
fn a_process_that_closes_its_memory() {
    for user in User::all() {
        let recorded = Recording::tracee("tls").args(["hides"]).user(user).run();
        assert_eq!(recorded.status(), ExitStatus::Code(0));
        let lost = recorded.lines().iter().filter(|line| line.contains("lost tls")).count();
        let privileged = user == User::Same && User::all().len() > 1;
        let seen = if privileged { 0..4 } else { 0..2 };
        let expected: Vec<u8> = (seen.clone())
            .flat_map(|at| messages(if at < 2 { "before" } else { "after" }, at..at + 1))
            .collect();
        assert!(streams(&recorded).iter().any(|stream| stream.written == expected));
        assert_eq!(lost, usize::from(!privileged));
    }
}

#[test]
fn a_silent_tracer_takes_them_out() {
    let prepare = |dir: &Path| mkfifo(&dir.join("go"), Mode::from_bits_retain(0o666)).unwrap();
    let mut running = Recording::tracee("tls").args(["waits"]).with(prepare).start();
    running.wait_for_open("ready");
    running.control().silence();
    running.control().fence(7);
    running.wait_for(|report| (*report == Report::Fence(7)).then_some(()));
    OpenOptions::new().write(true).open(running.dir().join("go")).unwrap();
    let recorded = running.finish();
    assert_eq!(recorded.status(), ExitStatus::Code(0));
    assert_eq!(String::from_utf8_lossy(&recorded.stdout), "breakpoint code\n");
    let written: Vec<u8> = streams(&recorded).iter().flat_map(|it| it.written.clone()).collect();
    assert_eq!(written, messages("before", 0..2));
}

#[test]
fn a_library_that_goes_and_comes_again() {
    let (_, streams) = record(User::Same, &["again"]);
    let written: Vec<u8> = streams.iter().flat_map(|stream| stream.written.clone()).collect();
    assert_eq!(written, messages("again", 0..6));
}
