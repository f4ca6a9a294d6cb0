//! An agent that says and does, turn by turn, what a test wants, over real HTTP.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{AGENTREC, Ran, Recorded, TestEnv, ran, recorded};

/// A command by which the agent waits in its turn until the test has done something.
pub struct Pause {
    reached: PathBuf,
    go: PathBuf,
}

impl Pause {
    /// One of its own for each place in a script.
    pub fn new(env: &TestEnv, name: &str) -> Self {
        let fifo = |suffix: &str| {
            let path = env.outside(&format!("{name}.{suffix}"));
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO of ours");
            path
        };
        Self { reached: fifo("reached"), go: fifo("go") }
    }

    /// What stands in the script.
    pub fn command(&self) -> String {
        format!("echo > {}; read x < {}", self.reached.display(), self.go.display())
    }

    /// Does it while the agent waits.
    pub fn during<T>(&self, f: impl FnOnce() -> T) -> T {
        fs::read(&self.reached).expect("the agent comes here");
        next_tick();
        let done = f();
        let mut go = File::options().write(true).open(&self.go).expect("the agent waits");
        writeln!(go).expect("it reads");
        done
    }
}

/// Waits until the clock by which the kernel stamps files has moved on: what happens within one tick of it has one time.
fn next_tick() {
    use nix::time::{ClockId, clock_gettime};
    let read = |id| clock_gettime(id).expect("every kernel has it");
    let now = read(ClockId::CLOCK_REALTIME);
    while read(ClockId::CLOCK_REALTIME_COARSE) <= now {
        std::hint::spin_loop();
    }
}

/// `agentrec run` of an agent whose turns carry out these shell commands. The model answers when the snapshot at the request was taken:
/// real ones take their time. Each snapshot looks for what others changed, too.
pub fn command(env: &TestEnv, turns: &[Vec<String>]) -> Command {
    let script = env.outside("script.json");
    let content = serde_json::json!({ "agentrec": AGENTREC, "turns": turns });
    fs::write(&script, content.to_string()).expect("a file of ours");
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = env.agentrec(["run", "--json", "--rescan", "--", "python3"]);
    command
        .arg(source.join("tests/agents/scripted.py"))
        .arg(source.join("examples"))
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Records such an agent; `meanwhile` runs beside it, for its pauses.
pub fn record_beside(env: &TestEnv, turns: &[Vec<String>], meanwhile: impl FnOnce()) -> Recorded {
    let mut command = command(env, turns);
    let child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("agentrec starts");
    meanwhile();
    let ran: Ran = ran(child.wait_with_output());
    assert_eq!(ran.code, 0, "{ran:?}");
    recorded(&ran)
}

/// Records such an agent.
pub fn record(env: &TestEnv, turns: &[&[&str]]) -> Recorded {
    let turns: Vec<Vec<String>> =
        turns.iter().map(|turn| turn.iter().map(|&command| command.to_owned()).collect()).collect();
    record_beside(env, &turns, || ())
}
