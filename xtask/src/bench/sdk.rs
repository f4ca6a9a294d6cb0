//! What the Python package costs the agent, per event: traced by ptrace, received without tracing, not recorded.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Bar, Section};
use crate::workspace;

const AGENT: &str = include_str!("sdk_events.py");
const ROUNDS: usize = 7;
/// Most microseconds per event while ptrace records the agent.
const TRACED: f64 = 30.0;
/// Most microseconds per event while another engine records it.
const UNTRACED: f64 = 10.0;

/// How the agent runs.
#[derive(Clone, Copy)]
enum Mode {
    /// `agentrec run`.
    Traced,
    /// A recorder takes the events, and nothing traces the agent, as an engine other than ptrace would have it.
    Received,
    /// No recording: every call is a no-op.
    Alone,
}

impl Mode {
    const ALL: [(Self, &str, Bar); 3] = [
        (Self::Traced, "recorded by ptrace", Bar::AtMost(TRACED)),
        (Self::Received, "received, not traced", Bar::AtMost(UNTRACED)),
        (Self::Alone, "outside a recording", Bar::Seen),
    ];
}

/// Measures everything; whether all bars are met.
pub fn run() -> Result<bool> {
    let dir = workspace::target().join("bench-sdk");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    build_recorder()?;
    let waiting = Waiting::start(&dir)?;
    // Interleaved, so that what else the machine does falls on all modes alike.
    let mut measured: [Vec<Value>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for ((mode, ..), values) in Mode::ALL.iter().zip(&mut measured) {
            values.push(agent(*mode, &dir, &waiting.socket)?);
        }
    }
    waiting.end()?;
    let mut section = Section::new("sdk", "The Python package");
    for ((_, name, bar), values) in Mode::ALL.iter().zip(&measured) {
        for (key, what, bar) in [
            ("message", "one message", *bar),
            ("tool", "one event of a decorated tool", *bar),
            ("flat_out", "one of 5,000 messages without a pause", Bar::Seen),
        ] {
            section.figure(format!("{what}, {name}"), median(values, key)? / 1000.0, "µs", bar);
        }
    }
    section.note(format!(
        "Wall time in the agent: the median over 2,000 calls in bursts of 50, then over {ROUNDS} interleaved runs. Without \
         a pause it is the mean, and the agent and the recorder compete for the same cores. Received, \
         not traced: the agent runs outside of the session whose recorder takes its events."
    ));
    section.finish()
}

fn build_recorder() -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(workspace::root())
        .args(["build", "--quiet", "--release", "--package", "agentrec"])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cannot build agentrec");
    Ok(())
}

/// A session whose command waits: its recorder takes events from an agent that nothing traces.
struct Waiting {
    front: Child,
    socket: PathBuf,
}

impl Waiting {
    fn start(dir: &Path) -> Result<Self> {
        let mut front = recording(dir, "waiting.zst")
            .args(["sh", "-c", r#"echo "$AGENTREC_SOCKET"; exec cat"#])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start agentrec")?;
        let mut line = String::new();
        let output = front.stdout.take().context("a pipe was asked for")?;
        BufReader::new(output).read_line(&mut line).context("cannot read the socket's path")?;
        Ok(Self { front, socket: line.trim_end().into() })
    }

    /// Ends the session; its command ends with its input.
    fn end(mut self) -> Result<()> {
        drop(self.front.stdin.take());
        ensure!(self.front.wait()?.success(), "the waiting session failed");
        Ok(())
    }
}

/// `agentrec run` up to the command.
fn recording(dir: &Path, trace: &str) -> Command {
    let mut command = Command::new(workspace::target().join("release/agentrec"));
    command
        .args(["run", "--overwrite", "-o"])
        .arg(dir.join(trace))
        .arg("--")
        .current_dir(dir)
        .env("AGENTREC_HOME", dir.join("home"))
        .stderr(Stdio::null());
    command
}

/// Runs the agent once; what it printed.
fn agent(mode: Mode, dir: &Path, socket: &Path) -> Result<Value> {
    let mut command = match mode {
        Mode::Traced => {
            let mut command = recording(dir, "sdk.zst");
            command.arg("python3");
            command
        }
        Mode::Received | Mode::Alone => Command::new("python3"),
    };
    command
        .args(["-c", AGENT])
        .current_dir(dir)
        .env("AGENTREC_HOME", dir.join("home"))
        .env("PYTHONPATH", workspace::root().join("python"))
        .env_remove("AGENTREC_FD")
        .env_remove("AGENTREC_SOCKET")
        .stderr(Stdio::piped());
    if matches!(mode, Mode::Received) {
        command.env("AGENTREC_SOCKET", socket);
    }
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "the agent failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures: Value =
        serde_json::from_slice(&output.stdout).context("the agent printed no figures")?;
    let recorded = figures["recording"] == Value::Bool(true);
    ensure!(recorded != matches!(mode, Mode::Alone), "the agent was not recorded as it should be");
    Ok(figures)
}

fn median(values: &[Value], key: &str) -> Result<f64> {
    let mut values: Vec<f64> = values.iter().filter_map(|value| value[key].as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().with_context(|| format!("nothing was measured for {key}"))
}
