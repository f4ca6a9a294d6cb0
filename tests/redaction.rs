//! No secret reaches a trace, whichever way it takes: environment, arguments, output, messages, tool calls, secret files.

#[path = "agents/sandbox.rs"]
mod sandbox;

use std::fs::{self, File};
use std::io::Read;

use agentrec_trace::event::{Content, TermOutput};
use agentrec_trace::{Data, Reader};
use sandbox::{Sandbox, checkout, python, succeed};

/// Sends everything it finds in its input file along every way there is.
const AGENT: &str = r#"
import json, os, subprocess, sys, agentrec_sdk

given = json.load(open("../given.json"))
for text in given["planted"]:
    print(text, flush=True)
    middle = len(text) // 2
    os.write(1, text[:middle].encode())
    os.write(1, text[middle:].encode() + b"\n")
    os.write(2, text.encode() + b"\n")
    subprocess.run(["/bin/echo", text])
    subprocess.run(["/bin/sh", "-c", f"cat > /dev/null <<'END'\n{text}\nEND\n"])
    if "/" not in text:  # taken for a program and for a file
        try: subprocess.run([text])
        except OSError: pass
        try: open(text)
        except OSError: pass
    agentrec_sdk.record_message("user", text, note=text)
    agentrec_sdk.record_message("user", [{"type": "text", "text": text}])
    call = agentrec_sdk.record_tool_call("shell", {"command": text})
    agentrec_sdk.record_tool_result(call, {"output": [text]})
    agentrec_sdk.record_tool_result(call, error=text)
    agentrec_sdk.event("my.step", text=text, nested={"deep": [text]})
for secret in given["bare"]:
    subprocess.run(["/bin/echo", "--password", secret, f"--api-key={secret}"])
    agentrec_sdk.record_tool_call("login", {"user": "ada", "password": secret})
    subprocess.run(["/bin/true"], env={**os.environ, "NAME_THAT_NO_RULE_KNOWS": secret})
agentrec_sdk.snapshot(
    given["planted"][0],
    messages=[{"role": "user", "content": text} for text in given["planted"]],
    system_prompt=given["planted"][1],
    tools=given["planted"],
    last_query=given["planted"][2],
    last_result=given["planted"],
)
for text in given["harmless"]:
    print(text, flush=True)
# Secret files: one that was there, one that is changed.
open(".env", "a").write("ADDED=later\n")
print(open(".npmrc").read().count("registry"), flush=True)
open("notes.txt", "w").write("an ordinary file is kept as it is")
"#;

/// In files whose names or contents say that they are secret; no rule knows these by their shape.
const IN_FILES: [(&str, &str, &str); 5] = [
    (".env", "APP_PLAIN=", "zebra-quartz-lantern-71"),
    (".env.production", "WHATEVER=", "violet-anchor-meadow-28"),
    (".npmrc", "//registry.example/:note=", "copper-falcon-thicket-93"),
    ("id_rsa", "", "amber-walrus-pepper-46"),
    ("keys/server.txt", "-----BEGIN PRIVATE KEY-----\n", "bWFyYmxlLWNhY3R1cy1vcmJpdC01Mg"),
];

fn table(name: &str) -> Vec<serde_json::Value> {
    let path = checkout("recorder/tests/redaction").join(name);
    let lines = fs::read_to_string(path).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn planted_secrets_are_in_no_byte_of_the_trace_and_look_alikes_are() {
    let field = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().replace('~', "");
    let planted: Vec<String> =
        table("planted.jsonl").iter().map(|row| field(row, "text")).collect();
    let mut secrets: Vec<String> =
        table("planted.jsonl").iter().map(|row| field(row, "secret")).collect();
    let harmless: Vec<String> =
        table("harmless.jsonl").iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    assert!(secrets.len() >= 40 && harmless.len() >= 20);

    let sandbox = Sandbox::new();
    let work = sandbox.work();
    let given = serde_json::json!({"planted": planted, "bare": secrets, "harmless": harmless});
    fs::write(sandbox.path("given.json"), given.to_string()).unwrap();
    fs::write(sandbox.path("agent.py"), AGENT).unwrap();
    fs::create_dir(work.join("keys")).unwrap();
    for (name, before, secret) in IN_FILES {
        fs::write(work.join(name), format!("{before}{secret}\n")).unwrap();
        secrets.push(secret.to_owned());
    }

    let trace = sandbox.path("trace.zst");
    let mut command = sandbox.agentrec(["run", "--with-sdk", "-o"]);
    command.arg(&trace).arg("--").arg(python()).arg(sandbox.path("agent.py"));
    for (number, secret) in secrets.iter().enumerate() {
        command.env(format!("SETTING_{number}"), secret);
    }
    succeed(&mut command);

    let bytes = everything(&trace);
    let holds = |needle: &str| {
        let needle = needle.as_bytes();
        bytes.iter().any(|part| part.windows(needle.len()).any(|window| window == needle))
    };
    assert!(holds("an ordinary file is kept as it is"), "the search would find a content");
    assert!(holds("ada") && holds("SETTING_7"), "the search would find an argument and a name");
    let found: Vec<&String> = secrets.iter().filter(|secret| holds(secret)).collect();
    assert!(found.is_empty(), "secrets in the trace: {found:#?}");

    let output = output(&trace);
    for text in &harmless {
        assert!(output.contains(text.as_str()), "{text:?} did not survive in the output");
    }
}

/// All records of the trace as they stand in the file, and every object of it.
fn everything(path: &std::path::Path) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    // Reads on over frame ends, and over the frames that are for other readers.
    zstd::Decoder::new(File::open(path).unwrap()).unwrap().read_to_end(&mut records).unwrap();
    let mut parts = vec![fs::read(path).unwrap(), records];
    let reader = Reader::open(path).unwrap();
    for id in reader.objects().unwrap() {
        parts.push(reader.object(&id).unwrap().unwrap());
    }
    parts
}

/// What the tree wrote to descriptor 1.
fn output(path: &std::path::Path) -> String {
    let reader = Reader::open(path).unwrap();
    let mut output = Vec::new();
    for event in reader.iter() {
        if let Data::TermOutput(TermOutput { fd: 1, data }) =
            reader.resolve(event.unwrap()).unwrap().data
            && let Content::Inline(bytes) = data
        {
            output.extend_from_slice(&bytes);
        }
    }
    String::from_utf8_lossy(&output).into_owned()
}
