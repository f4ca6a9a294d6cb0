//! `agentrec turns`, `messages`, and what `show` and `info` tell of a conversation that was read off the wire.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{TestEnv, of_kind};

fn checkout(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The example agent, which here knows nothing of us, and its scripted model, which it starts itself.
fn record(env: &TestEnv, engine: &str) {
    for name in ["cart.py", "test_cart.py"] {
        let content = fs::read_to_string(checkout("examples/shop").join(name)).unwrap();
        env.write(name, &content);
    }
    let agent = checkout("examples/agent.py");
    let command = ["python3", agent.to_str().unwrap(), "Make the tests pass."];
    env.record_with(&["--engine", engine], &command);
}

fn turns_of_a_conversation(engine: &str) {
    let env = TestEnv::new();
    record(&env, engine);
    let shown = env.ok(["turns"]);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 7, "{shown}");
    assert!(lines[0].starts_with("TURN "), "{shown}");
    for (line, words) in lines[1..].iter().zip([
        ["t1 ", "scripted-1", " shell"],
        ["t2 ", "scripted-1", " read_file"],
        ["t3 ", "+0 ~1 -0", " write_file"],
        ["t4 ", "scripted-1", " shell"],
        ["t5 ", "scripted-1", " 0µs"],
    ]) {
        assert!(line.starts_with(words[0]), "{words:?}: {shown}");
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {shown}");
    }
    assert!(lines[6].starts_with("5 turns: "), "{shown}");
    let turns = env.json(["turns"]);
    let turns = of_kind(&turns, "turn");
    assert_eq!(turns.len(), 5);
    // Nobody knows what a scripted model costs.
    assert!(turns.iter().all(|turn| turn["cost"].is_null() && turn["output"].as_u64() > Some(3)));
    let whole = turns[0]["time"].as_u64();
    let parts = ["time_model", "time_tools", "time_agent"].map(|part| turns[0][part].as_u64());
    assert_eq!(parts.into_iter().sum::<Option<u64>>(), whole);
    let one = env.ok(["turns", "t3"]);
    assert!(one.contains("write_file") && one.lines().count() == 2, "{one}");
    let ran = env.run(["turns", "t9"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("cannot find a turn t9: there are 5 turns"), "{ran:?}");

    let shown = env.ok(["show"]);
    let row = |start: &str| {
        let found = shown.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start}: {shown}"))
    };
    assert!(row("t3 ").contains("write_file path=cart.py"), "{shown}");
    assert!(row("t5 ").contains("assistant: “Done: all tests pass.”"), "{shown}");
    assert!(shown.contains("└ sh -c 'python3 -m unittest"), "{shown}");
    assert!(
        !shown.contains("You are a careful programmer"),
        "system prompts are not news: {shown}"
    );
    let turn = env.ok(["show", "t2"]);
    assert!(turn.contains("model.request") && turn.contains("read_file cart.py"), "{turn}");
    assert!(!turn.contains("write_file"), "that is another turn: {turn}");

    let info = env.ok(["info"]);
    // Both ends are in the tree.
    assert!(info.contains("  10 with hosts   10 read as HTTP\n"), "{info}");
    assert!(info.contains("  10 requests   5 turns   0 side requests\n"), "{info}");
    let why = env.ok(["why", "cart.py"]);
    assert!(why.contains("write_file"), "{why}");
    assert!(why.contains("the comparison has to include the limit"), "{why}");
}

#[test]
fn turns_are_read_off_the_wire() {
    turns_of_a_conversation("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_turns_are_read_off_the_wire_by_ebpf() {
    turns_of_a_conversation("ebpf");
}

#[test]
fn messages_are_whole_up_to_any_place() {
    let env = TestEnv::new();
    record(&env, "ptrace");
    let all = env.ok(["messages"]);
    for said in [
        "system\n    You are a careful programmer.",
        "user\n    Make the tests pass.\n",
        "assistant  t1\n    I'll run the tests first.\n",
        "calls shell\n    python3 -m unittest 2>&1 | tail -n 12\n",
        "assistant  t5\n    Done: all tests pass.\n",
    ] {
        assert!(all.contains(said), "no {said:?}: {all}");
    }
    // What a tool returned has its lines.
    assert!(
        all.contains("shell returned\n") && all.contains("\n    FAILED (failures=1)\n"),
        "{all}"
    );
    let until = env.ok(["messages", "--at", "t2"]);
    assert!(all.starts_with(&until) && until.contains("read_file returned"), "{until}");
    assert!(!until.contains("t3"), "{until}");
    let snapshot = env.ok(["messages", "--at", "s2"]);
    assert!(snapshot.contains("Make the tests pass.") && !snapshot.contains("t2"), "{snapshot}");
    let other = env.run(["messages", "--conversation", "none"]);
    assert!(other.code == 0 && other.stdout.is_empty(), "{other:?}");
    assert!(other.stderr.contains("nothing was said there"), "{other:?}");
    let json = env.json(["messages", "--at", "t1"]);
    assert_eq!((of_kind(&json, "message").len(), of_kind(&json, "call").len()), (3, 1));
}

#[test]
fn turns_cost_what_the_users_own_prices_say() {
    let env = TestEnv::new();
    fs::create_dir_all(env.home()).unwrap();
    let prices = env.home().join("prices.toml");
    fs::write(&prices, "[model.scripted-1]\ninput = \"cheap\"\n").unwrap();
    let ran = env.run(["run", "--", "true"]);
    assert_eq!(ran.code, 125, "{ran:?}");
    assert!(ran.stderr.contains("prices.toml: line 2: "), "{ran:?}");
    assert!(ran.stderr.contains("hint: correct them, or remove the file"), "{ran:?}");
    fs::write(&prices, "[model.scripted-1]\ninput = 1000.0\noutput = 0.0\n").unwrap();
    record(&env, "ptrace");
    let turns = env.json(["turns"]);
    for turn in of_kind(&turns, "turn") {
        let expected = turn["input"].as_u64().unwrap() as f64 / 1000.0;
        assert!((turn["cost"].as_f64().unwrap() - expected).abs() < 1e-9, "{turn}");
    }
    assert!(env.ok(["turns"]).contains(" $"), "dollars are shown");
}

#[test]
fn files_of_a_turn_a_process_and_a_session() {
    let env = TestEnv::new();
    record(&env, "ptrace");
    let shown = env.ok(["files", "t3"]);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    assert!(lines[0].trim_start().starts_with("FILE "), "{shown}");
    let words = ["~ cart.py ", "p1 python3", "t3 write_file (inferred)"];
    assert!(words.iter().all(|word| lines[1].contains(word)), "{shown}");
    let all = env.json(["files", "--reads"]);
    let of = |path: &str, change: &str| {
        let found = all.iter().find(|line| {
            line["path"]["text"].as_str().is_some_and(|text| text.ends_with(path))
                && line["change"] == change
        });
        found.unwrap_or_else(|| panic!("no {change} {path}: {all:#?}")).clone()
    };
    let written = of("cart.py", "modified");
    assert_eq!((&written["in_tree"], &written["secret"]), (&true.into(), &false.into()));
    assert_eq!(written["tool"]["certainty"], "inferred");
    assert!(of("test_cart.py", "read")["bytes"].as_u64() > Some(100));
    // The first shell's process, which only read.
    let process = env.json(["files", "--reads", "p2"]);
    assert!(process.iter().all(|line| line["change"] != "modified"), "{process:#?}");
    for (address, reason) in [("t9", "cannot find a turn"), ("s1", "it is no turn or process")] {
        let ran = env.run(["files", address]);
        assert!(ran.code == 1 && ran.stderr.contains(reason), "{ran:?}");
    }
}

#[test]
fn graph_leads_from_turns_to_files_and_back() {
    let env = TestEnv::new();
    record(&env, "ptrace");
    let shown = env.ok(["graph"]);
    let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
    let at = |start: &str| {
        let found = lines.iter().position(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start:?}: {shown}"))
    };
    assert!(lines[at("t1 scripted-1") + 1].starts_with("└ t1 shell "), "{shown}");
    let write = at("└ t3 write_file ");
    assert_eq!(
        lines[write + 1..write + 3],
        ["  ├ result t4", "  └ ~ cart.py  (inferred)"],
        "{shown}"
    );
    let edges = env.json(["graph"]);
    // The command line is the tool's own argument.
    let started: Vec<_> = edges
        .iter()
        .filter(|edge| edge["how"] == "starts" && edge["from"]["kind"] == "call")
        .map(|edge| (edge["to"]["proc"].is_u64(), &edge["certainty"]))
        .collect();
    assert_eq!(started, [(true, &"recorded".into()), (true, &"recorded".into())]);
    // What led to the last turn: all calls and turns before it, and no process that they started.
    let led = env.json(["graph", "--to", "t5"]);
    let ways: Vec<_> = led.iter().map(|edge| edge["how"].as_str().unwrap()).collect();
    assert_eq!(ways.iter().filter(|way| **way == "result").count(), 4, "{ways:?}");
    assert!(!ways.contains(&"starts") && !ways.contains(&"modifies"), "{ways:?}");
    let dot = env.ok(["graph", "--dot"]);
    assert!(dot.starts_with("digraph ") && dot.trim_end().ends_with('}'), "{dot}");
    assert!(dot.contains("\"t1\" -> \"#"), "{dot}");
}

/// A sub-agent between two requests of its agent, and its own model, which takes as long as the recorder's snapshot: a model at a
/// distance takes longer. Each asks twice.
const SUB_AGENT: &str = r#"
import http.server, json, os, socket, threading, urllib.request
recorder = socket.socket(socket.AF_UNIX)
recorder.connect(os.environ["AGENTREC_SOCKET"])
replies, asked_for = recorder.makefile(), 0
def wait_for_snapshot():
    global asked_for
    asked_for += 1
    while True:
        recorder.send(b'{"type": "status", "req": 1}\n')
        # One at the start, and one for each request.
        if json.loads(replies.readline())["snapshots"] > asked_for: return
class Model(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wait_for_snapshot()
        said = {"role": "assistant", "content": f"answer {len(asked['messages'])}"}
        answer = json.dumps({"model": asked["model"], "choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()
class Agent:
    def __init__(self, system, model):
        self.model, self.messages = model, [{"role": "system", "content": system}]
    def ask(self, text):
        self.messages.append({"role": "user", "content": text})
        body = json.dumps({"model": self.model, "messages": self.messages}).encode()
        url = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        answer = json.load(urllib.request.urlopen(request))
        self.messages.append(answer["choices"][0]["message"])
agent = Agent("You plan.", "big")
agent.ask("Plan the work.")
open("planned", "w").write("1")
helper = Agent("You search.", "small")
helper.ask("Search for it.")
helper.ask("Search again.")
open("searched", "w").write("2")
agent.ask("Go on.")
"#;

#[test]
fn turns_of_sub_agents_have_addresses() {
    let env = TestEnv::new();
    env.write("agent.py", SUB_AGENT);
    env.record_with(&["--engine", "ptrace"], &["python3", "agent.py"]);
    let turns = env.json(["turns"]);
    let labels: Vec<_> = of_kind(&turns, "turn").iter().map(|turn| turn["turn"].clone()).collect();
    assert_eq!(labels, ["t1", "t1/a.1", "t1/a.2", "t2"]);
    assert_eq!(env.json(["turns", "t1/a"]).len(), 2);
    assert_eq!(env.json(["turns", "t1/a.2"]).len(), 1);
    let shown = env.ok(["show", "t1/a"]);
    assert!(shown.contains("small") && shown.contains("searched"), "{shown}");
    assert!(!shown.contains("model.request  big") && !shown.contains("planned"), "{shown}");
    let said = env.ok(["messages", "--at", "t1/a.1"]);
    assert!(said.contains("Search for it.") && said.contains("answer 2"), "{said}");
    assert!(!said.contains("Search again.") && !said.contains("Plan the work."), "{said}");
    let graph = env.ok(["graph"]);
    assert!(graph.contains("sub-agent t1/a.1") && graph.contains("then t1/a.2"), "{graph}");
    for missing in ["t1/b", "t1/a.3", "t2/a"] {
        let ran = env.run(["turns", missing]);
        assert!(ran.code == 1 && ran.stderr.contains("cannot find a "), "{missing}: {ran:?}");
    }
}

#[test]
fn messages_of_a_request_are_as_the_model_was_sent_them() {
    let env = TestEnv::new();
    let forgets = r#"
agent = Agent("You plan.", "big")
agent.ask("Plan the work." + " And well." * 500)
agent.ask("Go on.")
agent.messages[1:3] = [{"role": "user", "content": "In short: it was planned."}]
agent.ask("And now?")
"#;
    let agent = SUB_AGENT.split("agent = Agent(").next().unwrap();
    env.write("agent.py", &format!("{agent}{forgets}"));
    env.record_with(&["--engine", "ptrace"], &["python3", "agent.py"]);
    let sent = env.ok(["messages", "--sent", "--at", "t2"]);
    let begins = "system\n    You plan.\n\nuser\n    Plan the work. And well.";
    assert!(sent.starts_with(begins), "{sent}");
    assert!(sent.ends_with("assistant\n    answer 2\n\nuser\n    Go on.\n\n"), "{sent}");
    let cut = env.ok(["messages", "--sent", "--at", "t3"]);
    let expected = "system\n    You plan.\n\nuser\n    In short: it was planned.\n\n\
        user\n    Go on.\n\nassistant\n    answer 4\n\nuser\n    And now?\n\n";
    assert_eq!(cut, expected);
    let json = env.json(["messages", "--sent", "--at", "t3"]);
    assert_eq!(json[0]["messages"].as_array().map(Vec::len), Some(5), "{json:?}");
    let nowhere = env.run(["messages", "--sent"]);
    assert!(nowhere.code == 1 && nowhere.stderr.contains("name a turn"), "{nowhere:?}");
}

#[test]
fn turns_are_places_to_go_back_to() {
    let env = TestEnv::new();
    env.write("agent.py", SUB_AGENT);
    env.record_with(&["--engine", "ptrace"], &["python3", "agent.py"]);
    let to = env.work().join("../back");
    let back = |turn: &str| {
        let _ = fs::remove_dir_all(&to);
        env.ok(["restore", turn, "--dir", to.to_str().unwrap()]);
        ["planned", "searched"].map(|name| to.join(name).exists())
    };
    assert_eq!(back("t1"), [false, false]);
    assert_eq!(back("t1/a.1"), [true, false]);
    assert_eq!(back("t2"), [true, true]);
    let changed = env.run(["diff", "--stat", "t1..t2"]);
    assert!(
        changed.stdout.contains("planned") && changed.stdout.contains("searched"),
        "{changed:?}"
    );
}
