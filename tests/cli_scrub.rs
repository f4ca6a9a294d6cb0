//! `agentrec scrub`: what is taken out of a trace is nowhere in it, and all the rest is as it was.

mod common;

use std::fs;
use std::path::Path;

use agentrec_store::Entry;
use agentrec_trace::event::{Content, HttpRequest, Payload, SnapshotCreated};
use agentrec_trace::{Data, ObjectId, Reader, SnapshotIndex, Value};
use common::built::{self, Built};
use common::{AGENTREC, TestEnv, is_private};

/// What nobody must know: with characters that JSON escapes.
const SECRET: &str = "zanzibar \"quokka\" 4711";

/// What is in the bytes that zstd makes of a trace, and in each of its objects.
fn holds(env: &TestEnv, trace: &Path, text: &str) -> bool {
    let mut zstd = env.command("zstd");
    let output = zstd.arg("-dc").arg(trace).output().expect("zstd runs");
    assert!(output.status.success(), "{output:?}");
    let is_in = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let reader = Reader::open(trace).expect("a trace");
    let objects = reader.objects().expect("an index");
    is_in(&output.stdout)
        || objects.iter().any(|id| is_in(&reader.object(id).expect("sound").expect("listed")))
}

/// The mark that stands in a text.
fn mark_in(text: &str) -> String {
    let at = text.find("[redacted:scrubbed:").unwrap_or_else(|| panic!("no mark: {text}"));
    text[at..at + 28].to_owned()
}

/// Every command that reads a trace.
fn reads(env: &TestEnv, trace: &str) {
    for args in [
        &["show"][..],
        &["show", "--events"],
        &["turns"],
        &["messages"],
        &["ps"],
        &["files"],
        &["graph"],
        &["info"],
        &["export"],
        &["verify"],
        &["audit"],
    ] {
        let ran = env.run(args.iter().chain(&[trace]));
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        assert!(!ran.stdout.contains("zanzibar"), "{args:?}: {ran:?}");
        assert!(!ran.stderr.contains("passing over"), "{args:?}: {ran:?}");
    }
    let ran = env.run(["diff", trace]);
    assert!(ran.code <= 1 && !ran.stdout.contains("zanzibar"), "{ran:?}");
}

#[test]
fn scrub_takes_it_out_of_everything_a_session_holds() {
    let env = TestEnv::new();
    let agent = r#"
import agentrec_sdk as rec, base64, json, os, subprocess, sys
secret = open("plain").read().strip()
rec.record_message("user", "remember " + secret)
rec.record_message("assistant", [{"type": "text", "text": "I will: " + secret + "; " + "so it is. " * 600}])
rec.record_tool_call("note", {"json": json.dumps({"s": secret}), secret: [1, secret.encode()]})
rec.event("my.event", deep={"a": [secret]})
print("out:", secret)
open("../user/notes", "w").write("overwritten\n")
subprocess.run(["echo", "argument " + secret], env={"PATH": os.environ["PATH"], "LANG": secret})
os.mkdir("dir of zanzibar \"quokka\" 4711")
open("dir of zanzibar \"quokka\" 4711/file", "w").write("a\n" * 5000 + secret + "\n" + "b\n" * 5000)
open("escaped.json", "w").write(json.dumps({"a": [secret, 1]}))
open("encoded", "w").write("Basic " + base64.b64encode(("user:" + secret).encode()).decode() + "\n")
open("binary", "wb").write(bytes(range(256)) * 40)
os.symlink("to " + secret, "link")
rec.snapshot("with " + secret, messages=[{"role": "user", "content": secret + " " + "x" * 400}], last_result=4711)
"#;
    env.write("agent.py", agent);
    env.write("plain", &format!("{SECRET}\n"));
    env.write("sub/untouched", "nothing of it\n");
    fs::write(env.outside("notes"), format!("outside: {SECRET}\n")).expect("ours");
    let recorded = env.record_with(&["--with-sdk"], &["python3", "agent.py"]);
    assert!(holds(&env, &recorded.trace, SECRET));
    let out = env.outside("out.zst");
    let name = out.to_str().expect("text");
    let told = env.json(["scrub", SECRET, &recorded.id, "-o", name]).remove(0);
    assert!(is_private(&out));
    assert!(!holds(&env, &out, SECRET) && !holds(&env, &out, "zanzibar"), "{told}");
    let escaped = SECRET.replace('"', "\\\"");
    assert!(!holds(&env, &out, &escaped) && !holds(&env, &out, &escaped.replace('\\', "\\\\\\")));
    assert!(!holds(&env, &out, "emFuemliYXIg"), "base64 of its beginning");
    reads(&env, name);
    for kind in [
        "message",
        "tool.call",
        "term.output",
        "process.exec",
        "file.open",
        "file.kept",
        "snapshot.created",
        "my.event",
    ] {
        assert!(told["events"][kind].as_u64() > Some(0), "no {kind}: {told}");
    }
    let (before, after) = (Reader::open(&recorded.trace), Reader::open(&out));
    let (before, after) = (before.expect("a trace"), after.expect("a trace"));
    assert_eq!(before.len(), after.len());
    let changed: Vec<u64> = before
        .iter()
        .zip(after.iter())
        .map(|(old, new)| (old.expect("sound"), new.expect("sound")))
        .filter(|(old, new)| {
            assert_eq!(
                (old.seq, old.ts, old.proc, old.cause),
                (new.seq, new.ts, new.proc, new.cause)
            );
            old != new
        })
        .map(|(old, _)| old.seq.0)
        .collect();
    assert_eq!(told["addresses"], serde_json::json!(changed), "what it says is what changed");
    // The files: all that had nothing of it are as they were, and the others have the mark where it stood.
    assert_eq!(env.run(["restore", &format!("{name}@s3"), "--dir", "new"]).code, 0);
    let read =
        |path: &str| fs::read(env.work().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    for same in ["binary", "sub/untouched", "agent.py"] {
        assert!(same == "agent.py" || read(&format!("new/{same}")) == read(same), "{same}");
    }
    let text = |path: &str| String::from_utf8(read(path)).expect("text");
    let mark = mark_in(&text("new/plain"));
    assert_eq!(text("new/plain"), format!("{mark}\n"));
    assert_eq!(text("new/escaped.json"), format!("{{\"a\": [\"{mark}\", 1]}}"));
    assert_eq!(text("new/encoded"), format!("Basic {mark}\n"));
    let expected = format!("{}{mark}\n{}", "a\n".repeat(5000), "b\n".repeat(5000));
    assert_eq!(text(&format!("new/dir of {mark}/file")), expected);
    let link = fs::read_link(env.work().join("new/link")).expect("a link");
    assert_eq!(link.to_str(), Some(format!("to {mark}").as_str()));
    let messages = env.ok(["messages", name]);
    assert!(messages.contains(&format!("remember {mark}")), "{messages}");
    // What remains is said.
    let remains = told["remains"].to_string();
    assert!(
        remains.contains("the old trace") && remains.contains("of this machine's store"),
        "{told}"
    );
    let ids: Vec<&str> =
        told["in_store"].as_array().expect("a list").iter().filter_map(|id| id.as_str()).collect();
    assert!(
        ids.contains(&ObjectId::of(format!("{SECRET}\n").as_bytes()).to_string().as_str()),
        "{told}"
    );
    // A second time there is nothing to do.
    let again =
        env.ok(["scrub", SECRET, name, "-o", env.outside("again.zst").to_str().expect("text")]);
    assert!(again.starts_with("nothing in "), "{again}");
}

#[test]
fn scrub_reaches_what_only_the_store_has() {
    let env = TestEnv::new();
    let large = fs::File::create(env.work().join("large")).expect("ours");
    large.set_len(65 << 20).expect("room for a hole");
    env.write("kept", &format!("in the store alone: {SECRET}\n"));
    env.write(".env", &format!("TOKEN={SECRET}\n"));
    let recorded = env.record("true");
    assert!(!holds(&env, &recorded.trace, SECRET), "it was large enough");
    env.ok(["scrub", SECRET, "-o", "out.zst"]);
    let told = env.json(["scrub", SECRET, "-o", "out.zst", "--force"]).remove(0);
    let ids = told["in_store"].as_array().map(Vec::len);
    assert_eq!(ids, Some(2), "the file and the secret one: {told}");
    let ran = env.run(["restore", "./out.zst@s1", "--dir", "new"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let text = env.read("new/kept").expect("restored");
    assert_eq!(text, format!("in the store alone: {}\n", mark_in(&text)));
    assert_eq!(env.read("new/.env"), env.read(".env"), "the user's own, from the user's own store");
}

#[test]
fn scrub_in_place_leaves_one_trace_under_the_same_address() {
    let env = TestEnv::new();
    let recorded = env.record_with(&["--name", "the-zanzibar-run"], &["echo", "zanzibar"]);
    let before = fs::metadata(&recorded.trace).expect("there");
    env.ok(["scrub", "zanzibar", "--in-place"]);
    assert!(is_private(&recorded.trace) && before.is_file());
    assert!(!holds(&env, &recorded.trace, "zanzibar"));
    assert_eq!(env.run(["verify", &recorded.id]).code, 0);
    let list = env.ok(["list", "--json"]);
    assert!(list.contains(&recorded.id) && !list.contains("zanzibar"), "{list}");
    let left = fs::read_dir(recorded.trace.parent().expect("it has one")).expect("there").count();
    assert_eq!(left, 1, "nothing half-written is left");
}

#[test]
fn scrub_takes_regular_expressions_and_shows_what_is_equal() {
    let env = TestEnv::new();
    env.write("a", "id tok-1111 and tok-2222\n");
    env.write("b", "again tok-1111\n");
    env.record("cat a b");
    env.ok(["scrub", "--regex", "tok-[0-9]{4}", "-o", "out.zst"]);
    env.ok(["restore", "./out.zst@s1", "--dir", "new"]);
    let (a, b) = (env.read("new/a").expect("there"), env.read("new/b").expect("there"));
    let first = mark_in(&a);
    let second = mark_in(&a[a.find(&first).expect("there") + 28..]);
    assert_eq!(a, format!("id {first} and {second}\n"));
    assert_eq!(b, format!("again {first}\n"));
    assert_ne!(first, second);
    for bad in [&["--regex", "("][..], &["--regex", "x*"], &["redacted"], &[""], &["--regex", "."]]
    {
        let ran = env.run(["scrub", "-o", "bad.zst"].iter().chain(bad));
        assert_eq!(ran.code, 1, "{bad:?}: {ran:?}");
        assert!(ran.stderr.contains("cannot scrub: the pattern can't be taken out"), "{ran:?}");
        assert!(ran.stderr.contains("hint: ") && env.read("bad.zst").is_none(), "{ran:?}");
    }
    let ran = env.run(["scrub", "x", "-o", "out.zst"]);
    assert!(ran.code == 1 && ran.stderr.contains("out.zst exists"), "{ran:?}");
}

/// A body with messages in it, and a snapshot that says where they stand there.
fn with_messages(texts: &[&str]) -> (Built, String) {
    let mut built = Built::new();
    let messages: Vec<_> =
        texts.iter().map(|text| serde_json::json!({"role": "user", "content": text})).collect();
    let messages = serde_json::Value::from(messages).to_string();
    let filler = "f".repeat(5000);
    let body = format!(r#"{{"before":"zanzibar","messages":{messages},"after":"{filler}"}}"#);
    let id = built.object(body.as_bytes());
    let len = body.len() as u64;
    built.event(HttpRequest {
        method: "POST".into(),
        url: "http://localhost/zanzibar".into(),
        body: Content::Object { id, len },
        ..HttpRequest::default()
    });
    let at = body.find(&messages).expect("in there") as u64;
    built.event(SnapshotCreated {
        index: SnapshotIndex(1),
        messages: Payload::Json { id, at, len: messages.len() as u64 },
        ..SnapshotCreated::default()
    });
    (built, messages)
}

/// The messages of the snapshot, as JSON.
fn messages_of(trace: &Path) -> serde_json::Value {
    let reader = Reader::open(trace).expect("a trace");
    for event in reader.iter() {
        if let Data::SnapshotCreated(created) = event.expect("sound").data {
            let value: Value = reader.payload(&created.messages).expect("there");
            return serde_json::to_value(value).expect("JSON");
        }
    }
    panic!("no snapshot");
}

#[test]
fn scrub_keeps_what_stands_in_a_body_at_its_place() {
    let env = TestEnv::new();
    let (trace, out) = (env.work().join("t.zst"), env.work().join("out.zst"));
    let scrub = |pattern: &str| {
        env.ok(["scrub", pattern, "./t.zst", "-o", "out.zst", "--force"]);
        assert!(!holds(&env, &out, pattern));
        assert_eq!(env.run(["verify", "./out.zst"]).code, 0);
        messages_of(&out)
    };
    let (built, _) = with_messages(&["one zanzibar", "two \u{e9}", "12345678"]);
    built.save(&trace);
    let messages = scrub("zanzibar");
    let said = messages[0]["content"].as_str().expect("text");
    assert_eq!(said, format!("one {}", mark_in(said)));
    assert_eq!(messages[1]["content"], "two \u{e9}");
    // A match over the end of the messages, and one over the quotes between two texts of them.
    let (built, _) = with_messages(&["one zanzibar", "two"]);
    built.save(&trace);
    let messages = scrub("\"two\"}],\"after\"");
    assert_eq!(messages[0]["content"], "one zanzibar", "{messages}");
    let messages = scrub("zanzibar\"},{\"role\":\"user\"");
    assert_eq!(messages[1]["content"], "two", "{messages}");
}

#[test]
fn scrub_survives_hostile_traces() {
    let env = TestEnv::new();
    let mut built = Built::new();
    let long = format!("{}zanzibar", "n".repeat(240));
    let secret = built.file("zanzibar", b"zanzibar");
    let missing = built::file("missing", ObjectId::of(b"nowhere zanzibar"), 10);
    let same: Vec<Entry> = vec![
        secret.clone(),
        built.file(&long, b"long"),
        missing,
        built::symlink("up", "/etc/zanzibar"),
        built.file([0xff, b'z'], b"\xff zanzibar \xfe"),
    ];
    let inner = built.dir("zanzibar-dir", same.clone());
    let tree = built.tree(same.into_iter().chain([inner]).collect());
    let not_a_tree = built.object(b"zanzibar is no tree");
    built.snapshot_of(vec![
        ("/zanzibar", tree),
        ("/gone", ObjectId::of(b"no such tree")),
        ("/x", tree),
    ]);
    let deep = (0..100).fold(Value::from("zanzibar"), |value, _| Value::Array(vec![value]));
    let fields = Value::Map(vec![
        (Value::from("zanzibar"), deep),
        (Value::from("id"), Value::Binary(not_a_tree.0.to_vec())),
        (Value::from("n"), Value::from(7_777_777)),
    ]);
    let name = "x.zanzibar".into();
    built.event(Data::Other { layer: agentrec_trace::Layer::Agent, name, fields });
    let trace = env.work().join("t.zst");
    built.save(&trace);
    let told = env.json(["scrub", "zanzibar", "./t.zst", "-o", "out.zst"]).remove(0);
    let out = env.work().join("out.zst");
    assert!(!holds(&env, &out, "zanzibar"), "{told}");
    assert_eq!(env.run(["verify", "./out.zst"]).code, 0);
    let unseen = told["unseen"].to_string();
    assert!(unseen.contains("/missing") && unseen.contains("/gone"), "{told}");
    let exported = env.json(["export", "./out.zst"]);
    let other =
        exported.iter().find(|event| event["type"].as_str().is_some_and(|t| t.starts_with("x.")));
    let other = other.expect("the event is there");
    // The object that it named is named as it is called now.
    let reader = Reader::open(&out).expect("a trace");
    let named: Vec<ObjectId> = reader
        .objects()
        .expect("an index")
        .into_iter()
        .filter(|id| {
            reader
                .object(id)
                .ok()
                .flatten()
                .is_some_and(|content| content.ends_with(b" is no tree"))
        })
        .collect();
    assert_eq!(named.len(), 1);
    assert!(!other.to_string().contains("zanzibar"), "{other}");
    let ran = env.run(["restore", "./out.zst@s1", "--dir", "new"]);
    assert!(ran.code == 1 && ran.stdout.contains("missing missing"), "{ran:?}");
    env.ok(["scrub", "7777777", "./out.zst", "-o", "digits.zst"]);
    assert!(!env.ok(["export", "./digits.zst"]).contains("7777777"), "a number goes too");
}

#[test]
fn scrub_refuses_what_it_cannot_write_again() {
    let env = TestEnv::new();
    let recorded = env.record("echo zanzibar");
    let mut bytes = fs::read(&recorded.trace).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(env.work().join("damaged.zst"), bytes).expect("ours");
    let ran = env.run(["scrub", "zanzibar", "./damaged.zst", "-o", "out.zst"]);
    assert!(ran.code == 1 && ran.stderr.contains("damaged at offset"), "{ran:?}");
    let mut live = env.start(&[], &format!("echo ready; read line; {AGENTREC} --version"));
    live.wait_for("ready");
    let ran = env.run(["scrub", "zanzibar", "--in-place"]);
    assert!(ran.code == 1 && ran.stderr.contains("is being recorded"), "{ran:?}");
    assert!(ran.stderr.contains("hint: wait for its end"), "{ran:?}");
    live.tell("go");
    live.finish();
    assert!(env.read("out.zst").is_none() && env.read("out.zst.partial").is_none());
}
