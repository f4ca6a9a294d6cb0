//! Where the tracer can't follow, it says so.

use super::harness::{Recording, User};

#[test]
fn tracers_and_io_uring() {
    for user in User::all() {
        let lines = Recording::tracee("losses").user(user).run().lines();
        let io_uring = if lines.iter().any(|line| line.contains("no_io_uring")) {
            "p1 mkdir no_io_uring 700"
        } else {
            "p1 lost process: the process set up io_uring, whose operations are not system calls"
        };
        let expected = [
            "p1 exec tracee [tracee] []",
            "p1 lost process: the process tried to trace another process, \
             which a recorded process cannot be",
            io_uring,
            "p1 exit 0",
        ];
        assert_eq!(lines, expected);
    }
}
