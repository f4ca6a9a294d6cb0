//! What happens to files: opened, moved through, renamed, removed, changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use agentrec_trace::Data;

use super::harness::{Abi, Recording, User, all_kinds, expect};

#[test]
fn opens_in_every_way() {
    let prepare = |dir: &Path| {
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::create_dir_all(dir.join("else/where")).unwrap();
        fs::write(dir.join("else/mark"), "").unwrap();
        symlink("else/where", dir.join("link")).unwrap();
    };
    let expected = [
        "p1 open new w|creat|trunc 640 = 3 created",
        "p1 open new r = 4",
        "p1 open none rw ENOENT",
        "p1 open new w|creat 600 = 5",
        "p1 open sub r|directory|cloexec = 6",
        "p1 open new w|append = 7",
        "p1 open sub/fresh rw|creat|excl 644 = 8 created",
        "p1 open sub/fresh rw|creat|excl 644 EEXIST",
        "p1 open sub/how rw|creat 600 = 9 created",
        "p1 open x r EBADF",
        "p1 open link/../mark r = 10",
        "p1 close new r0 w0",
        "p1 close new r0 w0",
        "p1 close new r0 w0",
        "p1 close sub r0 w0",
        "p1 close new r0 w0",
        "p1 close sub/fresh r0 w0",
        "p1 close sub/how r0 w0",
        "p1 close link/../mark r0 w0",
    ];
    expect("open", prepare, &expected);
}

#[test]
fn a_file_without_a_name_gets_one() {
    for user in User::all() {
        let recorded =
            Recording::tracee("tmpfile").with(|dir| fs::create_dir(dir.join("d")).unwrap());
        let mut lines = recorded.user(user).run().lines();
        // Where the kernel wants a right for AT_EMPTY_PATH.
        lines.retain(|line| !line.ends_with("ENOENT"));
        let expected = [
            "p1 exec tracee [tracee] []",
            "p1 open d w|tmpfile 600 = 3",
            "p1 link d by_proc of d",
            "p1 truncate by_proc 7",
            "p1 link by_proc again",
            "p1 open d rw|tmpfile 600 = 4",
            "p1 link d d/by_empty_path of d",
            "p1 open d w|tmpfile 600 = 5",
            "p1 close d r0 w9",
            "p1 close d r0 w0",
            "p1 close d r0 w1",
            "p1 exit 0",
        ];
        assert_eq!(lines, expected);
    }
}

#[test]
fn a_directory_can_be_the_root_of_one_call() {
    let expected = [
        "p1 open d r|directory|path = 3",
        "p1 open d/etc/passwd rw|creat 600 = 4 created",
        "p1 open d/file rw|creat 600 = 5 created",
        "p1 open d/other rw|creat 600 = 6 created",
        "p1 open file rw|creat 600 EXDEV",
        "p1 close d r0 w0",
        "p1 close d/etc/passwd r0 w0",
        "p1 close d/file r0 w0",
        "p1 close d/other r0 w0",
    ];
    expect("in_root", |dir| fs::create_dir_all(dir.join("d/etc")).unwrap(), &expected);
}

#[test]
fn opens_by_handle() {
    for user in User::all() {
        let lines = Recording::tracee("by_handle").user(user).run().lines();
        let opened: Vec<_> = lines.iter().filter(|line| line.contains("append")).collect();
        let privileged = user == User::Same && User::all().len() > 1;
        let expected =
            if privileged { "p1 open file w|append = 4" } else { "p1 open  w|append EPERM" };
        assert_eq!(opened, [expected], "{lines:#?}");
        let close = "p1 close file r0 w3".to_owned();
        assert_eq!(lines.contains(&close), privileged, "{lines:#?}");
    }
}

#[test]
fn sums_the_bytes_of_every_transfer() {
    let expected = [
        "p1 open file rw|creat|trunc 600 = 3 created",
        "p1 open to rw|creat|trunc 600 = 4 created",
        "p1 close file r55 w37",
        "p1 close to r0 w18",
    ];
    expect("transfer", |_| (), &expected);
}

#[test]
fn renames_move_what_is_below() {
    let expected = [
        "p1 open a/sub r|directory = 3",
        "p1 open a/sub/file rw|creat 600 = 4 created",
        "p1 chdir a/sub",
        "p1 rename a b",
        "p1 open b/sub/here w|creat 600 = 5 created",
        "p1 open b/sub/there w|creat 600 = 6 created",
        "p1 truncate b/sub/file 3",
        "p1 rename b/sub/there b/sub/moved",
        "p1 open . r|directory = 7",
        "p1 mkdir c 700",
        "p1 rename b c 2",
        "p1 open c/sub/exchanged w|creat 600 = 8 created",
        "p1 rename b c 1 EEXIST",
        "p1 close a/sub r0 w0",
        "p1 close a/sub/file r0 w0",
        "p1 close b/sub/here r0 w0",
        "p1 close b/sub/there r0 w0",
        "p1 close . r0 w0",
        "p1 close c/sub/exchanged r0 w0",
    ];
    expect("rename", |dir| fs::create_dir_all(dir.join("a/sub")).unwrap(), &expected);
}

#[test]
fn makes_and_removes() {
    let expected = [
        "p1 mkdir d 755",
        "p1 open d r|directory|path = 3",
        "p1 mkdir d/e 700",
        "p1 mkdir d 700 EEXIST",
        "p1 mknod fifo 10600",
        "p1 mknod d/plain 100644",
        "p1 rmdir d ENOTEMPTY",
        "p1 unlink fifo",
        "p1 unlink d/plain",
        "p1 rmdir d/e",
        "p1 rmdir d",
        "p1 unlink d ENOENT",
        "p1 close d r0 w0",
    ];
    expect("remove", |_| (), &expected);
}

#[test]
fn links() {
    let expected = [
        "p1 open file w|creat 600 = 3 created",
        "p1 link file hard",
        "p1 link file hard2",
        "p1 link file hard EEXIST",
        "p1 symlink soft -> ../no/where",
        "p1 symlink soft2 -> file",
        "p1 close file r0 w0",
    ];
    expect("link", |_| (), &expected);
}

#[test]
fn changes_attributes() {
    let expected = [
        "p1 open file rw|creat 600 = 3 created",
        "p1 truncate file 100",
        "p1 truncate file 50",
        "p1 truncate file 100",
        "p1 truncate none 1 ENOENT",
        "p1 chmod file 640",
        "p1 chmod file 644",
        "p1 chmod file 600",
        "p1 chown file set:-",
        "p1 chown soft -:set",
        "p1 chown file set:set",
        "p1 chown file set:set",
        "p1 chown file set:set",
        "p1 utime file 1000000000 2000000000",
        "p1 utime file 1000005000 2000006000",
        "p1 utime file 1000005000 2000006000",
        "p1 utime file 1000005000 2000006000",
        "p1 utime file 3000000007 -",
        "p1 utime file 3000000007 -",
        "p1 xattr file user.a 4",
        "p1 xattr file user.b 0",
        "p1 xattr file user.c 1",
        "p1 xattr file user.a removed",
        "p1 xattr file user.b removed",
        "p1 xattr file user.c removed",
        "p1 xattr file user.a removed ENODATA",
        "p1 close file r0 w0",
    ];
    expect("attributes", |dir| symlink("file", dir.join("soft")).unwrap(), &expected);
}

#[test]
fn changes_attributes_by_new_calls() {
    for (abi, user) in all_kinds() {
        let recorded = Recording::tracee("attributes_at").abi(abi).user(user).run();
        let mut lines = recorded.lines();
        // Kernels that lack them answer so, and the calls are still seen.
        lines.iter_mut().for_each(|line| *line = line.replace(" ENOSYS", ""));
        let expected = [
            "p1 exec tracee [tracee] []",
            "p1 open file rw|creat 600 = 3 created",
            "p1 chmod file 640",
            "p1 chmod file 600",
            "p1 xattr file user.a 4",
            "p1 xattr file user.a removed",
            "p1 close file r0 w0",
            "p1 exit 0",
        ];
        assert_eq!(lines, expected);
    }
}

#[test]
fn maps_shared_and_writable() {
    let expected = [
        "p1 open file rw|creat 600 = 3 created",
        "p1 truncate file 8192",
        "p1 mmap file 4096+4096",
        "p1 close file r0 w0",
    ];
    expect("mmap", |_| (), &expected);
}

#[test]
fn clones_contents() {
    Abi::all().into_iter().for_each(clones_contents_of);
}

fn clones_contents_of(abi: Abi) {
    let lines = Recording::tracee("clone_file").abi(abi).run().lines();
    // Most file systems can't.
    let lines: Vec<_> =
        lines.iter().map(|line| line.replace(" EOPNOTSUPP", "").replace(" EINVAL", "")).collect();
    let expected = [
        "p1 exec tracee [tracee] []",
        "p1 open from rw|creat 600 = 3 created",
        "p1 open to rw|creat 600 = 4 created",
        "p1 clone from to",
        "p1 clone from to",
        "p1 close from r0 w7",
        "p1 close to r0 w0",
        "p1 exit 0",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn changes_directory() {
    let prepare = |dir: &Path| {
        fs::create_dir_all(dir.join("target/in")).unwrap();
        fs::create_dir(dir.join("target/sub")).unwrap();
        symlink("target/in", dir.join("link")).unwrap();
    };
    let expected = [
        "p1 chdir link",
        "p1 open target/in/in_target r|creat 600 = 3 created",
        "p1 open target r|directory = 4",
        "p1 chdir target",
        "p1 chdir target/none ENOENT",
        "p1 chdir target/sub",
        "p1 open target/sub/in_sub r|creat 600 = 5 created",
        "p1 fork p2 0x1200011",
        "p2 chdir target",
        "p2 exit 0",
        "p1 open target/sub/still_in_sub r|creat 600 = 6 created",
        "p1 close target/in/in_target r0 w0",
        "p1 close target r0 w0",
        "p1 close target/sub/in_sub r0 w0",
        "p1 close target/sub/still_in_sub r0 w0",
    ];
    expect("chdir", prepare, &expected);
}

#[test]
fn asks_no_file_system_that_a_tracee_may_serve() {
    let recorded = Recording::tracee("fuse").run();
    let opened = recorded.captured().filter_map(|captured| match &captured.event.data {
        Data::FileOpen(open) => Some((open.path.as_path().file_name()?.to_str()?, open.created)),
        _ => None,
    });
    // Whether `after` was there before is not known.
    let expected = [("before", true), ("fuse", false), ("after", false), ("sure", true)];
    assert!(opened.eq(expected), "{:#?}", recorded.lines());
}

#[test]
fn a_shell_copies_a_file() {
    let recorded = Recording::program("/bin/sh")
        .args(["-c", "cat x > y; cat y"])
        .with(|dir| fs::write(dir.join("x"), "hello\n").unwrap())
        .run();
    assert_eq!(recorded.stdout, b"hello\n");
    let lines = recorded.lines();
    let ours = |line: &&String| {
        [" x ", " y ", "pipe"].iter().any(|name| line.contains(name)) && !line.contains("exec")
    };
    let ours: Vec<_> = lines.iter().filter(ours).collect();
    let expected = [
        "p1 open y w|creat|trunc 666 = 3 created",
        "p2 open x r = 3",
        "p2 close x r6 w0",
        "p2 close y r0 w6",
        "p1 close y r0 w0",
        "p3 open y r = 3",
        "p3 close y r6 w0",
        "p3 close pipe r0 w6",
    ];
    assert_eq!(ours, expected, "{lines:#?}");
}
