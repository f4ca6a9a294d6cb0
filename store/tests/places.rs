//! Places that a capture must not enter or can't: other file systems, bind mounts, closed directories.
//!
//! Each runs in a copy of this test program that is given what it needs: a mount namespace, or another user.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use agentrec_store::{CaptureOptions, Home, LeftOut, StatCache, Store, capture_tree};

/// Set in the environment of the copy: the directory to capture in.
const CHILD: &str = "STORE_TEST_DIR";

const NOBODY: u32 = 65534;

fn left_out(dir: &Path) -> Vec<(String, LeftOut)> {
    let store = Store::open(&Home::new(dir.join("home"))).unwrap();
    let options = CaptureOptions::default();
    let capture =
        capture_tree(&store, &dir.join("root"), &options, &mut StatCache::in_memory()).unwrap();
    capture
        .left_out
        .into_iter()
        .map(|left| (left.path.to_str().unwrap().to_owned(), left.reason))
        .collect()
}

fn expect(found: &[(String, LeftOut)], expected: &[(&str, LeftOut)]) {
    let found: Vec<_> = found.iter().map(|(path, reason)| (path.as_str(), *reason)).collect();
    assert_eq!(found, expected);
}

/// Runs one test of this program again, in `dir`, the way `command` does; fails if that does.
fn again(test: &str, dir: &Path, mut command: Command) {
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn other_file_systems_and_bind_mounts_are_not_entered() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let dir = Path::new(&dir);
        let mount = |arguments: &[&str], target: &str| {
            let status = Command::new("mount")
                .args(arguments)
                .arg(dir.join("root").join(target))
                .status()
                .unwrap();
            assert!(status.success());
        };
        let outside = dir.join("outside");
        let outside = outside.to_str().unwrap();
        mount(&["-t", "tmpfs", "tmpfs"], "tmp");
        mount(&["--bind", outside], "bound");
        mount(&["--bind", &format!("{outside}/secret")], "bound-file");
        let other = LeftOut::OtherFileSystem;
        let expected = [("bound", other), ("bound-file", other), ("tmp", other)];
        return expect(&left_out(dir), &expected);
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]);
        command
    };
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["root/tmp", "root/bound", "outside"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("outside/secret"), "x").unwrap();
    fs::write(dir.path().join("root/bound-file"), "").unwrap();
    again("other_file_systems_and_bind_mounts_are_not_entered", dir.path(), unshare());
}

#[test]
fn what_may_not_be_read_is_listed() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let dir = Path::new(&dir);
        let expected = ["closed", "file", "not-searchable"];
        let expected = expected.map(|path| (path, LeftOut::Unreadable));
        return expect(&left_out(dir), &expected);
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("closed/inner")).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    fs::create_dir(root.join("not-searchable")).unwrap();
    fs::write(root.join("not-searchable/inner"), "x").unwrap();
    for (name, mode) in [("closed", 0o000), ("file", 0o000), ("not-searchable", 0o444)] {
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new("env");
    if nix::unistd::geteuid().is_root() {
        let program = std::env::current_exe().unwrap();
        let reachable =
            Command::new(&program).arg("--list").uid(NOBODY).gid(NOBODY).output().is_ok();
        if !reachable {
            return; // The program lies where only root may read.
        }
        let give =
            |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        for path in [
            dir.path(),
            &root,
            &root.join("closed"),
            &root.join("file"),
            &root.join("not-searchable"),
        ] {
            give(path);
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    again("what_may_not_be_read_is_listed", dir.path(), command);
}

#[test]
fn what_comes_and_goes_while_it_is_read_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let store = Store::open(&Home::new(dir.path().join("home"))).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0_u64;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                let sub = root.join(format!("d{}", n % 5));
                fs::create_dir_all(sub.join("deep/er")).unwrap();
                fs::write(sub.join("deep/file"), n.to_string()).unwrap();
                // A file becomes a link and a directory in turn.
                let name = root.join("name");
                match n % 3 {
                    0 => fs::write(&name, "file").unwrap(),
                    1 => symlink("/", &name).unwrap(),
                    _ => fs::create_dir(&name).unwrap(),
                }
                fs::remove_dir_all(&sub).unwrap();
                fs::remove_file(&name).or_else(|_| fs::remove_dir(&name)).unwrap();
            }
        });
        let options = CaptureOptions::default();
        let mut cache = StatCache::in_memory();
        let captures: Vec<_> =
            (0..200).map(|_| capture_tree(&store, &root, &options, &mut cache)).collect();
        done.store(true, Ordering::Relaxed);
        for capture in captures {
            assert_eq!(capture.unwrap().left_out, []);
        }
    });
}
