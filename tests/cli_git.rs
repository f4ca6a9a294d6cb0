//! `agentrec export --format git`: what the agent did as commits, checked with the real git.

mod common;

use std::fs;
use std::path::Path;

use agentrec_store::{Entry, LeftOut};
use agentrec_trace::ObjectId;
use common::built::{self, Built};
use common::{AGENTREC, Ran, TestEnv};

fn git(env: &TestEnv, dir: &str, args: &[&str]) -> Ran {
    let mut command = env.command("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@localhost", "-C", dir]).args(args);
    common::ran(command.output())
}

/// What git prints; it must succeed.
fn git_ok(env: &TestEnv, dir: &str, args: &[&str]) -> String {
    let ran = git(env, dir, args);
    assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
    ran.stdout
}

fn is_sound(env: &TestEnv, dir: &str) {
    let ran = git(env, dir, &["fsck", "--strict", "--no-dangling"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
}

fn export(env: &TestEnv, trace: &Path, args: &[&str]) -> Ran {
    let mut command = env.agentrec(["export", "--format", "git", "--to", "repo"]);
    command.arg(trace).args(args);
    common::ran(command.output())
}

#[test]
fn export_makes_a_commit_of_each_snapshot() {
    let env = TestEnv::new();
    env.write("src/a.txt", "one\n");
    env.write("gone", "soon\n");
    env.write(".env", "TOKEN=secret-stays-here\n");
    fs::create_dir(env.work().join("empty")).expect("ours");
    let script = format!(
        "git init -q nested; echo x > nested/file; ln -s src/a.txt link; echo two >> src/a.txt; chmod +x src/a.txt; \
         {AGENTREC} snapshot -m 'the middle' >/dev/null; rm gone; rm -r src; echo file > src"
    );
    let recorded = env.record(&script);
    let said = env.ok(["export", "--format", "git", "--to", "../user/repo"]);
    let dir = env.outside("repo");
    let dir = dir.to_str().expect("text");
    is_sound(&env, dir);
    assert_eq!(git_ok(&env, dir, &["status", "--porcelain"]), "", "the files are checked out");
    assert_eq!(git_ok(&env, dir, &["tag"]), "s1\ns2\ns3\n");
    let branch = git_ok(&env, dir, &["symbolic-ref", "HEAD"]);
    assert_eq!(branch.trim(), format!("refs/heads/{}", recorded.id));
    let subjects = git_ok(&env, dir, &["log", "--reverse", "--format=%an <%ae> %s"]);
    let author = "sh <sh@agentrec.invalid>";
    let expected = [
        format!("{author} s1: start"),
        format!("{author} s2: the middle"),
        format!("{author} s3: end"),
    ];
    assert_eq!(subjects.lines().collect::<Vec<_>>(), expected);
    let tree = git_ok(&env, dir, &["ls-tree", "-r", "s2"]);
    let modes: Vec<_> =
        tree.lines().map(|line| (&line[..6], line.rsplit('\t').next().expect("a name"))).collect();
    let expected = [
        ("100644", "gone"),
        ("120000", "link"),
        ("100644", "nested/file"),
        ("100755", "src/a.txt"),
    ];
    assert_eq!(modes, expected);
    let diff = git_ok(&env, dir, &["log", "-p", "-1", "s2", "--", "src/a.txt"]);
    assert!(diff.contains("new mode 100755") && diff.contains("\n+two\n"), "{diff}");
    assert_eq!(git_ok(&env, dir, &["show", "s3:src"]), "file\n", "a directory became a file");
    let trailer = |name: &str| {
        let format = format!("--format=%(trailers:key={name},valueonly)");
        git_ok(&env, dir, &["log", "-1", &format, "s2"]).trim().to_owned()
    };
    assert_eq!(trailer("Agentrec-Session"), recorded.id);
    assert_eq!(trailer("Agentrec-Snapshot"), "s2");
    let info = env.json(["info"]);
    let id = info.iter().filter(|line| line["kind"] == "snapshot").nth(1).expect("s2")["roots"][0]
        ["tree"]
        .clone();
    assert!(trailer("Agentrec-Tree").starts_with(id.as_str().expect("text")), "{id}");
    let work = env.work();
    let left = trailer("Agentrec-Left-Out");
    assert_eq!(left, format!("{}/nested/.git (git's own, which git can't hold)", work.display()));
    for (name, why) in
        [("nested/.git", "git's own"), (".env", "secret"), ("empty", "an empty directory")]
    {
        assert!(
            said.lines().any(|line| line.contains(&format!("{}/{name}: {why}", work.display()))),
            "{said}"
        );
    }
    assert!(!Path::new(dir).join(".env").exists());
    let time = git_ok(&env, dir, &["log", "-1", "--format=%at %ct", "s1"]);
    let started = info[0]["started"].as_i64().expect("a time") / 1_000_000_000;
    let times: Vec<i64> =
        time.split_whitespace().map(|text| text.parse().expect("a time")).collect();
    assert!(
        times[0] == times[1] && (started..started + 60).contains(&times[0]),
        "{times:?} {started}"
    );
}

#[test]
fn export_lets_git_bisect_what_the_agent_did() {
    let env = TestEnv::new();
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i > n; {AGENTREC} snapshot -m \"step $i\" >/dev/null; done"
    );
    let recorded = env.record(&script);
    let ran = export(&env, &recorded.trace, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    git_ok(&env, "repo", &["bisect", "start", "s14", "s2"]);
    let found = git_ok(&env, "repo", &["bisect", "run", "sh", "-c", "test $(cat n) -lt 8"]);
    assert!(found.contains("is the first bad commit") && found.contains("s9: step 8"), "{found}");
}

#[test]
fn export_says_what_the_model_said_and_called() {
    let env = TestEnv::new();
    let agent = r#"
import agentrec_sdk as rec
rec.record_message("user", "fix the sums")
rec.record_message("assistant", "I look at the sums first.\nThen I fix them.")
@rec.tool
def edit(path): open(path, "w").write("4\n")
edit("sums")
rec.snapshot("fixed", messages=[])
"#;
    env.write("agent.py", agent);
    let recorded = env.record_with(&["--with-sdk"], &["python3", "agent.py"]);
    let ran = export(&env, &recorded.trace, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let message = git_ok(&env, "repo", &["log", "-1", "--format=%an%n%B", "s2"]);
    let expected =
        "python3\ns2: fixed\n\nI look at the sums first.\nedit sums\n\nAgentrec-Session: ";
    assert!(message.starts_with(expected), "{message}");
}

/// Names that git, or a file system somewhere, takes for another; and contents that have led to execution.
fn hostile(built: &mut Built) -> ObjectId {
    let mut entries = Vec::new();
    for name in
        [".git", ".GIT", "git~1", ".git ", ".git...", "a\\.git\\config", ".g\u{200c}it", ".git:x"]
    {
        entries.push(built.file(name, b"[core]\n\tfsmonitor = touch pwned\n"));
    }
    for name in [".GitModules", "gitmod~1", "GI7EBA~1", ".gitattributes."] {
        entries.push(built.file(name, b"[submodule \"x\"]\n\turl = -u./pwned\n"));
    }
    entries.push(built.file(".gitmodules", b"[submodule \"../x\"]\n\turl = -u./pwned\n"));
    let long = vec![b'x'; 5000];
    entries.push(built.file(".gitattributes", &long));
    for name in
        ["-rf", "line\nfeed", "quo\"te", "back\\slash", "\u{202e}gnp.exe", "con", "a b", "HEAD"]
    {
        entries.push(built.file(name, name.as_bytes()));
    }
    entries.push(built.file([0xff, 0xfe, b'x'], b"no text"));
    entries.push(built::symlink("up", "../../../../etc/passwd"));
    entries.push(built::symlink("into", ".git/config"));
    let secret = ObjectId::of(b"nowhere");
    entries.push(Entry { secret: true, ..built::file("id_rsa", secret, 7) });
    entries.push(Entry {
        id: None,
        left_out: Some(LeftOut::TooLarge),
        ..built::file("huge", secret, 1 << 40)
    });
    let inner = built.file("deep", b"deep");
    entries.push(built.dir("dir", vec![inner]));
    entries.push(built.dir("void", vec![]));
    built.tree(entries)
}

#[test]
fn export_of_hostile_names_passes_gits_own_check() {
    let env = TestEnv::new();
    let mut built = Built::new();
    let tree = hostile(&mut built);
    built.snapshot_of(vec![("/a/.git", tree), ("/b/.GIT", tree), ("/c/x", tree), ("/d/x", tree)]);
    built.snapshot_of(vec![("/c/x", tree)]);
    let trace = env.work().join("hostile.zst");
    built.save(&trace);
    let ran = export(&env, &trace, &["--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    is_sound(&env, "repo");
    let names = git_ok(&env, "repo", &["ls-tree", "--name-only", "s1"]);
    assert_eq!(names, "root-2\nroot\nx-2\nx\n", "several roots are directories, in git's order");
    assert_eq!(git_ok(&env, "repo", &["ls-tree", "--name-only", "s2"]), "x\n");
    let held = git_ok(&env, "repo", &["ls-tree", "--name-only", "-r", "-z", "s2"]);
    let mut held: Vec<_> = held.split('\0').filter(|name| !name.is_empty()).collect();
    held.retain(|name| !name.contains('\u{fffd}'));
    let mut expected = vec![
        "x/-rf",
        "x/HEAD",
        "x/a b",
        "x/back\\slash",
        "x/con",
        "x/dir/deep",
        "x/into",
        "x/line\nfeed",
        "x/quo\"te",
        "x/up",
        "x/\u{202e}gnp.exe",
    ];
    expected.sort_unstable();
    held.sort_unstable();
    assert_eq!(held, expected);
    let told = &common::objects(&ran.stdout)[0]["left_out"];
    assert_eq!(told.as_array().map(Vec::len), Some(4 * 17), "{told}");
    assert_eq!(git_ok(&env, "repo", &["status", "--porcelain"]), "");
    assert!(!env.work().join("pwned").exists() && !env.work().join("repo/pwned").exists());
}

#[test]
fn export_adds_references_to_a_repository_and_touches_nothing_else() {
    let env = TestEnv::new();
    env.write("f", "1\n");
    let recorded = env.record("echo 2 > f");
    let mine = env.outside("mine");
    fs::create_dir(&mine).expect("ours");
    let dir = mine.to_str().expect("text");
    git_ok(&env, dir, &["init", "-q", "-b", "main"]);
    fs::write(mine.join("own"), "committed\n").expect("ours");
    git_ok(&env, dir, &["add", "."]);
    git_ok(&env, dir, &["commit", "-qm", "mine"]);
    fs::write(mine.join("own"), "staged\n").expect("ours");
    git_ok(&env, dir, &["add", "."]);
    fs::write(mine.join("own"), "not staged\n").expect("ours");
    let hook = mine.join(".git/hooks/reference-transaction");
    fs::create_dir_all(mine.join(".git/hooks")).expect("ours");
    fs::write(&hook, "#!/bin/sh\ntouch ../hooked\n").expect("ours");
    let state = || {
        let look = |args: &[&str]| git_ok(&env, dir, args);
        [
            look(&["rev-parse", "HEAD"]),
            look(&["status", "--porcelain", "-b"]),
            look(&["diff", "--cached"]),
        ]
    };
    let before = state();
    let args = ["export", &recorded.id, "--format", "git", "--to", dir];
    let refused = env.run(args);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("something is there") && refused.stderr.contains("--add-refs"),
        "{refused:?}"
    );
    for _ in 0..2 {
        env.ok(args.iter().chain(&["--add-refs"]));
        assert_eq!(state(), before);
        is_sound(&env, dir);
    }
    let refs = git_ok(&env, dir, &["for-each-ref", "--format=%(refname)"]);
    let ours = |name: &str| format!("refs/agentrec/{}/{name}", recorded.id);
    assert_eq!(
        refs.lines().collect::<Vec<_>>(),
        [ours("branch"), ours("s1"), ours("s2"), "refs/heads/main".into()]
    );
    let diff = git_ok(&env, dir, &["diff", &ours("s1"), &ours("s2")]);
    assert!(diff.contains("-1\n+2\n"), "{diff}");
    let none = env.run(["export", "--format", "git", "--to", "/nowhere", "--add-refs"]);
    assert!(none.code == 1 && none.stderr.contains("hint: name a git repository"), "{none:?}");
    env.write("own", "the user's");
    let file = env.run(["export", "--format", "git", "--to", "own"]);
    assert!(file.code == 1 && env.read("own").as_deref() == Some("the user's"), "{file:?}");
}

#[test]
fn export_names_what_is_gone_and_leaves_no_half_repository() {
    let env = TestEnv::new();
    let mut built = Built::new();
    let here = built.file("here", b"here");
    let gone = built::file("gone", ObjectId::of(b"gone"), 4);
    let first = built.tree(vec![here.clone()]);
    let inner = built.dir("src", vec![gone]);
    let second = built.tree(vec![here.clone(), inner]);
    let third = built.tree(vec![here]);
    for tree in [first, second, third, ObjectId::of(b"no tree")] {
        built.snapshot(tree);
    }
    let trace = env.work().join("gone.zst");
    built.save(&trace);
    let ran = export(&env, &trace, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let root = built::ROOT;
    assert!(
        ran.stderr.contains(&format!(
            "neither the trace nor this machine's store has {root}/src/gone of s2 whole"
        )),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("hint: export on the machine that recorded it"), "{ran:?}");
    let left: Vec<_> = fs::read_dir(env.work())
        .expect("there")
        .map(|entry| entry.expect("there").file_name())
        .collect();
    assert_eq!(left, ["gone.zst"]);
    let ran = export(&env, &trace, &["--allow-missing"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains(&format!("s2 on {root}/src/gone: not whole")), "{ran:?}");
    is_sound(&env, "repo");
    assert_eq!(git_ok(&env, "repo", &["ls-tree", "-r", "--name-only", "s3"]), "here\n");
    assert_eq!(git_ok(&env, "repo", &["ls-tree", "-r", "--name-only", "s4"]), "");
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_export_of_5000_snapshots() {
    let env = TestEnv::new();
    let mut built = Built::new();
    // 2,000 files in 40 directories; each step changes two of them.
    let mut dirs: Vec<Vec<Entry>> = Vec::new();
    for dir in 0..40 {
        let file = |n: usize| (format!("f{n:02}"), format!("{dir} {n}\n").repeat(40));
        let entries = (0..50).map(file).map(|(name, content)| built.file(name, content.as_bytes()));
        dirs.push(entries.collect());
    }
    let mut trees: Vec<Entry> = Vec::new();
    for (n, entries) in dirs.iter().enumerate() {
        trees.push(built.dir(format!("d{n:02}"), entries.clone()));
    }
    for step in 0..5000 {
        for (dir, n) in [(step % 40, step % 50), (step * 7 % 40, step * 3 % 50)] {
            let content = format!("{dir} {n}\n").repeat(40) + &format!("changed in step {step}\n");
            dirs[dir][n] = built.file(format!("f{n:02}"), content.as_bytes());
            trees[dir] = built.dir(format!("d{dir:02}"), dirs[dir].clone());
        }
        let tree = built.tree(trees.clone());
        built.snapshot(tree);
    }
    let trace = env.work().join("long.zst");
    built.save(&trace);
    let ran = export(&env, &trace, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    is_sound(&env, "repo");
    assert_eq!(git_ok(&env, "repo", &["rev-list", "--count", "HEAD"]), "5000\n");
    let changed = git_ok(&env, "repo", &["diff", "--name-only", "s4321", "s4322"]);
    assert_eq!(
        changed.lines().collect::<Vec<_>>(),
        ["d01/f21", "d07/f13"].map(str::to_owned).as_slice()
    );
    let blame = git_ok(
        &env,
        "repo",
        &["log", "-1", "--format=%s", "-S", "changed in step 4321", "s4400", "--", "d01/f21"],
    );
    assert_eq!(blame, "s4322: step 4322\n");
}
