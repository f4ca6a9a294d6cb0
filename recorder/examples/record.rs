//! The smallest recorder: `record [-o FILE] -- COMMAND…` records a command and returns its status.
//!
//! The tests of this crate drive it too, which is what the other options are for; `agentrec run` is the program for
//! people.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use agentrec_launch::{Plan, PrivateMount};
use agentrec_recorder::{Engine, Lineage, OnError, Options, Target, attach, run};
use agentrec_store::Home;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let home = Home::from_variables(
        std::env::var_os("AGENTREC_HOME"),
        std::env::var_os("XDG_DATA_HOME"),
        std::env::var_os("HOME"),
    );
    let mut plan = Plan { env: std::env::vars_os().collect(), ..Plan::default() };
    plan.cwd = std::env::current_dir().expect("there is a working directory");
    let mut options = Options::new(plan, home.expect("there is a home directory"));
    options.engine = Some(Engine::Ptrace);
    options.runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut attached = None;
    while let Some(arg) = args.next() {
        let mut value = || args.next().expect("the option has a value");
        match arg.to_str().unwrap_or_default() {
            "-o" => options.output = Some(value().into()),
            "--overwrite" => options.overwrite = true,
            "--name" => options.name = value().into_string().ok(),
            "--root" => options.roots.push(value().into()),
            "--exclude" => options.excludes.extend(value().into_string()),
            "--ebpf" => options.engine = Some(Engine::Ebpf),
            "--rescan" => options.rescan = true,
            "--wait-tree" => options.wait_tree = true,
            "--stop-on-error" => options.on_error = OnError::Stop,
            "--inline-max" => options.inline_max = text(value()).parse().expect("a number"),
            "--resume" => {
                options.resume_state = serde_json::from_str(&text(value())).ok();
                options.lineage = Some(Lineage {
                    session: "aaaa2222".into(),
                    at: "s2".into(),
                    edits: vec!["prompt".into()],
                });
            }
            "--show-at" => {
                let (source, target) = (value().into(), options.plan.cwd.clone());
                options.plan.mounts.push(PrivateMount { source, target });
            }
            "--attach" => attached = text(value()).parse().ok(),
            "--" => break,
            other => panic!("there is no option {other}"),
        }
    }
    options.plan.argv = args.collect();
    let outcome = match attached {
        None => run(options),
        Some(pid) => {
            options.attached = Some(|found| eprintln!("attached: {found:?}"));
            Target::of(pid).and_then(|target| attach(options, target))
        }
    };
    match outcome {
        Ok(outcome) => {
            if let Some(recording) = &outcome.recording {
                let line = serde_json::to_string(recording).expect("a recording is JSON");
                // The terminal may be closed.
                let _ = writeln!(std::io::stderr(), "record: {line}");
            }
            ExitCode::from(outcome.status.shell_code() as u8)
        }
        Err(error) => {
            eprintln!("record: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(error.exit_code() as u8)
        }
    }
}

fn text(value: OsString) -> String {
    value.into_string().expect("the value is UTF-8")
}
