//! `agentrec undo`, `redo`, `ops`: taking back what a session did, and only that.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use agentrec_store::{Home, Operations};
use common::listing::listing;
use common::{TestEnv, objects, of_kind, ran, scripted};

#[test]
fn undo_and_redo_of_a_session_are_exact_to_the_last_time_and_link() {
    let env = TestEnv::new();
    env.write("src/a", "one\n");
    env.write("gone/deep/b", "b\n");
    env.write("c", "c\n");
    env.write("same", "same\n");
    let old = fs::metadata(env.work().join("src/a")).expect("there").mtime();
    std::os::unix::fs::symlink("c", env.work().join("link")).expect("ours");
    fs::hard_link(env.work().join("c"), env.work().join("d")).expect("ours");
    let before = listing(&env.work());
    env.record(
        "echo two > src/a; rm -r gone; chmod 600 c; echo more >> c; mkdir -p new/x; echo n > new/x/y; ln -sf src link; \
         mv same moved; ln src/a hard; sed -i s/two/2/ src/a",
    );
    let after = listing(&env.work());
    assert_ne!(before, after);
    let shown = env.run(["undo", "--dry-run"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert_eq!(listing(&env.work()), after, "a dry run changes nothing");
    let ran = env.run(["undo", "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(listing(&env.work()), before, "{ran:?}");
    assert_eq!(fs::metadata(env.work().join("src/a")).expect("there").mtime(), old);
    let again = env.run(["undo", "--yes"]);
    assert!(again.stderr.contains("nothing to undo"), "{again:?}");
    let ran = env.run(["redo", "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(listing(&env.work()), after, "{ran:?}");
    let ran = env.run(["undo", "o2", "--yes"]);
    assert_eq!((ran.code, listing(&env.work())), (0, before.clone()), "{ran:?}");
    // What undo put there is not taken for somebody's change.
    env.ok(["redo", "--yes", "o3"]);
    assert_eq!(env.run(["undo", "--yes"]).code, 0);
    assert_eq!(listing(&env.work()), before);
    let ops = env.json(["ops"]);
    let told: Vec<_> = of_kind(&ops, "operation")
        .iter()
        .map(|op| {
            format!("{} {} {}", op["operation"], op["what"], op["taken_back"]).replace('"', "")
        })
        .collect();
    assert_eq!(
        told,
        ["o1 undo true", "o2 redo false", "o3 undo true", "o4 redo false", "o5 undo false"]
    );
}

#[test]
fn what_the_user_did_stays() {
    let env = TestEnv::new();
    env.write("both", "1\n2\n3\n4\n5\n6\n7\n");
    env.write("mine", "mine\n");
    env.record("sed -i s/1/one/ both; mkdir new; echo x > new/x; echo y > y");
    env.write("both", "one\n2\n3\n4\n5\n6\nseven\n");
    env.write("mine", "changed\n");
    env.write("new/own", "own\n");
    env.write("y", "changed\n");
    let ran = env.run(["undo", "--yes"]);
    assert_eq!(ran.code, 1, "conflicts are left: {ran:?}");
    assert!(
        ran.stdout.contains("conflict both  changed since, not by a recorded process"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("conflict y"), "{ran:?}");
    assert!(ran.stdout.contains("stays new/"), "{ran:?}");
    assert!(ran.stderr.contains("hint: ") && ran.stderr.contains("--theirs"), "{ran:?}");
    assert_eq!(env.read("both").as_deref(), Some("one\n2\n3\n4\n5\n6\nseven\n"));
    assert_eq!((env.read("new/x"), env.read("new/own").as_deref()), (None, Some("own\n")));
    assert_eq!(env.read("mine").as_deref(), Some("changed\n"));
    let ran = env.run(["undo", "--yes", "--merge"]);
    assert_eq!(env.read("both").as_deref(), Some("1\n2\n3\n4\n5\n6\nseven\n"), "{ran:?}");
    assert_eq!(env.read("y").as_deref(), Some("changed\n"));
    let ran = env.run(["undo", "--yes", "--theirs", "--only", "y"]);
    assert_eq!((ran.code, env.read("y")), (0, None), "{ran:?}");
    env.ok(["redo", "--yes"]);
    assert_eq!(env.read("y").as_deref(), Some("changed\n"), "what it replaced was saved");
    assert_eq!(env.run(["undo", "--yes", "--mine", "--only", "y"]).code, 0);
}

#[test]
fn a_process_is_taken_back_alone() {
    let env = TestEnv::new();
    env.write("a", "a\n");
    env.write("both", "0\n");
    env.record("sh -c 'echo 1 > a; echo 1 > both; true'; sh -c 'echo 2 > b; echo 2 >> both; true'");
    let ps = env.json(["ps"]);
    let second = of_kind(&ps, "process")
        .iter()
        .filter(|p| p.to_string().contains("echo 2"))
        .filter_map(|p| p["proc"].as_u64().or_else(|| p["id"].as_u64()))
        .max()
        .expect("a process");
    let ran = env.run(["undo", &format!("p{second}"), "--yes"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("conflict both  changed at the same time by sh "), "{ran:?}");
    assert_eq!((env.read("a").as_deref(), env.read("b")), (Some("1\n"), None));
    assert_eq!(env.read("both").as_deref(), Some("1\n2\n"));
}

#[test]
fn ops_are_those_of_the_directory() {
    let env = TestEnv::new();
    env.write("a", "one\n");
    env.record("echo two > a");
    assert!(env.run(["ops"]).stderr.contains("nothing was undone or restored here"));
    env.ok(["undo", "--yes"]);
    env.ok(["redo", "--yes"]);
    let shown = env.ok(["ops"]);
    let states = |shown: &str| -> Vec<(String, String)> {
        let ends = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[..2].join(" "), words[words.len() - 1].to_owned())
        };
        shown.lines().map(ends).collect()
    };
    let expected = [("o1 undo", "back"), ("o2 redo", "done")];
    assert_eq!(
        states(&shown),
        expected.map(|(op, end)| (op.to_owned(), end.to_owned())),
        "{shown}"
    );
    let elsewhere = env.outside("elsewhere");
    fs::create_dir(&elsewhere).expect("ours");
    let there = |all: bool| {
        let mut command = env.agentrec(["ops"].into_iter().chain(all.then_some("--all")));
        ran(command.current_dir(&elsewhere).output())
    };
    assert_eq!(there(false).stdout, "");
    assert_eq!(there(true).stdout, shown);
}

#[test]
fn undo_changes_nothing_without_a_yes() {
    let env = TestEnv::new();
    env.record("echo new > new");
    let ran = env.run(["undo"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("hint: --yes"), "{ran:?}");
    assert_eq!(env.read("new").as_deref(), Some("new\n"));
    assert_eq!(env.run(["redo", "--yes"]).code, 1);
    assert!(env.run(["redo", "--yes"]).stderr.contains("hint: "));
    let line = format!("{} undo", common::AGENTREC);
    let asked = env.in_terminal(&format!("echo n | {line}"), &[]);
    assert_eq!(asked.code, 1, "a pipe is no terminal: {asked:?}");
    assert_eq!(env.json(["ops"]).len(), 0);
}

#[test]
fn what_can_t_be_taken_back_is_listed_first() {
    let env = TestEnv::new();
    env.write("a", "a\n");
    env.record("echo b > a; git push origin main 2>/dev/null; true");
    let ran = env.run(["undo", "--dry-run"]);
    let first = ran.stdout.lines().next().expect("a line");
    assert!(
        first.starts_with("can't take back:") && first.contains("git push origin main"),
        "{ran:?}"
    );
    let values = objects(&env.run(["undo", "--dry-run", "--json"]).stdout);
    assert_eq!(of_kind(&values, "outward").len(), 1, "{values:?}");
    let step = of_kind(&values, "step")[0];
    assert_eq!(step["change"], "changed", "{step}");
    assert!(step["by"].as_str().is_some_and(|by| by.starts_with("sh ")), "{step}");
}

#[test]
fn files_of_their_owner_alone_keep_what_was_there() {
    let env = TestEnv::new();
    env.write("a", "a\n");
    env.record("echo b > a");
    env.ok(["undo", "--yes"]);
    for name in ["1.op", "1.done"] {
        let path = env.home().join("ops").join(name);
        assert_eq!(
            fs::metadata(&path).expect("there").permissions().mode() & 0o777,
            0o600,
            "{name}"
        );
    }
}

#[test]
fn a_turn_is_taken_back_alone() {
    let env = TestEnv::new();
    env.write("a", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    env.write("b", "b\n");
    scripted::record(
        &env,
        &[
            &["sed -i s/2/two/ a; echo t1 > own"],
            &["sed -i s/8/eight/ a; rm b; mkdir d; echo x > d/x", "write direct text"],
            &["sed -i s/5/five/ a; echo t3 > later"],
        ],
    );
    let shown = env.run(["undo", "t2", "--dry-run"]);
    assert!(
        shown.stdout.contains("conflict a  changed since by sed ")
            && shown.stdout.contains("<- t3 shell"),
        "{shown:?}"
    );
    assert!(
        shown.stdout.contains("+ b")
            && shown.stdout.contains("by rm ")
            && shown.stdout.contains("<- t2 shell"),
        "{shown:?}"
    );
    let ran = env.run(["undo", "t2", "--merge", "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(env.read("a").as_deref(), Some("1\ntwo\n3\n4\nfive\n6\n7\n8\n9\n"), "{ran:?}");
    assert_eq!(
        (env.read("b").as_deref(), env.read("d/x"), env.read("direct")),
        (Some("b\n"), None, None)
    );
    assert!(!env.work().join("d").exists());
    assert_eq!(
        (env.read("own").as_deref(), env.read("later").as_deref()),
        (Some("t1\n"), Some("t3\n"))
    );
    assert!(!ran.stdout.contains("POST"), "the conversation itself is no deed: {ran:?}");
    env.ok(["redo", "--yes"]);
    assert_eq!(env.read("a").as_deref(), Some("1\ntwo\n3\n4\nfive\n6\n7\neight\n9\n"));
    assert_eq!((env.read("b"), env.read("direct").as_deref()), (None, Some("text")));
    // From the last to the first there is no conflict, and then the whole is gone.
    for turn in ["t3", "t2", "t1"] {
        let ran = env.run(["undo", turn, "--yes"]);
        assert_eq!(ran.code, 0, "{turn}: {ran:?}");
    }
    assert_eq!(env.read("a").as_deref(), Some("1\n2\n3\n4\n5\n6\n7\n8\n9\n"));
    assert_eq!((env.read("own"), env.read("later")), (None, None));
}

#[test]
fn what_the_user_does_while_the_agent_works_is_the_user_s() {
    let env = TestEnv::new();
    env.write("shared", "1\n2\n3\n4\n5\n");
    let pause = scripted::Pause::new(&env, "pause");
    let turns = [
        vec!["echo agent > made".to_owned()],
        vec![pause.command()],
        vec!["sed -i s/5/five/ shared".to_owned()],
    ];
    scripted::record_beside(&env, &turns, || {
        pause.during(|| {
            env.write("shared", "one\n2\n3\n4\n5\n");
            env.write("made", "user\n");
            env.write("own", "user\n");
        });
    });
    let ran = env.run(["undo", "--yes"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("conflict made"), "{ran:?}");
    assert_eq!(env.read("shared").as_deref(), Some("one\n2\n3\n4\n5\n"), "{ran:?}");
    assert_eq!(
        (env.read("made").as_deref(), env.read("own").as_deref()),
        (Some("user\n"), Some("user\n"))
    );
}

#[test]
fn diff_of_a_turn_names_who_made_each_change() {
    let env = TestEnv::new();
    env.write("a", "1\n2\n3\n");
    env.write("user", "1\n");
    let pause = scripted::Pause::new(&env, "pause");
    let turns = [
        vec!["sed -i s/1/one/ a".to_owned()],
        vec!["sed -i s/2/two/ a; printf '\\0\\1' > blob".to_owned(), pause.command()],
        vec!["sed -i s/3/three/ a".to_owned()],
    ];
    scripted::record_beside(&env, &turns, || pause.during(|| env.write("user", "2\n")));
    let ran = env.run(["diff", "t2"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let lines: Vec<_> = ran.stdout.lines().collect();
    let before = |wanted: &str| {
        let at = lines
            .iter()
            .position(|line| line.starts_with(wanted))
            .unwrap_or_else(|| panic!("{wanted}: {ran:?}"));
        lines[at - 1].to_owned()
    };
    assert!(
        before("--- a/a").starts_with("by sed ") && before("--- a/a").contains(" <- t2 shell"),
        "{ran:?}"
    );
    assert!(
        lines.contains(&"-2") && lines.contains(&"+two") && !lines.contains(&"+three"),
        "{ran:?}"
    );
    assert!(before("+ blob  binary: nothing -> 2 B ").starts_with("by sh "), "{ran:?}");
    assert_eq!(before("--- a/user"), "not by a recorded process", "{ran:?}");
    let values = objects(&env.run(["diff", "t2", "--json"]).stdout);
    assert!(values.iter().all(|value| value["by"].is_array()), "{values:?}");
}

#[test]
fn blame_tells_each_line_s_turn() {
    let env = TestEnv::new();
    env.write("a", "start\n");
    let pause = scripted::Pause::new(&env, "pause");
    let turns = [
        vec!["echo first >> a".to_owned()],
        vec![pause.command()],
        vec!["echo third >> a".to_owned()],
        vec!["sh -c 'echo x >> a; true'; sed -i s/x/both/ a".to_owned()],
    ];
    scripted::record_beside(&env, &turns, || {
        pause.during(|| env.write("a", "start\nfirst\nuser\n"));
    });
    env.write("a", "start\nfirst\nuser\nthird\nboth\nlater\n");
    let lines = env.json(["blame", "a"]);
    let by = |line: usize| lines[line]["by"].to_string();
    assert_eq!(lines[0]["from"], "start", "{lines:?}");
    assert!(by(1).contains("sh ") && by(1).contains("<- t1 shell"), "{lines:?}");
    assert_eq!(lines[2]["from"], "not recorded", "{lines:?}");
    assert!(by(3).contains("<- t3 shell"), "{lines:?}");
    assert_eq!(
        lines[4]["by"].as_array().map(Vec::len),
        Some(2),
        "who of two cannot be told: {lines:?}"
    );
    assert_eq!(lines[5]["from"], "not recorded", "{lines:?}");
    let shown = env.ok(["blame", "a"]);
    let shown: Vec<_> = shown.lines().collect();
    assert!(
        shown[0].starts_with("there from the start") && shown[0].ends_with("1) start"),
        "{shown:?}"
    );
    assert!(shown[4].starts_with("ambiguous: "), "{shown:?}");
    let why = env.ok(["why", "a:4"]);
    assert!(why.starts_with("a:4  third\n") && why.contains("<- t3 shell"), "{why}");
    assert_eq!(env.run(["blame", "missing"]).code, 1);
    assert_eq!(env.run(["why", "a:99"]).code, 1);
}

#[test]
fn what_the_user_changes_after_the_agent_in_the_same_turn_asks() {
    let env = TestEnv::new();
    for name in ["a", "b", "c", "gone"] {
        env.write(name, "1\n2\n3\n");
    }
    let pause = scripted::Pause::new(&env, "pause");
    let turns =
        [vec!["echo agent >> a; mv b moved; echo agent >> c; rm gone".to_owned(), pause.command()]];
    scripted::record_beside(&env, &turns, || {
        pause.during(|| {
            env.write("a", "user\n");
            env.write("moved", "user\n");
            env.write("gone", "user\n");
            fs::remove_file(env.work().join("c")).expect("there");
        });
    });
    let ran = env.run(["undo", "t1", "--yes"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for name in ["a", "moved", "gone"] {
        assert!(ran.stdout.contains(&format!("conflict {name}")), "{name}: {ran:?}");
        assert_eq!(env.read(name).as_deref(), Some("user\n"), "{ran:?}");
    }
    assert!(ran.stdout.contains("conflict c"), "{ran:?}");
    assert_eq!((env.read("c"), env.read("b").as_deref()), (None, Some("1\n2\n3\n")));
}

#[test]
fn outside_of_the_tree_what_was_kept_comes_back() {
    let env = TestEnv::new();
    let home = env.outside("");
    let write = |name: &str, content: &str| fs::write(home.join(name), content).expect("ours");
    for name in ["conf", "gone", "replaced", "mine", "dotfile"] {
        write(name, &format!("{name}\n"));
    }
    fs::set_permissions(home.join("conf"), fs::Permissions::from_mode(0o640)).expect("ours");
    std::os::unix::fs::symlink("dotfile", home.join("link")).expect("ours");
    let before = listing(&home);
    env.record(
        "cd ~; echo agent >> conf; rm gone; echo new > made; mkdir -p d/e; echo x > d/e/x; mv made2 made 2>/dev/null; \
         cp conf .tmp; mv .tmp replaced; echo agent > mine; echo through > link; chmod 600 dotfile",
    );
    let after = listing(&home);
    write("mine", "user\n");
    let ran = env.run(["undo", "--yes"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("conflict ~/mine  changed after the last recorded act"), "{ran:?}");
    assert!(ran.stdout.contains("OUTSIDE the tree"), "{ran:?}");
    assert_eq!(fs::read_to_string(home.join("mine")).expect("there"), "user\n");
    write("mine", "mine\n");
    let without = |listing: Vec<String>| -> Vec<String> {
        listing.into_iter().filter(|line| !line.starts_with("mine ")).collect()
    };
    assert_eq!(without(listing(&home)), without(before), "{ran:?}");
    let again = env.run(["redo", "--yes"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(without(listing(&home)), without(after), "{again:?}");
    let again = env.run(["undo", "--yes", "--only", "**/conf"]);
    assert_eq!(again.code, 0, "its own redo is nobody's change: {again:?}");
    assert_eq!(fs::read_to_string(home.join("conf")).expect("there"), "conf\n");
    assert!(!home.join("gone").exists());
}

/// Records changes to two files, undoes them, and makes it look as if that had been killed in between.
fn interrupted(env: &TestEnv) {
    env.write("a", "1\n");
    env.write("b", "1\n");
    env.record("echo 2 > a; echo 2 > b; echo 2 > c");
    env.ok(["undo", "--yes"]);
    fs::remove_file(env.home().join("ops/1.done")).expect("it was written");
    env.write("b", "2\n");
    let (logged, _) = Operations::list(&Home::new(env.home())).expect("readable");
    env.write(&format!(".agentrec-{}-7.partial", logged[0].operation.pid), "half");
    assert_eq!(env.json(["ops"])[0]["interrupted"], true);
    let refused = env.run(["undo", "--yes"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("o1 was interrupted"), "{refused:?}");
    assert!(refused.stderr.contains("hint: agentrec undo --finish"), "{refused:?}");
}

fn partial_files(env: &TestEnv) -> usize {
    listing(&env.work()).iter().filter(|line| line.contains(".partial")).count()
}

#[test]
fn an_interrupted_undo_is_finished() {
    let env = TestEnv::new();
    interrupted(&env);
    let ran = env.run(["undo", "--finish"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let now = ["a", "b", "c"].map(|name| env.read(name));
    assert_eq!(now, [Some("1\n".into()), Some("1\n".into()), None], "{ran:?}");
    assert_eq!(partial_files(&env), 0);
    env.ok(["redo", "--yes"]);
    assert_eq!(
        ["a", "b", "c"].map(|name| env.read(name)),
        ["2\n"; 3].map(|text| Some(text.into()))
    );
    assert!(env.run(["undo", "--finish"]).stderr.contains("nothing was interrupted"));
}

#[test]
fn an_interrupted_undo_is_taken_back() {
    let env = TestEnv::new();
    interrupted(&env);
    let ran = env.run(["redo", "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        ["a", "b", "c"].map(|name| env.read(name)),
        ["2\n"; 3].map(|text| Some(text.into()))
    );
    assert_eq!(partial_files(&env), 0);
    assert!(env.json(["ops"]).iter().all(|op| op["interrupted"] == false));
    assert_eq!(env.run(["undo", "--yes"]).code, 0);
    assert_eq!(env.read("c"), None);
}

#[test]
fn a_copy_is_not_undone() {
    let env = TestEnv::new();
    env.write("a", "1\n");
    env.record("true");
    env.ok(["resume", "s1", "-q", "--", "sh", "-c", "echo 2 > a"]);
    let ran = env.run(["undo", "--yes"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("worked in a copy") && ran.stderr.contains("agentrec apply"),
        "{ran:?}"
    );
}

#[test]
fn redo_has_what_it_needs_after_the_store_was_collected() {
    let env = TestEnv::new();
    env.write("a", "1\n");
    let recorded = env.record("echo 2 > a");
    env.write("a", "user\n");
    env.ok(["undo", "--yes", "--theirs"]);
    env.ok(["rm", &recorded.id]);
    env.ok(["store", "gc", "--yes", "--keep-last", "0s"]);
    env.ok(["redo", "--yes"]);
    assert_eq!(env.read("a").as_deref(), Some("user\n"));
}

#[test]
fn what_went_through_a_link_is_found_where_it_leads() {
    let env = TestEnv::new();
    env.write("real/a", "1\n");
    env.write("b", "1\n");
    env.write("c", "1\n");
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, env.work().join(name)).expect("ours");
    };
    link("real", "dir");
    link("b", "file");
    link("c", "replaced");
    let before = listing(&env.work());
    env.record(
        "echo 2 > dir/a; echo new > dir/new; echo 2 > file; rm replaced; echo own > replaced; ln -s b own; echo 3 >> own",
    );
    let after = listing(&env.work());
    assert_eq!(env.read("b").as_deref(), Some("2\n3\n"));
    let ran = env.run(["undo", "--yes"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(listing(&env.work()), before, "{ran:?}");
    env.ok(["redo", "--yes"]);
    assert_eq!(listing(&env.work()), after);
}
