//! `cargo xtask test`: every test, Rust and Python; the last line is `N passed, N failed`.
//!
//! Functions whose names start with `root_` need root and run where we are root; those that start with `long_` take
//! minutes and run on request. `cargo test` alone ignores both.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::python::Venv;
use crate::tally::{Listen, Tally, run_and_listen};
use crate::{node, test_user, workspace};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Run the tests that need root too; as root they run anyway, and this fails where we are not
    #[arg(long)]
    root: bool,
    /// Run the tests that take minutes too, and the others at full length (sets AGENTREC_LONG=1)
    #[arg(long)]
    long: bool,
    /// As root: run the tests as an ordinary user
    #[arg(long, conflicts_with = "root")]
    unprivileged: bool,
    /// Only Rust tests whose names contain this
    filter: Option<String>,
}

/// Runs the tests; whether all passed.
pub fn run(args: &Args) -> Result<bool> {
    let are_root = test_user::are_root()?;
    ensure!(!args.root || are_root, "--root needs to be root");
    ensure!(
        !args.unprivileged || are_root,
        "--unprivileged needs to be root, to become another user"
    );
    if are_root {
        test_user::ensure_exists()?;
    }
    let installed = Installed { venv: Venv::prepare()?, node_modules: node::prepare()? };
    let mut tally = Tally::default();
    let everything = ["--workspace"];
    let who = if args.unprivileged { User::Ordinary } else { User::Caller };
    tally += cargo_test(args, &installed, who, &everything, args.filter.as_deref().as_slice())?;
    // A root that can't do what they need fails them: nothing is skipped in silence.
    for (wanted, prefix) in [(are_root && !args.unprivileged, "root_"), (args.long, "long_")] {
        if wanted {
            tally += cargo_test(args, &installed, who, &everything, &["--ignored", prefix])?;
        }
    }
    if are_root && !args.unprivileged && args.filter.is_none() {
        // Most users are not root: what they type is tested as one of them too.
        match test_user::can_reach(&workspace::target()) {
            Ok(()) => {
                let commands = ["--package", "agentrec", "--test", "cli_*"];
                tally += cargo_test(args, &installed, User::Ordinary, &commands, &[])?;
            }
            Err(error) => {
                eprintln!("warning: no command was tested as an ordinary user: {error:#}")
            }
        }
    }
    if args.filter.is_none() {
        tally += installed.venv.run_tests(|python| as_wanted_user(args, python))?;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0 && tally.passed > 0)
}

/// What the tests use of other languages.
struct Installed {
    venv: Venv,
    node_modules: Option<PathBuf>,
}

/// Who runs the test binaries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum User {
    /// Whoever called.
    Caller,
    /// The user that [`test_user`] makes.
    Ordinary,
}

/// `cargo test` for some packages and targets, with arguments for the test binaries.
fn cargo_test(
    args: &Args,
    installed: &Installed,
    user: User,
    selection: &[&str],
    binary_args: &[&str],
) -> Result<Tally> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--no-fail-fast"]).args(selection).arg("--").args(binary_args);
    command.current_dir(workspace::root()).env("AGENTREC_TEST_PYTHON", installed.venv.python());
    if let Some(modules) = &installed.node_modules {
        command.env("AGENTREC_TEST_NODE_MODULES", modules);
    }
    if args.long {
        command.env("AGENTREC_LONG", "1");
    }
    if user == User::Ordinary {
        test_user::can_reach(&workspace::target())?;
        // cargo starts every test binary through this program.
        let host = format!("{}_unknown_linux_gnu", env::consts::ARCH).to_uppercase();
        command.env(format!("CARGO_TARGET_{host}_RUNNER"), test_user::wrapper()?.join(" "));
    }
    let (success, output) = run_and_listen(&mut command, Listen::Stdout)?;
    let mut tally = Tally::default();
    output.lines().filter_map(Tally::of_cargo_line).for_each(|counted| tally += counted);
    if !success && tally.failed == 0 {
        eprintln!("error: cargo test failed before it could run every test");
        tally.failed += 1;
    }
    Ok(tally)
}

fn as_wanted_user(args: &Args, program: &Path) -> Command {
    match test_user::wrapper() {
        Ok(words) if args.unprivileged => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).arg(program);
            command
        }
        _ => Command::new(program),
    }
}
