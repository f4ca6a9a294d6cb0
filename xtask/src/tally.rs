//! Counts tests by what the runners print.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Tally {
    /// Of `cargo test`: `test result: ok. 16 passed; 0 failed; 0 ignored; …`, one line per test binary.
    pub fn of_cargo_line(line: &str) -> Option<Self> {
        let counts = line.strip_prefix("test result: ")?;
        let before = |word: &str| {
            let end = counts.find(word)?;
            counts[..end].trim_end().rsplit(' ').next()?.parse().ok()
        };
        Some(Self { passed: before("passed;")?, failed: before("failed;")? })
    }

    /// Of Python's unittest, whose output ends with `Ran 7 tests in 0.1s` and `OK` or `FAILED (failures=1, errors=2)`.
    pub fn of_unittest(output: &str) -> Option<Self> {
        let mut ran: Option<u64> = None;
        let mut not_passed = 0;
        let mut skipped = 0;
        for line in output.lines() {
            if let Some(rest) = line.strip_prefix("Ran ") {
                ran = rest.split(' ').next()?.parse().ok();
            } else if line.starts_with("FAILED (") || line.starts_with("OK (") {
                let inside = line.split_once('(')?.1.trim_end_matches(')');
                for part in inside.split(", ") {
                    let Some((kind, count)) = part.split_once('=') else { continue };
                    let count: u64 = count.parse().ok()?;
                    match kind {
                        "failures" | "errors" | "unexpected successes" => not_passed += count,
                        "skipped" => skipped += count,
                        _ => {}
                    }
                }
            }
        }
        // Errors while a module is imported count as errors and as a test that ran.
        Some(Self { passed: ran?.saturating_sub(not_passed + skipped), failed: not_passed })
    }
}

/// Which of a command's streams is listened to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Runs `command`, passes on what it prints, and gives back whether it succeeded and the lines of one stream.
pub fn run_and_listen(command: &mut Command, listen: Listen) -> Result<(bool, String)> {
    let shown = format!("{command:?}");
    match listen {
        Listen::Stdout => command.stdout(Stdio::piped()),
        Listen::Stderr => command.stderr(Stdio::piped()),
    };
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot run {shown}"))?;
    let stream: Box<dyn Read> = match listen {
        Listen::Stdout => Box::new(child.stdout.take().context("no standard output")?),
        Listen::Stderr => Box::new(child.stderr.take().context("no standard error")?),
    };
    let mut heard = String::new();
    for line in BufReader::new(stream).split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        writeln!(io::stdout(), "{text}")?;
        heard.push_str(&text);
        heard.push('\n');
    }
    Ok((child.wait()?.success(), heard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_lines() {
        let line = "test result: FAILED. 16 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s";
        assert_eq!(Tally::of_cargo_line(line), Some(Tally { passed: 16, failed: 2 }));
        assert_eq!(Tally::of_cargo_line("test a ... ok"), None);
    }

    #[test]
    fn unittest_output() {
        let ok = "....\n----\nRan 4 tests in 0.010s\n\nOK\n";
        assert_eq!(Tally::of_unittest(ok), Some(Tally { passed: 4, failed: 0 }));
        let bad = "Ran 1 test in 0.1s\n\nFAILED (errors=1)\n";
        assert_eq!(Tally::of_unittest(bad), Some(Tally { passed: 0, failed: 1 }));
        let mixed = "Ran 9 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=3)\n";
        assert_eq!(Tally::of_unittest(mixed), Some(Tally { passed: 3, failed: 3 }));
        assert_eq!(Tally::of_unittest("Traceback"), None);
    }
}
