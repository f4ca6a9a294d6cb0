//! No call is covered that no tracee provokes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use agentrec_recorder::calls::covered;

/// Which tracee provokes which covered calls. Its test compares all that comes of them.
pub const TRACEES: &[(&str, &[&str])] = &[
    ("open", &["creat", "open", "openat", "openat2"]),
    (
        "transfer",
        &[
            "write",
            "writev",
            "pwrite64",
            "pwritev",
            "pwritev2",
            "read",
            "readv",
            "pread64",
            "preadv",
            "preadv2",
            "sendfile",
            "copy_file_range",
            "splice",
            "close",
        ],
    ),
    ("memfd_exec", &["execveat"]),
    ("tmpfile", &["linkat"]),
    ("in_root", &["openat2"]),
    ("by_handle", &["open_by_handle_at"]),
    ("splice_output", &["vmsplice", "tee"]),
    ("dup", &["dup", "dup2", "dup3", "fcntl"]),
    ("close_range", &["close_range"]),
    ("cloexec", &["fcntl", "ioctl", "execve"]),
    ("rename", &["rename", "renameat", "renameat2"]),
    ("remove", &["mkdir", "mkdirat", "mknod", "mknodat", "rmdir", "unlink", "unlinkat"]),
    ("link", &["link", "linkat", "symlink", "symlinkat"]),
    (
        "attributes",
        &[
            "truncate",
            "ftruncate",
            "fallocate",
            "chmod",
            "fchmod",
            "fchmodat",
            "chown",
            "lchown",
            "fchown",
            "fchownat",
            "utime",
            "utimes",
            "futimesat",
            "utimensat",
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "removexattr",
            "lremovexattr",
            "fremovexattr",
        ],
    ),
    ("attributes_at", &["fchmodat2", "setxattrat", "removexattrat"]),
    ("mmap", &["mmap"]),
    ("clone_file", &["ioctl"]),
    ("chdir", &["chdir", "fchdir"]),
    (
        "mounts",
        &[
            "unshare",
            "mount",
            "umount2",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "mount_setattr",
            "setns",
        ],
    ),
    ("chroot", &["chroot"]),
    ("pivot_root", &["pivot_root"]),
    ("network", &["socket", "connect", "sendto", "recvfrom", "sendmsg", "sendmmsg"]),
    ("unix_socket", &["recvmsg", "recvmmsg"]),
    ("server", &["bind", "listen", "accept", "accept4", "socketpair", "shutdown"]),
    ("datagrams", &["sendto", "sendmsg", "sendmmsg"]),
    ("terminal", &["readv", "preadv2", "ioctl"]),
    ("rights", &["sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "pidfd_getfd"]),
    ("exec", &["execve", "execveat"]),
    ("untraced", &["clone", "clone3"]),
    ("unshare", &["unshare"]),
    ("affinity", &["sched_getaffinity", "sched_setaffinity"]),
    ("seccomp", &["seccomp", "prctl"]),
    ("undumpable", &["prctl"]),
    ("losses", &["ptrace", "io_uring_setup"]),
];

#[test]
fn every_covered_call_has_a_tracee() {
    let provoked: BTreeSet<&str> =
        TRACEES.iter().flat_map(|(_, calls)| calls.iter().copied()).collect();
    let covered: BTreeSet<&str> = covered().collect();
    let without: Vec<_> = covered.difference(&provoked).collect();
    assert!(without.is_empty(), "covered, but no tracee provokes {without:?}");
    if cfg!(target_arch = "x86_64") {
        let never: Vec<_> = provoked.difference(&covered).collect();
        assert!(never.is_empty(), "no longer covered: {never:?}");
    }
}

#[test]
fn every_tracee_makes_its_calls_and_has_a_test() {
    let tests = [
        include_str!("abis.rs"),
        include_str!("descriptors.rs"),
        include_str!("files.rs"),
        include_str!("handover.rs"),
        include_str!("losses.rs"),
        include_str!("mounts.rs"),
        include_str!("processes.rs"),
        include_str!("sockets.rs"),
        include_str!("terminal.rs"),
    ];
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tracees");
    for (tracee, calls) in TRACEES {
        let source = fs::read_to_string(sources.join(tracee).with_extension("c")).unwrap();
        for call in *calls {
            let made = |end| source.contains(&format!("SYS_{call}{end}"));
            assert!(made(',') || made(')'), "{tracee}.c doesn't call {call}");
        }
        let runs = |test: &str| {
            test.contains(&format!("expect(\"{tracee}\""))
                || test.contains(&format!("tracee(\"{tracee}\""))
        };
        assert!(tests.iter().any(|test| runs(test)), "no test runs {tracee}");
    }
}
