//! `agentrec audit`: each section on real recordings, rules of each kind both ways, and trouble that says where it is.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{Ran, TestEnv, of_kind};
use serde_json::Value;

fn text(value: &Value) -> &str {
    value["text"].as_str().unwrap_or_default()
}

/// The lines of a section, without its heading.
fn section<'o>(report: &'o str, title: &str) -> Vec<&'o str> {
    let mut lines = report.lines().skip_while(|line| !line.starts_with(title));
    assert!(lines.next().is_some(), "no section {title}: {report}");
    lines.take_while(|line| !line.is_empty()).collect()
}

fn heading<'o>(report: &'o str, title: &str) -> &'o str {
    let heading = report.lines().find(|line| line.starts_with(title));
    heading.unwrap_or_else(|| panic!("no section {title}: {report}"))
}

/// A line that holds all of the words.
fn has(lines: &[&str], words: &[&str]) -> bool {
    lines.iter().any(|line| words.iter().all(|word| line.contains(word)))
}

/// A session that reads a secret, writes outside, connects, and executes.
fn eventful(env: &TestEnv, port: u16) {
    fs::write(env.outside(".netrc"), "machine h login u password p\n").expect("written");
    fs::write(env.outside("old"), "old").expect("written");
    fs::write(env.outside("victim"), "v").expect("written");
    fs::write(env.outside("notes"), "notes").expect("written");
    env.write("in.txt", "in");
    // 1234 bytes of HTTP: what is no protocol that we read would count as not seen.
    let head = format!("GET / HTTP/1.1\\r\\nHost: 127.0.0.1:{port}\\r\\nX: ");
    let rest = 1234 - head.replace("\\r\\n", "\r\n").len() - "\r\n\r\n".len();
    let connect = format!(
        "import socket; socket.create_connection(('127.0.0.1', {port})).send(
    b'{head}' + b'x' * {rest} + b'\\r\\n\\r\\n')"
    );
    let script = format!(
        "cat ~/.netrc ~/.netrc >/dev/null; cat in.txt > out.txt; echo new > ~/new; echo more >> ~/old; rm ~/victim
         echo t > ~/tmp; rm ~/tmp; cp /bin/true ./tool; ./tool; cat ~/new ~/notes >/dev/null; python3 -c \"{connect}\""
    );
    env.record_with(&["--keep-max", "0"], &["sh", "-c", &script]);
}

fn rules(env: &TestEnv, text: &str) -> PathBuf {
    let path = env.outside("rules.toml");
    fs::write(&path, text).expect("written");
    path
}

fn audit(env: &TestEnv, text: &str) -> Ran {
    let path = rules(env, text);
    env.run([Path::new("audit"), "--rules".as_ref(), &path])
}

#[test]
fn audit_tells_what_went_outside_and_folds_what_everybody_does() {
    let env = TestEnv::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    eventful(&env, port);
    let ran = env.run(["audit"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = ran.stdout;
    let path = |name: &str| format!("~/{name}");

    let secrets = section(&report, "secret files");
    assert!(has(&secrets, &["~/.netrc", "read", "58 B", "2×", "cat /"]), "{report}");
    assert_eq!(secrets.len(), 1, "{report}");

    let undone = section(&report, "can't be undone");
    assert!(
        has(&undone, &["2 files outside the tree changed or deleted", "old content not kept"]),
        "{report}"
    );

    let written = section(&report, "written outside the tree");
    assert!(has(&written, &[&path("new"), "created", "4 B", "p1 sh -c"]), "{report}");
    assert!(has(&written, &[&path("old"), "changed", "5 B"]), "{report}");
    assert!(has(&written, &[&path("victim"), "deleted", "rm "]), "{report}");
    assert!(has(&written, &["made and removed again: 1"]), "{report}");
    assert!(!has(&written, &["  out.txt  "]) && !has(&written, &["  /dev/null  "]), "{report}");

    let hosts = section(&report, "hosts and services");
    assert!(
        has(&hosts, &[&format!("127.0.0.1:{port}"), "tcp", "1.2 kB sent", "python3 -c"]),
        "{report}"
    );

    assert!(heading(&report, "not seen").contains("nothing was lost"), "{report}");

    let programs = section(&report, "programs executed");
    assert!(has(&programs, &["  tool  ", " p7 tool"]), "{report}");

    let read = section(&report, "read outside the tree");
    assert!(has(&read, &[&path("notes"), "5 B"]), "{report}");
    assert!(has(&read, &["files of its own making read: 1"]), "{report}");
    assert!(has(&read, &["system files read: ", "--all lists them"]), "{report}");
    assert!(!has(&read, &["ld.so.cache"]) && !has(&read, &[".netrc"]), "{report}");

    let all = env.ok(["audit", "--all"]);
    assert!(has(&section(&all, "read outside"), &["/etc/ld.so.cache"]), "{all}");
    let programs = section(&all, "programs executed");
    assert!(has(&programs, &["/cat", "3×", "cat "]), "{all}");
    // What was brought along comes first.
    let row = |word: &str| programs.iter().position(|line| line.contains(word));
    assert!(row("  tool  ") < row("/cat  "), "{all}");
    assert!(has(&section(&all, "written outside"), &["~/tmp", "made and removed"]), "{all}");
    assert!(!all.contains("--all") && !all.contains("violations"), "{all}");
}

#[test]
fn audit_columns_are_aligned_and_addresses_lead_to_their_events() {
    let env = TestEnv::new();
    eventful(&env, 9);
    let report = env.ok(["audit"]);
    let written = section(&report, "written outside the tree");
    let rows: Vec<_> = written.iter().filter(|line| line.trim_start().starts_with('#')).collect();
    assert_eq!(rows.len(), 3, "{report}");
    let column = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
    let starts: Vec<_> = rows.iter().map(|line| column(line, " p").expect("who did it")).collect();
    assert!(starts.iter().all(|start| *start == starts[0]), "{report}");
    let secret = section(&report, "secret files")[0];
    let address = secret.split_whitespace().next().expect("an address");
    let event = env.ok(["show", address]);
    assert!(event.contains("file.open") && event.contains(".netrc"), "{event}");
}

#[test]
fn audit_json_is_one_object_a_line_and_leaves_nothing_out() {
    let env = TestEnv::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    eventful(&env, port);
    let objects = env.json(["audit"]);
    assert_eq!(objects[0]["kind"], "session");
    let only = |kind: &str, path: &str| -> Value {
        let found = of_kind(&objects, kind)
            .into_iter()
            .find(|object| text(&object["path"]).ends_with(path));
        found.unwrap_or_else(|| panic!("no {kind} of {path}: {objects:?}")).clone()
    };
    let secret = only("secret", "/.netrc");
    assert_eq!(secret["was_read"], true);
    assert_eq!(secret["times"], 2);
    assert_eq!(
        secret["by"][0]["command"].as_str().map(|line| line.starts_with("cat ")),
        Some(true)
    );
    assert!(
        secret["by"][0]["pid"].as_u64() > Some(1) && secret["by"][0]["seq"].is_u64(),
        "{secret}"
    );
    assert_eq!(only("write", "/old")["outcome"], "changed");
    assert_eq!(only("write", "/old")["content_lost"], true);
    assert_eq!(only("write", "/new")["content_lost"], false);
    assert_eq!(only("write", "/tmp")["outcome"], "made and removed");
    assert_eq!(only("read", "/etc/ld.so.cache")["system"], true);
    assert_eq!(only("read", "/new")["system"], false);
    assert!(only("exec", "/tool")["by"][0]["proc"].as_u64() > Some(1));
    let connect = of_kind(&objects, "connect")[0];
    assert_eq!(connect["peer"], format!("127.0.0.1:{port}"));
    assert_eq!((&connect["sent"], &connect["remote"]), (&1234.into(), &false.into()));
    let last = objects.last().expect("a last line");
    assert_eq!(
        (&last["kind"], &last["violations"], &last["not_listed"]),
        (&"audit".into(), &Value::Null, &0.into())
    );
}

#[test]
fn audit_rules_of_each_kind_are_broken_or_kept() {
    let env = TestEnv::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    eventful(&env, port);
    for (broken, who, kept) in [
        ("deny.read = ['~/.netrc']", "cat /", "deny.read = ['~/.netrc']\nallow.read = ['.netrc']"),
        ("deny.write = ['~/**']", "sh -c", "deny.write = ['~/nobody/**', '/etc/**']"),
        ("deny.write = ['victim']", "rm ", "deny.write = ['in.txt']"),
        ("deny.write = ['./out.*']", "sh -c", "deny.write = ['/out.*']"),
        ("deny.exec = ['tool']", " tool", "deny.exec = ['/usr/bin/tool']"),
        ("deny.connect = ['127.0.0.0/8']", "python3", "deny.connect = ['10.0.0.0/8', '*:1']"),
        ("deny.connect = ['*']", "python3", "deny.connect = ['*']\nallow.connect = ['localhost']"),
        ("deny.secrets = true", "cat /", "deny.lost = true"),
    ] {
        let ran = audit(&env, broken);
        assert_eq!(ran.code, 1, "{broken}: {ran:?}");
        let first =
            ran.stdout.lines().skip_while(|line| !line.is_empty()).nth(1).unwrap_or_default();
        assert!(
            first.starts_with("violations  ") && first.contains("rules.toml"),
            "{broken}: {}",
            ran.stdout
        );
        let lines = section(&ran.stdout, "violations");
        let rule = broken.split([' ', '=']).next().unwrap_or_default();
        assert!(has(&lines, &["#", rule, who]), "{broken}: {}", ran.stdout);
        let ran = audit(&env, kept);
        assert_eq!(ran.code, 0, "{kept}: {ran:?}");
        assert!(heading(&ran.stdout, "violations").contains("none"), "{kept}: {}", ran.stdout);
    }
    let path = rules(&env, "deny.exec = ['tool']");
    let ran = env.run([Path::new("audit"), "--json".as_ref(), "--rules".as_ref(), &path]);
    assert_eq!(ran.code, 1);
    let objects = common::objects(&ran.stdout);
    let violations = of_kind(&objects, "violation");
    assert_eq!(violations.len(), 1, "{objects:?}");
    assert_eq!(violations[0]["rule"], "deny.exec tool");
    assert_eq!(objects.last().map(|last| last["violations"].clone()), Some(1.into()));
}

#[test]
fn audit_rules_follow_links_to_what_they_mean() {
    let env = TestEnv::new();
    fs::write(env.outside("target"), "old").expect("written");
    fs::write(env.outside(".pgpass"), "secret").expect("written");
    std::os::unix::fs::symlink(env.outside(""), env.work().join("old-link")).expect("linked");
    env.record("ln -s ~ here; echo a > here/by-new; echo b > old-link/by-old; ln ~/target other; echo c > other; cp old-link/.pgpass copy");
    let report = env.ok(["audit"]);
    let written = section(&report, "written outside the tree");
    for name in ["~/by-new", "~/by-old", "~/target"] {
        assert!(has(&written, &[name]), "no {name}: {report}");
    }
    assert!(has(&section(&report, "secret files"), &["~/.pgpass", "read", "cp "]), "{report}");
    let ran = audit(&env, "deny.write = ['~/*']");
    let lines = section(&ran.stdout, "violations");
    for name in ["~/by-new", "~/by-old", "~/target"] {
        assert!(has(&lines, &[name, "deny.write"]), "no {name}: {}", ran.stdout);
    }
}

#[test]
fn audit_tells_what_cannot_be_undone_and_who_is_left_running() {
    let env = TestEnv::new();
    // A script: what runs is its interpreter.
    env.write("curl", "#!/bin/sh\n");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(env.work().join("curl"), executable).expect("ours");
    env.record(
        "mkfifo gate; (: < gate) >/dev/null 2>&1 & git push nowhere 2>/dev/null; ./curl -sd a=b http://h/; exit 0",
    );
    let report = env.ok(["audit"]);
    // Who was left waits for this.
    fs::write(env.work().join("gate"), "").expect("it is open");
    let undone = section(&report, "can't be undone");
    assert!(has(&undone, &["pushes to a remote", "git push nowhere"]), "{report}");
    assert!(has(&undone, &["sends data over HTTP", "./curl -sd"]), "{report}");
    assert!(has(&undone, &["left running, unrecorded", "p3 sh -c"]), "{report}");
    assert_eq!(audit(&env, "deny.lost = true").code, 1);
}

#[test]
fn audit_of_an_attached_process_tells_what_it_may_have_written_through_old_descriptors() {
    let env = TestEnv::new();
    let script = "exec 5>>~/log; echo up; while read line; do echo $line >&5; echo done; done";
    let mut command = env.command("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = command.spawn().expect("sh is there");
    let mut stdin = shell.stdin.take().expect("piped");
    let mut stdout = BufReader::new(shell.stdout.take().expect("piped")).lines();
    let mut next = || stdout.next().expect("it runs").expect("readable");
    assert_eq!(next(), "up");
    let mut command = env.agentrec(["attach", "--name", "attached", &shell.id().to_string()]);
    let mut agentrec = command.stderr(Stdio::piped()).spawn().expect("agentrec starts");
    let mut said = BufReader::new(agentrec.stderr.take().expect("piped")).lines();
    while !said.next().expect("it attaches").expect("readable").contains("agentrec: attached") {}
    writeln!(stdin, "during").expect("it reads");
    assert_eq!(next(), "done");
    env.ok(["stop", "attached"]);
    agentrec.wait().expect("it ends");
    drop(stdin);
    shell.wait().expect("it ends");
    let report = env.ok(["audit", "attached"]);
    assert!(
        has(&section(&report, "written outside"), &["~/log", "may be changed", "p1 sh -c"]),
        "{report}"
    );
    assert!(has(&section(&report, "can't be undone"), &["left running, unrecorded"]), "{report}");
    let path = rules(&env, "deny.write = ['~/log']");
    let ran = env.run([Path::new("audit"), "attached".as_ref(), "--rules".as_ref(), &path]);
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn audit_tells_what_was_not_seen_and_may_fail_for_it() {
    let env = TestEnv::new();
    let recorded = env.record("cat /etc/hostname; echo a > b");
    assert_eq!(audit(&env, "deny.lost = true").code, 0);
    let whole = fs::read(&recorded.trace).expect("readable");
    let cut = env.outside("cut.zst");
    fs::write(&cut, &whole[..whole.len() - 40]).expect("written");
    let report = env.ok([Path::new("audit"), &cut]);
    assert!(has(&section(&report, "not seen"), &["the trace has no end"]), "{report}");
    let path = rules(&env, "deny.lost = true");
    let ran = env.run([Path::new("audit"), &cut, "--rules".as_ref(), &path]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        has(&section(&ran.stdout, "violations"), &["deny.lost", "the trace has no end"]),
        "{ran:?}"
    );
    // A name can't be held against addresses: that is said, and no violation of its own.
    let ran = audit(&env, "deny.connect = ['example.org']");
    assert!(ran.code == 0 && !ran.stdout.contains("not checked"), "{ran:?}");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let connect = format!("import socket; socket.create_connection(('127.0.0.1', {port}))");
    env.record(&format!("python3 -c \"{connect}\""));
    let ran = audit(&env, "deny.connect = ['example.org']");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        has(&section(&ran.stdout, "not seen"), &["not checked for deny.connect example.org"]),
        "{ran:?}"
    );
    assert_eq!(audit(&env, "deny.connect = ['example.org']\ndeny.lost = true").code, 1);
}

#[test]
fn audit_trouble_is_2_and_says_where_and_how_on() {
    let env = TestEnv::new();
    let ran = env.run(["audit"]);
    assert!(ran.code == 2 && ran.stderr.contains("nothing was recorded"), "{ran:?}");
    env.record("true");
    for (text, parts) in [
        ("[deny]\nwirte = []", &["rules.toml:2", "wirte", "expected one of"][..]),
        ("deny.write = '/etc/**'", &["rules.toml:1", "deny.write = '/etc/**'"]),
        ("\n\ndeny.connect = ['10.0.0.0/99']", &["rules.toml:3", "deny.connect", "10.0.0.0/99"]),
        ("deny.read = ['[']", &["rules.toml:1", "deny.read"]),
        ("", &["rules.toml", "deny nothing"]),
    ] {
        let ran = audit(&env, text);
        assert_eq!(ran.code, 2, "{text}: {ran:?}");
        assert!(ran.stderr.contains("hint: ") && ran.stdout.is_empty(), "{text}: {ran:?}");
        for part in parts {
            assert!(ran.stderr.contains(part), "no {part}: {ran:?}");
        }
    }
    let ran = env.run(["audit", "--rules", "nowhere.toml"]);
    assert!(ran.code == 2 && ran.stderr.contains("nowhere.toml"), "{ran:?}");
    assert_eq!(env.run(["audit", "last@s1"]).code, 2);
    assert_eq!(env.run(["audit", "--no-such-option"]).code, 2);
}

#[test]
fn audit_fails_for_a_broken_rule_though_nobody_reads_all_of_the_report() {
    let env = TestEnv::new();
    env.record("echo a > ~/made");
    let path = rules(&env, "deny.write = ['made']");
    let mut command =
        env.agentrec([Path::new("audit"), "--json".as_ref(), "--rules".as_ref(), &path]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = command.stdout(writer).status().expect("agentrec starts");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn audit_lists_stay_short_and_directories_fold() {
    let env = TestEnv::new();
    env.record("mkdir ~/d ~/e; for i in 1 2 3 4 5 6 7 8 9 10; do echo a > ~/d/$i; echo b > ~/e/$i; echo c > ~/single-$i; done");
    let report = env.ok(["audit"]);
    let written = section(&report, "written outside the tree");
    assert!(has(&written, &["~/d/  10 files", "created"]), "{report}");
    assert!(heading(&report, "written outside").contains("30 files"), "{report}");
    assert!(written.len() <= 15, "{report}");
    let all = env.ok(["audit", "--all"]);
    assert!(section(&all, "written outside").len() >= 32, "{all}");
    env.record("for i in $(seq 30); do echo a > ~/$i; done");
    let report = env.ok(["audit"]);
    assert!(has(&section(&report, "written outside"), &["… and 18 more (--all)"]), "{report}");
}

#[test]
fn audit_of_a_session_in_the_root_directory_tells_of_all_files() {
    let env = TestEnv::new();
    let mut command = env.agentrec([
        "run",
        "--quiet",
        "--name",
        "rooted",
        "--exclude",
        "/*",
        "--",
        "sh",
        "-c",
        "echo a > ~/made",
    ]);
    assert!(command.current_dir("/").status().expect("agentrec starts").success());
    let report = env.ok(["audit", "rooted"]);
    assert!(has(&section(&report, "files written"), &["~/made", "created"]), "{report}");
}

#[test]
fn audit_of_hostile_names_sends_no_control_characters() {
    let env = TestEnv::new();
    env.record(
        "printf x > \"$HOME/$(printf 'a\\033[31m\\nb')\"; sh -c \": $(printf '\\033]0;t\\007')\"",
    );
    for args in [&["audit"][..], &["audit", "--all"]] {
        let report = env.ok(args);
        assert!(!report.contains('\u{1b}') && !report.contains('\u{7}'), "{report:?}");
        assert!(report.contains("a\\u{1b}[31m\\nb"), "{report}");
    }
}

#[test]
fn audit_reads_every_golden_trace() {
    let env = TestEnv::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let mut read = 0;
    for entry in fs::read_dir(golden).expect("the golden traces") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "zst") {
            for more in ["--all", "--json", "--no-pager"] {
                let ran = env.run([Path::new("audit"), &path, more.as_ref()]);
                assert_eq!(ran.code, 0, "{}: {ran:?}", path.display());
                assert!(!ran.stdout.is_empty() && !ran.stdout.contains('\u{1b}'), "{ran:?}");
            }
            read += 1;
        }
    }
    assert!(read >= 5, "{read}");
}
