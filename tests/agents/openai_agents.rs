//! An unmodified openai-agents program, driven by a scripted model through the real `openai` client.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agentrec_trace::{Data, Reader};
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
    let session = snapshot_by_the_agents_shell(&trace);

    let second = sandbox.path("second.zst");
    let copy = sandbox.path("copy");
    let resume = [
        "resume",
        first.to_str().unwrap(),
        "--snapshot",
        "2",
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
    assert_eq!((&*lineage.session, &*lineage.at), (session.as_str(), "s2"));
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

/// The second snapshot is the one that the agent's shell asked for; returns the session's id.
fn snapshot_by_the_agents_shell(trace: &Reader) -> String {
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
    let second = (2, "command".to_owned(), "after the second tool call".to_owned());
    assert_eq!(snapshots.get(1), Some(&second), "{snapshots:?}");
    assert_eq!(snapshots.len(), 3, "start, the agent's, end");
    session
}
