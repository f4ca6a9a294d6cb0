//! Resumes a recorded run without tracing it, for places where nothing may be traced.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use agentrec_replay::{Edits, Error, Place, ResumePlan, read_snapshot, resume_plan};
use agentrec_store::{Home, Store, new_session_id};
use agentrec_trace::{Reader, SnapshotIndex};
use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};

/// What goes wrong before the command runs ends with this code, as in `agentrec`.
const OUR_FAILURE: u8 = 125;

/// Resume a recorded run from a snapshot, without recording it.
///
/// The files are restored into a copy that the command alone sees at their original path; what it changes there stays in
/// the copy.
#[derive(Parser)]
#[command(name = "agentrec-replay", version)]
struct Arguments {
    /// The trace.
    trace: PathBuf,
    /// The snapshot to resume from, such as 2 or s2.
    #[arg(long, value_parser = snapshot_index)]
    snapshot: SnapshotIndex,
    /// What the agent is to do now; it finds it in its resume state.
    #[arg(long)]
    prompt: Option<String>,
    /// A variable of the environment; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(variable))]
    env: Vec<(OsString, OsString)>,
    /// Where the copy is made; it must not exist.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Another command than the recorded one.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Err(failure) = run(arguments);
    eprintln!("agentrec-replay: {}", failure.message);
    if let Some(hint) = failure.hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(failure.code)
}

struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let code = match &error {
            Error::Launch(error) => u8::try_from(error.exit_code()).unwrap_or(OUR_FAILURE),
            _ => OUR_FAILURE,
        };
        Self { message: error.to_string(), hint: error.hint(), code }
    }
}

fn failure(message: String) -> Failure {
    Failure { message, hint: None, code: OUR_FAILURE }
}

/// Becomes the command; comes back only where that fails.
fn run(arguments: Arguments) -> Result<std::convert::Infallible, Failure> {
    let variable = |name| std::env::var_os(name);
    let home = Home::from_variables(
        variable("AGENTREC_HOME"),
        variable("XDG_DATA_HOME"),
        variable("HOME"),
    )
    .ok_or_else(|| failure("cannot find the data directory: HOME is not set".into()))?;
    let reader = Reader::open(&arguments.trace)?;
    let store = Store::open(&home)?;
    let snapshot = read_snapshot(&reader, arguments.snapshot)?;
    let session =
        new_session_id().map_err(|error| failure(format!("cannot make an id: {error}")))?;
    let argv = (!arguments.command.is_empty()).then_some(arguments.command);
    let edits = Edits { prompt: arguments.prompt, env: arguments.env, argv };
    let env: Vec<_> = std::env::vars_os().collect();
    let place = Place { home: &home, session: &session, dir: arguments.dir.as_deref(), env: &env };
    let mut resumed = resume_plan(&reader, &store, &snapshot, &edits, &place, None)?;
    warn(&resumed);
    let state = home.session_work(&session).join("resume.json");
    write_state(&state, &resumed)
        .map_err(|error| failure(format!("cannot write {}: {error}", state.display())))?;
    resumed.plan.set_env("AGENTREC_RESUME", state);
    Err(resumed.plan.prepare()?.exec().into())
}

/// Says what is not as it was.
fn warn(resumed: &ResumePlan) {
    for name in &resumed.missing_env {
        eprintln!("agentrec-replay: {name} was redacted and is not set now; give it with --env");
    }
    for path in &resumed.absent {
        let path = path.display();
        eprintln!(
            "agentrec-replay: {path} is not here: the agent starts without the state that it had there"
        );
    }
    for root in &resumed.roots {
        for missing in &root.restored.missing {
            let path = root.path.join(&missing.path);
            eprintln!(
                "agentrec-replay: not restored: {}: {}",
                path.display(),
                missing.reason.as_str()
            );
        }
    }
}

/// The state holds what the agent said, so nobody else may read it.
fn write_state(path: &std::path::Path, resumed: &ResumePlan) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(resumed.state.to_string().as_bytes())
}

fn snapshot_index(text: &str) -> Result<SnapshotIndex, String> {
    let number = text.strip_prefix('s').unwrap_or(text);
    match number.parse() {
        Ok(index) if index > 0 => Ok(SnapshotIndex(index)),
        _ => Err("a snapshot is a number from 1 on, such as 2 or s2".into()),
    }
}

fn variable(text: OsString) -> Result<(OsString, OsString), String> {
    let bytes = text.into_vec();
    match bytes.iter().position(|byte| *byte == b'=') {
        None | Some(0) => Err("it has the form NAME=VALUE".into()),
        Some(at) => {
            let value = bytes[at + 1..].to_vec();
            Ok((OsString::from_vec(bytes[..at].to_vec()), OsString::from_vec(value)))
        }
    }
}
