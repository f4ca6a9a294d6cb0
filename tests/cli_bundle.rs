//! `agentrec bundle`: one file that somebody else can go back with, who has nothing but that file.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use agentrec_store::{Entry, Home, Kind, Objects as _, Store};
use agentrec_trace::ObjectId;
use common::built::{self, Built};
use common::{AGENTREC, Ran, Recorded, TestEnv, is_private};
use nix::unistd::{User, geteuid};
use serde_json::Value;

/// A file so large that a trace leaves the contents of its tree to the store.
fn write_large(env: &TestEnv) {
    let large = fs::File::create(env.work().join("large")).expect("a file of ours");
    large.set_len(65 << 20).expect("room for a hole");
}

/// Records a script which takes a snapshot between its two halves.
fn record_halves(env: &TestEnv, first: &str, second: &str) -> Recorded {
    env.record(&format!("{first}; {AGENTREC} snapshot -m middle >/dev/null; {second}"))
}

/// Bundles as `full.zst` outside of the working directory.
fn bundle(env: &TestEnv, args: &[&str]) -> (PathBuf, Value) {
    let full = env.outside("full.zst");
    let full_name = full.to_str().expect("text");
    let told = env.json(["bundle", "-o", full_name].iter().chain(args));
    (full, told[0].clone())
}

fn paths(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|path| path["text"].as_str().or(path["path"]["text"].as_str()).expect("text"))
        .collect()
}

/// Somebody who has nothing but a file, and the program.
struct Stranger {
    prefix: Vec<String>,
    home: PathBuf,
    program: PathBuf,
}

impl Stranger {
    /// An ordinary user where the tests run as root; else the user of the tests. The store of `env` is gone, and so are its files.
    fn new(env: &TestEnv, bundle: &Path) -> Self {
        fs::remove_dir_all(env.home()).expect("the store was there");
        fs::remove_dir_all(env.work()).expect("the files were there");
        fs::create_dir(env.work()).expect("a directory of ours");
        let home = env.outside("stranger");
        fs::create_dir(&home).expect("a directory of ours");
        let program = env.outside("agentrec");
        fs::copy(AGENTREC, &program).expect("room for a copy");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
        let mut prefix = vec!["env".to_owned()];
        if geteuid().is_root() {
            let user = User::from_name("nobody").expect("there are users").expect("there is one");
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            let top = env.work().parent().expect("it has one").to_owned();
            for place in [&top, &env.work(), &env.outside(""), &home, &bundle.to_owned()] {
                chown(place, Some(uid), Some(gid)).expect("we are root");
            }
            prefix = ["setpriv", "--clear-groups", "--inh-caps=-all"].map(str::to_owned).to_vec();
            prefix.extend([format!("--reuid={uid}"), format!("--regid={gid}")]);
        }
        Self { prefix, home, program }
    }

    fn run(&self, env: &TestEnv, args: &[&str]) -> Ran {
        let mut command = env.command(&self.prefix[0]);
        command.args(&self.prefix[1..]).arg(&self.program).args(args);
        command.env("HOME", &self.home).env_remove("AGENTREC_HOME");
        common::ran(command.output())
    }
}

/// What stands for a tree of files: names, kinds, modes, times of change, contents.
const FINGERPRINT: &str = "find . ! -name .env ! -name out -printf '%P %y %m %T@ %l\\n' | sort; find . -type f ! -name .env ! -name out | sort | xargs sha256sum";

#[test]
fn bundle_is_all_that_a_fresh_user_needs_to_resume() {
    let env = TestEnv::new();
    write_large(&env);
    env.write("src/a", "before\n");
    env.write("src/deep/er/untouched", "never read by the agent\n");
    env.write(".env", "TOKEN=a-secret-that-stays-here\n");
    std::os::unix::fs::symlink("src/a", env.work().join("link")).expect("a link of ours");
    let script = format!("echo middle > src/a; chmod 751 src/a; {FINGERPRINT}");
    let recorded = record_halves(&env, &script, "rm -r src; echo end > b");
    let closing = env.json(["info"]);
    let root = |lines: &[Value], index: usize| {
        lines.iter().filter(|line| line["kind"] == "snapshot").nth(index).cloned().expect("there")
    };
    assert_eq!(root(&closing, 1)["roots"][0]["self_contained"], false, "{closing:?}");
    let expected = env.ok(["restore", "s2", "--dir", "../user/expected"]);
    assert!(expected.contains("restored"), "{expected}");
    let fingerprint = |dir: &Path| {
        let mut command = env.command("sh");
        command.args(["-c", FINGERPRINT]).current_dir(dir);
        common::ran(command.output()).stdout
    };
    let expected = fingerprint(&env.outside("expected"));
    assert!(expected.contains("src/deep/er/untouched f"), "{expected}");

    let events = env.ok(["export", &recorded.id]);
    let (full, told) = bundle(&env, &[]);
    assert!(is_private(&full));
    assert_eq!(told["self_contained"], true, "{told}");
    let secret = env.work().join(".env");
    assert_eq!(paths(&told["secrets_left"]), [secret.to_str().expect("text")]);
    let full = full.to_str().expect("text");
    assert_eq!(env.run(["verify", full]).code, 0);
    let mut exported = env.ok(["export", full]);
    // What a snapshot says of its roots is all that differs.
    exported = exported.replace(r#","self_contained":true"#, "");
    assert_eq!(exported, events.replace(r#","self_contained":true"#, ""));

    let stranger = Stranger::new(&env, Path::new(full));
    let info = stranger.run(&env, &["info", "--json", full]);
    let lines = common::objects(&info.stdout);
    for index in 0..3 {
        let snapshot = root(&lines, index);
        assert_eq!(snapshot["roots"][0]["self_contained"], true, "{snapshot}");
        assert_eq!(snapshot["contents"]["in_store"], 0, "{snapshot}");
        assert_eq!(snapshot["contents"]["missing"], 1, "the secret one: {snapshot}");
    }
    let at = format!("{full}@s2");
    let script = format!("{FINGERPRINT}; echo resumed > out");
    let ran = stranger.run(&env, &["resume", &at, "--", "sh", "-c", &script]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout, expected);
    assert!(ran.stderr.contains("missing .env: "), "{ran:?}");
    assert_eq!(fs::read_dir(env.work()).expect("there").count(), 0, "the original is untouched");
    let back = env.outside("back");
    let back_name = back.to_str().expect("text");
    let ran = stranger.run(&env, &["restore", &at, "--dir", back_name]);
    assert_eq!(ran.code, 1, "a file is missing: {ran:?}");
    assert!(ran.stdout.contains("missing .env: "), "{ran:?}");
    assert_eq!(fingerprint(&back), expected);
}

#[test]
fn bundle_takes_secrets_only_when_asked_and_gives_them_up_again() {
    let env = TestEnv::new();
    env.write(".env", "TOKEN=hunter-of-the-snark\n");
    env.record("true");
    let holds = |trace: &Path| {
        let mut command = env.command("zstd");
        let ran = common::ran(command.args(["-dc"]).arg(trace).output());
        ran.stdout.contains("hunter-of-the-snark")
    };
    let (plain, told) = bundle(&env, &[]);
    assert!(!holds(&plain), "{told}");
    let (with, told) = bundle(&env, &["--force", "--with-secrets"]);
    assert!(holds(&with), "{told}");
    assert_eq!(told["secrets_inside"].as_array().map(Vec::len), Some(1), "{told}");
    let info = env.ok(["info", with.to_str().expect("text")]);
    assert!(info.contains("secret, and in this trace: .env"), "{info}");
    let without = env.outside("without.zst");
    let (from, to) = (with.to_str().expect("text"), without.to_str().expect("text"));
    env.ok(["bundle", from, "-o", to]);
    assert!(!holds(&without));
    assert_eq!(env.run(["verify", to]).code, 0);
}

#[test]
fn bundle_holds_what_git_ignores_up_to_a_size() {
    let env = TestEnv::new();
    let git = common::ran(env.command("git").args(["init", "-q"]).output());
    assert_eq!(git.code, 0, "{git:?}");
    env.write(".gitignore", "node_modules\n");
    env.write("node_modules/dep/index.js", "module.exports = 7\n");
    env.write("main.js", "require('dep')\n");
    env.record("true");
    let (full, told) = bundle(&env, &[]);
    assert_eq!(told["self_contained"], true, "{told}");
    let restore = |trace: &Path, dir: &str| {
        let mut command = env.agentrec(["restore", "--dir", dir]);
        command.arg(format!("{}@s1", trace.display()));
        common::ran(command.env("AGENTREC_HOME", env.outside("empty")).output())
    };
    let ran = restore(&full, "whole");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(env.read("whole/node_modules/dep/index.js").is_some());
    let (full, told) = bundle(&env, &["--force", "--max-ignored", "0"]);
    assert_eq!(told["self_contained"], false, "{told}");
    let left = env.work().join("node_modules");
    assert_eq!(paths(&told["ignored_left"]), [left.to_str().expect("text")]);
    let ran = restore(&full, "part");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("missing node_modules: "), "{ran:?}");
    assert_eq!(env.read("part/main.js").as_deref(), Some("require('dep')\n"));
}

#[test]
fn bundle_of_a_resumed_session_names_its_parent() {
    let env = TestEnv::new();
    write_large(&env);
    env.write("a", "1");
    let first = env.record("echo 2 > a");
    let resumed = common::recorded(&env.run(["resume", "s1", "--json", "--", "sh", "-c", "cat a"]));
    let full = env.outside("full.zst");
    let full = full.to_str().expect("text");
    env.ok(["bundle", &resumed.id, "-o", full]);
    let info = env.json(["info", full]);
    assert_eq!(info[0]["parent"]["session"], first.id.as_str(), "{info:?}");
    assert_eq!(info[0]["parent"]["at"], "s1");
    fs::remove_dir_all(env.home()).expect("the store was there");
    env.ok(["restore", &format!("{full}@s1"), "--dir", "back"]);
    assert_eq!(env.read("back/a").as_deref(), Some("1"));
}

#[test]
fn bundle_says_what_is_gone_and_writes_nothing() {
    let env = TestEnv::new();
    write_large(&env);
    env.write("src/a", "kept by the store alone\n");
    let recorded = env.record("true");
    let (store, away) = (env.home().join("objects"), env.home().join("away"));
    fs::rename(&store, &away).expect("ours");
    let full = env.outside("full.zst");
    let full_name = full.to_str().expect("text");
    let ran = env.run(["bundle", &recorded.id, "-o", full_name]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let a = env.work().join("large");
    let expected = format!(
        "cannot bundle {}: neither the trace nor this machine's store has {} of s1 whole, nor one other",
        &recorded.id[..4],
        a.display()
    );
    assert!(ran.stderr.contains(&expected), "{ran:?} lacks {expected}");
    assert!(ran.stderr.contains("hint: bundle it on the machine that recorded it"), "{ran:?}");
    let left: Vec<_> = fs::read_dir(env.outside("")).expect("there").collect();
    assert!(left.is_empty(), "{left:?}");
    let told = env.json(["bundle", &recorded.id, "-o", full_name, "--allow-missing"]);
    assert_eq!(told[0]["self_contained"], false);
    assert_eq!(told[0]["missing"].as_array().map(Vec::len), Some(2), "{told:?}");
    assert_eq!(env.run(["verify", full_name]).code, 0);
}

#[test]
fn bundle_of_a_damaged_store_names_the_file() {
    let env = TestEnv::new();
    write_large(&env);
    env.write("src/a", "kept by the store alone\n");
    env.record("true");
    let store = Store::open(&Home::new(env.home())).expect("a store");
    let id = ObjectId::of(b"kept by the store alone\n");
    assert!(store.contains(&id).expect("readable"));
    let (pack, at) = store.locate(&id).expect("readable").expect("it is there");
    let mut bytes = fs::read(&pack).expect("ours");
    bytes[at as usize + 50] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).expect("ours");
    fs::write(&pack, bytes).expect("ours");
    let ran = env.run(["bundle", "-o", "full.zst"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let path = env.work().join("src/a");
    assert!(ran.stderr.contains(&format!("has {} of s1 whole", path.display())), "{ran:?}");
    assert!(env.read("full.zst").is_none() && env.read("full.zst.partial").is_none());
    let (_, told) = bundle(&env, &["--allow-missing"]);
    assert_eq!(paths(&told["missing"]), [path.to_str().expect("text")]);
}

#[test]
fn bundle_names_the_directory_that_a_hostile_trace_has_not() {
    let env = TestEnv::new();
    let trace = env.work().join("t.zst");
    type Make = fn(&mut Built) -> ObjectId;
    let hostile: [(&str, Make); 6] = [
        ("no tree", |built| built.object(b"\xffno tree at all")),
        ("leads out", |built| {
            let entry = built.file("../../out", b"x");
            built.tree(vec![entry])
        }),
        ("there twice", |built| {
            let entry = built.file("a", b"x");
            built.tree(vec![entry.clone(), entry])
        }),
        ("too deep", |built| {
            let deepest = built.tree(vec![]);
            (0..300).fold(deepest, |below, _| {
                let below = Entry { kind: Kind::Dir, ..built::file("d", below, 0) };
                built.tree(vec![below])
            })
        }),
        ("a file as a directory", |built| {
            let content = built.object(b"content");
            built.tree(vec![Entry { kind: Kind::Dir, ..built::file("d", content, 0) }])
        }),
        ("content without end", |built| {
            let entry = Entry { size: u64::MAX, ..built.file("a", b"x") };
            built.tree(vec![entry])
        }),
    ];
    for (what, make) in hostile {
        let mut built = Built::new();
        let tree = make(&mut built);
        built.snapshot(tree);
        built.save(&trace);
        for args in [
            &["bundle", "./t.zst", "-o", "full.zst"][..],
            &["export", "./t.zst", "--format", "git", "--to", "repo"],
        ] {
            let ran = env.run(args);
            assert!(ran.code <= 1, "{what}: {ran:?}");
            if what != "content without end" {
                let named = format!("cannot read the directory {}", built::ROOT);
                assert!(ran.stderr.contains(&named), "{what}: {ran:?}");
                assert!(
                    ran.stderr.contains(" of s1: ") && ran.stderr.contains("hint: "),
                    "{ran:?}"
                );
                let ran = env.run(args.iter().chain(&["--allow-missing"]));
                assert_eq!(ran.code, 0, "{what}: {ran:?}");
            }
        }
        let ran = env.run(["scrub", "zanzibar", "./t.zst", "-o", "clean.zst"]);
        assert_eq!(ran.code, 0, "{what}: {ran:?}");
        for made in ["full.zst", "clean.zst"] {
            let _ = fs::remove_file(env.work().join(made));
        }
        let _ = fs::remove_dir_all(env.work().join("repo"));
        assert!(!env.work().parent().expect("it has one").join("out").exists());
    }
}

#[test]
fn bundle_never_replaces_a_file_unless_told_to() {
    let env = TestEnv::new();
    env.record("true");
    env.write("there", "the user's own");
    let ran = env.run(["bundle", "-o", "there"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("there exists") && ran.stderr.contains("--force"), "{ran:?}");
    assert_eq!(env.read("there").as_deref(), Some("the user's own"));
    let ran = env.run(["bundle", "-o", "no/such/place"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let ran = env.run(["bundle", "-o", ".", "--force"]);
    assert!(ran.code == 1 && ran.stderr.contains("not a regular file"), "{ran:?}");
    // What a killed one left is no hindrance.
    env.write("there.partial", "half of something");
    env.ok(["bundle", "-o", "there", "--force"]);
    assert_eq!(env.run(["verify", "./there"]).code, 0);
    assert!(env.read("there.partial").is_none());
}

#[test]
fn bundle_of_a_trace_without_an_end_says_so() {
    let env = TestEnv::new();
    let recorded = env.record("for i in 1 2 3 4 5 6 7 8 9; do echo $i > f$i; done");
    let bytes = fs::read(&recorded.trace).expect("there");
    // The seal, the seek table and a few bytes of what stands before them.
    let cut = bytes.windows(8).rposition(|part| part == b"agrcseal").expect("a seal") - 12;
    fs::write(env.work().join("cut.zst"), &bytes[..cut]).expect("ours");
    env.ok(["bundle", "./cut.zst", "-o", "full.zst"]);
    assert_eq!(env.run(["verify", "./full.zst"]).code, 0);
    let info = env.ok(["info", "./full.zst"]);
    assert!(info.contains("the recording was not ended"), "{info}");
    // Damage is another thing: numbers would change.
    let mut damaged = bytes.clone();
    damaged[cut / 2] ^= 0x20;
    fs::write(env.work().join("damaged.zst"), &damaged).expect("ours");
    let ran = env.run(["bundle", "./damaged.zst", "-o", "other.zst"]);
    assert!(ran.code == 1 && ran.stderr.contains("damaged at offset"), "{ran:?}");
    assert!(ran.stderr.contains("hint: ") && env.read("other.zst").is_none(), "{ran:?}");
}
