//! An unmodified openai-agents program, driven by a scripted model through the real `openai` client.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agentrec_trace::event::{Certainty, Payload};
use agentrec_trace::{Data, Reader, json};
use serde_json::Value;

use crate::sandbox::{Sandbox, checkout, python, succeed};
use crate::truth::{changes, differences, tree};

/// The scripted model, outside the recording; ends with its input.
struct Model {
    process: Child,
    base_url: String,
    log: PathBuf,
}

impl Model {
    fn start(log: PathBuf) -> Self {
        let mut process = Command::new(python())
            .arg(checkout("tests/agents/model_server.py"))
            .arg(&log)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut base_url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut base_url).unwrap();
        Self { process, base_url: base_url.trim().to_owned(), log }
    }

    /// The conversation of every request so far.
    fn requests(&self) -> Vec<Vec<Value>> {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // The test has its result; that the server ended is all that is left to see.
        let _ = self.process.wait();
    }
}

const FIRST_PROMPT: &str = "Build it, note it down, tidy up.";
const SECOND_PROMPT: &str = "Don't tidy up. Add to the notes instead.";

fn project(work: &Path) {
    for (name, content) in [
        ("data.txt", "some data\n"),
        ("old.txt", "old\n"),
        ("config.ini", "colour=blue\n"),
        ("run.sh", "#!/bin/sh\n"),
        ("untouched.txt", "as it was\n"),
    ] {
        fs::write(work.join(name), content).unwrap();
    }
}

/// `agentrec` with `args`, then `--` and the agent with its prompt.
fn with_agent(sandbox: &Sandbox, model: &Model, args: &[&str], prompt: &str) -> Command {
    let mut command = sandbox.agentrec(args);
    command
        .arg("--")
        .arg(python())
        .arg(checkout("tests/agents/agent.py"))
        .arg(prompt)
        .env("OPENAI_BASE_URL", &model.base_url)
        .env("OPENAI_API_KEY", ["sk-", "scripted"].concat());
    command
}

#[test]
fn an_unmodified_agent_is_recorded_truly_and_resumed_with_another_prompt() {
    let sandbox = Sandbox::new();
    let work = sandbox.work();
    let model = Model::start(sandbox.path("requests.jsonl"));
    project(&work);

    let before = tree(&work);
    let first = sandbox.path("first.zst");
    let run = ["run", "-o", first.to_str().unwrap()];
    let output = succeed(&mut with_agent(&sandbox, &model, &run, FIRST_PROMPT));
    let after = tree(&work);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Done after 4 steps."), "{said}");
    let first_requests = model.requests();
    assert_eq!(first_requests.len(), 5);

    let trace = Reader::open(&first).unwrap();
    holds_the_truth(&trace, &work, &differences(&before, &after));
    holds_the_conversation(&trace, &first_requests);
    let (session, snapshot) = snapshot_by_the_agents_shell(&trace);
    let snapshot = snapshot.to_string();

    let second = sandbox.path("second.zst");
    let copy = sandbox.path("copy");
    let resume = [
        "resume",
        first.to_str().unwrap(),
        "--snapshot",
        &snapshot,
        "--prompt",
        SECOND_PROMPT,
        "--dir",
        copy.to_str().unwrap(),
        "-o",
        second.to_str().unwrap(),
    ];
    succeed(&mut with_agent(&sandbox, &model, &resume, SECOND_PROMPT));

    // The agent read its own SQLite session from the restored tree: what was said up to the second tool call, and
    // nothing of what came after the snapshot.
    let resumed = &model.requests()[first_requests.len()];
    let mut expected = first_requests[2].clone();
    expected.push(serde_json::json!({"role": "user", "content": SECOND_PROMPT}));
    assert_eq!(*resumed, expected);

    assert_eq!(tree(&work), after, "the original directory is untouched");
    let restored = tree(&copy);
    assert!(restored.contains_key(Path::new("old.txt")), "the snapshot was before the removal");
    assert!(!restored.contains_key(Path::new("build/renamed.txt")));
    assert_eq!(fs::read(copy.join("notes.md")).unwrap(), b"first notes\nsecond\n");

    let trace = Reader::open(&second).unwrap();
    let Data::SessionStart(start) = trace.iter().next().unwrap().unwrap().data else {
        panic!("a trace begins with session.start")
    };
    let lineage = start.parent.unwrap();
    let at = format!("s{snapshot}");
    assert_eq!((&*lineage.session, &*lineage.at), (session.as_str(), &*at));
    assert!(lineage.edits.iter().any(|edit| edit == "prompt"), "{:?}", lineage.edits);
    // Recorded under the original path, which is what the agent saw.
    assert!(
        changes(&trace, &work).contains(&("notes.md".into(), "open", "sh".into())),
        "{:#?}",
        changes(&trace, &work)
    );
}

/// Every path that differs has its events, of the process that truly did it.
fn holds_the_truth(trace: &Reader, work: &Path, differences: &std::collections::BTreeSet<PathBuf>) {
    let python = python();
    let python = python.file_name().unwrap().to_str().unwrap();
    let truth = [
        ("build", "mkdir", "mkdir"),
        ("build/new.txt", "open", "sh"),
        ("build/new.txt", "rename-from", "mv"),
        ("build/renamed.txt", "rename-to", "mv"),
        ("build/copy.txt", "open", "cp"),
        ("build/link", "symlink", "ln"),
        ("build/teed.txt", "open", "tee"),
        ("notes.md", "open", python),
        ("config.ini", "rename-to", "sed"),
        ("old.txt", "unlink", "rm"),
        ("run.sh", "chmod", "chmod"),
        ("session.sqlite", "open", python),
    ];
    let told = changes(trace, work);
    for (path, what, program) in truth {
        let change = (PathBuf::from(path), what, program.to_owned());
        assert!(told.contains(&change), "{change:?} is missing in {told:#?}");
    }
    let passing = Path::new("build/new.txt");
    let true_paths = truth.iter().map(|(path, ..)| Path::new(*path)).filter(|p| *p != passing);
    assert_eq!(
        true_paths.collect::<std::collections::BTreeSet<_>>(),
        differences.iter().map(PathBuf::as_path).collect(),
        "the script and the trees agree on what was changed"
    );
    assert!(told.iter().all(|(path, ..)| path != Path::new("untouched.txt")));
}

/// What was said, as the server's own log has it: each message, call and result once, though every request repeats all.
fn holds_the_conversation(trace: &Reader, requests: &[Vec<Value>]) {
    let plain = |payload: &Payload| json::from_value(&trace.payload(payload).unwrap());
    let (mut said, mut calls, mut results, mut asked) = (vec![], vec![], vec![], 0);
    let mut ties = 0;
    for event in trace.iter() {
        match event.unwrap().data {
            Data::Message(message) => {
                said.push((message.role.into_owned(), plain(&message.content)));
            }
            Data::ToolCall(call) => calls.push((call.id.into_owned(), plain(&call.arguments))),
            Data::ToolResult(result) => {
                results.push((result.id.into_owned(), plain(&result.result)));
            }
            Data::ModelRequest(_) => asked += 1,
            Data::Link(link) if link.kind == "call-process" => {
                assert_eq!(link.certainty, Certainty::Recorded, "its command line names the call");
                ties += 1;
            }
            _ => {}
        }
    }
    assert_eq!(asked, requests.len());
    assert_eq!(ties, 3, "the shell was started three times");
    let text =
        |message: &Value, field: &str| message[field].as_str().unwrap_or_default().to_owned();
    let last = requests.last().unwrap();
    let mut expected: Vec<_> = last
        .iter()
        .filter(|message| message["role"] != "tool")
        .map(|message| (text(message, "role"), message["content"].clone()))
        .collect();
    expected.push(("assistant".into(), "Done after 4 steps.".into()));
    assert_eq!(said, expected);
    let tools = last.iter().filter(|message| message["role"] == "tool");
    let expected: Vec<_> =
        tools.map(|tool| (text(tool, "tool_call_id"), tool["content"].clone())).collect();
    assert_eq!(results, expected);
    let asked_for = last.iter().filter_map(|message| message["tool_calls"].as_array()).flatten();
    let expected: Vec<(String, Value)> = asked_for
        .map(|call| {
            let arguments = call["function"]["arguments"].as_str().unwrap();
            (text(call, "id"), serde_json::from_str(arguments).unwrap())
        })
        .collect();
    assert_eq!(calls, expected);
}

/// The one snapshot that the agent's shell asked for, beside those at requests; returns the session's id and its number.
fn snapshot_by_the_agents_shell(trace: &Reader) -> (String, u32) {
    let mut session = String::new();
    let mut snapshots = Vec::new();
    for event in trace.iter() {
        match event.unwrap().data {
            Data::SessionStart(start) => session = start.session.into_owned(),
            Data::SnapshotCreated(snapshot) => {
                let (trigger, description) = (snapshot.trigger, snapshot.description);
                snapshots.push((snapshot.index.0, trigger.into_owned(), description.into_owned()));
            }
            _ => {}
        }
    }
    let triggers: Vec<_> = snapshots.iter().map(|(_, trigger, _)| trigger.as_str()).collect();
    let requests = ["request"; 3];
    let expected = [&["start"], &requests[..], &["command"], &requests[..2], &["end"]].concat();
    assert_eq!(triggers, expected, "{snapshots:?}");
    let (index, _, description) = &snapshots[4];
    assert_eq!(description, "after the second tool call");
    (session, *index)
}
