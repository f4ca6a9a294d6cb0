//! Agents that write down what was said: it is told from there where nobody else tells it, and from nowhere twice.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use agentrec_trace::{Data, Event, Reader, Source};
use common::{Live, Recorded, TestEnv, of_kind};
use serde_json::Value;

const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli_transcripts/agent.py");

fn record(env: &TestEnv, engine: &str, form: &str, wire: &str) -> Recorded {
    env.record_with(&["--engine", engine], &["python3", AGENT, form, wire])
}

fn events(recorded: &Recorded) -> Vec<Event<'static>> {
    let reader = Reader::open(&recorded.trace).unwrap();
    reader.iter().map(|event| event.unwrap().into_owned()).collect()
}

/// The texts of a content, whatever the form of its blocks.
fn texts(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().map(texts).collect::<Vec<_>>().concat(),
        Value::Object(fields) => {
            let inner = fields.get("text").or_else(|| fields.get("content"));
            inner.map_or(String::new(), texts)
        }
        _ => String::new(),
    }
}

/// What was said, as `messages` tells it: who, from where, and what.
fn said(env: &TestEnv) -> Vec<(String, String, String)> {
    let lines = env.json(["messages"]);
    let field = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let line = |line: &Value| match field(line, "kind").as_str() {
        "call" => {
            let arguments = field(&line["arguments"], "command");
            (
                field(line, "name"),
                field(line, "source"),
                format!("{arguments} -> {}", texts(&line["result"])),
            )
        }
        _ => (field(line, "role"), field(line, "source"), texts(&line["content"])),
    };
    lines.iter().map(line).collect()
}

fn all_of(source: &str, lines: &[(&str, &str)]) -> Vec<(String, String, String)> {
    let line =
        |(who, what): &(&str, &str)| ((*who).to_owned(), source.to_owned(), (*what).to_owned());
    lines.iter().map(line).collect()
}

/// Without the key, which stands for another text in each trace.
fn without_key(mut said: Vec<(String, String, String)>) -> Vec<(String, String, String)> {
    for (_, _, text) in &mut said {
        if let Some(at) = text.find(", with the key ") {
            assert!(!text.contains("sk-ant-api03-Zk9"), "{text}");
            text.truncate(at);
        }
    }
    said
}

fn an_opaque_agent_is_heard_through_its_transcript(engine: &str) {
    for form in ["codex", "claude"] {
        let env = TestEnv::new();
        let recorded = record(&env, engine, form, "none");
        let mut expected = Vec::new();
        if form == "codex" {
            expected.push(("system", "Be brief."));
        }
        expected.extend([
            ("user", "Make two files."),
            ("assistant", "I make it"),
            ("Bash", "echo made > made.txt -> exit 0"),
            ("assistant", "And another."),
            ("Bash", "cat made.txt > other.txt -> exit 0"),
            ("assistant", "Done: both are there."),
        ]);
        if form == "claude" {
            expected.extend([("user", "Count them."), ("assistant", "There are two.")]);
        }
        let said = without_key(said(&env));
        assert_eq!(said, all_of("transcript", &expected), "{form}");
        let shown = env.ok(["messages"]);
        assert!(shown.contains("user  from the agent's transcript\n"), "{form}: {shown}");

        let turns = env.json(["turns"]);
        let turns = of_kind(&turns, "turn");
        let labels: Vec<_> = turns.iter().map(|turn| turn["turn"].as_str().unwrap()).collect();
        let more: &[&str] = if form == "claude" { &["t3/a.1"] } else { &[] };
        assert_eq!(labels, [&["t1", "t2", "t3"], more].concat(), "{form}");
        for turn in &turns[..3] {
            let tokens = ["input", "cached", "output"].map(|name| turn[name].as_u64().unwrap());
            assert_eq!((tokens, &turn["source"]), ([100, 90, 7], &"transcript".into()), "{form}");
            assert!(turn["cost"].as_f64().is_some(), "{form}");
        }
        let added = turns[..3].iter().map(|turn| turn["added"].as_u64() > Some(0));
        assert_eq!(added.collect::<Vec<_>>(), [true, true, false], "{form}");
        let shown = env.ok(["turns"]);
        let footer = format!("{} turns from the agent's transcript", turns.len());
        assert!(shown.contains(&footer), "{form}: {shown}");

        // A turn leads to its files as if it had been heard.
        let why = env.ok(["why", "other.txt"]);
        assert!(why.contains("cat made.txt > other.txt"), "{form}: {why}");
        assert!(why.contains("Bash (recorded)"), "{form}: {why}");
        assert!(why.contains("said: “And another.”"), "{form}: {why}");
        let shown = env.ok(["show"]);
        assert!(shown.contains("t3 ") && shown.contains("from the agent's transcript"), "{shown}");
        let info = env.ok(["info"]);
        let damaged = "are no JSON, 3 events";
        assert!(
            info.contains("\nfrom the agent's transcript\n") && info.contains(damaged),
            "{info}"
        );
        // Nothing of it is anywhere, not of the key either.
        let raw = env.ok(["export", recorded.trace.to_str().unwrap()]);
        assert!(!raw.contains("Zk9Zk9") && !raw.contains("An old question"), "{form}");
        if form == "claude" {
            assert!(
                !raw.contains("\"SECRET\"") && raw.contains("cannot read the transcript"),
                "{form}"
            );
            assert!(info.contains("link.jsonl"), "{info}");
        }
    }
}

fn what_the_wire_tells_the_transcript_does_not(engine: &str) {
    for form in ["codex", "claude"] {
        let env = TestEnv::new();
        let recorded = record(&env, engine, form, "http");
        let expected = [
            ("user", "<reminder>Be good.</reminder>\nMake two files."),
            ("assistant", "I make it"),
            ("Bash", "echo made > made.txt -> exit 0"),
            ("assistant", "And another."),
            ("Bash", "cat made.txt > other.txt -> exit 0"),
            ("assistant", "Done: both are there."),
        ];
        assert_eq!(without_key(said(&env)), all_of("wire", &expected), "{form}");
        assert_eq!(of_kind(&env.json(["turns"]), "turn").len(), 3, "{form}");
        // It was read, though: the lines that are no JSON are told.
        let events = events(&recorded);
        let transcript = |event: &&Event<'_>| event.source == Source::Transcript;
        assert_eq!(events.iter().filter(transcript).count(), 0, "{form}");
        let damage = events.iter().find_map(|event| match &event.data {
            Data::Lost(lost) if lost.place == "transcript" => Some(lost.count),
            _ => None,
        });
        assert_eq!(damage, Some(Some(3)), "{form}");
        assert!(!env.ok(["info"]).contains("from the agent's transcript"), "{form}");
    }
}

#[test]
fn an_opaque_agent_is_heard() {
    an_opaque_agent_is_heard_through_its_transcript("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_an_opaque_agent_is_heard_by_ebpf() {
    an_opaque_agent_is_heard_through_its_transcript("ebpf");
}

#[test]
fn a_readable_agent_is_not_heard_twice() {
    what_the_wire_tells_the_transcript_does_not("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_a_readable_agent_is_not_heard_twice_by_ebpf() {
    what_the_wire_tells_the_transcript_does_not("ebpf");
}

#[test]
fn what_the_agent_told_itself_is_told_once() {
    let env = TestEnv::new();
    record(&env, "ptrace", "claude", "socket");
    let said = without_key(said(&env));
    let of = |source: &str| -> Vec<&str> {
        let lines = said.iter().filter(|(_, from, _)| from == source);
        lines.map(|(_, _, what)| &**what).collect()
    };
    assert_eq!(
        of("sdk"),
        [
            "I make it",
            "echo made > made.txt -> exit 0",
            "And another.",
            "cat made.txt > other.txt -> exit 0",
            "Done: both are there."
        ]
    );
    // Which model it was, and what it used, the agent did not tell.
    assert_eq!(of("transcript"), ["Make two files."]);
    assert_eq!(of_kind(&env.json(["turns"]), "turn").len(), 3);
}

/// The last answer of an agent that waits for its user is not behind the end of the recording.
#[test]
fn an_answer_is_told_while_the_agent_waits() {
    for form in ["codex", "claude"] {
        let env = TestEnv::new();
        let mut agent = env.agentrec(["run", "--json", "--", "python3", AGENT, form, "stay"]);
        agent.env("PYTHONUNBUFFERED", "1");
        let mut live = Live::start(agent);
        live.wait_for("all is said");
        let mut follower = env.agentrec(["show", "--follow", "--json", "--type", "message"]);
        let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
        let mut lines = lines.map(|line| line.unwrap());
        assert!(lines.any(|line| line.contains("Done: both are there.")), "{form}");
        live.tell("go on");
        assert_eq!(live.finish().code, 0);
        drop(lines);
        follower.wait().unwrap();
        // What was told with a pause was told once.
        let texts: Vec<_> = said(&env).into_iter().map(|(_, _, what)| what).collect();
        assert_eq!(
            texts.iter().filter(|text| text.contains("both are there")).count(),
            1,
            "{form}"
        );
        let turns = env.json(["turns"]);
        let turns = of_kind(&turns, "turn");
        let labels: Vec<_> = turns.iter().map(|turn| turn["turn"].as_str().unwrap()).collect();
        let more: &[&str] = if form == "claude" { &["t3/a.1", "t3/a.2"] } else { &[] };
        assert_eq!(labels, [&["t1", "t2", "t3"], more].concat(), "{form}");
    }
}

/// A session that goes on writes to the file that it has.
#[test]
fn of_a_transcript_that_was_there_only_what_is_new_is_told() {
    let env = TestEnv::new();
    let file = env.outside(".claude/projects/-work/5e55.jsonl");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let line = |time: &str| {
        let message = r#"{"role":"user","content":"An older question."}"#;
        format!(r#"{{"type":"user","message":{message}{time}}}"#)
    };
    let old = line(r#","timestamp":"2020-01-01T00:00:00Z""#) + "\n" + &line("") + "\n";
    fs::write(&file, old.repeat(50_000)).unwrap();
    record(&env, "ptrace", "claude", "none");
    let told = said(&env);
    assert!(told.iter().all(|(_, _, what)| !what.contains("older")), "{told:?}");
    assert_eq!(told[0].2, "Make two files.");
    assert_eq!(told.len(), 8, "{told:?}");
}

#[test]
fn the_environment_says_where_transcripts_are() {
    for (form, variable) in [("codex", "CODEX_HOME"), ("claude", "CLAUDE_CONFIG_DIR")] {
        let env = TestEnv::new();
        let place = env.outside("elsewhere");
        let setting = format!("{variable}={}", place.display());
        let args = ["run", "--", "env", &setting, "python3", AGENT, form, "none"];
        assert_eq!(env.run(args).code, 0);
        assert!(Path::new(&place).is_dir(), "{form}");
        assert!(said(&env).iter().any(|(_, _, what)| what == "Done: both are there."), "{form}");
    }
}
