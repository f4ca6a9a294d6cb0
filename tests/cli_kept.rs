//! Old contents outside the tree: kept before real programs change them, and said where they are not.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use agentrec_store::{Home, Objects, Store};
use agentrec_trace::{ObjectId, Reader};
use common::{Recorded, TestEnv};
use serde_json::Value;

/// What a recording says of old contents.
struct Kept {
    events: Vec<Value>,
    reader: Reader,
    store: Store,
}

impl Kept {
    fn of(env: &TestEnv, recorded: &Recorded) -> Self {
        Self {
            events: env.json(["export", &recorded.id]),
            reader: Reader::open(&recorded.trace).expect("a trace"),
            store: Store::open(&Home::new(env.home())).expect("ours"),
        }
    }

    /// What is said of a path, in order.
    fn all(&self, path: &Path) -> Vec<&Value> {
        let of_path = |event: &&Value| event["type"] == "file.kept" && is_path(event, "path", path);
        self.events.iter().filter(of_path).collect()
    }

    /// What is said of a path, exactly once.
    fn one(&self, path: &Path) -> &Value {
        let all = self.all(path);
        assert_eq!(all.len(), 1, "{}: {all:#?}", path.display());
        &all[0]["data"]
    }

    /// The old content that the trace holds.
    fn content(&self, data: &Value) -> Option<Vec<u8>> {
        self.reader.object(&object(data)?).expect("sound")
    }

    /// Whether the old content stands in the trace before the first event of one of these types on the path.
    fn comes_before(&self, path: &Path, types: &[&str]) -> bool {
        let kept = self.all(path)[0]["seq"].as_u64();
        let change = self.events.iter().find(|event| {
            event["data"].get("errno").is_none()
                && types.iter().any(|wanted| event["type"] == *wanted)
                && (is_path(event, "path", path) || is_path(event, "to", path))
        });
        kept < change.unwrap_or_else(|| panic!("{}: no change", path.display()))["seq"].as_u64()
    }
}

fn is_path(event: &Value, field: &str, path: &Path) -> bool {
    event["data"][field]["text"].as_str() == path.to_str()
}

fn object(data: &Value) -> Option<ObjectId> {
    data["object"].as_str().map(|id| id.parse().expect("an address"))
}

/// A file outside the tree with this content.
fn old(env: &TestEnv, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = outside(env, name);
    fs::write(&path, content).expect("a file of ours");
    path
}

fn outside(env: &TestEnv, name: &str) -> PathBuf {
    env.outside("").canonicalize().expect("it is there").join(name)
}

/// The session that a live recording's closing line tells of.
fn recorded(closing: Value) -> Recorded {
    Recorded {
        id: closing["session"].as_str().expect("text").into(),
        trace: closing["trace"]["text"].as_str().expect("text").into(),
        closing,
    }
}

const PTRACE: &[&str] = &["--engine", "ptrace"];

fn record(env: &TestEnv, script: &str) -> Kept {
    let recorded = env.record_with(PTRACE, &["sh", "-ec", script]);
    assert_eq!(recorded.closing["code"], 0, "{}", recorded.closing);
    Kept::of(env, &recorded)
}

#[test]
fn real_programs_lose_nothing_outside_the_tree() {
    let env = TestEnv::new();
    let names = ["cut", "appended", "edited", "removed", "moved", "truncated", "mapped", "written"];
    let files = names.map(|name| old(&env, name, format!("old {name}")));
    let large = old(&env, "large", vec![b'l'; 3 << 20]);
    let config = old(&env, ".gitconfig", "[user]\n\tname = Before\n");
    let python = "
import mmap, os
with open(os.path.expanduser('~/mapped'), 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0); m[0:3] = b'new'
fd = os.open(os.path.expanduser('~/written'), os.O_RDWR); os.pwrite(fd, b'new', 0)
os.truncate(os.path.expanduser('~/truncated'), 1)
";
    env.write("change.py", python);
    let kept = record(
        &env,
        "echo > ~/cut; echo >> ~/appended; sed -i s/old/new/ ~/edited; rm ~/removed ~/large; echo > x; mv x ~/moved
         git config --global user.name After; python3 change.py",
    );
    for (name, path) in names.iter().zip(&files) {
        let data = kept.one(path);
        let content = kept.content(data);
        assert_eq!(content.as_deref(), Some(format!("old {name}").as_bytes()), "{data}");
        assert!(data.get("late").is_none() && data.get("reason").is_none(), "{data}");
        assert_eq!((&data["kind"], &data["links"]), (&"file".into(), &1.into()), "{data}");
        let change = match *name {
            "removed" => ("unlink", "file.unlink"),
            "moved" | "edited" => ("rename", "file.rename"),
            "truncated" => ("truncate", "file.truncate"),
            "cut" => ("truncate", "file.open"),
            _ => ("write", "file.open"),
        };
        assert_eq!(data["change"], change.0, "{name}");
        if *name != "edited" {
            assert!(kept.comes_before(path, &[change.1]), "{name}");
        }
    }
    assert_eq!(kept.content(kept.one(&large)), Some(vec![b'l'; 3 << 20]));
    assert_eq!(kept.content(kept.one(&config)), Some(b"[user]\n\tname = Before\n".into()));
    let shown = env.ok(["show", "-e", "--type", "file.kept"]);
    assert!(shown.contains("~/removed  kept, 11 B"), "{shown}");
}

/// A directory that is not for temporary files, and that whoever runs the tests may write to: in the home that they really have.
fn lasting() -> tempfile::TempDir {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let home = user.expect("there are users").expect("we are one").dir;
    tempfile::tempdir_in(home).expect("ours")
}

#[test]
fn what_is_inside_or_was_made_by_the_session_is_not_kept() {
    let env = TestEnv::new();
    env.write("inside", "in the snapshot");
    let place = lasting();
    let made = place.path().canonicalize().expect("there").join("made");
    let kept = record(
        &env,
        &format!(
            "echo x > inside; rm inside; echo 1 > ~/t; echo 2 >> ~/t; mv ~/t ~/u; rm ~/u; : > /dev/null
             echo 1 > {0}; echo 2 >> {0}; rm {0}; exec 3>~/late; exec 3>&-; rm -f ~/late ~/nothing; mkdir ~/d; rmdir ~/d",
            made.display()
        ),
    );
    let all: Vec<_> = kept.events.iter().filter(|event| event["type"] == "file.kept").collect();
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn secret_files_go_to_the_store_alone() {
    let env = TestEnv::new();
    let secret = "machine h login u password 7f3Kq9Zx\n";
    let netrc = old(&env, ".netrc", secret);
    let key =
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\n";
    let renamed = old(&env, "backup", key);
    let kept = record(&env, "echo > ~/.netrc; rm ~/backup");
    for (path, content) in [(&netrc, secret), (&renamed, key)] {
        let data = kept.one(path);
        assert_eq!(data["secret"], true, "{data}");
        assert_eq!(kept.content(data), None);
        let id = object(data).expect("kept");
        assert_eq!(kept.store.get(&id).expect("sound").as_deref(), Some(content.as_bytes()));
    }
    for id in kept.reader.objects().expect("sound") {
        let content = kept.reader.object(&id).expect("sound").expect("there");
        assert!(!content.windows(8).any(|part| part == b"7f3Kq9Zx"));
    }
}

#[test]
fn limits_are_said_and_the_rest_goes_on() {
    let env = TestEnv::new();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| old(&env, name, vec![b'x'; 4000]));
    let large = old(&env, "large", vec![b'x'; 5001]);
    let options = [PTRACE, &["--keep-max-file", "5k", "--keep-max", "9k"]].concat();
    // What is not done counts for nothing.
    let script = "mkdir ~/e; for i in 1 2 3; do mv ~/e ~/a 2>/dev/null; done; rm ~/large ~/a ~/b ~/c; chmod 600 ~/d; exit 3";
    let recorded = env.record_with(&options, &["sh", "-c", script]);
    assert_eq!(recorded.closing["code"], 3);
    let kept = Kept::of(&env, &recorded);
    assert_eq!(kept.one(&large)["reason"], "too-large");
    assert_eq!(kept.one(&large)["size"], 5001);
    assert!(kept.content(kept.one(&a)).is_some() && kept.content(kept.one(&b)).is_some());
    assert_eq!((&kept.one(&c)["reason"], object(kept.one(&c))), (&"limit".into(), None));
    let data = kept.one(&d);
    assert_eq!((&data["change"], &data["mode"]), (&"attributes".into(), &0o644.into()));
    assert!(data.get("reason").is_none() && object(data).is_none(), "{data}");
    let none = [PTRACE, &["--keep-max", "0"]].concat();
    let recorded = env.record_with(&none, &["sh", "-c", "rm ~/d"]);
    assert!(Kept::of(&env, &recorded).all(&d).is_empty());
}

#[test]
fn links_lead_to_what_is_changed() {
    let env = TestEnv::new();
    let target = old(&env, "target", "through a link");
    let first = old(&env, "first", "two names");
    let second = outside(&env, "second");
    fs::hard_link(&first, &second).expect("linked");
    let link = env.work().join("link");
    symlink(&target, &link).expect("linked");
    fs::create_dir(outside(&env, "dir")).expect("ours");
    let below = old(&env, "dir/below", "in a directory");
    symlink(outside(&env, "dir"), env.work().join("dir")).expect("linked");
    let inside = outside(&env, "inside");
    symlink(env.work().join("real"), &inside).expect("linked");
    env.write("real", "in the tree");
    let removed = outside(&env, "removed");
    symlink("to/nowhere", &removed).expect("linked");
    let kept = record(
        &env,
        "echo > link; echo > ~/second; rm dir/below; echo > ~/inside; ln -sf elsewhere ~/removed; echo > ~/first",
    );
    let data = kept.one(&link);
    assert!(data["real"]["text"].as_str() == target.to_str(), "{data}");
    assert_eq!(kept.content(data).as_deref(), Some(&b"through a link"[..]));
    let data = kept.one(&second);
    assert_eq!((&data["links"], kept.content(data)), (&2.into(), Some(b"two names".into())));
    // The same file, which the session alone has changed since.
    assert!(kept.all(&first).is_empty());
    let data = kept.one(&env.work().join("dir/below"));
    assert!(data["real"]["text"].as_str() == below.to_str(), "{data}");
    assert!(kept.all(&inside).is_empty());
    let data = kept.one(&removed);
    assert_eq!((&data["kind"], &data["target"]["text"]), (&"symlink".into(), &"to/nowhere".into()));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let env = TestEnv::new();
    let fifo = outside(&env, "fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("ours");
    let kept = record(&env, "cat ~/fifo > out & echo hi > ~/fifo; wait; rm ~/fifo");
    assert_eq!(env.read("out").as_deref(), Some("hi\n"));
    let data = kept.one(&fifo);
    assert_eq!((&data["kind"], &data["change"]), (&"fifo".into(), &"unlink".into()), "{data}");
    assert!(data.get("reason").is_none(), "{data}");
}

#[test]
fn what_others_changed_since_is_kept_again() {
    let env = TestEnv::new();
    let path = old(&env, "notes", "first");
    let options = [PTRACE, &["--exclude", "*"]].concat();
    let script = "echo 1 >> ~/notes; echo 2 >> ~/notes; echo changed; read go; echo 3 >> ~/notes; echo 4 >> ~/notes
                  echo asked; read go; echo 5 >> ~/notes; rm ~/notes";
    let mut live = env.start(&options, script);
    live.wait_for("changed");
    let theirs = fs::read(&path).expect("there");
    assert_eq!(theirs, b"first1\n2\n");
    fs::write(&path, "the user's").expect("written");
    live.tell("go");
    live.wait_for("asked");
    // A snapshot is a state that somebody may want back.
    env.ok(["snapshot"]);
    live.tell("go");
    let closing = live.closing();
    live.finish();
    let kept = Kept::of(&env, &recorded(closing));
    let contents: Vec<_> = kept.all(&path).iter().map(|e| kept.content(&e["data"])).collect();
    let expected = ["first", "the user's", "the user's3\n4\n"];
    assert_eq!(contents, expected.map(|text| Some(text.as_bytes().to_vec())));
}

#[test]
fn what_the_session_made_is_kept_at_the_next_state_where_it_lasts() {
    let env = TestEnv::new();
    let place = lasting();
    let place = place.path().canonicalize().expect("there");
    let [made, moved] = ["made", "moved"].map(|name| place.join(name));
    let script = format!(
        "cd {}; echo 1 > made; echo 2 > ~/temporary; cp ~/temporary ~/t; mv ~/t moved; echo up; read go
         echo more >> made; echo more >> moved; echo more >> ~/temporary; rm made",
        place.display()
    );
    let mut live = env.start(PTRACE, &script);
    live.wait_for("up");
    env.ok(["snapshot"]);
    live.tell("go");
    let closing = live.closing();
    live.finish();
    let kept = Kept::of(&env, &recorded(closing));
    assert_eq!(kept.content(kept.one(&made)).as_deref(), Some(&b"1\n"[..]));
    assert_eq!(kept.content(kept.one(&moved)).as_deref(), Some(&b"2\n"[..]));
    assert!(kept.all(&outside(&env, "temporary")).is_empty());
}

#[test]
fn threads_and_processes_at_once_lose_nothing() {
    let env = TestEnv::new();
    let files: Vec<_> =
        (0..80).map(|i| old(&env, &format!("f{i}"), format!("old {i} ").repeat(500))).collect();
    let script = r#"
import os, threading, subprocess
home = os.path.expanduser("~")
def change(start):
    for i in range(start, 80, 4):
        path = f"{home}/f{i}"
        way = i % 5
        if way == 0: open(path, "w").write("new")
        elif way == 1: os.unlink(path)
        elif way == 2:
            open(path + ".tmp", "w").write("new"); os.rename(path + ".tmp", path)
        elif way == 3: os.truncate(path, 3)
        else:
            with open(path, "r+") as f: f.write("new")
rivals = [subprocess.Popen(["sh", "-c", "for i in $(seq 0 79); do : >> ~/f$i; done"]) for _ in range(2)]
threads = [threading.Thread(target=change, args=(start,)) for start in range(4)]
for t in threads: t.start()
for t in threads: t.join()
for r in rivals: r.wait()
"#;
    env.write("change.py", script);
    let kept = record(&env, "python3 change.py");
    for (i, path) in files.iter().enumerate() {
        let all = kept.all(path);
        let first = kept.content(&all.first().unwrap_or_else(|| panic!("{i} is lost"))["data"]);
        assert_eq!(first, Some(format!("old {i} ").repeat(500).into_bytes()), "{i}: {all:#?}");
    }
}

#[test]
fn programs_of_32_bits_lose_nothing_either() {
    let env = TestEnv::new();
    let path = old(&env, "old", "seen by 32 bits");
    env.write(
        "change.c",
        "#include <fcntl.h>\n#include <unistd.h>\nint main(int n, char **a) { return open(a[1], O_WRONLY | O_TRUNC) < 0 || unlink(a[2]); }\n",
    );
    let gone = old(&env, "gone", "gone by 32 bits");
    let (source, program) = (env.work().join("change.c"), env.work().join("change"));
    let mut compiler = Command::new("cc");
    compiler.args(["-m32", "-static", "-o"]).args([&program, &source]);
    // That it is not missing by accident is a test of the engines'.
    if !compiler.output().is_ok_and(|done| done.status.success()) {
        return;
    }
    let kept = record(&env, "./change ~/old ~/gone");
    assert_eq!(kept.content(kept.one(&path)).as_deref(), Some(&b"seen by 32 bits"[..]));
    assert_eq!(kept.content(kept.one(&gone)).as_deref(), Some(&b"gone by 32 bits"[..]));
}

#[test]
fn reports_say_what_is_kept_and_what_is_not() {
    let env = TestEnv::new();
    old(&env, "kept", "kept");
    old(&env, "large", vec![b'x'; 3000]);
    let options = [PTRACE, &["--keep-max-file", "2k"]].concat();
    let script = "echo more >> ~/kept; rm ~/large; echo new > ~/t; mv ~/t ~/new";
    env.record_with(&options, &["sh", "-c", script]);
    let files = env.ok(["files"]);
    let line = |name: &str| files.lines().find(|line| line.contains(name)).expect("listed");
    assert!(line("~/kept").ends_with("OUTSIDE the tree, old content kept"), "{files}");
    assert!(line("~/large").ends_with("OUTSIDE the tree, old content not kept"), "{files}");
    assert!(line("~/new").ends_with("OUTSIDE the tree"), "{files}");
    let shown = env.ok(["show"]);
    assert!(shown.contains("OUTSIDE the tree, old content kept"), "{shown}");
    let report = env.ok(["audit"]);
    assert!(report.contains("1 file outside the tree changed or deleted, old content not kept"));
    assert!(report.contains("old content of 1 kept"), "{report}");
    let json = env.json(["files"]);
    let of = |name: &str| {
        let found = json
            .iter()
            .find(|line| line["path"]["text"].as_str().is_some_and(|path| path.ends_with(name)));
        found.expect("listed")["old_content"].clone()
    };
    assert_eq!((of("/kept"), of("/new")), ("old content kept".into(), Value::Null));
}

#[test]
#[ignore = "needs root"]
fn root_an_ordinary_user_is_told_what_could_not_be_read() {
    let env = TestEnv::new();
    let program = env.work().join("agentrec");
    fs::copy(common::AGENTREC, &program).expect("copied");
    let [mine, theirs, refused] = ["mine", "theirs", "refused"].map(|name| old(&env, name, name));
    let nobody = nix::unistd::User::from_name("nobody").expect("there are users").expect("nobody");
    let give = |path: &Path| {
        nix::unistd::chown(path, Some(nobody.uid), Some(nobody.gid)).expect("we are root");
    };
    let user = outside(&env, "");
    let above = user.parent().expect("it has one").to_owned();
    [&above, &user, &env.work(), &mine].into_iter().for_each(|path| give(path));
    // To be replaced, not to be read; and not even that.
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o600)).expect("ours");
    fs::create_dir(user.join("locked")).expect("ours");
    fs::rename(&refused, user.join("locked/refused")).expect("ours");
    let refused = user.join("locked/refused");
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    let mut command = env.command("setpriv");
    command.args(["--reuid", &uid, "--regid", &gid, "--clear-groups", "--"]);
    command.arg(&program).args(["run", "--json", "--engine", "ptrace", "--", "sh", "-c"]);
    command.arg("rm -f ~/theirs; echo > ~/mine; rm -f ~/locked/refused; true");
    let ran = common::ran(command.output());
    let kept = Kept::of(&env, &common::recorded(&ran));
    assert_eq!(kept.content(kept.one(&mine)).as_deref(), Some(&b"mine"[..]));
    let data = kept.one(&theirs);
    assert_eq!((&data["reason"], &data["mode"]), (&"unreadable".into(), &0o600.into()), "{data}");
    assert!(kept.all(&refused).is_empty() && refused.exists());
}

#[test]
fn looking_at_a_file_leaves_its_access_time() {
    let env = TestEnv::new();
    let path = old(&env, "old", "old");
    let times = fs::FileTimes::new().set_accessed(std::time::SystemTime::UNIX_EPOCH);
    fs::File::options().write(true).open(&path).and_then(|f| f.set_times(times)).expect("ours");
    let kept = record(&env, "chmod 600 ~/old; echo >> ~/old");
    assert_eq!(kept.content(&kept.all(&path)[1]["data"]).as_deref(), Some(&b"old"[..]));
    assert_eq!(fs::metadata(&path).expect("there").atime(), 0);
}

#[test]
#[ignore = "needs root"]
fn root_by_bpf_programs_what_comes_late_is_marked_and_what_is_gone_is_said() {
    let env = TestEnv::new();
    let [appended, removed, cut, moved] =
        ["appended", "removed", "cut", "moved"].map(|name| old(&env, name, name));
    let script = "echo >> ~/appended; rm ~/removed; : > ~/cut; echo > x; mv x ~/moved; echo > ~/t; rm ~/t; chmod 600 ~/cut";
    let recorded = env.record_with(&["--engine", "ebpf"], &["sh", "-c", script]);
    let kept = Kept::of(&env, &recorded);
    let data = kept.one(&appended);
    assert_eq!(data["late"], true, "{data}");
    let content = kept.content(data).expect("read");
    assert!(content.starts_with(b"appended") && content.len() <= 9, "{data}");
    for (path, reason) in [(&removed, "gone"), (&cut, "gone"), (&moved, "unseen")] {
        let data = kept.one(path);
        assert_eq!((&data["reason"], &data["late"]), (&reason.into(), &true.into()), "{data}");
        assert_eq!(object(data), None, "{data}");
    }
    assert_eq!((&kept.one(&cut)["kind"], &kept.one(&cut)["mode"]), (&"file".into(), &0o644.into()));
    assert!(kept.all(&outside(&env, "t")).is_empty());
    let files = env.ok(["files"]);
    assert!(files.contains("OUTSIDE the tree, old content not kept"), "{files}");
}
