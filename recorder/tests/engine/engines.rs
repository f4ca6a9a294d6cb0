//! Both engines tell the same of the same program.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::coverage::TRACEES;
use super::harness::{Abi, Engine, Recording};

/// Tracees of which the engines can't tell the same, and why. Who becomes equal goes from here.
const DIFFERENT: &[(&str, &str)] = &[
    ("output", "what the kernel itself moves to an output can't be read again in time"),
    ("seccomp", "what a filter answers in a call's place looks like a call"),
    ("losses", "who is not traced may trace"),
];

/// Tracees that cover no call of their own.
const MORE: &[&str] = &["deaths", "fd_links", "inherit", "output"];

/// Tracees that are not compared.
const APART: &[(&str, &str)] = &[
    ("terminal", "needs somebody who types: its own test is for both"),
    ("rights", "which files descriptors in messages are is asked for late, and not always in time"),
    ("affinity", "how its threads take turns differs from run to run"),
];

/// What a tracee finds in its directory, as its own test has it.
fn prepare(tracee: &str, dir: &Path) {
    let make = |name: &str| fs::create_dir_all(dir.join(name)).unwrap();
    let empty = |name: &str| fs::write(dir.join(name), "").unwrap();
    let link = |to: &str, name: &str| symlink(to, dir.join(name)).unwrap();
    match tracee {
        "open" => {
            ["sub", "else/where"].iter().for_each(|name| make(name));
            empty("else/mark");
            link("else/where", "link");
        }
        "tmpfile" => make("d"),
        "in_root" => make("d/etc"),
        "rename" => make("a/sub"),
        "attributes" => link("file", "soft"),
        "chdir" => {
            ["target/in", "target/sub"].iter().for_each(|name| make(name));
            link("target/in", "link");
        }
        "mounts" => ["a", "b", "c", "d"].iter().for_each(|name| make(name)),
        "chroot" => {
            ["jail/sub", "jail/else/where"].iter().for_each(|name| make(name));
            empty("jail/else/mark");
            link("/else/where", "jail/sub/link");
        }
        "pivot_root" => ["new/old", "new/sub"].iter().for_each(|name| make(name)),
        "fork" | "unshare" | "server" => make("sub"),
        "exec" => {
            make("sub");
            let script = dir.join("script");
            fs::write(&script, "#!tracee by-script\n").unwrap();
            fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        }
        _ => {}
    }
}

/// The line without the number of a terminal, which other tests make as well.
fn any_terminal(line: String) -> String {
    const TERMINAL: &str = "/dev/pts/";
    match line.split_once(TERMINAL) {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{TERMINAL}N{after}")
        }
        None => line,
    }
}

fn lines(tracee: &str, engine: Engine) -> Vec<String> {
    let recording = Recording::tracee(tracee).with(|dir| prepare(tracee, dir)).engine(engine);
    recording.run().lines().into_iter().map(any_terminal).collect()
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_tells_the_same_as_ptrace_of_every_covered_call() {
    let mut wrong = String::new();
    let covering = TRACEES.iter().map(|(tracee, _)| tracee);
    for tracee in covering.chain(MORE) {
        if APART.iter().any(|(name, _)| name == tracee) {
            continue;
        }
        let (ptrace, ebpf) = (lines(tracee, Engine::Ptrace), lines(tracee, Engine::Ebpf));
        let known = DIFFERENT.iter().any(|(name, _)| name == tracee);
        if (ptrace == ebpf) == known {
            let difference = difference(&ptrace, &ebpf);
            wrong.push_str(&format!("{tracee} (known to differ: {known}):\n{difference}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
#[ignore = "needs root"]
fn root_ebpf_says_of_a_32_bit_program_that_it_is_not_seen() {
    // That such programs can be compiled is a test of its own.
    if !Abi::can_compile_i386() {
        return;
    }
    let recording = Recording::tracee("transfer").abi(Abi::I386).engine(Engine::Ebpf);
    let lines = recording.run().lines();
    let lost = "p1 lost process: the process made system calls of another architecture, which are not decoded";
    assert_eq!(lines, ["p1 exec tracee [tracee] []", lost, "p1 exit 0"]);
}

/// Lines that only one has.
fn difference(ptrace: &[String], ebpf: &[String]) -> String {
    let common = ptrace.iter().zip(ebpf).take_while(|(ptrace, ebpf)| ptrace == ebpf).count();
    let rest = |lines: &[String]| lines[common..].join("\n    ");
    format!("  ptrace:\n    {}\n  ebpf:\n    {}", rest(ptrace), rest(ebpf))
}
