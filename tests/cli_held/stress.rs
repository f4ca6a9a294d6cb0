//! Programs that try to make a recorder lose or misplace events, held against strace.

use std::path::Path;

use super::stage::{Stage, must_run, write};

fn compile(work: &Path, name: &str, code: &str) {
    write(work, &format!("{name}.c"), code);
    must_run(work, "cc", &["-static", "-O1", "-w", "-o", name, &format!("{name}.c")]);
}

#[test]
fn paths() {
    let prepare = |work: &Path| compile(work, "paths", include_str!("stress/paths.c"));
    Stage::new(prepare, &["./paths"]).hold_against_strace();
}

#[test]
fn descriptors() {
    let prepare = |work: &Path| compile(work, "descriptors", include_str!("stress/descriptors.c"));
    Stage::new(prepare, &["./descriptors"]).hold_against_strace();
}
