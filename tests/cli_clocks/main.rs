//! Recordings on a machine whose clocks step: the wall clock is set, the machine sleeps, the agent has clocks of its own.
//!
//! `stepping.c` is preloaded into the recorder, so that nobody's clock has to be set.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agentrec_trace::event::{Content, TermOutput};
use agentrec_trace::{Data, Event, Reader, Source};
use serde_json::Value;

use common::{Live, TestEnv, of_kind, recorded};

/// Whoever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: u64 = 3_600_000_000_000;
const MINUTE: u64 = HOUR / 60;

/// A place where the recorder's clocks step when a file in a directory says so.
struct Clocks {
    env: TestEnv,
    library: PathBuf,
    steps: PathBuf,
}

impl Clocks {
    fn new() -> Self {
        let env = TestEnv::new();
        let (library, steps) = (env.outside("stepping.so"), env.outside("steps"));
        fs::create_dir(&steps).expect("a directory of ours");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli_clocks/stepping.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .status();
        assert!(compiled.expect("a C compiler is there").success());
        Self { env, library, steps }
    }

    fn trace(&self) -> PathBuf {
        self.env.outside("trace.zst")
    }

    /// Records a script with clocks that step.
    fn start(&self, script: &str) -> Live {
        let trace = self.trace();
        let trace = trace.to_str().expect("text");
        let args = ["run", "--json", "-o", trace, "--", "sh", "-c", script];
        let mut command = self.env.agentrec(args);
        command.env("LD_PRELOAD", &self.library).env("CLOCK_STEPS", &self.steps);
        Live::start(command)
    }

    fn events(&self) -> Vec<Event<'static>> {
        events(&self.trace())
    }

    /// Waits until an event is in the file, which nothing but time can bring there while the command waits.
    fn wait_for(&self, wanted: impl Fn(&Event<'_>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.events().iter().any(&wanted) {
            assert!(Instant::now() < deadline, "it is not written");
            std::thread::yield_now();
        }
    }
}

fn events(trace: &Path) -> Vec<Event<'static>> {
    Reader::open(trace).expect("a trace").iter().map(|event| event.expect("sound")).collect()
}

fn opens(event: &Event<'_>, path: &Path) -> bool {
    matches!(&event.data, Data::FileOpen(open) if open.path.as_path() == path)
}

fn says(event: &Event<'_>, text: &str) -> bool {
    matches!(&event.data, Data::TermOutput(TermOutput { data: Content::Inline(bytes), .. })
        if bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}

/// Times of what the kernel reports, in the order of the trace. What is held back has the time of its first byte.
fn times(events: &[Event<'_>]) -> Vec<u64> {
    let held = |event: &&Event<'_>| matches!(event.data, Data::TermOutput(_));
    let seen = events.iter().filter(|event| event.source == Source::Kernel);
    seen.filter(|event| !held(event)).map(|event| event.ts).collect()
}

/// All values of this name, however deep.
fn values<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| values(value, name, found)),
        Value::Object(fields) => {
            found.extend(fields.get(name));
            fields.values().for_each(|value| values(value, name, found));
        }
        _ => {}
    }
}

fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_nanos() as u64
}

/// The CPUs that a process may use.
fn cpus(pid: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:"));
    line.expect("proc(5)").to_owned()
}

#[test]
fn steps_of_the_clocks_change_neither_the_run_nor_the_trace() {
    let clocks = Clocks::new();
    let began = wall_clock();
    let steps = clocks.steps.display();
    let script = format!(
        "echo content > file
        for step in back forward slept; do : > {steps}/$step; echo $step; read x; done
        printf 'Name: '; read x
        i=0; while [ $i -lt 300 ]; do : < file; i=$((i+1)); done; echo $$ > pid; echo stopped
        read x; rm {steps}/forward; touch file; echo $x > last; exit 7"
    );
    let mut live = clocks.start(&script);
    for step in ["back", "forward", "slept"] {
        live.wait_for(step);
        // Frames are closed when they are old.
        clocks.wait_for(|event| opens(event, &clocks.steps.join(step)));
        live.tell("on");
    }
    // Output that may go on is held back for a while.
    clocks.wait_for(|event| says(event, "Name: "));
    live.tell("on");
    live.wait_for("Name: stopped");
    // CPUs that were lent are given back.
    let deadline = Instant::now() + PATIENCE;
    let pid = clocks.env.read("pid").expect("it is written");
    while cpus(pid.trim()) != cpus("self") {
        assert!(Instant::now() < deadline, "it keeps {}", cpus(pid.trim()));
        std::thread::yield_now();
    }
    live.tell("done");
    let ran = live.finish();
    assert_eq!((ran.code, ran.stdout.as_str()), (7, ""), "{ran:?}");
    assert_eq!(clocks.env.read("last").as_deref(), Some("done\n"));
    let took = wall_clock() - began;

    let events = clocks.events();
    let times = times(&events);
    assert!(times.is_sorted(), "{times:?}");
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let hours: Vec<_> = gaps.filter(|&gap| gap >= HOUR).collect();
    assert!(matches!(hours[..], [gap] if gap < HOUR + took), "it slept once: {hours:?}");
    // Times that the recorder took from the wall clock itself.
    let touched = events.iter().find_map(|event| match &event.data {
        Data::FileUtime(utime) => utime.mtime,
        _ => None,
    });
    let touched = touched.expect("a time") as u64;
    assert!((began - HOUR..began - HOUR + took).contains(&touched), "the clock was set back");

    let env = &clocks.env;
    assert!(env.ok(["verify", "last"]).starts_with("complete: "));
    let asleep = HOUR..=HOUR + took;
    let closing = &recorded(&ran).closing;
    let duration = closing["duration"].as_u64().expect("a number");
    assert!(asleep.contains(&duration), "{closing}");
    let listed = env.json(["list"]);
    assert_eq!(listed[0]["duration"], duration, "{listed:?}");
    for shown in [listed, env.json(["show"]), env.json(["info"]), env.json(["ps"])] {
        for value in &shown {
            // Sessions have times of day, what is in them has its distance from the start.
            let day = if value["kind"] == "session" { began } else { 0 };
            let limits = day..=day + duration;
            for (name, limits) in
                [("duration", 0..=duration), ("started", limits.clone()), ("ended", limits)]
            {
                let mut found = Vec::new();
                values(value, name, &mut found);
                let sane = |value: &&Value| {
                    value.is_null() || value.as_u64().is_some_and(|n| limits.contains(&n))
                };
                assert!(found.iter().all(sane), "{name}: {value}");
            }
        }
    }
    let shown = env.ok(["list"]);
    assert!(shown.contains(" 1h") && shown.contains("exit 7"), "{shown}");
    assert!(env.ok(["show"]).contains(" 1h"), "{}", env.ok(["show"]));
}

#[test]
fn writes_during_a_snapshot_are_marked_late_whatever_the_clock_says() {
    for step in ["forward", "back"] {
        let clocks = Clocks::new();
        let script = "exec 3> open; echo ready; while [ ! -e enough ]; do echo x >&3; done";
        let mut live = clocks.start(script);
        live.wait_for("ready");
        // Enough to read that the command writes meanwhile.
        for number in 0..500 {
            clocks.env.write(&format!("many/{number}"), "content");
        }
        fs::write(clocks.steps.join(step), "").expect("ours");
        assert_eq!(clocks.env.ok(["snapshot", "-m", "busy"]), "s2\n");
        clocks.env.write("enough", "");
        assert_eq!(live.finish().code, 0);
        let late = clocks.events().into_iter().find_map(|event| match event.data {
            Data::SnapshotCreated(snapshot) if snapshot.description == "busy" => {
                Some(snapshot.late)
            }
            _ => None,
        });
        let late: Vec<_> = late.expect("taken").iter().map(|p| p.as_path().to_owned()).collect();
        assert_eq!(late, [clocks.env.work().join("open")], "{step}");
    }
}

#[test]
fn an_agent_with_clocks_of_its_own_is_recorded_by_ours() {
    for offset in ["1000000", "-60"] {
        let env = TestEnv::new();
        let code =
            "import agentrec_sdk; agentrec_sdk.record_message('user', 'hello'); open('file', 'w')";
        let namespace = ["unshare", "--map-root-user", "--time", "--boottime", offset];
        let command: Vec<_> = namespace.into_iter().chain(["python3", "-c", code]).collect();
        let ran = env.record_with(&["--with-sdk"], &command);
        assert_eq!(ran.closing["code"], 0, "{}", ran.closing);
        let events = events(&ran.trace);
        assert!(times(&events).is_sorted());
        let (first, last) = (events[0].ts, events[events.len() - 1].ts);
        let of_session = |event: &Event<'_>| (first..=last).contains(&event.ts);
        assert!(events.iter().all(of_session), "{:?}", times(&events));
        assert!(last - first < MINUTE, "{first} to {last}");
        assert!(events.iter().any(|event| matches!(event.data, Data::Message(_))));
        assert!(events.iter().any(|event| opens(event, &env.work().join("file"))));
        assert_eq!(of_kind(&env.json(["show"]), "message").len(), 1);
    }
}
