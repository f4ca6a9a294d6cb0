//! Descriptors and what they share: duplicates, inheritance, close-on-exec, and the command's outputs.

use std::fs;

use super::harness::{Abi, Recording, all_kinds, expect};

#[test]
fn duplicates_share_one_description() {
    let expected = [
        "p1 open file w|creat 600 = 3 created",
        "p1 open other w|creat 600 = 4 created",
        "p1 close other r0 w0",
        "p1 close file r0 w15",
        "p1 open last r|creat 600 = 3 created",
        "p1 close last r0 w0",
    ];
    expect("dup", |_| (), &expected);
}

#[test]
fn close_range_closes_and_marks() {
    let expected = [
        "p1 open a w|creat 600 = 3 created",
        "p1 open bb w|creat 600 = 3 created",
        "p1 open ccc w|creat 600 = 3 created",
        "p1 open dddd w|creat 600 = 3 created",
        "p1 close bb r0 w2",
        "p1 close ccc r0 w3",
        "p1 close a r0 w2",
        "p1 close dddd r0 w4",
        "p1 exec tracee [tracee again] []",
    ];
    expect("close_range", |_| (), &expected);
}

#[test]
fn an_exec_closes_what_is_marked() {
    let expected = [
        "p1 open kept w|creat 600 = 3 created",
        "p1 open opened w|creat|cloexec 600 = 4 created",
        "p1 open set w|creat 600 = 5 created",
        "p1 open ioctl w|creat 600 = 6 created",
        "p1 open unset w|creat|cloexec 600 = 7 created",
        "p1 close opened r0 w0",
        "p1 close set r0 w0",
        "p1 close ioctl r0 w0",
        "p1 exec tracee [tracee again] [NEW=1 -PATH]",
        "p1 close kept r0 w4",
        "p1 close unset r0 w4",
    ];
    expect("cloexec", |_| (), &expected);
}

#[test]
fn each_process_has_its_own_sums() {
    let expected = [
        "p1 open file w|creat 600 = 3 created",
        "p1 open idle r|creat 600 = 4 created",
        "p1 fork p2 0x0",
        "p2 close file r0 w4",
        "p2 exit 0",
        "p1 close file r0 w9",
        "p1 close idle r0 w0",
    ];
    expect("inherit", |_| (), &expected);
}

#[test]
fn a_thread_can_unshare_its_tables() {
    let expected = [
        "p1 open file w|creat 600 = 3 created",
        "p1 chdir sub",
        "p1 open sub/in_sub w|creat 600 = 3 created",
        "p1 close sub/in_sub r0 w0",
        "p1 open at_top w|creat 600 = 4 created",
        "p1 close file r0 w4",
        "p1 close at_top r0 w0",
    ];
    expect("unshare", |dir| fs::create_dir(dir.join("sub")).unwrap(), &expected);
}

#[test]
fn outputs_are_kept_whole_and_by_where_they_go() {
    for (abi, user) in all_kinds() {
        let recorded = Recording::tracee("output").abi(abi).user(user).run();
        let expected = [
            "p1 exec tracee [tracee] []",
            "p1 output 1 \"out\\n\"",
            "p1 output 2 \"err\\n\"",
            "p1 output 1 \"vector\\n\"",
            "p1 output 2 \"nine\\n\"",
            "p1 fork p2 0x1200011",
            "p2 output 1 \"child\\n\"",
            "p2 open file w|creat 600 = 3 created",
            "p2 close pipe r0 w6",
            "p2 output 2 \"swapped\\n\"",
            "p2 close file r0 w7",
            "p2 close pipe r0 w8",
            "p2 exit 0",
            "p1 output 1 1048576 bytes",
            "p1 output 1 1048576 bytes",
            "p1 output 1 902848 bytes",
            "p1 open file r = 3",
            "p1 output 1 \"hidden\\n\"",
            "p1 close pipe r0 w3000018",
            "p1 close file r7 w0",
            "p1 close pipe r0 w9",
            "p1 exit 0",
        ];
        assert_eq!(recorded.lines(), expected);
        assert_eq!(
            recorded.stdout.len(),
            "out\nvector\nchild\n".len() + 3_000_000 + "hidden\n".len()
        );
        assert_eq!(recorded.stderr, b"err\nnine\nswapped\n");
    }
}

#[test]
fn links_to_descriptors_mean_what_those_name() {
    // As whoever runs the tests: the pipe is theirs, and nobody else may open it again.
    let recorded = Recording::tracee("fd_links").run();
    let expected = [
        "p1 exec tracee [tracee] []",
        "p1 mkdir dir 700",
        "p1 open dir r|directory = 3",
        "p1 open dir/file rw|creat 600 = 4 created",
        "p1 chmod dir/file 640",
        "p1 open dir/file w = 5",
        "p1 truncate dir/file 2",
        "p1 unlink dir/file",
        "p1 open /proc/self/fd/99 r ENOENT",
        "p1 open /dev/stdout w = 6",
        "p1 output 1 \"again\\n\"",
        "p1 close dir r0 w0",
        "p1 close dir/file r0 w0",
        "p1 close dir/file r0 w3",
        "p1 close /dev/stdout r0 w6",
        "p1 exit 0",
    ];
    assert_eq!(recorded.lines(), expected);
    assert_eq!(recorded.stdout, b"again\n");
}

#[test]
fn output_that_comes_by_splicing() {
    let recorded = Recording::tracee("splice_output").run();
    let lines = recorded.lines();
    let expected = [
        "p1 exec tracee [tracee] []",
        "p1 output 1 \"vmsplice\\n\"",
        "p1 lost output: output was moved inside the kernel (splice, sendfile, copy_file_range) from \
         what can't be read again",
        "p1 close pipe r0 w13",
        "p1 exit 0",
    ];
    assert_eq!(lines, expected);
    assert_eq!(recorded.stdout, b"vmsplice\ntee\n");
}

#[test]
fn output_that_the_kernel_moved_is_read_where_it_came_from() {
    Abi::all().into_iter().for_each(moved_output_is_read_where_it_came_from);
}

fn moved_output_is_read_where_it_came_from(abi: Abi) {
    let lines = |args: &[&str], to_file: bool| {
        let recording = Recording::tracee("moved_output")
            .abi(abi)
            .args(args)
            .with(|dir| fs::write(dir.join("file"), "0123456789").unwrap());
        let recording = if to_file { recording.stdout("out") } else { recording };
        recording.run().lines()
    };
    let expected = [
        "p1 exec tracee [tracee] []",
        "p1 open file r = 3",
        "p1 output 1 \"2345\"",
        "p1 output 1 \"789\"",
        "p1 output 1 \"01234\"",
        "p1 unlink file",
        "p1 output 1 \"67\"",
        "p1 lost output: output was moved inside the kernel (splice, sendfile, copy_file_range) from \
         what can't be read again",
        "p1 close pipe r0 w18",
        "p1 close file r14 w0",
        "p1 exit 0",
    ];
    assert_eq!(lines(&[], false), expected);
    let expected = [
        "p1 exec tracee [tracee file] []",
        "p1 open file r = 3",
        "p1 output 1 \"2345\"",
        "p1 output 1 \"789\"",
        "p1 close out r0 w7",
        "p1 close file r7 w0",
        "p1 exit 0",
    ];
    assert_eq!(lines(&["file"], true), expected);
}
