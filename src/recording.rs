//! What `run` and `resume` share: their options, and what they say when the agent is done.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use agentrec_launch::Plan;
use agentrec_recorder::profiles::Profiles;
use agentrec_recorder::source::ExitStatus;
use agentrec_recorder::{ChangedRun, Lack, OnError, Options, Outcome, Recording};
use agentrec_store::Home;
use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde_json::json;

use crate::error::with_hint;
use crate::exit::Exit;
use crate::output::{
    Paint, Preferences, Progress, Style, count, duration, json, plural, printable_line, width,
};
use crate::quantity::bytes;
use crate::{live, sdk, session};

/// How to record.
#[derive(clap::Args)]
pub struct RecordingArgs {
    /// Write the trace to this file (default: in the data directory)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// A name for the session, usable as its address
    #[arg(long, value_name = "NAME", value_parser = session_name)]
    name: Option<String>,
    /// Snapshots hold this directory too; it may be a file system that is mounted below the working directory
    #[arg(long, value_name = "DIR")]
    root: Vec<PathBuf>,
    /// Do not hold the state of agents that are started (such as ~/.claude and ~/.codex) in snapshots
    #[arg(long)]
    no_profiles: bool,
    /// Snapshots leave out what matches, as in a .gitignore
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Keep no old content longer than this of a file outside the tree that is about to be changed (at most 268M)
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = keep_max_file)]
    keep_max_file: u64,
    /// Keep no more than this of such contents in all; 0 for none
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = bytes)]
    keep_max: u64,
    /// Snapshots leave out files larger than this, and list them [default: 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    snapshot_max_file: Option<u64>,
    /// Once a snapshot holds this much, it leaves out the other files, and lists them [default: 16GiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    snapshot_max_tree: Option<u64>,
    /// Look at every file for every snapshot, also for what others than the command change meanwhile
    #[arg(long)]
    rescan: bool,
    /// Take no snapshots: nothing can be restored or undone
    #[arg(long, conflicts_with_all = ["rescan", "snapshot_max_file", "snapshot_max_tree", "root", "exclude"])]
    no_snapshots: bool,
    /// End with the command (for attach: the process), or with the last process that it left behind
    #[arg(long, value_enum, default_value_t = Wait::Command, value_name = "WHAT")]
    wait: Wait,
    /// What to do when the trace can't be written any more
    #[arg(long, value_enum, default_value_t = Failure::Continue, value_name = "WHAT")]
    on_error: Failure,
    /// How to watch the processes
    #[arg(long, value_enum, default_value_t = Engine::Auto, value_name = "ENGINE", env = "AGENTREC_ENGINE")]
    engine: Engine,
    /// How to read what goes over encrypted connections
    #[arg(long, value_enum, default_value_t = Tls::Probe, value_name = "HOW")]
    tls: Tls,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// What the agent is given when it is started.
#[derive(clap::Args)]
pub struct SdkArgs {
    /// Make the Python package agentrec_sdk importable in the agent
    #[arg(long)]
    with_sdk: bool,
}

impl SdkArgs {
    /// Puts it into the agent's environment, where it is wanted.
    pub fn apply(&self, home: &Home, plan: &mut Plan) -> Result<()> {
        if self.with_sdk { sdk::offer(home, plan) } else { Ok(()) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// The session ends with the command or process; those that it left behind go on unrecorded
    Command,
    /// The session ends with its last descendant
    Tree,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Failure {
    /// The agent goes on without a recording
    Continue,
    /// The agent is killed with its descendants, also one that was attached to
    Stop,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// eBPF where its programs load, ptrace elsewhere
    Auto,
    /// BPF programs in the kernel, which stop nobody: needs root, or `agentrec setup`
    Ebpf,
    /// ptrace: needs no privilege
    Ptrace,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tls {
    /// In the TLS libraries (OpenSSL, GnuTLS, BoringSSL) of the processes, where nothing of the run is changed
    Probe,
    /// By a proxy in the recorder, for programs with other libraries (Go, rustls): connections are led through it, and variables
    /// such as SSL_CERT_FILE have the agent trust certificates that are made for this run alone. Works by ptrace
    Proxy,
    /// Not at all
    Off,
}

/// A name must be usable as an address: it can't look like a file or a place.
pub fn session_name(text: &str) -> Result<String> {
    use crate::address::{Address, SessionRef};
    match text.parse() {
        Ok(Address { session: Some(SessionRef::Named(name)), place: None }) => Ok(name),
        _ => anyhow::bail!(
            "a name has no slash and no dot, and does not look like an address such as s2 or `last`"
        ),
    }
}

fn keep_max_file(text: &str) -> Result<u64> {
    let size = bytes(text)?;
    anyhow::ensure!(
        size <= Options::KEEP_MAX_FILE_LIMIT,
        "a trace holds contents up to {} bytes",
        Options::KEEP_MAX_FILE_LIMIT
    );
    Ok(size)
}

impl RecordingArgs {
    /// What the recorder is asked for.
    pub fn options(self, plan: Plan, home: Home) -> Result<Options> {
        let engine = match self.engine {
            Engine::Auto => None,
            Engine::Ptrace => Some(agentrec_recorder::Engine::Ptrace),
            Engine::Ebpf => Some(agentrec_recorder::Engine::Ebpf),
        };
        let (profiles, wrong) = Profiles::load(&home.profiles());
        if let Some(wrong) = wrong {
            let hint = wrong.hint();
            crate::error::report(&with_hint(wrong, hint));
        }
        let mut roots = Vec::new();
        for root in &self.root {
            let absolute = root
                .canonicalize()
                .with_context(|| format!("cannot use the root {}", root.display()))?;
            roots.push(absolute);
        }
        let output = self
            .output
            .map(std::path::absolute)
            .transpose()
            .context("cannot tell the working directory")?;
        Ok(Options {
            output,
            overwrite: self.overwrite,
            engine,
            tls: match self.tls {
                Tls::Probe => agentrec_recorder::Tls::Probe,
                Tls::Proxy => agentrec_recorder::Tls::Proxy,
                Tls::Off => agentrec_recorder::Tls::Off,
            },
            name: self.name,
            roots,
            profiles,
            state: !self.no_profiles,
            excludes: self.exclude,
            keep_max_file: self.keep_max_file,
            keep_max: self.keep_max,
            max_file: self.snapshot_max_file.unwrap_or(Options::MAX_FILE),
            max_tree: self.snapshot_max_tree.unwrap_or(Options::MAX_TREE),
            rescan: self.rescan,
            snapshots: !self.no_snapshots,
            wait_tree: self.wait == Wait::Tree,
            on_error: match self.on_error {
                Failure::Continue => OnError::Continue,
                Failure::Stop => OnError::Stop,
            },
            runtime_dir: live::runtime_dir(),
            progress: Some(show_progress),
            fell_back: (!self.quiet).then_some(say_fallback),
            ..Options::new(plan, home)
        })
    }

    /// Whether nothing is to be said at the end.
    pub fn quiet(&self) -> bool {
        self.quiet
    }
}

thread_local! {
    /// The bar that stands there while the tree is read.
    static READING: RefCell<Option<Progress>> = const { RefCell::new(None) };
}

/// Shows how far the reading of the tree has come; clears the bar when the terminal is not ours any more.
fn show_progress(progress: Option<agentrec_recorder::Progress>) {
    READING.with_borrow_mut(|reading| match progress {
        Some(progress) => reading
            .get_or_insert_with(|| Progress::new("agentrec: reading files", 0))
            .set(progress.files),
        None => drop(reading.take()),
    });
}

/// BPF programs should have watched, and don't.
fn say_fallback(reason: &str) {
    eprintln!("agentrec: recording by ptrace: {reason}");
}

/// Characters of the seal that the closing line shows: 128 bits can be kept elsewhere and compared.
const SEAL_SHOWN: usize = 32;

/// How a recording ended.
pub struct Ended {
    /// With what the command ended.
    pub exit: Exit,
    /// Whether it was started at all.
    pub ran: bool,
}

/// Records by `record`, says how it went, and gives back the status of the command. `parent` is the address that a
/// resumed run continues.
pub fn record(
    options: Options,
    record: impl FnOnce(Options) -> agentrec_recorder::Result<Outcome>,
    quiet: bool,
    parent: Option<&str>,
    preferences: Preferences,
) -> Result<Ended> {
    let outcome = match record(options) {
        Ok(outcome) => outcome,
        Err(error) => {
            let exit = match error.exit_code() {
                126 => Exit::CANNOT_EXECUTE,
                127 => Exit::NOT_FOUND,
                _ => return Err(error.into()),
            };
            crate::error::report(&error.into());
            return Ok(Ended { exit, ran: false });
        }
    };
    show_progress(None);
    if !quiet {
        // Where standard error is gone there is nobody to tell, and the command's status matters more.
        let _ = close(&outcome, parent, preferences);
    }
    let exit = match outcome.status {
        ExitStatus::Code(code) => Exit::child_code(code),
        ExitStatus::Signal { signal, .. } => Exit::child_signal(signal),
    };
    Ok(Ended { exit, ran: true })
}

fn close(outcome: &Outcome, parent: Option<&str>, preferences: Preferences) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    let paint = Paint::new(preferences.color, stderr.is_terminal());
    let Some(recording) = &outcome.recording else {
        let what = match outcome.cut_off {
            Some(signal) => format!(
                "the recorder was killed (signal {signal}); the trace ends there, and the command went on"
            ),
            None => "the recorder ended early; the trace may be cut".to_owned(),
        };
        return writeln!(stderr, "agentrec: {}", paint.apply(Style::Bad, what));
    };
    if preferences.json {
        return writeln!(stderr, "{}", to_json(outcome, recording));
    }
    let id = short_id(&recording.session);
    let files = recording.files;
    let touched = match recording.watched || !recording.snapshots {
        // There is no tree.
        true => format!("{} changed", plural(files.outside, "file")),
        false => format!(
            "in tree +{} ~{} -{} files  outside {}",
            count(files.added),
            count(files.changed),
            count(files.deleted),
            count(files.outside),
        ),
    };
    let mut line = format!(
        "agentrec: {}{}  {}  {}  {touched}",
        paint.address(&id),
        parent.map(|parent| format!(" ({parent})")).unwrap_or_default(),
        how_it_ended(outcome, paint),
        duration(u64::try_from(recording.duration.as_nanos()).unwrap_or(u64::MAX)),
    );
    let lost_style = if recording.lost > 0 { Style::Warn } else { Style::Dim };
    line +=
        &format!("  {}", paint.apply(lost_style, format_args!("lost {}", count(recording.lost))));
    match &recording.seal {
        Some(seal) => {
            let seal = format!("seal {}", seal.get(..SEAL_SHOWN).unwrap_or(seal));
            // On a line of its own rather than broken in the middle.
            let fits = terminal_size::terminal_size_of(io::stderr()).is_none_or(|(columns, _)| {
                plain_width(&line) + 2 + width(&seal) <= columns.0.into()
            });
            let between = if fits { "  " } else { "\nagentrec: " };
            line += &format!("{between}{}", paint.dim(seal));
        }
        None => line += &format!("  {}", paint.apply(Style::Bad, "not sealed")),
    }
    writeln!(stderr, "{line}")?;
    if recording.parts > 1 {
        let parts = plural(recording.parts.into(), "file");
        writeln!(
            stderr,
            "agentrec: {parts}, of which this is the last: {}",
            recording.trace.display()
        )?;
    }
    if recording.watched {
        // Most of the machine goes on.
    } else if outcome.detached {
        let left = plural(recording.left_running.into(), "process");
        writeln!(stderr, "agentrec: {left} left running, unrecorded")?;
    } else if recording.left_running > 0 {
        let left = plural(recording.left_running.into(), "descendant");
        writeln!(stderr, "agentrec: {left} left running, unrecorded; --wait tree waits for them")?;
    }
    for line in changed_lines(&recording.changed) {
        writeln!(stderr, "agentrec: {}", paint.apply(Style::Warn, line))?;
    }
    if let Some(failure) = &recording.failure {
        writeln!(
            stderr,
            "agentrec: {}",
            paint.apply(Style::Bad, format_args!("the recording ended early: {failure}"))
        )?;
    }
    let next = match parent.and_then(|parent| parent.split('@').next()) {
        Some(parent) => format!("agentrec diff {parent} {id} | agentrec apply {id}"),
        None if recording.watched => format!("agentrec audit {id} | agentrec show {id}"),
        None => "agentrec show | agentrec diff | agentrec undo".to_owned(),
    };
    writeln!(stderr, "agentrec: {}  {next}", paint.dim("next"))
}

/// Programs that ran otherwise than without us, a line for each kind.
fn changed_lines(changed: &[ChangedRun]) -> impl Iterator<Item = String> {
    const KINDS: [(Lack, &str); 2] = [
        (
            Lack::Rights,
            "ran without set-uid, set-gid or file capabilities; record as root to keep them",
        ),
        (
            Lack::Tracing,
            "could not trace: strace, gdb and LeakSanitizer don't work inside a recording",
        ),
    ];
    KINDS.into_iter().filter_map(|(lacks, what)| {
        let names = changed.iter().filter(|changed| changed.lacks == lacks);
        let names: Vec<_> =
            names.map(|changed| printable_line(changed.program.as_bytes())).collect();
        (!names.is_empty()).then(|| format!("{} {what}", names.join(", ")))
    })
}

fn how_it_ended(outcome: &Outcome, paint: Paint) -> String {
    if outcome.recording.as_ref().is_some_and(|recording| recording.watched) {
        return paint.dim("watched").to_string();
    }
    if outcome.detached {
        return paint.dim("detached").to_string();
    }
    crate::view::exit_text(paint, code(outcome.status), signal(outcome.status), 0)
}

/// Columns that `line` takes, whose styles take none.
fn plain_width(line: &str) -> usize {
    let mut parts = line.split('\x1b');
    let first = parts.next().map_or(0, width);
    first + parts.map(|part| part.split_once('m').map_or(0, |(_, text)| width(text))).sum::<usize>()
}

/// The prefix that names the session; four characters where the catalogue can't tell.
fn short_id(id: &str) -> String {
    let short = session::catalogue()
        .ok()
        .and_then(|catalogue| catalogue.short_id(id).ok().map(str::to_owned));
    short.unwrap_or_else(|| id.to_owned())
}

fn code(status: ExitStatus) -> Option<i32> {
    match status {
        ExitStatus::Code(code) => Some(code),
        ExitStatus::Signal { .. } => None,
    }
}

fn signal(status: ExitStatus) -> Option<i32> {
    match status {
        ExitStatus::Code(_) => None,
        ExitStatus::Signal { signal, .. } => Some(signal),
    }
}

fn to_json(outcome: &Outcome, recording: &Recording) -> serde_json::Value {
    json!({
        "kind": "recorded",
        "session": recording.session,
        "trace": json::bytes(recording.trace.as_os_str().as_bytes()),
        "code": code(outcome.status).filter(|_| !outcome.detached),
        "signal": signal(outcome.status),
        "duration": u64::try_from(recording.duration.as_nanos()).unwrap_or(u64::MAX),
        "added": recording.files.added,
        "changed": recording.files.changed,
        "deleted": recording.files.deleted,
        "outside": recording.files.outside,
        "events": recording.events,
        "lost": recording.lost,
        "changed_runs": recording.changed.iter().map(|changed| json!({
            "program": changed.program,
            "lacks": match changed.lacks { Lack::Rights => "rights", Lack::Tracing => "tracing" },
        })).collect::<Vec<_>>(),
        "seal": recording.seal,
        "left_running": recording.left_running,
        "parts": recording.parts,
        "failure": recording.failure,
    })
}
