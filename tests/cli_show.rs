//! `agentrec show`, `ps`, `why`, `info`: what a user sees of a recorded session.

mod common;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use common::{TestEnv, objects, of_kind};
use serde_json::Value;

fn text(value: &Value) -> String {
    value["text"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn show_groups_by_process_with_files_and_connections() {
    let env = TestEnv::new();
    env.write("in.txt", "in");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let python = format!("import socket; socket.create_connection(('127.0.0.1', {port}))");
    let script =
        format!("cat in.txt > out.txt; python3 -c \"{python}\"; sh -c 'rm in.txt; exit 4'");
    env.record(&script);
    let shown = env.ok(["show"]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].contains("sh -c") && lines[0].contains("exit 4"), "{shown}");
    assert!(lines[1].contains("ptrace") && lines[1].contains("complete, 0 lost"), "{shown}");
    let row = |words: &[&str]| {
        lines
            .iter()
            .position(|line| words.iter().all(|word| line.contains(word)))
            .unwrap_or_else(|| panic!("no {words:?}: {shown}"))
    };
    assert!(row(&["+ out.txt"]) > row(&["p1", "sh -c"]), "{shown}");
    assert!(row(&["reads in.txt"]) > row(&["p2", "cat in.txt", "exit 0"]), "{shown}");
    assert!(row(&["connects", &format!("127.0.0.1:{port}")]) > row(&["python3 -c"]), "{shown}");
    // The deletion was done by a child of the child: it stands under the direct child.
    assert!(row(&["- in.txt"]) > row(&["sh -c 'rm in.txt; exit 4'", "exit 4"]), "{shown}");
    row(&["hosts", &format!("127.0.0.1:{port} 1")]);
    row(&["saved", "s1 start", "s2 end"]);
}

#[test]
fn show_folds_what_changed_nothing_into_one_line() {
    let env = TestEnv::new();
    env.write("in", "in");
    env.record("(:); /bin/true; echo a | cat; /bin/true; /bin/true; cat in; touch made; /bin/true; sh -c 'exit 3'");
    let shown = env.ok(["show"]);
    let folded: Vec<_> = shown.lines().filter(|line| line.starts_with("… ")).collect();
    assert_eq!(folded.len(), 1, "{shown}");
    assert!(
        folded[0].contains("  4 that changed nothing  p3 true  p5 cat  p6 true  p7 true"),
        "{shown}"
    );
    // A reader of the tree, a writer, one alone, and one that failed.
    for stays in ["p8 ", "p9 ", "p10 ", "p11 "] {
        assert!(shown.lines().any(|line| line.starts_with(stays)), "no {stays}: {shown}");
    }
    assert!(env.ok(["ps"]).lines().count() > 10);
}

#[test]
fn show_takes_pipes_and_devices_for_no_files() {
    let env = TestEnv::new();
    env.record("echo out; echo err >&2; echo x > /dev/null; echo a | cat; cat /proc/self/stat; sh -c 'echo a | cat >&2'");
    for args in [["show", "--no-pager"].as_slice(), &["ps"], &["show", "--json"]] {
        let ran = env.run(args);
        let text = &ran.stdout;
        assert!(!text.contains("pipe:[") && !text.contains("OUTSIDE"), "{args:?}: {text}");
    }
}

#[test]
fn show_folds_directories_and_marks_what_is_outside_and_secret() {
    let env = TestEnv::new();
    env.write("old/a", "");
    env.write("old/b", "");
    env.write(".env", "PASSWORD=x");
    let outside = env.outside("rc");
    let script = format!(
        "rm -r old; sh -c 'mkdir new; touch new/1 new/2'; cat .env > /dev/null; echo x > {}",
        outside.display()
    );
    env.record(&script);
    let shown = env.ok(["show"]);
    assert!(shown.contains("- old/  2 files"), "{shown}");
    assert!(shown.contains("+ new/  2 files"), "{shown}");
    assert!(shown.contains("reads .env SECRET"), "{shown}");
    assert!(shown.contains("~/rc  2 B  OUTSIDE the tree"), "{shown}");
    assert!(!shown.contains("~ /dev/null"), "{shown}");
}

#[test]
fn show_puts_processes_under_the_tool_call_that_started_them() {
    let env = TestEnv::new();
    let code = r#"
import agentrec_sdk as rec, subprocess
rec.record_message("user", "tidy up\n\x1b[31mnow")
@rec.tool
def shell(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout
@rec.tool
def fails():
    raise ValueError("no luck")
shell("touch made")
try:
    fails()
except ValueError:
    pass
"#;
    env.write("agent.py", code);
    env.record_with(&["--with-sdk"], &["python3", "agent.py"]);
    let shown = env.ok(["show"]);
    let at = |wanted: &str| shown.find(wanted).unwrap_or_else(|| panic!("no {wanted}: {shown}"));
    assert!(at("user: “tidy up\\n\\u{1b}[31mnow”") < at("shell touch made"), "{shown}");
    assert!(at("shell touch made") < at("└ "), "{shown}");
    assert!(at("└ ") < at("+ made"), "{shown}");
    assert!(shown.contains("ValueError: no luck"), "{shown}");
    let values = env.json(["show"]);
    let call = of_kind(&values, "call")[0];
    assert_eq!(call["arguments"]["command"], "touch made");
    let child = of_kind(&values, "process")
        .into_iter()
        .find(|p| !p["call"].is_null())
        .expect("one under a call");
    assert_eq!(child["call"], call["seq"]);
    assert_eq!(text(&child["changes"][0]["path"]), env.work().join("made").display().to_string());
}

#[test]
fn show_has_a_flat_timeline_with_filters() {
    let env = TestEnv::new();
    env.write("src/a.txt", "a");
    env.record("cat src/a.txt; mkdir d; mv src/a.txt d/b.txt; cd d; rm b.txt");
    let lines = |args: &[&str]| -> Vec<String> {
        let all = ["show", "--events"].iter().chain(args);
        env.ok(all).lines().map(str::to_owned).collect()
    };
    let all = lines(&[]);
    assert!(all[0].starts_with("#1 ") && all[0].contains("session.start"), "{all:?}");
    assert!(all.last().is_some_and(|last| last.contains("session.stop")), "{all:?}");
    let renames = lines(&["--type", "file.rename"]);
    assert_eq!(renames.len(), 1);
    assert!(renames[0].contains("src/a.txt -> d/b.txt"), "{renames:?}");
    let about = lines(&["--path", "src/*.txt"]);
    assert!(
        about.iter().any(|line| line.contains("file.close") && line.contains("read 1 B")),
        "{about:?}"
    );
    assert!(about.iter().all(|line| line.contains("src/a.txt")), "{about:?}");
    let agent = lines(&["--layer", "agent"]);
    assert!(agent.iter().all(|line| line.contains("snapshot.created")), "{agent:?}");
    assert_eq!(agent.len(), 2);
    let second = lines(&["--proc", "p2", "--type", "process.*"]);
    assert!(second.iter().all(|line| line.contains(" p2 ")) && !second.is_empty(), "{second:?}");
    let last = lines(&["--since", &format!("#{}", all.len())]);
    assert_eq!(last, all[all.len() - 1..]);
    assert_eq!(lines(&["--tail", "2"]), all[all.len() - 2..]);
    assert_eq!(lines(&["--since", "1h"]), all);
    assert_eq!(lines(&["--type", "http.get"]), [""; 0]);
    let bad = env.run(["show", "--type", "file.[", "--events"]);
    assert_eq!(bad.code, 1);
    assert!(bad.stderr.contains("agentrec: cannot use the pattern `file.[`"), "{bad:?}");
}

#[test]
fn show_json_loses_no_byte() {
    let env = TestEnv::new();
    env.record("touch \"$(printf 'a\\377b')\"");
    let opens = env.json(["show", "--type", "file.open", "--path", "a*"]);
    let opened = opens.iter().find(|event| event["data"]["created"] == true).expect("created");
    let bytes = opened["data"]["path"]["bytes"].as_str().expect("not text");
    // The base64 of …/work/a\xffb: what stands before depends on where the test runs.
    let decoded = decode_base64(bytes);
    assert!(decoded.ends_with(b"/work/a\xffb"), "{decoded:?}");
    let shown = env.ok(["show"]);
    assert!(shown.contains("+ a\\xffb"), "{shown}");
}

fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> =
        text.bytes().filter(|c| *c != b'=').map(|c| u32::from(digit(c))).collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

#[test]
fn show_follows_a_running_session_to_its_end() {
    let env = TestEnv::new();
    let mut live = env.start(&["--name", "running"], "echo up; read x; touch later");
    live.wait_for("up");
    let mut follow = env
        .agentrec(["show", "running", "--follow", "--type", "file.*", "--path", "later", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    live.tell("go");
    live.finish();
    let lines: Vec<_> = BufReader::new(follow.stdout.take().expect("piped"))
        .lines()
        .map_while(Result::ok)
        .collect();
    assert!(follow.wait().expect("it ends").success());
    let types: Vec<_> =
        lines.iter().flat_map(|line| objects(line)).map(|event| event["type"].clone()).collect();
    assert_eq!(types.first().and_then(Value::as_str), Some("file.open"), "{lines:?}");
}

#[test]
fn show_tells_one_event_or_process() {
    let env = TestEnv::new();
    let recorded = env.record("true; /bin/echo");
    let event = env.json(["show", "#1"]);
    assert_eq!(event[0]["data"]["session"], recorded.id.as_str());
    let process = env.ok(["show", "p2"]);
    assert!(process.lines().all(|line| line.contains(" p2 ")), "{process}");
    let missing = env.run(["show", "#999999"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("cannot show #999999: the trace has"), "{missing:?}");
    let nobody = env.run(["show", "p99"]);
    assert_eq!((nobody.code, nobody.stdout.as_str()), (1, ""));
    assert!(nobody.stderr.contains("cannot find a process p99"), "{nobody:?}");
    assert_eq!(
        env.run(["show", "p2", "--type", "tool.*"]).code,
        0,
        "it is there, without such events"
    );
    let turn = env.run(["show", "t1"]);
    assert_eq!(turn.code, 1);
    assert!(turn.stderr.contains("hint: "), "{turn:?}");
}

#[test]
fn show_says_where_a_trace_was_cut_off() {
    let env = TestEnv::new();
    let recorded = env.record("true");
    let whole = std::fs::read(&recorded.trace).expect("a trace");
    std::fs::write(env.work().join("cut.zst"), &whole[..30]).expect("a file of ours");
    let shown = env.ok(["show", "./cut.zst"]);
    assert!(shown.contains("cut off at byte 20: the file ends inside a frame"), "{shown}");
}

#[test]
fn show_of_nothing_says_what_to_do() {
    let env = TestEnv::new();
    let ran = env.run(["show"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.starts_with("agentrec: cannot find a trace: nothing was recorded in "),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("\nhint: agentrec run -- COMMAND"), "{ran:?}");
    let ran = env.run(["show", "./nothing.zst"]);
    assert!(ran.stderr.contains("cannot read the trace ./nothing.zst: "), "{ran:?}");
    assert!(ran.stderr.contains("no such file or directory"), "{ran:?}");
}

#[test]
fn show_finds_the_last_session_of_this_directory_or_of_the_one_above() {
    let env = TestEnv::new();
    env.write("sub/file", "");
    env.record("true");
    let last = env.record("true");
    let mut command = env.agentrec(["show", "--json"]);
    let output = command.current_dir(env.work().join("sub")).output().expect("it runs");
    let shown = objects(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(shown[0]["session"], last.id.as_str());
}

#[test]
fn show_colours_and_pages_only_on_a_terminal() {
    let env = TestEnv::new();
    env.record("true");
    let agentrec = common::AGENTREC;
    assert!(!env.ok(["show"]).contains('\x1b'));
    assert!(env.ok(["show", "--color", "always"]).contains("\x1b["));
    let line = format!("{agentrec} show");
    let paged = env.in_terminal(&line, &[("PAGER", "sed s/^/paged:/")]);
    assert!(paged.stdout.starts_with("paged:") && paged.stdout.contains("\x1b["), "{paged:?}");
    let plain = env.in_terminal(&line, &[("PAGER", "cat"), ("NO_COLOR", "1")]);
    assert!(!plain.stdout.contains('\x1b'), "{plain:?}");
    let left = env.in_terminal(&line, &[("PAGER", "true")]);
    assert_eq!(left.code, 0, "a pager that was left early is no error: {left:?}");
}

#[test]
fn lines_keep_to_the_columns_of_the_terminal() {
    let env = TestEnv::new();
    let long = "a-directory-with-a-long-name/and-another-one/and-a-file-with-a-long-name-that-goes-on-and-on";
    env.record(&format!("cat {long} {long} {long}; sh -c 'cat {long}; true'; true"));
    let wide = ["show", "show --events", "ps", "list", "info", "run -- true"]
        .map(|command| (100, command));
    for (wanted, command) in wide.into_iter().chain([(80, "show"), (80, "run -- true")]) {
        let line =
            format!("stty rows 40 cols {wanted}; {} {command} --color always", common::AGENTREC);
        let line = line.replace("run -- true --color always", "run --color always -- true");
        let shown = env.in_terminal(&line, &[("PAGER", "cat")]).stdout;
        assert!(shown.contains('\x1b') && !shown.is_empty(), "{command}: {shown}");
        for line in shown.lines() {
            let mut parts = line.trim_end().split('\x1b');
            let styled =
                |part: &str| part.split_once('m').map_or(0, |(_, text)| text.chars().count());
            let columns = parts.next().map_or(0, |text| text.chars().count());
            let columns = columns + parts.map(styled).sum::<usize>();
            assert!(columns <= wanted, "{command}: {columns} columns: {line:?}");
        }
    }
}

#[test]
fn show_into_a_closed_pipe_is_no_error() {
    let env = TestEnv::new();
    // Enough output that the pipe breaks while we write.
    env.record("i=0; while [ $i -lt 400 ]; do echo > f$i; i=$((i+1)); done");
    let agentrec = common::AGENTREC;
    let ran = env
        .command("bash")
        .args(["-c", &format!("{agentrec} show -e | head -n 1; echo ${{PIPESTATUS[0]}}")])
        .output();
    let output = ran.expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout.lines().count(), 2, "{stdout}");
    assert_eq!(stdout.lines().last(), Some("0"), "{stdout}");
    assert_eq!(output.stderr, b"");
}

#[test]
fn ps_shows_the_tree_with_what_each_read_and_wrote() {
    let env = TestEnv::new();
    env.write("data", "12345");
    env.record("sh -c 'cat data > copy; exit 3'; kill -TERM $$");
    let shown = env.ok(["ps"]);
    let line = |word: &str| {
        shown
            .lines()
            .find(|line| line.contains(word))
            .unwrap_or_else(|| panic!("no {word}: {shown}"))
    };
    assert!(line("kill -TERM").contains("SIGTERM"), "{shown}");
    assert!(line("  sh -c 'cat data").contains("exit 3"), "{shown}");
    let values = env.json(["ps"]);
    let cat = values.iter().find(|p| text(&p["argv"][0]) == "cat").expect("cat ran");
    let data = cat["reads"]
        .as_array()
        .and_then(|reads| reads.iter().find(|r| text(&r["path"]).ends_with("/work/data")));
    assert_eq!(data.expect("it was read")["bytes"], 5);
    let below = env.json(["ps", "p2"]);
    assert_eq!(below.len(), values.len() - 1);
    assert_eq!(env.run(["ps", "p99"]).code, 1);
}

#[test]
fn why_tells_the_chain_of_processes() {
    let env = TestEnv::new();
    env.write("a", "1");
    env.record("echo 22 > b; sh -c 'rm a; mv b c'");
    let deleted = env.ok(["why", "a"]);
    let first = deleted.lines().next().unwrap_or_default();
    assert!(first.starts_with("deleted ") && first.contains(" by rm "), "{deleted}");
    assert!(first.contains(" <- sh -c 'rm a; mv b c' <- sh -c "), "{deleted}");
    let renamed = env.ok(["why", "c"]);
    let lines: Vec<_> = renamed.lines().collect();
    assert!(lines[0].starts_with("renamed from b "), "{renamed}");
    assert!(lines[1].starts_with("created (3 B) "), "{renamed}");
    assert_eq!(lines[2], "  as b");
    let values = env.json(["why", "c"]);
    assert_eq!(values[0]["what"], "renamed from");
    assert_eq!(values[1]["written"], 3);
}

#[test]
fn why_names_the_tool_call_and_what_the_agent_said() {
    let env = TestEnv::new();
    let code = r#"
import agentrec_sdk as rec, subprocess
@rec.tool
def shell(command):
    return subprocess.run(command, shell=True).returncode
rec.record_message("assistant", "I remove the old file.")
shell("rm a")
"#;
    env.write("agent.py", code);
    env.write("a", "");
    env.record_with(&["--with-sdk"], &["python3", "agent.py"]);
    let told = env.ok(["why", "a"]);
    assert!(told.contains(" shell (inferred)") || told.contains(" shell (recorded)"), "{told}");
    assert!(told.contains("  shell rm a\n"), "{told}");
    assert!(told.contains("said: “I remove the old file.”"), "{told}");
}

#[test]
fn why_and_blame_take_the_session_in_front_of_the_file() {
    let env = TestEnv::new();
    env.write("a", "one\n");
    let first = env.record("echo two >> a; echo x > logo@2x.png; echo y > last@b");
    env.record("rm last@b; true second");
    let of_first = |file: &str| format!("{}@{file}", first.id);
    let whole = env.ok(["why", &of_first("a")]);
    assert!(whole.starts_with("modified (4 B) "), "{whole}");
    assert_eq!(whole, env.ok(["why", "--trace", &first.id, "a"]));
    let line = env.ok(["why", &of_first("a:2")]);
    assert!(line.starts_with("a:2  two\n") && line.contains(" by sh "), "{line}");
    let by_trace = format!("{}@a:2", first.trace.display());
    assert_eq!(env.ok(["why", &by_trace]), line);
    let blamed = env.ok(["blame", &of_first("a")]);
    assert!(blamed.lines().nth(1).is_some_and(|line| line.starts_with("sh ")), "{blamed}");
    assert_eq!(blamed, env.ok(["blame", "--trace", &first.id, "a"]));
    assert_eq!(env.run(["why", "last@a"]).code, 1, "the last one did not change it");

    // A file that is there, and one that is named as a path, have an @ in their names.
    let there = env.run(["why", "logo@2x.png"]);
    assert!(there.stderr.contains("cannot tell why logo@2x.png is as it is"), "{there:?}");
    assert!(env.ok(["why", "./last@b"]).starts_with("deleted "));
    assert!(env.ok(["why", "--trace", &first.id, "last@b"]).starts_with("created "));
    let unknown = env.run(["why", "icon@2x.png"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("cannot find the trace `icon`"), "{unknown:?}");
    assert!(unknown.stderr.contains("for a file of that name write ./icon@2x.png"), "{unknown:?}");
    let place = env.run(["why", "t1@a"]);
    assert!(place.stderr.contains("cannot use t1 here"), "{place:?}");
}

#[test]
fn why_of_what_nothing_changed_names_the_readers() {
    let env = TestEnv::new();
    env.write("a", "1");
    env.record("cat a");
    let ran = env.run(["why", "a"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("nothing in"), "{ran:?}");
    assert!(ran.stderr.contains("hint: it was opened by p2 cat"), "{ran:?}");
}

#[test]
fn info_tells_what_is_inside_and_what_was_not_seen() {
    let env = TestEnv::new();
    env.write("kept", "k");
    env.write(".env", "PASSWORD=correct-horse");
    let recorded = env.record("true");
    let shown = env.ok(["info"]);
    assert!(shown.contains(&recorded.id), "{shown}");
    assert!(shown.contains("secret, never in a trace: .env"), "{shown}");
    assert!(shown.contains("not seen\n  nothing was lost of what is covered"), "{shown}");
    let seal = recorded.closing["seal"].as_str().expect("sealed");
    assert!(shown.contains(seal), "{shown}");
    let values = env.json(["info"]);
    let contents = &of_kind(&values, "snapshot")[0]["contents"];
    assert_eq!(
        (&contents["in_trace"], &contents["in_store"]),
        (&1.into(), &1.into()),
        "{contents}"
    );
}
