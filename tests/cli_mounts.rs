//! Another file system that is mounted below the working directory: left out and said so, or a root where somebody asks for it.

mod common;

use common::{AGENTREC, Ran, TestEnv, ran};

/// Runs a script where a file system of its own, with one file, is mounted at `sub/mounted`.
fn beside_a_mount(env: &TestEnv, script: &str) -> Ran {
    let script = format!(
        "set -e; mkdir -p sub/mounted; echo old > sub/beside; mount -t tmpfs none sub/mounted; \
         echo old > sub/mounted/f; agentrec() {{ {AGENTREC} \"$@\"; }}; {script}"
    );
    ran(env.command("unshare").args(["--map-root-user", "--mount", "sh", "-c", &script]).output())
}

const CHANGE: &str =
    "sh -c 'echo new > sub/mounted/f; echo new > sub/mounted/g; echo new > sub/beside'";

#[test]
fn run_leaves_out_what_is_mounted_below_the_tree() {
    let env = TestEnv::new();
    let script = format!("agentrec run -- {CHANGE}; agentrec info s2");
    let ran = beside_a_mount(&env, &script);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("sub/mounted") && ran.stdout.contains("another file system"),
        "{ran:?}"
    );
}

#[test]
fn run_takes_what_is_mounted_below_the_tree_where_it_is_a_root() {
    for engine in ["ptrace", "auto"] {
        let env = TestEnv::new();
        let script = format!(
            "agentrec run --name first --engine {engine} --root sub/mounted -- {CHANGE}
             agentrec undo --yes; cat sub/mounted/f sub/beside; test ! -e sub/mounted/g
             agentrec redo --yes; cat sub/mounted/f sub/mounted/g sub/beside
             agentrec restore s1 --in-place; cat sub/mounted/f sub/beside
             agentrec resume first@s2 -- cat sub/mounted/f sub/mounted/g sub/beside
             agentrec resume first@s1 -- sh -c 'cat sub/mounted/f; echo resumed > sub/mounted/f'
             cat sub/mounted/f; agentrec apply --yes; cat sub/mounted/f"
        );
        let ran = beside_a_mount(&env, &script);
        assert_eq!(ran.code, 0, "{ran:?}");
        let told = ran.stdout.lines().filter(|line| ["old", "new", "resumed"].contains(line));
        let told: Vec<_> = told.collect();
        let expected = "old old new new new old old new new new old old resumed";
        assert_eq!(told.join(" "), expected, "{ran:?}");
        // What the resumed run did there is seen, too.
        assert!(ran.stderr.contains("in tree +0 ~1 -0"), "{ran:?}");
    }
}
