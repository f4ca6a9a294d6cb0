//! Calls to MCP servers by the official SDK, over every transport that it has: what the trace holds is what the server's own
//! log says.

use std::fs;

use agentrec_trace::event::Payload;
use agentrec_trace::{Data, ProcId, Reader, Seq, json};
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, checkout, python, succeed};

/// A call with what came of it: its name, its arguments, and the text of the answer or of the error.
type Done = (String, Value, Result<String, String>);

/// What the server says of itself.
fn of_the_log(sandbox: &Sandbox) -> Vec<Done> {
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    let entries: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let name = |entry: &Value, field: &str| entry[field].as_str().map(str::to_owned);
    // Tools of this server take no time, so that answers come in the order of calls.
    let mut results = entries.iter().filter(|entry| entry["call"].is_null());
    let calls = entries.iter().filter(|entry| !entry["call"].is_null()).map(|call| {
        let result = results.next().unwrap();
        assert_eq!(call["call"], result["result"]);
        let tool = name(call, "call").unwrap();
        let outcome = match name(result, "text") {
            Some(text) => Ok(text),
            None => Err(format!("Error executing tool {tool}")),
        };
        (tool, call["arguments"].clone(), outcome)
    });
    calls.collect()
}

/// A call to a server as the trace has it.
struct Told {
    seq: Seq,
    proc: Option<ProcId>,
    server: String,
    result: Option<Seq>,
    done: Done,
}

fn of_the_trace(trace: &Reader) -> Vec<Told> {
    let plain = |payload: &Payload| json::from_value(&trace.payload(payload).unwrap());
    let mut calls: Vec<Told> = Vec::new();
    for event in trace.iter() {
        let event = event.unwrap();
        match &event.data {
            Data::ToolCall(call) => {
                let Some(server) = &call.server else { continue };
                let done = (call.name.to_string(), plain(&call.arguments), Err("open".to_owned()));
                calls.push(Told {
                    seq: event.seq,
                    proc: event.proc,
                    server: server.to_string(),
                    result: None,
                    done,
                });
            }
            Data::ToolResult(result) => {
                let Some(call) = calls.iter_mut().find(|call| Some(call.seq) == result.call) else {
                    continue;
                };
                assert_eq!(call.result, None, "answered twice");
                assert!(result.duration.is_some());
                call.result = Some(event.seq);
                let content = plain(&result.result);
                let text = content["content"][0]["text"].as_str().unwrap_or_default().to_owned();
                call.done.2 = match &result.error {
                    Some(error) => Err(error.to_string()),
                    None => Ok(text),
                };
            }
            _ => {}
        }
    }
    calls
}

/// All links of a kind.
fn tied(trace: &Reader, kind: &str) -> Vec<(Seq, Seq)> {
    let links = trace.iter().filter_map(|event| match event.unwrap().data {
        Data::Link(link) if link.kind == kind => Some((link.from, link.to)),
        _ => None,
    });
    links.collect()
}

fn record(engine: &str, transport: &str, mode: &str) -> (Sandbox, Reader) {
    let sandbox = Sandbox::new();
    let trace = sandbox.path("trace.zst");
    let mut run =
        sandbox.agentrec(["run", "--engine", engine, "-o", trace.to_str().unwrap(), "--"]);
    run.arg(python()).arg(checkout("tests/agents/mcp_client.py"));
    succeed(run.arg(sandbox.path("log")).args([transport, mode]));
    (sandbox, Reader::open(&trace).unwrap())
}

fn calls_equal_the_servers_log(engine: &str, transport: &str, mode: &str) {
    let (sandbox, trace) = record(engine, transport, mode);
    let who = format!("{transport} {mode} by {engine}");
    let told = of_the_trace(&trace);
    let mut expected = of_the_log(&sandbox);
    assert_eq!(expected.len(), 8, "{who}");
    let mut done: Vec<Done> = told.iter().map(|call| call.done.clone()).collect();
    // Over HTTP, requests that are sent at once may reach the server in another order.
    let by_process = matches!(transport, "stdio" | "sockets");
    if !by_process {
        done[1..4].sort_by_key(|call| call.1.to_string());
        expected[1..4].sort_by_key(|call| call.1.to_string());
    }
    assert!(done == expected, "{who}: {done:.300?} is not {expected:.300?}");
    assert!(told.iter().all(|call| call.server == "sums"), "{who}");
    // A server that is in the tree has a process of its own; over HTTP it is known by the requests that it received.
    let agent = Some(ProcId(1));
    assert!(told.iter().all(|call| (call.proc != agent) == by_process), "{who}");
    assert_eq!(tied(&trace, "call-served").len(), if by_process { 0 } else { 8 }, "{who}");
    let copied = json!({"path": "made.txt", "text": "by a tool"});
    let writes = told.iter().find(|call| call.done.1 == copied).unwrap();
    let started = tied(&trace, "call-process");
    assert!(started.iter().any(|(call, _)| *call == writes.seq), "{who}: cp is the call's");
    let mut shown = sandbox.agentrec(["why", "--json", "made.txt.copy", "--trace"]);
    let why = succeed(shown.arg(sandbox.path("trace.zst"))).stdout;
    let why: Value = serde_json::from_slice(why.split(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!(why["tool"]["calls"][0]["name"], "write", "{who}: {why}");
    assert_eq!(why["tool"]["calls"][0]["server"], "sums", "{who}: {why}");
}

fn calls_over_pipes_equal_the_servers_log(engine: &str) {
    for mode in ["legacy", "auto"] {
        calls_equal_the_servers_log(engine, "stdio", mode);
    }
    // Node's way: pairs of sockets.
    calls_equal_the_servers_log(engine, "sockets", "legacy");
}

#[test]
fn calls_over_pipes_equal_the_servers_log_by_ptrace() {
    calls_over_pipes_equal_the_servers_log("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_calls_over_pipes_equal_the_servers_log_by_ebpf() {
    calls_over_pipes_equal_the_servers_log("ebpf");
}

#[test]
fn calls_over_http_equal_the_servers_log() {
    for (transport, mode) in [("http", "legacy"), ("http", "auto"), ("sse", "legacy")] {
        calls_equal_the_servers_log("ptrace", transport, mode);
    }
}

#[test]
#[ignore = "needs root"]
fn root_calls_over_http_equal_the_servers_log_by_ebpf() {
    for (transport, mode) in [("http", "legacy"), ("http", "auto"), ("sse", "legacy")] {
        calls_equal_the_servers_log("ebpf", transport, mode);
    }
}

fn a_models_call_is_carried_out_by_a_server(engine: &str) {
    let sandbox = Sandbox::new();
    let path = sandbox.path("trace.zst");
    let mut run = sandbox.agentrec(["run", "--engine", engine, "-o", path.to_str().unwrap(), "--"]);
    run.arg(python()).arg(checkout("tests/agents/mcp_agent.py")).arg(sandbox.path("log"));
    succeed(run.env("OPENAI_API_KEY", ["sk-", "scripted"].concat()));
    let trace = Reader::open(&path).unwrap();
    let told = of_the_trace(&trace);
    assert!(told.iter().map(|call| &call.done).eq(&of_the_log(&sandbox)), "by {engine}");
    // Each of the model's calls is tied to the one with its arguments, whatever the order of both.
    let plain = |payload: &Payload| json::from_value(&trace.payload(payload).unwrap());
    let arguments = |seq: Seq| match trace.event(seq).unwrap().unwrap().data {
        Data::ToolCall(call) => (call.name.to_string(), plain(&call.arguments), call.server),
        other => panic!("{other:?}"),
    };
    let links = tied(&trace, "call-execution");
    assert_eq!(links.len(), 3, "by {engine}");
    for (from, to) in links {
        let (model, server) = (arguments(from), arguments(to));
        assert_eq!((&model.0, &model.1), (&server.0, &server.1), "by {engine}");
        assert_eq!((model.2, server.2.as_deref()), (None, Some("sums")), "by {engine}");
    }
    let shown = |args: &[&str]| {
        let mut command = sandbox.agentrec(args);
        String::from_utf8(succeed(command.arg(&path)).stdout).unwrap()
    };
    // One call is one step, and names who carried it out and what that did.
    let turns = shown(&["turns"]);
    assert!(turns.contains("add (sums) 2") && turns.contains("write (sums)"), "{turns}");
    let rows = shown(&["show"]);
    let calls: Vec<_> = rows.lines().filter(|line| line.contains("(sums)")).collect();
    assert_eq!(calls.len(), 3, "{rows}");
    assert!(calls[0].starts_with("t1 ") && calls[2].starts_with("t2 "), "{rows}");
    let written = rows.split("write (sums)").nth(1).unwrap_or_default();
    let written = written.split("assistant:").next().unwrap_or_default();
    assert!(written.contains("+ made.txt ") && written.contains("+ made.txt.copy"), "{rows}");
    let mut why = sandbox.agentrec(["why", "made.txt.copy", "--trace"]);
    let why = String::from_utf8(succeed(why.arg(&path)).stdout).unwrap();
    assert!(why.contains("write (sums)") && why.contains("said: “Now a file.”"), "{why}");
}

#[test]
fn a_models_call_is_carried_out_by_a_server_by_ptrace() {
    a_models_call_is_carried_out_by_a_server("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_a_models_call_is_carried_out_by_a_server_by_ebpf() {
    a_models_call_is_carried_out_by_a_server("ebpf");
}

fn node_talks_through_sockets(engine: &str) {
    if !std::path::Path::new("/usr/bin/node").exists() {
        return;
    }
    let sandbox = Sandbox::new();
    let path = sandbox.path("trace.zst");
    let mut run = sandbox.agentrec(["run", "--engine", engine, "-o", path.to_str().unwrap(), "--"]);
    succeed(run.arg("/usr/bin/node").arg(checkout("tests/agents/mcp_node.js")));
    let told = of_the_trace(&Reader::open(&path).unwrap());
    assert!(told.iter().all(|call| call.server == "noder" && call.proc != Some(ProcId(1))));
    let done: Vec<Done> = told.iter().map(|call| call.done.clone()).collect();
    let greeted =
        |who: &str| ("greet".to_owned(), json!({"who": who}), Ok::<_, String>(format!("hi {who}")));
    let died = Err("the server ended without an answer".to_owned());
    let expected = [greeted(&"x".repeat(1 << 20)), greeted("b"), ("die".into(), json!({}), died)];
    assert!(done == expected, "by {engine}: {done:.300?}");
    // Answered in the other order.
    assert!(told[1].result < told[0].result, "by {engine}");
}

#[test]
fn node_talks_through_sockets_by_ptrace() {
    node_talks_through_sockets("ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_node_talks_through_sockets_by_ebpf() {
    node_talks_through_sockets("ebpf");
}
