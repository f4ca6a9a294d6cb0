//! Writers that are killed, and writers that meet: whatever happens, what is under an object's name is that object.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use agentrec_store::{
    CaptureOptions, Home, Objects, StatCache, Store, capture_tree, diff_trees, new_objects,
};

/// Set in the environment of a copy of this test program that captures until it is killed.
const CHILD: &str = "STORE_TEST_CAPTURE";

fn fill(root: &Path, round: usize) {
    for n in 0..40 {
        let dir = root.join(format!("d{}", n % 4));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{n}")), format!("{round} {n} ").repeat(1 + n * 500)).unwrap();
    }
}

fn capture(store: &Store, root: &Path) -> agentrec_store::Capture {
    capture_tree(store, root, &CaptureOptions::default(), &mut StatCache::in_memory()).unwrap()
}

/// Not a test of its own: what the killed process does.
#[test]
fn capture_forever_where_asked_to() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let store = Store::open(&Home::new(dir.join("home"))).unwrap();
    println!("\ngo");
    for round in 0.. {
        fill(&dir.join("root"), round);
        println!("finished {}", capture(&store, &dir.join("root")).tree);
    }
}

#[test]
fn a_killed_capture_leaves_nothing_broken_and_no_finished_one_loses_anything() {
    kill_at((0..4000).step_by(200));
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_nothing_is_broken_or_missing_after_200_kills_at_random_points() {
    let mut state = 1_u64;
    kill_at((0..200).map(move |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % 6000
    }));
}

/// Kills captures, each after so much work, and looks at what is left.
fn kill_at(points: impl Iterator<Item = usize>) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    let store = Store::open(&home).unwrap();
    for kill_after in points {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "capture_forever_where_asked_to", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        lines.find(|line| line == "go").unwrap();
        // The moment is counted in looks at what the capture does, not in time.
        let tmp = home.objects().join("tmp");
        let mut seen = 0;
        while seen < kill_after {
            let writers = fs::read_dir(&tmp).into_iter().flatten().flatten();
            let files = writers.filter_map(|dir| fs::read_dir(dir.path()).ok()).flatten().count();
            seen += files.max(1);
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let report = store.check().unwrap();
        assert_eq!((report.damaged, report.foreign), (vec![], vec![]));
        for line in lines {
            let Some(tree) = line.strip_prefix("finished ") else { continue };
            let Ok(tree) = tree.parse() else { continue };
            for object in new_objects(&store, None, tree).unwrap() {
                assert!(
                    store.get(&object.id).unwrap().is_some(),
                    "{} is gone",
                    object.path.display()
                );
            }
        }
    }
    // The next writer finds what the dead ones left, and removes it.
    fill(&dir.path().join("root"), usize::MAX);
    capture(&store, &dir.path().join("root"));
    assert_eq!(fs::read_dir(home.objects().join("tmp")).unwrap().count(), 1);
}

#[test]
fn several_recorders_capture_the_same_tree_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    let root = dir.path().join("root");
    fill(&root, 1);
    let trees: Vec<_> = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| capture(&Store::open(&home).unwrap(), &root).tree))
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert!(trees.iter().all(|tree| *tree == trees[0]));
    let store = Store::open(&home).unwrap();
    assert_eq!(diff_trees(&store, trees[0], capture(&store, &root).tree).unwrap(), []);
    let report = store.check().unwrap();
    assert_eq!((report.objects, report.damaged, report.foreign), (40 + 4 + 1, vec![], vec![]));
}
