//! Random trees that real commands make and change under recording come back as they were at each snapshot: content, mode, time,
//! and which names are one file.

mod common;

use std::collections::HashSet;
use std::fs;
use std::ops::Range;

use common::dice::Dice;
use common::listing::listing;
use common::{AGENTREC, TestEnv};

const NAMES: [&str; 12] = [
    "a",
    "b",
    "'c d'",
    "d",
    "d/a",
    "d/b",
    "d/e",
    "d/e/c",
    "g",
    "g/$(printf '\\377')",
    "g/.hidden",
    "link",
];

/// Snapshots in a session, beside the first and the last.
const SNAPSHOTS: usize = 4;

/// Something that a shell does to the tree. What can't be done is not.
fn act(dice: &mut Dice) -> String {
    let (one, two) = (dice.of(&NAMES), dice.of(&NAMES));
    let number = dice.roll(1000);
    let act = match dice.roll(17) {
        0..3 => format!("echo {number} > {one}"),
        3 => format!("echo {number} >> {one}"),
        4 => format!("mkdir -p {one}"),
        5 => format!("rm -rf {one}"),
        6..8 => format!("mv {one} {two}"),
        8 => format!("ln -f {one} {two}"),
        9 => format!("ln -sfn {one} {two}"),
        // Who is not root could not enter a directory of such a mode.
        10 => format!("[ -d {one} ] || chmod {} {one}", dice.of(&["600", "644", "750", "755"])),
        11 => format!("touch -h -d @{number}.123456789 {one}"),
        12 => format!("cp -r --remove-destination {one} {two}"),
        13 => format!("truncate -s {number} {one}"),
        14 => format!("mkfifo {one}"),
        15 => format!("sed -i s/1/{number}/ {one}"),
        _ => format!("dd if=/dev/zero of={one} bs=4096 seek={} count=1 conv=notrunc", number % 9),
    };
    // Who opens a FIFO to write would wait for somebody to read; cp would do so for one that is in its way below `two`.
    format!("[ -p {one} ] || [ -p {two} ] || {{ {act}; }} 2>/dev/null")
}

/// Returns how many different trees there were.
fn restored_as_it_was(seed: u64, engine: &str) -> usize {
    let env = TestEnv::new();
    let at = |name: &str| env.work().join("..").join(name);
    let mut dice = Dice::new(seed);
    let mut script = Vec::new();
    for number in 0..=SNAPSHOTS {
        script.extend((0..5 + dice.roll(15)).map(|_| act(&mut dice)));
        if number < SNAPSHOTS {
            script.push(format!("{AGENTREC} snapshot -m {number} >/dev/null"));
        }
        script.push(format!("cp -a . ../copy{}", number + 2));
    }
    let setup: Vec<_> = (0..20).map(|_| act(&mut dice)).collect();
    let sh = |script: &[String]| {
        let status = env.command("sh").args(["-c", &script.join("\n")]).status();
        assert!(status.expect("sh runs").success());
    };
    sh(&[setup, vec!["cp -a . ../copy1".to_owned()]].concat());
    let command = ["sh", "-c", &script.join("\n")];
    let recorded = env.record_with(&["--engine", engine], &command);
    let mut seen = HashSet::new();
    for number in 1..SNAPSHOTS + 3 {
        let (snapshot, restored) =
            (format!("{}@s{number}", recorded.id), format!("../restored{number}"));
        env.ok(["restore", &snapshot, "--dir", &restored]);
        let [was, is] = [format!("copy{number}"), format!("restored{number}")];
        let was = listing(&at(&was));
        assert_eq!(listing(&at(&is)), was, "seed {seed}, s{number}:\n{}", script.join("\n"));
        fs::remove_dir_all(at(&is)).expect("ours");
        seen.insert(was);
    }
    seen.len()
}

fn restored_as_they_were(seeds: Range<u64>, engine: &str) {
    let sessions = seeds.clone().count();
    let trees: usize = seeds.map(|seed| restored_as_it_was(seed, engine)).sum();
    assert!(trees > sessions * SNAPSHOTS, "{trees} trees: hardly anything was done");
}

#[test]
fn restore_of_what_a_shell_did_is_exact() {
    restored_as_they_were(1..5, "ptrace");
}

#[test]
#[ignore = "needs root"]
fn root_restore_of_what_a_shell_did_is_exact_by_ebpf() {
    restored_as_they_were(5..7, "ebpf");
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_restore_of_what_shells_did_is_exact_200_times() {
    restored_as_they_were(100..300, "ptrace");
}
