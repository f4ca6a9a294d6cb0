//! Every command has an end-to-end test that is named after it, and a help text.

mod common;

use std::fs;

use common::TestEnv;

/// Names of the test functions in all `tests/cli_*.rs`.
fn tests() -> Vec<String> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).expect("the tests are there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("cli_") && name.ends_with(".rs") {
            let text = fs::read_to_string(path).expect("readable");
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                if line == "#[test]"
                    && let Some(test) = lines.next().and_then(|line| line.strip_prefix("fn "))
                {
                    names.push(test.to_owned());
                }
            }
        }
    }
    names
}

#[test]
fn every_command_has_a_test() {
    let env = TestEnv::new();
    let tests = tests();
    let commands = common::commands(&env);
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let prefix = format!("{}_", command.replace('-', "_"));
        assert!(tests.iter().any(|test| test.starts_with(&prefix)), "no test {prefix}…");
    }
}

#[test]
fn every_command_explains_itself() {
    let env = TestEnv::new();
    for command in common::commands(&env) {
        let help = env.ok([command.as_str(), "-h"]);
        assert!(help.contains(&format!("Usage: agentrec {command}")), "{help}");
        for line in help.lines().filter(|line| line.trim_start().starts_with('-')) {
            // Two spaces stand between an option and what it is for.
            assert!(line.trim().contains("  "), "{command} does not explain {line:?}");
        }
    }
    assert!(env.ok(["--version"]).starts_with("agentrec 0."));
}
