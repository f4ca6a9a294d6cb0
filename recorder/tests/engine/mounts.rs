//! What decides which file a path leads to: mounts, roots and namespaces.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::harness::expect;

#[test]
fn mounts_in_every_way() {
    let prepare = |dir: &Path| {
        for name in ["a", "b", "c", "d"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
    };
    let expected = [
        "p1 unshare 0x10020000",
        "p1 mount / 0x44000",
        "p1 mount none a tmpfs 0x4",
        "p1 mount d b 0x1000",
        "p1 mount none missing tmpfs 0x0 ENOENT",
        "p1 umount b 0x2",
        "p1 umount b 0x0 EINVAL",
        "p1 move_mount some b tmpfs 0x4",
        "p1 fsconfig b 0x0",
        "p1 move_mount d c 0x4",
        "p1 mount_setattr c 0x1",
        "p1 open /proc/thread-self/ns/mnt r = 8",
        "p1 unshare 0x20000",
        "p1 setns /proc/thread-self/ns/mnt 0x20000",
        "p1 close /proc/thread-self/ns/mnt r0 w0",
    ];
    expect("mounts", prepare, &expected);
}

#[test]
fn another_root_stands_in_front() {
    let prepare = |dir: &Path| {
        fs::create_dir_all(dir.join("jail/sub")).unwrap();
        fs::create_dir_all(dir.join("jail/else/where")).unwrap();
        fs::write(dir.join("jail/else/mark"), "").unwrap();
        symlink("/else/where", dir.join("jail/sub/link")).unwrap();
    };
    let expected = [
        "p1 open . r|directory = 3",
        "p1 chroot none 0x0 ENOENT",
        "p1 chroot jail 0x0",
        "p1 open outside r|creat 600 = 4 created",
        "p1 open jail/file r|creat 600 = 5 created",
        "p1 chdir jail/sub",
        "p1 open jail/file r = 6",
        "p1 open jail/sub/link/../mark r = 7",
        "p1 mkdir jail/made 700",
        "p1 open jail/made r = 8",
        "p1 open jail/by_thread r|creat 600 = 9 created",
        "p1 fork p2 0x1200011",
        "p2 unlink jail/file",
        "p2 exit 0",
        "p1 close . r0 w0",
        "p1 close outside r0 w0",
        "p1 close jail/file r0 w0",
        "p1 close jail/file r0 w0",
        "p1 close jail/sub/link/../mark r0 w0",
        "p1 close jail/made r0 w0",
        "p1 close jail/by_thread r0 w0",
    ];
    expect("chroot", prepare, &expected);
}

#[test]
fn a_pivoted_root_moves_everybody() {
    let prepare = |dir: &Path| {
        fs::create_dir_all(dir.join("new/old")).unwrap();
        fs::create_dir(dir.join("new/sub")).unwrap();
    };
    let expected = [
        "p1 unshare 0x10020000",
        "p1 mount / 0x44000",
        "p1 mount new new 0x5000",
        "p1 fork p2 0x1200011",
        "p2 chdir /",
        "p1 pivot_root new new/old 0x0",
        "p2 open /by_child r|creat 600 = 4 created",
        "p2 close /by_child r0 w0",
        "p2 exit 0",
        "p1 chdir /",
        "p1 open /file r|creat 600 = 7 created",
        "p1 umount /old 0x2",
        "p1 open /sub/file r|creat 600 = 8 created",
        "p1 close /file r0 w0",
        "p1 close /sub/file r0 w0",
    ];
    expect("pivot_root", prepare, &expected);
}
