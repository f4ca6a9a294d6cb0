//! The tracer on real programs: each covered call has a tracee that provokes it, and its events are compared exactly.

mod harness;

use std::os::unix::ffi::OsStrExt;

use agentrec_recorder::source::ExitStatus;
use agentrec_trace::Data;
use harness::Recording;

#[test]
fn records_a_shell_that_copies_a_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), "hello\n").unwrap();
    let recorded = Recording::of("/bin/sh", dir.path()).args(["-c", "cat x > y; cat y"]).run();
    assert_eq!(recorded.stdout, b"hello\n");
    let opened = recorded.of_type(|data| match data {
        Data::FileOpen(open) if open.path.starts_with(dir.path().as_os_str().as_bytes()) => {
            Some((open.path.as_path().file_name()?.to_str()?, open.created))
        }
        _ => None,
    });
    assert_eq!(opened, [(1, ("y", true)), (2, ("x", false)), (3, ("y", false))]);
    assert_eq!(recorded.command_status(), ExitStatus::Code(0));
}
